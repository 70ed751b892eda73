"""TensorRT 10.3 to 11 and TensorRT-RTX behind one name: both have the classes used here."""

from __future__ import annotations

import importlib
import logging
import re
import types
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.manifest import TensorSpec
from cigocc_ros.core.onnx_file import PLUGIN_VERSION

logger = logging.getLogger(__name__)

TENSORRT, TENSORRT_RTX = 'tensorrt', 'tensorrt_rtx'
SUPPORTED = {TENSORRT: ((10, 3), (12, 0)), TENSORRT_RTX: ((1, 4), (2, 0))}
"""Library -> first version that is supported, first one that is not."""
KEPT_ERRORS = 6
NUMPY_NAMES = {
    'UINT8': 'uint8',
    'FLOAT': 'float32',
    'HALF': 'float16',
    'INT32': 'int32',
    'INT64': 'int64',
    'INT8': 'int8',
    'BOOL': 'bool',
}
HINTS = {
    'version tag does not match': 'the engine is of another TensorRT: run `cigocc build-engine`',
    'incompatible device': 'the engine is of another GPU: run `cigocc build-engine` on this one',
    'unsupported sm': 'this TensorRT does not know this GPU: install a release that lists it',
    'out of memory': 'close what else uses the GPU, or lower workspace_mb',
    'outofmemory': 'close what else uses the GPU, or lower workspace_mb',
    'insufficient': 'the driver is too old or missing: see nvidia-smi',
}


@dataclass(frozen=True)
class TensorRt:
    """An imported library with its version."""

    module: Any
    name: str
    version: str

    @property
    def is_rtx(self) -> bool:
        """Whether this is TensorRT-RTX: engines for any GPU, compiled at the end on the target."""
        return self.name == TENSORRT_RTX

    def __str__(self) -> str:
        """Return e.g. `tensorrt 10.13.0`."""
        return f'{self.name} {self.version}'


def find_tensorrt() -> TensorRt:
    """Import the library; raise EngineError saying why neither can be used."""
    problems = []
    for name in (TENSORRT, TENSORRT_RTX):
        try:
            return _supported(importlib.import_module(name), name)
        except (ImportError, AttributeError, OSError, EngineError) as error:
            problems.append(f'{name}: {error}')
    raise EngineError(
        f"TensorRT cannot be used ({'; '.join(problems)}). It comes with JetPack, with NVIDIA's "
        'apt repository as python3-libnvinfer, or, for RTX GPUs, as "pip install tensorrt-rtx"; '
        'or use backend onnxruntime'
    )


def _supported(module: ModuleType, name: str) -> TensorRt:
    found = TensorRt(module, name, module.__version__)
    first, end = SUPPORTED[name]
    numbers = tuple(int(number) for number in re.findall(r'\d+', found.version)[:2])
    if not first <= numbers < end:
        raise EngineError(
            f'version {found.version} found, {first[0]}.{first[1]} or later and below {end[0]} '
            'expected'
        )
    return found


class MessageLog:
    """The latest errors of the library, which returns None and says why only here."""

    def __init__(self) -> None:
        """Start empty."""
        self._errors: deque[str] = deque(maxlen=KEPT_ERRORS)

    def add(self, severity: str, message: str) -> None:
        """Log a message and keep the errors; information is debugging here.

        VERBOSE is dropped at once: it is 39 000 lines for `full`, from threads of the builder.
        """
        if severity in ('ERROR', 'INTERNAL_ERROR'):
            self._errors.append(' '.join(message.split()))
            logger.error('%s', message)
        elif severity == 'WARNING':
            logger.warning('%s', message)
        elif severity == 'INFO':
            logger.debug('%s', message)

    def take(self) -> str:
        """Return the errors since the last call as one text, with what mends the known ones."""
        text = ' | '.join(self._errors) or 'TensorRT gave no reason'
        self._errors.clear()
        hints = dict.fromkeys(hint for sign, hint in HINTS.items() if sign in text.lower())
        return '; '.join([text, *hints])


@lru_cache(maxsize=1)
def library_log(trt: TensorRt) -> tuple[Any, MessageLog]:
    """Return the one logger of this process, as the library wants it, and what it heard."""
    logger_class = listening(_Forwarding, trt.module.ILogger)
    messages = MessageLog()
    return logger_class(messages), messages


def listening(ours: type[Any], theirs: Any) -> Any:
    """Return a class with our methods that the library takes for one of its own listeners.

    The library is imported late, so that no class of a module can have its classes for a base.
    """
    return types.new_class(ours.__name__.strip('_'), (ours, theirs))


class _Forwarding:
    """An ILogger that hands on what the library says."""

    def __init__(self, messages: MessageLog) -> None:
        super().__init__()  # the library's own, which it wants called
        self._messages = messages

    def log(self, severity: Any, message: str) -> None:
        self._messages.add(severity.name, message)


def register_plugins(library: TensorRt) -> None:
    """Make TensorRT's own plugins known to its parser and to engines that use them.

    Raises EngineError where they cannot be. TensorRT-RTX has none.
    """
    log, messages = library_log(library)
    if not library.is_rtx and not library.module.init_libnvinfer_plugins(log, ''):
        raise EngineError(f'{library} cannot load its plugins: {messages.take()}')


def has_plugin(library: TensorRt, name: str) -> bool:
    """Whether the library's parser can make a plugin, of version 1 and no namespace, of a node."""
    creators = library.module.get_plugin_registry().all_creators
    wanted = (name, PLUGIN_VERSION, '')
    return any(
        (creator.name, creator.plugin_version, creator.plugin_namespace) == wanted
        for creator in creators
    )


def network_specs(network: Any) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Return inputs and outputs of a parsed network."""
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    return [_spec(t.name, t.dtype, t.shape) for t in inputs], [
        _spec(t.name, t.dtype, t.shape) for t in outputs
    ]


def engine_specs(trt: TensorRt, engine: Any) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Return inputs and outputs of a deserialised engine."""
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        spec = _spec(name, engine.get_tensor_dtype(name), engine.get_tensor_shape(name))
        is_input = engine.get_tensor_mode(name) == trt.module.TensorIOMode.INPUT
        (inputs if is_input else outputs).append(spec)
    return inputs, outputs


def _spec(name: str, dtype: Any, shape: Any) -> TensorSpec:
    return TensorSpec(name, NUMPY_NAMES.get(dtype.name, dtype.name), tuple(int(n) for n in shape))
