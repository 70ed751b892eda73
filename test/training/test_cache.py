"""Prepared frames hold what the files hold, at the sizes of the model."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections import Counter
from pathlib import Path

import fixtures_boxes
import numpy as np
import pytest

from cigocc_ros.commands.main import main
from cigocc_ros.core.arrays import read_array
from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import CLASS_NAMES, coarsen_labels
from cigocc_ros.core.projection import velo_from_pixel
from cigocc_ros.data import kitti_files, kitti_sequence
from cigocc_ros.data.image_files import read_semantic_image, write_semantic_image
from cigocc_ros.data.kitti_files import write_point_labels, write_velodyne
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.label_images import LabelImages
from cigocc_ros.training import cache
from cigocc_ros.training.cells import cell_depth, cell_masks
from cigocc_ros.training.preparation import compact_arrays, prepare_frames
from cigocc_ros.training.scene_dataset import SceneDataset, make_sample
from cigocc_ros.training.teacher.align import align
from cigocc_ros.training.teacher.folder import PROJECTION_FILE, TeacherCache, project
from cigocc_ros.training.views import FrameView


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('kitti')
    fixtures_boxes.write_kitti_tree(folder, seeds=(0, 1), size=(104, 320))
    return folder


@pytest.fixture(scope='module')
def prepared(root: Path, tiny: ModelConfig) -> list[cache.FrameRef]:
    frames = cache.find_frames(root, tiny)
    assert len(list(prepare_frames(frames, tiny, workers=2))) == 2
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
    assert list(prepare_frames(prepared, tiny)) == []


SOURCES = [
    'calib.txt',
    'image_2/000001.png',
    'image_2/000000.png',  # gives the camera its size
    'image_3/000001.png',
    'depth_2/000001.png',
    'masks_2/000001.png',
    'voxels/000001.label',
    'voxels/000001.invalid',
    'velodyne/000001.bin',
    'labels/000001.label',
    'depth_stereo/000001.png',
]


@pytest.fixture
def second(tmp_path: Path, tiny: ModelConfig) -> Path:
    """A prepared root with every kind of source but those that come later."""
    fixtures_boxes.write_kitti_tree(tmp_path, seeds=(0, 1), size=(52, 160))
    assert len(list(prepare_frames(cache.find_frames(tmp_path, tiny), tiny, workers=1))) == 2
    return tmp_path


def is_fresh(root: Path, tiny: ModelConfig) -> bool:
    """Say whether the second frame is still what it was prepared from."""
    return cache.find_frames(root, tiny)[1].is_prepared


@pytest.mark.parametrize('name', SOURCES)
@pytest.mark.parametrize('change', ['older', 'longer', 'replaced or added', 'removed'])
def test_a_change_of_any_source_is_noticed(
    second: Path, tiny: ModelConfig, name: str, change: str
) -> None:
    path = second / 'sequences/00' / name
    there = path.is_file()
    assert is_fresh(second, tiny)
    if change == 'older' and there:  # unpacked again, with the time stamp of its archive
        os.utime(path, (1_000_000_000, 1_000_000_000))
    elif change == 'longer' and there:
        status = path.stat()
        with path.open('ab') as file:
            file.write(b'\n')
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == 'replaced or added':
        content = path.read_bytes() if there else b''
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content)
    elif there and name not in ('calib.txt', 'image_2/000001.png', 'image_2/000000.png'):
        if name == 'voxels/000001.label':
            return  # then it is no frame
        path.unlink()
    else:
        return
    assert not is_fresh(second, tiny)


def test_what_changes_while_it_is_read_is_prepared_again(second: Path, tiny: ModelConfig) -> None:
    frame = cache.find_frames(second, tiny)[1]
    before = frame.fingerprint()
    os.utime(second / 'sequences/00/calib.txt', (2_000_000_000, 2_000_000_000))
    cache.store_frame(frame, cache.load_frame(frame), before)
    assert not frame.is_prepared
    assert [f.frame_id for f in prepare_frames([frame], tiny, workers=1)] == ['000001']
    assert frame.is_prepared


def test_a_teacher_that_comes_later_is_noticed(tiny: ModelConfig, tmp_path: Path) -> None:
    fixtures_boxes.write_kitti_tree(tmp_path / 'data', seeds=(0,), size=(52, 160))
    words = ['teacher', '--data', str(tmp_path / 'data'), '--teacher', 'exact']
    assert main([*words, '--out', str(tmp_path / 'said')]) == 0
    (frame,) = cache.find_frames(tmp_path / 'data', tiny, teacher=tmp_path / 'said')
    assert list(prepare_frames([frame], tiny)) and frame.is_prepared
    said = tmp_path / 'said/sequences/00/000000.npz'
    said.write_bytes(said.read_bytes())
    assert not frame.is_prepared


def test_a_moved_data_set_keeps_its_frames(second: Path, tiny: ModelConfig) -> None:
    moved = second.with_name(second.name + '-moved')
    second.rename(moved)
    assert all(frame.is_prepared for frame in cache.find_frames(moved, tiny))


def test_each_thing_is_read_once(
    second: Path, tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = second / 'sequences/00'
    for name in ('depth_2', 'masks_2'):  # then the scan gives depth and classes
        shutil.rmtree(folder / name)
    for index in (0, 1):
        scan = np.array([[20.0, 0, 0, 0.5], [30.0, 1, 0, 0.5]])
        for name in ('velodyne', 'labels'):
            (folder / name).mkdir(exist_ok=True)
        write_velodyne(folder / f'velodyne/{index:06d}.bin', scan)
        write_point_labels(folder / f'labels/{index:06d}.label', np.array([10, 70]))
    read: Counter[str] = Counter()
    for module, name in (
        (kitti_sequence, 'read_image'),
        (kitti_files, 'read_velodyne'),
        (kitti_files, 'read_point_labels'),
        (kitti_files, 'read_calib'),
    ):
        original = getattr(module, name)

        def counted(path, *rest, _original=original, **more):
            read[str(path)] += 1
            return _original(path, *rest, **more)

        monkeypatch.setattr(module, name, counted)
    frames = cache.find_frames(second, tiny)
    read.clear()
    assert len(list(prepare_frames(frames, tiny, workers=1))) == 2
    sizes = {str(folder / f'image_{n}/000000.png') for n in (2, 3)}  # read for the camera's size
    assert {path: n for path, n in read.items() if n > 1} == dict.fromkeys(sizes, 2)
    assert read[str(folder / 'calib.txt')] == 1


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
    sequence = KittiSequence(folder)
    view = FrameView(sequence, '000000', tiny.image_size)
    measured = compact_arrays(view, sequence.voxel_labels('000000'), tiny)['measured']
    # The nearer of two points on one pixel, 0.2 m closer to the camera than to the lidar.
    np.testing.assert_allclose(measured[measured > 0], 19.8, atol=0.02)


def test_cell_depth_is_the_lower_median_of_known_pixels() -> None:
    depth = np.zeros((4, 8), dtype=np.float32)
    depth[0, :4] = [9, 2, 40, 3]
    np.testing.assert_array_equal(cell_depth(depth), [[3, 0]])


def test_cell_masks_name_every_class_that_fills_an_eighth() -> None:
    classes = np.full((4, 8), 9, dtype=np.uint8)
    classes[0, :2] = 1
    classes[1, 0] = 2
    classes[:, 4:] = 255
    masks, valid = cell_masks(classes)
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
    view = FrameView(KittiSequence(folder), '000000', tiny.image_size)
    before = cell_masks(view.classes)
    write_semantic_image(path, np.where(np.arange(104)[:, None] < 52, classes, 255).astype('u1'))
    frames = cache.find_frames(tmp_path / 'data', tiny, teacher=teacher)
    arrays = cache.load_frame(next(prepare_frames(frames, tiny, workers=1)))
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
    view = FrameView(KittiSequence(folder), '000000', tiny.image_size, 'right')
    teacher = TeacherCache(tmp_path / 'teacher')
    voxels = np.zeros((256, 256, 32), dtype=np.uint8)
    arrays = compact_arrays(view, voxels, tiny, teacher)
    sample = make_sample(arrays, tiny, np.zeros(tiny.image_size, dtype=np.float32))
    assert sample.teacher_features is not None and np.isnan(sample.teacher_features).all()
    assert not arrays['mask_valid'].any()


def test_features_are_kept_on_the_grid_of_the_teacher(tiny: ModelConfig, tmp_path: Path) -> None:
    """A wide student makes its channels when it loads, a narrow one has them in the file."""
    fixtures_boxes.write_kitti_tree(tmp_path / 'data', seeds=(0,), size=(104, 320))
    words = ['teacher', '--data', str(tmp_path / 'data'), '--teacher', 'exact']
    assert main([*words, '--out', str(tmp_path / 'said')]) == 0
    prior = np.zeros(tiny.image_size, dtype=np.float32)
    for channels in (16, 48):  # the exact teacher has 20
        config = dataclasses.replace(tiny, semantic_channels=channels)
        frames = cache.find_frames(tmp_path / 'data', config, teacher=tmp_path / 'said')
        arrays = cache.load_frame(next(prepare_frames(frames, config, workers=1)))
        assert arrays['teacher_grid'].shape == (min(channels, 20), 26, 80)
        assert ('teacher_mixing' in arrays) == (channels == 48)
        view = FrameView(KittiSequence(frames[0].sequence), '000000', config.image_size)
        teacher = TeacherCache(tmp_path / 'said')
        output = teacher.load('00', '000000')
        aligned = align(output, teacher.info.knows, view.fit)
        rows = read_array(tmp_path / 'said' / PROJECTION_FILE)
        expected = project(aligned.features, rows, channels)
        found = make_sample(arrays, config, prior).teacher_features
        assert found is not None and found.shape == (channels, 12, 40)
        valid = aligned.features_valid
        np.testing.assert_allclose(found[:, valid], expected[:, valid], atol=2e-3)
        assert np.isnan(found[:, ~valid]).all() and valid.any()


def test_label_images_give_classes_from_outside_and_count_as_sources(
    root: Path, tiny: ModelConfig, tmp_path: Path
) -> None:
    labels = tmp_path / 'labels'
    names = {path.stem for path in root.glob('sequences/00/image_2/*')}
    for name in names:
        target = labels / 'sequences' / '00' / f'{name}.png'
        target.parent.mkdir(parents=True, exist_ok=True)
        write_semantic_image(target, np.full((20, 40), 13, np.uint8))  # a Cityscapes car
    semantics = LabelImages(labels, 'cityscapes')
    frames = cache.find_frames(root, tiny, tmp_path / 'cache', semantics=semantics)
    list(prepare_frames(frames, tiny, workers=1))
    prior = cache.load_frame(frames[0])['semantic_prior']
    assert prior.shape == tuple(size // 4 for size in tiny.image_size)
    assert set(np.unique(prior)) <= {0, CLASS_NAMES.index('car')} and prior.any()
    assert 'semantic_prior' not in cache.load_frame(
        prepared_one(cache.find_frames(root, tiny, tmp_path / 'cache'), tiny)
    )
    write_semantic_image(labels / 'sequences' / '00' / f'{frames[0].frame_id}.png', prior)
    assert not cache.find_frames(root, tiny, tmp_path / 'cache', semantics=semantics)[
        0
    ].is_prepared
    (labels / 'sequences' / '00' / f'{frames[0].frame_id}.png').unlink()
    with pytest.raises(DataFileError, match='no label image of frame'):
        cache.find_frames(root, tiny, tmp_path / 'cache', semantics=semantics)


def prepared_one(frames: list[cache.FrameRef], tiny: ModelConfig) -> cache.FrameRef:
    """Prepare and return the first of the frames."""
    return next(iter(prepare_frames(frames[:1], tiny, workers=1)))


def test_a_turned_volume_is_a_frame_of_its_own(
    shared_dir: Path, tiny: ModelConfig, tmp_path: Path
) -> None:
    """What lies under a measured pixel is the same class in the turned grid as in the other."""
    data = shared_dir / 'data' / 'kitti_mini'
    truth = tmp_path / 'truth'
    words = ['voxelize', str(data / 'sequences' / '00'), '--out', str(truth), '--partial']
    assert main([*words, '--every', '9', '--scans', '0', '--turned', '2', '--workers', '1']) == 0
    frames = cache.find_frames(data, tiny, tmp_path / 'cache', ['00'], truth)
    turned = cache.turned_frames(frames)
    assert len(turned) == 2 * len(frames)
    assert len({frame.cached for frame in [*frames, *turned]}) == 3 * len(frames)
    list(prepare_frames([*frames, *turned], tiny, workers=1))
    straight = classes_at_points(cache.load_frame(frames[0]))
    for frame in cache.turned_frames(frames[:1]):
        arrays = cache.load_frame(frame)
        seen = classes_at_points(arrays)
        both = (straight != 255) & (seen != 255) & (straight > 0) & (seen > 0)
        assert both.sum() > 50
        assert (straight == seen)[both].mean() > 0.6  # voxels of 1.6 m cut the street elsewhere
        assert not np.array_equal(arrays['pixel_from_velo'], expected_matrix(frames[0]))


def expected_matrix(frame: cache.FrameRef) -> np.ndarray:
    return cache.load_frame(frame)['pixel_from_velo']


def classes_at_points(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return the label of the voxel under every measured pixel, 255 where it leaves the grid."""
    rows, columns = np.indices(arrays['measured'].shape)
    depth = arrays['measured'].astype(float)
    matrix = velo_from_pixel(arrays['pixel_from_velo'])
    scaled = np.stack([columns * depth, rows * depth, depth], -1)
    points = scaled @ matrix[:, :3].T + matrix[:, 3]
    grid = SEMANTIC_KITTI_GRID.with_shape(arrays['labels'].shape)
    index, inside = grid.index_of(points)
    found = np.full(depth.shape, 255, np.uint8)
    inside &= depth > 0
    found[inside] = arrays['labels'][tuple(index[inside].T)]
    return found
