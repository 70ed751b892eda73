"""The kernels that TensorRT-RTX compiles at start: kept, read again, never trusted blindly."""

import sys

import pytest
from fixtures_engine import build, build_golden_model_dir, frame_inputs
from fixtures_tiny_model import expected_outputs

from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.runtime.engine import create_engine


@pytest.fixture
def model_dir(tmp_path, fake_gpu, monkeypatch):
    """Return a model whose engine was built with the fake as TensorRT-RTX."""
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    monkeypatch.setitem(sys.modules, 'tensorrt_rtx', fake_gpu.trt)
    monkeypatch.setattr(fake_gpu.trt, '__version__', '1.7.1')
    folder = build_golden_model_dir(tmp_path / 'model')
    build(folder)
    return folder


def start(model_dir):
    """Open the engine as the node does, and close it."""
    manifest = load_manifest(model_dir)
    engine = create_engine('tensorrt', model_dir, manifest)
    arrays = frame_inputs(manifest)
    found, expected = engine.run(arrays), expected_outputs(arrays, manifest)
    assert all((found[name] == expected[name]).all() for name in expected)
    engine.close()
    return engine.name


def test_kernels_are_compiled_once(model_dir, fake_gpu):
    assert start(model_dir) == 'tensorrt_rtx 1.7.1 fp32 on Fake GPU'
    (path,) = model_dir.glob('*-fake-gpu-8.7-16-12.6.engine.kernels')
    assert path.read_bytes() == fake_gpu.trt.KERNELS and not fake_gpu.trt.loaded_kernels
    written = path.stat().st_mtime_ns
    start(model_dir)
    assert fake_gpu.trt.loaded_kernels == [fake_gpu.trt.KERNELS]
    assert path.stat().st_mtime_ns == written


def test_kernels_of_another_release_are_replaced(model_dir, fake_gpu, caplog):
    start(model_dir)
    (path,) = model_dir.glob('*.engine.kernels')
    path.write_bytes(b'old')
    start(model_dir)
    assert 'compiled anew' in caplog.text
    assert path.read_bytes() == fake_gpu.trt.KERNELS


def test_kernels_that_everybody_can_write_are_not_loaded(model_dir, fake_gpu, caplog):
    start(model_dir)
    (path,) = model_dir.glob('*.engine.kernels')
    path.chmod(0o666)
    start(model_dir)
    assert 'not used' in caplog.text and not fake_gpu.trt.loaded_kernels
    assert path.stat().st_mode & 0o777 != 0o666  # a new file took its place
