"""One file per frame and the folder of them: strict, atomic, of one teacher."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.training.teacher import folder as projection
from cigocc_ros.training.teacher.files import read_output, write_output
from cigocc_ros.training.teacher.folder import TeacherCache, claim_folder, frame_file
from cigocc_ros.training.teacher.output import (
    MASK_CLASSES,
    TeacherInfo,
    TeacherOutput,
    as_features,
)

INFO = TeacherInfo('some', '1', 'noise', 5, MASK_CLASSES, ('car', 'road'))


@pytest.fixture
def output() -> TeacherOutput:
    rng = np.random.default_rng(0)
    return TeacherOutput(
        features=as_features(rng.standard_normal((5, 3, 7))),
        origin_px=(1.5, 2.25),
        step_px=(4.0, 5.5),
        masks=rng.random((19, 13, 41)) < 0.5,
        valid=rng.random((13, 41)) < 0.8,
    )


def rewrite(path: Path, **changed: np.ndarray | None) -> None:
    """Write the arrays of a file again with some replaced, or left out where None."""
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays |= {name: array for name, array in changed.items() if array is not None}
    np.savez(path, **{k: a for k, a in arrays.items() if changed.get(k, a) is not None})


def test_what_was_written_is_read(output: TeacherOutput, tmp_path: Path) -> None:
    write_output(tmp_path / 'f.npz', output, INFO)
    found, info = read_output(tmp_path / 'f.npz')
    assert info == INFO
    for name in ('features', 'masks', 'valid'):
        np.testing.assert_array_equal(getattr(found, name), getattr(output, name))
        assert getattr(found, name).dtype == getattr(output, name).dtype
    assert (found.origin_px, found.step_px) == (output.origin_px, output.step_px)
    assert [path.name for path in tmp_path.iterdir()] == ['f.npz']


def test_masks_are_stored_as_bits(output: TeacherOutput, tmp_path: Path) -> None:
    write_output(tmp_path / 'f.npz', output, INFO)
    with np.load(tmp_path / 'f.npz', allow_pickle=False) as archive:
        assert archive['masks'].shape == (-(-19 * 13 * 41 // 8),)
        assert archive['features'].dtype == np.float16


def test_every_truncation_is_an_error(output: TeacherOutput, tmp_path: Path) -> None:
    path = tmp_path / 'f.npz'
    write_output(path, output, INFO)
    whole = path.read_bytes()
    for size in range(0, len(whole), 37):
        path.write_bytes(whole[:size])
        with pytest.raises(DataFileError, match='run "cigocc teacher"'):
            read_output(path)


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        ({'valid': None}, 'expected the arrays'),
        ({'other': np.zeros(3)}, 'expected the arrays'),
        ({'header': np.frombuffer(b'[]', np.uint8)}, 'expected a mapping'),
        ({'header': np.frombuffer(b'{"format": 2}', np.uint8)}, 'expected format 1, found 2'),
        ({'header': np.frombuffer(b'{"format": 1}', np.uint8)}, 'missing key'),
        ({'header': np.frombuffer(b'\xff', np.uint8)}, 'not a teacher file'),
        ({'masks': np.zeros(9, np.uint8)}, 'packed bytes'),
        ({'features': np.zeros((4, 3, 7), np.float16)}, '5 feature channels, found 4'),
        ({'features': np.zeros((5, 3, 7), np.float32)}, 'float16'),
        ({'features': np.full((5, 3, 7), np.nan, np.float16)}, 'finite'),
        ({'features': np.array([object()])}, 'not a teacher file'),
    ],
)
def test_strange_content_is_an_error_that_names_the_file(
    changed: dict[str, np.ndarray | None], message: str, output: TeacherOutput, tmp_path: Path
) -> None:
    path = tmp_path / 'f.npz'
    write_output(path, output, INFO)
    rewrite(path, **changed)
    with pytest.raises(DataFileError, match=message) as caught:
        read_output(path)
    assert 'f.npz' in str(caught.value)


def test_output_of_another_width_is_not_written(output: TeacherOutput, tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match='6 feature channels, found 5'):
        write_output(tmp_path / 'f.npz', output, dataclasses.replace(INFO, channels=6))
    assert not list(tmp_path.iterdir())


def test_classes_are_those_of_the_package() -> None:
    with pytest.raises(DataFileError, match='expected masks of'):
        dataclasses.replace(INFO, classes=('car',))
    with pytest.raises(DataFileError, match='known classes'):
        dataclasses.replace(INFO, known_classes=('zebra',))


def test_folder_belongs_to_one_teacher(output: TeacherOutput, tmp_path: Path) -> None:
    claim_folder(tmp_path, INFO)
    claim_folder(tmp_path, INFO)
    other = dataclasses.replace(INFO, version='2')
    with pytest.raises(DataFileError, match=r'some \(1\).*some \(2\).*--out'):
        claim_folder(tmp_path, other)
    cache = TeacherCache(tmp_path)
    assert cache.info == INFO and not cache.has('00', '000000')
    write_output(frame_file(tmp_path, '00', '000000'), output, INFO)
    write_output(frame_file(tmp_path, '00', '000005'), output, other)
    np.testing.assert_array_equal(cache.load('00', '000000').masks, output.masks)
    with pytest.raises(DataFileError, match=r'written by some \(2\)'):
        cache.load('00', '000005')
    with pytest.raises(DataFileError, match='has not seen this frame'):
        cache.load('01', '000000')


def test_a_folder_that_is_no_cache_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match='write one with "cigocc teacher"'):
        TeacherCache(tmp_path)
    claim_folder(tmp_path, INFO)
    (tmp_path / 'projection.npy').write_bytes(b'')
    with pytest.raises(DataFileError, match='projection.npy'):
        TeacherCache(tmp_path)


@pytest.mark.parametrize('channels', [5, 20, 256, 600])
def test_projection_keeps_lengths_and_is_stable(channels: int) -> None:
    rows = projection.make_projection(channels)
    assert rows.shape == (projection.MAX_STUDENT_CHANNELS, channels)
    np.testing.assert_array_equal(rows, projection.make_projection(channels))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    first = rows[:channels]
    np.testing.assert_allclose(first @ first.T, np.eye(len(first)), atol=1e-5)


def test_projection_keeps_the_power_of_a_channel() -> None:
    features = np.random.default_rng(3).standard_normal((40, 16, 50)).astype(np.float32)
    rows = projection.make_projection(40)
    for width in (24, 40, 128):
        mapped = projection.project(features, rows, width)
        assert mapped.shape == (width, 16, 50)
        assert (mapped**2).mean() == pytest.approx((features**2).mean(), rel=0.05)
    full = projection.project(features, rows, 80)
    recovered = np.linalg.lstsq(rows[:80], full.reshape(80, -1), rcond=None)[0]
    np.testing.assert_allclose(recovered, features.reshape(40, -1), atol=1e-4)
    with pytest.raises(ConfigError, match='semantic_channels = 513'):
        projection.project(features, rows, 513)
