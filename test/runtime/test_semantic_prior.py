"""Classes from outside: contract, cells by majority, frames, and models without the input."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures_tiny_model import TINY_CONFIG

from cigocc_ros.core.errors import FrameError, ManifestError
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.runtime.contract import check_manifest, input_specs, manifest_for
from cigocc_ros.runtime.predictor import blank_frame
from cigocc_ros.runtime.preprocess import Preprocessor, fit_camera, majority_of_cells
from cigocc_ros.runtime.random_frames import random_inputs

SIZE = (48, 160)


def frame_with(classes: np.ndarray | None) -> CameraFrame:
    return replace(blank_frame(SIZE), classes=classes)


def test_the_contract_accepts_models_with_and_without_the_input():
    for takes in (False, True):
        config = replace(TINY_CONFIG, semantic_prior=takes)
        manifest = manifest_for(config, 'm', license='x', files={}, training={})
        check_manifest(manifest)
        assert manifest.takes_semantic_prior == takes
        assert manifest.inputs == input_specs(SIZE, takes)
        arrays = Preprocessor.of(manifest)(frame_with(None))
        assert list(arrays) == [spec.name for spec in manifest.inputs]
    assert str(manifest.input('semantic_prior')) == 'semantic_prior uint8 (1, 12, 40)'


def test_an_input_of_another_size_is_refused():
    config = replace(TINY_CONFIG, semantic_prior=True)
    manifest = manifest_for(config, 'm', license='x', files={}, training={})
    wrong = replace(manifest.inputs[-1], shape=(1, 48, 160))
    with pytest.raises(ManifestError, match='semantic_prior'):
        check_manifest(replace(manifest, inputs=(*manifest.inputs[:-1], wrong)))


def test_a_frame_without_classes_gives_all_unknown():
    arrays = Preprocessor(SIZE, semantic_prior=True)(frame_with(None))
    prior = arrays['semantic_prior']
    assert prior.dtype == np.uint8 and prior.shape == (1, 12, 40) and not prior.any()


def test_classes_for_a_model_without_the_input_are_refused_with_a_reason():
    classes = np.full(SIZE, 9, dtype=np.uint8)
    with pytest.raises(FrameError, match='no input semantic_prior'):
        Preprocessor(SIZE)(frame_with(classes))


@pytest.mark.parametrize(
    ('classes', 'says'),
    [
        (np.zeros((4, 4), np.int64), 'uint8 image'),
        (np.zeros((4, 4, 1), np.uint8), 'uint8 image'),
        (np.zeros((0, 4), np.uint8), 'uint8 image'),
        (np.full((4, 4), 20, np.uint8), '0..19'),
        (np.full((4, 4), 255, np.uint8), '0..19'),
    ],
)
def test_what_is_no_image_of_train_ids_is_refused(classes, says):
    with pytest.raises(FrameError, match=says):
        frame_with(classes)


def test_a_cell_takes_the_class_of_most_of_its_pixels():
    classes = np.zeros((8, 12), dtype=np.uint8)
    cells = [
        ([9] * 9 + [13] * 7, 9),
        ([13] * 6 + [15] * 10, 15),
        ([9] * 8 + [0] * 8, 9),  # half of it is known
        ([9] * 7 + [0] * 9, 0),  # less than half
        ([19] * 8 + [1] * 8, 1),  # the lowest id wins ties
        ([0] * 16, 0),
    ]
    for index, (pixels, _) in enumerate(cells):
        row, column = divmod(index, 3)
        block = np.array(pixels, dtype=np.uint8).reshape(4, 4)
        classes[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = block
    assert majority_of_cells(classes).ravel().tolist() == [wanted for _, wanted in cells]


@pytest.mark.parametrize('size', [(370, 1226), (185, 613), (512, 2048), (37, 123)])
def test_images_of_any_size_show_the_same_view(size):
    """Classes that change with the column and the row, sampled where the camera looks."""
    camera = blank_frame((370, 1226)).camera
    fit = fit_camera(camera, (96, 320))
    height, width = size
    row, column = np.mgrid[0:height, 0:width]
    stripes = 1 + (column * 8 // width) + 8 * (row * 2 // height)
    cells = fit.apply_classes(stripes.astype(np.uint8))
    assert cells.shape == (24, 80)
    kept_height, kept_width = fit.kept_size
    scaled_height, scaled_width = fit.scaled_size
    u, v = (4 * np.arange(n) + 2 for n in (80, 24))
    wanted_column = u * 8 // scaled_width
    wanted_row = (v + fit.crop_top) * 2 // scaled_height
    wanted = 1 + wanted_column[None] + 8 * wanted_row[:, None]
    wanted[v >= kept_height] = 0
    wanted[:, u >= kept_width] = 0
    same = cells == wanted
    assert same.mean() > 0.9  # all but the cells that a border of stripes runs through
    assert (cells[v >= kept_height] == 0).all()


def test_random_frames_have_classes_where_the_model_takes_them():
    without = random_inputs(SIZE, 3, seed=4)
    given = random_inputs(SIZE, 3, seed=4, semantic_prior=True)
    assert [arrays['semantic_prior'].any() for arrays in given] == [True, True, False]
    for plain, arrays in zip(without, given, strict=True):
        assert 'semantic_prior' not in plain
        assert all(np.array_equal(plain[name], arrays[name]) for name in plain)
