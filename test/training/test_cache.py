"""Prepared frames hold what the files hold, at the sizes of the model."""

from __future__ import annotations

import os
from pathlib import Path

import fixtures_boxes
import numpy as np
import pytest

from cigocc_ros.commands.main import main
from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.labels import coarsen_labels
from cigocc_ros.data.image_files import read_semantic_image, write_semantic_image
from cigocc_ros.data.kitti_files import write_velodyne
from cigocc_ros.runtime.preprocess import fit_camera
from cigocc_ros.training import cache
from cigocc_ros.training.scene_dataset import SceneDataset, make_sample
from cigocc_ros.training.teacher.folder import TeacherCache
from cigocc_ros.training.views import View


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('kitti')
    fixtures_boxes.write_kitti_tree(folder, seeds=(0, 1), size=(104, 320))
    return folder


@pytest.fixture(scope='module')
def prepared(root: Path, tiny: ModelConfig) -> list[cache.FrameRef]:
    frames = cache.find_frames(root, tiny)
    assert len(list(cache.prepare_frames(frames, tiny, workers=2))) == 2
    return frames


def test_labels_are_coarsened_from_the_files(
    prepared: list[cache.FrameRef], tiny: ModelConfig
) -> None:
    labels = fixtures_boxes.voxelise(fixtures_boxes.street(1))
    labels[:, :, :1] = 255
    arrays = cache.load_frame(prepared[1])
    np.testing.assert_array_equal(arrays['labels'], coarsen_labels(labels, (8, 8, 4)))
    np.testing.assert_array_equal(arrays['query_labels'], coarsen_labels(labels, (16, 16, 8)))


def test_geometry_follows_the_fitted_image(
    prepared: list[cache.FrameRef], tiny: ModelConfig
) -> None:
    """The measured depth, lifted with the stored matrix, lies on the ground plane."""
    sample = SceneDataset(prepared, tiny, prior='depth')[0]
    assert sample.image.shape == (*tiny.image_size, 3)
    bottom = sample.depth_prior.shape[0] - 2
    u = np.arange(60, 100)
    d = sample.depth_prior[bottom, u]
    points = np.stack([u * d, bottom * d, d], 1) @ sample.velo_from_pixel[:, :3].T
    z = points[:, 2] + sample.velo_from_pixel[2, 3]
    np.testing.assert_allclose(z, fixtures_boxes.GROUND_Z_M, atol=0.1)


def test_stereo_prior_agrees_with_measured_depth(prepared: list[cache.FrameRef]) -> None:
    arrays = cache.load_frame(prepared[0])
    both = (arrays['stereo'] > 0) & (arrays['measured'] > 0)
    assert both.mean() > 0.2
    ratio = arrays['stereo'][both].astype(float) / arrays['measured'][both]
    assert np.median(np.abs(ratio - 1)) < 0.1


def test_prepared_frames_are_not_prepared_again(
    prepared: list[cache.FrameRef], tiny: ModelConfig
) -> None:
    assert list(cache.prepare_frames(prepared, tiny)) == []


def test_frames_are_prepared_again_when_their_labels_change(
    prepared: list[cache.FrameRef], tiny: ModelConfig
) -> None:
    labels = prepared[0].sequence / 'voxels' / '000000.label'
    later = prepared[0].cached.stat().st_mtime + 10
    os.utime(labels, (later, later))
    assert [frame.is_prepared for frame in prepared] == [False, True]
    os.utime(labels, (later - 60, later - 60))


def test_data_sets_do_not_share_a_cache_folder(tiny: ModelConfig, tmp_path: Path) -> None:
    cached = []
    for name in ('train', 'val'):
        fixtures_boxes.write_kitti_tree(tmp_path / name, seeds=(0,), size=(52, 160))
        cached.append(cache.find_frames(tmp_path / name, tiny, tmp_path / 'cache')[0].cached)
    assert cached[0] != cached[1]


def test_lidar_stands_in_for_a_missing_depth_image(tiny: ModelConfig, tmp_path: Path) -> None:
    folder = fixtures_boxes.write_kitti_tree(tmp_path, seeds=(0,), size=(104, 320))
    (folder / 'depth_2' / '000000.png').unlink()
    (folder / 'velodyne').mkdir()
    scan = np.array([[20.0, 0, 0, 0.5], [30.0, 0, 0, 0.5], [-20.0, 0, 0, 0.5]])
    write_velodyne(folder / 'velodyne' / '000000.bin', scan)
    sequence = cache.KittiSequence(folder)
    view = View(sequence, '000000')
    measured = cache.compact_arrays(view, sequence.voxel_labels('000000'), tiny)['measured']
    # The nearer of two points on one pixel, 0.2 m closer to the camera than to the lidar.
    np.testing.assert_allclose(measured[measured > 0], 19.8, atol=0.02)


