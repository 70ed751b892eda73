"""ONNX Runtime with a CUDA provider that does what the real one does, without a GPU.

After `onnxruntime_inference_collection.py` of its Python package and `provider_bridge_ort.cc`:
- a provider whose library needs a missing CUDA or cuDNN is left out, with a line in the C++ log;
  the session is made, and `get_providers` does not name it;
- another failure raises from the constructor, unless `enable_fallback`, which is the default: then
  the session is made again on the CPU, after a print;
- `run` does the same for a failing provider until `disable_fallback` is called.
"""

from __future__ import annotations

from typing import Any

import onnxruntime

CUDA, CPU = 'CUDAExecutionProvider', 'CPUExecutionProvider'
WORKS, SILENT, RAISES, ABSENT = 'works', 'silent', 'raises', 'absent'


class FakeOnnxRuntime:
    """Stands for the module; sessions compute on the CPU, whatever they say."""

    __version__ = onnxruntime.__version__
    SessionOptions = onnxruntime.SessionOptions

    def __init__(self, mode: str = WORKS) -> None:
        """Take what the CUDA provider does."""
        self.mode = mode
        self.sessions: list[FakeSession] = []
        self.preloaded = 0

    def get_available_providers(self) -> list[str]:
        """Return what the package was built with, which says nothing of what loads."""
        return [CPU] if self.mode == ABSENT else [CUDA, CPU]

    def preload_dlls(self) -> None:
        """Print as the real one does where the nvidia wheels are not there."""
        self.preloaded += 1
        print('Failed to load libcudnn.so.9')

    def InferenceSession(self, *arguments: Any, **options: Any) -> FakeSession:
        """Return a session; it remembers what it was asked for."""
        session = FakeSession(self, *arguments, **options)
        self.sessions.append(session)
        return session


class FakeSession:
    """A session that knows which providers it was given and which it has."""

    def __init__(
        self,
        runtime: FakeOnnxRuntime,
        source: Any,
        sess_options: Any,
        *,
        providers: list[Any],
        enable_fallback: int = 1,
    ) -> None:
        """Choose providers as ONNX Runtime does, and load the file on the CPU."""
        self.asked = providers
        names = [entry if isinstance(entry, str) else entry[0] for entry in providers]
        self.fails_at_run = False
        self._fallback = bool(enable_fallback)
        if CUDA in names and runtime.mode == RAISES:
            if not enable_fallback:
                raise RuntimeError('CUDA failure 100: no CUDA-capable device is detected')
            print('EP Error ... Falling back')
            names = [CPU]
        if runtime.mode in (SILENT, ABSENT):
            names = [name for name in names if name != CUDA]
        self._providers = names
        self._session = onnxruntime.InferenceSession(source, sess_options, providers=[CPU])

    def get_providers(self) -> list[str]:
        """Return what the session really has."""
        return self._providers

    def disable_fallback(self) -> None:
        """Let `run` raise."""
        self._fallback = False

    def run(self, names: list[str], arrays: Any) -> Any:
        """Compute, or fail as a GPU does."""
        if self.fails_at_run:
            if not self._fallback:
                raise RuntimeError('CUDA error 700: an illegal memory access was encountered')
            self._providers = [CPU]
        return self._session.run(names, arrays)

    def __getattr__(self, name: str) -> Any:
        """Return what the real session has."""
        return getattr(self._session, name)
