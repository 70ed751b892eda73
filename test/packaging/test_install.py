"""pip, colcon and colcon --symlink-install put everything where ros2 run and ros2 launch look."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = (
    'LICENSE',
    'README.md',
    'cigocc_ros',
    'config',
    'launch',
    'models',
    'package.xml',
    'pyproject.toml',
    'resource',
    'scripts',
    'setup.cfg',
    'setup.py',
)
SITE_PACKAGES = Path(sysconfig.get_path('purelib'))
TIMEOUT_S = 240

# Not find_spec: looking for pip makes setuptools refuse to be imported in this process.
DISTRIBUTIONS = {each.metadata['Name'] for each in importlib.metadata.distributions()}
needs_build_tools = pytest.mark.skipif(
    not {'setuptools', 'pip'} <= DISTRIBUTIONS,
    reason='pip and setuptools are not installed',
)
needs_colcon = pytest.mark.skipif(
    importlib.util.find_spec('colcon_ros') is None, reason='colcon is not installed'
)
pytestmark = [pytest.mark.slow, needs_build_tools]


@dataclass(frozen=True)
class Installation:
    """An installed copy: its prefix, its Python, and the environment that finds it."""

    prefix: Path
    python: str
    environment: dict[str, str]

    def run(self, *words: str, folder: Path, code: int = 0) -> str:
        """Run a command away from the sources; return its output."""
        done = subprocess.run(
            words,
            cwd=folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


def build(words: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def clean_environment() -> dict[str, str]:
    """Return the environment without what would find the source tree or another prefix."""
    drop = {'PYTHONPATH', 'AMENT_PREFIX_PATH', 'COLCON_PREFIX_PATH', 'VIRTUAL_ENV'}
    kept = {name: value for name, value in os.environ.items() if name not in drop}
    return kept | {'PATH': f'{Path(sys.executable).parent}{os.pathsep}{kept["PATH"]}'}


def copy_sources(target: Path) -> Path:
    target.mkdir(parents=True)
    for name in SOURCES:
        source = REPOSITORY / name
        if source.is_dir():
            ignore = shutil.ignore_patterns('__pycache__', '*.egg-info', '*.engine')
            shutil.copytree(source, target / name, ignore=ignore)
        else:
            shutil.copy2(source, target)
    return target


def pip_installation(tmp: Path) -> Installation:
    """Install into a new venv that sees this one's libraries, to download nothing."""
    source = copy_sources(tmp / 'source')
    venv = tmp / 'venv'
    build([sys.executable, '-m', 'venv', '--without-pip', str(venv)], tmp, clean_environment())
    python = venv / 'bin' / 'python'
    version = f'python{sys.version_info.major}.{sys.version_info.minor}'
    borrowed = venv / 'lib' / version / 'site-packages' / 'borrowed.pth'
    borrowed.write_text(f'{SITE_PACKAGES}\n')
    # LD_LIBRARY_PATH of the ROS wheels stays: the borrowed libraries need it.
    environment = clean_environment()
    environment['PATH'] = f'{venv / "bin"}{os.pathsep}{environment["PATH"]}'
    options = ['--no-deps', '--no-build-isolation', '--quiet', '--ignore-installed']
    build([str(python), '-m', 'pip', 'install', *options, str(source)], tmp, environment)
    return Installation(venv, str(python), environment | {'AMENT_PREFIX_PATH': str(venv)})


def colcon_installation(tmp: Path, *options: str) -> Installation:
    """Build a workspace and source it."""
    copy_sources(tmp / 'ws' / 'src' / 'cigocc_ros')
    workspace = tmp / 'ws'
    environment = clean_environment() | {'COLCON_HOME': str(tmp / 'colcon')}
    command = [sys.executable, '-m', 'colcon', '--log-base', 'log', 'build', *options]
    build(command, workspace, environment)
    sourced = subprocess.run(
        ['bash', '-c', '. install/local_setup.bash && env -0'],
        cwd=workspace,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    ).stdout
    variables = dict(line.split('=', 1) for line in sourced.split('\0') if '=' in line)
    return Installation(workspace / 'install' / 'cigocc_ros', sys.executable, variables)


KINDS = {
    'pip': pip_installation,
    'colcon': colcon_installation,
    'colcon-symlink': lambda tmp: colcon_installation(tmp, '--symlink-install'),
}


