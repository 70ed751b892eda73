"""A DeepLab for Cityscapes as teacher: small enough for a CPU, trained on real streets.

Weights (Apache-2.0): deeplab_mobilenet_edgetpu_slim_cityscapes_quant.tflite of the repository
google-coral/test_data.
A stand-in where Grounded-SAM cannot run, less sure of itself and with fewer classes.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.class_presets import CITYSCAPES
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.files import read_bytes
from cigocc_ros.core.labels import CLASS_NAMES, EMPTY, IGNORE
from cigocc_ros.core.opencv import import_cv2
from cigocc_ros.data.kitti_sequence import KittiSequence, Side
from cigocc_ros.training.teacher.output import (
    MASK_CLASSES,
    TeacherInfo,
    TeacherOutput,
    as_features,
    masks_of_classes,
)
from cigocc_ros.training.teacher.tiles import TilePlan, interpolate

DEFAULT_SCALE, DEFAULT_MIN_PROBABILITY = 1.0, 0.7
"""What benchmark/teacher_agreement.py found best; its table is in docs/teacher.md."""
_LOGITS, _FEATURES = 'logits/semantic/BiasAdd', 'concat_projection/Relu'


def train_ids() -> NDArray[np.uint8]:
    """Return the SemanticKITTI train id of each Cityscapes train id, (19,), 255 = none."""
    return np.array(
        [IGNORE if name is None else CLASS_NAMES.index(name) for _, name in CITYSCAPES],
        dtype=np.uint8,
    )


class CityscapesNetwork:
    """One tile through the quantised network; raise ConfigError for weights of another one."""

    def __init__(self, weights: Path, threads: int = 1) -> None:
        """Load a .tflite file."""
        from ai_edge_litert.interpreter import Interpreter

        content = read_bytes(weights)
        self.digest = hashlib.sha256(content).hexdigest()[:12]
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # that all tensors are kept is what we want
            try:
                self._interpreter = Interpreter(
                    model_content=content,
                    num_threads=threads,
                    experimental_preserve_all_tensors=True,
                )
            except ValueError as error:
                raise ConfigError(f'{weights}: not a TensorFlow Lite model: {error}') from error
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._logits = self._tensor(_LOGITS, len(CITYSCAPES), weights)
        self._features = self._tensor(_FEATURES, None, weights)
        self.points = int(self._logits['shape'][1])
        self.channels = int(self._features['shape'][3])
        self.zero = int(self._input['quantization'][1])
        size = int(self._input['shape'][1])
        self.stride = (size - 1) // (self.points - 1)

    def __call__(self, tile: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return features (n, n, C) and logits (n, n, 19) of a tile (S, S, 3) uint8 rgb.

        Point (i, j) lies on pixel (i, j) * stride: the network resizes with aligned corners.
        """
        self._interpreter.set_tensor(self._input['index'], tile[None])
        self._interpreter.invoke()
        return self._real(self._features), self._real(self._logits)

    def _real(self, tensor: dict[str, Any]) -> NDArray[np.float32]:
        scale, zero = tensor['quantization']
        steps = self._interpreter.get_tensor(tensor['index'])[0].astype(np.float32)
        real: NDArray[np.float32] = (steps - zero) * np.float32(scale)
        return real

    def _tensor(self, name: str, channels: int | None, weights: Path) -> dict[str, Any]:
        for tensor in self._interpreter.get_tensor_details():
            shape = tensor['shape']
            grid = len(shape) == 4 and shape[1] == shape[2] > 1
            if grid and tensor['name'].startswith(name) and channels in (None, shape[3]):
                return dict(tensor)
        raise ConfigError(
            f'{weights}: no tensor {name!r} in it; expected the file '
            'deeplab_mobilenet_edgetpu_slim_cityscapes_quant.tflite of '
            'google-coral/test_data'
        )


class CityscapesTeacher:
    """Masks from the arg-max of the logits; features are what the last layer classifies.

    The image is scaled by `scale` and shown in overlapping tiles, whose outputs are averaged.
    Pixels whose best class has a probability below `min_probability` are not valid.
    """

    def __init__(
        self,
        weights: Path,
        scale: float = DEFAULT_SCALE,
        min_probability: float = DEFAULT_MIN_PROBABILITY,
        threads: int = 1,
    ) -> None:
        """Load the weights; raise ConfigError for settings or a file that do not fit."""
        if not 0.1 <= scale <= 8 or not 0 <= min_probability < 1:
            raise ConfigError(
                'expected a scale of 0.1..8 and a probability of 0..1, found '
                f'{scale} and {min_probability}'
            )
        self.network = CityscapesNetwork(weights, threads)
        self.scale = scale
        self.min_probability = min_probability
        named = {CLASS_NAMES[k] for k in train_ids() if k not in (EMPTY, IGNORE)}
        self.info = TeacherInfo(
            name='cityscapes',
            version=f'{self.network.digest}, scale {scale:g}, probability {min_probability:g}',
            features='activations that the last layer classifies, dequantised',
            channels=self.network.channels,
            classes=MASK_CLASSES,
            known_classes=tuple(name for name in MASK_CLASSES if name in named),
        )

    def look(self, sequence: KittiSequence, frame_id: str, side: Side = 'left') -> TeacherOutput:
        """Return what the network sees in one image of a frame."""
        return self.segment(sequence.image(frame_id, side))

    def segment(self, image: NDArray[np.uint8]) -> TeacherOutput:
        """Return what the network sees in (H, W, 3) uint8 rgb."""
        height, width = image.shape[:2]
        scaled = self._scaled(image)
        steps = (height / scaled.shape[0], width / scaled.shape[1])
        plan = TilePlan.cover(scaled.shape[:2], self.network.points, self.network.stride)
        seen = [
            self.network(np.ascontiguousarray(tile))
            for tile in plan.cut(scaled, self.network.zero)
        ]
        features, logits = (plan.merge(list(grids)) for grids in zip(*seen, strict=True))
        # Pixel 0 of the scaled image is centred at (0 + 0.5) * step - 0.5 of the source.
        origin = (0.5 * steps[0] - 0.5, 0.5 * steps[1] - 0.5)
        step = (plan.stride * steps[0], plan.stride * steps[1])
        classes = self._classes(interpolate(logits, (height, width), origin, step))
        masks, valid = masks_of_classes(classes)
        return TeacherOutput(as_features(features.transpose(2, 0, 1)), origin, step, masks, valid)

    def _scaled(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.scale == 1.0:
            return image
        cv2 = import_cv2('resampling images')
        height, width = (max(1, round(size * self.scale)) for size in image.shape[:2])
        method = cv2.INTER_LINEAR if self.scale > 1 else cv2.INTER_AREA
        scaled: NDArray[np.uint8] = cv2.resize(image, (width, height), interpolation=method)
        return scaled

    def _classes(self, logits: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return SemanticKITTI train ids (H, W), 255 where there is none or the doubt is great."""
        classes: NDArray[np.uint8] = train_ids()[logits.argmax(-1)]
        if self.min_probability > 0:
            best = logits.max(-1)
            probability = 1 / np.exp(logits - best[..., None]).sum(-1)
            classes[probability < self.min_probability] = IGNORE
        return classes
