"""Sheets and legends: everything named is there, nothing else."""

import numpy as np
import pytest

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import CLASS_NAMES, IGNORE, PALETTE_RGB
from cigocc_ros.render.legend import draw_legend, legend_entries
from cigocc_ros.render.sheet import VoxelPanel, draw_sheet

GRID = SEMANTIC_KITTI_GRID.with_shape((32, 32, 8))


def some_labels() -> np.ndarray:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[:, 12:20, 1] = CLASS_NAMES.index('road')
    labels[10:12, 13:14, 2] = CLASS_NAMES.index('car')
    labels[0, 0, :2] = IGNORE
    return labels


def test_the_legend_names_the_classes_present_with_their_counts():
    entries = legend_entries([some_labels()])
    assert [(entry.name, entry.numbers) for entry in entries] == [('road', '256'), ('car', '2')]


def test_two_maps_share_one_legend():
    other = np.zeros(GRID.shape, np.uint8)
    other[0, 0, 0] = CLASS_NAMES.index('pole')
    entries = legend_entries([some_labels(), other])
    assert [entry.numbers for entry in entries] == ['256 / 0', '2 / 0', '0 / 1']


@pytest.mark.parametrize('width', [150, 400, 1280])
def test_every_swatch_is_on_the_strip(width):
    labels = np.arange(20, dtype=np.uint8)
    strip = np.asarray(draw_legend(legend_entries([labels]), width))
    colours = {tuple(rgb) for rgb in strip.reshape(-1, 3).tolist()}
    assert colours >= {tuple(rgb) for rgb in PALETTE_RGB[1:].tolist()}


def test_a_sheet_holds_the_image_and_the_views():
    image = np.full((50, 160, 3), (10, 200, 90), np.uint8)
    panels = [
        VoxelPanel('prediction', some_labels(), GRID),
        VoxelPanel('truth', some_labels(), GRID),
    ]
    sheet = draw_sheet('frame 7', panels, image, details='model tiny', size=(640, 480))
    assert sheet.shape == (480, 640, 3)
    is_image = (sheet == image[0, 0]).all(-1)
    assert is_image.sum() > 50_000
    magenta = (sheet[..., 0] > 150) & (sheet[..., 1] < 40) & (sheet[..., 2] > 150)
    left, right = magenta[:, :320].sum(), magenta[:, 320:].sum()
    assert left > 500 and right > 500


def test_the_caption_states_grid_and_voxel_size():
    summary = VoxelPanel('voxels', some_labels(), GRID).summary
    assert summary == '258 occupied voxels of 1.6 x 1.6 x 0.8 m in a grid of 32 x 32 x 8'


def test_an_empty_map_is_a_picture_too():
    labels = np.zeros(GRID.shape, np.uint8)
    assert draw_sheet('nothing', [VoxelPanel('voxels', labels, GRID)], size=(320, 320)).any()


def test_too_small_a_sheet_is_refused():
    with pytest.raises(ConfigError, match='larger'):
        draw_sheet('x', [VoxelPanel('voxels', some_labels(), GRID)], size=(100, 100))
