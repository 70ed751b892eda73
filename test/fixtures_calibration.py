"""A calibration that changes every answer, and what numpy makes of raw logits with it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.calibration import WEIGHTS_SHA256, Calibration, Miscalibration

ERROR = Miscalibration(before=0.2, after=0.01, held_out=0.02)


def calibration(**changes: Any) -> Calibration:
    """Return one whose four numbers all matter."""
    numbers: dict[str, Any] = {
        'scale': 0.6,
        'shift': -0.7,
        'threshold': 0.35,
        'temperature': 2.5,
        'occupied_error': ERROR,
        'class_error': ERROR,
        'frames': {'05': 3},
        'facts': {WEIGHTS_SHA256: 'unknown'},
    }
    return Calibration(**{**numbers, **changes})


def odds_of(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return the logit of being occupied (1, X, Y, Z) of raw logits (1, 20, X, Y, Z)."""
    exact = logits.astype(np.float64)
    odds: NDArray[np.float64] = np.logaddexp.reduce(exact[:, 1:], axis=1) - exact[:, 0]
    return odds


def calibrated_answers(
    logits: NDArray[Any], found: Calibration, views: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return labels, probability, class probability (1, X, Y, Z) of raw logits (1, 20, X, Y, Z).

    In float64 and by the definitions alone; `views` ([B,] X, Y, Z) choose among the scalings.
    """
    exact = logits.astype(np.float64)
    classes = exact[:, 1:]
    index = np.zeros(exact.shape[2:], int) if views is None else views
    scale, shift = np.array([(one.scale, one.shift) for one in found.scalings]).T[..., index]
    probability = 1 / (1 + np.exp(-(scale * odds_of(logits) + shift)))
    scaled = classes / found.class_temperature
    shares = np.exp(scaled - np.logaddexp.reduce(scaled, axis=1)[:, None])
    labels = np.where(probability >= found.threshold, classes.argmax(1) + 1, 0)
    return labels, probability, shares.max(1)


def differences(outputs: dict[str, Any], expected: tuple[NDArray[Any], ...]) -> list[float]:
    """Return the shares of voxels whose label, probability, class probability are others."""
    labels, *probabilities = expected
    names = ('occupied_probability', 'class_probability')
    steps = [
        np.abs(outputs[name] - 255 * wanted) > 1.5
        for name, wanted in zip(names, probabilities, strict=True)
    ]
    return [float(wrong.mean()) for wrong in (outputs['labels'] != labels, *steps)]


def breaks_threshold(outputs: dict[str, Any], threshold: float) -> int:
    """Return how many voxels are empty though probable enough, or the other way round."""
    said, empty = outputs['occupied_probability'] / 255, outputs['labels'] == 0
    step = 0.5 / 255
    wrong = (empty & (said > threshold + step)) | (~empty & (said < threshold - step))
    return int(wrong.sum())
