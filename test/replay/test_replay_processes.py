"""Process groups: they end, whatever they do, and say why they failed."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip('rclpy')

from cigocc_ros.core.errors import EngineError
from cigocc_ros.replay import processes as module
from cigocc_ros.replay.processes import Processes, executable, node_command, ros_environment

POLITE = """
import time
print('up', flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    print('bye')
"""
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
print(child.pid, flush=True)
time.sleep(60)
"""


def wait_for(path):
    deadline = time.monotonic() + 10
    while not path.read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return path.read_text()


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f'/proc/{pid}/stat') as stat:
        return stat.read().rpartition(')')[2].split()[0] != 'Z'


@pytest.fixture
def processes(tmp_path):
    with Processes(tmp_path, os.environ) as made:
        yield made


def test_sigint_comes_first(processes, tmp_path):
    processes.start('polite', [sys.executable, '-c', POLITE])
    wait_for(tmp_path / 'polite.log')
    assert processes.stop('polite') == 0
    assert 'bye' in (tmp_path / 'polite.log').read_text()


def test_the_whole_group_is_killed_where_sigint_does_not_help(tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'STOPS_WITHIN_S', 0.3)
    with Processes(tmp_path, os.environ) as processes:
        processes.start('stubborn', [sys.executable, '-c', STUBBORN])
        grandchild = int(wait_for(tmp_path / 'stubborn.log'))
        assert exists(grandchild)
    deadline = time.monotonic() + 5
    while exists(grandchild):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_a_start_loses_no_child(tmp_path, monkeypatch, number):
    """As Ctrl-C in the demo: between the fork and the return of Popen."""
    children = []

    class Interrupted(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            children.append(self.pid)
            os.kill(os.getpid(), number)
            time.sleep(0.01)  # a handler runs at the next instruction

    monkeypatch.setattr(module.subprocess, 'Popen', Interrupted)
    # SIGINT too: a shell ignores it for the tests where it runs them in the background
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), Processes(tmp_path, os.environ) as processes:
            processes.start('sleeper', [sys.executable, '-c', POLITE])
        assert signal.getsignal(number) is signal.default_int_handler
        assert children and not any(map(exists, children))
    finally:
        signal.signal(number, before)


def test_a_failure_shows_the_end_of_the_log(processes):
    processes.start('bad', [sys.executable, '-c', "raise SystemExit('no such camera')"])
    with pytest.raises(EngineError, match=r'(?s)bad ended with 1.*no such camera'):
        while not processes.ended('bad'):
            time.sleep(0.02)


def test_a_node_that_leaves_early_is_noticed(processes):
    processes.start('short', [sys.executable, '-c', "print('done')"])
    with pytest.raises(EngineError, match=r'(?s)short ended too early.*done'):
        while True:
            processes.check('short')
            time.sleep(0.02)


def test_node_commands_are_spelled_as_ros_reads_them(tmp_path):
    parameters = [tmp_path / 'a.yaml', {'rate': 0.5, 'loop': False}]
    words = node_command('occ_node', 'eye', parameters, {'image': '/cam/image'})
    assert words[0] == str(executable('occ_node')) and os.access(words[0], os.X_OK)
    assert (
        words[1:]
        == (
            f'--ros-args --log-level info --ros-args -r __node:=eye -r __ns:=/ '
            f'--params-file {tmp_path}/a.yaml '
            '-p rate:=0.5 -p loop:=false -r image:=/cam/image'
        ).split()
    )


def test_an_unknown_executable_is_an_error():
    with pytest.raises(EngineError, match='fly_node'):
        executable('fly_node')


def test_children_see_this_host_only():
    first = ros_environment()
    assert first['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert 1 <= int(first['ROS_DOMAIN_ID']) <= 101
    assert ros_environment(5)['ROS_DOMAIN_ID'] == '5'
    assert first['FASTRTPS_DEFAULT_PROFILES_FILE'].endswith('fastdds_large_messages.xml')
