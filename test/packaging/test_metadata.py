"""What the package says about itself is the same everywhere, and nothing is left behind."""

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from cigocc_ros import __version__
from cigocc_ros.commands.main import EXTRA_OF_LIBRARY, VERBS, install_hint

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE_XML = ElementTree.parse(REPOSITORY / 'package.xml').getroot()
DISTRIBUTION_OF = {
    'PIL': 'pillow',
    'ai_edge_litert': 'ai-edge-litert',
    'cv2': 'opencv-python-headless',
    'rclpy': 'ros-jazzy-rclpy',
}


def distribution(requirement):
    return re.match(r'[\w.-]+', requirement).group().lower()


def test_one_version(setup_arguments):
    assert re.fullmatch(r'\d+\.\d+\.\d+', __version__)
    assert PACKAGE_XML.findtext('version') == __version__
    assert setup_arguments['version'] == __version__
    assert re.search(
        rf'^{re.escape(__version__)} \(', (REPOSITORY / 'CHANGELOG.rst').read_text(), re.M
    )


def test_package_xml_is_what_colcon_and_rosdep_need(setup_arguments):
    """A malformed maintainer e-mail makes colcon drop the ament hooks without a word."""
    maintainer = PACKAGE_XML.find('maintainer')
    assert re.fullmatch(r'[\w.+-]+@[\w-]+(\.[\w-]+)+', maintainer.get('email'))
    assert setup_arguments['maintainer_email'] == maintainer.get('email')
    assert PACKAGE_XML.get('format') == '3'
    assert PACKAGE_XML.findtext('export/build_type') == 'ament_python'
    assert PACKAGE_XML.findtext('license') == setup_arguments['license'] == 'Apache-2.0'
    assert 'Apache License' in (REPOSITORY / 'LICENSE').read_text()


def test_package_xml_is_valid():
    package = pytest.importorskip('catkin_pkg.package')
    warnings = []
    parsed = package.parse_package(str(REPOSITORY / 'package.xml'), warnings=warnings)
    parsed.validate(warnings=warnings)
    assert not warnings


def ros_imports():
    """Return the message packages and ROS libraries that the package imports."""
    found = set()
    for path in (REPOSITORY / 'cigocc_ros').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition('.')[0])
            elif isinstance(node, ast.Import):
                found |= {alias.name.partition('.')[0] for alias in node.names}
    return {
        name
        for name in found
        if name.endswith(('_msgs', '_srvs', '_interfaces'))
        or name in ('rclpy', 'cv_bridge', 'ament_index_python', 'sensor_msgs_py', 'tf2_ros')
    }


def test_every_ros_import_is_declared():
    declared = {entry.text for entry in PACKAGE_XML.findall('exec_depend')}
    assert ros_imports() - {'foxglove_msgs'} <= declared  # which is optional


def test_ros_wheels_are_in_their_extras_only(setup_arguments):
    extras = setup_arguments['extras_require']
    for name, requirements in extras.items():
        if name not in ('ros-jazzy', 'ros-kilted', 'all'):
            assert not [entry for entry in requirements if entry.startswith('ros-')], name
    for name in ('ros-jazzy', 'ros-kilted'):
        assert extras[name] and all(entry.startswith(f'{name}-') for entry in extras[name])
    assert not [entry for entry in extras['all'] if entry.startswith('ros-kilted')]
    assert {distribution(entry) for entry in setup_arguments['install_requires']} == {
        'numpy',
        'pyyaml',
    }


def test_extra_all_is_their_sum(setup_arguments):
    extras = setup_arguments['extras_require']
    apart = ('all', 'ros-kilted')  # Kilted cannot share an environment with Jazzy
    assert set(extras['all']) == {
        r for name, rs in extras.items() if name not in apart for r in rs
    }
    assert any(entry.startswith('pytest<9') for entry in extras['test'])


