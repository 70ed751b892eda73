"""Score what a network sees in images, without anything in 3D: classes of points, and their depth.

Every figure is a quotient of counts over all frames, so that processes add up their counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cigocc_ros.core.labels import CLASS_NAMES, IGNORE, NUM_CLASSES
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.training.objectives import see
from cigocc_ros.training.scene_dataset import Batch

CLASSES = NUM_CLASSES - 1
RANGES_M = (0.0, 10.0, 20.0, 30.0, 40.0, 51.2)
"""Edges of the ranges of depth that are scored: as far as the grid reaches."""
NEAR_M = 0.4
"""A depth this close to the measured one falls into the right voxel of `mid`, or beside it."""
WORST, BINS = (1e-4, 10.0), 1024
"""Relative errors are counted in bins of 1.1 %, of which the median is read off."""


@dataclass(frozen=True)
class SightScores:
    """Scores of one validation; nan where no target was there to tell."""

    accuracy: float
    """Share of the pixels with a known class, labelled lidar points mostly, that get it."""
    miou: float
    """Mean IoU over those of the 19 classes that occur there."""
    iou_per_class: dict[str, float]
    depth_error: float
    """Median relative error of the depth in use, prediction and prior merged."""
    depth_near: float
    """Share of the depths within 0.4 m of the measured one."""
    depth_near_by_range: dict[str, float]
    num_pixels: int
    num_depths: int

    @property
    def quality(self) -> float:
        """What is best: the mean of `miou` and `depth_near`, or the one that there is."""
        known = [one for one in (self.miou, self.depth_near) if not math.isnan(one)]
        return sum(known) / len(known) if known else 0.0

    def values(self) -> dict[str, float]:
        """Return the figures by name, those that there are."""
        named = {
            'accuracy': self.accuracy,
            'miou': self.miou,
            'depth_error': self.depth_error,
            'depth_near': self.depth_near,
        }
        return {name: value for name, value in named.items() if not math.isnan(value)}


class SightCounts:
    """Counts of one validation, on the device of the network."""

    def __init__(self, device: torch.device) -> None:
        """Start with no frames."""
        ranges = len(RANGES_M) - 1
        sizes = (CLASSES**2, BINS, 2 * ranges)
        self.counts = torch.zeros(sum(sizes), dtype=torch.int64, device=device)
        self.pairs, self.errors, self.near = self.counts.split(sizes)

    def add(self, model: CigOcc, batch: Batch) -> None:
        """Count the classes and depths of a batch on the network's device."""
        sight = see(model, batch)
        if batch.extra is not None:
            self._add_classes(sight.semantic_mask_logits.float(), batch.extra.classes)
        self._add_depths(sight.depth.cell_m.float(), batch.depth)

    def _add_classes(self, logits: Tensor, classes: Tensor) -> None:
        """Take mask logits (B, 19, h, w) and train ids (B, H, W), 255 = unknown."""
        size = tuple(classes.shape[1:])
        shown = functional.interpolate(logits, size, mode='bilinear', align_corners=False)
        expected = classes.long()
        known = (expected != IGNORE) & (expected > 0)
        cell = CLASSES * shown.argmax(1) + expected - 1
        counted = torch.where(known, cell, CLASSES**2).flatten()
        self.pairs += torch.bincount(counted, minlength=CLASSES**2 + 1)[: CLASSES**2]

    def _add_depths(self, metres: Tensor, measured: Tensor) -> None:
        """Take metres and measured metres (B, h, w), 0 = unknown."""
        edges = torch.tensor(RANGES_M, device=metres.device)
        known = (measured > 0) & (measured <= RANGES_M[-1])
        error = (metres - measured).abs()
        relative = error / measured.clamp_min(1e-3)
        low, high = (math.log(one) for one in WORST)
        place = (relative.clamp(*WORST).log() - low) / (high - low) * BINS
        bins = torch.where(known, place.long().clamp(0, BINS - 1), BINS)
        self.errors += torch.bincount(bins.flatten(), minlength=BINS + 1)[:BINS]
        ranges = len(RANGES_M) - 1
        within = torch.bucketize(measured, edges).clamp(1, ranges) - 1
        cell = torch.where(known, 2 * within + (error <= NEAR_M), 2 * ranges)
        self.near += torch.bincount(cell.flatten(), minlength=2 * ranges + 1)[: 2 * ranges]

    def compute(self) -> SightScores:
        """Return the scores of everything counted so far."""
        pairs = self.pairs.reshape(CLASSES, CLASSES).double().cpu()
        hit, expected = pairs.diag(), pairs.sum(0)
        iou = hit / (expected + pairs.sum(1) - hit).clamp_min(1)
        occurs = expected > 0
        near = self.near.reshape(-1, 2).double().cpu()
        total, close = near.sum(1), near[:, 1]
        names = [f'{low:g}-{high:g}' for low, high in zip(RANGES_M, RANGES_M[1:], strict=False)]
        return SightScores(
            accuracy=_share(hit.sum(), expected.sum()),
            miou=float(iou[occurs].mean()) if bool(occurs.any()) else math.nan,
            iou_per_class={
                name: float(iou[index])
                for index, name in enumerate(CLASS_NAMES[1:])
                if occurs[index]
            },
            depth_error=_median(self.errors.cpu()),
            depth_near=_share(close.sum(), total.sum()),
            depth_near_by_range={
                name: _share(close[index], total[index])
                for index, name in enumerate(names)
                if total[index] > 0
            },
            num_pixels=int(expected.sum()),
            num_depths=int(total.sum()),
        )


def _share(part: Tensor, whole: Tensor) -> float:
    return float(part / whole) if whole > 0 else math.nan


def _median(counts: Tensor) -> float:
    """Return the middle of the relative errors, from their counts in bins."""
    total = int(counts.sum())
    if total == 0:
        return math.nan
    index = int(torch.searchsorted(counts.cumsum(0), (total + 1) // 2))
    low, high = (math.log(one) for one in WORST)
    return math.exp(low + (index + 0.5) / BINS * (high - low))
