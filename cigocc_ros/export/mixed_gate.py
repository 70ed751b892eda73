"""Prove the mixed float16 file before it is written: its labels, and that nothing overflows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from cigocc_ros.core.agreement import MIN_GOLDEN_AGREEMENT, MIN_MIXED_AGREEMENT, equal_share
from cigocc_ros.core.manifest import LABELS
from cigocc_ros.export.half_emulation import RANGES, emulated, half_values, with_ranges
from cigocc_ros.export.mixed_precision import PrecisionError
from cigocc_ros.runtime.contract import Arrays
from cigocc_ros.runtime.onnxruntime_engine import open_session

logger = logging.getLogger(__name__)

MAX_ACTIVATION = 3e4
"""Half of what float16 holds: room for inputs that nobody tried."""


@dataclass(frozen=True)
class MixedReport:
    """Worst share of voxels labelled as by the float32 file, and the largest float16 value."""

    num_inputs: int
    labels: float
    largest: float
    largest_name: str

    def __str__(self) -> str:
        """Return one readable line."""
        return (
            f'{self.num_inputs} inputs; labels that survive float16 on the worst input '
            f'{100 * self.labels:.4f} %; largest float16 value {self.largest:.0f} '
            f'({self.largest_name})'
        )


def measure_mixed(
    file: Path,
    inputs: Sequence[Arrays],
    labels: Sequence[NDArray[np.uint8]],
    threads: int,
) -> MixedReport:
    """Run a mixed file with honest rounding on `inputs` and compare with the float32 `labels`.

    A file of the size of the float32 one is written beside it and removed.
    """
    path = file.with_name('emulated.onnx')
    names = _write_emulated(file, path)
    session = open_session(path, threads, frugal=True)
    path.unlink()
    shares, ranges = [], []
    for arrays, expected in zip(inputs, labels, strict=True):
        found, extremes = session.run([LABELS, RANGES], arrays)
        shares.append(equal_share(found, expected))
        ranges.append(np.abs(extremes).max(axis=0))
    largest = np.max(ranges, axis=0)
    position = int(np.argmax(largest))  # of a value that is not a number, where there is one
    return MixedReport(len(inputs), min(shares), float(largest[position]), names[position])


def _write_emulated(file: Path, target: Path) -> list[str]:
    """Write the float32 network that rounds, with its ranges; return the names of the ranges."""
    mixed = onnx.load(file)
    names = half_values(mixed)
    onnx.save_model(with_ranges(emulated(mixed), names), target)
    return names


def require_mixed(report: MixedReport) -> None:
    """Raise PrecisionError unless labels survive and every value is far from overflow."""
    if not report.largest <= MAX_ACTIVATION:
        raise PrecisionError(
            f'{report.largest_name}: {report.largest:g} found, at most {MAX_ACTIVATION:g} allowed '
            'in float16: keep its layer in float32 or train with smaller activations'
        )
    if report.labels < MIN_GOLDEN_AGREEMENT:
        logger.warning(
            'mixed float16 keeps %.2f %% of the labels only; the self-check of the node demands '
            '%.0f %% and would refuse it: train further or deploy float32',
            100 * report.labels,
            100 * MIN_GOLDEN_AGREEMENT,
        )
    if report.labels < MIN_MIXED_AGREEMENT:
        raise PrecisionError(
            f'the mixed float16 file is wrong and was not written: {report}; expected at least '
            f'{100 * MIN_MIXED_AGREEMENT} %'
        )
