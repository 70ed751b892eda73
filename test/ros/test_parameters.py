"""Declared parameters, the shipped YAML and the table of docs/interface.md come from one place."""

import argparse
import re
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import yaml

pytest.importorskip('rclpy')

from cigocc_ros.commands import build_engine
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.options import option
from cigocc_ros.ros import node as node_module
from cigocc_ros.ros.occ_parameters import OccParameters
from cigocc_ros.ros.parameters import (
    Live,
    declare,
    from_values,
    param_table,
    param_yaml,
    parameter,
    specs,
    unknown_parameters,
)
from cigocc_ros.ros.players import bag_player, kitti_player
from cigocc_ros.ros.players.player_parameters import BagPlayerParameters, PlayerParameters
from cigocc_ros.ros.process import wants_help
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions, build_options

REPOSITORY = Path(__file__).resolve().parents[2]
TITLE = 'Parameters of the node occ.'


def flat(tree: dict, prefix: str = '') -> dict:
    found = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found.update(flat(value, f'{prefix}{key}.'))
        else:
            found[prefix + key] = value
    return found


def test_the_shipped_file_is_the_generated_one():
    shipped = (REPOSITORY / 'config' / 'occ.param.yaml').read_text()
    assert shipped == param_yaml(OccParameters, TITLE), 'regenerate config/occ.param.yaml'


def test_the_file_holds_every_default():
    content = yaml.safe_load(param_yaml(OccParameters, TITLE))
    values = flat(content['/**']['ros__parameters'])
    expected = {
        spec.name: list(spec.default) if isinstance(spec.default, tuple) else spec.default
        for spec in specs(OccParameters)
    }
    assert values == expected
    assert [type(v) for v in values.values()] == [type(v) for v in expected.values()]


def test_the_table_has_a_row_per_parameter():
    rows = param_table(OccParameters).splitlines()[2:]
    named = [re.match(r'\| `([\w.]+)` \|', row).group(1) for row in rows]
    assert named == [spec.name for spec in specs(OccParameters)]


def test_descriptors_carry_description_range_and_read_only(graph):
    node = graph.start()
    for spec in specs(OccParameters):
        described = node.describe_parameter(spec.name)
        assert described.description == spec.description
        assert described.read_only == spec.read_only
        assert ('restart the node' in described.additional_constraints) == spec.read_only
        assert spec.allowed in described.additional_constraints
        assert bool(described.integer_range or described.floating_point_range) == bool(spec.limits)


def test_values_come_from_overrides(make_graph):
    node = make_graph().start(**{'prior.source': 'none', 'max_markers': 7})
    assert (node.parameters.prior_source, node.parameters.max_markers) == ('none', 7)


def test_bad_values_say_what_is_allowed(make_graph):
    with pytest.raises(ConfigError, match=r'backend: expected one of .*onnxruntime.*abacus'):
        make_graph().start(backend='abacus')
    for wrong in ([1.0, 2.0], ['a', 'b', 'c'], 'here', 7.0):
        with pytest.raises(ConfigError, match=r'extrinsics.translation: expected'):
            make_graph().start(**{'extrinsics.translation': wrong})
    with pytest.raises(ConfigError, match=r'prior.wait_s: expected 0.001 to 1.0, found 5'):
        make_graph().start(**{'prior.wait_s': 5})


def test_whole_numbers_are_taken_for_real_ones(make_graph):
    node = make_graph().start(**{'extrinsics.translation': [1, 2, 3], 'prior.wait_s': 1})
    assert node.parameters.extrinsics_translation == (1.0, 2.0, 3.0)
    assert type(node.parameters.prior_wait_s) is float


def test_running_changes_are_checked(graph):
    from rclpy.parameter import Parameter

    node = graph.start()
    results = node.set_parameters(
        [
            Parameter('max_markers', value=12),
            Parameter('max_markers', value=-1),
            Parameter('model', value='other'),
        ]
    )
    assert [result.successful for result in results] == [True, False, False]
    assert node.get_parameter('max_markers').value == 12


def test_declare_reads_any_dataclass(graph):
    @dataclass(frozen=True)
    class Own:
        rate: float = parameter(2.5, 'How fast', limits=(0.1, 10.0))
        names: tuple[str, str] = parameter(('a', 'b'), 'Two names', name='group.names')

    assert declare(graph.observer, Own) == Own(2.5, ('a', 'b'))
    assert 'names: [a, b]' in param_yaml(Own, 'x')


