"""`make test` checks the types of every module strictly; none is skipped or let off."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SETTINGS = (REPOSITORY / 'pyproject.toml').read_text()
MYPY = SETTINGS[SETTINGS.index('[tool.mypy]') : SETTINGS.index('[tool.pytest')]
CHECKED = ('cigocc_ros', 'benchmark', 'fuzz')


def test_every_folder_with_modules_is_checked():
    found = {path.parent.name for path in REPOSITORY.glob('*/*.py') if path.parent.name[0] != '.'}
    without = {'launch', 'test', 'scripts', 'build', 'install'}  # files and tests, no modules
    assert found - without == set(CHECKED)
    (packages,) = re.findall(r'^packages = \[(.*)\]', MYPY, re.MULTILINE)
    assert set(re.findall(r'"(\w+)"', packages)) == set(CHECKED)
    assert 'strict = true' in MYPY


def test_no_module_of_ours_is_skipped():
    skipped = re.findall(r'"([\w.]+)\.\*"', MYPY)
    assert 'rclpy' in skipped and 'torch' not in skipped
    assert not [name for name in skipped if name.partition('.')[0] in CHECKED]
    marked = [
        path
        for folder in CHECKED
        for path in (REPOSITORY / folder).rglob('*.py')
        if re.search(r'# mypy: ignore-errors|# type: ignore(?!\[)', path.read_text())
    ]
    assert not marked
