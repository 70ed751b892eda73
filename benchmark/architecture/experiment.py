"""Train one variant on a few frames, then score it, whole and with parts taken away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.architecture.scenes import with_features, with_semantic_prior
from cigocc_ros.core.arrays import Arrays
from cigocc_ros.core.config import ModelConfig, from_mapping, to_mapping
from cigocc_ros.evaluation.metrics import SscMetrics
from cigocc_ros.model.build import build_model
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.training.augmentation import Sample
from cigocc_ros.training.config import AugmentConfig, LossWeights
from cigocc_ros.training.losses import total_loss
from cigocc_ros.training.objectives import (
    freeze_norm_statistics,
    model_inputs,
    set_trainable,
    stage_terms,
)
from cigocc_ros.training.scene_dataset import Batch, augmented_sample, collate, make_sample
from cigocc_ros.training.schedule import rate_factor

Given = Literal['nothing', 'features', 'semantic_prior']
Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Variant:
    """One network to train: what differs from the base config, and what it is given."""

    name: str
    says: str
    model: dict[str, Any] = field(default_factory=dict)
    given: Given = 'nothing'
    """How the class shares of the cells enter: not, as F_2D, or as the engine's fifth input."""

    def config(self, base: ModelConfig) -> ModelConfig:
        """Return the architecture; raise ConfigError for a switch that it does not have."""
        changed = {**to_mapping(base), **self.model}
        return from_mapping(ModelConfig, changed, f'variant {self.name}')


@dataclass(frozen=True)
class Budget:
    """How long and with what rate every variant is trained, one frame a step."""

    steps: int
    learning_rate: float = 2e-3
    warmup_steps: int = 10
    final_rate: float = 0.01
    weight_decay: float = 0.01
    clip_norm: float = 35.0
    freeze_norm_share: float = 0.7
    augment: AugmentConfig = AugmentConfig()
    losses: LossWeights = LossWeights(scal_sem=0.3)


def prepared(arrays: Sequence[Arrays], variant: Variant, config: ModelConfig) -> list[Arrays]:
    """Return the frames with what the variant is given of their classes."""
    if variant.given == 'features':
        return [with_features(frame, config.semantic_channels) for frame in arrays]
    if variant.given == 'semantic_prior':
        return [with_semantic_prior(frame) for frame in arrays]
    return list(arrays)


def train(frames: Sequence[Arrays], config: ModelConfig, budget: Budget, seed: int) -> CigOcc:
    """Return a network trained jointly from random weights, in eval mode."""
    torch.manual_seed(seed)
    model = build_model(config)
    optimizer = torch.optim.AdamW(
        set_trainable(model, 'joint'), lr=budget.learning_rate, weight_decay=budget.weight_decay
    )
    weights = to_mapping(budget.losses)
    for step, batch in enumerate(_batches(frames, config, budget, seed)):
        done = step / budget.steps
        if done >= budget.freeze_norm_share:
            freeze_norm_statistics(model)
        for group in optimizer.param_groups:
            group['lr'] = budget.learning_rate * rate_factor(
                step, done, budget.warmup_steps, budget.final_rate
            )
        loss = total_loss(_terms(model, batch), weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), budget.clip_norm)
        optimizer.step()
    return model.eval()


def scores(model: CigOcc, frames: Sequence[Arrays], prior: str) -> Scores:
    """Return percent of IoU and mIoU, of both stages, and what they lose without a part."""
    config = model.config
    samples = [make_sample(frame, config, _prior(frame, config, prior)) for frame in frames]
    whole = _score(model, samples)
    found: Scores = {'whole': whole, 'stage1': _score(model, samples, stage1=True)}
    for name, (change, removed) in _removals(model, samples).items():
        with ExitStack() as stack:
            for part in removed:
                stack.enter_context(_silenced(part))
            less = _score(model, change)
        found[name] = {key: less[key] - whole[key] for key in whole}
    return found


