"""The pip lines of docs/install.md, resolved for the Python and numpy of each distribution.

pip is asked on this machine for another Python (`--python-version`), with apt's numpy as a
constraint: where a solution with exactly that numpy exists, pip leaves it in place. Versions of
Ubuntu: packages.ubuntu.com, python3-numpy and python3-opencv of jammy, noble. Needs a registry.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / 'docs' / 'install.md'
TABLE = re.compile(r'<!-- lines for pip: .* -->\n(.*?)<!-- end -->', re.S)
GLIBC = ('2_35', '2_34', '2_31', '2_28', '2_27', '2_24', '2_17', '2_12', '2_5')
PLATFORMS = [f'manylinux_{version}_x86_64' for version in GLIBC] + ['manylinux2014_x86_64']
UNREACHABLE = (
    'ConnectionError',
    'NewConnectionError',
    'ReadTimeout',
    'Temporary failure',
    'retry',
)
NEEDED = {'humble': 'numpy>=1.21.6,<2', 'jazzy': 'numpy==1.26.4', 'kilted': 'numpy==1.26.4'}
NEEDED['lyrical'] = 'numpy>=2.2,<2.4'
OPENCV = re.compile(r'opencv[-_]')
COLUMNS = ('node', 'bags', 'openvino')
EXTRAS_OF_COLUMN = {'bags': ('bag', 'synthetic', 'render'), 'openvino': ('openvino',)}


@dataclass(frozen=True)
class Row:
    """One distribution of the table."""

    ros: str
    python: str
    numpy: str
    lines: dict[str, str]


def rows() -> list[Row]:
    (table,) = TABLE.findall(PAGE.read_text(encoding='utf-8'))
    cells = [[c.strip() for c in line.strip('|').split('|')] for line in table.splitlines()[2:]]
    return [
        Row(ros.lower(), python, apt.partition(',')[0], dict(zip(COLUMNS, lines, strict=True)))
        for ros, _, python, apt, *lines in cells
    ]


ROWS = rows()


def words(cell: str) -> list[str]:
    """Return the requirements of a cell: `pip install a b`."""
    pip, install, *requirements = shlex.split(cell.strip('`'))
    assert (pip, install) == ('pip', 'install')
    return requirements


def resolve(
    python: str, requirements: list[str], constraint: str, folder: Path
) -> dict[str, str] | None:
    """Return what pip would install, name -> version; None where nothing fits."""
    report, limits = folder / 'report.json', folder / 'constraints.txt'
    limits.write_text(f'{constraint}\n')
    command = [sys.executable, '-m', 'pip', 'install', '--dry-run', '--quiet', '--no-input']
    command += ['--retries', '1', '--timeout', '20', '--only-binary', ':all:']
    command += ['--target', str(folder / 'target'), '--python-version', python]
    command += [word for name in PLATFORMS for word in ('--platform', name)]
    command += ['--report', str(report), '--constraint', str(limits), *requirements]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode == 0:
        found = json.loads(report.read_text())['install']
        return {each['metadata']['name'].lower(): each['metadata']['version'] for each in found}
    if any(word in done.stderr for word in UNREACHABLE):
        pytest.skip(f'no registry to ask: {done.stderr[-200:]}')
    assert 'conflict' in done.stderr.lower() or 'No matching distribution' in done.stderr
    return None


@pytest.fixture(scope='module', autouse=True)
def pip() -> None:
    if 'pip' not in {each.metadata['Name'] for each in importlib.metadata.distributions()}:
        pytest.skip('pip is not installed')


@pytest.fixture(scope='module')
def resolved() -> dict[tuple[str, ...], dict[str, str] | None]:
    """What was asked before, for the registry takes seconds."""
    return {}


def test_the_table_has_every_distribution():
    assert {row.ros for row in ROWS} == set(NEEDED)
    for row in ROWS:
        assert set(row.lines) == {'node', *EXTRAS_OF_COLUMN}


@pytest.mark.slow
@pytest.mark.parametrize('column', COLUMNS)
@pytest.mark.parametrize('row', ROWS, ids=lambda row: row.ros)
def test_a_line_keeps_what_apt_installed(row, column, tmp_path, resolved):
    question = row.python, row.lines[column], NEEDED[row.ros]  # Kilted's are Jazzy's
    if question not in resolved:
        resolved[question] = resolve(row.python, words(row.lines[column]), question[2], tmp_path)
    found = resolved[question]
    assert found is not None, f'{row.lines[column]} does not go with {NEEDED[row.ros]}'
    assert not [name for name in found if OPENCV.match(name) or name == 'cigocc-ros']
    major = found['numpy'].partition('.')[0]
    assert major == row.numpy.partition('.')[0]
    if row.ros in ('jazzy', 'kilted'):
        assert found['numpy'] == row.numpy


@pytest.mark.slow
def test_what_the_page_warns_of_is_so(tmp_path):
    """ONNX Runtime alone does not go with jammy's numpy 1.21.5, and brings numpy 2."""
    assert resolve('3.10', ['onnxruntime'], 'numpy<1.21.6', tmp_path) is None
    found = resolve('3.10', ['onnxruntime'], 'numpy', tmp_path)
    assert found is not None and found['numpy'].startswith('2.')


def test_the_columns_have_the_libraries_of_the_extras(setup_arguments):
    extras = setup_arguments['extras_require']
    for row in ROWS:
        for column, names in EXTRAS_OF_COLUMN.items():
            wanted = {re.match(r'[\w-]+', entry)[0] for name in names for entry in extras[name]}
            given = {re.match(r'[\w-]+', word)[0] for word in words(row.lines[column])}
            assert given - {'numpy'} == wanted


def test_extras_beside_a_system_ros_leave_opencv_alone(setup_arguments):
    """Whatever is used next to apt's ROS must not bring another OpenCV, nor numpy with it."""
    extras = setup_arguments['extras_require']
    with_opencv = {name for name, entries in extras.items() if any(map(OPENCV.match, entries))}
    assert with_opencv == {'all', 'runtime', 'teacher', 'train'}
