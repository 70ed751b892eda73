"""Score a network on prepared frames."""

from __future__ import annotations

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from cigocc_ros.evaluation.metrics import SscMetrics, SscScores
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.training.augmentation import Sample
from cigocc_ros.training.config import Stage
from cigocc_ros.training.objectives import model_inputs
from cigocc_ros.training.scene_dataset import SceneDataset, collate


@torch.inference_mode()
def validate(
    model: CigOcc,
    dataset: SceneDataset,
    num_frames: int = 0,
    stage: Stage = 'joint',
    fabric: Fabric | None = None,
) -> SscScores:
    """Return the scores of `model` over `num_frames` evenly spread frames, 0 for all of them.

    Stage '1' is scored by its own logits on the query grid, any other by the output. The processes
    of `fabric` share the frames, and each returns the scores of all.
    """
    was_training = model.training
    model.eval()
    metrics = SscMetrics()
    count = min(num_frames or len(dataset), len(dataset))
    rank, num_processes = (0, 1) if fabric is None else (fabric.global_rank, fabric.world_size)
    for position in range(rank, count, num_processes):
        sample = dataset[position * len(dataset) // count]
        metrics.update(*_prediction_and_target(model, sample, stage))
    if fabric is not None:
        pairs = torch.from_numpy(metrics.confusion).to(fabric.device)
        metrics.confusion = fabric.all_reduce(pairs, reduce_op='sum').cpu().numpy()
    model.train(was_training)
    return metrics.compute()


def _prediction_and_target(
    model: CigOcc, sample: Sample, stage: Stage
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    device = next(model.parameters()).device
    inputs = [one.to(device) for one in model_inputs(collate([sample]))]
    logits: Tensor
    if stage == '1':
        logits, target = model.stage_one(*inputs).logits, sample.query_labels
    else:
        logits, target = model(*inputs).logits, sample.labels
    return logits.argmax(1)[0].cpu().numpy(), target