def test_a_group_of_options_is_parameters_named_after_it(graph):
    @dataclass(frozen=True)
    class Inner:
        most: int = option(3, 'At most', limits=(1, 9))

    @dataclass(frozen=True)
    class Own:
        first: str = parameter('a', 'The first')
        inner: Inner = Inner()

    (_, spec) = specs(Own)
    assert (spec.name, spec.attribute, spec.read_only) == ('inner.most', 'inner.most', True)
    assert declare(graph.observer, Own) == Own()
    assert from_values(Own, {'inner.most': 7, 'unknown': 1}) == Own('a', Inner(7))
    assert '    inner:\n      # At most (1 to 9)\n      most: 3\n' in param_yaml(Own, 'x')


def test_every_option_of_tensorrt_is_a_parameter_and_what_builds_an_argument():
    names = {field.name for field in fields(TensorRtOptions)}
    group = [spec.name for spec in specs(OccParameters) if spec.name.startswith('tensorrt.')]
    assert {name.partition('.')[2] for name in group} == names
    parser = argparse.ArgumentParser()
    build_engine.add_arguments(parser)
    known = {spec.name: spec for spec in specs(OccParameters)}
    for field in build_options():
        spec, argument = known[f'tensorrt.{field.name}'], f'--{field.name.replace("_", "-")}'
        action = parser._option_string_actions[argument]
        assert (action.default, action.dest) == (spec.default, field.name)
        assert spec.description[1:] in action.help


def test_names_without_effect_are_named_with_the_nearest(graph, caplog):
    with caplog.at_level('WARNING', 'cigocc_ros'):
        sentences = unknown_parameters(
            ['shown.max_rnage_m', 'nosuchparam', 'model', 'use_sim_time', 'qos_overrides./tf.x'],
            OccParameters,
        )
    assert sentences == [
        "no parameter is called 'nosuchparam': it has no effect",
        "no parameter is called 'shown.max_rnage_m': it has no effect; did you mean "
        "'shown.max_range_m'?",
    ]


def test_a_node_warns_of_them_once(graph, capfd):
    graph.start(max_marker=5, use_sim_time=False)
    said = capfd.readouterr().err
    assert said.count("no parameter is called 'max_marker'") == 1
    assert "did you mean 'max_markers'" in said and 'use_sim_time' not in said


@pytest.mark.parametrize('name', ['', ' ', 'velo_link ', '/velo_link'])
def test_what_tf_takes_for_no_frame_is_refused(graph, name):
    with pytest.raises(ConfigError, match='output_frame: .*frame'):
        graph.start(output_frame=name)


def test_live_values_are_made_anew_only_when_one_changes(graph):
    from rclpy.parameter import Parameter

    node = graph.start()
    live = Live(node, node.parameters)
    first = live()
    assert live() is first
    node.set_parameters([Parameter('max_markers', value=12)])
    changed = live()
    assert changed.max_markers == 12 and changed is not first and live() is changed
    refused = node.set_parameters([Parameter('shown.classes', value='lava')])
    assert not refused[0].successful and live() is changed


@pytest.mark.parametrize('flag', ['-h', '--help'])
@pytest.mark.parametrize(
    ('module', 'declared'),
    [
        (node_module, OccParameters),
        (kitti_player, PlayerParameters),
        (bag_player, BagPlayerParameters),
    ],
)
def test_help_starts_nothing(module, declared, flag, capsys, monkeypatch):
    monkeypatch.setattr(module, 'run_node', lambda *_: pytest.fail('a node'))
    assert module.main([module.NODE_NAME, flag]) == 0
    said = capsys.readouterr().out
    for spec in specs(declared):
        assert f'  {spec.name}  (' in said and spec.description[:40] in ' '.join(said.split())


def test_help_within_ros_arguments_is_ros_s(monkeypatch):
    assert not wants_help(['occ_node', '--ros-args', '-p', 'model:=-h'])


def test_ros_arguments_that_cannot_be_read_are_left_to_the_start(tmp_path):
    unequal = tmp_path / 'my.yaml'
    unequal.write_text('/**:\n  ros__parameters:\n    extrinsics: [0.27, 0]\n')
    for words in (['--frob'], ['-r', '__node:=bad-name'], ['--params-file', str(unequal)]):
        assert not wants_help(['occ_node', '--ros-args', *words])
