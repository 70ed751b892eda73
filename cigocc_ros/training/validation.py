"""Score a network on prepared frames, where the network is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import Tensor

from cigocc_ros.core.labels import IGNORE, NUM_CLASSES
from cigocc_ros.evaluation.metrics import SscMetrics, SscScores
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.training.config import Stage
from cigocc_ros.training.objectives import model_inputs
from cigocc_ros.training.scene_dataset import Batch, SceneDataset, collate


class StoppedError(Exception):
    """A validation was called off."""


def validate(
    model: CigOcc,
    dataset: SceneDataset,
    num_frames: int = 0,
    stage: Stage = 'joint',
    fabric: Fabric | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> SscScores:
    """Return the scores of `model` over `num_frames` evenly spread frames, 0 for all of them.

    Raises StoppedError where `stopped` said so, in any process, before all of them were scored.

    Stage '1' is scored by its own logits on the query grid, any other by the output. The processes
    of `fabric` share the frames, and each returns the scores of all. Classes are chosen and
    counted on the device of the network; 400 counts come back.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    pairs = torch.zeros(NUM_CLASSES**2, dtype=torch.int64, device=device)
    left_out = pairs.new_zeros(1)
    count = min(num_frames or len(dataset), len(dataset))
    rank, num_processes = (0, 1) if fabric is None else (fabric.global_rank, fabric.world_size)
    with torch.inference_mode():
        for position in range(rank, count, num_processes):
            if stopped():
                left_out += 1
                break
            batch = collate([dataset[position * len(dataset) // count]])
            pairs += _pairs(model, batch, stage, device)
    counted = torch.cat((pairs, left_out))
    if fabric is not None:
        counted = torch.as_tensor(fabric.all_reduce(counted.to(fabric.device), reduce_op='sum'))
    model.train(was_training)
    pairs, left_out = counted.cpu().split([NUM_CLASSES**2, 1])
    if left_out:
        raise StoppedError
    metrics = SscMetrics()
    metrics.confusion = pairs.reshape(NUM_CLASSES, NUM_CLASSES).numpy()
    return metrics.compute()


def _pairs(model: CigOcc, batch: Batch, stage: Stage, device: torch.device) -> Tensor:
    """Count (prediction, target) pairs of known voxels, (400,) int64, rows of predictions."""
    inputs = [one.to(device) for one in model_inputs(batch)]
    logits: Tensor
    if stage == '1':
        logits, target = model.stage_one(*inputs).logits, batch.query_labels
    else:
        logits, target = model(*inputs).logits, batch.labels
    predicted, expected = logits.argmax(1).flatten(), target.to(device).flatten().long()
    # Unknown voxels go to a bin of their own: no indexing by a mask, which would wait for the GPU.
    unknown = NUM_CLASSES**2
    cell = torch.where(expected == IGNORE, unknown, NUM_CLASSES * predicted + expected)
    return torch.bincount(cell, minlength=unknown + 1)[:unknown]
