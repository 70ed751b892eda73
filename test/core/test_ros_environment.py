"""Variables that ROS cannot start with, and what rcl says, as one line with the cure."""

import pytest

from cigocc_ros.core.ros_environment import explained, log_trouble, troubles


def checks(tmp_path, **variables):
    environment = {'HOME': str(tmp_path)} | variables
    return {trouble.check: str(trouble) for trouble in troubles(environment)}


def test_an_ordinary_shell_has_no_trouble(tmp_path):
    assert not checks(tmp_path)
    assert not checks(tmp_path, ROS_DOMAIN_ID='', ROS_SECURITY_ENABLE='false', ROS_LOG_DIR='')
    assert not checks(tmp_path, ROS_DOMAIN_ID='232')
    permissive = {'ROS_SECURITY_ENABLE': 'true', 'ROS_SECURITY_STRATEGY': 'Permissive'}
    assert not checks(tmp_path, **permissive)


@pytest.mark.parametrize('domain', ['abc', '-1', '233', '1.5', '4 2', '٣'])
def test_a_domain_that_is_none(tmp_path, domain):
    found = checks(tmp_path, ROS_DOMAIN_ID=domain)
    assert f'ROS_DOMAIN_ID={domain}' in found['ros domain']
    assert 'export ROS_DOMAIN_ID=42' in found['ros domain']


def test_a_middleware_that_is_not_installed(tmp_path):
    index = tmp_path / 'share' / 'ament_index' / 'resource_index' / 'rmw_typesupport'
    index.mkdir(parents=True)
    for name in ('rmw_implementation', 'rmw_cyclonedds_cpp'):
        (index / name).touch()
    prefix = {'AMENT_PREFIX_PATH': str(tmp_path)}
    assert not checks(tmp_path, RMW_IMPLEMENTATION='rmw_cyclonedds_cpp', **prefix)
    found = checks(tmp_path, RMW_IMPLEMENTATION='rmw_nothing', **prefix)['rmw']
    assert 'rmw_nothing is not installed' in found and 'rmw_cyclonedds_cpp' in found
    assert 'rmw_implementation,' not in found


def test_security_without_a_keystore(tmp_path):
    enforced = {'ROS_SECURITY_ENABLE': 'true', 'ROS_SECURITY_STRATEGY': 'Enforce'}
    for keystore in ({}, {'ROS_SECURITY_KEYSTORE': '/nowhere'}):
        found = checks(tmp_path, **enforced, **keystore)['ros security']
        assert 'ros2 security create_keystore' in found
    (tmp_path / 'enclaves').mkdir()
    assert not checks(tmp_path, **enforced, ROS_SECURITY_KEYSTORE=str(tmp_path))


def test_logs_that_cannot_be_written(tmp_path):
    file = tmp_path / 'file'
    file.touch()
    for variables in (
        {},
        {'HOME': '/proc'},
        {'HOME': str(tmp_path), 'ROS_LOG_DIR': f'{file}/log'},
        {'HOME': str(tmp_path), 'ROS_HOME': f'{file}'},
    ):
        trouble = log_trouble(variables)
        assert trouble is not None and 'ROS_LOG_DIR' in trouble.cure, variables
    assert log_trouble({'ROS_LOG_DIR': f'{tmp_path}/not/yet/there'}) is None
    assert log_trouble({'HOME': str(tmp_path), 'ROS_LOG_DIR': '~/logs'}) is None
    assert {path.name for path in tmp_path.iterdir()} == {'file'}


@pytest.mark.parametrize(
    ('said', 'cure'),
    [
        ("failed to initialize logging: Failed to create log directory '/x': 2", 'ROS_LOG_DIR'),
        ('Failed to get logging directory, at /a/b.cpp:138', 'ROS_LOG_DIR'),
        ('ROS_DOMAIN_ID is not an integral number', 'ROS_DOMAIN_ID=42'),
        ("SECURITY ERROR: directory '/k/enclaves' does not exist.", 'create_keystore'),
        ("Sequence should be of same type. Value type 'integer' do not belong at", '0.0, not 0'),
        ('Error parsing a event near line 1', 'no tabs'),
        ('Cannot have a value before ros__parameters at line 1', 'occ.param.yaml'),
        ("Couldn't parse parameter override rule: '-p nonsense'", '-p NAME:=VALUE'),
        ("Couldn't parse remap rule: '-r __node:=bad-name'", '-r OLD:=NEW'),
        ("Couldn't parse log level: '--log-level loud'", 'debug, info'),
        ("['--frob']", '--ros-args'),
    ],
)
def test_the_cure_stands_behind_what_rcl_says(said, cure):
    line = explained(said)
    assert cure in line and '\n' not in line and '.cpp:' not in line


def test_what_is_not_known_stays_whole():
    assert explained('something\n  new, at /x/rcl/init.c:12') == 'something new'
