"""Our CUDA calls against NVIDIA's real bindings, which load without a GPU."""

import ast
import inspect

import pytest

from cigocc_ros.core.errors import EngineError
from cigocc_ros.runtime.tensorrt import cuda as cuda_api
from cigocc_ros.runtime.tensorrt.cuda import Cuda, CudaError


def test_every_name_we_use_is_there():
    api = pytest.importorskip('cuda.bindings.runtime', reason='pip install cuda-bindings')
    source = inspect.getsource(cuda_api)
    words = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    words |= {n.attr for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Attribute)}
    names = {word for word in words if isinstance(word, str) and word.isidentifier()}
    used = {name for name in names if name.startswith('cuda') and name != 'cuda_driver'}
    kinds = (api, api.cudaMemcpyKind, api.cudaStreamCaptureMode)
    missing = {name for name in used if not any(hasattr(kind, name) for kind in kinds)}
    assert len(used) > 25 and missing <= {'cuda_runtime'}


def test_without_gpu_the_error_has_code_and_words():
    pytest.importorskip('cuda.bindings.runtime', reason='pip install cuda-bindings')
    try:
        found = Cuda().gpu()
    except CudaError as error:
        assert 'cudaGetDeviceCount: ' in str(error)  # noqa: PT017  # with a GPU nothing is raised
    else:
        assert found.name


def test_missing_bindings_give_the_install_line(monkeypatch):
    import sys

    for name in cuda_api.BINDINGS:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match='pip install cuda-bindings'):
        Cuda()