def run(
    train_frames: Sequence[Arrays],
    val_frames: Sequence[Arrays],
    variant: Variant,
    base: ModelConfig,
    budget: Budget,
    seed: int,
) -> dict[str, Any]:
    """Train and score one variant with one seed; return plain values."""
    config = variant.config(base)
    seen, unseen = (prepared(f, variant, config) for f in (train_frames, val_frames))
    started = time.monotonic()
    model = train(seen, config, budget, seed)
    seconds = time.monotonic() - started
    with torch.inference_mode():
        result = {
            'val': {prior: scores(model, unseen, prior) for prior in ('stereo', 'none')},
            'train': _score(
                model, [make_sample(f, config, _prior(f, config, 'stereo')) for f in seen]
            ),
        }
    settings = {'variant': asdict(variant), 'config': to_mapping(config), 'seed': seed}
    return {**settings, 'budget': to_mapping(budget), 'train_s': seconds, **result}


def _batches(
    frames: Sequence[Arrays], config: ModelConfig, budget: Budget, seed: int
) -> Iterator[Batch]:
    order = np.random.default_rng((seed, 0))
    queue: list[int] = []
    for step in range(budget.steps):
        queue = queue or order.permutation(len(frames)).tolist()
        rng = np.random.default_rng((seed, 1, step))
        yield collate([augmented_sample(frames[queue.pop()], config, budget.augment, rng)])


def _terms(model: CigOcc, batch: Batch) -> dict[str, Tensor]:
    """Return the joint losses; given features are what stage 1 fuses."""
    if batch.teacher_features is None:
        return stage_terms(model, batch, 'joint')
    with _features_given(model, batch.teacher_features):
        return stage_terms(model, batch, 'joint')


@contextmanager
def _features_given(model: CigOcc, features: Tensor) -> Iterator[None]:
    """Let the fusion see `features` in place of the semantic branch's."""
    handle = model.fusion.register_forward_pre_hook(lambda _, args: (features, *args[1:]))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _silenced(part: nn.Module) -> Iterator[None]:
    """Let a module give zeros."""

    def zeros(module: nn.Module, args: object, output: Any) -> Any:
        if isinstance(output, Tensor):
            return torch.zeros_like(output)
        return type(output)(torch.zeros_like(one) for one in output)

    handle = part.register_forward_hook(zeros)
    try:
        yield
    finally:
        handle.remove()


def _removals(
    model: CigOcc, samples: list[Sample]
) -> dict[str, tuple[list[Sample], list[nn.Module]]]:
    """Return what is changed of the samples, and which parts give zeros, by name."""
    images = [sample.image for sample in samples]
    foreign = [
        sample._replace(image=image)
        for sample, image in zip(samples, images[-1:] + images[:-1], strict=True)
    ]
    removals: dict[str, tuple[list[Sample], list[nn.Module]]] = {
        'foreign image': (foreign, []),
        'zero Extractor': (samples, [model.extractor.features, *model.extractor.others]),
    }
    if model.fusion.semantics is not None:
        removals['zero F_i'] = (samples, [model.fusion.semantics])
    if model.config.semantic_prior:
        blind = [s._replace(semantic_prior=np.zeros_like(s.semantic_prior)) for s in samples]
        removals['no semantic prior'] = (blind, [])
    return removals


def _score(model: CigOcc, samples: Sequence[Sample], stage1: bool = False) -> dict[str, float]:
    metrics = SscMetrics()
    for sample in samples:
        batch = collate([sample])
        out = _with_given(model, batch, lambda b: model(*model_inputs(b)))
        logits = out.stage1_logits if stage1 else out.logits
        target = sample.query_labels if stage1 else sample.labels
        metrics.update(logits.argmax(1)[0].numpy(), target)
    found = metrics.compute()
    return {'iou': 100 * found.iou, 'miou': 100 * found.miou}


def _with_given(model: CigOcc, batch: Batch, call: Callable[[Batch], Any]) -> Any:
    if batch.teacher_features is None:
        return call(batch)
    with _features_given(model, batch.teacher_features):
        return call(batch)


def _prior(frame: Arrays, config: ModelConfig, kind: str) -> Any:
    if kind == 'none':
        return np.zeros(config.image_size, dtype=np.float32)
    return frame[kind].astype(np.float32)
