"""The training loop: draw, forward, one total loss, backward, step; save now and then."""

from __future__ import annotations

import copy
import functools
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cigocc_ros.core.typed_yaml import to_mapping
from cigocc_ros.model.build import save_checkpoint
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.training.batches import split_batch, training_batches
from cigocc_ros.training.config import Stage, TrainConfig
from cigocc_ros.training.losses import total_loss
from cigocc_ros.training.meters import ProgressBar, Throughput, device_name, peak_memory_gib
from cigocc_ros.training.objectives import (
    StageObjective,
    Terms,
    freeze_norm_statistics,
    set_trainable,
)
from cigocc_ros.training.resume import (
    STATE_FILE,
    Progress,
    RunState,
    load_state,
    resumed_progress,
    save_state,
)
from cigocc_ros.training.run_folder import RunLog, checkpoint_record
from cigocc_ros.training.scene_dataset import Batch, SceneDataset, TrainingStream
from cigocc_ros.training.schedule import StagePlan, WeightAverage, rate_factor
from cigocc_ros.training.validation import validate

logger = logging.getLogger(__name__)

LATEST, BEST = 'latest', 'best'
"""Folders of the averaged weights: of the last checkpoint, and of the best validation mIoU."""


class Step(NamedTuple):
    """What an optimiser step says of itself, the mean over the passes of this process."""

    terms: Terms
    total: Tensor
    """The weighted sum of the terms, which is what was differentiated."""
    grad_norm: float


