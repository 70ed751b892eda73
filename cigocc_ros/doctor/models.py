"""A model folder and the TensorRT engines made of it."""

from __future__ import annotations

from pathlib import Path

from cigocc_ros.core.errors import CigoccError, EngineError, ManifestError
from cigocc_ros.core.manifest import ModelManifest, load_manifest, verify_files
from cigocc_ros.doctor.finding import Finding, fail, ok, warn
from cigocc_ros.doctor.gpu import Accelerator
from cigocc_ros.runtime.contract import check_manifest
from cigocc_ros.runtime.predictor import find_model_dir
from cigocc_ros.runtime.self_check import load_golden
from cigocc_ros.runtime.tensorrt.key import engine_key
from cigocc_ros.runtime.tensorrt.network import plugin_loss
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions, build_command, engine_folder
from cigocc_ros.runtime.tensorrt.store import ENGINE_SUFFIX, EngineMissingError, EngineStore

EXPORT = 'cigocc export --checkpoint CHECKPOINT --out FOLDER'


def check_model(model: str) -> tuple[Finding, tuple[Path, ModelManifest] | None]:
    """Check manifest, contract, and size and hash of every file of a model."""
    check = f'model {model}'
    try:
        folder = find_model_dir(model)
        manifest = load_manifest(folder)
        check_manifest(manifest)
        files = verify_files(folder, manifest)
        golden = load_golden(folder, manifest)
    except CigoccError as error:
        advice = 'a model folder whose files match manifest.yaml'
        return fail(check, str(error), advice, f'{EXPORT}; or model:=mid'), None
    loaded = folder, manifest
    if golden is None:
        found = f'{folder}: no stored answers'
        return warn(check, found, 'golden.npz, for the self-check at start', EXPORT), loaded
    found = f'{manifest.model_id} in {folder}: {len(files)} files as the manifest says'
    return ok(check, found), loaded


def check_engine_cache(
    folder: Path,
    manifest: ModelManifest,
    options: TensorRtOptions,
    accelerator: Accelerator,
) -> Finding:
    """Check that there is an engine for this machine, neither stale nor damaged."""
    place = engine_folder(options, folder)
    library, gpu = accelerator.library, accelerator.gpu
    if library is None or (gpu is None and not library.is_rtx):
        engines = len(list(place.glob(f'*{ENGINE_SUFFIX}')))
        there = f'{engines} engines in {place} not checked' if engines else 'none needed'
        return ok('engine cache', f'{there}: TensorRT does not run here')
    command = build_command(options, folder)
    store = EngineStore(place, command)
    try:
        key = engine_key(folder, manifest, options, library, gpu)
        store.load(key, manifest)
        sidecar = store.find(key, manifest)
    except EngineMissingError as error:
        expected = 'an engine built here; the node builds it at start, which takes minutes'
        return warn('engine cache', str(error), expected, command)
    except (EngineError, ManifestError) as error:
        return fail('engine cache', str(error), 'an engine that can be trusted', command)
    found = f'{store.engine_path(key)} fits this machine'
    loss = plugin_loss(str(library), sidecar.plugins, sidecar.samplings)
    if key.stock_plugins and loss:
        expected = f'{sidecar.samplings} plugins, as TensorRT 10.3 to 11 have them'
        return warn('engine cache', f'{found}, but {loss}', expected, f'{command} --force')
    return ok('engine cache', f'{found}: {sidecar.plugins} plugins')
