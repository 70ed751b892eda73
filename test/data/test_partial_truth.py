"""Partial ground truth: hits are labels, free is what official masks saw, the rest unknown."""

import numpy as np
import pytest
from fixtures_sequence import build_sequence

from cigocc_ros.commands.main import main
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID as GRID
from cigocc_ros.data import kitti_files
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.partial_truth import (
    SHIFT_M,
    TILT_RAD,
    TURN_RAD,
    masked_frames,
    partial_labels,
    random_pose,
    turned_file,
)
from cigocc_ros.evaluation.ground_truth import LabelArrays

CAR, UNLABELLED, CAR_ID = 10, 0, 1
STEP_M = 0.4
"""The vehicle drives two voxels per frame."""
CAR_M, THING_M = (10.1, 1.1, -1.5), (12.1, 1.1, -1.5)
"""A labelled and an unlabelled point, in the frame of the first scan."""


def voxel(x, y, z):
    return tuple(GRID.index_of(np.array([[x, y, z]]))[0][0])


@pytest.fixture
def short_log(tmp_path):
    """Three frames; the masks of frame 000000 saw x from 5 to 20 m free, left of the road."""
    path = build_sequence(tmp_path / 'sequences/00')
    (path / 'labels').mkdir()
    tr = KittiSequence(path).cam_from_velo
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = STEP_M * np.arange(3)
    kitti_files.write_poses(path / 'poses.txt', tr @ poses @ np.linalg.inv(tr))
    for index in range(3):
        points = np.array([(*CAR_M, 0.3), (*THING_M, 0.3)])
        points[:, 0] -= STEP_M * index
        kitti_files.write_velodyne(path / f'velodyne/{index:06d}.bin', points)
        labels = np.array([CAR, UNLABELLED])
        kitti_files.write_point_labels(path / f'labels/{index:06d}.label', labels)
    hidden = np.ones(GRID.shape, bool)
    hidden[25:100, 128:, :] = False
    kitti_files.write_voxel_bits(path / 'voxels/000000.occluded', hidden)
    kitti_files.write_voxel_bits(path / 'voxels/000000.invalid', np.zeros(GRID.shape, bool))
    for index in (1, 2):
        (path / f'voxels/{index:06d}.invalid').unlink()
    return KittiSequence(path)


def test_of_the_masked_frame_itself(short_log):
    labels = partial_labels(short_log, '000000')
    assert labels[voxel(*CAR_M)] == CAR_ID
    assert labels[voxel(*THING_M)] == 255
    assert (labels[30:40, 130:140, :] == 0).all()
    assert (labels[:, :128] == 255).all()
    assert (labels == 0).sum() == 75 * 128 * 32 - 2


def test_masks_and_hits_move_with_the_vehicle(short_log):
    there = partial_labels(short_log, '000000')
    here = partial_labels(short_log, '000002', earlier=2)
    np.testing.assert_array_equal(here[:-4], there[4:])
    assert (here[-4:] == 255).all()


def test_the_masks_win_over_nothing_but_lose_to_a_hit(short_log):
    free = ~short_log.voxel_bits('000000', 'occluded')
    assert free[voxel(*CAR_M)]
    assert partial_labels(short_log, '000000')[voxel(*CAR_M)] == CAR_ID


def test_a_sequence_without_masks_says_what_to_do(short_log):
    assert masked_frames(short_log) == ['000000']
    (short_log.path / 'voxels/000000.occluded').unlink()
    with pytest.raises(DataFileError, match='unpack data_odometry_voxels.zip'):
        partial_labels(short_log, '000000')


def test_command_writes_arrays(short_log, tmp_path):
    out = tmp_path / 'truth'
    options = ['--every', '1', '--partial', '--earlier', '2', '--workers', '1']
    assert main(['voxelize', str(tmp_path), '--out', str(out), *options]) == 0
    assert sorted(path.name for path in out.iterdir()) == [f'00_00000{i}.npz' for i in range(3)]
    with np.load(out / '00_000002.npz') as arrays:
        expected = partial_labels(short_log, '000002', earlier=2)
        np.testing.assert_array_equal(arrays['label'], expected)


