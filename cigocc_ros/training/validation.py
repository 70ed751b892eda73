"""Score a network on prepared frames, where the network is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities import move_data_to_device
from torch import Tensor

from cigocc_ros.core.labels import IGNORE, NUM_CLASSES
from cigocc_ros.evaluation.metrics import SscMetrics, SscScores
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.training.config import Stage
from cigocc_ros.training.objectives import model_inputs
from cigocc_ros.training.scene_dataset import Batch, SceneDataset, collate
from cigocc_ros.training.sight_scores import SightCounts, SightScores

Scores = SscScores | SightScores


class StoppedError(Exception):
    """A validation was called off."""


def never() -> bool:
    """Say that nobody asked to stop."""
    return False


def score(
    model: CigOcc,
    dataset: SceneDataset,
    num_frames: int,
    stage: Stage,
    fabric: Fabric,
    stopped: Callable[[], bool] = never,
) -> Scores:
    """Return the scores of a stage: those of its voxels, or of what it sees where it has none."""
    if stage == 'eyes':
        return validate_sight(model, dataset, num_frames, fabric, stopped)
    return validate(model, dataset, num_frames, stage, fabric, stopped)


@contextmanager
def _evaluating(model: CigOcc) -> Iterator[None]:
    """Evaluate a network; each part of it, frozen or not, is then as it was."""
    training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in training:
            module.training = was_training


def validate_sight(
    model: CigOcc,
    dataset: SceneDataset,
    num_frames: int = 0,
    fabric: Fabric | None = None,
    stopped: Callable[[], bool] = never,
) -> SightScores:
    """Return the scores in 2D over evenly spread frames; arguments as those of `validate`."""
    device = next(model.parameters()).device
    counts = SightCounts(device)
    left_out = counts.counts.new_zeros(1)
    with torch.inference_mode(), _evaluating(model):
        for batch in _batches(dataset, num_frames, fabric):
            if stopped():
                left_out += 1
                break
            counts.add(model, to_device(batch, device))
    counts.counts.copy_(_of_all(counts.counts, left_out, fabric))
    return counts.compute()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return a batch on a device."""
    moved: Batch = move_data_to_device(batch, device)
    return moved


def _batches(dataset: SceneDataset, num_frames: int, fabric: Fabric | None) -> Iterator[Batch]:
    """Yield evenly spread frames, 0 for all, one a batch; processes share them."""
    count = min(num_frames or len(dataset), len(dataset))
    rank, num_processes = (0, 1) if fabric is None else (fabric.global_rank, fabric.world_size)
    for position in range(rank, count, num_processes):
        yield collate([dataset[position * len(dataset) // count]])


def _of_all(counts: Tensor, left_out: Tensor, fabric: Fabric | None) -> Tensor:
    """Return the counts of all processes, on the host; StoppedError where one was called off."""
    counted = torch.cat((counts, left_out))
    if fabric is not None:
        counted = torch.as_tensor(fabric.all_reduce(counted.to(fabric.device), reduce_op='sum'))
    counted = counted.cpu()
    if counted[-1]:
        raise StoppedError
    return counted[:-1]


def validate(
    model: CigOcc,
    dataset: SceneDataset,
    num_frames: int = 0,
    stage: Stage = 'joint',
    fabric: Fabric | None = None,
    stopped: Callable[[], bool] = never,
) -> SscScores:
    """Return the scores of `model` over `num_frames` evenly spread frames, 0 for all of them.

    Raises StoppedError where `stopped` said so, in any process, before all of them were scored.

    Stage '1' is scored by its own logits on the query grid, any other by the output. The processes
    of `fabric` share the frames, and each returns the scores of all. Classes are chosen and
    counted on the device of the network; 400 counts come back.
    """
    device = next(model.parameters()).device
    pairs = torch.zeros(NUM_CLASSES**2, dtype=torch.int64, device=device)
    left_out = pairs.new_zeros(1)
    with torch.inference_mode(), _evaluating(model):
        for batch in _batches(dataset, num_frames, fabric):
            if stopped():
                left_out += 1
                break
            pairs += _pairs(model, batch, stage, device)
    pairs = _of_all(pairs, left_out, fabric)
    metrics = SscMetrics()
    metrics.confusion = pairs.reshape(NUM_CLASSES, NUM_CLASSES).numpy()
    return metrics.compute()


def _pairs(model: CigOcc, batch: Batch, stage: Stage, device: torch.device) -> Tensor:
    """Count (prediction, target) pairs of known voxels, (400,) int64, rows of predictions."""
    inputs = [one.to(device) for one in model_inputs(batch)]
    if stage == '1':
        labels, target = model.stage_one(*inputs).logits.argmax(1), batch.query_labels
    else:
        labels, target = model.answers(*inputs)[0].labels, batch.labels
    predicted, expected = labels.flatten().long(), target.to(device).flatten().long()
    # Unknown voxels go to a bin of their own: no indexing by a mask, which would wait for the GPU.
    unknown = NUM_CLASSES**2
    cell = torch.where(expected == IGNORE, unknown, NUM_CLASSES * predicted + expected)
    return torch.bincount(cell, minlength=unknown + 1)[:unknown]
