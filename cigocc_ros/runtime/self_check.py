"""Compare an engine with answers stored at export, before anything it says is used.

The only defence against a runtime that loads the right file and computes the wrong thing.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cigocc_ros.core.errors import EngineError, ManifestError
from cigocc_ros.core.manifest import LABELS, ModelManifest, verified_file
from cigocc_ros.runtime.contract import Arrays
from cigocc_ros.runtime.engine import Engine

GOLDEN_ROLE = 'golden'
GOLDEN_FILE = 'golden.npz'
MIN_GOLDEN_AGREEMENT = 0.99
"""Share of voxels whose label must be the stored one; rounding moves far fewer."""


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
    try:
        with np.load(path, allow_pickle=False) as stored:
            inputs = {spec.name: stored[spec.name] for spec in manifest.inputs}
            outputs = {spec.name: stored[spec.name] for spec in manifest.outputs}
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ManifestError(
            f'{path}: no golden answers in it ({error}): run `cigocc export`'
        ) from error
    return Golden(inputs, outputs)


def check_engine(engine: Engine, golden: Golden) -> float:
    """Return the share of voxels labelled as stored; raise EngineError where it is too small."""
    found = engine.run(golden.inputs)[LABELS]
    agreement = float((found == golden.outputs[LABELS]).mean())
    if agreement < MIN_GOLDEN_AGREEMENT:
        raise EngineError(
            f'{engine.name}: self-check failed, {100 * agreement:.2f} % of the voxels labelled as '
            f'at export, at least {100 * MIN_GOLDEN_AGREEMENT} % expected: this backend computes '
            'something else; use another backend and report its version'
        )
    return agreement
