"""Engines on disk: KEY.engine beside KEY.engine.json, which says what it is and must hash to.

An engine is native code. It is read once, checked as bytes, and only from folders that nobody but
its owner and root can write; the hash finds damage, it is no signature.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from cigocc_ros.core.errors import ConfigError, DataFileError, EngineError, ManifestError
from cigocc_ros.core.files import read_bytes, replacing, write_atomically
from cigocc_ros.core.manifest import ModelManifest, TensorSpec
from cigocc_ros.core.typed_yaml import from_mapping, to_mapping
from cigocc_ros.core.yaml_json import load_json
from cigocc_ros.runtime.contract import check_specs
from cigocc_ros.runtime.tensorrt.key import EngineKey

logger = logging.getLogger(__name__)

SIDECAR_VERSION = 2
ENGINE_SUFFIX, SIDECAR_SUFFIX = '.engine', '.engine.json'


class EngineMissingError(EngineError):
    """There is no engine for what this machine is; building one mends it."""


@dataclass(frozen=True)
class EngineSidecar:
    """What is known of an engine file without reading it."""

    sidecar_version: int
    key: EngineKey
    engine_sha256: str
    engine_bytes: int
    model_id: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layers: int
    plugins: int
    """Layers of the parsed network that are plugins of TensorRT."""
    build_s: float
    deserialised: bool
    """Whether the builder could load it, and check its tensors, on the GPU that built it."""
    built_by: str
    built_at: str
    samplings: int = 0
    """Calls of deformable sampling in the file; as many plugins are expected of TensorRT."""


class EngineStore:
    """The engines of one folder; `mend` is the command that every refusal ends with."""

    def __init__(self, folder: Path, mend: str) -> None:
        """Take the folder, which need not exist."""
        self.folder = folder
        self._mend = mend

    def require_private(self) -> None:
        """Raise EngineError where engines of this folder would not be loaded; before a build."""
        require_private(self.folder, self._elsewhere)

    @property
    def _elsewhere(self) -> str:
        return f'Build your own: `{self._mend} --engine-dir FOLDER` (node: tensorrt.engine_dir)'

    def engine_path(self, key: EngineKey) -> Path:
        """Return where the engine of a key lies."""
        return self.folder / f'{key.name}{ENGINE_SUFFIX}'

    def sidecar_path(self, key: EngineKey) -> Path:
        """Return where its description lies."""
        return self.folder / f'{key.name}{SIDECAR_SUFFIX}'

    def find(self, key: EngineKey, manifest: ModelManifest) -> EngineSidecar:
        """Return the description of the engine of a key, checked against the manifest.

        Raises EngineMissingError where there is none, saying what others there are lack, and
        EngineError where it is not to be trusted.
        """
        path = self.sidecar_path(key)
        if not path.is_file() or not self.engine_path(key).is_file():
            raise EngineMissingError(self._missing(key))
        self.require_private()
        require_private(path, self._elsewhere)
        sidecar = self._read(path)
        differences = key.differences(sidecar.key)
        if differences:
            raise EngineMissingError(
                f'{path}: stale, {"; ".join(differences)}: run `{self._mend}`'
            )
        self._check_tensors(path, sidecar, manifest)
        return sidecar

    def load(self, key: EngineKey, manifest: ModelManifest) -> bytes:
        """Return the verified bytes of the engine; raises what `find` raises."""
        sidecar, path = self.find(key, manifest), self.engine_path(key)
        require_private(path, self._elsewhere)
        content = read_bytes(path, sidecar.engine_bytes + 1)
        found = hashlib.sha256(content).hexdigest()
        if len(content) != sidecar.engine_bytes or found != sidecar.engine_sha256:
            raise EngineError(
                f'{path}: {len(content)} bytes with sha256 {found[:16]}... found, '
                f'{sidecar.engine_bytes} with {sidecar.engine_sha256[:16]}... expected: damaged '
                f'or exchanged, and not loaded: run `{self._mend} --force`'
            )
        return content

    def save(self, sidecar: EngineSidecar, content: bytes) -> Path:
        """Write an engine, then its description; a crash leaves no pair that would be loaded.

        Raises EngineError where writing fails, with nothing left of it.
        """
        engine, described = self.engine_path(sidecar.key), self.sidecar_path(sidecar.key)
        text = json.dumps(to_mapping(sidecar), indent=2)
        try:
            described.unlink(missing_ok=True)
            for left in self.folder.glob(f'.{engine.name}.*'):
                left.unlink()  # half an engine of a builder that was killed
            with replacing(engine) as temporary:
                _write_through(temporary, content)
            write_atomically(described, text + '\n')
        except (DataFileError, OSError) as error:
            raise EngineError(
                f'{error}; {len(content) / 1e6:.0f} MB are needed: make room, or name another '
                f'folder: `{self._mend} --engine-dir FOLDER`'
            ) from error
        return engine

    def _read(self, path: Path) -> EngineSidecar:
        try:
            content = load_json(path)
            version = content.get('sidecar_version') if isinstance(content, dict) else None
            if isinstance(version, int) and version != SIDECAR_VERSION:
                raise EngineMissingError(
                    f'{path}: of another release of cigocc, version {version} found, '
                    f'{SIDECAR_VERSION} expected: run `{self._mend}`'
                )
            return from_mapping(EngineSidecar, content, str(path))
        except ConfigError as error:
            raise EngineMissingError(
                f'{path}: no description of an engine ({error}): run `{self._mend}`'
            ) from error

    def _check_tensors(self, path: Path, sidecar: EngineSidecar, manifest: ModelManifest) -> None:
        try:
            check_specs(f'{path}: inputs', manifest.inputs, sidecar.inputs)
            check_specs(f'{path}: outputs', manifest.outputs, sidecar.outputs)
        except ManifestError as error:
            raise EngineError(f'{error}; then run `{self._mend} --force`') from error

    def _missing(self, key: EngineKey) -> str:
        """Say that there is none, and how the nearest of the others differs."""
        others, unknown = self._others(key)
        if others:
            fewest = min(others, key=len)
            return f'the engine in {self.folder} is stale, {"; ".join(fewest)}: run `{self._mend}`'
        if unknown:
            return (
                f'no engine of this release for this model in {self.folder}, {unknown} of others '
                f'(they may be deleted): run `{self._mend}`'
            )
        return f'no engine for this model in {self.folder}: run `{self._mend}`'

    def _others(self, key: EngineKey) -> tuple[list[list[str]], int]:
        """Return how the other engines differ, and how many cannot be compared."""
        found, unknown = [], 0
        for path in sorted(self.folder.glob(f'*{SIDECAR_SUFFIX}')):
            try:
                found.append(key.differences(self._read(path).key))
            except (EngineMissingError, DataFileError):
                unknown += 1  # of another release, or not ours
        return [differences for differences in found if differences], unknown


def cache_content(path: Path) -> bytes:
    """Return what a cache file holds; empty, and a warning, where it is not to be used."""
    try:
        if path.is_file():
            require_private(path, 'It is left alone and made anew')
            return path.read_bytes()
    except (OSError, EngineError) as error:
        logger.warning('%s: not used: %s', path, error)
    return b''


def require_private(path: Path, cure: str) -> None:
    """Raise EngineError, ending with `cure`, where others may have written this native code.

    Trusted are this user, root, and the owner of this very code, which runs anyway: in containers
    root works in the folders of the user outside.
    """
    status = path.stat()
    shared = bool(status.st_mode & stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
    if status.st_uid not in (os.geteuid(), 0, Path(__file__).stat().st_uid) or shared:
        raise EngineError(
            f'{path}: owner {status.st_uid}, mode {stat.filemode(status.st_mode)} found; it is '
            f'loaded as native code: owner {os.geteuid()} or root expected, and not writable by '
            f'everybody. {cure}'
        )


def _write_through(path: Path, content: bytes) -> None:
    """Write a new file and wait until the disk has it."""
    with path.open('xb') as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
