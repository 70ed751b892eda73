"""`cigocc demo`, whole: node, player and collector as processes, pictures from what arrived."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

from fixtures_processes import REPOSITORY, wait_for_line
from fixtures_sequence import build_sequence
from fixtures_tiny_model import build_tiny_model_dir
from launch_standin import evaluate
from PIL import Image

from cigocc_ros.commands.main import main
from cigocc_ros.core.frames import LIDAR_FRAME
from cigocc_ros.core.installed import share_dir
from cigocc_ros.replay.replay import CAMERA_TOPICS, occ_command, player_command

REPLAY = REPOSITORY / 'launch' / 'kitti_replay.launch.py'


def test_the_demo_starts_what_launch_starts(tmp_path):
    for place, target in {'lib': 'scripts', 'share': '.'}.items():
        (tmp_path / place).mkdir()
        (tmp_path / place / 'cigocc_ros').symlink_to((REPOSITORY / target).resolve())
    pose, user = tmp_path / 'pose.yaml', tmp_path / 'user.yaml'
    pose.touch()
    user.touch()
    arguments = {'sequence': '/data/00', 'extrinsics_file': str(pose), 'rate': '0.5'}
    arguments['params_file'] = str(user)
    launched = evaluate(REPLAY, tmp_path, arguments | {'rviz': 'false'}).commands
    installed = {'lib/cigocc_ros': 'scripts', 'share/cigocc_ros/': ''}
    for there, here in installed.items():
        for name, words in launched.items():
            launched[name] = [
                w.replace(f'{tmp_path}/{there}', f'{share_dir()}/{here}') for w in words
            ]
    assert occ_command('mid', 'auto', pose, user) == launched['occ_node']
    words = launched['kitti_player']
    at = words.index('ground_truth_frame:=ground_truth_view')
    del words[at - 1 : at + 1]  # the demo draws the ground truth itself
    options = {'rate': 0.5, 'loop': False, 'semantic_prior': '', 'lidar_frame': LIDAR_FRAME}
    assert player_command(Path('/data/00'), **options) == words
    assert len(CAMERA_TOPICS) == 6


def demo_words(folder: Path) -> list[str]:
    sequence = build_sequence(folder / 'sequences' / '00')
    model, out = build_tiny_model_dir(folder / 'model'), folder / 'out'
    words = [sys.executable, '-m', 'cigocc_ros.commands.main', 'demo', '--frames', '3']
    given = {'--sequence': sequence, '--model': model, '--out': out, '--pictures': 2}
    return [*words, *(str(word) for pair in given.items() for word in pair)]


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp('demo')
    out, words = folder / 'out', demo_words(folder)
    done = subprocess.run(
        words, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout


def value_of(text: str, name: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith(f'{name}  ')]
    return line[len(name) :].strip()


@pytest.mark.slow
def test_every_frame_becomes_voxels(demo):
    _, text = demo
    assert value_of(text, 'voxel clouds arrived') == '3 of 3'
    assert value_of(text, 'frames in (node)') == value_of(text, 'processed (node)') == '5'
    assert value_of(text, 'stereo depth priors') == '5'
    assert value_of(text, 'dropped (node)') == '0 replaced by a newer frame'
    assert value_of(text, 'model, backend').startswith('handmade, onnxruntime')
    assert value_of(text, 'latency image to voxels').startswith('median ')
    assert int(value_of(text, 'classes seen').split(':')[0]) > 3


@pytest.mark.slow
def test_the_pictures_show_image_voxels_and_ground_truth(demo):
    out, text = demo
    paths = sorted((out / 'pictures').glob('*.png'))
    assert [path.name for path in paths] == ['000.png', '002.png']
    assert all(str(path) in text for path in paths)
    with Image.open(paths[0]) as opened:
        picture = np.asarray(opened)
    assert picture.shape == (1000, 1280, 3)
    colours = picture.astype(np.uint32) @ [65536, 256, 1]
    assert len(np.unique(colours)) > 1000


@pytest.mark.slow
def test_a_second_run_empties_its_own_folder_only(demo, tmp_path, capsys):
    (tmp_path / 'thesis.tex').touch()
    model = str(demo[0].parent / 'model')
    assert main(['demo', '--out', str(tmp_path), '--model', model]) == 2
    assert 'other files' in capsys.readouterr().err
    assert (tmp_path / 'thesis.tex').exists()


def processes_naming(text: str) -> list[str]:
    found = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode(errors='replace').replace('\0', ' ')
            found += [words] if text in words and path.parent.name != str(os.getpid()) else []
    return found


@pytest.mark.slow
def test_a_broken_model_ends_the_demo_with_the_log_of_the_node(tmp_path):
    words = demo_words(tmp_path)
    with (tmp_path / 'model/model.onnx').open('ab') as stream:
        stream.write(b'tampered')
    done = subprocess.run(
        words, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert 'cigocc demo: occ_node ended with 1' in done.stderr and 'model.onnx' in done.stderr
    assert processes_naming(str(tmp_path / 'out')) == []


@pytest.mark.slow
def test_sigterm_leaves_no_process_behind(tmp_path):
    output = tmp_path / 'output.txt'
    with output.open('w') as stream:
        child = subprocess.Popen(
            demo_words(tmp_path), cwd=REPOSITORY, stdout=stream, start_new_session=True
        )
    wait_for_line(output, 'measuring the pace', child)
    assert processes_naming(str(tmp_path / 'out'))
    child.terminate()
    assert child.wait(20) == 130
    assert processes_naming(str(tmp_path / 'out')) == []


def test_bad_requests_end_before_anything_starts(tmp_path, capsys):
    out = ['--out', str(tmp_path / 'out')]
    assert main(['demo', '--model', 'nothing', *out]) == 2
    assert 'nothing' in capsys.readouterr().err
    model = str(build_tiny_model_dir(tmp_path / 'model'))
    assert main(['demo', '--model', model, '--sequence', str(tmp_path / 'no'), *out]) == 2
    assert str(tmp_path / 'no') in capsys.readouterr().err
