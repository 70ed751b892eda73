"""Engines on disk: what is loaded, what is stale, and what is never loaded."""

import errno
import hashlib
import json
import os
from dataclasses import replace

import pytest
from fixtures_tiny_model import TINY_CONFIG

from cigocc_ros.core.errors import EngineError
from cigocc_ros.runtime.contract import manifest_for
from cigocc_ros.runtime.tensorrt import store as engine_store
from cigocc_ros.runtime.tensorrt.key import EngineKey
from cigocc_ros.runtime.tensorrt.store import (
    SIDECAR_VERSION,
    EngineMissingError,
    EngineSidecar,
    EngineStore,
)

MANIFEST = manifest_for(TINY_CONFIG, 'tiny', license='none', files={}, training={})
KEY = EngineKey(
    'a' * 64, 'tensorrt', '10.13', 'Orin', '8.7', 16, 4096, 62, '12.6', 'fp32', 2048, 3, True
)
PLAN = b'plan of an engine'
MEND = 'cigocc build-engine --model mid'


def sidecar(key=KEY, plan=PLAN):
    return EngineSidecar(
        sidecar_version=SIDECAR_VERSION,
        key=key,
        engine_sha256=hashlib.sha256(plan).hexdigest(),
        engine_bytes=len(plan),
        model_id='tiny',
        inputs=MANIFEST.inputs,
        outputs=MANIFEST.outputs,
        layers=9,
        plugins=2,
        build_s=1.5,
        deserialised=True,
        built_by='test',
        built_at='2026-01-01T00:00:00+00:00',
    )


@pytest.fixture
def store(tmp_path):
    return EngineStore(tmp_path / 'engines', MEND)


def test_what_was_saved_is_loaded(store):
    path = store.save(sidecar(), PLAN)
    assert path == store.folder / f'{KEY.name}.engine' and len(KEY.name) == 16
    assert store.load(KEY, MANIFEST) == PLAN
    assert store.find(KEY, MANIFEST) == sidecar()
    assert sorted(p.name for p in store.folder.iterdir()) == [
        f'{KEY.name}.engine',
        f'{KEY.name}.engine.json',
    ]


def test_without_engine_the_command_is_named(store):
    with pytest.raises(EngineMissingError, match=f'no engine for this model.*run `{MEND}`'):
        store.find(KEY, MANIFEST)


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'onnx_sha256': 'b' * 64}, 'onnx sha256: found a+, expected b+'),
        ({'library_version': '10.3'}, 'library version: found 10.13, expected 10.3'),
        ({'gpu': 'Thor', 'compute_capability': '11.0'}, 'gpu: found Orin, expected Thor; comp'),
        ({'cuda_driver': '13.0'}, 'cuda driver: found 12.6, expected 13.0'),
        ({'multiprocessors': 8}, 'multiprocessors: found 16, expected 8'),
        ({'l2_cache_kib': 2048}, 'l2 cache kib: found 4096, expected 2048'),
        ({'memory_gib': 8}, 'memory gib: found 62, expected 8'),
        ({'precision': 'mixed_fp16'}, 'precision: found fp32, expected mixed_fp16'),
        ({'workspace_mb': 512}, 'workspace mb: found 2048, expected 512'),
        ({'optimization_level': 5}, 'optimization level: found 3, expected 5'),
        ({'stock_plugins': False}, 'stock plugins: found True, expected False'),
        ({'hardware_compatibility': 'ampere'}, 'hardware compatibility: found none'),
        ({'recipe': 99}, f'recipe: found {KEY.recipe}, expected 99'),
        ({'library': 'tensorrt_rtx'}, 'library: found tensorrt, expected tensorrt_rtx'),
    ],
)
def test_every_field_of_the_key_makes_an_engine_stale(store, change, said):
    store.save(sidecar(), PLAN)
    with pytest.raises(EngineMissingError, match=f'stale, .*{said}.*run `{MEND}`'):
        store.find(replace(KEY, **change), MANIFEST)


def test_the_nearest_engine_explains_staleness(store):
    store.save(sidecar(replace(KEY, gpu='Thor', cuda_driver='13.0')), PLAN)
    store.save(sidecar(replace(KEY, gpu='Thor')), PLAN)
    with pytest.raises(EngineMissingError, match='stale, gpu: found Thor, expected Orin: run'):
        store.find(KEY, MANIFEST)


