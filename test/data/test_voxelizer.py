"""The voxeliser against a scene traced by hand and against official volumes."""

import shutil

import numpy as np
import pytest
from fixtures_sequence import build_sequence

from benchmark.voxelizer_agreement import agreement
from cigocc_ros.commands.main import main
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.data import kitti_files
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.voxel_faces import VoxelOccluders, voxel_triangles
from cigocc_ros.data.voxelizer import LabelledScan, frames_to_voxelize, read_scans, voxelize

GRID = VoxelGrid((0.0, -3.0, -1.0), (0.5, 0.5, 0.5), (16, 12, 4))
ROAD, BUILDING, CAR_MOVING = 40, 50, 252


def pose(x=0.0, y=0.0, yaw=0.0):
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, -sin, 0, x], [sin, cos, 0, y], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def scan_of(points_in_grid, labels, velo_from_scan=None):
    """Build a scan from points given in the grid's frame."""
    velo_from_scan = pose() if velo_from_scan is None else velo_from_scan
    own = np.c_[points_in_grid, np.ones(len(points_in_grid))] @ np.linalg.inv(velo_from_scan).T
    points = own[:, :3].astype(np.float32)
    return LabelledScan(points, np.asarray(labels, np.uint16), velo_from_scan)


def wall(x_index=8, y_indices=range(2, 9), z_indices=range(4)):
    index = np.array([(x_index, y, z) for y in y_indices for z in z_indices])
    return GRID.center_of(index)


def line_is_blocked(boxes_low, start, stop):
    """Slab test of one line against boxes of the grid's voxels (N, 3)."""
    with np.errstate(divide='ignore'):
        sides = (np.stack([boxes_low, boxes_low + 0.5]) - start) / (stop - start)
    enter = np.minimum(*sides).max(axis=1)
    leave = np.maximum(*sides).min(axis=1)
    return bool(((enter < leave) & (leave > 0) & (enter < 1)).any())


def brute_force(occupied, sensors):
    """Try every line against every occupied voxel but the one that the sensor is in."""
    occluded, invalid = occupied.copy(), np.zeros_like(occupied)
    boxes = np.argwhere(occupied)
    own = GRID.index_of(np.array(sensors))[0]
    lows = [GRID.center_of(boxes[(boxes != mine).any(axis=1)]) - 0.25 for mine in own]
    for index in np.argwhere(~occupied):
        start = GRID.center_of(index)
        hidden = [line_is_blocked(low, start, s) for low, s in zip(lows, sensors, strict=True)]
        occluded[tuple(index)] = hidden[0]
        invalid[tuple(index)] = all(hidden)
    return occluded, invalid


def occupied_by(points):
    occupied = np.zeros(GRID.shape, bool)
    occupied[tuple(GRID.index_of(points)[0].T)] = True
    return occupied


def test_volumes_are_those_of_a_walk_along_every_line():
    later = pose(3.1, 2.2, 0.7)
    random = np.random.default_rng(3)
    clutter = GRID.center_of(random.integers((6, 0, 0), GRID.shape, (25, 3)))
    points = np.concatenate([wall(), clutter])
    points = points[np.linalg.norm(points - later[:3, 3], axis=1) > 2.6]
    scans = [
        scan_of(points, np.full(len(points), BUILDING)),
        scan_of(points, [70] * len(points), later),
    ]
    volumes = voxelize(scans, GRID)
    occupied = occupied_by(points)
    occluded, invalid = brute_force(occupied, [pose()[:3, 3], later[:3, 3]])
    np.testing.assert_array_equal(volumes.labels > 0, occupied)
    # lines that graze an edge fall to either side of it in float32
    assert (volumes.occluded != occluded).sum() <= 2
    assert (volumes.invalid != invalid).sum() <= 2
    assert 100 < invalid.sum() < (occluded & ~occupied).sum()


def test_wall_hides_until_a_later_position_sees_behind_it():
    points = wall(y_indices=range(3, 9))
    behind, beside = (12, 5, 2), (12, 0, 2)
    alone = voxelize([scan_of(points, [BUILDING] * len(points))], GRID)
    assert alone.occluded[behind]
    assert alone.invalid[behind]
    assert not alone.occluded[beside]
    assert alone.occluded[8, 5, 2]
    assert not alone.invalid[8, 5, 2]
    passed = LabelledScan(np.zeros((0, 3), np.float32), np.zeros(0, np.uint16), pose(6.0))
    moved_on = voxelize([scan_of(points, [BUILDING] * len(points)), passed], GRID)
    assert moved_on.occluded[behind]
    assert not moved_on.invalid[behind]


