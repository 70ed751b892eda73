"""The manifest of a model folder: a contract that is checked before anything is loaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import yaml

from cigocc_ros.core.calibration import Calibration
from cigocc_ros.core.encoded_images import check_pixels
from cigocc_ros.core.errors import ConfigError, DataFileError, ManifestError
from cigocc_ros.core.files import read_bytes, write_atomically
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import CLASS_NAMES
from cigocc_ros.core.onnx_file import opset_of, require_self_contained
from cigocc_ros.core.text import excerpt
from cigocc_ros.core.typed_yaml import from_mapping, load_yaml, to_mapping

MANIFEST_FILE = 'manifest.yaml'
MANIFEST_VERSION = 1
MAX_MODEL_BYTES = 2_000_000_000
ONNX_SUFFIX = '.onnx'
IMAGE, DEPTH_PRIOR, SEMANTIC_PRIOR = 'image', 'depth_prior', 'semantic_prior'
PIXEL_FROM_VELO, VELO_FROM_PIXEL = 'pixel_from_velo', 'velo_from_pixel'
LABELS, OCCUPIED_PROBABILITY = 'labels', 'occupied_probability'
CLASS_PROBABILITY = 'class_probability'
"""Of the best class given that the voxel is occupied; models of 0.1.0 do not say it."""
LOGITS = 'logits'
"""Of 20 classes, (1, 20, X, Y, Z) float32: of files for evaluation, not of the engine contract."""
MIXED_ROLE = 'onnx_fp16'
"""Role of the file for TensorRT; models exported before it existed have none."""
WEIGHTS_ROLE, WEIGHTS_CONFIG_ROLE = 'weights', 'weights_config'
"""Roles of a checkpoint beside what runs: weights to go on from, and the config of its network."""
FilePrecision = Literal['fp32', 'mixed_fp16', 'int8', 'mixed_int8']
"""Types inside a network. Mixed is float16 with float32 geometry, for TensorRT; int8 means eight
bits in convolutions, float32 or mixed elsewhere."""
OPSET = 18
"""From 20 on GridSample is spelt anew, which TensorRT up to 11.1 reads as nearest, silently."""
OPSET_OF_MIXED_INT8 = 19
"""First opset whose Q/DQ take float16 scales; GridSample is spelt as in 18 up to 19."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, numpy dtype name and static shape of an engine input or output."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        """Return e.g. `image uint8 (1, 192, 640, 3)`."""
        return f'{self.name} {self.dtype} {self.shape}'


@dataclass(frozen=True)
class FileSpec:
    """A file of the model folder with the hash it must have."""

    path: str
    sha256: str
    size_bytes: int
    precision: FilePrecision | None = None


@dataclass(frozen=True)
class ModelManifest:
    """What a model folder promises."""

    manifest_version: int
    model_id: str
    config: str
    license: str
    files: dict[str, FileSpec]
    """By role: 'onnx', ..."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    grid: dict[str, Any]
    classes: tuple[str, ...] = CLASS_NAMES
    opset: int = OPSET
    """Of the ONNX files, `OPSET_OF_MIXED_INT8` in those."""
    training: dict[str, Any] = field(default_factory=dict)
    """Facts about the weights: data, steps, seed, commit, scores."""
    calibration: Calibration | None = None
    """What is in the graph behind the network; None: probabilities as the network says them."""

    def __post_init__(self) -> None:
        """Raise ManifestError for another version or other classes."""
        if self.manifest_version != MANIFEST_VERSION:
            raise ManifestError(
                f'manifest_version {self.manifest_version} found, this release reads '
                f'{MANIFEST_VERSION}: export the model again with `cigocc export`'
            )
        if self.classes != CLASS_NAMES:
            raise ManifestError(f'classes must be {CLASS_NAMES}, found {excerpt(self.classes)}')
        for spec in self.files.values():
            _check_name(spec.path)

    @property
    def voxel_grid(self) -> VoxelGrid:
        """Grid of the model's labels."""
        return VoxelGrid.from_dict(self.grid)

    @property
    def image_size(self) -> tuple[int, int]:
        """Model input (height, width)."""
        spec = self.input(IMAGE)
        if len(spec.shape) != 4:
            raise ManifestError(f'expected {IMAGE} uint8 (1, H, W, 3), found {excerpt(spec)}')
        height, width = spec.shape[1:3]
        try:
            check_pixels(width, height, IMAGE)
        except DataFileError as error:
            raise ManifestError(str(error)) from error
        return height, width

    @property
    def takes_semantic_prior(self) -> bool:
        """Whether the network has the fifth input; those exported before it existed have not."""
        return any(spec.name == SEMANTIC_PRIOR for spec in self.inputs)

    @property
    def gives_class_probability(self) -> bool:
        """Whether the network has the third output."""
        return any(spec.name == CLASS_PROBABILITY for spec in self.outputs)

    def input(self, name: str) -> TensorSpec:
        """Return the input called `name`; raise ManifestError where there is none."""
        for spec in self.inputs:
            if spec.name == name:
                return spec
        found = excerpt([spec.name for spec in self.inputs])
        raise ManifestError(f'no input {name!r}; found {found}')

    def file(self, role: str) -> FileSpec:
        """Return the file of a role; raise ManifestError where there is none."""
        if role not in self.files:
            has = excerpt(list(self.files))
            raise ManifestError(f'model {self.model_id}: no {role!r} file, has {has}')
        spec: FileSpec = self.files[role]
        return spec


