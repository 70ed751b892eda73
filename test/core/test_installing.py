"""Lines that install something leave apt's numpy and OpenCV as they are."""

import importlib.metadata
import re
from pathlib import Path

import pytest

from cigocc_ros.commands.main import EXTRA_OF_LIBRARY
from cigocc_ros.core import installing
from cigocc_ros.core.installing import beside_system_ros, install_line, pip_line


@pytest.fixture
def system_ros(monkeypatch):
    monkeypatch.setenv('AMENT_PREFIX_PATH', '/home/me/ws/install/cigocc_ros:/opt/ros/humble')


@pytest.fixture
def no_ros(monkeypatch):
    monkeypatch.setenv('AMENT_PREFIX_PATH', '/home/me/.venv')


@pytest.mark.parametrize(
    ('path', 'beside'),
    [
        ('/opt/ros/jazzy', True),
        ('/ws/install/a:/opt/ros/jazzy', True),
        ('/home/me/.venv', False),
        ('', False),
    ],
)
def test_a_system_ros_is_known_by_its_prefix(path, beside):
    assert beside_system_ros({'AMENT_PREFIX_PATH': path}) is beside
    assert not beside_system_ros({})


@pytest.mark.parametrize(
    ('version', 'limit'), [('1.21.5', '<2'), ('1.26.4', '<2'), ('2.3.5', '<3')]
)
def test_numpy_keeps_its_major_version(version, limit):
    line = pip_line('onnxruntime', numpy_version=version)
    assert line == f"pip install 'numpy{limit}' onnxruntime"


def test_without_a_system_ros_an_extra_brings_it(no_ros):
    assert install_line('rosbags', 'bag') == "pip install '.[bag]'"


@pytest.mark.parametrize('library', sorted(set(EXTRA_OF_LIBRARY) - {'rclpy'}))
def test_beside_a_system_ros_no_line_brings_a_second_copy_or_another_numpy(system_ros, library):
    line = install_line(library, EXTRA_OF_LIBRARY[library])
    assert '.[' not in line and 'opencv-python' not in line
    assert "'numpy<" in line or line == 'sudo apt install python3-opencv'


@pytest.mark.parametrize('library', sorted(set(EXTRA_OF_LIBRARY) - {'rclpy', 'cv2'}))
def test_the_name_on_pypi_is_that_of_the_library(system_ros, library):
    """By what is installed here: the distribution that has the module."""
    name = install_line(library, EXTRA_OF_LIBRARY[library]).split()[-1]
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f'{name} is not installed')
    assert any(re.match(rf'{library}(/|\.|_)', str(file)) for file in files)


def test_no_other_message_brings_another_numpy():
    """Libraries that bring numpy are installed by these lines alone, whoever says it."""
    package = Path(installing.__file__).resolve().parents[1]
    loose = re.compile(r'pip install (onnxruntime|openvino|rosbags|embreex|numpy|opencv)')
    found = {
        path.name
        for path in package.rglob('*.py')
        if loose.search(path.read_text(encoding='utf-8'))
    }
    assert found <= {
        'opencv.py',  # says: else, where no system ROS is
        'recorded_bag.py',  # rosbags-convert for bags of ROS 1, on any machine
    }
