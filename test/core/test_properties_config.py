"""Properties of YAML, JSON, configs and manifests: an object that round-trips, or an error."""

import dataclasses
import json

import pytest
import yaml
from fixtures_properties import PLAIN, SCALARS, bounded_memory, examples, result_or_error
from fixtures_tiny_model import TINY_CONFIG
from hypothesis import given
from hypothesis import strategies as st

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import ConfigError, ManifestError
from cigocc_ros.core.grid import MAX_VOXELS, VoxelGrid
from cigocc_ros.core.labels import CLASS_NAMES
from cigocc_ros.core.manifest import (
    MANIFEST_FILE,
    ModelManifest,
    file_spec,
    load_manifest,
    verify_files,
    write_manifest,
)
from cigocc_ros.core.typed_yaml import from_mapping, to_mapping
from cigocc_ros.core.yaml_json import load_yaml, parse_json, parse_yaml
from cigocc_ros.data.camera_file import read_camera
from cigocc_ros.runtime.contract import check_manifest, manifest_for

CONFIG = to_mapping(TINY_CONFIG)
YAML_TEXT = st.text(alphabet='ab:-[]{}&*!|>?,#\'"%@`~01.\n \t', max_size=60)


def changed(base, keys, values):
    """Return mappings like `base` with some values exchanged, added or left out."""
    return st.builds(
        lambda changes, left_out: {
            key: value for key, value in {**base, **changes}.items() if key not in left_out
        },
        st.dictionaries(st.sampled_from(sorted(keys)) | st.text(max_size=3), values, max_size=3),
        st.sets(st.sampled_from(sorted(keys)), max_size=1),
    )


@examples(100)
@given(content=PLAIN)
def test_plain_values_survive_yaml_and_json(content):
    text = yaml.safe_dump({'a': content})
    found = result_or_error(lambda: parse_yaml(text, 'file'))
    try:
        expected = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # e.g. control characters, numbers of 400 digits
        expected = None
    assert repr(found) == repr(expected)
    found = result_or_error(lambda: parse_json(json.dumps({'a': content}), 'file'))
    assert repr(found) == repr({'a': content})


@examples(100)
@given(text=YAML_TEXT | st.text(max_size=60) | st.binary(max_size=60))
def test_any_text_is_a_mapping_or_refused(tmp_path, text):
    path = tmp_path / 'a.yaml'
    path.write_bytes(text if isinstance(text, bytes) else text.encode(errors='replace'))
    found = result_or_error(lambda: load_yaml(path))
    assert found is None or isinstance(found, dict)
    found = result_or_error(lambda: parse_json(text, 'file'))
    assert found is None or isinstance(found, dict)


def layered(levels: int) -> str:
    """Return aliases that stand for 9 ** levels strings."""
    lines = ['a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]']
    lines += [f'a{i}: &a{i} [{", ".join(9 * [f"*a{i - 1}"])}]' for i in range(1, levels)]
    return '\n'.join(lines)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (layered(9), 'aliases'),
        ('a: &x {b: 1}\nc: {<<: *x}', 'aliases'),
        ('[' * 5000, 'levels of nesting'),
        ('a: ' + '{b: ' * 30, 'levels of nesting'),
        ('- ' * 5000 + 'a', 'levels of nesting'),
        ('a: 1\na: 2', 'twice'),
        ('a: 2001-99-99', 'not valid YAML'),
        ('a: 0b_', 'not valid YAML'),
        ('a: ' + '9' * 5000, 'not valid YAML'),
        ('? [a]\n: 1', 'not valid YAML'),
        ('!!python/object/apply:os.system [echo]', 'not valid YAML'),
    ],
)
def test_yaml_that_breaks_naive_readers_is_refused(tmp_path, text, message):
    path = tmp_path / 'a.yaml'
    path.write_text(text)
    with bounded_memory(), pytest.raises(ConfigError, match=message):
        load_yaml(path)


@pytest.mark.parametrize('text', ['[' * 100_000, '{"a": ' * 50_000, '9' * 5000, '[]', '\x00', ''])
def test_json_that_breaks_naive_readers_is_refused(text):
    with bounded_memory(), pytest.raises(ConfigError):
        parse_json(text, 'file')


@examples(100)
@given(mapping=changed(CONFIG, CONFIG, PLAIN | st.lists(SCALARS, max_size=3)))
def test_any_model_config_is_sound_or_refused(mapping):
    config = result_or_error(lambda: from_mapping(ModelConfig, mapping, 'file'))
    if config is not None:
        assert config.output_grid.num_voxels <= MAX_VOXELS
        assert config.query_grid.extent_m == pytest.approx(config.output_grid.extent_m)
        assert from_mapping(ModelConfig, to_mapping(config), 'again') == config


