"""Signals in every phase of the node's life, and deaths that give no time to clean up."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('onnxruntime')

from fixtures_engine import build_golden_model_dir, engine_files
from fixtures_faults import OK, held, node_process, wait_until
from fixtures_processes import (
    ENDS_WITHIN_S,
    occ_command,
    process,
    ros_environment,
    wait_for_line,
)
from fixtures_ros import Camera
from fixtures_tiny_model import build_tiny_model_dir

from cigocc_ros.ros.process import remove_orphans

INT, TERM = signal.SIGINT, signal.SIGTERM
WAYS = pytest.mark.parametrize(
    'signals', [(INT,), (INT, INT), (TERM,)], ids=['SIGINT', 'twice', 'SIGTERM']
)


@pytest.fixture(scope='module')
def model_dir(tmp_path_factory):
    return build_tiny_model_dir(tmp_path_factory.mktemp('models') / 'handmade')


def send(child, signals, pause_s=0.02):
    for number in signals:
        if child.poll() is None:
            os.killpg(child.pid, number)
        time.sleep(pause_s)


def alive(text: str) -> list[str]:
    """Return the command lines of living processes that contain `text`, ours not."""
    found = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            line = path.read_bytes().decode(errors='replace').replace('\0', ' ')
        except OSError:
            continue
        found += [line] if text in line and path.parent.name != str(os.getpid()) else []
    return found


def owned_segments(pid: int) -> list[str]:
    """Return the segments of Fast DDS whose lock a process holds."""
    locks = [line.split() for line in Path('/proc/locks').read_text().splitlines()]
    inodes = {int(words[5].split(':')[2]) for words in locks if words[4] == str(pid)}
    found = [path for path in Path('/dev/shm').glob('fast*_el') if 'port' not in path.name]
    return [path.name.removesuffix('_el') for path in found if inode(path) in inodes]


def inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:  # a process beside us went
        return -1


@WAYS
@pytest.mark.parametrize('after_s', [0.15, 0.6])
def test_signals_while_it_starts(model_dir, tmp_path, signals, after_s):
    """Among imports, and while rclpy and the model are loaded; where exactly is chance."""
    output = tmp_path / 'occ.log'
    with process(occ_command(model_dir), output) as child:
        time.sleep(after_s)
        send(child, signals)
        code = child.wait(ENDS_WITHIN_S)
    # before Python runs its first line a signal kills, as it kills any program
    assert code in (0, -signals[0]), output.read_text()
    assert 'Traceback' not in output.read_text()


@WAYS
def test_signals_while_an_engine_is_built(tmp_path, monkeypatch, fake_gpu, signals):
    """The builder, a process of its own, ends too, and nothing half built stays."""
    model, output = build_golden_model_dir(tmp_path / 'model'), tmp_path / 'occ.log'
    monkeypatch.setenv('FAKE_TENSORRT_STEP_S', '0.5')
    with process([*occ_command(model), '-p', 'backend:=tensorrt'], output) as child:
        wait_for_line(output, 'building the TensorRT engine', child)
        assert alive('build-engine --model ' + str(model))
        send(child, signals)
        assert child.wait(ENDS_WITHIN_S) == 0, output.read_text()
    assert not alive('build-engine --model ' + str(model)) and not engine_files(model)
    assert 'Traceback' not in output.read_text()


def test_a_node_that_is_killed_while_it_builds_takes_the_builder_along(
    tmp_path, monkeypatch, fake_gpu
):
    model, output = build_golden_model_dir(tmp_path / 'model'), tmp_path / 'occ.log'
    monkeypatch.setenv('FAKE_TENSORRT_STEP_S', '0.5')
    words = [*occ_command(model), '-p', 'backend:=tensorrt']
    with process(words, output) as child:
        wait_for_line(output, 'building the TensorRT engine', child)
        child.kill()
        child.wait()
        wait_until(lambda: not alive('build-engine --model ' + str(model)), 'end of the builder')
    assert not engine_files(model)
    monkeypatch.setenv('FAKE_TENSORRT_STEP_S', '0')
    with process(words, tmp_path / 'again.log') as child:  # the lock died with its holder
        wait_for_line(tmp_path / 'again.log', 'ready: model', child)
    assert len(engine_files(model)) == 2


@WAYS
def test_signals_in_the_middle_of_frames(graph, model_dir, tmp_path, signals):
    with node_process(graph, model_dir, tmp_path) as node:
        camera = Camera(graph)
        node.ears.until_cloud(camera.publish)
        for _ in range(20):
            camera.publish()
        send(node.child, signals)
        assert node.child.wait(ENDS_WITHIN_S) == 0, node.log()
        assert 'Traceback' not in node.log()


def test_signals_while_it_shuts_down(graph, model_dir, tmp_path):
    """Ten more of both kinds, a millisecond apart, hit whatever the end is made of."""
    with node_process(graph, model_dir, tmp_path) as node:
        camera = Camera(graph)
        node.ears.until_cloud(camera.publish)
        send(node.child, (INT, TERM) * 5, pause_s=0.001)
        assert node.child.wait(ENDS_WITHIN_S) == 0, node.log()
        assert 'Traceback' not in node.log()


def test_a_node_that_is_killed_and_restarted(graph, model_dir, tmp_path):
    camera = Camera(graph)
    with node_process(graph, model_dir, tmp_path) as first:
        first.ears.until_cloud(camera.publish)
        segments = owned_segments(first.pid)
        before = held(first.pid)
        first.child.kill()
        first.child.wait()
    with node_process(graph, model_dir, tmp_path, name='again') as second:
        second.ears.until_cloud(camera.publish)
        second.ears.until_said('running', OK, camera.publish)
        now = held(second.pid)
        assert abs(now.threads - before.threads) <= 2
        alive_segments = owned_segments(second.pid)
        # a start removes what was left, once it is a minute old
        remove_orphans(min_age_s=0.0)
        assert segments and alive_segments
        assert not [name for name in segments if Path('/dev/shm', name).exists()]
        assert all(Path('/dev/shm', name).exists() for name in alive_segments)
        second.ears.until_cloud(camera.publish)


def test_orphans_alone_are_removed(tmp_path):
    import fcntl

    for number in (1, 2, 3):
        (tmp_path / f'fastrtps_{number:016x}').write_bytes(b'x' * 100)
        (tmp_path / f'fastrtps_{number:016x}_el').touch()
    (tmp_path / 'fastrtps_port7400').touch()
    (tmp_path / 'fastrtps_port7400_el').touch()
    old = time.time() - 3600
    for number in (1, 2):
        os.utime(tmp_path / f'fastrtps_{number:016x}_el', (old, old))
    with (tmp_path / f'fastrtps_{2:016x}_el').open('rb+') as lives:
        fcntl.flock(lives, fcntl.LOCK_EX)
        assert remove_orphans(tmp_path) == 100
    left = sorted(path.name for path in tmp_path.iterdir())
    assert [name for name in left if f'{1:016x}' in name] == [] and len(left) == 6
    assert remove_orphans(tmp_path / 'nothing') == 0


KILLED_PARENT = """
import sys, time
from pathlib import Path
from cigocc_ros.replay.processes import Processes, ros_environment
with Processes(Path(sys.argv[1]), ros_environment(int(sys.argv[2]))) as processes:
    processes.start('node', sys.argv[3:])
    while 'ready: model' not in processes.log('node').read_text():
        processes.check('node')
        time.sleep(0.02)
    print('started', processes.pid('node'), flush=True)
    time.sleep(60)
"""


def test_children_of_the_demo_die_with_a_parent_that_is_killed(model_dir, tmp_path):
    environment = ros_environment()
    words = [sys.executable, '-c', KILLED_PARENT, str(tmp_path), environment['ROS_DOMAIN_ID']]
    parent = subprocess.Popen(
        [*words, *occ_command(model_dir)], env=environment, stdout=subprocess.PIPE, text=True
    )
    pid = 0
    try:
        pid = int(parent.stdout.readline().split()[1])
        parent.kill()
        parent.wait()
        wait_until(lambda: not Path(f'/proc/{pid}').exists(), 'end of the node', ENDS_WITHIN_S)
    finally:
        parent.kill()
        parent.stdout.close()
        if pid and Path(f'/proc/{pid}').exists():
            os.kill(pid, signal.SIGKILL)
    assert 'Traceback' not in (tmp_path / 'node.log').read_text()
