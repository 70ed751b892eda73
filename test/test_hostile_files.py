"""Files that promise more than they have are refused before memory is taken for them."""

import functools
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from fixtures_properties import bounded_memory
from fixtures_tiny_model import TINY_CONFIG, build_tiny_model_dir

from cigocc_ros.core.arrays import read_array, read_arrays
from cigocc_ros.core.errors import ConfigError, DataFileError, ManifestError
from cigocc_ros.core.manifest import (
    MANIFEST_FILE,
    file_spec,
    load_manifest,
)
from cigocc_ros.core.typed_yaml import to_mapping
from cigocc_ros.core.yaml_json import MAX_JSON_BYTES, MAX_YAML_BYTES, load_yaml
from cigocc_ros.data.kitti_layout import FrameKey
from cigocc_ros.evaluation import submission
from cigocc_ros.runtime.self_check import load_golden


@pytest.fixture
def model_dir(tmp_path):
    return build_tiny_model_dir(tmp_path / 'model')


def edit(model_dir: Path, **changes) -> None:
    path = model_dir / MANIFEST_FILE
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f'{name}.npy', content)
    return path


def header(shape: tuple[int, ...], dtype: str = '|u1') -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {'shape': shape, 'fortran_order': False, 'descr': dtype}
    )
    return stream.getvalue()


@pytest.mark.parametrize(
    'content',
    [
        header((10**13,)),  # promises ten terabytes, has none
        header((2**32, 2**32)),  # the product is 0 in 64 bits
        header((3,), '|O') + b'cposix\nsystem\n(S"true"\ntR.',
        header((4,)) + bytes(5),
        b'\x93NUMPY\x01\x00' + b'\xff\xff' + b'(' * 65535,
        b'',
    ],
)
def test_arrays_that_lie_are_refused(tmp_path, content):
    (tmp_path / 'a.npy').write_bytes(content)
    with bounded_memory():
        with pytest.raises(DataFileError):
            read_arrays(npz(tmp_path / 'a.npz', label=content))
        with pytest.raises(DataFileError):
            read_array(tmp_path / 'a.npy')


def test_an_array_file_of_another_kind_is_refused(tmp_path):
    np.save(tmp_path / 'a.npy', np.zeros(3))
    with pytest.raises(DataFileError, match=r'no \.npz'):
        read_arrays(tmp_path / 'a.npy')


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    size = 80_000_000
    path = npz(tmp_path / 'a.npz', label=header((size,)) + bytes(size))
    assert path.stat().st_size < 1_000_000
    with bounded_memory(), pytest.raises(DataFileError, match='at most'):
        read_arrays(path, at_most=70_000_000)


def test_golden_answers_must_have_the_shapes_of_the_manifest(model_dir):
    np.savez(model_dir / 'golden.npz', image=np.zeros(1))
    files = {name: vars(file_spec(model_dir, name)) for name in ('model.onnx', 'golden.npz')}
    edit(model_dir, files={'onnx': files['model.onnx'], 'golden': files['golden.npz']})
    manifest = load_manifest(model_dir)
    with pytest.raises(ManifestError, match='missing'):
        load_golden(model_dir, manifest)
    arrays = {spec.name: np.zeros(1) for spec in (*manifest.inputs, *manifest.outputs)}
    np.savez(model_dir / 'golden.npz', **arrays)
    files['golden'] = vars(file_spec(model_dir, 'golden.npz'))
    edit(model_dir, files={'onnx': files['model.onnx'], 'golden': files['golden']})
    with pytest.raises(ManifestError, match='expected .*image uint8'):
        load_golden(model_dir, load_manifest(model_dir))


def zipped(path: Path, name: str, size: int) -> Path:
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(size))
    return path


MEMBER = 'sequences/11/predictions/000000.label'


@pytest.mark.parametrize('spoil', ['bomb', 'promise', 'version', 'method', 'directory', 'name'])
def test_submissions_that_are_no_zip_are_refused(tmp_path, monkeypatch, spoil):
    monkeypatch.setattr(submission, 'MAX_VOLUME_BYTES', 1_000_000)
    path = zipped(tmp_path / 'a.zip', MEMBER, 80_000_000 if spoil == 'bomb' else 10)
    content = bytearray(path.read_bytes())
    central = content.index(b'PK\1\2')
    if spoil == 'promise':  # 2 GB in a file of 200 bytes
        content[central + 20 : central + 28] = 2 * (0x7FFFFFFF).to_bytes(4, 'little')
        content[central + 10] = 0
    elif spoil == 'version':
        content[central + 6] = 137
    elif spoil == 'method':
        content[central + 10] = 99
    elif spoil == 'directory':
        content[central] = 0
    elif spoil == 'name':
        content[central + 46] = 0
    path.write_bytes(content)
    with bounded_memory(), pytest.raises(DataFileError):
        submission.validate_submission(path, (FrameKey('11', '000000'),))


@pytest.mark.parametrize('read', [load_yaml, load_manifest])
def test_large_configs_are_not_read(tmp_path, read):
    path = tmp_path / MANIFEST_FILE
    path.write_text('a: ' + MAX_YAML_BYTES * 'x')
    with bounded_memory(), pytest.raises((ConfigError, ManifestError), match='at most'):
        read(path if read is load_yaml else tmp_path)


def test_a_large_or_deep_checkpoint_config_is_refused(tmp_path):
    build = pytest.importorskip('cigocc_ros.model.build')
    (tmp_path / 'model.safetensors').write_bytes(b'')
    for content in ('[' * 100_000, '"' + 'x' * MAX_JSON_BYTES + '"'):
        (tmp_path / build.CONFIG_FILE).write_text(content)
        with pytest.raises(DataFileError):
            build.load_checkpoint(tmp_path)


def test_a_pickle_in_the_place_of_weights_is_not_run(tmp_path):
    """A pickle that would create a file; neither reader of weights runs it."""
    build = pytest.importorskip('cigocc_ros.model.build')
    from cigocc_ros.model.backbone import _read_efficientnet, _read_resnet

    mark = tmp_path / 'run'
    pickled = b'cbuiltins\nopen\n(S"' + os.fsencode(mark) + b'"\nS"w"\ntR.'
    (tmp_path / build.CONFIG_FILE).write_text(json.dumps(to_mapping(TINY_CONFIG)))
    (tmp_path / 'model.safetensors').write_bytes(pickled)
    with pytest.raises(DataFileError):
        build.load_checkpoint(tmp_path)
    (tmp_path / 'weights.pth').write_bytes(pickled)
    for read in (_read_efficientnet, functools.partial(_read_resnet, stages=3)):
        for name in ('weights.pth', 'model.safetensors'):
            with pytest.raises(DataFileError, match='not a file of tensors'):
                read(tmp_path / name)
    assert not mark.exists()
