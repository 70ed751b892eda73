"""The measurement of overlapping frames measures what it says."""

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('onnxruntime')

from fixtures_ros import domain_id

from benchmark import overlap
from benchmark.overlap import IMAGE_SIZE, Result, measured, predictor_of, report
from benchmark.speed.scene import stored_answers, street


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(overlap, 'WARM_S', 0.3)
    return stored_answers(tmp_path / 'stored', IMAGE_SIZE, street((32, 32, 8), 1500))


@pytest.mark.parametrize('overlapping', [False, True])
def test_a_made_up_engine_bounds_the_rate(folder, overlapping):
    predictor = predictor_of(folder, 50.0, overlapping)
    assert predictor.overlaps is overlapping
    result = measured(predictor, overlapping, 60.0, 1.5, domain_id())
    assert 0 < result.hz <= 21 and result.median_ms >= 50
    assert result.engine == 'made up, 50 ms'


def test_the_stored_answers_are_an_engine_of_the_cpu(folder):
    assert not predictor_of(folder, None, False).overlaps


def test_the_table_has_a_row_for_each_case():
    lines = report([Result('x', True, 50.0, 20.0, 30.0, 0.5)]).splitlines()
    assert lines[-1].split('|')[1:4] == [' x ', ' overlapping ', ' 50.0 ']
