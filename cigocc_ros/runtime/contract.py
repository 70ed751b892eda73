"""The engine contract: what every CIGOcc network takes and gives, and checks against it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from cigocc_ros.core.calibration import Calibration
from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import EngineError, ManifestError
from cigocc_ros.core.grid import Shape
from cigocc_ros.core.manifest import (
    CLASS_PROBABILITY,
    DEPTH_PRIOR,
    IMAGE,
    LABELS,
    MANIFEST_VERSION,
    OCCUPIED_PROBABILITY,
    PIXEL_FROM_VELO,
    SEMANTIC_PRIOR,
    VELO_FROM_PIXEL,
    FileSpec,
    ModelManifest,
    TensorSpec,
)

ONNX_ROLE = 'onnx'

CELL_PX = 4
"""Pixels of the model's input per cell of its semantic prior, along each axis."""

DEFAULT_THREADS = 0
"""Threads inside one operator; 0 lets the backend take every physical core."""

Arrays = dict[str, NDArray[Any]]


def input_specs(
    image_size: tuple[int, int], semantic_prior: bool = False
) -> tuple[TensorSpec, ...]:
    """Return the inputs of a network for images of (H, W), in the order of its arguments."""
    height, width = image_size
    specs = (
        TensorSpec(IMAGE, 'uint8', (1, height, width, 3)),
        TensorSpec(DEPTH_PRIOR, 'float32', (1, height, width)),
        TensorSpec(PIXEL_FROM_VELO, 'float32', (1, 3, 4)),
        TensorSpec(VELO_FROM_PIXEL, 'float32', (1, 3, 4)),
    )
    cells = (1, height // CELL_PX, width // CELL_PX)
    return (*specs, TensorSpec(SEMANTIC_PRIOR, 'uint8', cells)) if semantic_prior else specs


def output_specs(shape: Shape, class_probability: bool = False) -> tuple[TensorSpec, ...]:
    """Return the outputs of a network with (X, Y, Z) voxels, in the order it gives them."""
    names = (LABELS, OCCUPIED_PROBABILITY, CLASS_PROBABILITY)
    given = names if class_probability else names[:-1]
    return tuple(TensorSpec(name, 'uint8', (1, *shape)) for name in given)


def manifest_for(
    config: ModelConfig,
    model_id: str,
    *,
    license: str,
    files: Mapping[str, FileSpec],
    training: Mapping[str, Any],
    class_probability: bool = False,
    calibration: Calibration | None = None,
) -> ModelManifest:
    """Return the manifest of a network of this config that keeps the contract.

    `class_probability`: whether it says how sure it is of the class, as all exported ones do.
    """
    return ModelManifest(
        manifest_version=MANIFEST_VERSION,
        model_id=model_id,
        config=config.name,
        license=license,
        files=dict(files),
        inputs=input_specs(config.image_size, config.semantic_prior),
        outputs=output_specs(config.output_shape, class_probability),
        grid=config.output_grid.to_dict(),
        training=dict(training),
        calibration=calibration,
    )


def check_manifest(manifest: ModelManifest) -> None:
    """Raise ManifestError where a manifest's tensors are not those of the contract."""
    where = f'manifest of model {manifest.model_id!r}'
    inputs = input_specs(manifest.image_size, manifest.takes_semantic_prior)
    check_specs(f'{where}: inputs', inputs, manifest.inputs)
    outputs = output_specs(manifest.voxel_grid.shape, manifest.gives_class_probability)
    check_specs(f'{where}: outputs', outputs, manifest.outputs)


def check_specs(what: str, expected: Iterable[TensorSpec], found: Iterable[TensorSpec]) -> None:
    """Raise ManifestError with both sides unless names, dtypes and shapes are the same."""
    wanted, present = set(expected), set(found)
    if wanted != present:
        raise ManifestError(
            f'{what}: expected {_listed(wanted - present)}, found {_listed(present - wanted)}; '
            'the model and its manifest do not belong together: run `cigocc export` again'
        )


def check_arrays(specs: Iterable[TensorSpec], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise EngineError unless `arrays` are exactly the named, typed, shaped inputs of `specs`."""
    wanted = set(specs)
    present = {TensorSpec(name, a.dtype.name, a.shape) for name, a in arrays.items()}
    if wanted != present:
        raise EngineError(
            f'engine inputs: expected {_listed(wanted - present)}, '
            f'found {_listed(present - wanted)}'
        )


def _listed(specs: Iterable[TensorSpec]) -> str:
    return ', '.join(sorted(str(spec) for spec in specs)) or 'nothing more'
