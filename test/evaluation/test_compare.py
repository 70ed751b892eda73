"""Agreement of two networks, counted by hand on volumes of eight voxels."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.evaluation.compare import (
    AgreementCounter,
    ComparedEngine,
    ComparedFrames,
    Comparison,
    compare,
)
from cigocc_ros.evaluation.compare_report import write_comparison


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


class KnownNetwork:
    """A network whose answer is known and whose engine notes what it was given."""

    def __init__(self, text, labels, grid=SEMANTIC_KITTI_GRID):
        self.text, self.labels, self.file, self.sha256 = text, labels, 'x.onnx', None
        self.engine_name, self.seen = 'none', []
        self.manifest = SimpleNamespace(voxel_grid=grid, model_id='m')

    def prepare(self, frame):
        return {'image': frame}

    def run(self, inputs):
        self.seen.append(inputs['image'])
        return {'labels': self.labels, 'occupied_probability': PROBABILITY}


def test_all_run_in_turn_and_the_first_run_is_not_timed():
    other = volume(0, 0, 0, 1, 1, 9, 9, 0)
    networks = [KnownNetwork('a', SAME), KnownNetwork('b', SAME), KnownNetwork('c', other)]
    frames = ComparedFrames(iter(['one', 'two']), '2', 'none')
    comparison = compare(networks, frames, 'here')
    assert all(network.seen == ['one', 'one', 'two'] for network in networks)
    assert all(
        len(engine.latency_ms) == 2 for engine in (comparison.reference, *comparison.candidates)
    )
    assert [scores.labels for scores in comparison.scores] == [1.0, 7 / 8]
    assert comparison.below(0.9) == {'c': 7 / 8} and not comparison.below(0.8)


def test_networks_that_cannot_be_compared_are_named():
    small = SEMANTIC_KITTI_GRID.with_shape((2, 2, 2))
    frames = ComparedFrames([], '', '')
    for networks in (
        [KnownNetwork('a', SAME)],
        [KnownNetwork('a', SAME), KnownNetwork('b', SAME, small)],
    ):
        with pytest.raises(ConfigError, match=r"same voxel grid, found \['a'"):
            compare(networks, frames, '')