def _check_name(path: str) -> None:
    """Raise ManifestError unless `path` is a plain relative path inside the model folder."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or '..' in pure.parts or '\\' in path or not pure.parts:
        raise ManifestError(
            f'file {excerpt(path)} must be a relative path inside the model folder'
        )


def load_manifest(model_dir: Path) -> ModelManifest:
    """Read and check <model_dir>/manifest.yaml; raise ManifestError saying what is wrong."""
    path = Path(model_dir) / MANIFEST_FILE
    if not path.is_file():
        raise ManifestError(
            f'{model_dir}: no {MANIFEST_FILE} there. Expected a model folder made by '
            '`cigocc export --checkpoint ... --out FOLDER`, or the name of a shipped model'
        )
    try:
        manifest = from_mapping(ModelManifest, load_yaml(path), str(path))
        _ = manifest.voxel_grid
    except ConfigError as error:
        raise ManifestError(str(error)) from error
    return manifest


def verified_file(model_dir: Path, manifest: ModelManifest, role: str) -> Path:
    """Return the path of a file after checking size and sha256; raise ManifestError."""
    path, spec = _inside(model_dir, manifest, role)
    _check_hash(path, spec, file_sha256(path))
    return path


def verified_content(model_dir: Path, manifest: ModelManifest, role: str) -> bytes:
    """Return the bytes of a file, read once and then checked; raise ManifestError.

    What was checked is what is loaded, whatever happens to the file. ONNX must keep all its
    tensors within and be of the manifest's opset.
    """
    path, spec = _inside(model_dir, manifest, role)
    try:
        content = read_bytes(path, spec.size_bytes)
    except DataFileError as error:
        raise ManifestError(str(error)) from error
    _check_hash(path, spec, hashlib.sha256(content).hexdigest())
    if path.suffix == ONNX_SUFFIX:
        require_self_contained(content, str(path))
        _check_opset(content, path, spec, manifest)
    return content


def _check_opset(content: bytes, path: Path, spec: FileSpec, manifest: ModelManifest) -> None:
    mixed_int8 = spec.precision == 'mixed_int8'
    expected = OPSET_OF_MIXED_INT8 if mixed_int8 else manifest.opset
    found = opset_of(content, str(path))
    if found != expected:
        raise ManifestError(
            f'{path}: opset {found} found, {expected} expected (manifest): runtimes read other '
            'opsets differently; run `cigocc export` again'
        )


def _inside(model_dir: Path, manifest: ModelManifest, role: str) -> tuple[Path, FileSpec]:
    """Return path and spec of a file in the model folder, of the right size; ManifestError."""
    spec = manifest.file(role)
    path = Path(model_dir) / spec.path
    if not path.is_file():
        raise ManifestError(f'{path}: missing, the manifest lists it as {role!r}')
    if not path.resolve().is_relative_to(Path(model_dir).resolve()):
        raise ManifestError(f'{path}: leads out of the model folder')
    size = path.stat().st_size
    if size != spec.size_bytes or size > MAX_MODEL_BYTES:
        raise ManifestError(f'{path}: {size} bytes found, {spec.size_bytes} expected (manifest)')
    return path, spec


def _check_hash(path: Path, spec: FileSpec, found: str) -> None:
    if found != spec.sha256:
        raise ManifestError(
            f'{path}: sha256 {found[:16]}... found, {spec.sha256[:16]}... expected: the file was '
            'changed after export; get it again or run `cigocc export`'
        )


def verify_files(model_dir: Path, manifest: ModelManifest) -> dict[str, Path]:
    """Check every file of the manifest and return role -> path; raise ManifestError."""
    return {role: verified_file(model_dir, manifest, role) for role in manifest.files}


def file_sha256(path: Path) -> str:
    """Return the hex sha256 of a file."""
    digest = hashlib.sha256()
    with path.open('rb') as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def file_spec(model_dir: Path, name: str, precision: FilePrecision | None = None) -> FileSpec:
    """Return the FileSpec of an existing file of the folder."""
    path = Path(model_dir) / name
    return FileSpec(name, file_sha256(path), path.stat().st_size, precision)


def write_manifest(model_dir: Path, manifest: ModelManifest) -> Path:
    """Write manifest.yaml atomically and return its path."""
    path = Path(model_dir) / MANIFEST_FILE
    write_atomically(path, yaml.safe_dump(to_mapping(manifest), sort_keys=False, width=99))
    return path