def test_cell_depth_is_the_lower_median_of_known_pixels() -> None:
    depth = np.zeros((4, 8), dtype=np.float32)
    depth[0, :4] = [9, 2, 40, 3]
    np.testing.assert_array_equal(cache.cell_depth(depth), [[3, 0]])


def test_cell_masks_name_every_class_that_fills_an_eighth() -> None:
    classes = np.full((4, 8), 9, dtype=np.uint8)
    classes[0, :2] = 1
    classes[1, 0] = 2
    classes[:, 4:] = 255
    masks, valid = cache.cell_masks(classes)
    assert valid.all(0).tolist() == valid.any(0).tolist() == [[True, False]]
    assert np.flatnonzero(masks[:, 0, 0]).tolist() == [0, 8]
    assert not masks[:, 0, 1].any()


def test_folder_without_labels_says_what_is_expected(tiny: ModelConfig, tmp_path: Path) -> None:
    folder = fixtures_boxes.write_kitti_tree(tmp_path, seeds=(0,), size=(52, 160))
    (folder / 'voxels' / '000000.label').unlink()
    with pytest.raises(DataFileError, match=r'sequences/\*/voxels/\*.label'):
        cache.find_frames(tmp_path, tiny)


def test_damaged_cache_file_is_named(tiny: ModelConfig, tmp_path: Path) -> None:
    ref = cache.FrameRef(tmp_path, '000000', tmp_path / 'broken.npz')
    ref.cached.write_bytes(b'not an archive')
    with pytest.raises(DataFileError, match='broken.npz'):
        cache.load_frame(ref)


def test_a_teacher_adds_features_and_fills_in_masks(tiny: ModelConfig, tmp_path: Path) -> None:
    """The data keeps the top half of its classes; the teacher has seen all of them."""
    folder = fixtures_boxes.write_kitti_tree(tmp_path / 'data', seeds=(0,), size=(104, 320))
    teacher = tmp_path / 'teacher'
    options = ['--teacher', 'exact', '--out', str(teacher)]
    assert main(['teacher', '--data', str(tmp_path / 'data'), *options]) == 0
    path = folder / 'masks_2' / '000000.png'
    classes = read_semantic_image(path)
    view = View(cache.KittiSequence(folder), '000000')
    before = cache.cell_masks(view.classes(fit_camera(view.camera, tiny.image_size)))
    write_semantic_image(path, np.where(np.arange(104)[:, None] < 52, classes, 255).astype('u1'))
    frames = cache.find_frames(tmp_path / 'data', tiny, teacher=teacher)
    arrays = cache.load_frame(next(cache.prepare_frames(frames, tiny, workers=1)))
    sample = make_sample(arrays, tiny, np.zeros(tiny.image_size, dtype=np.float32))
    assert sample.teacher_features is not None
    assert sample.teacher_features.shape == (tiny.semantic_channels, 12, 40)
    assert np.isfinite(sample.teacher_features).mean() > 0.9
    seen = np.s_[:, 1:11]  # cells at the border average over padding
    np.testing.assert_array_equal(sample.mask_valid[seen], before[1][seen])
    assert (sample.masks[seen] == before[0][seen]).mean() > 0.99


def test_a_teacher_says_nothing_of_right_images(tiny: ModelConfig, tmp_path: Path) -> None:
    folder = fixtures_boxes.write_kitti_tree(tmp_path / 'data', seeds=(0,), size=(104, 320))
    options = ['--teacher', 'exact', '--out', str(tmp_path / 'teacher')]
    assert main(['teacher', '--data', str(tmp_path / 'data'), *options]) == 0
    (folder / 'velodyne').mkdir()
    write_velodyne(folder / 'velodyne/000000.bin', np.array([[20.0, 0, 0, 0.5]]))
    view = View(cache.KittiSequence(folder), '000000', 'right')
    teacher = TeacherCache(tmp_path / 'teacher')
    voxels = np.zeros((256, 256, 32), dtype=np.uint8)
    arrays = cache.compact_arrays(view, voxels, tiny, teacher)
    assert np.isnan(arrays['teacher_features']).all()
    assert not arrays['mask_valid'].any()
