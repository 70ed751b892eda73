"""The part of TensorRT 10.3 to 11 that the package uses; its engines run on ONNX Runtime.

FAKE_TENSORRT_VERSION chooses the release, and with it how the parser reads functions. A plan is a
header and the ONNX file, so that what comes out of the whole chain can be compared. Environment
variables make it fail, for it also runs in builder processes: FAKE_TENSORRT_STEP_S and
FAKE_TENSORRT_FAIL=parse|memory|crash|contract.
"""

import ctypes
import enum
import json
import os
import time
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
from fake_cuda import driver

from . import _parser

__version__ = os.environ.get('FAKE_TENSORRT_VERSION', '10.13.2')
MAGIC = b'fake plan\n'
STEPS = 4
RTX_PARSER = (10, 16)
"""Age of the parser in TensorRT-RTX 1.4 and 1.7: both have ADJUST_FOR_DLA, which came with it."""
KERNELS = b'kernels of this release'
built: list['BuilderConfig'] = []
"""Configurations that were built with."""
plugins_known = False
registry: set[tuple[str, str, str]] = set()
"""Plugin creators: name, version, namespace."""
loaded_kernels: list[bytes] = []
refuse_capture = False
"""Whether what executes spoils the recording of a graph."""
stream_capturable: bool | None = None
"""What RTX's contexts say of themselves; None where contexts have no such question."""
CONTEXT_BYTES = 1 << 20
"""Device memory of a context."""
wrong_by = 0
"""How much every label is off: what a silent miscompile looks like."""


class ILogger:
    class Severity(enum.IntEnum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class TensorIOMode(enum.IntEnum):
    NONE, INPUT, OUTPUT = range(3)


class DataType(enum.IntEnum):
    """In the order of NvInferRuntimeBase.h."""

    FLOAT, HALF, INT8, INT32, BOOL, UINT8, FP8, BF16, INT64, INT4, FP4, E8M0 = range(12)


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0


class BuilderFlag(enum.IntEnum):
    TF32 = 7


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH, STRONGLY_TYPED = range(2)


class OnnxParserFlag(enum.IntEnum):
    """ENABLE_PLUGIN_OVERRIDE is of 10.15."""

    NATIVE_INSTANCENORM = 0
    ENABLE_PLUGIN_OVERRIDE = 3


_TYPES = {
    onnx.TensorProto.UINT8: DataType.UINT8,
    onnx.TensorProto.FLOAT: DataType.FLOAT,
    onnx.TensorProto.FLOAT16: DataType.HALF,
    onnx.TensorProto.BFLOAT16: DataType.BF16,
    onnx.TensorProto.INT8: DataType.INT8,
    onnx.TensorProto.INT32: DataType.INT32,
    onnx.TensorProto.INT64: DataType.INT64,
    onnx.TensorProto.BOOL: DataType.BOOL,
}


class LayerType(enum.IntEnum):
    CONVOLUTION, GRID_SAMPLE, ELEMENTWISE, SHAPE, CONSTANT, CAST, PLUGIN_V2, PLUGIN_V3 = range(8)


_NUMPY = {
    DataType.FLOAT: np.float32,
    DataType.HALF: np.float16,
    DataType.INT8: np.int8,
    DataType.INT32: np.int32,
    DataType.INT64: np.int64,
    DataType.BOOL: np.bool_,
    DataType.UINT8: np.uint8,
}


class _Layer:
    def __init__(self, kind: LayerType) -> None:
        self.type = kind


def init_libnvinfer_plugins(logger: Any, namespace: str) -> bool:
    """Register the stock plugins; of TensorRT-RTX it succeeds and registers none."""
    global plugins_known
    plugins_known = True
    if _release()[0] >= 10:
        registry.update(_parser.STOCK_PLUGINS)
    return True


def get_plugin_registry() -> Any:
    """Of all attributes, those by which a creator is found."""
    creators = [
        SimpleNamespace(name=name, plugin_version=version, plugin_namespace=namespace)
        for name, version, namespace in sorted(registry)
    ]
    return SimpleNamespace(all_creators=creators)


def _release() -> tuple[int, int]:
    major, minor = (int(number) for number in __version__.split('.')[:2])
    return major, minor


class _Tensor:
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        kind = value.type.tensor_type
        self.name, self.dtype = value.name, _TYPES[kind.elem_type]
        self.shape = tuple(dim.dim_value for dim in kind.shape.dim)


class Network:
    def __init__(self, logger: Any) -> None:
        self.logger, self.content = logger, b''
        self.layers: list[str] = []
        self.misbound: list[str] = []
        self.inputs: list[_Tensor] = []
        self.outputs: list[_Tensor] = []

    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))
    num_layers = property(lambda self: len(self.layers))

    def get_input(self, index: int) -> _Tensor:
        return self.inputs[index]

    def get_layer(self, index: int) -> Any:
        return _Layer(LayerType[self.layers[index]])

    def get_output(self, index: int) -> _Tensor:
        return self.outputs[index]


