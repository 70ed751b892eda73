"""The rig in ROS conventions sees every point at the same pixel as KITTI's calibration."""

import numpy as np
import pytest
from fixtures_sequence import P2, P3, TR, build_sequence

from cigocc_ros.core.camera import stereo_focal_baseline
from cigocc_ros.core.projection import project_points
from cigocc_ros.core.rotation import rigid_transform
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.rig import ground_truth, rig_of_sequence


@pytest.fixture(scope='module')
def sequence(tmp_path_factory):
    return KittiSequence(build_sequence(tmp_path_factory.mktemp('rig') / '00', frames=1))


def points_ahead():
    return np.random.default_rng(1).uniform([5, -5, -2], [50, 5, 3], (200, 3))


def test_the_left_camera_has_no_offset_but_the_same_pixels_and_depths(sequence):
    left = rig_of_sequence(sequence).left
    assert left.frame_id == 'camera_color_left'
    np.testing.assert_array_equal(left.model.projection[:, 3], 0)
    np.testing.assert_array_equal(left.model.intrinsics, P2[:, :3])
    expected = project_points(points_ahead(), sequence.camera_left, sequence.cam_from_velo)
    found = project_points(points_ahead(), left.model, left.cam_from_velo)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_the_left_camera_stands_where_the_offset_puts_it(sequence):
    """K^-1 p2 by hand: x = (8 - 79.5 * 0.003) / 160, y = (-0.5 - 23.5 * 0.003) / 160."""
    moved = rig_of_sequence(sequence).left.cam_from_velo[:3, 3] - TR[:, 3]
    expected = [(8 - 79.5 * 0.003) / 160, (-0.5 - 23.5 * 0.003) / 160, 0.003]
    np.testing.assert_allclose(moved, expected, rtol=1e-12)


def test_the_right_camera_carries_the_exact_focal_baseline(sequence):
    rig = rig_of_sequence(sequence)
    np.testing.assert_array_equal(rig.right.model.projection[:, 3], [-80.0, 0, 0])
    assert stereo_focal_baseline(rig.left.model, rig.right.model) == 80.0
    assert rig.right.frame_id == 'camera_color_right'
    expected, _, _ = project_points(points_ahead(), sequence.camera_right, sequence.cam_from_velo)
    mono = type(rig.right.model)(160, 48, np.hstack([P3[:, :3], np.zeros((3, 1))]))
    found, _, _ = project_points(points_ahead(), mono, rig.right.cam_from_velo)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_static_poses_lead_back_to_the_extrinsics(sequence):
    rig = rig_of_sequence(sequence)
    poses = rig.static_poses()
    assert [(pose.parent, pose.child) for pose in poses] == [
        ('velo_link', 'camera_color_left'),
        ('velo_link', 'camera_color_right'),
    ]
    for pose, camera in zip(poses, rig.cameras, strict=True):
        velo_from_cam = rigid_transform(pose.translation_m, pose.rotation_xyzw)
        np.testing.assert_allclose(velo_from_cam @ camera.cam_from_velo, np.eye(4), atol=1e-12)


def test_the_optical_axis_points_forward_and_down_is_down(sequence):
    """REP-103: z of an optical frame is forward (x of the lidar), y is down, x is right."""
    (pose, _) = rig_of_sequence(sequence).static_poses()
    axes = rigid_transform([0, 0, 0], pose.rotation_xyzw)[:3, :3]
    np.testing.assert_allclose(axes.T, [[0, -1, 0], [0, 0, -1], [1, 0, 0]], atol=1e-12)


def test_without_right_images_there_is_one_camera(tmp_path):
    folder = build_sequence(tmp_path / '00', frames=1)
    (folder / 'image_3/000000.png').unlink()
    rig = rig_of_sequence(KittiSequence(folder))
    assert rig.right is None
    assert len(rig.static_poses()) == 1


def test_ground_truth_leaves_unknown_voxels_out(sequence):
    truth = ground_truth(sequence, '000000', 5)
    assert truth.occupied.sum() == 2
    assert truth.labels[10, 20, 3] == 9
    assert truth.probability[10, 20, 3] == 255
    assert truth.probability.astype(int).sum() == 2 * 255
    assert (truth.stamp_ns, truth.frame_id) == (5, 'velo_link')


@pytest.mark.parametrize('name', ['00', '03', '04'])
def test_real_rigs_keep_pixels_and_baseline(shared_dir, name):
    sequence = KittiSequence(shared_dir / 'data/kitti_mini/sequences' / name)
    rig = rig_of_sequence(sequence)
    points = sequence.velodyne(0)[::50, :3]
    expected, _, seen = project_points(points, sequence.camera_left, sequence.cam_from_velo)
    found, _, _ = project_points(points, rig.left.model, rig.left.cam_from_velo)
    np.testing.assert_allclose(found[seen], expected[seen], atol=1e-6)
    exact = stereo_focal_baseline(sequence.camera_left, sequence.camera_right)
    assert stereo_focal_baseline(rig.left.model, rig.right.model) == exact
    left, right = rig.static_poses()
    apart = np.linalg.norm(np.subtract(left.translation_m, right.translation_m))
    assert apart == pytest.approx(exact / sequence.camera_left.intrinsics[0, 0], abs=0.003)
