"""The executables as processes: start, failure to start, and every way to end."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('onnxruntime')

from fixtures_processes import (
    ENDS_WITHIN_S,
    command,
    occ_command,
    process,
    ros_environment,
    wait_for_line,
)
from fixtures_tiny_model import build_tiny_model_dir

from cigocc_ros.core.dds import HIGHEST_DOMAIN
from cigocc_ros.replay import processes
from cigocc_ros.replay.processes import FIRST_PORT, PORTS_PER_DOMAIN, free_domain


@pytest.fixture(scope='module')
def model_dir(tmp_path_factory):
    return build_tiny_model_dir(tmp_path_factory.mktemp('models') / 'handmade')


def ended(words: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(
        words,
        env=ros_environment(),
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )


@pytest.mark.parametrize(
    'signals',
    [(signal.SIGINT,), (signal.SIGINT,) * 2, (signal.SIGINT,) * 5, (signal.SIGTERM,)],
    ids=['SIGINT', 'twice', 'five times', 'SIGTERM'],
)
def test_signals_end_the_node_with_0(model_dir, tmp_path, signals):
    output = tmp_path / 'occ.log'
    with process(occ_command(model_dir), output) as child:
        wait_for_line(output, 'ready: model handmade', child)
        for number in signals:
            if child.poll() is None:
                os.killpg(child.pid, number)
            time.sleep(0.02)  # a launch system's second signal comes a moment later
        assert child.wait(ENDS_WITHIN_S) == 0, output.read_text()
    assert 'Traceback' not in output.read_text()


SIGNALLED_WHILE_MADE = """
import contextlib, os, signal, time
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from cigocc_ros.ros.process import run_node

def make():
    node = Node('signalled')
    os.kill(os.getpid(), signal.SIG{name})
    while rclpy.ok():
        time.sleep(0.001)
    return node

def spin(node, executor):
    with contextlib.suppress(ExternalShutdownException):
        rclpy.spin(node, executor)
    return 0

raise SystemExit(run_node('signalled', None, make, spin))
"""


@pytest.mark.parametrize('name', ['INT', 'TERM'])
def test_a_signal_between_the_node_and_its_spinning_leaves_no_complaint(name):
    """rclpy's executor, made after the signal, would print what it failed at."""
    done = ended([sys.executable, '-c', SIGNALLED_WHILE_MADE.format(name=name)])
    assert (done.returncode, done.stderr) == (0, '')


def test_a_missing_model_ends_with_a_hint():
    done = ended(command('occ_node', {'model': '/nowhere/at/all'}))
    assert done.returncode == 1
    assert 'no model' in done.stderr and '/nowhere/at/all' in done.stderr
    assert 'Traceback' not in done.stderr


def test_a_folder_without_manifest_ends_with_a_hint(tmp_path):
    done = ended(command('occ_node', {'model': tmp_path}))
    assert done.returncode == 1 and 'no manifest.yaml' in done.stderr


def test_a_tampered_model_ends_with_a_hint(tmp_path):
    model = build_tiny_model_dir(tmp_path / 'model')
    onnx = bytearray((model / 'model.onnx').read_bytes())
    onnx[100] ^= 1
    (model / 'model.onnx').write_bytes(onnx)
    done = ended(occ_command(model))
    assert done.returncode == 1 and 'sha256' in done.stderr
    assert 'Traceback' not in done.stderr


def test_a_parameter_of_another_type_ends_with_a_hint(model_dir):
    done = ended(command('occ_node', {'model': model_dir, 'threads': 'many'}))
    assert done.returncode == 1 and 'threads' in done.stderr
    assert 'Traceback' not in done.stderr


LINE = '   1: 0100007F:{:04X} 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 5 2 0'


def table_of(path, domains):
    """Write what Linux lists where one process of each of these domains listens."""
    ports = [FIRST_PORT + PORTS_PER_DOMAIN * domain + 10 for domain in domains]
    path.write_text('\n'.join(['  sl  local_address', *(LINE.format(port) for port in ports)]))
    return path


