"""The synthetic generator: same seed same bytes, and all its outputs describe one geometry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cigocc_ros.core.camera import stereo_focal_baseline
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import CLASS_NAMES, EMPTY, IGNORE, train_from_raw
from cigocc_ros.core.projection import unproject
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.synthetic.drive import SequenceSettings
from cigocc_ros.data.synthetic.layout import build_street
from cigocc_ros.data.synthetic.light import Light
from cigocc_ros.data.synthetic.rig import draw_rig
from cigocc_ros.data.synthetic.sequence import write_sequence, write_sequences
from cigocc_ros.data.synthetic.view import LIDAR_ELEVATION_DEG

pytest.importorskip('embreex', reason='synthetic scenes need the extra "synthetic"')
WIDTH, SEED = 96, 3


@pytest.fixture(scope='module')
def sequence(tmp_path_factory: pytest.TempPathFactory) -> KittiSequence:
    """Return a street of two frames."""
    folder = tmp_path_factory.mktemp('synthetic') / 'sequences' / '00'
    settings = SequenceSettings(frames=2, width=WIDTH, step_m=4.0, seed=SEED)
    assert list(write_sequence(folder, settings)) == ['000000', '000001']
    return KittiSequence(folder)


def test_sequence_reads_back_as_kitti(sequence: KittiSequence) -> None:
    assert sequence.camera_left.width == WIDTH
    assert sequence.image(0, 'right').shape == sequence.image(0, 'left').shape
    assert sequence.velodyne(0).shape[1] == 4
    assert len(sequence.point_labels(0)) == len(sequence.velodyne(0))
    assert abs(stereo_focal_baseline(sequence.camera_left, sequence.camera_right)) > 0
    assert sequence.camera_left.offset[0] != 0, 'the P2 offset must be exercised'
    assert sequence.stamp_ns(1) - sequence.stamp_ns(0) == 100_000_000


def test_same_seed_same_bytes_whatever_the_workers(
    sequence: KittiSequence, tmp_path: Path
) -> None:
    settings = SequenceSettings(frames=2, width=WIDTH, step_m=4.0, seed=0)
    assert list(write_sequences(tmp_path, {'00': SEED}, settings, workers=2)) == ['00']
    assert contents(sequence.path) == contents(tmp_path / 'sequences' / '00')


def test_other_seeds_give_other_rigs_and_light() -> None:
    first, second = (np.random.default_rng(seed) for seed in (1, 2))
    assert draw_rig(first, WIDTH).left != draw_rig(second, WIDTH).left
    assert not np.array_equal(Light.drawn(first).sun, Light.drawn(second).sun)


def test_depth_and_masks_agree_with_the_voxels(sequence: KittiSequence) -> None:
    occupied, agreeing = shares_agreeing(sequence, 0)
    assert occupied > 0.9  # between leaves that a camera sees, scans find free space
    assert agreeing > 0.95
    vegetation = CLASS_NAMES.index('vegetation')
    occupied, agreeing = shares_agreeing(sequence, 0, without=vegetation)
    assert occupied > 0.96
    assert agreeing > 0.95


def test_lidar_points_agree_with_the_voxels(sequence: KittiSequence) -> None:
    points, labels = sequence.velodyne(0)[:, :3], train_from_raw(sequence.point_labels(0))
    index, inside = SEMANTIC_KITTI_GRID.index_of(points)
    volume = sequence.voxel_labels(0)[tuple(index[inside].T)]
    known = volume != IGNORE
    occupied = volume[known] != EMPTY
    assert occupied.mean() > 0.9
    assert (volume[known][occupied] == labels[inside][known][occupied]).mean() > 0.9


def test_right_image_is_the_left_one_moved_by_the_disparity(sequence: KittiSequence) -> None:
    depth = sequence.depth(0)
    left, right = (sequence.image(0, side).astype(float).mean(-1) for side in ('left', 'right'))
    focal_baseline = stereo_focal_baseline(sequence.camera_left, sequence.camera_right)
    v, u = np.nonzero(depth > 0)
    moved = u - focal_baseline / depth[v, u]
    inside = moved >= 0
    u, v, moved = u[inside], v[inside], moved[inside]
    matched = np.abs(left[v, u] - right[v, np.round(moved).astype(int)])
    unmoved = np.abs(left[v, u] - right[v, u])
    assert np.median(matched) < 0.6 * np.median(unmoved)


def test_invalid_voxels_are_never_occupied_and_never_all(sequence: KittiSequence) -> None:
    labels = sequence.voxel_labels(0)
    unknown = (labels == IGNORE).mean()
    assert 0.02 < unknown < 0.6
    known = labels[labels != IGNORE]
    assert 0.01 < (known != EMPTY).mean() < 0.2


def test_all_classes_appear_over_a_few_streets() -> None:
    seen: set[int] = set()
    for seed in range(12):
        street = build_street(np.random.default_rng(seed), 10.0)
        seen |= set(np.unique(street.static.frozen().classes).tolist())
        seen |= {int(c) for mover in street.movers for c in mover.mesh.frozen().classes}
    missing = [name for i, name in enumerate(CLASS_NAMES) if i > 0 and i not in seen]
    assert not missing


@pytest.mark.parametrize('wrong', [{'frames': 0}, {'width': 10}, {'step_m': 0.0}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match='frames >= 1'):
        SequenceSettings(**wrong)


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'notes.txt').write_text('keep me')
    with pytest.raises(DataFileError, match='not empty'):
        next(write_sequence(tmp_path, SequenceSettings(frames=1, width=WIDTH)))


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in files_below(folder)}


def files_below(folder: Path) -> Iterator[Path]:
    """Yield files in order."""
    yield from (path for path in sorted(folder.rglob('*')) if path.is_file())


def shares_agreeing(
    sequence: KittiSequence, frame: int, without: int = IGNORE
) -> tuple[float, float]:
    """Return which share of depth pixels falls into occupied voxels, and of these how many agree.

    Pixels in unknown voxels do not count, nor those near or above the lidar's highest beam: the
    ground truth knows only what a scan has hit.
    """
    depth, classes = sequence.depth(frame), sequence.semantic_image(frame)
    v, u = np.nonzero((depth > 0) & (classes != IGNORE) & (classes != without))
    pixels = np.stack([u, v], axis=-1).astype(float)
    camera, cam_from_velo = sequence.camera_left, sequence.cam_from_velo
    points = unproject(pixels, depth[v, u].astype(float), camera, cam_from_velo)
    slope = points[:, 2] / np.hypot(points[:, 0], points[:, 1])
    index, inside = SEMANTIC_KITTI_GRID.index_of(points)
    inside &= slope < np.tan(np.deg2rad(LIDAR_ELEVATION_DEG[1] - 1))
    found = sequence.voxel_labels(frame)[tuple(index[inside].T)]
    known = found != IGNORE
    found, wanted = found[known], classes[v, u][inside][known]
    occupied = found != EMPTY
    return float(occupied.mean()), float((found == wanted)[occupied].mean())
