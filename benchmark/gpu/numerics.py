"""Do float16 layers move labels? The same frames through the same weights, fp32 and fp16."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.gpu.networks import open_network, precision_context, tensors_of
from benchmark.gpu.plan import AbsentError
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.core.prior import AUTO
from cigocc_ros.data.camera_frames import sequence_frame, sequence_prior
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.evaluation.compare import AgreementCounter, Labels
from cigocc_ros.model.output import ExportModel
from cigocc_ros.runtime.preprocess import Preprocessor


def compare_precisions(args: argparse.Namespace) -> dict[str, Any]:
    """Return the agreement of fp16 with fp32 on frames of a KITTI folder; TF32 is off."""
    if args.frames is None or not args.frames.is_dir():
        raise AbsentError(f'no frames at {args.frames}: name a KITTI folder with --frames')
    network = open_network(args.config, args.checkpoint, args.device)
    config = network.model.config
    preprocess = Preprocessor(config.image_size, config.semantic_prior)
    counter, finite = AgreementCounter(), True
    for frame in islice(_frames(args.frames), args.count):
        tensors = tensors_of(preprocess(frame), args.device)
        exact, _ = _answer(network, tensors, 'fp32', args.device)
        rounded, whole = _answer(network, tensors, 'fp16', args.device)
        counter.update(exact, rounded)
        finite = finite and whole
    return {
        'weights': 'trained' if args.checkpoint else 'random',
        'frames': f'{args.frames.name}, stereo prior where there is a right image',
        'all_finite': finite,
        **counter.compute().to_dict(),
    }


def _frames(root: Path) -> Iterator[CameraFrame]:
    folders = sorted(path.parent for path in root.rglob('calib.txt'))
    if not folders:
        raise AbsentError(f'{root}: no sequence (calib.txt) below it')
    for folder in folders:
        sequence = KittiSequence(folder)
        prior = sequence_prior(sequence, AUTO)
        for frame_id in sequence.frame_ids:
            yield sequence_frame(sequence, frame_id, prior)


def _answer(
    network: ExportModel, tensors: tuple[Tensor, ...], precision: str, device: str
) -> tuple[tuple[Labels, Labels], bool]:
    """Return (labels, probability) and whether all logits were finite."""
    logits = ExportModel(network.model, with_logits=True)
    with torch.inference_mode(), precision_context(precision, device):
        labels, probability, scores = logits(*tensors)
    arrays = (np.asarray(one[0].cpu()) for one in (labels, probability))
    first, second = arrays
    return (first, second), bool(torch.isfinite(scores).all())
