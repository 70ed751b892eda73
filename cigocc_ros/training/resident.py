"""Frames that lie on the training device, decoded once, and batches of them that never leave it.

A loader decodes a frame in 6 ms, a GPU trains on it in less. 1000 frames of `mid` take 1.2 GB.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cigocc_ros.core.arrays import Arrays
from cigocc_ros.core.config import FEATURE_STRIDE, ModelConfig
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.labels import NUM_CLASSES
from cigocc_ros.core.prior import Prior
from cigocc_ros.core.projection import velo_from_pixel
from cigocc_ros.training.augmentation import flip_projection
from cigocc_ros.training.cache import FrameRef, load_frame
from cigocc_ros.training.config import Stage, TrainConfig
from cigocc_ros.training.device_augmentation import (
    degrade_class_cells,
    degrade_depths,
    flipped,
    jitter_images,
    unpacked_bits,
)
from cigocc_ros.training.scene_dataset import PRIOR_ARRAYS, Batch, TrainingStream
from cigocc_ros.training.variations import (
    Columns,
    Variation,
    draw_variation,
    require_drawn_here,
)

logger = logging.getLogger(__name__)

MAX_SHARE = 0.5
"""Of the free memory of the device; the network and its activations need the rest."""
DECODERS = 8
"""Threads; decoding and decompressing run outside Python's lock."""
FALLBACK = 'set resident to false, where loader processes (num_workers) bring each batch'
ALWAYS = ('image', 'labels', 'query_labels', 'masks', 'mask_valid', 'depth')
"""Arrays that every frame has, kept as they are."""
CLASSES = 'semantic_prior'


class Row(NamedTuple):
    """Where a frame lies: its row, those of its priors by kind, that of its classes."""

    frame: int
    priors: dict[Prior, int]
    classes: int
    """0, which is unknown everywhere, where it has none."""


def require_resident(config: TrainConfig, stages: Collection[Stage]) -> None:
    """Raise ConfigError for what frames on the device cannot give."""
    require_drawn_here(config.augment)
    if 'eyes' in stages:
        raise ConfigError(
            'resident: what the stage eyes learns from images alone is made in loader processes; '
            f'{FALLBACK}'
        )
    if config.losses.distill > 0:
        raise ConfigError(
            'resident: the features of a teacher stay on its own grid, in loader processes; set '
            f'losses.distill to 0, or {FALLBACK}'
        )


