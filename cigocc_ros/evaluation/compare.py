"""Networks run on the same frames in turn: how far they agree, and how fast each of them is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.agreement import equal_share
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.core.installed import code_commit
from cigocc_ros.core.labels import CLASS_NAMES, EMPTY
from cigocc_ros.core.manifest import LABELS, OCCUPIED_PROBABILITY, ModelManifest
from cigocc_ros.evaluation.metrics import SscMetrics

Labels = NDArray[np.uint8]
Arrays = dict[str, NDArray[Any]]
"""Tensors by name."""
Answer = tuple[Labels, Labels]
"""Labels and occupied probability in 1/255, of one shape."""


class NetworkUnderTest(Protocol):
    """One way of running one network, as a comparison needs it."""

    @property
    def text(self) -> str:
        """As the user named it."""

    @property
    def manifest(self) -> ModelManifest:
        """Grid and size of the network."""

    @property
    def file(self) -> str:
        """What was loaded."""

    @property
    def sha256(self) -> str | None:
        """Of that file, where it is one."""

    @property
    def engine_name(self) -> str:
        """What runs it, with its version."""

    def prepare(self, frame: CameraFrame) -> Arrays:
        """Return the named inputs for a frame."""

    def run(self, inputs: Arrays) -> Arrays:
        """Return the named outputs."""


@dataclass(frozen=True)
class ComparedEngine:
    """One side of a comparison, with how long its inference took in the same run."""

    name: str
    """BACKEND:MODEL, as given."""
    engine: str
    model: str
    file: str
    sha256: str | None
    latency_ms: tuple[float, ...]
    """Of the engine alone, by frame, the warm-up left out."""

    @property
    def median_ms(self) -> float:
        """Median latency."""
        ordered = sorted(self.latency_ms)
        middle = len(ordered) // 2
        return (ordered[middle] + ordered[~middle]) / 2


@dataclass(frozen=True)
class AgreementScores:
    """Shares in 0..1 of all voxels of all frames unless said otherwise."""

    num_frames: int
    labels: float
    """Voxels with the same label."""
    labels_worst_frame: float
    labels_where_occupied: float
    """The same among voxels that either side says is occupied: empty space flatters `labels`."""
    occupied_iou: float
    mean_iou: float
    """Mean IoU of the classes that occur on either side."""
    iou_per_class: dict[str, float]
    """Classes that occur on either side only."""
    largest_probability_difference: float
    """Of occupied probabilities, which come in steps of 1/255."""
    mean_probability_difference: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


class AgreementCounter:
    """Add up frames, then divide once, as the official scores do."""

    def __init__(self) -> None:
        """Start with no frames."""
        self._metrics = SscMetrics()
        self._frame_shares: list[float] = []
        self._same_occupied = self._either_occupied = 0
        self._largest_step, self._sum_of_steps = 0, 0

    def update(self, reference: Answer, candidate: Answer) -> None:
        """Add a frame: labels and occupied probability of both, uint8 of one shape.

        Raises DataFileError where shapes differ or labels are no train ids.
        """
        expected, found = reference[0], candidate[0]
        self._metrics.update(found, expected)
        same = expected == found
        occupied = (expected != EMPTY) | (found != EMPTY)
        self._frame_shares.append(equal_share(found, expected))
        self._same_occupied += int((same & occupied).sum())
        self._either_occupied += int(occupied.sum())
        steps = np.abs(reference[1].astype(np.int16) - candidate[1].astype(np.int16))
        self._largest_step = max(self._largest_step, int(steps.max()))
        self._sum_of_steps += int(steps.sum(dtype=np.int64))

    def compute(self) -> AgreementScores:
        """Return the scores of everything added so far; DataFileError where that is nothing."""
        if not self._frame_shares:
            raise DataFileError('agreement needs at least one frame, found none')
        confusion = self._metrics.confusion
        total = int(confusion.sum())
        scores = self._metrics.compute()
        present = (confusion.sum(0) + confusion.sum(1)) > 0
        by_name = {n: v for n, v in scores.by_name().items() if present[CLASS_NAMES.index(n)]}
        return AgreementScores(
            num_frames=len(self._frame_shares),
            labels=float(np.trace(confusion) / total),
            labels_worst_frame=min(self._frame_shares),
            labels_where_occupied=_share(self._same_occupied, self._either_occupied),
            occupied_iou=scores.iou if self._either_occupied else 1.0,
            mean_iou=float(np.mean(list(by_name.values()))) if by_name else 1.0,
            iou_per_class=by_name,
            largest_probability_difference=self._largest_step / 255,
            mean_probability_difference=self._sum_of_steps / total / 255,
        )


def _share(part: int, whole: int) -> float:
    """Return part / whole; nothing to disagree about is agreement."""
    return part / whole if whole else 1.0


@dataclass(frozen=True)
class Comparison:
    """The reference, the others, how each of them agrees with it, and on what."""

    reference: ComparedEngine
    candidates: tuple[ComparedEngine, ...]
    scores: tuple[AgreementScores, ...]
    """One per candidate."""
    frames: str
    depth_prior: str
    machine: str
    code_commit: str | None

    def speedup(self, candidate: ComparedEngine) -> float:
        """Return how many times faster than the reference a candidate is."""
        return self.reference.median_ms / candidate.median_ms

    def below(self, share: float) -> dict[str, float]:
        """Return the candidates that agree less on their worst frame, with that share."""
        worst = {
            candidate.name: scores.labels_worst_frame
            for candidate, scores in zip(self.candidates, self.scores, strict=True)
        }
        return {name: found for name, found in worst.items() if found < share}


@dataclass(frozen=True)
class ComparedFrames:
    """The frames of a comparison and what the report says of them."""

    frames: Iterable[CameraFrame]
    text: str
    depth_prior: str


def compare(
    networks: Sequence[NetworkUnderTest], frames: ComparedFrames, machine: str
) -> Comparison:
    """Run every network on every frame in turn; the first network is the reference.

    Raises ConfigError where there are fewer than two or their grids differ.
    """
    grids = {network.manifest.voxel_grid for network in networks}
    if len(networks) < 2 or len(grids) > 1:
        raise ConfigError(
            f'expected a reference and at least one other of the same voxel grid, found '
            f'{[network.text for network in networks]} of {grids}'
        )
    counters = [AgreementCounter() for _ in networks[1:]]
    latencies_ms: list[list[float]] = [[] for _ in networks]
    for number, frame in enumerate(frames.frames):
        inputs = [network.prepare(frame) for network in networks]
        sides = list(zip(networks, inputs, latencies_ms, strict=True))
        if number == 0:
            for network, arrays, _ in sides:
                network.run(arrays)  # the first run allocates
        reference, *others = (_timed(*side) for side in sides)
        for counter, answer in zip(counters, others, strict=True):
            counter.update(reference, answer)
    engines = [_described(*pair) for pair in zip(networks, latencies_ms, strict=True)]
    return Comparison(
        reference=engines[0],
        candidates=tuple(engines[1:]),
        scores=tuple(counter.compute() for counter in counters),
        frames=frames.text,
        depth_prior=frames.depth_prior,
        machine=machine,
        code_commit=code_commit(),
    )


def _timed(network: NetworkUnderTest, inputs: Arrays, times_ms: list[float]) -> Answer:
    started_s = time.perf_counter()
    outputs = network.run(inputs)
    times_ms.append(1e3 * (time.perf_counter() - started_s))
    return outputs[LABELS], outputs[OCCUPIED_PROBABILITY]


def _described(network: NetworkUnderTest, latencies_ms: Sequence[float]) -> ComparedEngine:
    return ComparedEngine(
        name=network.text,
        engine=network.engine_name,
        model=network.manifest.model_id,
        file=network.file,
        sha256=network.sha256,
        latency_ms=tuple(latencies_ms),
    )
