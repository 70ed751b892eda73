"""docs/faults.md names tests that exist, and every test of a fault stands in it."""

import ast
import re

import pytest
from fixtures_docs import REPOSITORY

TESTS = REPOSITORY / 'test'
PAGE = (REPOSITORY / 'docs' / 'faults.md').read_text(encoding='utf-8')
REFERENCE = re.compile(r'`([\w/]+\.py)::(test_\w+)`')
HEADS = '| fault | published | diagnostics | next good frame | test |'


def names_in(path) -> set[str]:
    tree = ast.parse(path.read_text(encoding='utf-8'))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def rows() -> list[str]:
    lines = [line for line in PAGE.splitlines() if line.startswith('| ')]
    return [line for line in lines if line != HEADS]


@pytest.mark.parametrize('row', rows(), ids=lambda row: row.split('|')[1].strip())
def test_a_row_names_tests_that_exist(row):
    cells = [cell.strip() for cell in row.strip('|').split('|')]
    assert len(cells) == 5 and all(cells), row
    found = REFERENCE.findall(cells[4])
    assert found, f'no test in: {row}'
    for path, name in found:
        assert name in names_in(TESTS / path), f'{path} has no {name}'


def test_every_test_of_a_fault_stands_in_the_table():
    named = set(REFERENCE.findall(PAGE))
    files = [path for path in sorted(TESTS.glob('ros/test_fault_*.py')) if path.name != THIS]
    there = {
        (path.relative_to(TESTS).as_posix(), name)
        for path in files
        for name in names_in(path)
        if name.startswith('test_')
    }
    assert files and there - named == set()


THIS = 'test_fault_table.py'


@pytest.mark.parametrize(
    'fault',
    [
        'dies', 'stalls', 'out of order', 'duplicated', 'zero', 'future', 'jumps back', 'late',
        'changes size', 'changes K', 'never comes', 'absent', 'changing', 'unknown encoding',
        'truncated', 'NaN', 'right image missing', 'another size', 'raises', 'deadline',
        'disk full', 'two builders', 'SIGINT', 'SIGTERM', 'start-up', 'built', 'worked on',
        'shuts down', 'kill -9', 'slower than the node', '60 Hz', 'namespace', 'two nodes',
    ],
)  # fmt: skip
def test_no_fault_was_forgotten(fault):
    assert any(fault in row.split('|')[1] for row in rows())
