"""The launch files: what they declare, what they refer to, what they start."""

import ast
import importlib.util
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from launch_standin import ProcessExited, evaluate, load

pytest.importorskip('rclpy')

from fixtures_processes import REPOSITORY, process, ros_environment, wait_for_line
from fixtures_ros import EXTRINSICS
from fixtures_tiny_model import build_tiny_model_dir

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.data.recording import TOPICS
from cigocc_ros.ros.occ_parameters import OccParameters
from cigocc_ros.ros.parameters import specs
from cigocc_ros.ros.players.kitti_player import open_sequence
from cigocc_ros.ros.players.player_parameters import PlayerParameters

OCC = REPOSITORY / 'launch' / 'occ.launch.py'
REPLAY = REPOSITORY / 'launch' / 'kitti_replay.launch.py'
ALLOWED = {
    'DeclareLaunchArgument',
    'ExecuteProcess',
    'FindPackagePrefix',
    'FindPackageShare',
    'IfCondition',
    'IncludeLaunchDescription',
    'LaunchConfiguration',
    'LaunchDescription',
    'Node',
    'OpaqueFunction',
    'ParameterValue',
    'PathJoinSubstitution',
    'PythonLaunchDescriptionSource',
    'SetEnvironmentVariable',
    'Shutdown',
    'launch_config',
}
GIVEN = {OCC: {}, REPLAY: {'sequence': '/data/sequences/00'}}
ARGUMENTS = {
    OCC: 'image camera_info right_image right_camera_info depth semantic_prior semantic_classes '
    'image_transport '
    'image_reliability model backend device threads output_frame extrinsics_file params_file '
    'save_dir namespace use_sim_time respawn log_level rviz dds_profile',
    REPLAY: 'sequence bag semantic_images rate loop ground_truth_shift_m image camera_info '
    'right_image right_camera_info depth semantic_prior use_sim_time semantic_classes '
    'image_transport image_reliability model backend device '
    'threads output_frame extrinsics_file params_file save_dir namespace respawn log_level rviz '
    'dds_profile',
}
both = pytest.mark.parametrize('path', [OCC, REPLAY], ids=['occ', 'kitti_replay'])


def follows(words, flag):
    given = [words[at + 1] for at, word in enumerate(words) if word == flag]
    return dict(pair.split(':=', 1) for pair in given)


def given_parameters(words):
    return follows(words, '-p')


def remapped(words):
    return follows(words, '-r')


@both
def test_only_agreed_classes_are_used(path):
    text = path.read_text()
    tree = ast.parse(text)
    found = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and 'launch' in n.module]
    assert {name.name for node in found for name in node.names} <= ALLOWED
    assert len(text.splitlines()) <= 240


@both
def test_arguments_are_declared_with_descriptions(path, prefix):
    declared = evaluate(path, prefix, GIVEN[path]).declared
    assert list(declared) == ARGUMENTS[path].split()
    assert all(argument.description for argument in declared.values())


@both
def test_defaults_and_choices_are_those_of_the_node(path, prefix):
    node = {spec.name: spec for spec in specs(OccParameters)}
    for name, argument in evaluate(path, prefix, GIVEN[path]).declared.items():
        if name in node:
            assert argument.default == str(node[name].default)
            assert (argument.choices or []) == list(node[name].choices)
    assert {'model', 'backend', 'threads', 'save_dir', 'output_frame'} <= set(node)


@both
def test_a_value_outside_the_choices_is_refused(path, prefix):
    with pytest.raises(RuntimeError, match='backend:=abacus'):
        evaluate(path, prefix, GIVEN[path] | {'backend': 'abacus'})


def test_replay_without_sequence_and_bag_is_refused_by_the_player(prefix):
    commands = evaluate(REPLAY, prefix, {}).commands
    assert given_parameters(commands['kitti_player'])['sequence'] == "''"
    with pytest.raises(ConfigError, match='parameter sequence is not set'):
        open_sequence('')


