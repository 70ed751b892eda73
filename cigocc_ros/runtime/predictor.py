"""From a camera frame to an occupancy: preprocess, engine, postprocess."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.errors import ManifestError
from cigocc_ros.core.frames import CameraFrame, Occupancy
from cigocc_ros.core.installed import models_dir
from cigocc_ros.core.manifest import ModelManifest, load_manifest
from cigocc_ros.runtime.contract import DEFAULT_THREADS, Arrays, check_manifest
from cigocc_ros.runtime.devices import AUTO_DEVICE
from cigocc_ros.runtime.engine import AUTO, TORCH, Engine, create_engine
from cigocc_ros.runtime.loading import Loading
from cigocc_ros.runtime.postprocess import occupancy_from_outputs
from cigocc_ros.runtime.preprocess import Preprocessor
from cigocc_ros.runtime.ranges import named_range
from cigocc_ros.runtime.self_check import Golden, check_engine, load_golden
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """How long the steps of one prediction took, in milliseconds."""

    preprocess_ms: float
    engine_ms: float
    postprocess_ms: float

    @property
    def total_ms(self) -> float:
        """Sum of the steps."""
        return self.preprocess_ms + self.engine_ms + self.postprocess_ms


@dataclass(frozen=True)
class Prepared:
    """A frame, and what the engine takes of it; milliseconds that this took."""

    frame: CameraFrame
    arrays: Arrays
    preprocess_ms: float


class Predictor:
    """Map frames of any calibrated camera to voxels. To be used by one thread at a time."""

    def __init__(
        self, engine: Engine, manifest: ModelManifest, golden: Golden | None = None
    ) -> None:
        """Take a loaded engine, the manifest it was checked against and answers to check it by."""
        check_manifest(manifest)
        self.engine = engine
        self.manifest = manifest
        self.grid = manifest.voxel_grid
        self.golden = golden
        self.timing: Timing | None = None
        self._preprocess = Preprocessor.of(manifest)

    @classmethod
    def from_model_dir(
        cls,
        model: str | Path,
        backend: str = AUTO,
        threads: int = DEFAULT_THREADS,
        tensorrt: TensorRtOptions | None = None,
        loading: Loading | None = None,
        device: str = AUTO_DEVICE,
    ) -> Predictor:
        """Load a model folder, or a shipped model by name, on a backend of `engine.BACKENDS`.

        The backend `torch` takes a checkpoint folder of `cigocc train` instead. `tensorrt` and
        `loading` and `device` are as for `create_engine`.
        """
        if backend == TORCH:
            from cigocc_ros.runtime.torch_engine import load_checkpoint_manifest

            model_dir, manifest = Path(model), load_checkpoint_manifest(Path(model))
        else:
            model_dir = find_model_dir(model)
            manifest = load_manifest(model_dir)
        golden = load_golden(model_dir, manifest)
        engine = create_engine(backend, model_dir, manifest, threads, tensorrt, loading, device)
        return cls(engine, manifest, golden)

    @property
    def overlaps(self) -> bool:
        """Whether the CPU is free while the engine works, so that other frames may use it."""
        return bool(getattr(self.engine, 'on_gpu', False))

    def __call__(self, frame: CameraFrame) -> Occupancy:
        """Return the occupancy of a frame; `timing` then holds how long it took."""
        return self.infer(self.prepare(frame))

    def prepare(self, frame: CameraFrame) -> Prepared:
        """Return the input arrays of a frame; another thread may do so than the one of `infer`."""
        started = time.perf_counter()
        with named_range('preprocess'):
            arrays = self._preprocess(frame)
        return Prepared(frame, arrays, 1e3 * (time.perf_counter() - started))

    def infer(self, prepared: Prepared) -> Occupancy:
        """Return the occupancy of a prepared frame; `timing` then holds how long it took."""
        started = time.perf_counter()
        with named_range('engine'):
            outputs = self.engine.run(prepared.arrays)
        inferred = time.perf_counter()
        with named_range('postprocess'):
            occupancy = occupancy_from_outputs(outputs, self.grid, prepared.frame)
        done = time.perf_counter()
        steps = (1e3 * seconds for seconds in (inferred - started, done - inferred))
        self.timing = Timing(prepared.preprocess_ms, *steps)
        return occupancy

    def warm_up(self) -> None:
        """Run the stored answers, or a black frame where there are none, before the first frame.

        Raises EngineError where the engine does not reproduce the stored answers.
        """
        started = time.perf_counter()
        if self.golden is None:
            self(blank_frame(self.manifest.image_size))
            checked = 'no stored answers to check against'
        else:
            checked = f'self-check {100 * check_engine(self.engine, self.golden):.2f} % as stored'
        self.timing = None
        milliseconds = 1e3 * (time.perf_counter() - started)
        logger.info('%s: first run %.0f ms, %s', self.engine.name, milliseconds, checked)

    def close(self) -> None:
        """Release the engine (usable with contextlib.closing)."""
        self.engine.close()


def find_model_dir(model: str | Path) -> Path:
    """Return the folder of a model given as a path or as the name of a shipped one."""
    path = Path(model)
    if path.is_dir():
        return path
    shipped = models_dir()
    if len(path.parts) == 1 and (shipped / path).is_dir():
        return shipped / path
    known = sorted(folder.parent.name for folder in shipped.glob('*/manifest.yaml'))
    raise ManifestError(
        f'no model {str(model)!r}: neither a folder nor one of the shipped models {known}'
    )


def blank_frame(image_size: tuple[int, int]) -> CameraFrame:
    """Return a black frame of a forward-looking camera of the model's input size."""
    height, width = image_size
    camera = CameraModel.from_intrinsics(width, width, width / 2, height / 2, width, height)
    forward = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    image = np.zeros((height, width, 3), dtype=np.uint8)
    return CameraFrame(image, camera, forward, stamp_ns=0, frame_id='blank')
