"""The training loop: draw, forward, one total loss, backward, step; save now and then."""

from __future__ import annotations

import copy
import functools
import logging
import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cigocc_ros.core.errors import CigoccError, DataFileError
from cigocc_ros.core.prior import Prior
from cigocc_ros.core.typed_yaml import to_mapping
from cigocc_ros.model.build import load_checkpoint, save_checkpoint
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.training.arrivals import ShardWatch
from cigocc_ros.training.batches import split_batch, training_batches
from cigocc_ros.training.config import Stage, TrainConfig
from cigocc_ros.training.data_needs import SOMETIMES, TEACHING
from cigocc_ros.training.devices import channels_last
from cigocc_ros.training.losses import total_loss
from cigocc_ros.training.meters import ProgressBar, Throughput, device_name, peak_memory_gib
from cigocc_ros.training.objectives import (
    StageObjective,
    Terms,
    freeze_norm_statistics,
    set_trainable,
)
from cigocc_ros.training.recompute import recompute_activations
from cigocc_ros.training.resident import ResidentFrames, require_resident
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
from cigocc_ros.training.schedule import (
    StagePlan,
    WeightAverage,
    parameter_groups,
    rate_factor,
)
from cigocc_ros.training.sight_scores import SightScores
from cigocc_ros.training.stopping import StopSignals, passed_on
from cigocc_ros.training.validation import Scores, StoppedError, score

logger = logging.getLogger(__name__)

LATEST, BEST, BEST_STAGE_ONE, BEST_EYES = 'latest', 'best', 'best_stage1', 'best_eyes'
"""Folders of the averaged weights: of the last checkpoint, of the best validation mIoU, of the
best IoU of stage 1, which is scored on the query grid, and of the stage `eyes`, best in 2D."""
BEST_OF: dict[Stage, str] = {'eyes': BEST_EYES, '1': BEST_STAGE_ONE}
"""Stages whose best weights have a folder of their own."""
STOPPED_BY = 'stopped_by'
"""Key of what is measured of a stage: the name of the signal that ended it."""
SILENT = 0.0
"""A loss of exactly this has nothing to be learnt from."""


class Step(NamedTuple):
    """What an optimiser step says of itself, the mean over the passes of this process.

    On the host, where all of it came at once: the one time that a step waits for its device.
    """

    terms: Terms
    total: Tensor
    """The weighted sum of the terms, which is what was differentiated."""
    grad_norm: float


