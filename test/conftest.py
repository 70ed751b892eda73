"""Fixtures that every layer shares."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def shared_dir() -> Path:
    """Return the folder with real KITTI data and golden numbers; skip where it is absent."""
    named = os.environ.get('CIGOCC_SHARED')
    folder = Path(named) if named else REPOSITORY.parent / 'shared'
    if not folder.is_dir():
        pytest.skip(f'no folder {folder}: set CIGOCC_SHARED to the folder with the real data')
    return folder


@pytest.fixture(scope='session')
def repository() -> Path:
    """Return the root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope='session')
def compiled_driver(tmp_path_factory) -> Path:
    """Return the fake CUDA driver; skip where there is no C compiler."""
    from fixtures_gpu import compiled_driver

    return compiled_driver(tmp_path_factory.mktemp('driver'))


@pytest.fixture
def fake_driver(compiled_driver, tmp_path_factory) -> Iterator[Any]:
    """Put a fake CUDA driver in place, for children too; it must have been used rightly."""
    from fixtures_gpu import install_driver

    with pytest.MonkeyPatch.context() as patch:
        driver = install_driver(patch, compiled_driver, tmp_path_factory.mktemp('cuda'))
        yield driver
        driver.unblock()
    assert not driver.violations


@pytest.fixture
def fake_gpu(fake_driver) -> Iterator[Any]:
    """Put a fake TensorRT in place, too; return library and driver as .trt and .cuda."""
    from fixtures_gpu import both, forget_fakes, install_tensorrt

    with pytest.MonkeyPatch.context() as patch:
        yield both(install_tensorrt(patch), fake_driver)
    forget_fakes()


@pytest.fixture(scope='session')
def tiny_checkpoint(repository, tmp_path_factory):
    import torch
    from fixtures_export import lively

    from cigocc_ros.core.config import load_model_config
    from cigocc_ros.model.build import build_model, save_checkpoint

    torch.manual_seed(2)
    model = lively(build_model(load_model_config(repository / 'config' / 'model' / 'tiny.yaml')))
    run = tmp_path_factory.mktemp('run')
    record = {
        'model': '{}',
        'train': '{"seed": 2}',
        'data': '["streets:0.5", "real@00:0.5"]',
        'val': 'null',
        'stage': '"2"',
        'step': '10',
        'scores': '{"stereo": {"iou": 0.4, "miou": 0.2}}',
        'commit': '"1234abc"',
    }
    save_checkpoint(model, run / 'best', record)
    (run / 'run.json').write_text('{"data": "of another run"}')
    return run / 'best', model


@pytest.fixture(scope='session')
def tiny_folder(tiny_checkpoint, tmp_path_factory):
    from fixtures_export import main

    out = tmp_path_factory.mktemp('models') / 'tiny'
    arguments = ['export', '--checkpoint', str(tiny_checkpoint[0]), '--out', str(out)]
    assert main([*arguments, '--gate-inputs', '2']) == 0
    return out
