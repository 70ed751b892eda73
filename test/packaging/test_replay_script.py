"""docker/replay, which CI runs on real distributions, with a stand-in for the command `ros2`.

The stand-in starts what `ros2 launch` would (test/launch_standin.py). It has no tf2, so it gives
the pose of the camera as parameters, as `make demo` does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('embreex')
pytest.importorskip('onnxruntime')

REPOSITORY = Path(__file__).resolve().parents[2]
ROS2 = """#!{python}
import importlib.util, os, signal, subprocess, sys
sys.path[:0] = ['{repository}', '{repository}/test']
words = sys.argv[1:]

def run():
    assert words[:3] == ['run', 'cigocc_ros', 'cigocc']
    os.execv(sys.executable, [sys.executable, '-m', 'cigocc_ros.commands.main', *words[3:]])

def launch():
    from pathlib import Path
    from launch_standin import evaluate
    find = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *rest: None if name == 'ros2bag' else find(name, *rest)
    prefix, given = Path('{prefix}'), dict(word.split(':=', 1) for word in words[3:])
    player, pose = str(prefix / 'lib/cigocc_ros/kitti_player'), '{prefix}/pose.yaml'
    write = ['-p', 'sequence:=' + given['sequence'], '-p', 'write_extrinsics:=' + pose]
    subprocess.run([sys.executable, player, '--ros-args', *write], check=True)
    path = prefix / 'share' / words[1] / 'launch' / words[2]
    context = evaluate(path, prefix, given | {{'extrinsics_file': pose}})
    os.environ.update(context.environment)
    programs = [command for command in context.commands.values() if '/cigocc_ros/' in command[0]]
    assert len(programs) == 2
    started = [subprocess.Popen([sys.executable, *command]) for command in programs]
    signal.signal(signal.SIGINT, lambda *_: [each.send_signal(signal.SIGINT) for each in started])
    sys.exit(max(abs(each.wait()) for each in started))

def topic():
    assert words[:5] == ['topic', 'echo', '--once', '--field', 'width'], words
    import rclpy
    from sensor_msgs.msg import PointCloud2
    rclpy.init()
    node, heard = rclpy.create_node('echo'), []
    node.create_subscription(PointCloud2, words[5], heard.append, 1)
    while not heard:
        rclpy.spin_once(node)
    print(heard[0].width, '---', sep='\\n')

{{'run': run, 'launch': launch, 'topic': topic}}[words[0]]()
"""


def environment(folder: Path, domain: int) -> dict[str, str]:
    """Return one in which `ros2` is the stand-in and `python3` is this Python."""
    prefix, programs = folder / 'prefix', folder / 'bin'
    for place, target in {'lib': 'scripts', 'share': '.'}.items():
        (prefix / place).mkdir(parents=True)
        (prefix / place / 'cigocc_ros').symlink_to((REPOSITORY / target).resolve())
    programs.mkdir()
    text = ROS2.format(python=sys.executable, repository=REPOSITORY, prefix=prefix)
    (programs / 'ros2').write_text(text)
    (programs / 'ros2').chmod(0o755)
    (programs / 'python3').symlink_to(sys.executable)
    variables = {name: value for name, value in os.environ.items() if name != 'AMENT_PREFIX_PATH'}
    return variables | {
        'PATH': os.pathsep.join(
            [str(programs), str(Path(sys.executable).parent), variables['PATH']]
        ),
        'ROS_DOMAIN_ID': str(domain),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
    }


@pytest.mark.slow
def test_the_replay_of_ci_hears_voxels_and_ends_clean(tmp_path):
    done = subprocess.run(
        [REPOSITORY / 'docker' / 'replay'],
        env=environment(tmp_path, 60 + os.getpid() % 40),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    voxels, rest = done.stdout.strip().splitlines()[-1].split(' ', 1)
    assert int(voxels) > 1000 and rest == 'voxels; launch ended with 0'