@pytest.mark.parametrize(
    'change',
    [
        {'num_heads': 0},
        {'channels': 10**9},
        {'image_size': [16 * 10**6, 32 * 10**6]},
        {'image_size': [-16, -32]},
        {'output_shape': [10**6] * 3, 'query_shape': [10**6 // 2] * 3},
        {'query_shape': [-16, -16, 4], 'output_shape': [-32, -32, 8]},
        {'unet_widths': []},
        {'unet_widths': [10**12, 1]},
        {'cross_layers': 10**9},
        {'dropout': float('nan')},
        {'proposal_threshold': 10**400},
        {'backbone': {**CONFIG['backbone'], 'depths': [10**9, 1, 1]}},
    ],
)
def test_sizes_beyond_reason_are_refused(change):
    with bounded_memory(), pytest.raises(ConfigError):
        from_mapping(ModelConfig, {**CONFIG, **change}, 'file')


@examples(100)
@given(values=st.tuples(*[st.lists(SCALARS, min_size=2, max_size=4) | SCALARS] * 3))
def test_any_grid_is_sound_or_refused(values):
    mapping = dict(zip(('origin_m', 'voxel_size_m', 'shape'), values, strict=True))
    grid = result_or_error(lambda: VoxelGrid.from_dict(mapping))
    if grid is not None:
        assert 0 < grid.num_voxels <= MAX_VOXELS
        assert VoxelGrid.from_dict(grid.to_dict()) == grid


@pytest.mark.parametrize('mapping', [{1: 2, 'a': 3}, {None: 1}, [], 7, None])
def test_what_is_no_grid_is_refused(mapping):
    with pytest.raises(ConfigError, match='exactly the keys'):
        VoxelGrid.from_dict(mapping)


@pytest.fixture(scope='module')
def model_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp('model')
    (folder / 'model.onnx').write_bytes(b'weights')
    files = {'onnx': file_spec(folder, 'model.onnx')}
    manifest = manifest_for(TINY_CONFIG, 'm', license='Apache-2.0', files=files, training={})
    write_manifest(folder, manifest)
    return folder, manifest


NAMES = [field.name for field in dataclasses.fields(ModelManifest)]
FILES = st.dictionaries(
    st.sampled_from(['onnx', 'golden']),
    st.fixed_dictionaries(
        {
            'path': st.sampled_from(
                ['model.onnx', '../x', '/etc/passwd', '.', 'a\0b', 'a/../../b']
            )
            | st.text(max_size=5),
            'sha256': st.text(max_size=4),
            'size_bytes': st.sampled_from([0, 7, -1, 10**30]),
        }
    )
    | PLAIN,
    max_size=2,
)
TENSORS = st.lists(
    st.fixed_dictionaries(
        {
            'name': st.sampled_from(['image', 'labels', 'x']),
            'dtype': st.sampled_from(['uint8', 'float32', 'object']),
            'shape': st.lists(st.sampled_from([0, 1, -1, 48, 10**12]), max_size=5),
        }
    ),
    max_size=3,
)


@examples(40)
@given(data=st.data())
def test_any_manifest_is_checked_or_refused(model_dir, tmp_path, data):
    folder, manifest = model_dir
    values = PLAIN | FILES | TENSORS
    mapping = data.draw(changed(to_mapping(manifest), NAMES, values))
    (tmp_path / 'model.onnx').write_bytes(b'weights')
    (tmp_path / MANIFEST_FILE).write_text(yaml.safe_dump(mapping))

    def load():
        found = load_manifest(tmp_path)
        check_manifest(found)
        for path in verify_files(tmp_path, found).values():
            assert path.resolve().is_relative_to(tmp_path.resolve())
        return found

    found = result_or_error(load)
    if found is not None:
        assert found.classes == CLASS_NAMES and found.image_size == manifest.image_size
        write_manifest(tmp_path, found)
        assert repr(load_manifest(tmp_path)) == repr(found)


@pytest.mark.parametrize(
    ('shape', 'message'),
    [([1], r'\(1, H, W, 3\)'), ([], r'\(1, H, W, 3\)'), ([1, 10**12, 10**12, 3], 'at most')],
)
def test_an_image_of_no_sense_in_the_manifest_is_refused(model_dir, tmp_path, shape, message):
    mapping = to_mapping(model_dir[1])
    mapping['inputs'][0]['shape'] = shape
    (tmp_path / MANIFEST_FILE).write_text(yaml.safe_dump(mapping))
    with pytest.raises(ManifestError, match=message):
        check_manifest(load_manifest(tmp_path))


CAMERA = {
    'fx': 700.0,
    'fy': 700,
    'cx': 320.0,
    'cy': 90.0,
    'baseline_m': 0.5,
    'cam_from_velo': [[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]],
}


@examples(100)
@given(
    mapping=changed(CAMERA, CAMERA, PLAIN | st.lists(st.lists(SCALARS, max_size=4), max_size=5))
)
def test_any_camera_file_is_sound_or_refused(tmp_path, mapping):
    path = tmp_path / 'camera.yaml'
    path.write_text(yaml.safe_dump(mapping))
    mounted = result_or_error(lambda: read_camera(path, 640, 192))
    assert mounted is None or mounted.cam_from_velo.shape == (4, 4)