class ResidentFrames:
    """All frames of a stream on a device; more can be added."""

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        """Start without frames."""
        self.config, self.device = config, device
        self.rows: dict[FrameRef, Row] = {}
        height, width = config.image_size
        self.cells = (height // FEATURE_STRIDE, width // FEATURE_STRIDE)
        unknown = torch.zeros(1, height, width, dtype=torch.float16, device=device)
        self._tensors: dict[str, Tensor] = {
            'priors': unknown,
            CLASSES: torch.zeros(1, *self.cells, dtype=torch.uint8, device=device),
        }

    def add(self, frames: Sequence[FrameRef]) -> None:
        """Decode frames that are not there yet and keep them.

        Raises ConfigError where the device has no room, DataFileError for a frame that is damaged.
        """
        new = [frame for frame in dict.fromkeys(frames) if frame not in self.rows]
        if not new:
            return
        first = load_frame(new[0])
        self._require_room(len(new), sum(array.nbytes for array in _kept(first).values()))
        with ThreadPoolExecutor(DECODERS) as pool:
            decoded = itertools.chain([first], pool.map(load_frame, new[1:]))
            self._append(new, [_kept(arrays) for arrays in decoded])
        logger.info(
            '%d frames on %s, %.2f GB',
            len(self.rows),
            self.device,
            sum(t.numel() * t.element_size() for t in self._tensors.values()) / 1e9,
        )

    def batch(self, frames: Sequence[FrameRef], variations: Sequence[Variation]) -> Batch:
        """Return frames varied, on the device; nothing waits for it."""
        rows = [self.rows[frame] for frame in frames]
        numbers = [
            [
                float(row.frame),
                float(row.priors.get(variation.kind, 0)),
                float(row.classes),
                *variation.numbers(),
            ]
            for row, variation in zip(rows, variations, strict=True)
        ]
        sent = torch.tensor(numbers)
        if self.device.type == 'cuda':
            sent = sent.pin_memory().to(self.device, non_blocking=True)
        frame, prior, classes = sent[:, :3].long().unbind(1)
        return self._varied(frame, prior, classes, sent[:, 3:], variations)

    def _varied(
        self,
        frame: Tensor,
        prior: Tensor,
        classes: Tensor,
        numbers: Tensor,
        variations: Sequence[Variation],
    ) -> Batch:
        kept = self._tensors
        flip = numbers[:, Columns.FLIP] > 0
        image = kept['image'][frame]
        if any(one.colors != (1.0, 1.0, 1.0) for one in variations):
            image = jitter_images(image, numbers[:, Columns.COLORS])
        depth = degrade_depths(kept['priors'][prior].float(), numbers, variations)
        said = degrade_class_cells(kept[CLASSES][classes], numbers, variations)
        shape = (NUM_CLASSES - 1, *self.cells)
        masks, valid = (
            flipped(unpacked_bits(kept[name][frame], shape), flip, 3)
            for name in ('masks', 'mask_valid')
        )
        mirrored = flip.long()
        return Batch(
            image=flipped(image, flip, 2),
            depth_prior=flipped(depth, flip, 2),
            pixel_from_velo=kept['pixel_from_velo'][frame, mirrored],
            velo_from_pixel=kept['velo_from_pixel'][frame, mirrored],
            labels=flipped(kept['labels'][frame], flip, 2),
            query_labels=flipped(kept['query_labels'][frame], flip, 2),
            masks=masks,
            mask_valid=valid.bool(),
            depth=flipped(kept['depth'][frame].float(), flip, 2),
            semantic_prior=flipped(said, flip, 2),
        )

    def _append(self, frames: Sequence[FrameRef], decoded: Sequence[Arrays]) -> None:
        """Put arrays behind those that are there."""
        first = len(self.rows)
        width = self.config.image_size[1]
        stacked: dict[str, list[NDArray[np.generic]]] = {name: [] for name in ALWAYS}
        priors: list[NDArray[np.generic]] = []
        classes: list[NDArray[np.generic]] = []
        begins = {name: len(self._tensors[name]) for name in ('priors', CLASSES)}
        rows: dict[FrameRef, Row] = {}
        matrices = [_both_ways(arrays['pixel_from_velo'], width) for arrays in decoded]
        for index, (frame, arrays) in enumerate(zip(frames, decoded, strict=True)):
            own: dict[Prior, int] = {}
            for kind, name in PRIOR_ARRAYS.items():
                if name in arrays:
                    own[kind] = begins['priors'] + len(priors)
                    priors.append(arrays[name])
            said = 0
            if CLASSES in arrays and arrays[CLASSES].any():
                said = begins[CLASSES] + len(classes)
                classes.append(arrays[CLASSES])
            rows[frame] = Row(first + index, own, said)
            for name, arrays_of in stacked.items():
                arrays_of.append(_required(arrays, name, frame))
        for name, values in (*stacked.items(), ('priors', priors), (CLASSES, classes)):
            if values:
                self._join(name, np.stack(values))
        self._join('pixel_from_velo', np.stack([one for one, _ in matrices]))
        self._join('velo_from_pixel', np.stack([other for _, other in matrices]))
        self.rows |= rows

    def _join(self, name: str, values: NDArray[np.generic]) -> None:
        added = torch.from_numpy(values).to(self.device)
        present = self._tensors.get(name)
        self._tensors[name] = added if present is None else torch.cat((present, added))

    def _require_room(self, count: int, bytes_each: int) -> None:
        """Raise ConfigError unless so many frames fit; the largest tensor is copied to grow."""
        copied = max(t.numel() * t.element_size() for t in self._tensors.values())
        needed, free = count * bytes_each + copied, free_bytes(self.device)
        if needed > MAX_SHARE * free:
            raise ConfigError(
                f'resident: {count} more frames of {bytes_each / 1e6:.2f} MB need '
                f'{needed / 1e9:.2f} GB on {self.device}, where {free / 1e9:.2f} GB are free, of '
                f'which at most {100 * MAX_SHARE:.0f} % are for frames: take fewer frames, or '
                f'{FALLBACK}'
            )


def resident_batches(
    stream: TrainingStream, frames: ResidentFrames, draws: Iterator[list[int]]
) -> Iterator[Batch]:
    """Yield the batches of draws of a stream whose frames lie on the device."""
    for batch in draws:
        shown = [stream.mixture.frame(draw) for draw in batch]
        yield frames.batch(
            shown, [_variation(stream, frames, *pair) for pair in zip(batch, shown, strict=True)]
        )


def _variation(
    stream: TrainingStream, frames: ResidentFrames, draw: int, frame: FrameRef
) -> Variation:
    row = frames.rows[frame]
    rng = np.random.default_rng((stream.seed, 1, draw))
    return draw_variation(
        row.priors, row.classes > 0, stream.augment, stream.config.image_size, frames.cells, rng
    )


def free_bytes(device: torch.device) -> int:
    """Return how many bytes of memory a device has left, of the machine for the CPU."""
    if device.type == 'cuda':
        return int(torch.cuda.mem_get_info(device)[0])
    for line in Path('/proc/meminfo').read_text().splitlines():
        if line.startswith('MemAvailable:'):
            return 1024 * int(line.split()[1])
    raise ConfigError(f'resident: the free memory of {device} is not known here; {FALLBACK}')


def _kept(arrays: Arrays) -> Arrays:
    """Return the arrays of a frame that are kept on the device."""
    names = {*ALWAYS, 'pixel_from_velo', CLASSES, *PRIOR_ARRAYS.values()}
    return {name: array for name, array in arrays.items() if name in names}


def _required(arrays: Arrays, name: str, frame: FrameRef) -> NDArray[np.generic]:
    if name not in arrays:
        raise DataFileError(f'{frame.cached} has no {name}: prepare or pack the frame again')
    return arrays[name]


def _both_ways(
    pixel_from_velo: NDArray[np.float64], width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return both matrices, (2, 3, 4) each: of the frame and of its mirror image."""
    plain = pixel_from_velo.astype(np.float32)  # as a sample has it, which is then mirrored
    pixel = np.stack([pixel_from_velo, flip_projection(plain, width)])
    velo = np.stack([velo_from_pixel(one) for one in pixel])
    return pixel.astype(np.float32), velo.astype(np.float32)
