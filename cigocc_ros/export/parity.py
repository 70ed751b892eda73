"""Compare two ways of running one network on random frames of random cameras."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.core.manifest import LABELS, OCCUPIED_PROBABILITY
from cigocc_ros.runtime.contract import Arrays
from cigocc_ros.runtime.preprocess import Preprocessor

CAMERA_SIZES = ((1241, 376), (1226, 370), (1920, 1080), (640, 480))
PROBABILITY_STEPS = 2
"""Largest difference of an occupied probability, in 1/255, that still counts as the same."""


@dataclass(frozen=True)
class ParityReport:
    """How well outputs agree, over all compared inputs.

    `label_agreement` and `probability_agreement` (within PROBABILITY_STEPS / 255) are the shares
    of voxels of the worst input; `max_probability_difference` is in 1/255.
    """

    num_inputs: int
    num_classes: int
    label_agreement: float
    probability_agreement: float
    max_probability_difference: int

    def __str__(self) -> str:
        """Return one readable line."""
        return (
            f'{self.num_inputs} inputs, {self.num_classes} classes seen: labels agree '
            f'{100 * self.label_agreement:.4f} %, probabilities within {PROBABILITY_STEPS}/255 '
            f'{100 * self.probability_agreement:.4f} %, largest difference '
            f'{self.max_probability_difference}/255'
        )


def compare(
    reference: Callable[[Arrays], Arrays],
    candidate: Callable[[Arrays], Arrays],
    inputs: Sequence[Arrays],
) -> ParityReport:
    """Run both on every input and report the worst agreement."""
    labels, within, largest = [], [], []
    seen: set[int] = set()
    for arrays in inputs:
        expected, found = reference(arrays), candidate(arrays)
        seen |= set(np.unique(expected[LABELS]).tolist())
        labels.append(float((expected[LABELS] == found[LABELS]).mean()))
        difference = _difference(expected[OCCUPIED_PROBABILITY], found[OCCUPIED_PROBABILITY])
        within.append(float((difference <= PROBABILITY_STEPS).mean()))
        largest.append(int(difference.max()))
    return ParityReport(len(inputs), len(seen), min(labels), min(within), max(largest))


def random_inputs(image_size: tuple[int, int], count: int, seed: int) -> list[Arrays]:
    """Return `count` preprocessed frames: other camera, mounting, picture and depth each time."""
    rng = np.random.default_rng(seed)
    preprocess = Preprocessor(image_size)
    return [preprocess(random_frame(rng, index)) for index in range(count)]


def random_frame(rng: np.random.Generator, index: int) -> CameraFrame:
    """Return a frame; every second one has a depth prior with holes."""
    width, height = CAMERA_SIZES[index % len(CAMERA_SIZES)]
    focal = width * rng.uniform(0.5, 0.9)
    centre = (width * rng.uniform(0.4, 0.6), height * rng.uniform(0.4, 0.6))
    camera = CameraModel.from_intrinsics(focal, focal, *centre, width, height)
    return CameraFrame(
        image=_random_image(rng, width, height),
        camera=camera,
        cam_from_velo=random_extrinsics(rng),
        stamp_ns=index,
        frame_id='random',
        depth_m=_random_depth(rng, width, height) if index % 2 else None,
    )


def random_extrinsics(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a forward-looking cam_from_velo with some roll, pitch, yaw and lever arm."""
    cam_from_velo = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    for axis, angle in enumerate(rng.uniform(-0.08, 0.08, 3)):
        turn = np.eye(4)
        i, j = [n for n in range(3) if n != axis]
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        cam_from_velo = turn @ cam_from_velo
    cam_from_velo[:3, 3] += rng.uniform(-0.5, 0.5, 3)
    return cam_from_velo


def _difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.int16]:
    return np.abs(a.astype(np.int16) - b.astype(np.int16))


def _random_image(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    """Return blocks of colour with shading and noise, (H, W, 3) uint8."""
    blocks = rng.integers(0, 200, (height // 32 + 1, width // 32 + 1, 3))
    image = blocks.repeat(32, axis=0).repeat(32, axis=1)[:height, :width]
    shade = np.linspace(0, 40, height, dtype=np.int64)[:, None, None]
    return (image + shade + rng.integers(0, 16, image.shape)).astype(np.uint8)


def _random_depth(rng: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    """Return a ground-like depth ramp in metres with a third of the pixels unknown (0)."""
    rows = np.arange(height, dtype=np.float64)[:, None]
    depth = np.clip(1.7 * 700.0 / np.maximum(rows - 0.45 * height, 1.0), 2.0, 80.0)
    known = rng.random((height, width)) > 1 / 3
    return (depth * known).astype(np.float32)
