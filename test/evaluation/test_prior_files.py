"""Files of a stereo network as the prior of an evaluation: read, or missed at once."""

import numpy as np
import pytest
from fixtures_sequence import SIZE, build_sequence

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.data.image_files import write_depth_image
from cigocc_ros.data.kitti_layout import FrameKey
from cigocc_ros.evaluation.predictions import SequencePredictions

GRID = SEMANTIC_KITTI_GRID.with_shape((32, 32, 4))
KEYS = (FrameKey('07', '000000'), FrameKey('07', '000002'))


@pytest.fixture
def root(tmp_path):
    folder = build_sequence(tmp_path / 'sequences/07')
    (folder / 'depth_stereo').mkdir()
    write_depth_image(folder / 'depth_stereo/000000.png', np.full(SIZE, 21.0, np.float32))
    np.save(folder / 'depth_stereo/000002.npy', np.full(SIZE, 23.0))
    return tmp_path


def seen_by(root, prior):
    frames = []

    def infer(frame):
        frames.append(frame)
        nothing = np.zeros(GRID.shape, np.uint8)
        return Occupancy(nothing, nothing, GRID, frame.stamp_ns, frame.frame_id)

    predictions = SequencePredictions(infer, root, KEYS, prior)
    for key in KEYS:
        predictions(key)
    return [frame.depth_m for frame in frames], predictions.prior_text()


def test_each_kind_reaches_the_network(root):
    """Frame 1 has no file of the network: it is not asked for."""
    found, text = seen_by(root, 'depth_stereo')
    assert [np.unique(depth).tolist() for depth in found] == [[21.0], [23.0]]
    assert text == 'depth_stereo'
    measured, _ = seen_by(root, 'depth')
    assert [float(depth.max()) for depth in measured] == [10.0, 12.0]
    none, text = seen_by(root, 'mono')  # the word of 0.1.0
    assert none == [None, None] and text == 'none'


def test_what_is_missing_is_told_before_the_first_frame(root):
    (root / 'sequences/07/depth_stereo/000002.npy').unlink()
    with pytest.raises(DataFileError, match=r'depth_stereo/\*\.png: 1 of 2 missing \(000002\)'):
        seen_by(root, 'depth_stereo')


def test_a_file_of_another_size_is_refused(root):
    """A network's crop, or its input size, would lie beside the picture."""
    np.save(root / 'sequences/07/depth_stereo/000002.npy', np.full((24, 80), 23.0))
    with pytest.raises(DataFileError, match=r'000002\.npy: expected 160x48 .*found 80x24'):
        seen_by(root, 'depth_stereo')


def test_a_right_image_that_no_scored_frame_needs_is_not_asked_for(root):
    (root / 'sequences/07/image_3/000001.png').unlink()
    assert seen_by(root, 'auto')[1] == 'stereo'
