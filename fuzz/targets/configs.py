"""YAML and JSON into typed objects: a clear error, or an object that is written and read again."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import CigoccError
from cigocc_ros.core.grid import MAX_VOXELS
from cigocc_ros.core.installed import config_dir
from cigocc_ros.core.manifest import (
    MANIFEST_FILE,
    FileSpec,
    ModelManifest,
    TensorSpec,
    load_manifest,
    verify_files,
    write_manifest,
)
from cigocc_ros.core.typed_yaml import from_mapping, load_yaml, to_mapping
from cigocc_ros.core.yaml_json import load_json
from cigocc_ros.data.camera_file import read_camera
from cigocc_ros.runtime.contract import check_manifest
from cigocc_ros.runtime.tensorrt.store import EngineSidecar
from cigocc_ros.training.config import TrainConfig

CAMERA = b"""fx: 700.0
fy: 700
cx: 320.5
cy: 90.0
baseline_m: 0.54
cam_from_velo: [[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]]
"""
SIDECAR_KEY = {
    'onnx_sha256': 'a',
    'library': 'tensorrt',
    'library_version': '10.3',
    'gpu': 'g',
    'compute_capability': '8.7',
    'multiprocessors': 16,
    'l2_cache_kib': 4096,
    'memory_gib': 62,
    'cuda_driver': '12',
    'precision': 'fp32',
    'workspace_mb': 64,
    'optimization_level': 3,
    'stock_plugins': True,
}


def seeds() -> list[bytes]:
    """Return inputs: a byte that chooses what is read, then its content."""
    model = (config_dir() / 'model' / 'tiny.yaml').read_bytes()
    train = (config_dir() / 'train' / 'synthetic.yaml').read_bytes()
    sidecar = {
        'sidecar_version': 2,
        'key': SIDECAR_KEY,
        'engine_sha256': 'b',
        'engine_bytes': 7,
        'model_id': 'm',
        'inputs': [{'name': 'image', 'dtype': 'uint8', 'shape': [1, 2, 2, 3]}],
        'outputs': [],
        'layers': 1,
        'plugins': 0,
        'build_s': 1.5,
        'deserialised': True,
        'built_by': 'x',
        'built_at': 'y',
    }
    return [
        b'\0' + model,
        b'\1' + _manifest(),
        b'\2' + CAMERA,
        b'\3' + train,
        b'\4' + json.dumps(sidecar).encode(),
        b'\0a: &a [1]\nb: [*a, *a]\n',
        b'\0a: 2001-99-99\nb: 0b_\n? [x]\n: {y: !!binary aGk=}\n',
    ]


def run(data: bytes, folder: Path) -> None:
    """Read the content as the kind that its first byte chooses."""
    kind = (data[:1] or b'\0')[0] % 5
    name = ('model.yaml', MANIFEST_FILE, 'camera.yaml', 'train.yaml', 'engine.json')[kind]
    (folder / name).write_bytes(data[1:])
    try:
        (_model, _manifest_file, _camera, _train, _sidecar)[kind](folder / name)
    except CigoccError as error:
        assert len(str(error)) < 3000


def _manifest() -> bytes:
    manifest = ModelManifest(
        1,
        'seed',
        'tiny',
        'Apache-2.0',
        {'onnx': FileSpec('train.yaml', '0', 1)},
        (TensorSpec('image', 'uint8', (1, 48, 160, 3)),),
        (TensorSpec('labels', 'uint8', (1, 2, 2, 2)),),
        {'origin_m': [0, 0, 0], 'voxel_size_m': [1, 1, 1], 'shape': [2, 2, 2]},
    )
    return yaml.safe_dump(to_mapping(manifest)).encode()


def _model(path: Path) -> None:
    config = from_mapping(ModelConfig, load_yaml(path), str(path))
    assert config.output_grid.num_voxels <= MAX_VOXELS
    assert from_mapping(ModelConfig, to_mapping(config), 'again') == config


def _manifest_file(path: Path) -> None:
    manifest = load_manifest(path.parent)
    write_manifest(path.parent, manifest)
    again = load_manifest(path.parent)
    assert again.files == manifest.files and again.inputs == manifest.inputs
    for file in verify_files(path.parent, manifest).values():
        assert file.resolve().is_relative_to(path.parent.resolve())
    check_manifest(manifest)


def _camera(path: Path) -> None:
    mounted = read_camera(path, 640, 192)
    assert mounted.cam_from_velo.shape == (4, 4)


def _train(path: Path) -> None:
    config = from_mapping(TrainConfig, load_yaml(path), str(path))
    assert from_mapping(TrainConfig, to_mapping(config), 'again') == config


def _sidecar(path: Path) -> None:
    sidecar = from_mapping(EngineSidecar, load_json(path), str(path))
    assert from_mapping(EngineSidecar, to_mapping(sidecar), 'again') == sidecar