@both
def test_files_and_executables_exist(path, prefix):
    context = evaluate(path, prefix, GIVEN[path])
    named = [word for words in context.commands.values() for word in words]
    named += list(context.environment.values())
    inside = {word for word in named if word.startswith(str(prefix))}
    assert sum(word.endswith('log/occ.rviz') for word in inside) == 1
    for others in ('rviz2/rviz2', 'tf2_ros/static_transform_publisher'):
        inside.discard(str(prefix / 'lib' / others))
    assert len(inside) >= 4
    missing = {word for word in inside if not os.path.isfile(word)}
    assert not missing
    assert os.access(prefix / 'lib' / 'cigocc_ros' / 'occ_node', os.X_OK)


@both
def test_the_dds_profile_is_set_for_both_generations_of_fast_dds(path, prefix):
    environment = evaluate(path, prefix, GIVEN[path]).environment
    assert set(environment) == {'FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'}


def test_occ_wires_topics_and_parameters(prefix):
    mine = prefix / 'my.yaml'
    mine.touch()
    context = evaluate(
        OCC,
        prefix,
        {
            'image': '/cam/image_rect',
            'camera_info': '/cam/camera_info',
            'backend': 'torch',
            'params_file': str(mine),
            'namespace': 'car',
            'rviz': 'false',
        },
    )
    assert list(context.commands) == ['occ_node']
    words = context.commands['occ_node']
    topics = remapped(words)
    assert topics['__node'] == 'occ' and topics['__ns'] == '/car'
    assert topics['image'] == '/cam/image_rect'
    assert topics['image/compressed'] == '/cam/image_rect/compressed'
    assert topics['camera_info'] == '/cam/camera_info'
    assert given_parameters(words)['backend'] == 'torch'
    # ROS lets the last one win: your file
    assert words[max(at for at, word in enumerate(words) if word == '--params-file') + 1] == (
        str(mine)
    )


def test_every_given_parameter_is_one_of_the_node(prefix):
    known = {
        'occ_node': {spec.name for spec in specs(OccParameters)},
        'kitti_player': {spec.name for spec in specs(PlayerParameters)},
    }
    for path, given in GIVEN.items():
        for program, words in evaluate(path, prefix, given).commands.items():
            if program in known:
                assert set(given_parameters(words)) <= known[program] | {'use_sim_time'}


def test_replay_plays_a_folder_or_a_bag(prefix):
    folder = evaluate(REPLAY, prefix, GIVEN[REPLAY] | {'rviz': 'false', 'rate': '0.5'}).commands
    assert set(folder) == {'occ_node', 'kitti_player'}
    assert given_parameters(folder['kitti_player'])['sequence'] == '/data/sequences/00'
    assert given_parameters(folder['kitti_player'])['rate'] == '0.5'
    assert given_parameters(folder['occ_node'])['use_sim_time'] == 'true'
    assert given_parameters(folder['kitti_player'])['ground_truth_frame'] == 'ground_truth_view'


