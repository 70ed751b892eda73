"""Views of both cameras: lidar points painted into them, stereo of the right one."""

import fixtures_boxes
import numpy as np
import pytest

from cigocc_ros.data.kitti_files import write_point_labels, write_velodyne
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.runtime.preprocess import fit_camera
from cigocc_ros.training import cache
from cigocc_ros.training.preparation import prepare_frames
from cigocc_ros.training.views import FrameView, paint_points, paint_scan

SIZE = (48, 160)


def paint(points):
    """Paint rows of (u, v, depth, label)."""
    u, v, depth, labels = np.array(points, dtype=float).T
    return paint_points(np.stack((u, v), 1), depth, labels.astype(np.uint8), SIZE)


def test_nearest_point_of_a_pixel_wins():
    depth, classes = paint([(10, 5, 20.0, 1), (10.2, 5.3, 8.0, 9), (40, 30, 12.0, 255)])
    assert depth[5, 10] == 8.0
    assert classes[5, 10] == 9
    assert depth[30, 40] == 12.0
    assert (depth > 0).sum() == 2
    assert (classes != 255).sum() == 1


def test_points_seen_through_gaps_are_left_out():
    depth, classes = paint(
        [(10, 5, 8.0, 1), (12, 5, 20.0, 13), (13, 5, 20.0, 13), (12, 6, 8.5, 1)]
    )
    assert depth[5, 12] == 0
    assert classes[5, 12] == 255
    assert depth[6, 12] == 8.5


@pytest.fixture
def pair(tmp_path):
    """One rendered pair with a lidar scan of three points."""
    folder = fixtures_boxes.write_kitti_tree(tmp_path, seeds=(0,), size=(104, 320))
    for name in ('velodyne', 'labels'):
        (folder / name).mkdir()
    points = np.array([[20.0, 0, 0, 0.5], [25.0, 4, 0, 0.5], [-20.0, 0, 0, 0.5]])
    write_velodyne(folder / 'velodyne/000000.bin', points)
    write_point_labels(folder / 'labels/000000.label', np.array([10, 70, 40]))
    return KittiSequence(folder)


def test_lidar_gives_depth_and_classes_to_the_right_camera(pair, tiny):
    view = FrameView(pair, '000000', tiny.image_size, 'right')
    depth, classes = view.depth, view.classes
    rows, columns = np.nonzero(depth)
    assert len(rows) == 2
    assert set(classes[rows, columns]) == {1, 15}
    camera = fit_camera(pair.camera_left, tiny.image_size).camera_in
    left, _ = paint_scan(pair, '000000', pair.camera_left, camera)
    assert (np.nonzero(left)[1].sum()) > columns.sum()  # things lie farther left for the right one


def test_stereo_of_the_right_camera_agrees_with_that_of_the_left(pair, tiny):
    """The median depth of the ground, seen by both, is the same."""
    left, right = (
        FrameView(pair, '000000', tiny.image_size, side).matched_depth()[90:]
        for side in ('left', 'right')
    )
    assert (right > 0).mean() > 0.3
    np.testing.assert_allclose(np.median(right[right > 0]), np.median(left[left > 0]), rtol=0.05)


def test_both_cameras_are_frames_of_their_own(pair, tiny, tmp_path):
    frames = cache.find_frames(tmp_path, tiny, sides=('left', 'right'))
    assert [frame.side for frame in frames] == ['left', 'right']
    assert len({frame.cached for frame in frames}) == 2
    prepared = [cache.load_frame(frame) for frame in prepare_frames(frames, tiny, workers=1)]
    assert not np.array_equal(prepared[0]['pixel_from_velo'], prepared[1]['pixel_from_velo'])
    np.testing.assert_array_equal(prepared[0]['labels'], prepared[1]['labels'])


def test_without_a_scan_the_right_camera_is_no_view(pair, tiny, tmp_path):
    (pair.path / 'velodyne/000000.bin').unlink()
    frames = cache.find_frames(tmp_path, tiny, sides=('left', 'right'))
    assert [frame.side for frame in frames] == ['left']


def test_partial_truth_stands_in_for_volumes(pair, tiny, tmp_path):
    labels = np.full((256, 256, 32), 255, dtype=np.uint8)
    labels[:128] = 9
    truth = tmp_path / 'truth'
    truth.mkdir()
    np.savez(truth / f'{pair.name}_000000.npz', label=labels)
    (pair.path / 'voxels/000000.label').unlink()
    frames = cache.find_frames(tmp_path, tiny, truth=truth)
    arrays = cache.load_frame(next(prepare_frames(frames, tiny, workers=1)))
    assert (arrays['labels'][: tiny.output_shape[0] // 2] == 9).all()
    assert (arrays['labels'][tiny.output_shape[0] // 2 :] == 255).all()
