"""What a run shows and measures of itself: progress bar, throughput, memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from tqdm import tqdm

from cigocc_ros.training.schedule import StagePlan

WARM_UP_STEPS = 3
"""Steps left out of the throughput: memory is allocated, kernels are chosen and compiled."""
LOSS_SMOOTHING = 0.95


class ProgressBar:
    """Show steps, or seconds of a time budget, with the time left and a smoothed loss."""

    def __init__(self, plan: StagePlan, done: float, visible: bool = True) -> None:
        """Start at the share `done` of the stage."""
        horizon = plan.horizon
        self.total = horizon.steps if horizon.seconds is None else round(horizon.seconds)
        self.bar = tqdm(
            total=self.total,
            initial=round(done * self.total),
            unit='step' if horizon.seconds is None else 's',
            desc=f'stage {plan.stage}',
            mininterval=1.0,
            disable=not visible,
        )
        self.loss = float('nan')
        self.count = 0

    def update(self, done: float, loss: float) -> None:
        """Show the share `done` after a step with `loss`."""
        self.count += 1
        kept = LOSS_SMOOTHING if self.count > 1 else 0.0
        self.loss = loss if kept == 0.0 else kept * self.loss + (1 - kept) * loss
        self.bar.set_postfix_str(f'{self.count} steps, loss {self.loss:.3f}', refresh=False)
        self.bar.update(round(done * self.total) - self.bar.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        self.bar.close()


class Throughput:
    """Frames per second of the training steps alone: no warm-up, validation or checkpoint."""

    def __init__(self, warm_up_steps: int = WARM_UP_STEPS) -> None:
        """Start measuring after `warm_up_steps`."""
        self.left_out = warm_up_steps
        self.frames = 0
        self.seconds = 0.0

    @contextmanager
    def step(self, frames: int) -> Iterator[None]:
        """Time one optimiser step over `frames` frames, which must end synchronised."""
        started = time.perf_counter()
        yield
        if self.left_out > 0:
            self.left_out -= 1
            return
        self.frames += frames
        self.seconds += time.perf_counter() - started

    @property
    def frames_per_s(self) -> float | None:
        """Frames per second; None where no step was measured."""
        return self.frames / self.seconds if self.seconds > 0 else None


def peak_memory_gib(device: torch.device) -> float:
    """Return the most memory so far: allocated on a GPU, else resident in this process."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or the CPU with its threads."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return f'CPU, {torch.get_num_threads()} threads'
