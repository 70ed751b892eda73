"""What makes probabilities of a network's answers: numbers of `cigocc calibrate`, of a manifest.

With o, the network's logit of a voxel being occupied, and a, its logits of the 19 classes given
that it is: p = sigmoid(scale * o + shift), a voxel is empty where p < threshold, and its classes
have the probabilities softmax(a / temperature). What the camera looks at is known better than what
lies beside its picture, and better still where depth was measured, so scale and shift are those
of the view of a voxel (`core.views`). `cigocc export --calibration` puts all of it into the graph:
what leaves an engine is calibrated, and its labels are the only place that knows the threshold.
Nothing behind the engine compares a probability in order to say what is occupied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.files import write_atomically
from cigocc_ros.core.typed_yaml import from_mapping, load_yaml, to_mapping

CALIBRATION_FILE = 'calibration.yaml'
WEIGHTS_SHA256 = 'weights_sha256'
"""Key of facts and of a manifest's training: of which tensors the numbers are."""


@dataclass(frozen=True)
class Miscalibration:
    """Expected calibration error, 0..1, of frames that took part in the fit, and of others."""

    before: float
    after: float
    held_out: float
    """After, of each part of the frames with the numbers that the other parts give."""


@dataclass(frozen=True)
class Scaling:
    """Scale and shift of a logit."""

    scale: float
    shift: float

    def __post_init__(self) -> None:
        """Raise ConfigError for a scale that would turn the order of voxels round."""
        if not (math.isfinite(self.scale) and self.scale > 0 and math.isfinite(self.shift)):
            raise ConfigError(
                'calibration: expected a finite scale above 0 and a finite shift, found '
                f'{self.scale} and {self.shift}'
            )


@dataclass(frozen=True)
class Calibration:
    """Scale, shift, threshold and temperature (see the module's docstring), and where from."""

    scale: float
    shift: float
    """These two of voxels outside the image, and of all for which nothing else is said."""
    threshold: float
    """Of the calibrated probability: what says at least as much is occupied."""
    temperature: float | None
    """None: classes were not judged, and are as the network says them."""
    occupied_error: Miscalibration
    class_error: Miscalibration | None
    frames: dict[str, int]
    """Sequence -> number of frames that were used."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Model, data, depth priors, command, scores by prior: for people."""
    seen: Scaling | None = None
    """In place of scale and shift inside the image where no depth was measured."""
    measured: Scaling | None = None
    """In place of scale and shift inside the image where depth was measured."""

    def __post_init__(self) -> None:
        """Raise ConfigError for numbers that calibrate nothing."""
        Scaling(self.scale, self.shift)  # raises
        problems = []
        if not 0 < self.threshold < 1:
            problems.append(f'a threshold between 0 and 1, found {self.threshold}')
        if not (math.isfinite(self.class_temperature) and self.class_temperature > 0):
            problems.append(f'a finite temperature above 0, found {self.temperature}')
        if problems:
            raise ConfigError(f'calibration: expected {"; ".join(problems)}')

    @property
    def scalings(self) -> tuple[Scaling, ...]:
        """Scale and shift of each of `core.views.VIEWS`."""
        rest = Scaling(self.scale, self.shift)
        return rest, self.seen or rest, self.measured or rest

    @property
    def tells_views(self) -> bool:
        """Whether scale and shift are not the same everywhere."""
        return len(set(self.scalings)) > 1

    @property
    def class_temperature(self) -> float:
        """The temperature to divide by: 1 where classes were not judged."""
        return 1.0 if self.temperature is None else self.temperature

    @property
    def needed_logit(self) -> float:
        """Least logit of being occupied, after scale and shift, of a voxel that is."""
        return math.log(self.threshold / (1 - self.threshold))


def read_calibration(path: Path) -> Calibration:
    """Read what `cigocc calibrate` wrote; raise DataFileError saying what is wrong with it."""
    if not path.is_file():
        raise DataFileError(f'{path}: no such file; `cigocc calibrate ... --out {path}` writes it')
    try:
        return from_mapping(Calibration, load_yaml(path), str(path))
    except ConfigError as error:
        raise DataFileError(str(error)) from error


def calibration_of_weights(path: Path, weights: str) -> Calibration:
    """Read a calibration that must be of weights of that sha256; raise DataFileError if not."""
    calibration = read_calibration(path)
    found = str(calibration.facts.get(WEIGHTS_SHA256))
    if found != weights:
        raise DataFileError(
            f'{path}: expected a calibration of these weights (sha256 {weights[:16]}...), found '
            f'one of {found[:16]}...: run `cigocc calibrate` on this checkpoint'
        )
    return calibration


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write the file that `read_calibration` reads, whole or not at all."""
    text = yaml.safe_dump(to_mapping(calibration), sort_keys=False, width=99)
    write_atomically(path, text)
