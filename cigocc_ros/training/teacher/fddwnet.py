"""FDDWNet as teacher: 0.77 M parameters that know real streets, on a CPU.

Weights: `fddwnet_cityscapes.safetensors`, the state dict that zh320's
realtime-semantic-segmentation-pytorch publishes (Apache-2.0; Cityscapes itself is non-commercial).
On labelled lidar points of KITTI it is right four times in five, without having been trained there
(docs/teacher.md).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cigocc_ros.core.class_presets import CITYSCAPES
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.files import read_bytes
from cigocc_ros.core.labels import CLASS_NAMES, EMPTY, IGNORE
from cigocc_ros.core.opencv import import_cv2
from cigocc_ros.data.kitti_sequence import KittiSequence, Side
from cigocc_ros.model.fddwnet import CITYSCAPES_CLASSES, STRIDE, load_fddwnet, normalised
from cigocc_ros.training.teacher.cityscapes import train_ids
from cigocc_ros.training.teacher.output import (
    MASK_CLASSES,
    TeacherInfo,
    TeacherOutput,
    as_features,
    masks_of_classes,
)

DEFAULT_WIDTH_PX = 1536
"""Width at which the image is shown; benchmark/teacher_agreement.py compares widths."""
DEFAULT_MIN_PROBABILITY = 0.0
CELL_PX = 4
"""Pixels of the shown image per feature cell along each axis."""
HEIGHT_MULTIPLE = 32
LOG_PROBABILITY_SHIFT, LOG_PROBABILITY_RANGE = 3.0, (-4.0, 3.0)
"""log p + 3, kept between -4 and 3: 0 is a probability of 5 %, about one class in 19."""


class FddwnetTeacher:
    """Masks from the arg-max; features are the log-probabilities of the 19 Cityscapes classes."""

    def __init__(
        self,
        weights: Path,
        width_px: int = DEFAULT_WIDTH_PX,
        min_probability: float = DEFAULT_MIN_PROBABILITY,
        device: str = 'cpu',
    ) -> None:
        """Load the weights; pixels less sure than `min_probability` are not valid.

        Raises ConfigError for settings, DataFileError for a file that does not fit.
        """
        if not STRIDE <= width_px <= 4096 or width_px % STRIDE or not 0 <= min_probability < 1:
            raise ConfigError(
                f'expected a width of {STRIDE}..4096 px divisible by {STRIDE} and a probability '
                f'of 0..1, found {width_px} and {min_probability}'
            )
        self.network = load_fddwnet(weights).to(device)
        self.width_px, self.min_probability, self.device = width_px, min_probability, device
        digest = hashlib.sha256(read_bytes(weights)).hexdigest()[:12]
        named = {CLASS_NAMES[k] for k in train_ids() if k not in (EMPTY, IGNORE)}
        self.info = TeacherInfo(
            name='fddwnet',
            version=f'{digest}, width {width_px}, probability {min_probability:g}',
            features=f'log-probabilities of {len(CITYSCAPES)} Cityscapes classes, shifted by 3',
            channels=CITYSCAPES_CLASSES,
            classes=MASK_CLASSES,
            known_classes=tuple(name for name in MASK_CLASSES if name in named),
        )

    def look(self, sequence: KittiSequence, frame_id: str, side: Side = 'left') -> TeacherOutput:
        """Return what the network sees in one image of a frame."""
        return self.segment(sequence.image(frame_id, side))

    def segment(self, image: NDArray[np.uint8]) -> TeacherOutput:
        """Return what the network sees in (H, W, 3) uint8 rgb."""
        log_probabilities = self.log_probabilities(image)
        cells = functional.avg_pool2d(log_probabilities, CELL_PX)[0].cpu().numpy()
        full = functional.interpolate(
            log_probabilities, image.shape[:2], mode='bilinear', align_corners=False
        )[0]
        best, found = full.max(0)
        classes = train_ids()[found.cpu().numpy()]
        classes[best.exp().cpu().numpy() < self.min_probability] = IGNORE
        masks, valid = masks_of_classes(classes)
        step = tuple(
            CELL_PX * there / shown
            for there, shown in zip(image.shape[:2], log_probabilities.shape[2:], strict=True)
        )
        low, high = LOG_PROBABILITY_RANGE
        return TeacherOutput(
            features=as_features(np.clip(cells + LOG_PROBABILITY_SHIFT, low, high)),
            origin_px=(0.5 * step[0] - 0.5, 0.5 * step[1] - 0.5),
            step_px=(step[0], step[1]),
            masks=masks,
            valid=valid,
        )

    def log_probabilities(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """Return log-probabilities (1, 19, h, w) of the image as it is shown."""
        shown = torch.from_numpy(self._resized(image)).to(self.device)
        with torch.inference_mode():
            logits: torch.Tensor = self.network(normalised(shown[None]))
            return logits.log_softmax(1)

    def _resized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the image at the width shown; its height is rounded up to a multiple of 32."""
        height, width = image.shape[:2]
        exact = height * self.width_px / width
        size = (self.width_px, int(-(-exact // HEIGHT_MULTIPLE) * HEIGHT_MULTIPLE))
        cv2 = import_cv2('resampling images')
        method = cv2.INTER_AREA if self.width_px < width else cv2.INTER_LINEAR
        resized: NDArray[np.uint8] = cv2.resize(image, size, interpolation=method)
        return resized
