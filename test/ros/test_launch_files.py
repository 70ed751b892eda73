"""The launch files: what they declare, what they refer to, what they start."""

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import fields

import pytest
import yaml
from launch_standin import evaluate, load

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
    'FindPackageShare',
    'IfCondition',
    'LaunchConfiguration',
    'LaunchDescription',
    'Node',
    'PathJoinSubstitution',
    'PythonExpression',
    'SetEnvironmentVariable',
    'UnlessCondition',
}
GIVEN = {OCC: {}, REPLAY: {'sequence': '/data/sequences/00'}}
ARGUMENTS = {
    OCC: 'image camera_info right_image right_camera_info depth image_transport model backend '
    'output_frame extrinsics_file params_file namespace use_sim_time rviz dds_profile',
    REPLAY: 'sequence bag rate loop ground_truth_shift_m image camera_info right_image '
    'right_camera_info depth image_transport model backend output_frame extrinsics_file '
    'params_file namespace rviz dds_profile',
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
    used = set(re.findall(r'^from launch\S* import (.+)$', text, re.MULTILINE))
    assert {name.strip() for names in used for name in names.split(',')} <= ALLOWED
    assert len(text.splitlines()) <= 200


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
            assert argument.default == node[name].default
            assert (argument.choices or []) == list(node[name].choices)


@both
def test_a_value_outside_the_choices_is_refused(path, prefix):
    with pytest.raises(RuntimeError, match='backend:=abacus'):
        evaluate(path, prefix, GIVEN[path] | {'backend': 'abacus'})


def test_replay_without_sequence_and_bag_is_refused_by_the_player(prefix):
    commands = evaluate(REPLAY, prefix, {}).commands
    assert given_parameters(commands['kitti_player'])['sequence'] == ''
    with pytest.raises(ConfigError, match='parameter sequence is not set'):
        open_sequence('')


@both
def test_files_and_executables_exist(path, prefix):
    context = evaluate(path, prefix, GIVEN[path])
    named = [word for words in context.commands.values() for word in words]
    named += list(context.environment.values())
    inside = {word for word in named if word.startswith(str(prefix))}
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
    context = evaluate(
        OCC,
        prefix,
        {
            'image': '/cam/image_rect',
            'camera_info': '/cam/camera_info',
            'backend': 'torch',
            'params_file': '/my.yaml',
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
        '/my.yaml'
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


@pytest.mark.parametrize(('loop', 'more'), [('false', []), ('true', ['--loop'])])
def test_a_bag_is_played_by_ros2_bag_where_it_is(prefix, monkeypatch, loop, more):
    monkeypatch.setattr(importlib.util, 'find_spec', with_module('ros2bag'))
    bag = evaluate(REPLAY, prefix, {'bag': '/b', 'loop': loop}).commands
    assert bag['ros2'] == ['ros2', 'bag', 'play', '/b', '--clock', '--rate', '1.0', *more]
    assert set(bag) == {'occ_node', 'rviz2', 'ros2', 'static_transform_publisher'}


def test_the_ground_truth_of_a_folder_stands_beside_the_prediction(prefix):
    given = GIVEN[REPLAY] | {'ground_truth_shift_m': '60', 'output_frame': 'lidar'}
    commands = evaluate(REPLAY, prefix, given).commands
    words = commands['static_transform_publisher']
    frame = given_parameters(commands['kitti_player'])['ground_truth_frame']
    assert words[1:7] == ['--y', '60', '--frame-id', 'lidar', '--child-frame-id', frame]
    shown, _ = displays()
    assert (
        shown['Ground truth']['Topic']['Value']
        == remapped(commands['kitti_player'])['ground_truth']
    )


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


def test_bags_of_jpeg_are_heard(prefix):
    given = {'bag': '/b', 'image_transport': 'compressed', 'image': '/c/image', 'rviz': 'false'}
    words = evaluate(REPLAY, prefix, given).commands['occ_node']
    assert given_parameters(words)['image_transport'] == 'compressed'
    assert remapped(words)['image/compressed'] == '/c/image/compressed'
    assert remapped(words)['right/image/compressed'].endswith('right/image_rect/compressed')


def displays():
    config = yaml.safe_load((REPOSITORY / 'config' / 'occ.rviz').read_text())
    return {d['Name']: d for d in config['Visualization Manager']['Displays']}, config


def test_rviz_shows_boxes_of_the_default_model():
    shown, config = displays()
    voxels = shown['Voxels']
    assert voxels['Style'] == 'Boxes' and voxels['Color Transformer'] == 'RGB8'
    assert voxels['Selectable'] is False and voxels['Topic']['Depth'] == 1
    assert voxels['Topic']['Reliability Policy'] == 'Reliable'
    assert shown['Markers (slow)']['Enabled'] is False
    assert shown['Camera']['Topic']['Value'] == 'image'
    default = {field.name: field.default for field in fields(OccParameters)}
    frame = config['Visualization Manager']['Global Options']['Fixed Frame']
    assert frame == default['output_frame']
    model = yaml.safe_load(
        (REPOSITORY / 'config' / 'model' / f'{default["model"]}.yaml').read_text()
    )
    assert voxels['Size (m)'] == pytest.approx(51.2 / model['output_shape'][0])


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
