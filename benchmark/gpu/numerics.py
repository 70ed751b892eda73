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

from benchmark.gpu.networks import config_of, open_network, precision_context, tensors_of
from benchmark.gpu.plan import AbsentError
from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.core.installed import models_dir
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.core.prior import AUTO
from cigocc_ros.data.camera_frames import DataFrames
from cigocc_ros.evaluation.compare import AgreementCounter, Labels
from cigocc_ros.model.output import ExportModel
from cigocc_ros.runtime.contract import Arrays
from cigocc_ros.runtime.preprocess import Preprocessor
from cigocc_ros.runtime.random_frames import random_inputs
from cigocc_ros.runtime.self_check import load_golden

MADE_UP, SEED = 7, 2026


def compare_precisions(args: argparse.Namespace) -> dict[str, Any]:
    """Return the agreement of fp16 with fp32; TF32 is off.

    On frames of the KITTI folder `args.frames`; without one, on what every clone has: the stored
    frame of the shipped model of this size, and made-up frames of random cameras.
    """
    network = open_network(args.config, args.checkpoint, args.device)
    config = config_of(network)
    if args.frames is None:
        inputs, text = iter(own_inputs(config)), 'of the repository: stored and made up'
    else:
        preprocess = Preprocessor(config.image_size, config.semantic_prior)
        inputs = (preprocess(frame) for frame in _frames(args.frames))
        text = f'{args.frames.name}, stereo prior where there is a right image'
    counter, finite = AgreementCounter(), True
    for arrays in islice(inputs, args.count):
        tensors = tensors_of(arrays, args.device)
        exact, _ = _answer(network, tensors, 'fp32', args.device)
        rounded, whole = _answer(network, tensors, 'fp16', args.device)
        counter.update(exact, rounded)
        finite = finite and whole
    return {
        'weights': 'trained' if args.checkpoint else 'random',
        'frames': text,
        'all_finite': finite,
        **counter.compute().to_dict(),
    }


def own_inputs(config: ModelConfig) -> list[Arrays]:
    """Return inputs that need no file but those of the repository."""
    made_up = random_inputs(config.image_size, MADE_UP, SEED, config.semantic_prior)
    folder = models_dir() / config.name
    golden = load_golden(folder, load_manifest(folder)) if folder.is_dir() else None
    fits = golden is not None and set(golden.inputs) == set(made_up[0])
    return [golden.inputs, *made_up] if golden is not None and fits else made_up


def _frames(root: Path) -> Iterator[CameraFrame]:
    folders = sorted(path.parent for path in root.rglob('calib.txt'))
    if not folders:
        raise AbsentError(f'{root}: no sequence (calib.txt) below it')
    for folder in folders:
        frames = DataFrames(folder, AUTO)
        yield from (frames[index] for index in range(len(frames)))


def _answer(
    network: ExportModel, tensors: tuple[Tensor, ...], precision: str, device: str
) -> tuple[tuple[Labels, Labels], bool]:
    """Return (labels, probability) and whether all logits were finite."""
    logits = ExportModel(network.model, with_logits=True)
    with torch.inference_mode(), precision_context(precision, device):
        labels, probability, *_, scores = logits(*tensors)
    arrays = (np.asarray(one[0].cpu()) for one in (labels, probability))
    first, second = arrays
    return (first, second), bool(torch.isfinite(scores).all())
