"""The training loop: draw, forward, one total loss, backward, step; save now and then."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.mapping import to_mapping
from cigocc_ros.evaluation.metrics import SscScores
from cigocc_ros.model.build import save_checkpoint
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.training.config import Stage, TrainConfig
from cigocc_ros.training.losses import total_loss
from cigocc_ros.training.objectives import freeze_norm_statistics, set_trainable, stage_terms
from cigocc_ros.training.resume import STATE_FILE, Progress, load_state, read_progress, save_state
from cigocc_ros.training.scene_dataset import Batch, SceneDataset, TrainingStream, collate
from cigocc_ros.training.schedule import Horizon, WeightAverage, rate_factor
from cigocc_ros.training.validation import validate

logger = logging.getLogger(__name__)

LOG_FILE = 'log.jsonl'
LATEST, BEST = 'latest', 'best'
"""Folders of the averaged weights: of the last checkpoint, and of the best validation mIoU."""


@dataclass(frozen=True)
class StagePlan:
    """One stage of a run and when it ends."""

    stage: Stage
    horizon: Horizon


def plan_stages(
    stage: Literal['1', '2', 'joint', 'both'], config: TrainConfig, budget_s: float | None = None
) -> list[StagePlan]:
    """Divide the steps of a run, or its time budget in seconds, among its stages."""
    if budget_s is not None and budget_s <= 0:
        raise ConfigError(f'the time budget must be positive, found {budget_s} s')
    shares: list[tuple[Stage, float]]
    if stage == 'both':
        shares = [('1', config.stage1_share), (config.second_stage, 1 - config.stage1_share)]
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


@dataclass
class Trainer:
    """One run: the network, its data and where the results go."""

    model: CigOcc
    stream: TrainingStream
    validation: SceneDataset | None
    config: TrainConfig
    out: Path

    def run(self, plans: list[StagePlan], *, resume: bool = False) -> None:
        """Train all stages; with `resume` go on where the state in `out` left off."""
        self.out.mkdir(parents=True, exist_ok=True)
        state_path = self.out / STATE_FILE
        progress = _resumed(state_path, plans) if resume else Progress()
        average = WeightAverage(self.model, self.config.ema_decay)
        for index, plan in enumerate(plans[progress.stage_index :], progress.stage_index):
            optimizer = self._optimizer(set_trainable(self.model, plan.stage))
            if resume and index == progress.stage_index:
                load_state(state_path, self.model, average, optimizer)
            else:
                progress = Progress(
                    plan.stage, index, draws=progress.draws, best_miou=progress.best_miou
                )
            self._run_stage(plan, optimizer, average, progress)

    def _optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.AdamW:
        """Decay matrices and kernels; biases, norms and scales stay free."""
        decayed = [parameter for parameter in parameters if parameter.ndim > 1]
        free = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups = [
            {'params': decayed, 'weight_decay': self.config.weight_decay},
            {'params': free, 'weight_decay': 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.config.learning_rate)

    def _run_stage(
        self,
        plan: StagePlan,
        optimizer: torch.optim.AdamW,
        average: WeightAverage,
        progress: Progress,
    ) -> None:
        """Train one stage to the end of its horizon."""
        config = self.config
        started = time.monotonic() - progress.elapsed_s
        done = plan.horizon.progress(progress.step, progress.elapsed_s)
        bar = _ProgressBar(plan, done)
        batches = self._batches(progress.draws)
        while done < 1.0:
            if done >= config.freeze_norm_share:
                freeze_norm_statistics(self.model)
            factor = rate_factor(progress.step, done, config.warmup_steps, config.final_rate)
            rate = config.learning_rate * factor
            terms, total, norm = self.step(next(batches), plan.stage, optimizer, rate)
            average.update(self.model)
            progress.step += 1
            progress.draws += config.batch_size
            progress.elapsed_s = time.monotonic() - started
            done = plan.horizon.progress(progress.step, progress.elapsed_s)
            bar.update(done, total)
            if progress.step % config.log_every == 0 or done >= 1.0:
                values = {name: term.item() for name, term in terms.items()}
                self._log(plan, progress, loss=total.item(), lr=rate, grad_norm=norm, **values)
            if progress.step % config.validate_every == 0 or done >= 1.0:
                self._checkpoint(plan, optimizer, average, progress)
        bar.close()

    def step(
        self, batch: Batch, stage: Stage, optimizer: torch.optim.Optimizer, rate: float
    ) -> tuple[dict[str, Tensor], Tensor, float]:
        """Take one optimiser step; return the loss terms, their total and the gradient norm."""
        config = self.config
        for group in optimizer.param_groups:
            group['lr'] = rate
        enabled = config.precision == 'bf16'
        with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=enabled):
            terms = stage_terms(self.model, batch, stage)
        total = total_loss(terms, to_mapping(config.losses))
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        parameters = [p for group in optimizer.param_groups for p in group['params']]
        norm = nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        if not torch.isfinite(norm):
            logger.warning('gradient is not finite; this step is skipped')
            return terms, total.detach(), float(norm)
        optimizer.step()
        return terms, total.detach(), float(norm)

    def _batches(self, first_draw: int) -> Iterator[Batch]:
        """Yield collated batches from draw `first_draw` on."""
        draws = Subset(self.stream, range(first_draw, len(self.stream)))
        loader: DataLoader[Batch] = DataLoader(
            draws,
            batch_size=self.config.batch_size,
            num_workers=self.config.num_workers,
            collate_fn=collate,
        )
        yield from loader

    def _checkpoint(
        self,
        plan: StagePlan,
        optimizer: torch.optim.Optimizer,
        average: WeightAverage,
        progress: Progress,
    ) -> None:
        """Validate the averaged weights, then save them and the state to resume from."""
        save_checkpoint(average.model, self.out / LATEST)
        if self.validation is not None:
            count = self.config.validation_frames
            scores = validate(average.model, self.validation, count, plan.stage)
            self._report(plan, progress, scores)
            if plan.stage != '1' and scores.miou > progress.best_miou:
                progress.best_miou = scores.miou
                save_checkpoint(average.model, self.out / BEST)
        save_state(self.out / STATE_FILE, self.model, average, optimizer, progress)

    def _report(self, plan: StagePlan, progress: Progress, scores: SscScores) -> None:
        logger.info(
            'stage %s step %d: IoU %.1f %%, mIoU %.1f %%, precision %.1f %%, recall %.1f %%',
            plan.stage,
            progress.step,
            *(100 * v for v in (scores.iou, scores.miou, scores.precision, scores.recall)),
        )
        self._log(
            plan,
            progress,
            iou=scores.iou,
            miou=scores.miou,
            precision=scores.precision,
            recall=scores.recall,
            iou_per_class=scores.by_name(),
        )

    def _log(self, plan: StagePlan, progress: Progress, **values: Any) -> None:
        head = {'stage': plan.stage, 'step': progress.step, 'time_s': round(progress.elapsed_s, 1)}
        with (self.out / LOG_FILE).open('a', encoding='utf-8') as file:
            file.write(json.dumps(head | values) + '\n')


def _resumed(path: Path, plans: list[StagePlan]) -> Progress:
    """Return where to go on; raise DataFileError if the state is of a run with other stages."""
    progress = read_progress(path)
    stages = [plan.stage for plan in plans]
    if progress.stage_index >= len(stages) or stages[progress.stage_index] != progress.stage:
        raise DataFileError(
            f'{path} was written in stage {progress.stage!r} of another run; this one has the '
            f'stages {stages}: resume with the same --stage'
        )
    return progress


class _ProgressBar:
    """Show steps, or seconds of a time budget, with the time left and a smoothed loss."""

    def __init__(self, plan: StagePlan, done: float) -> None:
        horizon = plan.horizon
        self.total = horizon.steps if horizon.seconds is None else round(horizon.seconds)
        unit = 'step' if horizon.seconds is None else 's'
        self.bar = tqdm(total=self.total, unit=unit, desc=f'stage {plan.stage}', mininterval=1.0)
        self.bar.update(round(done * self.total))
        self.loss = float('nan')
        self.count = 0

    def update(self, done: float, total: Tensor) -> None:
        value = total.item()
        self.count += 1
        self.loss = value if self.count == 1 else 0.95 * self.loss + 0.05 * value
        self.bar.set_postfix_str(f'{self.count} steps, loss {self.loss:.3f}', refresh=False)
        self.bar.update(round(done * self.total) - self.bar.n)

    def close(self) -> None:
        self.bar.close()
