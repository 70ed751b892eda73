import pytest
import yaml
from fixtures_calibration import calibration

from cigocc_ros.core.errors import ManifestError
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import CLASS_NAMES
from cigocc_ros.core.manifest import (
    MANIFEST_FILE,
    MIXED_ROLE,
    ModelManifest,
    TensorSpec,
    file_spec,
    load_manifest,
    verified_file,
    verify_files,
    write_manifest,
)
from cigocc_ros.core.typed_yaml import to_mapping

GRID = VoxelGrid((0, 0, 0), (1, 1, 1), (2, 2, 2))


@pytest.fixture
def model_dir(tmp_path):
    (tmp_path / 'model.onnx').write_bytes(b'weights' * 100)
    manifest = ModelManifest(
        manifest_version=1,
        model_id='test-0',
        config='tiny',
        license='Apache-2.0',
        files={'onnx': file_spec(tmp_path, 'model.onnx')},
        inputs=(TensorSpec('image', 'uint8', (1, 48, 160, 3)),),
        outputs=(TensorSpec('labels', 'uint8', (1, 2, 2, 2)),),
        grid=GRID.to_dict(),
    )
    write_manifest(tmp_path, manifest)
    return tmp_path


def edit(model_dir, **changes):
    path = model_dir / MANIFEST_FILE
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def test_round_trip_and_verification(model_dir):
    manifest = load_manifest(model_dir)
    assert manifest.voxel_grid == GRID
    assert manifest.image_size == (48, 160)
    assert manifest.classes == CLASS_NAMES
    assert verify_files(model_dir, manifest) == {'onnx': model_dir / 'model.onnx'}
    assert str(manifest.inputs[0]) == 'image uint8 (1, 48, 160, 3)'


def test_precision_is_optional_as_in_older_models_and_checked_where_stated(model_dir):
    assert load_manifest(model_dir).file('onnx').precision is None
    (spec,) = yaml.safe_load((model_dir / MANIFEST_FILE).read_text())['files'].values()
    del spec['precision']
    edit(model_dir, files={'onnx': spec, MIXED_ROLE: {**spec, 'precision': 'mixed_fp16'}})
    manifest = load_manifest(model_dir)
    assert manifest.file('onnx').precision is None
    assert manifest.file(MIXED_ROLE).precision == 'mixed_fp16'
    edit(model_dir, files={'onnx': {**spec, 'precision': 'fp8'}})
    with pytest.raises(ManifestError, match=r"precision: expected one of .* found 'fp8'"):
        load_manifest(model_dir)


def test_a_calibration_is_optional_as_in_older_models_and_checked_where_there_is_one(model_dir):
    assert load_manifest(model_dir).calibration is None
    old = yaml.safe_load((model_dir / MANIFEST_FILE).read_text())
    del old['calibration']
    (model_dir / MANIFEST_FILE).write_text(yaml.safe_dump(old))
    assert load_manifest(model_dir).calibration is None
    made = calibration()
    edit(model_dir, calibration=to_mapping(made))
    assert load_manifest(model_dir).calibration == made
    edit(model_dir, calibration={**to_mapping(made), 'threshold': 1.5})
    with pytest.raises(ManifestError, match='threshold between 0 and 1, found 1.5'):
        load_manifest(model_dir)
    edit(model_dir, calibration={'scale': 1.0})
    with pytest.raises(ManifestError, match="calibration: missing key 'shift'"):
        load_manifest(model_dir)


def test_folder_without_manifest(tmp_path):
    with pytest.raises(ManifestError, match=r'no manifest.yaml there.*cigocc export'):
        load_manifest(tmp_path)


def test_changed_short_and_missing_files_are_refused(model_dir):
    manifest = load_manifest(model_dir)
    onnx = model_dir / 'model.onnx'
    content = onnx.read_bytes()
    onnx.write_bytes(b'X' + content[1:])
    with pytest.raises(ManifestError, match='sha256 .* expected'):
        verified_file(model_dir, manifest, 'onnx')
    onnx.write_bytes(content[:-1])
    with pytest.raises(ManifestError, match='699 bytes found, 700 expected'):
        verified_file(model_dir, manifest, 'onnx')
    onnx.unlink()
    with pytest.raises(ManifestError, match='missing'):
        verified_file(model_dir, manifest, 'onnx')
    with pytest.raises(ManifestError, match="no 'engine' file"):
        verified_file(model_dir, manifest, 'engine')


@pytest.mark.parametrize('path', ['../secret', '/etc/passwd', 'a/../../b', ''])
def test_paths_cannot_leave_the_folder(model_dir, path):
    edit(model_dir, files={'onnx': {'path': path, 'sha256': '0', 'size_bytes': 1}})
    with pytest.raises(ManifestError, match='relative path inside'):
        load_manifest(model_dir)


def test_symbolic_links_cannot_leave_the_folder(model_dir, tmp_path_factory):
    outside = tmp_path_factory.mktemp('outside') / 'model.onnx'
    (model_dir / 'model.onnx').rename(outside)
    (model_dir / 'model.onnx').symlink_to(outside)
    with pytest.raises(ManifestError, match='leads out'):
        verified_file(model_dir, load_manifest(model_dir), 'onnx')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'manifest_version': 2}, 'reads 1'),
        ({'classes': ['road']}, 'classes must be'),
        ({'colour': 1}, "unknown key 'colour'"),
        ({'grid': {'shape': [1, 1, 1]}}, 'exactly the keys'),
        ({'inputs': [{'name': 'image'}]}, "missing key 'dtype'"),
    ],
)
def test_contract_violations_are_named(model_dir, changes, message):
    edit(model_dir, **changes)
    with pytest.raises(ManifestError, match=message):
        load_manifest(model_dir)
