"""Frames of random cameras: other size, mounting, picture and depth each time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.core.labels import NUM_CLASSES
from cigocc_ros.runtime.contract import Arrays
from cigocc_ros.runtime.preprocess import Preprocessor

CAMERA_SIZES = ((1241, 376), (1226, 370), (1920, 1080), (640, 480))


def random_inputs(
    image_size: tuple[int, int], count: int, seed: int, semantic_prior: bool = False
) -> list[Arrays]:
    """Return `count` preprocessed frames: other camera, mounting, picture and depth each time.

    With `semantic_prior`, two of three have classes from outside.
    """
    rng = np.random.default_rng(seed)
    preprocess = Preprocessor(image_size, semantic_prior)
    frames = [random_frame(rng, index) for index in range(count)]
    if semantic_prior:
        said = np.random.default_rng((seed, 1))
        frames = [
            frame if index % 3 == 2 else replace(frame, classes=_random_classes(said))
            for index, frame in enumerate(frames)
        ]
    return [preprocess(frame) for frame in frames]


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


def _random_image(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    """Return blocks of colour with shading, (H, W, 3) uint8."""
    blocks = rng.integers(0, 200, (height // 32 + 1, width // 32 + 1, 3))
    image = blocks.repeat(32, axis=0).repeat(32, axis=1)[:height, :width]
    shade = np.linspace(0, 55, height, dtype=np.int64)[:, None, None]
    return (image + shade).astype(np.uint8)


def _random_classes(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return blocks of classes, unknown ones among them, (120, 400) uint8."""
    blocks = rng.integers(0, NUM_CLASSES, (12, 20)).astype(np.uint8)
    return blocks.repeat(10, axis=0).repeat(20, axis=1)


def _random_depth(rng: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    """Return a ground-like depth ramp in metres with a third of the pixels unknown (0)."""
    rows = np.arange(height, dtype=np.float64)[:, None]
    depth = np.clip(1.7 * 700.0 / np.maximum(rows - 0.45 * height, 1.0), 2.0, 80.0)
    known = rng.random((height, width)) > 1 / 3
    return (depth * known).astype(np.float32)
