"""Score a trained network with every depth prior, on generated streets and on real frames."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cigocc_ros.core.frames import CameraFrame, labels_on_grid
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.prior import DEPTH, NONE, STEREO, Prior
from cigocc_ros.data.camera_frames import sequence_frame
from cigocc_ros.data.kitti_layout import FrameKey, sequence_folder
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.evaluation.evaluate import evaluate, frames_to_score
from cigocc_ros.evaluation.ground_truth import GroundTruth, open_ground_truth
from cigocc_ros.evaluation.metrics import SscScores
from cigocc_ros.evaluation.ranges import RANGES_M
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.model.cost import example_inputs, measure_cost
from cigocc_ros.model.proposals import HIT_THRESHOLD, propose
from cigocc_ros.runtime.engine import TORCH
from cigocc_ros.runtime.predictor import Predictor
from cigocc_ros.training.cache import FrameRef
from cigocc_ros.training.losses import mask_bce
from cigocc_ros.training.objectives import model_inputs
from cigocc_ros.training.scene_dataset import SceneDataset, collate
from cigocc_ros.training.validation import validate
from cigocc_ros.training.views import measured_depth

PRIORS: tuple[Prior, ...] = (NONE, STEREO, DEPTH)
TIMED_FORWARDS = 20
Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class RealFrames:
    """Real frames with ground truth, read once with every prior; depth is the lidar scan."""

    truth: GroundTruth
    keys: tuple[FrameKey, ...]
    frames: dict[tuple[FrameKey, Prior], CameraFrame]

    @classmethod
    def read(cls, root: Path, truth_root: Path, sequences: Sequence[str]) -> RealFrames:
        """Read the frames of `sequences` that have ground truth; raise DataFileError."""
        truth = open_ground_truth(truth_root)
        keys = frames_to_score(truth, None, sequences)
        frames = {
            (key, prior): _with_prior(
                KittiSequence(sequence_folder(root, key.sequence)), key.frame_id, prior
            )
            for key in keys
            for prior in PRIORS
        }
        return cls(truth, keys, frames)

    def scores(self, checkpoint: Path, threads: int) -> Scores:
        """Score a checkpoint folder as `cigocc evaluate` does: 0.2 m voxels, whole volume."""
        predictor = Predictor.from_model_dir(checkpoint, TORCH, threads)
        return {prior: self._scores_with(predictor, prior) for prior in PRIORS}

    def _scores_with(self, predictor: Predictor, prior: Prior) -> dict[str, float]:
        def predict(key: FrameKey) -> np.ndarray:
            return labels_on_grid(predictor(self.frames[key, prior]), SEMANTIC_KITTI_GRID)

        return _plain(evaluate(self.keys, self.truth, predict).scores[RANGES_M[-1]])


def synthetic_scores(model: CigOcc, frames: Sequence[FrameRef]) -> Scores:
    """Score on the network's own output grid, all frames, with every prior."""
    return {
        prior: _plain(validate(model, SceneDataset(frames, model.config, prior)))
        for prior in PRIORS
    }


@torch.inference_mode()
def inner_facts(model: CigOcc, frames: Sequence[FrameRef]) -> dict[str, float]:
    """Return means over frames of what explains a score.

    Losses of both mask heads, stage-1 IoU on the query grid, and shares of the voxels in view:
    those that rule D7 wants as proposals and those that got one of the slots (all in view try
    where none is wanted).
    """
    dataset = SceneDataset(frames, model.config)
    rows = [_facts_of(model, dataset, index) for index in range(len(dataset))]
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return means | {'stage1_iou': validate(model, dataset, stage='1').iou}


def cost(model: CigOcc) -> dict[str, float]:
    """Return parameters, GMAC, and the CPU milliseconds of the fastest of some fp32 forwards.

    CPU time, all threads together: other processes stretch the wall clock several times.
    """
    counted = measure_cost(model.config)
    return {
        'parameters': counted.parameters,
        'gmac': counted.macs / 1e9,
        'forward_cpu_ms': 1e3 * min(_forward_seconds(model) for _ in range(TIMED_FORWARDS)),
    }


def _with_prior(sequence: KittiSequence, frame_id: str, prior: Prior) -> CameraFrame:
    if prior != DEPTH:
        return sequence_frame(sequence, frame_id, prior)
    mono = sequence_frame(sequence, frame_id, NONE)
    return CameraFrame(**{**vars(mono), 'depth_m': measured_depth(sequence, frame_id)})


def _facts_of(model: CigOcc, dataset: SceneDataset, index: int) -> dict[str, float]:
    batch = collate([dataset[index]])
    one = model.stage_one(*model_inputs(batch))
    _, extractor_masks = model.extractor(one.image)
    config, in_view = model.config, one.geometry.in_image
    proposed = propose(
        one.logits, one.hit, in_view, config.proposal_threshold, config.max_proposals
    )
    occupied = 1 - one.logits.softmax(1)[:, 0]
    wanted = (occupied > config.proposal_threshold) | (one.hit > HIT_THRESHOLD)
    seen = int(in_view.sum())
    masks = (batch.masks, batch.mask_valid)
    return {
        'semantic_mask_loss': float(mask_bce(one.semantic_mask_logits, *masks)),
        'extractor_mask_loss': float(mask_bce(extractor_masks, *masks)),
        'wanted_share': int((wanted & in_view).sum()) / seen,
        'proposed_share': int((proposed < in_view.numel()).sum()) / seen,
    }


@torch.inference_mode()
def _forward_seconds(model: CigOcc) -> float:
    inputs = example_inputs(model.config)
    started = time.process_time()
    model(*inputs)
    return time.process_time() - started


def _plain(scores: SscScores) -> dict[str, float]:
    names = ('iou', 'miou', 'precision', 'recall')
    return {name: getattr(scores, name) for name in names} | {'voxels': scores.num_voxels}