@dataclass(frozen=True)
class StageData:
    """Frames to train on, and those to validate with, with one kind of depth prior each."""

    stream: TrainingStream
    validation: Sequence[SceneDataset]


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
    eyes: StageData | None = None
    """What the stage `eyes` takes in place of them, where it sees other frames."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Names of the data trained on and validated with, for the records of the run."""
    signals: StopSignals = field(default_factory=StopSignals)
    watch: ShardWatch | None = None
    """For shards that come while it trains on `stream`, where the config wants that."""
    resident: ResidentFrames | None = None
    """The frames of `stream` on the device, where the config wants that."""

    def facts(self) -> dict[str, Any]:
        """Return configs and the number of frames, plain values for the record of the run."""
        return {
            'model': to_mapping(self.model.config),
            'train': to_mapping(self.config),
            'train_frames': len(self.stream.frames),
            'val_frames': len(self.validation[0]) if self.validation else 0,
            **({'eyes_frames': len(self.eyes.stream.frames)} if self.eyes else {}),
            **self.data,
        }

    def run(self, plans: list[StagePlan], *, resume: bool = False) -> list[dict[str, Any]]:
        """Train all stages; with `resume` go on where the state in `out` left off.

        Returns what was measured of each stage, where a signal ended one `stopped_by` with its
        name; see `stopping`. With several processes `model` stays what it was:
        the weights are in the files.
        """
        if self.config.resident:
            require_resident(self.config, [plan.stage for plan in plans])
        self.out.mkdir(parents=True, exist_ok=True)
        num_processes = self.fabric.world_size
        split_batch(self.config, num_processes)
        for dataset in [*self.validation, *(self.eyes.validation if self.eyes else ())]:
            dataset[0]  # what it lacks is told now, not at the first validation
        progress = Progress(num_processes=num_processes)
        if resume:
            progress = resumed_progress(self.out / STATE_FILE, plans, num_processes)
        if self.watch is not None:
            mixture = self.watch.start(self.stream.mixture, progress.shards, progress.draws)
            self.stream.mixture = mixture
        # Bound here: Fabric does not take frozen dataclasses as arguments of new processes.
        work = functools.partial(self._run, plans=plans, progress=progress)
        measured: list[dict[str, Any]]
        with passed_on() if num_processes > 1 else nullcontext():
            measured = self.fabric.launch(work)
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
        if self.config.channels_last:
            channels_last(self.model)
        if self.config.resident:
            self.resident = ResidentFrames(self.stream.config, fabric.device)
            self.resident.add(self.stream.frames)
        average = WeightAverage(self.model, self.config.ema_decay)
        recompute_activations(self.model, self.config.recompute)  # after the copy for the average
        log = RunLog(self.out, fabric.is_global_zero, self.config.wandb_project)
        with StopSignals() as signals:
            self.signals = signals
            measured = self._run_stages(plans, progress, average, log)
        log.close()
        return measured

    def _run_stages(
        self, plans: list[StagePlan], progress: Progress, average: WeightAverage, log: RunLog
    ) -> list[dict[str, Any]]:
        """Train one stage after the other, until a signal comes."""
        measured = []
        resumed = bool(progress.stage)
        for index, plan in enumerate(plans[progress.stage_index :], progress.stage_index):
            if not resumed:
                if index > 0:
                    self._carry_on(average, plans[index - 1])
                progress.stage, progress.stage_index = plan.stage, index
                progress.step, progress.elapsed_s = 0, 0.0
            optimizer = self._optimizer(set_trainable(self.model, plan.stage))
            state = RunState(self.model, average, optimizer, progress)
            if resumed:
                load_state(self.out / STATE_FILE, state, self.fabric)
            measured.append(self._run_stage(plan, state, log))
            if STOPPED_BY in measured[-1]:
                break
            resumed = False
        return measured

    def _carry_on(self, average: WeightAverage, before: StagePlan) -> None:
        """Start a stage from the averaged weights of the one before: its best ones, if validated.

        The raw weights of its last step were never scored, and may be those of an overfit.
        """
        best = self.out / BEST_OF.get(before.stage, BEST)
        self.fabric.barrier()  # the first process may still be writing it
        scored = self._data(before.stage)[1]
        carried = load_checkpoint(best) if scored else average.current(self.model)
        self.model.load_state_dict(carried.state_dict())
        average.restart(self.model)

    def _data(self, stage: Stage) -> tuple[TrainingStream, Sequence[SceneDataset]]:
        """Return what a stage trains on and is validated with."""
        if stage == 'eyes' and self.eyes is not None:
            return self.eyes.stream, self.eyes.validation
        return self.stream, self.validation

    def _optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.AdamW:
        config = self.config
        groups = parameter_groups(self.model, parameters, config)
        # The loss scaler of fp16 cannot unscale gradients for an optimiser that does so itself.
        fused = self.fabric.device.type == 'cuda' and config.precision != 'fp16'
        return torch.optim.AdamW(groups, lr=config.learning_rate, fused=fused or None)

    def set_up(
        self, stage: Stage, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Return the losses of a stage and its optimiser as Fabric runs them on its devices."""
        objective = StageObjective(self.model, stage, self.config.losses.distill > 0)
        compiled: Any = torch.compile(objective) if self.config.compile else objective
        wrapped: tuple[nn.Module, torch.optim.Optimizer] = self.fabric.setup(compiled, optimizer)
        return wrapped

    def _run_stage(self, plan: StagePlan, state: RunState, log: RunLog) -> dict[str, Any]:
        """Train one stage to the end of its horizon; return what was measured."""
        config, progress = self.config, state.progress
        objective, optimizer = self.set_up(plan.stage, state.optimizer)
        batches = training_batches(
            self._data(plan.stage)[0], config, self.fabric, progress.draws, self.resident
        )
        started = time.monotonic() - progress.elapsed_s
        done = plan.horizon.progress(progress.step, progress.elapsed_s)
        bar = ProgressBar(plan, done, visible=self.fabric.is_global_zero)
        throughput, stopped = Throughput(), False
        if done >= 1.0:  # resumed in its last validation
            self._checkpoint(plan.stage, state, log)
        while done < 1.0 and not stopped:
            if done >= config.freeze_norm_share:
                freeze_norm_statistics(self.model)
            factor = rate_factor(progress.step, done, config.warmup_steps, config.final_rate)
            rate = config.learning_rate * factor
            with throughput.step(config.batch_size):
                step = self.step(batches, objective, optimizer, rate)
                state.average.update(self.model)
            progress.step += 1
            progress.draws += config.batch_size
            progress.elapsed_s, stopped = self._agreed(time.monotonic() - started)
            done = plan.horizon.progress(progress.step, progress.elapsed_s)
            bar.update(done, step.total.item())
            ends = done >= 1.0 or stopped
            if progress.step % config.log_every == 0 or ends:
                losses = self._losses(step)
                log.losses(progress, lr=rate, grad_norm=step.grad_norm, **losses)
                self._warn_of_silence(losses, state)
            if self._takes_new_shards(progress) and config.num_workers and not self.resident:
                batches = training_batches(
                    self._data(plan.stage)[0], config, self.fabric, progress.draws
                )
            if progress.step % config.validate_every == 0 or ends:
                stopped = self._checkpoint(plan.stage, state, log)
        bar.close()
        measured = self._measured(plan, throughput)
        return measured | (self._stop(progress, done) if stopped else {})

    def _stop(self, progress: Progress, done: float) -> dict[str, Any]:
        """Return what a signal ended and where, for the record and the message."""
        received = self.signals.received or signal.SIGTERM  # of another process
        return {STOPPED_BY: received.name, 'step': progress.step, 'done': round(done, 4)}

    def step(
        self,
        batches: Iterator[Batch],
        objective: Any,
        optimizer: torch.optim.Optimizer,
        rate: float,
    ) -> Step:
        """Take one optimiser step over this process's share of a batch."""
        config, fabric = self.config, self.fabric
        for group in optimizer.param_groups:
            group['lr'] = rate * group.get('rate_factor', 1.0)
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
        mean = {name: torch.stack([one[name] for one in done]).mean() for name in done[0]}
        values = torch.stack([*mean.values(), torch.as_tensor(norm)]).float().cpu()
        mean = dict(zip(mean, values[:-1], strict=True))
        grad_norm = float(values[-1])
        # The scaler of fp16 must see a gradient that overflowed: it skips the step itself.
        if math.isfinite(grad_norm) or config.precision == 'fp16':
            optimizer.step()
        else:
            logger.warning('gradient is not finite; this step is skipped')
        return Step(mean, total_loss(mean, weights), grad_norm)

    def _agreed(self, elapsed_s: float) -> tuple[float, bool]:
        """Return the clock of the first process and whether any was asked to stop.

        All end a time budget, or a run that a signal ends, at one step.
        """
        asked = self.signals.received is not None
        if self.fabric.world_size == 1:
            return elapsed_s, asked
        own = torch.tensor(
            [elapsed_s if self.fabric.is_global_zero else 0.0, float(asked)],
            dtype=torch.float64,
            device=self.fabric.device,
        )
        summed = torch.as_tensor(self.fabric.all_reduce(own, reduce_op='sum')).tolist()
        return summed[0], summed[1] > 0

    def _losses(self, step: Step) -> dict[str, float]:
        """Return total and terms by name, the mean over all processes."""
        values = {'loss': step.total, **step.terms}
        own = torch.stack([*values.values()]).to(self.fabric.device)
        mean = self.fabric.all_reduce(own)
        return dict(zip(values, torch.as_tensor(mean).tolist(), strict=True))

    def _warn_of_silence(self, losses: Mapping[str, float], state: RunState) -> None:
        """Say once of each loss that is asked for and exactly 0: nothing teaches it."""
        weights = to_mapping(self.config.losses)
        state.taught |= {name for name, value in losses.items() if value != SILENT}
        young = state.progress.step < self.config.validate_every
        for name, value in losses.items():
            if name in SOMETIMES and (young or name in state.taught):
                continue  # of some of the frames only: a batch may have none of them
            if value == SILENT and weights.get(name, 0.0) > 0 and name not in state.silent:
                state.silent.add(name)
                if self.fabric.is_global_zero:
                    logger.warning(
                        'the loss %s is exactly 0 at step %d: these frames have nothing that it '
                        'learns from (%s); set losses.%s to 0 if that is meant',
                        name,
                        state.progress.step,
                        TEACHING.get(name, 'ground truth'),
                        name,
                    )

    def _checkpoint(self, stage: Stage, state: RunState, log: RunLog) -> bool:
        """Save the averaged weights and the state to resume from, then validate them.

        In this order: a validation takes minutes, and a run may be killed in it. A run that is
        asked to stop, before or in it, does without. Returns whether it is.
        """
        fabric, progress = self.fabric, state.progress
        model = state.average.current(self.model)
        if fabric.world_size > 1:
            for buffer in model.buffers():  # batch statistics are those of the first process
                torch.distributed.broadcast(buffer, src=0)
        self._save(LATEST, model, progress, {})
        self._save_state(state)
        scores: dict[Prior, Scores] = {}
        for dataset in self._data(stage)[1]:
            if self._stops():
                return True
            frames = self.config.validation_frames
            try:
                found = score(model, dataset, frames, stage, fabric, self._asked)
            except StoppedError:
                return True
            scores[dataset.prior] = found
            log.scores(progress, dataset.prior, scores[dataset.prior])
        if scores:
            self._save(LATEST, model, progress, scores)
            if self.config.keep_validated:
                self._save(f'{stage}-{progress.step:06d}', model, progress, scores)
            if self._is_best(stage, progress, next(iter(scores.values()))):
                self._save(BEST_OF.get(stage, BEST), model, progress, scores)
                self._save_state(state)
        return self._stops()

    def _asked(self) -> bool:
        """Say whether this process was asked to stop."""
        return self.signals.received is not None

    def _stops(self) -> bool:
        """Say whether any process was asked to stop; every process must ask."""
        return self._any(self._asked())

    def _takes_new_shards(self, progress: Progress) -> bool:
        """Look for shards that came, from time to time, and draw from them; say whether some did.

        What the first process finds is what all take, or none where one of them cannot.
        """
        watch, every = self.watch, self.config.new_shards_every
        if watch is None or progress.step % every or (progress.stage == 'eyes' and self.eyes):
            return False
        found = watch.new(self.stream.mixture) if self.fabric.is_global_zero else []
        shards: list[tuple[int, Path]] = self.fabric.broadcast(found)
        if not shards:
            return False
        try:
            mixture = watch.grown(self.stream.mixture, shards, progress.draws)
            if self.resident is not None:
                self.resident.add(mixture.frames)
            failed = None
        except CigoccError as error:
            failed = error
        if self._any(failed is not None):
            for _, path in shards:
                watch.leave(path, failed or DataFileError(f'{path}: another process cannot'))
            return False
        self.stream.mixture = mixture
        names = ', '.join(path.name for _, path in shards)
        logger.info('%s joined at step %d: %d frames', names, progress.step, len(mixture.frames))
        return True

    def _any(self, own: bool) -> bool:
        """Say whether something holds in any process; every process must ask."""
        if self.fabric.world_size == 1:
            return own
        count = torch.tensor([float(own)], device=self.fabric.device)
        return bool(torch.as_tensor(self.fabric.all_reduce(count, reduce_op='sum')) > 0)

    def _save_state(self, state: RunState) -> None:
        if self.watch is not None:
            state.progress.shards = self.watch.state(self.stream.mixture)
        if self.config.save_state:
            save_state(self.out / STATE_FILE, state, self.fabric)

    def _is_best(self, stage: Stage, progress: Progress, scores: Scores) -> bool:
        """Say whether scores are the best so far, and remember them then."""
        if isinstance(scores, SightScores):
            better = scores.quality > progress.best_sight
            progress.best_sight = max(scores.quality, progress.best_sight)
        elif stage == '1':
            better = scores.iou > progress.best_stage1_iou
            progress.best_stage1_iou = max(scores.iou, progress.best_stage1_iou)
        else:
            better = scores.miou > progress.best_miou
            progress.best_miou = max(scores.miou, progress.best_miou)
        return better

    def _save(
        self,
        folder: str,
        model: CigOcc,
        progress: Progress,
        scores: Mapping[Prior, Scores],
    ) -> None:
        if self.fabric.is_global_zero:
            record = checkpoint_record(self.facts(), progress, scores)
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
