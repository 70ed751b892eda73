"""What cannot run here is checked by those who read it: schemas, linters, and our own facts.

Schemas: check-jsonschema ships that of GitHub workflows. Linters: zizmor, hadolint, ShellCheck.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml
from fixtures_rosdep import UBUNTU_OF

from cigocc_ros.doctor.installation import DISTROS

REPOSITORY = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((REPOSITORY / '.github' / 'workflows').glob('*.yml'))
DOCKERFILE = REPOSITORY / 'docker' / 'Dockerfile'
SCRIPTS = ('docker/python_packages', 'docker/entrypoint', 'docker/replay', '.ci/run')
PIP_ROW = re.compile(r'^\| (\w+) \|(?:[^|]*\|){3} `pip install ([^`]*)`', re.M)


def program(name: str) -> str:
    """Return a linter of this environment or of the system; skip where there is none."""
    found = shutil.which(name, path=sysconfig.get_path('scripts')) or shutil.which(name)
    if found is None:
        pytest.skip(f'{name} is not installed')
    return found


def complaints(*command: str | Path) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=REPOSITORY
    )
    return '' if done.returncode == 0 else done.stdout + done.stderr or 'failed'


def schema_complaints(*paths: Path) -> str:
    pytest.importorskip('check_jsonschema')
    schema = ('--builtin-schema', 'vendor.github-workflows')
    return complaints(sys.executable, '-m', 'check_jsonschema', *schema, *paths)


def test_workflows_are_what_github_reads():
    assert len(WORKFLOWS) == 2
    assert not schema_complaints(*WORKFLOWS)


def test_a_wrong_workflow_is_found(tmp_path):
    wrong = tmp_path / 'wrong.yml'
    text = WORKFLOWS[0].read_text()
    wrong.write_text(text.replace('runs-on:', 'run-on:'))
    assert schema_complaints(wrong)


def test_workflows_give_no_more_rights_than_they_need():
    words = ('--offline', '--no-progress', '--config', '.github/zizmor.yml', '.github/workflows')
    assert not complaints(program('zizmor'), *words)


def test_the_dockerfile_passes_hadolint():
    assert not complaints(program('hadolint'), DOCKERFILE)


def test_a_wrong_dockerfile_is_found(tmp_path):
    wrong = tmp_path / 'Dockerfile'
    wrong.write_text('FROM ros:jazzy\nRUN apt-get install curl\nCOPPY . .\n')
    assert complaints(program('hadolint'), wrong)


@pytest.mark.parametrize('path', SCRIPTS)
def test_scripts_pass_shellcheck(path):
    assert not complaints(program('shellcheck'), REPOSITORY / path)
    assert (REPOSITORY / path).stat().st_mode & 0o111


@pytest.mark.parametrize('ros', UBUNTU_OF)
def test_containers_install_by_the_lines_of_the_page(ros):
    """Rolling is like the newest distribution of the page."""
    page = (REPOSITORY / 'docs' / 'install.md').read_text()
    lines = {name.lower(): words.replace("'", '') for name, words in PIP_ROW.findall(page)}
    assert set(lines) == set(DISTROS)
    script = REPOSITORY / 'docker' / 'python_packages'
    given = subprocess.run([script, ros], capture_output=True, text=True, check=True).stdout
    assert given.strip() == lines.get(ros, lines['lyrical'])


def test_every_distribution_is_built_and_tested():
    (jobs,) = (
        yaml.safe_load(path.read_text())['jobs'] for path in WORKFLOWS if path.stem == 'ros'
    )
    assert set(jobs['colcon']['strategy']['matrix']['ros']) == set(UBUNTU_OF) >= set(DISTROS)
    assert jobs['colcon']['container'] == 'ros:${{ matrix.ros }}-ros-base'
    commands = ' '.join(step.get('run', '') for step in jobs['colcon']['steps'])
    for words in ('rosdep install', 'colcon build', 'colcon test', 'docker/replay'):
        assert words in commands, words


def test_files_that_workflows_and_image_name_exist():
    texts = [path.read_text() for path in (*WORKFLOWS, DOCKERFILE)]
    named = {
        path
        for text in texts
        for path in re.findall(r'(?<![\w/$])(?:src/cigocc_ros/)?((?:docker|test|\.ci)/\w+)', text)
    }
    assert {'docker/replay', 'docker/Dockerfile', '.ci/run', 'test/ros'} <= named
    assert not [path for path in named if not (REPOSITORY / path).exists()]


def test_the_image_gets_all_that_is_installed():
    """What docker/Dockerfile.dockerignore leaves out is in no data_files and no package."""
    ignored = {
        line.strip('/')
        for line in (REPOSITORY / 'docker' / 'Dockerfile.dockerignore').read_text().splitlines()
        if line and not line.startswith('#')
    }
    needed = {'cigocc_ros', 'config', 'launch', 'models', 'resource', 'scripts', 'docker'}
    assert not ignored & (needed | {'setup.py', 'setup.cfg', 'package.xml', 'pyproject.toml'})
    assert {'.git', '.venv', 'test'} <= ignored


def test_the_page_says_that_it_has_not_run():
    page = (REPOSITORY / 'docs' / 'docker.md').read_text()
    assert 'have run.**' in page.split('##')[0]
    for argument in re.findall(r'^ARG (\w+)=', DOCKERFILE.read_text(), re.M):
        assert f'`{argument}`' in page or argument == 'ROS_APT_SOURCE', argument