def test_earlier_scans_belong_to_partial_volumes(tmp_path, capsys):
    assert main(['voxelize', str(tmp_path), '--out', str(tmp_path), '--earlier', '2']) == 2
    assert '--earlier takes 0 or more and --partial' in capsys.readouterr().err


@pytest.mark.parametrize('frame', [('00', '000000'), ('05', '000000')])
def test_agrees_with_arrays_derived_elsewhere(shared_dir, frame):
    name, frame_id = frame
    sequence = KittiSequence(shared_dir / f'data/kitti_mini/sequences/{name}')
    labels = partial_labels(sequence, frame_id)
    with np.load(shared_dir / f'data/derived_partial_gt/{name}_{frame_id}.npz') as arrays:
        derived = arrays['label']
    both = (labels != 255) & (derived != 255)
    assert both.sum() > 0.99 * (derived != 255).sum()
    assert (labels == derived)[both].mean() > 0.9999


def pose(yaw=0.0, shift=(0.0, 0.0, 0.0)):
    moved = np.eye(4)
    moved[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    moved[:3, 3] = shift
    return moved


def test_a_grid_that_was_not_moved_is_the_lidar_s(short_log):
    np.testing.assert_array_equal(
        partial_labels(short_log, '000000', velo_from_grid=pose()),
        partial_labels(short_log, '000000'),
    )


def test_a_grid_moved_by_whole_voxels_holds_the_same_further_on(short_log):
    there = partial_labels(short_log, '000000')
    here = partial_labels(short_log, '000000', velo_from_grid=pose(shift=(0.8, -0.4, 0.2)))
    np.testing.assert_array_equal(here[:-4, 2:, :-1], there[4:, :-2, 1:])


@pytest.mark.parametrize('yaw', [-0.2, 0.1, 0.25])
def test_a_turned_grid_has_the_car_where_its_pose_says(yaw, short_log):
    velo_from_grid = pose(yaw, (1.0, 0.5, 0.1))
    labels = partial_labels(short_log, '000000', velo_from_grid=velo_from_grid)
    at = np.linalg.inv(velo_from_grid) @ [*CAR_M, 1]
    assert labels[voxel(*at[:3])] == CAR_ID
    assert (labels == CAR_ID).sum() == 1


def test_random_poses_are_rigid_small_and_of_their_name():
    poses = [random_pose(f'00_{i:06d}_0') for i in range(50)]
    for one in poses:
        np.testing.assert_allclose(one[:3, :3] @ one[:3, :3].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(one[:3, :3]) == pytest.approx(1)
        assert (np.abs(one[:3, 3]) <= SHIFT_M).all()
        assert np.arccos((np.trace(one[:3, :3]) - 1) / 2) < TURN_RAD + 2 * TILT_RAD
    assert len({one.tobytes() for one in poses}) == 50
    np.testing.assert_array_equal(random_pose('00_000000_0'), poses[0])


def test_command_writes_turned_volumes_beside_the_truth(short_log, tmp_path):
    out = tmp_path / 'truth'
    options = ['--every', '3', '--partial', '--workers', '1', '--turned', '2', '--scans', '2']
    assert main(['voxelize', str(tmp_path), '--out', str(out), *options]) == 0
    assert LabelArrays(out).frames == (('00', '000000'),)  # turned ones are not scored
    for turn in range(2):
        with np.load(turned_file(out, '00', '000000', turn)) as arrays:
            expected = partial_labels(
                short_log, '000000', 2, velo_from_grid=arrays['velo_from_grid']
            )
            np.testing.assert_array_equal(arrays['label'], expected)


def test_turned_volumes_are_partial(tmp_path, capsys):
    assert main(['voxelize', str(tmp_path), '--out', str(tmp_path), '--turned', '2']) == 2
    assert '--turned takes 0 or more and --partial' in capsys.readouterr().err