def test_a_hit_in_the_voxel_of_a_later_sensor_hides_nothing():
    points = GRID.center_of(np.array([[10, 6, 2]]))
    there = LabelledScan(np.zeros((0, 3), np.float32), np.zeros(0, np.uint16), pose(5.25, 0.25))
    volumes = voxelize([scan_of(points, [CAR_MOVING]), there], GRID)
    assert volumes.labels[10, 6, 2] == CAR_MOVING
    assert volumes.occluded[11, 6, 2]
    assert not volumes.invalid.any()


@pytest.mark.parametrize(
    ('labels', 'expected'),
    [
        ([BUILDING, BUILDING, ROAD], BUILDING),
        ([BUILDING, ROAD], ROAD),
        ([0, 0, ROAD], 0),
        ([0, ROAD], 0),
        ([CAR_MOVING, CAR_MOVING, 0], CAR_MOVING),
    ],
)
def test_majority_wins_and_the_lowest_id_in_a_tie(labels, expected):
    points = np.tile(GRID.center_of(np.array([[9, 6, 2]])), (len(labels), 1))
    volumes = voxelize([scan_of(points, labels)], GRID)
    assert volumes.labels[9, 6, 2] == expected
    assert volumes.scanned[9, 6, 2] == (expected > 0)
    assert volumes.occluded[9, 6, 2]  # unlabelled points are obstacles too
    assert not volumes.invalid[9, 6, 2]


def test_range_is_measured_from_each_scan_s_own_sensor():
    points = np.array([[2.4, 0.1, 0], [2.6, 0.1, 0], [7.9, 0.1, 0]])
    labels = [ROAD, ROAD, ROAD]
    here = voxelize([scan_of(points, labels)], GRID)
    np.testing.assert_array_equal(np.argwhere(here.scanned), [[5, 6, 2], [15, 6, 2]])
    empty = LabelledScan(np.zeros((0, 3), np.float32), np.zeros(0, np.uint16), pose())
    there = voxelize([empty, scan_of(points, labels, pose(7.0))], GRID)
    np.testing.assert_array_equal(np.argwhere(there.labels), [[4, 6, 2], [5, 6, 2]])
    assert not there.scanned.any()
    far = voxelize([empty, scan_of(points, labels, pose(-70.0 + 2.5))], GRID)
    assert not far.labels[15, 6, 2]
    assert far.labels[4, 6, 2]


def test_scans_are_placed_by_their_pose():
    target = GRID.center_of(np.array([[12, 9, 1]]))
    empty = LabelledScan(np.zeros((0, 3), np.float32), np.zeros(0, np.uint16), pose())
    volumes = voxelize([empty, scan_of(target, [ROAD], pose(1.0, -1.5, 0.9))], GRID)
    np.testing.assert_array_equal(np.argwhere(volumes.labels), [[12, 9, 1]])


def test_faces_between_occupied_voxels_are_left_out():
    occupied = np.zeros(GRID.shape, bool)
    occupied[3, 4, 1] = True
    single = voxel_triangles(occupied, GRID)
    assert single.shape == (12, 3, 3)
    np.testing.assert_allclose(single.reshape(-1, 3).min(axis=0), [1.5, -1.0, -0.5])
    np.testing.assert_allclose(single.reshape(-1, 3).max(axis=0), [2.0, -0.5, 0.0])
    occupied[4, 4, 1] = True
    assert len(voxel_triangles(occupied, GRID)) == 20
    assert len(voxel_triangles(np.ones(GRID.shape, bool), GRID)) == 4 * (16 * 12 + 16 * 4 + 12 * 4)


def test_nothing_occupied_hides_nothing():
    occluders = VoxelOccluders(np.zeros(GRID.shape, bool), GRID)
    assert not occluders.hide(GRID.centers_m().reshape(-1, 3), np.zeros(3)).any()


@pytest.fixture
def labelled(tmp_path):
    """Six frames of a sensor that drives past one labelled point, 0.5 m a frame."""
    path = build_sequence(tmp_path / 'sequences/07', frames=6)
    sequence = KittiSequence(path)
    poses = np.stack([pose(0.5 * i) for i in range(6)])
    tr = sequence.cam_from_velo
    kitti_files.write_poses(path / 'poses.txt', tr @ poses @ np.linalg.inv(tr))
    for index in range(6):
        scan = np.array([[10.15 - 0.5 * index, 1.1, -1.5, 0.3]])
        kitti_files.write_velodyne(path / f'velodyne/{index:06d}.bin', scan)
        kitti_files.write_point_labels(path / f'labels/{index:06d}.label', np.array([10]))
    return path


