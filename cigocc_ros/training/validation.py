"""Score a network on prepared frames."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cigocc_ros.evaluation.metrics import SscMetrics, SscScores
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.training.augmentation import Sample
from cigocc_ros.training.config import Stage
from cigocc_ros.training.scene_dataset import SceneDataset


@torch.inference_mode()
def validate(
    model: CigOcc, dataset: SceneDataset, num_frames: int = 0, stage: Stage = 'joint'
) -> SscScores:
    """Return the scores of `model` over `num_frames` evenly spread frames, 0 for all of them.

    Stage '1' is scored by its own logits on the query grid, any other by the output.
    """
    was_training = model.training
    model.eval()
    metrics = SscMetrics()
    count = min(num_frames or len(dataset), len(dataset))
    for position in range(count):
        sample = dataset[position * len(dataset) // count]
        metrics.update(*_prediction_and_target(model, sample, stage))
    model.train(was_training)
    return metrics.compute()


def _prediction_and_target(
    model: CigOcc, sample: Sample, stage: Stage
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    arrays = (sample.image, sample.depth_prior, sample.pixel_from_velo, sample.velo_from_pixel)
    inputs = [torch.from_numpy(array)[None] for array in arrays]
    logits: Tensor
    if stage == '1':
        logits, target = model.stage_one(*inputs).logits, sample.query_labels
    else:
        logits, target = model(*inputs).logits, sample.labels
    return logits.argmax(1)[0].numpy(), target