@dataclass
class Trainer:
    """One run: the network, its data, where the results go and on which devices it runs."""

    model: CigOcc
    stream: TrainingStream
    validation: Sequence[SceneDataset]
    """The same frames with one kind of depth prior each; the first decides what is best."""
    config: TrainConfig
    out: Path
    fabric: Fabric
    """See `make_fabric`."""

    def facts(self) -> dict[str, Any]:
        """Return configs and the number of frames, plain values for the record of the run."""
        return {
            'model': to_mapping(self.model.config),
            'train': to_mapping(self.config),
            'train_frames': len(self.stream.frames),
            'val_frames': len(self.validation[0]) if self.validation else 0,
        }

    def run(self, plans: list[StagePlan], *, resume: bool = False) -> list[dict[str, Any]]:
        """Train all stages; with `resume` go on where the state in `out` left off.

        Returns what was measured of each stage. With several processes `model` stays what it was:
        the weights are in the files.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        num_processes = self.fabric.world_size
        split_batch(self.config, num_processes)
        for dataset in self.validation:
            dataset[0]  # what it lacks is told now, not at the first validation
        progress = Progress(num_processes=num_processes)
        if resume:
            progress = resumed_progress(self.out / STATE_FILE, plans, num_processes)
        # Bound here: Fabric does not take frozen dataclasses as arguments of new processes.
        work = functools.partial(self._run, plans=plans, progress=progress)
        measured: list[dict[str, Any]] = self.fabric.launch(work)
        return measured

    def _run(
        self, fabric: Fabric, plans: list[StagePlan], progress: Progress
    ) -> list[dict[str, Any]]:
        """Train all stages in one of the processes."""
        self.fabric = fabric
        torch.manual_seed(self.config.seed + fabric.global_rank)
        if fabric.world_size > 1:  # what a new process is handed lies in memory that all share
            self.model = copy.deepcopy(self.model)
        self.model.to(fabric.device)
        average = WeightAverage(self.model, self.config.ema_decay)
        log = RunLog(self.out, enabled=fabric.is_global_zero)
        measured = []
        resumed = bool(progress.stage)
        for index, plan in enumerate(plans[progress.stage_index :], progress.stage_index):
            if not resumed:
                progress.stage, progress.stage_index = plan.stage, index
                progress.step, progress.elapsed_s = 0, 0.0
            optimizer = self._optimizer(set_trainable(self.model, plan.stage))
            state = RunState(self.model, average, optimizer, progress)
            if resumed:
                load_state(self.out / STATE_FILE, state, fabric)
            measured.append(self._run_stage(plan, state, log))
            resumed = False
        log.close()
        return measured

    def _optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.AdamW:
        """Decay matrices and kernels; biases, norms and scales stay free."""
        decayed = [parameter for parameter in parameters if parameter.ndim > 1]
        free = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups = [
            {'params': decayed, 'weight_decay': self.config.weight_decay},
            {'params': free, 'weight_decay': 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.config.learning_rate)

    def set_up(
        self, stage: Stage, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Return the losses of a stage and its optimiser as Fabric runs them on its devices."""
        objective: nn.Module = StageObjective(self.model, stage, self.config.losses.distill > 0)
        if self.config.compile:
            objective = torch.compile(objective)
        objective, wrapped = self.fabric.setup(objective, optimizer)
        return objective, wrapped

    def _run_stage(self, plan: StagePlan, state: RunState, log: RunLog) -> dict[str, Any]:
        """Train one stage to the end of its horizon; return what was measured."""
        config, progress = self.config, state.progress
        objective, optimizer = self.set_up(plan.stage, state.optimizer)
        batches = training_batches(self.stream, config, self.fabric, progress.draws)
        started = time.monotonic() - progress.elapsed_s
        done = plan.horizon.progress(progress.step, progress.elapsed_s)
        bar = ProgressBar(plan, done, visible=self.fabric.is_global_zero)
        throughput = Throughput()
        while done < 1.0:
            if done >= config.freeze_norm_share:
                freeze_norm_statistics(self.model)
            factor = rate_factor(progress.step, done, config.warmup_steps, config.final_rate)
            rate = config.learning_rate * factor
            with throughput.step(config.batch_size):
                step = self.step(batches, objective, optimizer, rate)
                state.average.update(self.model)
            progress.step += 1
            progress.draws += config.batch_size
            progress.elapsed_s = self._agreed(time.monotonic() - started)
            done = plan.horizon.progress(progress.step, progress.elapsed_s)
            bar.update(done, step.total.item())
            if progress.step % config.log_every == 0 or done >= 1.0:
                log.losses(progress, lr=rate, grad_norm=step.grad_norm, **self._losses(step))
            if progress.step % config.validate_every == 0 or done >= 1.0:
                self._checkpoint(plan.stage, state, log)
        bar.close()
        return self._measured(plan, throughput)

    def step(
        self,
        batches: Iterator[Batch],
        objective: nn.Module,
        optimizer: torch.optim.Optimizer,
        rate: float,
    ) -> Step:
        """Take one optimiser step over this process's share of a batch."""
        config, fabric = self.config, self.fabric
        for group in optimizer.param_groups:
            group['lr'] = rate
        optimizer.zero_grad(set_to_none=True)
        weights = to_mapping(config.losses)
        passes = split_batch(config, fabric.world_size).micro_batches
        done: list[Terms] = []
        for index in range(passes):
            waits = fabric.world_size > 1 and index + 1 < passes
            with fabric.no_backward_sync(objective, enabled=waits):
                terms: Terms = objective(next(batches))
                fabric.backward(total_loss(terms, weights) / passes)
            done.append({name: term.detach() for name, term in terms.items()})
        norm = fabric.clip_gradients(
            objective, optimizer, max_norm=config.clip_norm, error_if_nonfinite=False
        )
        grad_norm = float(norm)
        # The scaler of fp16 must see a gradient that overflowed: it skips the step itself.
        if torch.isfinite(norm) or config.precision == 'fp16':
            optimizer.step()
        else:
            logger.warning('gradient is not finite; this step is skipped')
        mean = {name: torch.stack([one[name] for one in done]).mean() for name in done[0]}
        return Step(mean, total_loss(mean, weights), grad_norm)

    def _agreed(self, elapsed_s: float) -> float:
        """Return the clock of the first process, so that all end a time budget at one step."""
        return self.fabric.broadcast(elapsed_s) if self.fabric.world_size > 1 else elapsed_s

    def _losses(self, step: Step) -> dict[str, float]:
        """Return total and terms by name, the mean over all processes."""
        values = {'loss': step.total, **step.terms}
        mean = self.fabric.all_reduce(torch.stack([v.float() for v in values.values()]))
        return dict(zip(values, mean.tolist(), strict=True))

    def _checkpoint(self, stage: Stage, state: RunState, log: RunLog) -> None:
        """Validate the averaged weights, then save them and the state to resume from."""
        fabric, progress = self.fabric, state.progress
        model = state.average.current(self.model)
        if fabric.world_size > 1:
            for buffer in model.buffers():  # batch statistics are those of the first process
                torch.distributed.broadcast(buffer, src=0)
        self._save(LATEST, model, progress)
        for position, dataset in enumerate(self.validation):
            frames = self.config.validation_frames
            scores = validate(model, dataset, frames, stage, fabric)
            log.scores(progress, dataset.prior, scores)
            if position == 0 and stage != '1' and scores.miou > progress.best_miou:
                progress.best_miou = scores.miou
                self._save(BEST, model, progress)
        save_state(self.out / STATE_FILE, state, fabric)

    def _save(self, folder: str, model: CigOcc, progress: Progress) -> None:
        if self.fabric.is_global_zero:
            record = checkpoint_record(self.config, progress)
            save_checkpoint(model, self.out / folder, record)

    def _measured(self, plan: StagePlan, throughput: Throughput) -> dict[str, Any]:
        """Return speed and memory of a stage, of the first process where there are several."""
        device = self.fabric.device
        rate, memory = throughput.frames_per_s, peak_memory_gib(device)
        if rate is not None and self.fabric.is_global_zero:
            logger.info('stage %s: %.2f frames/s, %.2f GiB at most', plan.stage, rate, memory)
        return {
            'stage': plan.stage,
            'frames_per_s': rate,
            'peak_memory_gib': memory,
            'device': device_name(device),
            'num_processes': self.fabric.world_size,
            'precision': self.config.precision,
            'compiled': self.config.compile,
        }
