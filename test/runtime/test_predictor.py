"""Predictor: frame in, occupancy out, with the answer computed by hand."""

import dataclasses
from contextlib import closing

import numpy as np
import pytest
from fixtures_tiny_model import expected_outputs

from cigocc_ros.core.errors import EngineError, ManifestError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.manifest import file_spec, load_manifest, write_manifest
from cigocc_ros.runtime.predictor import Predictor, blank_frame, find_model_dir
from cigocc_ros.runtime.preprocess import Preprocessor
from cigocc_ros.runtime.self_check import GOLDEN_FILE, Golden, save_golden


@pytest.fixture(scope='module')
def predictor(handmade_model):
    with closing(Predictor.from_model_dir(handmade_model, threads=1)) as opened:
        yield opened


def test_voxels_take_the_colour_they_project_to(predictor, frame):
    occupancy = predictor(frame)
    arrays = Preprocessor(predictor.manifest.image_size)(frame)
    expected = expected_outputs(arrays, predictor.manifest)
    assert (occupancy.labels == expected['labels'][0]).mean() > 0.999
    assert (occupancy.probability == expected['occupied_probability'][0]).mean() > 0.999
    assert len(np.unique(occupancy.labels)) >= 15


def test_stamp_frame_and_grid_are_inherited(predictor, frame):
    occupancy = predictor(frame)
    assert (occupancy.stamp_ns, occupancy.frame_id) == (1234567890, 'base_link')
    assert occupancy.grid == SEMANTIC_KITTI_GRID.with_shape((32, 32, 8))
    assert occupancy.occupied.any() and not occupancy.occupied.all()


def test_depth_prior_reaches_the_network(predictor, frame):
    wall = np.full(frame.image.shape[:2], 20.0, np.float32)
    occupancy = predictor(dataclasses.replace(frame, depth_m=wall))
    x_m = occupancy.grid.centers_m()[occupancy.occupied][:, 0]
    assert len(x_m) and (np.abs(x_m - 20.27) < 2.1).all()


def test_every_camera_runs_on_the_same_engine(predictor, frame):
    small = dataclasses.replace(
        frame, image=frame.image[:100, :200], camera=frame.camera.crop(0, 0, 200, 100)
    )
    assert predictor(small).occupied.sum() < predictor(frame).occupied.sum()


def test_timing_covers_the_steps(predictor, frame):
    predictor.warm_up()
    assert predictor.timing is None
    predictor(frame)
    timing = predictor.timing
    steps = (timing.preprocess_ms, timing.engine_ms, timing.postprocess_ms)
    assert min(steps) > 0 and timing.total_ms == pytest.approx(sum(steps))


def test_closed_predictor_says_so(handmade_model, frame):
    with closing(Predictor.from_model_dir(handmade_model, threads=1)) as opened:
        pass
    with pytest.raises(EngineError, match='after close'):
        opened(frame)


def test_shipped_model_is_found_by_name(handmade_model, monkeypatch):
    from cigocc_ros.runtime import predictor as module

    monkeypatch.setattr(module, 'models_dir', lambda: handmade_model.parent)
    assert find_model_dir('handmade') == handmade_model
    with pytest.raises(ManifestError, match=r"'hugo'.*\['handmade'\]"):
        find_model_dir('hugo')


def test_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(ManifestError, match='cigocc export'):
        Predictor.from_model_dir(tmp_path)


def test_manifest_knows_the_image_size(handmade_model):
    assert load_manifest(handmade_model).image_size == (48, 160)


def add_golden(model_dir, spoil=lambda outputs: None):
    manifest = load_manifest(model_dir)
    arrays = Preprocessor(manifest.image_size)(blank_frame(manifest.image_size))
    arrays['image'] = np.full_like(arrays['image'], 200)
    outputs = expected_outputs(arrays, manifest)
    spoil(outputs)
    save_golden(model_dir / GOLDEN_FILE, Golden(arrays, outputs))
    files = {**manifest.files, 'golden': file_spec(model_dir, GOLDEN_FILE)}
    write_manifest(model_dir, dataclasses.replace(manifest, files=files))


def test_warm_up_reproduces_the_stored_answers(model_dir, caplog):
    add_golden(model_dir)
    predictor = Predictor.from_model_dir(model_dir, threads=1)
    with caplog.at_level('INFO'):
        predictor.warm_up()
    assert 'self-check 100.00 %' in caplog.text and predictor.timing is None


def test_engine_that_computes_something_else_is_refused(model_dir):
    add_golden(model_dir, lambda outputs: outputs['labels'].fill(3))
    predictor = Predictor.from_model_dir(model_dir, threads=1)
    with pytest.raises(EngineError, match='self-check failed'):
        predictor.warm_up()


def test_golden_file_without_the_named_arrays_is_refused(model_dir):
    add_golden(model_dir)
    np.savez_compressed(model_dir / GOLDEN_FILE, image=np.zeros(3))
    manifest = load_manifest(model_dir)
    files = {**manifest.files, 'golden': file_spec(model_dir, GOLDEN_FILE)}
    write_manifest(model_dir, dataclasses.replace(manifest, files=files))
    with pytest.raises(ManifestError, match='no golden answers'):
        Predictor.from_model_dir(model_dir)