def test_the_makefile_names_known_extras(setup_arguments):
    text = (REPOSITORY / 'Makefile').read_text()
    named = re.search(r'^DEMO_EXTRAS := (\S+)$', text, re.M).group(1).split(',')
    assert set(named) <= set(setup_arguments['extras_require'])
    assert 'train' not in named
    kilted = re.search(r'^KILTED_EXTRAS := (\S+)$', text, re.M).group(1).split(',')
    assert set(kilted) <= set(setup_arguments['extras_require'])
    assert 'ros-kilted' in kilted and 'ros-jazzy' not in kilted


@pytest.mark.parametrize('name', ['KILTED_TESTS', 'NETWORK_TESTS'])
def test_the_tests_that_the_makefile_names_exist(name):
    text = (REPOSITORY / 'Makefile').read_text().replace('\\\n', ' ')
    named = re.search(rf'^{name} := (.*)$', text, re.M).group(1).split()
    assert len(named) > 4
    assert not [path for path in named if not (REPOSITORY / path).exists()]


def test_install_hints_name_the_extra_that_brings_the_library(setup_arguments):
    extras = setup_arguments['extras_require']
    for library, extra in EXTRA_OF_LIBRARY.items():
        wanted = DISTRIBUTION_OF.get(library, library)
        assert wanted in {distribution(entry) for entry in extras[extra]}, library


def test_a_missing_library_becomes_an_install_line():
    assert "'.[train]'" in install_hint(ModuleNotFoundError('no', name='torch.nn'))
    assert install_hint(ModuleNotFoundError('no', name='cigocc_ros.nowhere')) is None


def test_every_verb_keeps_the_contract():
    from cigocc_ros.commands.main import verb_module

    files = {path.stem for path in (REPOSITORY / 'cigocc_ros' / 'commands').glob('*.py')}
    assert files - {'__init__', 'arguments', 'main'} == {verb.replace('-', '_') for verb in VERBS}
    for verb in VERBS:
        module = verb_module(verb)
        assert module.HELP and callable(module.add_arguments) and callable(module.run)


def test_every_shared_file_is_installed(setup_arguments):
    installed = {path for _, paths in setup_arguments['data_files'] for path in paths}
    for folder in ('launch', 'config', 'scripts', 'resource'):
        for path in (REPOSITORY / folder).rglob('*'):
            if path.is_file() and '__pycache__' not in path.parts:
                assert path.relative_to(REPOSITORY).as_posix() in installed
    for place, paths in setup_arguments['data_files']:
        for path in paths:
            if place.startswith('share/cigocc_ros/'):
                assert place == f'share/cigocc_ros/{Path(path).parent.as_posix()}'


def test_shipped_models_are_installed_whole(setup_arguments):
    installed = {path for _, paths in setup_arguments['data_files'] for path in paths}
    for manifest in (REPOSITORY / 'models').glob('*/manifest.yaml'):
        files = {p for p in manifest.parent.iterdir() if '.engine' not in p.name}
        assert {p.relative_to(REPOSITORY).as_posix() for p in files} <= installed


def test_scripts_are_executable():
    for script in (REPOSITORY / 'scripts').iterdir():
        if script.is_dir() or script.suffix:  # what they import
            continue
        assert script.stat().st_mode & 0o111, script.name
        assert script.read_text().startswith('#!/usr/bin/env python3\n')


def test_every_subpackage_is_packaged(setup_arguments):
    folders = {p.parent for p in (REPOSITORY / 'cigocc_ros').rglob('*.py')}
    wanted = {folder.relative_to(REPOSITORY).as_posix().replace('/', '.') for folder in folders}
    assert set(setup_arguments['packages']) == wanted


def test_the_readme_starts_with_the_two_commands():
    first_screen = (REPOSITORY / 'README.md').read_text().splitlines()[:24]
    for line in ('make demo', 'make test', 'ros2 launch cigocc_ros occ.launch.py'):
        assert any(text.startswith(line) for text in first_screen), line
