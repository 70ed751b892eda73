"""Compare an engine with answers stored at export, before anything it says is used.

The only defence against a runtime that loads the right file and computes the wrong thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.agreement import MIN_GOLDEN_AGREEMENT, equal_share
from cigocc_ros.core.arrays import read_arrays
from cigocc_ros.core.errors import DataFileError, EngineError, ManifestError
from cigocc_ros.core.labels import CLASS_NAMES, NUM_CLASSES
from cigocc_ros.core.manifest import LABELS, ModelManifest, TensorSpec, verified_file
from cigocc_ros.runtime.contract import Arrays, check_specs
from cigocc_ros.runtime.engine import Engine

GOLDEN_ROLE = 'golden'
GOLDEN_FILE = 'golden.npz'
COUNT_SLACK, COUNT_SLACK_SHARE, COUNT_SLACK_RATIO = 10, 2e-4, 0.1
"""By how much the voxels of a class may differ: a few, a share of the grid, a share of theirs."""


@dataclass(frozen=True)
class Golden:
    """Named inputs of one frame and the named outputs of the torch network for them."""

    inputs: Arrays
    outputs: Arrays


def save_golden(path: Path, golden: Golden) -> None:
    """Write inputs and outputs into one compressed .npz."""
    arrays: dict[str, Any] = {**golden.inputs, **golden.outputs}
    np.savez_compressed(path, **arrays)


def load_golden(model_dir: Path, manifest: ModelManifest) -> Golden | None:
    """Read the stored answers; None where the manifest lists none, ManifestError where unfit."""
    if GOLDEN_ROLE not in manifest.files:
        return None
    path = verified_file(model_dir, manifest, GOLDEN_ROLE)
    specs = (*manifest.inputs, *manifest.outputs)
    try:
        stored = read_arrays(path, [spec.name for spec in specs])
    except DataFileError as error:
        raise ManifestError(
            f'{path}: no golden answers in it ({error}): run `cigocc export`'
        ) from error
    found = [TensorSpec(name, array.dtype.name, array.shape) for name, array in stored.items()]
    check_specs(str(path), specs, found)
    inputs, outputs = (
        {spec.name: stored[spec.name] for spec in side}
        for side in (manifest.inputs, manifest.outputs)
    )
    return Golden(inputs, outputs)


def check_engine(engine: Engine, golden: Golden) -> float:
    """Return the share of voxels labelled as stored.

    Raises EngineError where it is too small, or where a class has clearly more or fewer voxels
    than stored: a lost class of a few voxels would not show in the share.
    """
    found, stored = engine.run(golden.inputs)[LABELS], golden.outputs[LABELS]
    agreement = equal_share(found, stored)
    problems = _count_problems(found, stored)
    if agreement < MIN_GOLDEN_AGREEMENT:
        problems.insert(
            0,
            f'{100 * agreement:.2f} % of the voxels labelled as at export, at least '
            f'{100 * MIN_GOLDEN_AGREEMENT:g} % expected',
        )
    if problems:
        raise EngineError(
            f'{engine.name}: self-check failed, {"; ".join(problems)}: this backend computes '
            'something else and nothing is published; use another backend (onnxruntime) and '
            'report its version'
        )
    return agreement


def _count_problems(found: NDArray[np.uint8], stored: NDArray[np.uint8]) -> list[str]:
    """Name the classes whose number of voxels differs by more than rounding explains."""
    counts = np.bincount(found.ravel(), minlength=NUM_CLASSES)
    expected = np.bincount(stored.ravel(), minlength=len(counts))
    slack = COUNT_SLACK + COUNT_SLACK_SHARE * stored.size + COUNT_SLACK_RATIO * expected
    return [
        f'{_class_name(label)}: {counts[label]} voxels found, {expected[label]} expected'
        for label in np.flatnonzero(np.abs(counts - expected) > slack).tolist()
    ]


def _class_name(label: int) -> str:
    return CLASS_NAMES[label] if label < NUM_CLASSES else f'label {label}, which is none'
