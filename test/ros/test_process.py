"""Errors of the middleware, and of paths, end a node with one line that says what to do."""

import os
import subprocess
import sys

import pytest
import yaml

pytest.importorskip('rclpy')

from fixtures_processes import ENDS_WITHIN_S, command, ros_environment

UNEQUAL = '/**:\n  ros__parameters:\n    extrinsics:\n      translation: [0.27, 0, -0.08]\n'
TABS = '/**:\n\tros__parameters:\n'

NOTHING = {
    'bag_player': {'bag': '/nowhere'},
    'kitti_player': {'sequence': '/nowhere'},
    'occ_node': {'model': '/nowhere'},
}


def start(*more, node='bag_player', unset=(), **variables):
    """Return code and last line of a node that has nothing to work with."""
    environment = ros_environment() | variables
    for name in unset:
        environment.pop(name, None)
    done = subprocess.run(
        [*command(node, NOTHING[node]), *more],
        env=environment,
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    output = done.stdout + done.stderr
    assert 'Traceback' not in output, output
    return done.returncode, output.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ('variables', 'cure'),
    [
        ({'HOME': '/proc'}, 'ROS_LOG_DIR'),
        ({'ROS_LOG_DIR': '/proc/logs'}, 'ROS_LOG_DIR'),
        ({'ROS_DOMAIN_ID': 'abc'}, 'ROS_DOMAIN_ID=42'),
        ({'ROS_DOMAIN_ID': '500'}, 'ROS_DOMAIN_ID=42'),
        (
            {'ROS_SECURITY_ENABLE': 'true', 'ROS_SECURITY_STRATEGY': 'Enforce'},
            'create_keystore',
        ),
        ({'RMW_IMPLEMENTATION': 'rmw_nothing'}, 'unset RMW_IMPLEMENTATION'),
    ],
)
def test_the_environment(variables, cure):
    code, line = start(**variables)
    assert code == 1 and 'FATAL' in line and cure in line


def test_without_a_home():
    code, line = start(unset=['HOME', 'ROS_HOME', 'ROS_LOG_DIR'])
    assert code == 1 and 'ROS_LOG_DIR' in line


@pytest.mark.parametrize(
    ('text', 'cure'),
    [(UNEQUAL, '0.0, not 0'), (TABS, 'no tabs'), ('a: 1\n', '/**:'), (None, 'that is there')],
)
def test_a_parameter_file(tmp_path, text, cure):
    path = tmp_path / 'my.yaml'
    if text is not None:
        path.write_text(text)
    code, line = start('--params-file', str(path))
    assert code == 1 and 'FATAL' in line and cure in line


@pytest.mark.parametrize(
    ('words', 'cure'),
    [
        (['-r', '__node:=bad-name'], '-r OLD:=NEW'),
        (['-p', 'nonsense'], '-p NAME:=VALUE'),
        (['--log-level', 'loud'], 'debug, info'),
        (['--frob'], '--ros-args'),
    ],
)
def test_the_command_line(words, cure):
    code, line = start(*words)
    assert code == 1 and 'FATAL' in line and cure in line


@pytest.mark.parametrize('node', ['kitti_player', 'occ_node'])
def test_the_command_line_of_every_node(node):
    code, line = start('--frob', node=node)
    assert code == 1 and 'FATAL' in line and '--ros-args' in line


def test_home_is_expanded_in_every_path_of_every_node(tmp_path):
    from cigocc_ros.ros.occ_parameters import OccParameters
    from cigocc_ros.ros.parameters import specs
    from cigocc_ros.ros.players.player_parameters import BagPlayerParameters, PlayerParameters

    paths = {'model', 'save_dir', 'sequence', 'semantic_prior', 'write_extrinsics', 'bag'}
    found = set()
    for cls in (OccParameters, PlayerParameters, BagPlayerParameters):
        for spec in specs(cls):
            if spec.path:
                found.add(spec.name)
                assert spec.checked('~/data') == os.path.expanduser('~/data')
                assert spec.checked(spec.default) == spec.default
            elif isinstance(spec.default, str) and not spec.choices and spec.check is None:
                assert spec.checked('~/x') == '~/x'  # a private topic, or a frame
    assert found == paths


def test_home_is_expanded_in_a_running_node(tmp_path):
    code, line = start('-p', 'bag:=~/bag', HOME=str(tmp_path), ROS_LOG_DIR=str(tmp_path))
    assert code == 1 and f'{tmp_path}/bag: expected a bag' in line
    mine = tmp_path / 'mine.yaml'
    mine.write_text(yaml.safe_dump({'/**': {'ros__parameters': {'bag': '~/other'}}}))
    words = [sys.executable, *command('bag_player', {})[1:], '--params-file', str(mine)]
    done = subprocess.run(
        words,
        env=ros_environment() | {'HOME': str(tmp_path), 'ROS_LOG_DIR': str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    assert f'{tmp_path}/other: expected a bag' in done.stdout + done.stderr
