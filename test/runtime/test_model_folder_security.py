"""Nothing is loaded that its hash does not cover, nor from outside the model folder."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import yaml
from fixtures_properties import bounded_memory
from fixtures_tiny_model import build_tiny_model_dir

from cigocc_ros.core.errors import EngineError, ManifestError
from cigocc_ros.core.manifest import (
    MANIFEST_FILE,
    file_spec,
    load_manifest,
    verified_content,
    verify_files,
)
from cigocc_ros.core.onnx_file import require_self_contained
from cigocc_ros.runtime.engine import create_engine


@pytest.fixture
def model_dir(tmp_path):
    return build_tiny_model_dir(tmp_path / 'model')


def edit(model_dir: Path, **changes) -> None:
    path = model_dir / MANIFEST_FILE
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def backends() -> list:
    names = {'onnxruntime': 'onnxruntime', 'openvino': 'openvino'}
    return [
        pytest.param(name, marks=pytest.mark.skipif(not _has(module), reason=f'no {module}'))
        for name, module in names.items()
    ]


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


@pytest.mark.parametrize('backend', backends())
def test_a_changed_model_is_not_loaded(model_dir, backend):
    onnx = model_dir / 'model.onnx'
    content = bytearray(onnx.read_bytes())
    content[-1] ^= 1
    onnx.write_bytes(content)
    with pytest.raises(ManifestError, match='sha256 .* expected'):
        create_engine(backend, model_dir, load_manifest(model_dir))


@pytest.mark.parametrize('backend', backends())
def test_what_is_loaded_is_what_was_checked(model_dir, backend, monkeypatch):
    """ONNX Runtime gets bytes: a file exchanged after the check changes nothing."""
    if backend == 'openvino':
        pytest.skip('openvino is given the path: from bytes it drops inputs that are not used')
    import onnxruntime

    given = []

    def session(source, *args, **options):
        given.append(source)
        raise RuntimeError('enough')

    monkeypatch.setattr(onnxruntime, 'InferenceSession', session)
    with pytest.raises(EngineError):
        create_engine(backend, model_dir, load_manifest(model_dir))
    assert given == [(model_dir / 'model.onnx').read_bytes()]


def external_onnx(model_dir: Path, where: str) -> bytes:
    """Return the model with one of its tensors in another file."""
    onnx = pytest.importorskip('onnx')
    model = onnx.load(model_dir / 'model.onnx')
    tensor = onnx.helper.make_tensor('elsewhere', onnx.TensorProto.FLOAT, [1], [1.0])
    tensor.ClearField('float_data')
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key='location', value='../../etc/passwd')
    constant = onnx.helper.make_node('Constant', [], ['c'])
    constant.attribute.append(onnx.AttributeProto(name='value', type=4, t=tensor))
    if where == 'initializer':
        model.graph.initializer.append(tensor)
    elif where == 'attribute':
        model.graph.node.append(constant)
    elif where == 'subgraph':
        graph = onnx.helper.make_graph([constant], 'inner', [], [])
        model.graph.node.append(onnx.helper.make_node('If', ['x'], ['y'], then_branch=graph))
    elif where == 'function':
        made = onnx.helper.make_function('d', 'f', [], ['c'], [constant], [])
        model.functions.append(made)
    elif where == 'sparse':
        model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=tensor))
    return model.SerializeToString()


@pytest.mark.parametrize('where', ['initializer', 'attribute', 'subgraph', 'function', 'sparse'])
def test_a_model_with_tensors_in_other_files_is_refused(model_dir, where):
    (model_dir / 'model.onnx').write_bytes(external_onnx(model_dir, where))
    edit(model_dir, files={'onnx': vars(file_spec(model_dir, 'model.onnx'))})
    with pytest.raises(ManifestError, match='another file, which no hash covers'):
        verified_content(model_dir, load_manifest(model_dir), 'onnx')


@pytest.mark.parametrize(
    'content',
    [b'\x3a', b'\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f', 12 * b'\x80', b'\x0b', b'\x3a\x7f'],
)
def test_damaged_onnx_is_refused(content):
    with bounded_memory(), pytest.raises(ManifestError, match='no ONNX file'):
        require_self_contained(content, 'model.onnx')


def test_onnx_that_nests_without_end_is_refused():
    content = b''
    for _ in range(200):  # an attribute of a node of a graph that is an attribute of ...
        for tag in (0x32, 0x2A, 0x0A):
            content = bytes([tag]) + _varint(len(content)) + content
    content = b'\x3a' + _varint(len(content)) + content
    with pytest.raises(ManifestError, match='no ONNX file|levels'):
        require_self_contained(content, 'model.onnx')


def _varint(value: int) -> bytes:
    out = b''
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


@pytest.mark.parametrize('path', ['/etc/passwd', '../x', 'a/../../x', '', '.', 'a\\..\\x', '..'])
def test_paths_of_a_manifest_stay_in_the_folder(model_dir, path):
    (model_dir.parent / 'x').write_bytes(b'secret')
    edit(model_dir, files={'onnx': {'path': path, 'sha256': '0' * 64, 'size_bytes': 6}})
    with pytest.raises(ManifestError):
        verify_files(model_dir, load_manifest(model_dir))


@pytest.mark.parametrize('kind', ['file', 'folder'])
def test_links_out_of_the_folder_are_refused(model_dir, kind):
    outside = model_dir.parent / 'outside'
    outside.mkdir()
    shutil.move(model_dir / 'model.onnx', outside / 'model.onnx')
    if kind == 'file':
        (model_dir / 'model.onnx').symlink_to(outside / 'model.onnx')
        name = 'model.onnx'
    else:
        (model_dir / 'sub').symlink_to(outside)
        name = 'sub/model.onnx'
    edit(model_dir, files={'onnx': vars(file_spec(model_dir, name))})
    with pytest.raises(ManifestError, match='leads out of the model folder'):
        verify_files(model_dir, load_manifest(model_dir))


def test_a_link_to_the_folder_itself_is_fine(model_dir):
    """Installations with colcon --symlink-install are made of links."""
    linked = model_dir.parent / 'linked'
    linked.symlink_to(model_dir)
    assert verify_files(linked, load_manifest(linked))


def test_a_device_in_the_place_of_the_model_is_refused(model_dir):
    (model_dir / 'model.onnx').unlink()
    (model_dir / 'model.onnx').symlink_to('/dev/zero')
    with bounded_memory(), pytest.raises(ManifestError):
        create_engine('onnxruntime', model_dir, load_manifest(model_dir))
