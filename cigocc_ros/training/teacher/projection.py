"""Bring a teacher's channels to the width of the student, linearly, fixed and without training.

The rows are those of stacked random orthogonal matrices. Each row has unit length, so a channel of
the student has, on average, the mean square of a channel of the teacher. With fewer rows than
teacher channels it is an orthogonal projection, which keeps angles and distances as well as a map
chosen without looking at the data can; with more rows it loses nothing.

Fixed rather than learned, because the same map must serve both uses of the features: as the target
of the student and, in its place, as the input of the fusion.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import ConfigError

MAX_STUDENT_CHANNELS = 512
"""Rows that are stored with a cache: the widest student that it can teach."""
_SEED = 0


def make_projection(teacher_channels: int) -> NDArray[np.float32]:
    """Return the rows to store, (MAX_STUDENT_CHANNELS, teacher_channels) float32."""
    rng = np.random.default_rng((_SEED, teacher_channels))
    blocks = -(-MAX_STUDENT_CHANNELS // teacher_channels)
    rows = [_orthogonal(teacher_channels, rng) for _ in range(blocks)]
    return np.concatenate(rows)[:MAX_STUDENT_CHANNELS].astype(np.float32)


def project(
    features: NDArray[np.float32], rows: NDArray[np.float32], student_channels: int
) -> NDArray[np.float32]:
    """Map (C, h, w) to (student_channels, h, w); raise ConfigError where there are too few rows.

    `rows` are those of `make_projection`.
    """
    if not 0 < student_channels <= len(rows):
        raise ConfigError(
            f'a teacher cache serves 1..{len(rows)} student channels, the model config has '
            f'semantic_channels = {student_channels}'
        )
    mapped: NDArray[np.float32] = np.einsum(
        'sc,chw->shw', rows[:student_channels], features, optimize=True
    )
    return mapped


def _orthogonal(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    orthogonal: NDArray[np.float64] = q * np.sign(np.diag(r))
    return orthogonal