class _ParserError:
    def __init__(self, text: str, name: str = 'node_NonZero_7', kind: str = 'NonZero') -> None:
        self.text, self.name, self.kind = text, name, kind

    def desc(self) -> str:
        return self.text

    def node_name(self) -> str:
        return self.name

    def node_operator(self) -> str:
        return self.kind


class OnnxParser:
    def __init__(self, network: Network, logger: Any) -> None:
        self.network, self.logger, self.errors = network, logger, []
        self.flags = 0

    num_errors = property(lambda self: len(self.errors))

    def get_error(self, index: int) -> _ParserError:
        return self.errors[index]

    def parse(self, content: bytes) -> bool:
        if os.environ.get('FAKE_TENSORRT_FAIL') == 'parse':
            self.errors.append(_ParserError('no importer registered for op: NonZero'))
            return False
        model = onnx.load_from_string(content)
        graph, release = model.graph, _release()
        reading = _parser.Reading(
            release if release[0] >= 10 else RTX_PARSER,
            registry,
            lambda severity, text: self.logger.log(ILogger.Severity[severity], text),
            override=bool(self.flags >> OnnxParserFlag.ENABLE_PLUGIN_OVERRIDE & 1),
        )
        try:
            self.network.layers = reading.layers(model)
        except _parser.ParseFailure as failure:
            self.errors.append(_ParserError(*failure.args))
            return False
        self.network.content, self.network.misbound = content, reading.misbound
        self.network.inputs = [_Tensor(value) for value in graph.input]
        self.network.outputs = [_Tensor(value) for value in graph.output]
        return True


class IProgressMonitor:
    pass


class IProfiler:
    pass


class ProfilingVerbosity(enum.IntEnum):
    LAYER_NAMES_ONLY, DETAILED, NONE = range(3)


class LayerInformationFormat(enum.IntEnum):
    ONELINE, JSON = range(2)


class EngineInspector:
    """Layers as TensorRT 10 writes them: names alone unless the build was detailed."""

    execution_context: Any = None

    def __init__(self, engine: 'Engine') -> None:
        self.engine = engine

    def get_engine_information(self, form: Any) -> str:
        assert form == LayerInformationFormat.JSON and self.execution_context is not None
        layers: list[Any] = list(LAYERS)
        if self.engine.verbosity == ProfilingVerbosity.DETAILED:
            layers = [_layer_information(name) for name in LAYERS]
        return json.dumps({'Layers': layers, 'Bindings': list(self.engine.tensors)})


LAYERS = {
    'Reformatting CopyNode for Input Tensor 0 to stem': ('Reformat', 'Half', 0.25),
    'stem + relu [Convolution]': ('CaskConvolution', 'Channel major FP16 format where ...', 1.5),
    'geometry': ('kgen', 'Row major linear FP32 format', 0.5),
    'labels': ('kgen', 'UInt8', 0.0),
}
"""Layer of every fake engine -> kind, Format/Datatype, milliseconds."""


def _layer_information(name: str) -> dict[str, Any]:
    kind, form, _ = LAYERS[name]
    ends = [{'Name': 'a', 'Location': 'Device', 'Dimensions': [1], 'Format/Datatype': form}]
    facts = {'Name': name, 'LayerType': kind, 'Inputs': ends, 'Outputs': ends}
    return {**facts, 'TacticName': f'tactic of {kind}', 'StreamId': 0}


class _TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content or f'timings of {__version__}'.encode()

    def serialize(self) -> bytes:
        return self.content


class BuilderConfig:
    def __init__(self) -> None:
        self.pools: dict[Any, int] = {}
        self.flags = {BuilderFlag.TF32}
        self.builder_optimization_level = 3
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.progress_monitor: Any = None
        self.timing_cache: Any = None
        self.cache_given = b''

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self.pools[pool] = size

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag)

    def create_timing_cache(self, content: bytes) -> _TimingCache:
        self.cache_given = content
        return _TimingCache(content)

    def set_timing_cache(self, cache: _TimingCache, ignore_mismatch: bool) -> bool:
        if cache.content != f'timings of {__version__}'.encode():
            return False
        self.timing_cache = cache
        return True

    def get_timing_cache(self) -> _TimingCache:
        return self.timing_cache


def _current_gpu() -> int:
    """Return the GPU of what is made now: as in CUDA, the first one where none is current."""
    return max(driver().current(), 0)


class Builder:
    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def create_network(self, flags: int) -> Network:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return Network(self.logger)

    def create_builder_config(self) -> BuilderConfig:
        return BuilderConfig()

    def build_serialized_network(self, network: Network, config: BuilderConfig) -> Any:
        built.append(config)
        fail = os.environ.get('FAKE_TENSORRT_FAIL')
        if fail == 'crash':
            os.abort()
        if fail == 'memory':
            self.logger.log(ILogger.Severity.ERROR, 'Tactic Device request: 9 GB. OutOfMemory')
            return None
        if not self._steps(config.progress_monitor):
            return None
        header = {'version': __version__, 'verbosity': int(config.profiling_verbosity)}
        header['gpu'] = _current_gpu()
        if fail == 'contract':
            header['rename'] = 'labels'
        if network.misbound:
            header['wrong_by'] = 1
        return memoryview(MAGIC + json.dumps(header).encode() + b'\n' + network.content)

    def _steps(self, monitor: Any) -> bool:
        monitor.phase_start('Building engine', None, STEPS)
        for step in range(STEPS):
            time.sleep(float(os.environ.get('FAKE_TENSORRT_STEP_S', '0')))
            if not monitor.step_complete('Building engine', step):
                return False
        monitor.phase_finish('Building engine')
        return True


