"""The file between `cigocc calibrate` and `cigocc export`."""

import pytest
import yaml
from fixtures_calibration import calibration

from cigocc_ros.core.calibration import (
    Scaling,
    calibration_of_weights,
    read_calibration,
    write_calibration,
)
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.typed_yaml import to_mapping


def test_a_file_comes_back_as_it_was_written(tmp_path):
    by_view = calibration(seen=Scaling(0.5, 1.0), measured=Scaling(2.0, -1.0))
    for made in (calibration(), calibration(temperature=None, class_error=None), by_view):
        write_calibration(tmp_path / 'c.yaml', made)
        assert read_calibration(tmp_path / 'c.yaml') == made


def test_classes_that_were_not_judged_keep_their_temperature():
    assert calibration(temperature=None).class_temperature == 1.0
    assert calibration().class_temperature == 2.5


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        ({'scale': 0.0}, 'scale above 0'),
        ({'scale': -1.0}, 'scale above 0'),
        ({'scale': float('nan')}, 'scale above 0'),
        ({'shift': float('inf')}, 'finite shift'),
        ({'threshold': 0.0}, 'threshold between 0 and 1'),
        ({'threshold': 1.0}, 'threshold between 0 and 1'),
        ({'threshold': float('nan')}, 'threshold between 0 and 1'),
        ({'temperature': 0.0}, 'temperature above 0'),
        ({'temperature': float('inf')}, 'temperature above 0'),
    ],
)
def test_numbers_that_calibrate_nothing_are_refused(changes, says):
    with pytest.raises(ConfigError, match=says):
        calibration(**changes)


@pytest.mark.parametrize('numbers', [(0.0, 1.0), (float('nan'), 1.0), (1.0, float('inf'))])
def test_numbers_of_a_view_are_checked_too(numbers):
    with pytest.raises(ConfigError, match='scale above 0 and a finite shift'):
        calibration(seen=Scaling(*numbers))


def test_a_file_of_before_views_means_the_same_everywhere():
    made = calibration()
    assert made.seen is None and made.measured is None and not made.tells_views
    assert set(made.scalings) == {Scaling(made.scale, made.shift)}


def test_a_file_that_is_none_is_told_with_its_name(tmp_path):
    path = tmp_path / 'c.yaml'
    with pytest.raises(DataFileError, match='cigocc calibrate'):
        read_calibration(path)
    path.write_text(yaml.safe_dump({**to_mapping(calibration()), 'threshold': 2.0}))
    with pytest.raises(DataFileError, match='threshold between 0 and 1, found 2.0'):
        read_calibration(path)
    path.write_text(yaml.safe_dump({**to_mapping(calibration()), 'slope': 2.0}))
    with pytest.raises(DataFileError, match="c.yaml: unknown key 'slope'"):
        read_calibration(path)


def test_a_calibration_belongs_to_its_weights(tmp_path):
    path = tmp_path / 'c.yaml'
    made = calibration(facts={'weights_sha256': 'ab' * 32})
    write_calibration(path, made)
    assert calibration_of_weights(path, 'ab' * 32) == made
    with pytest.raises(DataFileError, match='run `cigocc calibrate` on this checkpoint'):
        calibration_of_weights(path, 'cd' * 32)
    write_calibration(path, calibration(facts={}))
    with pytest.raises(DataFileError, match=r'found one of None\.\.\.'):
        calibration_of_weights(path, 'ab' * 32)
