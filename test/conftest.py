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


@pytest.fixture
def fake_gpu() -> Iterator[Any]:
    """Put a fake TensorRT and CUDA in place, for children too; return them as .trt and .cuda."""
    from fixtures_gpu import forget_fakes, install_fakes

    with pytest.MonkeyPatch.context() as patch:
        yield install_fakes(patch)
    forget_fakes()
