"""Compare two ways of running one network, logits included."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cigocc_ros.core.agreement import equal_share
from cigocc_ros.core.manifest import CLASS_PROBABILITY, LABELS, LOGITS, OCCUPIED_PROBABILITY
from cigocc_ros.runtime.contract import Arrays

PROBABILITY_STEPS = 2
"""Largest difference of a probability, in 1/255, that still counts as the same."""
LOGIT_SHARE = 0.01
"""Largest difference of a logit, in standard deviations of its class, that counts as the same."""
MIN_SPREAD = 0.01
"""Standard deviation below which logits are compared as if they had this one."""


@dataclass(frozen=True)
class OutputAgreement:
    """How well the outputs for one input agree.

    Shares of voxels: with the same label; with probabilities (of being occupied, of the class)
    within PROBABILITY_STEPS / 255; with all logits within LOGIT_SHARE. `probability_steps` is the
    largest difference of a probability of being occupied in 1/255.
    """

    labels: float
    probabilities: float
    classes: float
    logits: float
    probability_steps: int

    @property
    def least(self) -> float:
        """The smallest of the shares."""
        return min(self.labels, self.probabilities, self.classes, self.logits)


@dataclass(frozen=True)
class ParityReport:
    """The worst agreement over all compared inputs, and how many classes the reference saw."""

    num_inputs: int
    num_classes: int
    worst: OutputAgreement

    def __str__(self) -> str:
        """Return one readable line."""
        worst = self.worst
        return (
            f'{self.num_inputs} inputs, {self.num_classes} classes seen; voxels that agree on the '
            f'worst input: label {100 * worst.labels:.4f} %, probability '
            f'{100 * worst.probabilities:.4f} % (largest difference {worst.probability_steps}/255)'
            f', class probability {100 * worst.classes:.4f} %, logits {100 * worst.logits:.4f} %'
        )


def compare_outputs(pairs: Iterable[tuple[Arrays, Arrays]]) -> ParityReport:
    """Compare all expected with all found outputs, logits included; report the worst."""
    agreements, classes = [], set[int]()
    for expected, found in pairs:
        classes |= set(np.unique(expected[LABELS]).tolist())
        agreements.append(output_agreement(expected, found))
    worst = OutputAgreement(
        labels=min(a.labels for a in agreements),
        probabilities=min(a.probabilities for a in agreements),
        classes=min(a.classes for a in agreements),
        logits=min(a.logits for a in agreements),
        probability_steps=max(a.probability_steps for a in agreements),
    )
    return ParityReport(len(agreements), len(classes), worst)


def output_agreement(expected: Arrays, found: Arrays) -> OutputAgreement:
    """Compare the outputs for one input; a value that is not a number never agrees."""
    steps, class_steps = (
        np.abs(expected[name].astype(np.int16) - found[name].astype(np.int16))
        for name in (OCCUPIED_PROBABILITY, CLASS_PROBABILITY)
    )
    spread = expected[LOGITS].std(axis=(0, 2, 3, 4), keepdims=True)
    tolerance = LOGIT_SHARE * np.maximum(spread, MIN_SPREAD)
    close = np.abs(expected[LOGITS] - found[LOGITS]) <= tolerance
    return OutputAgreement(
        labels=equal_share(found[LABELS], expected[LABELS]),
        probabilities=float((steps <= PROBABILITY_STEPS).mean()),
        classes=float((class_steps <= PROBABILITY_STEPS).mean()),
        logits=float(close.all(axis=1).mean()),
        probability_steps=int(steps.max()),
    )
