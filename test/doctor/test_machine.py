"""Checks of the machine, each where it passes and where it does not."""

import sys
from types import ModuleType

import pytest
from fixtures_engine import build, build_golden_model_dir
from fixtures_onnxruntime import ABSENT, FakeOnnxRuntime
from fixtures_tiny_model import build_tiny_model_dir

from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.doctor.finding import FAIL, OK, WARN
from cigocc_ros.doctor.gpu import (
    Accelerator,
    check_gpu,
    check_gpu_without_tensorrt,
    check_tensorrt,
)
from cigocc_ros.doctor.machine import (
    check_backend,
    check_disk,
    check_opencv,
    check_python,
    check_writable,
)
from cigocc_ros.doctor.models import check_engine_cache, check_model
from cigocc_ros.runtime import onnxruntime_engine
from cigocc_ros.runtime.tensorrt import driver
from cigocc_ros.runtime.tensorrt.gpus import find_gpu
from cigocc_ros.runtime.tensorrt.library import find_tensorrt
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions


@pytest.fixture
def without(monkeypatch):
    """Return a function that makes a library unimportable."""
    return lambda name: monkeypatch.setitem(sys.modules, name, None)


def test_python():
    assert check_python().status == OK
    old = check_python((3, 8, 10))
    assert old.status == FAIL and '3.10 to 3.14' in old.expected
    assert check_python((3, 14, 0)).status == check_python((3, 10, 12)).status == OK
    assert check_python((3, 15, 0)).status == FAIL


def test_opencv(without):
    assert check_opencv().status == OK
    without('cv2')
    assert check_opencv().status == WARN


def test_backend(without):
    assert check_backend('auto').status == check_backend('onnxruntime').status == OK
    assert check_backend('tensorrt') is None
    without('onnxruntime')
    assert check_backend('auto').status == WARN
    missing = check_backend('onnxruntime')
    assert missing.status == FAIL and "'.[runtime]'" in missing.fix


def test_a_gpu_that_is_meant_and_one_that_is_none(fake_gpu, monkeypatch):
    import fake_cuda

    monkeypatch.setenv('FAKE_GPUS', f'{fake_cuda.AGX_ORIN};{fake_cuda.ORIN_NANO}')
    assert check_gpu('auto', device='1')[1].ordinal == 1
    finding, gpu = check_gpu('auto', device='2')
    assert finding.status == FAIL and gpu is None and 'cuda:1 GPU-' in finding.found
    finding, gpu = check_gpu('tensorrt', device='cpu')
    assert finding.status == OK and gpu is None


def test_no_gpu_is_a_failure_for_who_asked_for_one():
    assert check_gpu('auto')[0].status == WARN
    assert check_gpu('auto', device='cuda')[0].status == FAIL


def test_a_gpu_without_tensorrt_is_used_by_onnxruntime(fake_driver, monkeypatch):
    runtime = FakeOnnxRuntime()
    monkeypatch.setattr(onnxruntime_engine, '_import_onnxruntime', lambda: runtime)
    assert check_gpu_without_tensorrt('auto').status == OK
    runtime.mode = ABSENT
    finding = check_gpu_without_tensorrt('auto')
    assert finding.status == WARN and 'onnxruntime-gpu' in finding.fix


def test_a_gpu(fake_gpu):
    finding, gpu = check_gpu('tensorrt')
    assert finding.status == OK and gpu.name in finding.found


def test_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(driver, 'LIBRARY', 'libcuda-that-is-not-there.so.1')
    finding, gpu = check_gpu('auto', tmp_path / 'no driver')
    assert gpu is None and finding.status == WARN and 'onnxruntime' in finding.fix
    assert check_gpu('tensorrt', tmp_path / 'no driver')[0].status == FAIL
    (tmp_path / 'version').touch()
    assert 'nvidia-smi' in check_gpu('auto', tmp_path / 'version')[0].fix


def test_tensorrt(fake_gpu, monkeypatch):
    finding, library = check_tensorrt('auto')
    assert finding.status == OK and 'plugins loaded' in finding.found and library is not None
    monkeypatch.setattr(fake_gpu.trt, 'init_libnvinfer_plugins', lambda *_: False)
    finding, library = check_tensorrt('tensorrt')
    assert finding.status == FAIL and 'libnvinfer' in finding.fix and library is None
    monkeypatch.setattr(fake_gpu.trt, '__version__', '8.6.1')
    finding, library = check_tensorrt('auto')
    assert finding.status == WARN and '8.6.1' in finding.found and '10.3' in finding.expected


def test_a_library_that_is_not_tensorrt(without, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorrt', ModuleType('tensorrt'))  # PyPI's stub has nothing
    without('tensorrt_rtx')
    assert check_tensorrt('auto')[0].status == WARN


def test_model_files(tmp_path):
    good, loaded = check_model(str(build_golden_model_dir(tmp_path / 'good')))
    assert good.status == OK and loaded is not None
    assert check_model(str(build_tiny_model_dir(tmp_path / 'no answers')))[0].status == WARN
    with (tmp_path / 'good' / 'model.onnx').open('r+b') as stream:
        stream.write(b'x')
    bad, loaded = check_model(str(tmp_path / 'good'))
    assert bad.status == FAIL and 'sha256' in bad.found and loaded is None
    assert check_model('nowhere')[0].status == FAIL


def test_engine_cache(fake_gpu, tmp_path):
    folder = build_golden_model_dir(tmp_path / 'model')
    manifest, here = load_manifest(folder), Accelerator(find_tensorrt(), find_gpu())

    def check(**options):
        return check_engine_cache(folder, manifest, TensorRtOptions(**options), here)

    missing = check()
    assert missing.status == WARN and missing.fix.startswith('cigocc build-engine')
    build(folder)
    assert check().status == OK
    stale = check(workspace_mb=512)
    assert stale.status == WARN and 'workspace mb' in stale.found
    engine = next(folder.glob('*.engine'))
    engine.write_bytes(b'?' + engine.read_bytes()[1:])
    damaged = check()
    assert damaged.status == FAIL and 'damaged' in damaged.found


def test_an_engine_cache_without_tensorrt_is_not_needed(tmp_path):
    folder = build_golden_model_dir(tmp_path / 'model')
    finding = check_engine_cache(
        folder, load_manifest(folder), TensorRtOptions(), Accelerator(None, None)
    )
    assert finding.status == OK and 'TensorRT does not run here' in finding.found


def test_disk(tmp_path):
    missing = tmp_path / 'not' / 'there'
    assert check_disk(missing, 10**12).status == OK
    assert check_disk(missing, 10**9).status == WARN
    full = check_disk(missing, 10**6)
    assert full.status == FAIL and str(tmp_path) in full.found


def test_engines_need_a_folder_that_can_be_written(tmp_path, monkeypatch):
    assert check_writable(tmp_path / 'new').status == OK
    monkeypatch.setattr('os.access', lambda *_: False)  # root may write anywhere
    assert check_writable(tmp_path).status == WARN


def test_an_opencv_of_another_numpy_is_told_from_one_that_is_missing(monkeypatch):
    """`apt install python3-opencv` does not help where numpy 2 of pip hides apt's numpy."""
    error = ImportError('numpy.core.multiarray failed to import')
    monkeypatch.setattr('cigocc_ros.core.opencv._broken', error)
    finding = check_opencv()
    assert finding.status == WARN and 'built for another numpy' in finding.found
    assert "pip install 'numpy<2'" in finding.fix and 'apt install' not in finding.fix
