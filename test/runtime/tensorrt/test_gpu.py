"""The real thing, where a GPU and TensorRT are; skipped everywhere else."""

import time

import numpy as np
import pytest
from fixtures_engine import build, build_golden_model_dir, frame_inputs
from fixtures_tiny_model import expected_outputs

from cigocc_ros.core.installed import DEFAULT_MODEL, models_dir
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.runtime.engine import create_engine
from cigocc_ros.runtime.predictor import Predictor
from cigocc_ros.runtime.tensorrt.loading import why_not_tensorrt
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions

pytestmark = pytest.mark.gpu
TIMED_FRAMES = 50


@pytest.fixture(autouse=True)
def tensorrt_and_gpu():
    reason = why_not_tensorrt()
    if reason:
        pytest.skip(reason)


@pytest.mark.parametrize('cuda_graph', [True, False])
def test_the_handmade_network_answers_right(tmp_path, cuda_graph):
    model_dir = build_golden_model_dir(tmp_path / 'model')
    manifest = load_manifest(model_dir)
    build(model_dir)
    options = TensorRtOptions(build_missing=False, cuda_graph=cuda_graph)
    engine = create_engine('tensorrt', model_dir, manifest, tensorrt=options)
    try:
        for seed in range(5):
            arrays = frame_inputs(manifest, seed)
            expected = expected_outputs(arrays, manifest)
            for name, found in engine.run(arrays).items():
                assert (found == expected[name]).mean() > 0.999
    finally:
        engine.close()


def test_the_shipped_model_passes_its_self_check(tmp_path):
    model_dir = models_dir() / DEFAULT_MODEL
    options = TensorRtOptions(engine_dir=str(tmp_path), deadline_s=10.0)
    predictor = Predictor.from_model_dir(model_dir, 'tensorrt', tensorrt=options)
    try:
        predictor.warm_up()
        arrays, times_ms = predictor.golden.inputs, []
        for _ in range(TIMED_FRAMES):
            started = time.perf_counter()
            predictor.engine.run(arrays)
            times_ms.append(1e3 * (time.perf_counter() - started))
        print(f'{predictor.engine.name}: {np.median(times_ms):.2f} ms a frame')
    finally:
        predictor.close()
