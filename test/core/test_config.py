from dataclasses import dataclass
from typing import Literal

import pytest
import yaml

from cigocc_ros.core.config import ModelConfig, load_model_config
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.typed_yaml import from_mapping, load_yaml, to_mapping


@dataclass(frozen=True)
class Inner:
    size: tuple[int, int]


@dataclass(frozen=True)
class Outer:
    inner: Inner
    rate: float = 1.0
    mode: Literal['a', 'b'] = 'a'
    note: str | None = None
    widths: tuple[int, ...] = ()


GOOD = {'inner': {'size': [1, 2]}, 'rate': 2, 'mode': 'b', 'widths': [1, 2, 3]}


def test_mapping_round_trip():
    config = from_mapping(Outer, GOOD, 'here')
    assert config == Outer(Inner((1, 2)), 2.0, 'b', None, (1, 2, 3))
    assert from_mapping(Outer, to_mapping(config), 'again') == config


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'ratee': 1}, "unknown key 'ratee'; known keys"),
        ({'mode': 'c'}, r"mode: expected one of \['a', 'b'\], found 'c'"),
        ({'rate': 'fast'}, "rate: expected float, found 'fast'"),
        ({'inner': {'size': [1]}}, 'inner: size: expected 2 values, found 1'),
        ({'inner': {'size': [1, True]}}, 'expected int, found True'),
        ({'inner': {}}, "inner: missing key 'size'"),
        ({'inner': 3}, 'expected a mapping, found int'),
    ],
)
def test_what_is_wrong_is_named(change, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(Outer, {**GOOD, **change}, 'here')


def test_yaml_files_are_checked(tmp_path):
    path = tmp_path / 'x.yaml'
    for text, message in [('a: [', 'not valid YAML'), ('- 1', 'expected a mapping')]:
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_yaml(path)
    with pytest.raises(ConfigError, match='cannot be read'):
        load_yaml(tmp_path / 'absent.yaml')
    path.write_text('a: !!python/object/apply:os.system ["true"]')
    with pytest.raises(ConfigError, match='not valid YAML'):
        load_yaml(path)


@pytest.mark.parametrize('name', ['tiny', 'small', 'mid', 'mid_light', 'full'])
def test_shipped_model_configs_share_the_metric_extent(name):
    config = load_model_config(name)
    assert config.name == name
    assert config.output_grid.extent_m == pytest.approx((51.2, 51.2, 6.4))
    assert config.query_grid.extent_m == pytest.approx((51.2, 51.2, 6.4))


def test_model_config_refusals(tmp_path):
    good = to_mapping(load_model_config('tiny'))
    path = tmp_path / 'mine.yaml'
    for change, message in [
        ({'query_shape': [16, 16, 8]}, 'must be twice query_shape'),
        ({'channels': 15}, 'divisible by num_heads'),
        ({'image_size': [50, 160]}, 'multiples'),
        ({'max_proposals': 0}, 'max_proposals'),
        ({'lifting': 'splat'}, 'expected one of'),
    ]:
        path.write_text(yaml.safe_dump({**good, **change}))
        with pytest.raises(ConfigError, match=message):
            load_model_config(path)
    with pytest.raises(ConfigError, match="no model config 'huge'; known: .*'tiny'"):
        load_model_config('huge')
    assert isinstance(from_mapping(ModelConfig, good, 'x'), ModelConfig)


@pytest.mark.parametrize(
    ('text', 'number'), [('1e-4', 1e-4), ('-2E3', -2e3), ('1.5e3', 1.5e3), ('.5e-1', 0.05)]
)
def test_floats_may_be_written_as_yaml_1_2_does(text, number):
    config = to_mapping(load_model_config('tiny'))
    with pytest.raises(ConfigError, match='expected float'):
        from_mapping(ModelConfig, config | {'dropout': f'{text}x'}, 'x')
    if not 0 <= number < 1:
        with pytest.raises(ConfigError, match='dropout in'):
            from_mapping(ModelConfig, config | yaml.safe_load(f'dropout: {text}'), 'x')
        return
    given = from_mapping(ModelConfig, config | yaml.safe_load(f'dropout: {text}'), 'x')
    assert given.dropout == number