def test_a_description_under_another_name_is_stale(store):
    store.save(sidecar(), PLAN)
    other = replace(KEY, gpu='Thor')
    store.engine_path(KEY).rename(store.engine_path(other))
    store.sidecar_path(KEY).rename(store.sidecar_path(other))
    with pytest.raises(EngineMissingError, match='gpu: found Orin, expected Thor'):
        store.load(other, MANIFEST)


@pytest.mark.parametrize('spoil', [lambda b: b[:-1], lambda b: b'P' + b[1:], lambda b: b''])
def test_changed_bytes_are_never_loaded(store, spoil):
    path = store.save(sidecar(), PLAN)
    path.write_bytes(spoil(PLAN))
    with pytest.raises(EngineError, match=r'sha256 .* found, .* expected.*not loaded.*--force'):
        store.load(KEY, MANIFEST)


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ('', 'no description of an engine'),
        ('[]', 'expected a mapping'),
        ('{"key": 1}', "missing key 'sidecar_version'"),
        (b'\xff\xfe', 'no description of an engine'),
    ],
)
def test_an_unreadable_description_asks_for_a_build(store, content, said):
    store.save(sidecar(), PLAN)
    path = store.sidecar_path(KEY)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(EngineMissingError, match=f'{said}.*run `{MEND}`'):
        store.find(KEY, MANIFEST)


def test_a_description_of_a_later_release_asks_for_a_build(store):
    store.save(sidecar(), PLAN)
    path = store.sidecar_path(KEY)
    path.write_text(json.dumps({**json.loads(path.read_text()), 'sidecar_version': 3}))
    with pytest.raises(EngineMissingError, match='another release of cigocc, version 3 found, 2'):
        store.find(KEY, MANIFEST)


def test_other_tensors_are_refused(store):
    outputs = (replace(MANIFEST.outputs[0], name='voxels'), MANIFEST.outputs[1])
    store.save(replace(sidecar(), outputs=outputs), PLAN)
    with pytest.raises(EngineError, match='expected labels uint8.*found voxels uint8'):
        store.find(KEY, MANIFEST)


def test_an_engine_that_others_could_have_written_is_refused(store, monkeypatch):
    path = store.save(sidecar(), PLAN)
    path.chmod(0o666)
    with pytest.raises(EngineError, match='native code.*not writable by everybody'):
        store.load(KEY, MANIFEST)
    path.chmod(0o644)
    store.folder.chmod(0o777)
    with pytest.raises(EngineError, match='mode drwxrwxrwx found'):
        store.load(KEY, MANIFEST)
    store.folder.chmod(0o755)
    os.chown(path, 12345, -1) if os.geteuid() == 0 else monkeypatch.setattr(
        engine_store.os, 'geteuid', lambda: 12345
    )
    with pytest.raises(EngineError, match=r'owner \d+'):
        store.load(KEY, MANIFEST)


def test_a_full_disk_leaves_nothing_and_says_how_much_is_needed(store, monkeypatch):
    store.save(sidecar(), PLAN)

    def full(path, content):
        path.write_bytes(content[:3])
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(engine_store, '_write_through', full)
    with pytest.raises(EngineError, match='No space left.* MB are needed.*--engine-dir FOLDER'):
        store.save(sidecar(plan=b'another'), b'another')
    # the old engine has no description any more, so nothing half old, half new is ever loaded
    assert [p.name for p in store.folder.iterdir()] == [f'{KEY.name}.engine']
    with pytest.raises(EngineMissingError):
        store.find(KEY, MANIFEST)


def test_what_a_killed_builder_left_is_removed(store):
    store.folder.mkdir()
    left = store.folder / f'.{KEY.name}.engine.0123'
    left.write_bytes(PLAN[:5])
    store.save(sidecar(), PLAN)
    assert not left.exists() and store.load(KEY, MANIFEST) == PLAN


def test_a_crash_between_the_two_files_leaves_no_loadable_pair(store, monkeypatch):
    store.save(sidecar(), PLAN)
    monkeypatch.setattr(
        engine_store, 'write_atomically', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        store.save(sidecar(plan=b'new'), b'new')
    with pytest.raises(EngineMissingError):
        store.load(KEY, MANIFEST)