@pytest.fixture(
    scope='module',
    params=[
        'pip',
        pytest.param('colcon', marks=needs_colcon),
        pytest.param('colcon-symlink', marks=needs_colcon),
    ],
)
def installed(request, tmp_path_factory) -> Installation:
    return KINDS[request.param](tmp_path_factory.mktemp(request.param))


def expected_share() -> set[str]:
    """Return what must be in share/cigocc_ros: every file of the three folders but notes."""
    wanted = {'package.xml'}
    for folder in ('launch', 'config', 'models'):
        for path in (REPOSITORY / folder).rglob('*'):
            built = '__pycache__' in path.parts or '.engine' in path.name
            if path.is_file() and not built:
                wanted.add(path.relative_to(REPOSITORY).as_posix())
    return wanted


def test_share_holds_launch_files_configs_and_models(installed):
    share = installed.prefix / 'share' / 'cigocc_ros'
    found = {path.relative_to(share).as_posix() for path in share.rglob('*') if path.is_file()}
    missing = expected_share() - found
    assert not missing


def test_executables_are_in_lib(installed):
    library = installed.prefix / 'lib' / 'cigocc_ros'
    for script in (REPOSITORY / 'scripts').iterdir():
        if script.is_file():
            wanted = os.access(script, os.X_OK)
            assert os.access(library / script.name, os.X_OK) == wanted, script.name
            assert (library / script.name).is_file()


def test_the_command_is_on_the_path(installed, tmp_path):
    """After `. install/setup.bash` as after `pip install`."""
    found = shutil.which('cigocc', path=installed.environment['PATH'])
    assert found == str(installed.prefix / 'bin' / 'cigocc')
    assert 'cigocc 0.' in installed.run('cigocc', '--version', folder=tmp_path)


def test_the_ament_index_knows_the_package(installed, tmp_path):
    pytest.importorskip('ament_index_python')
    code = (
        'from ament_index_python.packages import get_package_prefix, get_package_share_directory\n'
        "print(get_package_prefix('cigocc_ros'), get_package_share_directory('cigocc_ros'))"
    )
    output = installed.run(installed.python, '-c', code, folder=tmp_path)
    assert output.split() == [
        str(installed.prefix),
        str(installed.prefix / 'share' / 'cigocc_ros'),
    ]


def test_the_installed_package_finds_its_share(installed, tmp_path):
    code = (
        'import cigocc_ros, pathlib\n'
        'from cigocc_ros.core import installed\n'
        'print(pathlib.Path(cigocc_ros.__file__).parent)\n'
        'print(installed.share_dir())\n'
        "assert (installed.config_dir() / 'model' / 'tiny.yaml').is_file()"
    )
    package, found = installed.run(installed.python, '-c', code, folder=tmp_path).split()
    assert REPOSITORY not in Path(package).parents
    assert REPOSITORY not in [Path(found), *Path(found).parents]


def test_the_command_line_starts(installed, tmp_path):
    programs = [installed.prefix / place / 'cigocc' for place in ('bin', 'lib/cigocc_ros')]
    program = next(path for path in programs if path.is_file())
    assert 'cigocc 0.' in installed.run(str(program), '--version', folder=tmp_path)


def test_the_node_starts_from_lib(installed, tmp_path):
    pytest.importorskip('rclpy')
    program = installed.prefix / 'lib' / 'cigocc_ros' / 'occ_node'
    words = ('--ros-args', '-p', 'model:=/nowhere/at/all')
    output = installed.run(str(program), *words, folder=tmp_path, code=1)
    assert '/nowhere/at/all' in output and 'Traceback' not in output


def test_the_node_finds_the_python_that_it_was_installed_for(installed, tmp_path):
    """In a shell that did not activate the environment: the first python3 has no libraries."""
    pytest.importorskip('rclpy')
    other = tmp_path / 'other'
    build(
        [sys.executable, '-m', 'venv', '--without-pip', str(other)], tmp_path, clean_environment()
    )
    program = installed.prefix / 'lib' / 'cigocc_ros' / 'occ_node'
    path = f'{other / "bin"}{os.pathsep}{installed.environment["PATH"]}'
    words = ['env', f'PATH={path}', str(program), '--ros-args', '-p', 'model:=/nowhere/at/all']
    output = installed.run(*words, folder=tmp_path, code=1)
    assert '/nowhere/at/all' in output and 'Traceback' not in output
