"""Agreement of two networks, counted by hand on volumes of eight voxels."""

import json

import numpy as np
import pytest

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.evaluation.agreement import AgreementCounter
from cigocc_ros.evaluation.agreement_report import ComparedEngine, Comparison, write_comparison


def volume(*values):
    return np.array(values, np.uint8).reshape(2, 2, 2)


SAME = volume(0, 0, 0, 1, 1, 9, 9, 9)
PROBABILITY = volume(0, 0, 0, 200, 200, 255, 255, 255)


@pytest.fixture
def scores():
    """One frame that agrees, and one where a car becomes road and a road empty."""
    counter = AgreementCounter()
    counter.update((SAME, PROBABILITY), (SAME, PROBABILITY))
    other = volume(0, 0, 0, 1, 9, 9, 9, 0)
    counter.update((SAME, PROBABILITY), (other, volume(0, 0, 0, 200, 200, 255, 255, 51)))
    return counter.compute()


def test_counts_by_hand(scores):
    assert scores.num_frames == 2
    assert (scores.labels, scores.labels_worst_frame) == (14 / 16, 6 / 8)
    assert scores.labels_where_occupied == 8 / 10
    assert scores.occupied_iou == 9 / 10
    assert scores.iou_per_class == {'car': 3 / 4, 'road': 5 / 7}
    assert scores.mean_iou == pytest.approx((3 / 4 + 5 / 7) / 2)
    assert scores.largest_probability_difference == pytest.approx(204 / 255)
    assert scores.mean_probability_difference == pytest.approx(204 / 255 / 16)


def test_bytes_do_not_wrap_around():
    counter = AgreementCounter()
    counter.update((SAME, volume(*[0] * 8)), (SAME, volume(*[255] * 8)))
    assert counter.compute().largest_probability_difference == 1.0


def test_two_empty_volumes_agree():
    counter = AgreementCounter()
    empty = volume(*[0] * 8)
    counter.update((empty, empty), (empty, empty))
    scores = counter.compute()
    assert (scores.labels_where_occupied, scores.occupied_iou, scores.mean_iou) == (1, 1, 1)
    assert scores.iou_per_class == {}


def test_no_frames_and_other_shapes_are_refused():
    counter = AgreementCounter()
    with pytest.raises(DataFileError, match='at least one frame'):
        counter.compute()
    with pytest.raises(DataFileError, match='one shape'):
        counter.update((SAME, SAME), (SAME[:1], SAME[:1]))


def test_report_has_ratio_of_medians_and_dashes_for_absent_classes(scores, tmp_path):
    slow = ComparedEngine('torch:a', 'torch', 'a', 'checkpoint', None, (40.0, 10.0, 20.0))
    fast = ComparedEngine('openvino:a', 'openvino', 'a', 'model.onnx', 'ab' * 32, (4.0, 6.0))
    counter = AgreementCounter()
    counter.update((SAME * 0, PROBABILITY), (SAME * 0, PROBABILITY))
    comparison = Comparison(
        reference=slow,
        candidates=(fast, slow),
        scores=(scores, counter.compute()),
        frames='2 of 9',
        depth_prior='none',
        machine='x86_64',
        code_commit=None,
    )
    json_path, markdown_path = write_comparison(tmp_path, comparison)
    content, text = json.loads(json_path.read_text()), markdown_path.read_text()
    assert content['candidates'][0]['speedup'] == 4.0
    assert content['candidates'][0]['agreement']['labels'] == 14 / 16
    assert content['reference']['latency_median_ms'] == 20.0
    assert '| abababababab | 5.0 | 4.00 |' in text
    assert '| car | 75.00 % | - |' in text and 'fence' not in text
    assert '87.500 % | 75.000 % | 80.000 %' in text