def test_a_free_domain_is_one_where_nobody_listens(tmp_path):
    others = set(range(HIGHEST_DOMAIN + 1)) - {42}
    assert free_domain([table_of(tmp_path / 'udp', others)]) == 42
    everything = table_of(tmp_path / 'full', range(HIGHEST_DOMAIN + 1))
    assert 1 <= free_domain([everything]) <= HIGHEST_DOMAIN
    assert 1 <= free_domain([tmp_path / 'no such table']) <= HIGHEST_DOMAIN
    assert len({free_domain([tmp_path / 'no such table']) for _ in range(50)}) > 1


def test_a_domain_with_a_node_is_not_free(graph, monkeypatch):
    """The ports are those that rclpy opens here."""
    from fixtures_ros import domain_id

    offered = []
    monkeypatch.setattr(processes.random, 'choice', lambda free: offered.append(free) or free[0])
    free_domain()
    assert domain_id() not in offered[0] and offered[0]


LOUD = {
    'ROS_DISCOVERY_SERVER': '10.0.0.1:11811',
    'ROS_SUPER_CLIENT': 'TRUE',
    'ROS_STATIC_PEERS': '10.0.0.2',
    'ROS_AUTOMATIC_DISCOVERY_RANGE': 'OFF',
    'ROS_LOCALHOST_ONLY': '1',
    'ROS_DOMAIN_ID': '7',
    'ROS_NAMESPACE': 'car',
    'ROS_SECURITY_ENABLE': 'true',
    'ROS_SECURITY_STRATEGY': 'Enforce',
    'RMW_IMPLEMENTATION': 'rmw_zenoh_cpp',
    'RMW_FASTRTPS_USE_QOS_FROM_XML': '1',
    'RMW_FASTRTPS_PUBLICATION_MODE': 'ASYNCHRONOUS',
    'CYCLONEDDS_URI': 'file:///my.xml',
    'FASTDDS_BUILTIN_TRANSPORTS': 'NONE',
    'FASTDDS_ENVIRONMENT_FILE': '/my.json',
    'FASTRTPS_DEFAULT_PROFILES_FILE': '/my.xml',
    'ZENOH_CONFIG_OVERRIDE': 'mode="client"',
    'RCUTILS_LOGGING_USE_STDOUT': 'abc',
}


def test_children_hear_nothing_that_a_shell_says_about_ros(monkeypatch, tmp_path):
    for name, value in LOUD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    monkeypatch.setenv('MY_OWN', 'kept')
    found = processes.ros_environment(log_dir=tmp_path)
    left = {name: found[name] for name in LOUD if found.get(name) == LOUD[name]}
    assert not left
    assert found['ROS_DISTRO'] == 'jazzy' and found['MY_OWN'] == 'kept'
    assert found['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert 'ROS_LOCALHOST_ONLY' not in found
    assert found['ROS_LOG_DIR'] == str(tmp_path)
    monkeypatch.setenv('ROS_DISTRO', 'humble')  # rcl 5.3 knows no range
    assert processes.ros_environment()['ROS_LOCALHOST_ONLY'] == '1'


def test_two_children_meet_in_a_shell_that_names_a_discovery_server(monkeypatch, tmp_path):
    """The demo waited for a minute for a node that had long been ready."""
    for name in ('ROS_DISCOVERY_SERVER', 'ROS_STATIC_PEERS', 'FASTDDS_BUILTIN_TRANSPORTS'):
        monkeypatch.setenv(name, LOUD[name])
    heard, saying = tmp_path / 'heard', 'from std_msgs.msg import String; import rclpy, time\n'
    listener = saying + (
        "rclpy.init(); node = rclpy.create_node('a')\n"
        f"node.create_subscription(String, 'x', lambda m: open({str(heard)!r}, 'w'), 10)\n"
        'rclpy.spin(node)'
    )
    speaker = saying + (
        "rclpy.init(); node = rclpy.create_node('b'); p = node.create_publisher(String, 'x', 10)\n"
        'while True:\n    p.publish(String()); time.sleep(0.1)'
    )
    with processes.Processes(tmp_path, processes.ros_environment()) as running:
        for name, code in {'listener': listener, 'speaker': speaker}.items():
            running.start(name, [sys.executable, '-c', code])
        deadline = time.monotonic() + ENDS_WITHIN_S
        while not heard.exists():
            running.check('listener', 'speaker')
            assert time.monotonic() < deadline
            time.sleep(0.05)