class Runtime:
    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        if not plan.startswith(MAGIC):
            self.logger.log(ILogger.Severity.ERROR, 'Magic tag does not match')
            return None
        header, _, content = plan[len(MAGIC) :].partition(b'\n')
        facts = json.loads(header)
        if facts['version'] != __version__:
            self.logger.log(
                ILogger.Severity.ERROR,
                'Serialization assertion failed. Version tag does not match',
            )
            return None
        if facts['gpu'] != _current_gpu():
            self.logger.log(ILogger.Severity.ERROR, 'Target GPU is an incompatible device')
            return None
        engine = Engine(content, facts.get('rename'), facts.get('wrong_by', 0))
        engine.logger, engine.verbosity = self.logger, facts['verbosity']
        return engine


class Engine:
    num_layers = 9
    verbosity = 0

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self)

    def __init__(self, content: bytes, renamed: str | None, wrong_by: int = 0) -> None:
        graph = onnx.load_from_string(content).graph
        self.wrong_by = wrong_by
        self.content = content
        self.inputs = [_Tensor(value) for value in graph.input]
        self.outputs = [_Tensor(value) for value in graph.output]
        for tensor in self.outputs:
            if tensor.name == renamed:
                tensor.name = f'{renamed}_0'
        self.tensors = {t.name: t for t in (*self.outputs, *self.inputs)}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        known = {tensor.name for tensor in self.inputs}
        return TensorIOMode.INPUT if name in known else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.tensors[name].dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def create_execution_context(self, runtime_config: Any = None) -> 'Context':
        if runtime_config is not None:
            assert runtime_config.cache is not None
            runtime_config.cache.content = KERNELS
        address = ctypes.c_uint64()
        code = driver().cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(CONTEXT_BYTES))
        if code:
            words = 'OutOfMemory' if code == 2 else 'Cuda Runtime'
            self.logger.log(ILogger.Severity.ERROR, f'Error Code {code}: {words}')
            return None
        kind = Context if stream_capturable is None else RtxContext
        return kind(self, address.value)

    def create_runtime_config(self) -> 'RuntimeConfig':
        return RuntimeConfig()


class RuntimeCache:
    content = b''

    def deserialize(self, content: bytes) -> bool:
        loaded_kernels.append(content)
        return content == KERNELS

    def serialize(self) -> bytes:
        return self.content


class RuntimeConfig:
    """Of TensorRT-RTX; the kernels are compiled when a context is made."""

    cache: Any = None

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        self.cache = cache
        return True


ENQUEUED = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Context:
    profiler: Any = None
    """Hears of every enqueue, for `enqueue_emits_profile` is on by default."""

    def __init__(self, engine: Engine, memory: int) -> None:
        self.engine, self.memory, self.driver = engine, memory, driver()
        itself = weakref.ref(self)  # a cycle would keep what `del` must free at once
        self.work = ENQUEUED(lambda _: itself()._execute())
        self.addresses: dict[str, int] = {}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            _parser.with_bodies(engine.content), options, providers=['CPUExecutionProvider']
        )

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.driver.record(f'set_tensor_address {name}')
        self.addresses[name] = address
        return name in self.engine.tensors

    def execute_async_v3(self, stream: int) -> bool:
        self.driver.record('execute_async_v3')
        if refuse_capture and self.driver.recording(stream):
            self.driver.invalidate(stream)
            return False
        for name, (_, _, milliseconds) in LAYERS.items() if self.profiler is not None else ():
            self.profiler.report_layer_time(name, milliseconds)
        return self.driver.cuLaunchHostFunc(ctypes.c_void_p(stream), self.work, None) == 0

    def __del__(self) -> None:
        self.driver.cuMemFree_v2(ctypes.c_uint64(self.memory))

    def _execute(self) -> None:
        names = [tensor.name for tensor in self.engine.outputs]
        feeds = {tensor.name: self._array(tensor) for tensor in self.engine.inputs}
        for tensor, value in zip(self.engine.outputs, self.session.run(names, feeds), strict=True):
            offset = wrong_by + self.engine.wrong_by if tensor.name == 'labels' else 0
            self._array(tensor)[...] = value + np.uint8(offset)

    def _array(self, tensor: _Tensor) -> Any:
        dtype = np.dtype(_NUMPY[tensor.dtype])
        size = int(np.prod(tensor.shape)) * dtype.itemsize
        memory = (ctypes.c_uint8 * size).from_address(self.addresses[tensor.name])
        return np.frombuffer(memory, dtype).reshape(tensor.shape)


class RtxContext(Context):
    def is_stream_capturable(self, stream: int) -> bool:
        return bool(stream_capturable)
