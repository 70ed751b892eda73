"""What a training step costs in each stage, in seconds of the processor for a sample.

    python -m benchmark.stage_cost --model mid --precision bf16

Forward and backward pass of a batch of one with the losses of the stage, on one thread: what a
busy machine does meanwhile does not count. Loading and augmentation, which all stages share, are
left out, and so is the optimiser.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import get_args

import numpy as np
import torch

from cigocc_ros.core.config import FEATURE_STRIDE, ModelConfig, load_model_config
from cigocc_ros.core.labels import NUM_CLASSES
from cigocc_ros.core.projection import velo_from_pixel
from cigocc_ros.core.typed_yaml import to_mapping
from cigocc_ros.model.build import build_model
from cigocc_ros.training.augmentation import Sample
from cigocc_ros.training.config import LossWeights, Stage
from cigocc_ros.training.image_targets import ImageTargets
from cigocc_ros.training.losses import total_loss
from cigocc_ros.training.objectives import set_trainable, stage_terms
from cigocc_ros.training.scene_dataset import Batch, collate

WEIGHTS = LossWeights(weak_masks=0.3, weak_depth=0.05)


def main(words: Sequence[str] | None = None) -> int:
    """Print a row for each stage; return 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--model', default='mid', help='(default %(default)s)')
    parser.add_argument('--precision', choices=('fp32', 'bf16'), default='bf16')
    parser.add_argument('--passes', type=int, default=3, help='timed after one (%(default)s)')
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    config = load_model_config(args.model)
    batch = collate([made_up_sample(config)])
    seconds = {
        stage: seconds_of(config, batch, stage, args.precision, args.passes)
        for stage in get_args(Stage)
    }
    for stage, one in seconds.items():
        share = f'{seconds["joint"] / one:.1f} times cheaper than joint'
        sys.stdout.write(f'{args.model} {args.precision} stage {stage}: {one:.2f} s, {share}\n')
    return 0


def seconds_of(
    config: ModelConfig, batch: Batch, stage: Stage, precision: str, passes: int
) -> float:
    """Return the processor's seconds of the fastest of some passes; the first is left out."""
    torch.manual_seed(0)
    model = build_model(config)
    set_trainable(model, stage)
    half = torch.autocast('cpu', torch.bfloat16) if precision == 'bf16' else nullcontext()
    times = []
    for _ in range(passes + 1):
        started = time.process_time()
        with half:
            terms = stage_terms(model, batch, stage)
        total_loss(terms, to_mapping(WEIGHTS)).backward()
        times.append(time.process_time() - started)
    return min(times[1:])


def made_up_sample(config: ModelConfig) -> Sample:
    """Return a sample with targets everywhere, a camera that looks along x, and noise."""
    rng = np.random.default_rng(0)
    height, width = config.image_size
    cells = (height // FEATURE_STRIDE, width // FEATURE_STRIDE)
    focal, columns, rows = 0.58 * width, width / 2, height / 2
    matrix = np.array(
        [[columns, -focal, 0, 0], [rows, 0, -focal, 0], [1, 0, 0, 0]], dtype=np.float64
    )
    masks = rng.random((NUM_CLASSES - 1, *cells)) < 0.1
    valid = rng.random(masks.shape) < 0.3
    depth = rng.uniform(3, 50, cells).astype(np.float32)
    classes = rng.integers(1, NUM_CLASSES, (height, width), dtype=np.uint8)
    labels, query = (
        rng.choice(np.arange(NUM_CLASSES, dtype=np.uint8), shape)
        for shape in (config.output_shape, config.query_shape)
    )
    return Sample(
        image=rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        depth_prior=rng.uniform(3, 50, (height, width)).astype(np.float32),
        pixel_from_velo=matrix.astype(np.float32),
        velo_from_pixel=velo_from_pixel(matrix).astype(np.float32),
        labels=labels,
        query_labels=query,
        masks=masks.astype(np.uint8),
        mask_valid=valid,
        depth=np.where(valid[0], depth, 0),
        semantic_prior=masks.argmax(0).astype(np.uint8),
        extra=ImageTargets(masks.astype(np.uint8), ~valid, depth, classes),
    )


if __name__ == '__main__':
    sys.exit(main())
