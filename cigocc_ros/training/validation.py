"""Score a network on prepared frames."""

from __future__ import annotations

import torch

from cigocc_ros.evaluation.metrics import SscMetrics, SscScores
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.training.scene_dataset import SceneDataset


@torch.inference_mode()
def validate(model: CigOcc, dataset: SceneDataset, num_frames: int = 0) -> SscScores:
    """Return the scores of `model` over `num_frames` evenly spread frames, 0 for all of them."""
    was_training = model.training
    model.eval()
    metrics = SscMetrics()
    count = min(num_frames or len(dataset), len(dataset))
    for position in range(count):
        sample = dataset[position * len(dataset) // count]
        inputs = (
            torch.from_numpy(array)[None]
            for array in (
                sample.image,
                sample.depth_prior,
                sample.pixel_from_velo,
                sample.velo_from_pixel,
            )
        )
        labels = model(*inputs).logits.argmax(1)[0]
        metrics.update(labels.numpy(), sample.labels)
    model.train(was_training)
    return metrics.compute()
