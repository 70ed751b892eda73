"""Learning-rate schedule over elapsed share, and the moving average of weights."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import cast

import torch

from cigocc_ros.model.cigocc import CigOcc


@dataclass(frozen=True)
class Horizon:
    """When a stage ends: after `steps`, or after `seconds` of wall clock where given."""

    steps: int
    seconds: float | None = None

    def progress(self, step: int, elapsed_s: float) -> float:
        """Return the share that is done, 1 at the end."""
        done = step / self.steps if self.seconds is None else elapsed_s / self.seconds
        return min(done, 1.0)


def rate_factor(step: int, progress: float, warmup_steps: int, final: float) -> float:
    """Return the learning rate relative to its peak: linear warm-up times cosine to `final`."""
    warmup = min(1.0, (step + 1) / (warmup_steps + 1))
    return warmup * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))


class WeightAverage:
    """Exponential moving average of weights and batch statistics."""

    def __init__(self, model: CigOcc, decay: float) -> None:
        """Start at the weights of `model`."""
        self.decay = decay
        self.updates = 0
        self.model = cast(CigOcc, copy.deepcopy(model)).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: CigOcc) -> None:
        """Move towards the weights of `model`; early updates move further."""
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 10))
        current = model.state_dict()
        for name, average in self.model.state_dict().items():
            if average.is_floating_point():
                average.lerp_(current[name], 1 - decay)
            else:
                average.copy_(current[name])
