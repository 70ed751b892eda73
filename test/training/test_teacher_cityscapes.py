"""Tiles, the mapping of classes, and the network on real images where those are at hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.labels import CLASS_NAMES, IGNORE, train_from_raw
from cigocc_ros.core.projection import project_points
from cigocc_ros.data.kitti_layout import find_sequences
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.training.teacher import cityscapes
from cigocc_ros.training.teacher.cityscapes import CityscapesTeacher, train_ids
from cigocc_ros.training.teacher.output import masks_of_classes
from cigocc_ros.training.teacher.tiles import TilePlan, interpolate


@pytest.mark.parametrize('size', [(376, 1241), (513, 513), (514, 529), (40, 2000), (1024, 600)])
def test_tiles_cover_every_pixel_and_merge_to_what_one_view_would_give(
    size: tuple[int, int],
) -> None:
    plan = TilePlan.cover(size, points=33, stride=16)
    v, u = np.indices(size)
    image = np.stack([v % 251, u % 251, (v + u) % 251], -1).astype(np.uint8)
    tiles = plan.cut(image, 128)
    assert all(tile.shape == (513, 513, 3) for tile in tiles)
    assert all(start % 16 == 0 for starts in plan.starts for start in starts)
    seen = [tile[::16, ::16].astype(np.float32) for tile in tiles]
    np.testing.assert_allclose(plan.merge(seen), image[::16, ::16], rtol=1e-5)
    assert plan.grid_size == (-(-size[0] // 16), -(-size[1] // 16))


def test_no_more_tiles_than_needed() -> None:
    assert TilePlan.cover((513, 513), 33, 16).starts == ((0,), (0,))
    assert TilePlan.cover((376, 1241), 33, 16).starts == ((0,), (0, 368, 736))


def test_points_near_the_middle_of_a_tile_count_most() -> None:
    plan = TilePlan.cover((513, 800), 33, 16)
    low, high = np.zeros((33, 33, 1), np.float32), np.ones((33, 33, 1), np.float32)
    merged = plan.merge([low, high])[16, :, 0]
    assert merged[0] == 0 and merged[-1] == 1 and (np.diff(merged) >= 0).all()
    assert 0 < merged[25] < 1


def test_interpolation_reproduces_a_plane() -> None:
    origin, step = (2.0, -1.0), (3.0, 5.0)
    v, u = (o + s * np.arange(n) for o, s, n in zip(origin, step, (5, 6), strict=True))
    grid = np.stack(np.broadcast_arrays(2 * v[:, None] + u, v[:, None] - u), -1)
    found = interpolate(grid.astype(np.float32), (12, 20), origin, step)
    rows, columns = np.indices((12, 20))
    inside = rows >= 2
    np.testing.assert_allclose(found[..., 0][inside], (2 * rows + columns)[inside], atol=1e-4)
    np.testing.assert_allclose(found[..., 1][inside], (rows - columns)[inside], atol=1e-4)


def test_only_classes_that_mean_the_same_are_mapped() -> None:
    names = [name for name, _ in cityscapes.CITYSCAPES]
    mapped = dict(zip(names, train_ids(), strict=True))
    assert len(mapped) == 19
    for name in ('road', 'sidewalk', 'building', 'car', 'truck', 'person', 'bicycle', 'pole'):
        assert CLASS_NAMES[mapped[name]] == name
    assert mapped['bus'] == mapped['train'] == CLASS_NAMES.index('other-vehicle')
    assert mapped['sky'] == 0
    assert mapped['rider'] == mapped['traffic light'] == IGNORE


def test_a_file_that_is_no_network_is_named(tmp_path: Path) -> None:
    pytest.importorskip('ai_edge_litert')
    (tmp_path / 'w.tflite').write_bytes(b'nothing')
    with pytest.raises(ConfigError, match=r'w\.tflite'):
        CityscapesTeacher(tmp_path / 'w.tflite')
    with pytest.raises(ConfigError, match='scale'):
        CityscapesTeacher(tmp_path / 'w.tflite', scale=0)


@pytest.fixture(scope='module')
def weights(shared_dir: Path) -> Path:
    pytest.importorskip('ai_edge_litert')
    found = sorted((shared_dir / 'data' / 'weights').glob('*cityscapes*.tflite'))
    if not found:
        pytest.skip('no Cityscapes network in the shared data')
    return found[0]


@pytest.fixture(scope='module')
def teacher(weights: Path) -> CityscapesTeacher:
    return CityscapesTeacher(weights, min_probability=0)


def test_logits_are_those_behind_the_class_map_of_the_network(
    teacher: CityscapesTeacher, weights: Path, shared_dir: Path
) -> None:
    from ai_edge_litert.interpreter import Interpreter

    sequence = KittiSequence(shared_dir / 'data/kitti_mini/sequences/00')
    tile = TilePlan.cover((376, 1241), 33, 16).cut(sequence.image('000000'), 128)[1]
    features, logits = teacher.network(tile)
    assert features.shape == (33, 33, 128) and logits.shape == (33, 33, 19)
    plain = Interpreter(str(weights), num_threads=1)
    plain.allocate_tensors()
    plain.set_tensor(plain.get_input_details()[0]['index'], tile[None])
    plain.invoke()
    classes = plain.get_tensor(plain.get_output_details()[0]['index'])[0]
    ours = interpolate(logits, (513, 513), (0.0, 0.0), (16.0, 16.0)).argmax(-1)
    assert (ours == classes).mean() > 0.95  # theirs interpolates in steps of 0.2


def share_right(masks: np.ndarray, sequence: KittiSequence, frame_id: str) -> float:
    """Return the share of the labelled lidar points in the image that lie in their own mask."""
    raw = sequence.point_labels(frame_id)
    truth = np.where(raw > 0, train_from_raw(raw), IGNORE)
    xyz = sequence.velodyne(frame_id)[:, :3]
    pixel, _, seen = project_points(xyz, sequence.camera_left, sequence.cam_from_velo)
    seen &= truth != IGNORE
    u, v = pixel[seen].astype(int).T
    return float(masks[truth[seen].astype(int) - 1, v, u].mean())


def test_real_streets_are_recognised_better_than_squeezed_into_a_square(
    teacher: CityscapesTeacher, shared_dir: Path
) -> None:
    tiled, squeezed = [], []
    for path in find_sequences(shared_dir / 'data/kitti_mini'):
        sequence = KittiSequence(path)
        output = teacher.look(sequence, '000001')
        height, width = output.image_size
        assert output.features.shape == (128, -(-height // 16), -(-width // 16))
        assert not output.masks[~teacher.info.knows].any()
        tiled.append(share_right(output.masks, sequence, '000001'))
        square = cv2.resize(sequence.image('000001'), (513, 513), interpolation=cv2.INTER_AREA)
        logits = teacher.network(square)[1]
        step = (height / 513 * 16, width / 513 * 16)
        classes = train_ids()[interpolate(logits, (height, width), (0.0, 0.0), step).argmax(-1)]
        squeezed.append(share_right(masks_of_classes(classes)[0], sequence, '000001'))
    assert np.mean(tiled) > np.mean(squeezed) + 0.05 > 0.6


def test_unsure_pixels_are_not_valid(
    teacher: CityscapesTeacher, weights: Path, shared_dir: Path
) -> None:
    sequence = KittiSequence(shared_dir / 'data/kitti_mini/sequences/00')
    sure = CityscapesTeacher(weights).look(sequence, '000000')
    every = teacher.look(sequence, '000000')
    assert 0.3 < sure.valid.mean() < 0.95 * every.valid.mean()
    assert not (sure.masks & ~every.masks).any()