def test_a_bag_is_played_by_our_player_where_ros_has_none(prefix, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', without_module('ros2bag'))
    bag = evaluate(REPLAY, prefix, {'bag': '/b', 'loop': 'true', 'rviz': 'false'}).commands
    assert set(bag) == {'occ_node', 'bag_player'}
    given = given_parameters(bag['bag_player'])
    info = '/kitti/camera_color_left/camera_info'
    assert given == {'bag': '/b', 'rate': '1.0', 'loop': 'true', 'wait_for_topic': info}
    assert remapped(bag['occ_node'])['camera_info'] == info


@pytest.mark.parametrize(
    ('loop', 'more'), [('false', []), ('true', ['--loop']), ('True', ['--loop'])]
)
def test_a_bag_is_played_by_ros2_bag_where_it_is(prefix, monkeypatch, loop, more):
    monkeypatch.setattr(importlib.util, 'find_spec', with_module('ros2bag'))
    for path in ('/b', '/it\'s "here"'):
        bag = evaluate(REPLAY, prefix, {'bag': path, 'loop': loop}).commands
        assert bag['ros2'] == ['ros2', 'bag', 'play', path, '--clock', '--rate', '1.0', *more]
        assert set(bag) == {'occ_node', 'rviz2', 'ros2', 'static_transform_publisher'}


def test_the_ground_truth_of_a_folder_stands_beside_the_prediction(prefix):
    given = GIVEN[REPLAY] | {'ground_truth_shift_m': '60', 'output_frame': 'lidar'}
    commands = evaluate(REPLAY, prefix, given).commands
    words = commands['static_transform_publisher']
    frame = given_parameters(commands['kitti_player'])['ground_truth_frame']
    assert words[1:7] == ['--y', '60', '--frame-id', 'lidar', '--child-frame-id', frame]
    shown = yaml.safe_load((REPOSITORY / 'config' / 'occ.rviz').read_text())
    topics = {d['Name']: d.get('Topic') for d in shown['Visualization Manager']['Displays']}
    assert topics['Ground truth']['Value'] == remapped(commands['kitti_player'])['ground_truth']


REAL_FIND_SPEC = importlib.util.find_spec


def without_module(name):
    return lambda asked, *rest: None if asked == name else REAL_FIND_SPEC(asked, *rest)


def with_module(name):
    return lambda asked, *rest: object() if asked == name else REAL_FIND_SPEC(asked, *rest)


def test_player_and_node_of_the_replay_agree_on_topics(prefix):
    commands = evaluate(REPLAY, prefix, GIVEN[REPLAY] | {'image': '/c/image'}).commands
    played, heard = remapped(commands['kitti_player']), remapped(commands['occ_node'])
    inputs = ('image', 'camera_info', 'right/image', 'right/camera_info')
    assert [played[name] for name in inputs] == [heard[name] for name in inputs]
    assert played['image'] == '/c/image'


def test_replay_listens_to_the_topics_of_our_bags(prefix):
    commands = evaluate(REPLAY, prefix, GIVEN[REPLAY]).commands
    heard, played = remapped(commands['occ_node']), remapped(commands['kitti_player'])
    for topic, (kind, in_bags) in TOPICS.items():
        assert played[topic] == in_bags
        if kind != 'cloud':
            assert heard[topic] == in_bags


def test_label_images_reach_the_node_with_what_their_ids_mean(prefix):
    given = {'semantic_prior': '/seg/labels', 'semantic_classes': 'ade20k'}
    words = evaluate(OCC, prefix, given).commands['occ_node']
    assert remapped(words)['semantic_prior'] == '/seg/labels'
    assert given_parameters(words)['semantic_classes'] == 'ade20k'
    assert (
        given_parameters(evaluate(OCC, prefix, {}).commands['occ_node'])['semantic_classes']
        == "''"
    )


def test_label_images_of_a_folder_are_played(prefix):
    given = GIVEN[REPLAY] | {'semantic_images': '/labels', 'semantic_classes': 'cityscapes'}
    commands = evaluate(REPLAY, prefix, given).commands
    assert given_parameters(commands['kitti_player'])['semantic_prior'] == '/labels'
    assert given_parameters(commands['occ_node'])['semantic_classes'] == 'cityscapes'


def test_bags_of_jpeg_are_heard(prefix):
    given = {'bag': '/b', 'image_transport': 'compressed', 'image': '/c/image', 'rviz': 'false'}
    words = evaluate(REPLAY, prefix, given).commands['occ_node']
    assert given_parameters(words)['image_transport'] == 'compressed'
    assert remapped(words)['image/compressed'] == '/c/image/compressed'
    assert remapped(words)['right/image/compressed'].endswith('right/image_rect/compressed')


@both
@pytest.mark.parametrize(('no', 'yes'), [('false', 'true'), ('False', 'True')])
def test_the_spellings_of_nav2_are_taken(path, prefix, no, yes):
    arguments = dict.fromkeys(('rviz', 'use_sim_time', 'respawn'), no)
    commands = evaluate(path, prefix, GIVEN[path] | arguments).commands
    assert 'rviz2' not in commands
    assert given_parameters(commands['occ_node'])['use_sim_time'] == 'false'
    arguments = dict.fromkeys(arguments, yes)
    commands = evaluate(path, prefix, GIVEN[path] | arguments).commands
    assert 'rviz2' in commands
    assert given_parameters(commands['occ_node'])['use_sim_time'] == 'true'


@both
def test_without_rviz_nothing_starts_and_the_cure_is_said(path, prefix):
    with pytest.raises(RuntimeError, match='apt install ros-.*-rviz2, or rviz:=false') as raised:
        evaluate(path, prefix, GIVEN[path], packages=frozenset({'cigocc_ros'}))
    assert raised.value.started == []
    alone = evaluate(
        path, prefix, GIVEN[path] | {'rviz': 'False'}, packages=frozenset({'cigocc_ros'})
    )
    assert 'occ_node' in alone.commands


@both
def test_every_process_ends_with_launch(path, prefix, monkeypatch):
    monkeypatch.setattr(shutil, 'which', lambda name: f'/usr/bin/{name}')
    context = evaluate(path, prefix, GIVEN[path] | {'launch-prefix': 'nice'})
    assert len(context.processes) >= 2
    for name, started in context.processes.items():
        assert context.text(started.prefix) == 'setpriv --pdeathsig TERM nice', name
        assert started.label == name  # else the log calls each of them setpriv
    monkeypatch.setattr(shutil, 'which', lambda _: None)
    context = evaluate(path, prefix, GIVEN[path])
    assert {context.text(started.prefix) for started in context.processes.values()} == {''}


def test_the_end_of_the_node_is_that_of_the_launch(prefix):
    for path, given in GIVEN.items():
        context = evaluate(path, prefix, given)
        ended = context.processes['occ_node'].on_exit
        with pytest.raises(RuntimeError, match='occ_node-1 ended with -9'):
            ended(ProcessExited('occ_node-1', -9), context)
        (shutdown,) = ended(ProcessExited('occ_node-1', 0), context)
        assert 'has ended' in shutdown.reason
        context.is_shutdown = True
        assert ended(ProcessExited('occ_node-1', -9), context) is None


def test_a_node_that_is_respawned_ends_nothing(prefix):
    context = evaluate(OCC, prefix, {'respawn': 'True'})
    node = context.processes['occ_node']
    assert context.text(node.respawn) == 'True' and node.respawn_delay == 2.0
    assert node.on_exit(ProcessExited('occ_node-1', 1), context) is None


@pytest.mark.parametrize(
    ('given', 'name'), [(GIVEN[REPLAY], 'kitti_player'), ({'bag': '/b'}, None)]
)
def test_a_player_that_fails_ends_the_replay_and_one_that_is_over_does_not(
    prefix, monkeypatch, given, name
):
    for has_ros2bag in (with_module, without_module):
        monkeypatch.setattr(importlib.util, 'find_spec', has_ros2bag('ros2bag'))
        context = evaluate(REPLAY, prefix, given)
        player = name or ('ros2' if has_ros2bag is with_module else 'bag_player')
        ended = context.processes[player].on_exit
        with pytest.raises(RuntimeError, match='x-3 ended with 1'):
            ended(ProcessExited('x-3', 1), context)
        assert ended(ProcessExited('x-3', 0), context) is None


@both
def test_files_are_found_at_home_or_missed_by_name(path, prefix, monkeypatch):
    monkeypatch.setenv('HOME', str(prefix))
    mine = prefix / 'mine.yaml'
    mine.touch()
    for name in ('extrinsics_file', 'params_file', 'dds_profile'):
        context = evaluate(path, prefix, GIVEN[path] | {name: '~/mine.yaml'})
        used = [*context.commands['occ_node'], *context.environment.values()]
        assert str(mine) in used, name
        with pytest.raises(RuntimeError, match=f'{name}: expected a file') as raised:
            evaluate(path, prefix, GIVEN[path] | {name: '~/none.yaml'})
        assert raised.value.started == []
    assert evaluate(path, prefix, GIVEN[path] | {'dds_profile': ''}).commands


def test_a_bag_at_home_is_found(prefix, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', with_module('ros2bag'))
    words = evaluate(REPLAY, prefix, {'bag': '~/b'}).commands['ros2']
    assert words[3] == os.path.expanduser('~/b')


GIVEN_PARAMETERS = {
    'device': '1',
    'threads': '3',
    'save_dir': '2024',
    'image_reliability': 'best_effort',
}


@both
def test_arguments_reach_the_node_as_what_they_are(path, prefix):
    arguments = {'log_level': 'debug', **GIVEN_PARAMETERS}
    words = evaluate(path, prefix, GIVEN[path] | arguments).commands['occ_node']
    assert words[words.index('--log-level') + 1] == 'debug'
    found = given_parameters(words)
    assert {name: found[name] for name in GIVEN_PARAMETERS} == GIVEN_PARAMETERS
    with pytest.raises(ValueError, match='many') as raised:
        evaluate(path, prefix, GIVEN[path] | {'threads': 'many', 'rviz': 'false'})
    assert raised.value.started == []


def test_rviz_hears_the_camera_info_that_the_node_hears(prefix):
    given = {'image': '/cam/image_raw', 'camera_info': '/other/info'}
    words = evaluate(OCC, prefix, given).commands['rviz2']
    assert remapped(words)['/cam/camera_info'] == '/other/info'


def test_the_launched_node_has_name_namespace_and_parameters(prefix, tmp_path, monkeypatch):
    """Start what launch would start; read the parameters back from the running node."""
    model = build_tiny_model_dir(tmp_path / 'models' / 'handmade')
    extrinsics = tmp_path / 'extrinsics.yaml'
    extrinsics.write_text(yaml.safe_dump({'/**': {'ros__parameters': EXTRINSICS}}))
    mine = tmp_path / 'mine.yaml'
    mine.write_text(yaml.safe_dump({'/**': {'ros__parameters': {'max_markers': 123}}}))
    context = evaluate(
        OCC,
        prefix,
        {
            'namespace': 'car',
            'model': str(model),
            'extrinsics_file': str(extrinsics),
            'params_file': str(mine),
            'output_frame': 'base_link',
            'rviz': 'false',
        },
    )
    words = [sys.executable, *context.commands['occ_node']]
    output = tmp_path / 'occ.log'
    for name, value in context.environment.items():
        monkeypatch.setenv(name, value)
    with process(words, output) as child:
        wait_for_line(output, 'ready: model handmade, images from /car/image', child)
        values = read_parameters('/car/occ')
    assert values['output_frame'] == 'base_link'
    assert values['max_markers'] == 123
    assert values['extrinsics.translation'] == EXTRINSICS['extrinsics.translation']
    assert values['use_sim_time'] is False


READ_PARAMETERS = """
import sys, rclpy
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import parameter_value_to_python
import yaml
names = ['output_frame', 'max_markers', 'extrinsics.translation', 'use_sim_time']
rclpy.init()
node = rclpy.create_node('reader')
client = node.create_client(GetParameters, sys.argv[1] + '/get_parameters')
assert client.wait_for_service(15.0), 'no such node'
future = client.call_async(GetParameters.Request(names=names))
rclpy.spin_until_future_complete(node, future, timeout_sec=15.0)
values = [parameter_value_to_python(value) for value in future.result().values]
values = [list(v) if hasattr(v, 'typecode') else v for v in values]
print(yaml.safe_dump(dict(zip(names, values))))
rclpy.shutdown()
"""


def read_parameters(node):
    done = subprocess.run(
        [sys.executable, '-c', READ_PARAMETERS, node],
        env=ros_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


@pytest.mark.skipif(
    importlib.util.find_spec('launch_ros') is None, reason='launch is not installed (apt ROS only)'
)
@both
def test_real_launch_reads_the_files(path):
    """The real classes accept what the stand-in accepts, with the same arguments."""
    description = load(path).generate_launch_description()
    declared = [argument.name for argument in description.get_launch_arguments()]
    assert declared == ARGUMENTS[path].split()
