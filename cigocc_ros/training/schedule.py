"""When stages end, the learning rates of the parts, and the moving average of weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.model.fddwnet_branch import FddwnetBranch
from cigocc_ros.training.config import Stage, TrainConfig


@dataclass(frozen=True)
class Horizon:
    """When a stage ends: after `steps`, or after `seconds` of wall clock where given."""

    steps: int
    seconds: float | None = None

    def progress(self, step: int, elapsed_s: float) -> float:
        """Return the share that is done, 1 at the end."""
        done = step / self.steps if self.seconds is None else elapsed_s / self.seconds
        return min(done, 1.0)


@dataclass(frozen=True)
class StagePlan:
    """One stage of a run and when it ends."""

    stage: Stage
    horizon: Horizon


def plan_stages(
    stage: Stage | Literal['both', 'eyes+joint'],
    config: TrainConfig,
    budget_s: float | None = None,
) -> list[StagePlan]:
    """Divide the steps of a run, or its time budget in seconds, among its stages."""
    if budget_s is not None and budget_s <= 0:
        raise ConfigError(f'the time budget must be positive, found {budget_s} s')
    shares: list[tuple[Stage, float]]
    if stage == 'both':
        shares = [('1', config.stage1_share), (config.second_stage, 1 - config.stage1_share)]
    elif stage == 'eyes+joint':
        shares = [('eyes', config.eyes_share), ('joint', 1 - config.eyes_share)]
    else:
        shares = [(stage, 1.0)]
    return [
        StagePlan(
            name,
            Horizon(
                max(1, round(share * config.steps)),
                None if budget_s is None else share * budget_s,
            ),
        )
        for name, share in shares
    ]


def rate_factor(step: int, progress: float, warmup_steps: int, final: float) -> float:
    """Return the learning rate relative to its peak: linear warm-up times cosine to `final`."""
    warmup = min(1.0, (step + 1) / (warmup_steps + 1))
    return warmup * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))


def slow_parts(model: CigOcc, config: TrainConfig) -> list[tuple[nn.Module, float]]:
    """Return the pretrained parts of a network with their learning rates relative to the rest."""
    parts: list[tuple[nn.Module, float]] = [(model.backbone, config.backbone_rate)]
    if isinstance(model.semantic, FddwnetBranch):
        parts.append((model.semantic.network, config.semantic_rate))
    return parts


def parameter_groups(
    model: CigOcc, parameters: Sequence[nn.Parameter], config: TrainConfig
) -> list[dict[str, Any]]:
    """Decay matrices and kernels; biases, norms and scales stay free.

    Pretrained parts have groups of their own where their learning rate differs; at a rate of 0
    they need no gradient either.
    """
    factors = {
        id(parameter): factor
        for part, factor in slow_parts(model, config)
        for parameter in part.parameters()
    }
    groups: list[dict[str, Any]] = []
    for factor in sorted({1.0, *factors.values()}, reverse=True):
        own = [p for p in parameters if factors.get(id(p), 1.0) == factor]
        for parameter in own:
            parameter.requires_grad_(factor > 0)
        for decay, matrices in ((config.weight_decay, True), (0.0, False)):
            chosen = [parameter for parameter in own if (parameter.ndim > 1) == matrices]
            if chosen:
                groups.append({'params': chosen, 'weight_decay': decay, 'rate_factor': factor})
    return groups


class WeightAverage:
    """Exponential moving average of weights and batch statistics."""

    def __init__(self, model: CigOcc, decay: float | None) -> None:
        """Start at the weights of `model`; without `decay` there is no average, only a copy."""
        self.decay = decay
        self.updates = 0
        self.model: CigOcc = copy.deepcopy(model).eval().requires_grad_(False)

    def restart(self, model: CigOcc) -> None:
        """Begin anew at the weights of `model`."""
        self.updates = 0
        self._move(model, 0.0)

    def update(self, model: CigOcc) -> None:
        """Move towards the weights of `model`; early updates move further."""
        self.updates += 1
        if self.decay is not None:
            self._move(model, min(self.decay, self.updates / (self.updates + 10)))

    def current(self, model: CigOcc) -> CigOcc:
        """Return the averaged network in eval mode, or a copy of `model` where nothing is."""
        if self.decay is None:
            self._move(model, 0.0)
        return self.model

    @torch.no_grad()
    def _move(self, model: CigOcc, decay: float) -> None:
        """Move all tensors at once: one by one they are hundreds of small kernels on a GPU."""
        current, average = model.state_dict(), self.model.state_dict()
        moved = [name for name, value in average.items() if value.is_floating_point() and decay]
        copied = [name for name in average if name not in set(moved)]
        if moved:
            torch._foreach_lerp_(
                [average[name] for name in moved], [current[name] for name in moved], 1 - decay
            )
        if copied:
            torch._foreach_copy_(
                [average[name] for name in copied], [current[name] for name in copied]
            )