def test_command_writes_what_the_sequence_reads_back(labelled, tmp_path, capsys):
    out = tmp_path / 'out'
    options = ['--out', str(out), '--every', '3', '--scans', '1', '--workers', '2']
    assert main(['voxelize', str(labelled), *options]) == 0
    folder = out / 'sequences/07/voxels'
    suffixes = ('bin', 'invalid', 'label', 'occluded')
    assert sorted(path.name for path in folder.iterdir()) == [
        f'{number:06d}.{suffix}' for number in (0, 3) for suffix in suffixes
    ]
    assert '2 frames' in capsys.readouterr().out
    raw = kitti_files.read_voxel_labels(folder / '000003.label')
    np.testing.assert_array_equal(np.argwhere(raw), [[43, 133, 2]])  # 8.65 m ahead
    assert kitti_files.read_voxel_bits(folder / '000003.bin')[43, 133, 2]
    assert kitti_files.read_voxel_bits(folder / '000003.occluded').sum() > 1
    assert kitti_files.read_voxel_bits(folder / '000003.invalid').any()


def test_a_complete_root_has_sequences_without_labels(labelled, tmp_path, capsys):
    """Of SemanticKITTI's 22 sequences 11 have neither labels nor poses: that is no fault."""
    root = labelled.parents[1]
    shutil.copytree(labelled, root / 'sequences/11')
    shutil.rmtree(root / 'sequences/11/labels')
    (root / 'sequences/11/poses.txt').unlink()
    shutil.copytree(labelled, root / 'sequences/12')
    (root / 'sequences/12/calib.txt').write_text('P2: 1')
    out = tmp_path / 'out'
    options = ['--out', str(out), '--every', '3', '--scans', '1', '--workers', '1']
    assert main(['voxelize', str(root), *options]) == 0
    assert len(list((out / 'sequences/07/voxels').iterdir())) == 8
    assert not (out / 'sequences/11').exists()
    printed = capsys.readouterr().out
    assert '2 frames of 1 sequences' in printed and '2 sequences skipped' in printed
    assert 'sequences/11: voxelising needs poses.txt' in printed
    assert 'sequences/12/calib.txt, line 1' in printed
    shutil.rmtree(labelled)
    assert main(['voxelize', str(root), *options]) == 2
    assert 'no sequence can be voxelised' in capsys.readouterr().err
    assert main(['voxelize', str(root), *options, '--every', '0']) == 2
    assert 'every must be 1 or more' in capsys.readouterr().err


def test_as_many_scans_as_asked_and_there(labelled):
    sequence = KittiSequence(labelled)
    assert len(read_scans(sequence, '000000', 2)) == 3
    assert len(read_scans(sequence, '000003')) == 3
    scans = read_scans(sequence, '000000')
    np.testing.assert_allclose(scans[5].velo_from_scan, pose(2.5), atol=1e-6)


@pytest.mark.parametrize('name', ['poses.txt', 'velodyne/000004.bin', 'labels/000005.label'])
def test_what_is_missing_is_named(labelled, name):
    (labelled / name).unlink()
    with pytest.raises(DataFileError, match=f'1 missing, the first is {name}'):
        frames_to_voxelize(KittiSequence(labelled))


def test_files_outside_the_windows_are_not_needed(labelled):
    (labelled / 'velodyne/000004.bin').unlink()
    assert frames_to_voxelize(KittiSequence(labelled), every=3, later=0) == ['000000', '000003']


@pytest.mark.parametrize(('every', 'later'), [(0, 70), (5, -1)])
def test_impossible_numbers_are_refused(labelled, every, later):
    with pytest.raises(ConfigError, match='every must be'):
        frames_to_voxelize(KittiSequence(labelled), every, later)


# Floors of the twelve frames at hand with 5 or 10 of the 71 scans; see docs/voxelizer.md.
FLOORS = {
    'occluded_agrees': 0.75,
    'occluded_confirmed': 0.985,
    'invalid_agrees': 0.78,
    'hit_known': 0.999,
    'free_confirmed': 0.99,
    'empty_confirmed': 0.5,
    'label_agrees': 0.999,
}


@pytest.mark.parametrize(
    ('name', 'frame_id'), [('00', '000005'), ('02', '000005'), ('05', '000005')]
)
def test_agrees_with_the_official_volumes(shared_dir, name, frame_id):
    sequence = KittiSequence(shared_dir / f'data/kitti_mini/sequences/{name}')
    with np.load(shared_dir / f'data/derived_partial_gt/{name}_{frame_id}.npz') as content:
        reference = content['label']
    volumes = voxelize(read_scans(sequence, frame_id))
    measured = agreement(volumes, sequence, frame_id, reference)
    assert measured.pop('bin_differs') <= 2
    assert {key for key, floor in FLOORS.items() if measured[key] < floor} == set(), measured
    empty = reference == 0
    assert (volumes.labels[empty] == 0).mean() > 0.999
    assert (~volumes.invalid[empty]).mean() > 0.99
