"""package.xml: what we launch and import is declared, resolves everywhere; RViz is a choice."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from fixtures_rosdep import UBUNTU_OF, declared, installed_in_documents, read_table, resolves

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE_XML = ElementTree.parse(REPOSITORY / 'package.xml').getroot()
SUPPORTED = set(UBUNTU_OF)
HEADLESS = {'CIGOCC_HEADLESS': '1'}


def launched_packages() -> set[str]:
    """Return every `package=` of a Node in the launch files."""
    found = set()
    for path in (REPOSITORY / 'launch').glob('*.py'):
        tree = ast.parse(path.read_text())
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for keyword in (node for node in ast.walk(tree) if isinstance(node, ast.keyword)):
            if keyword.arg == 'package':
                value = keyword.value
                name = constants[value.id] if isinstance(value, ast.Name) else value.value
                found.add(name)
    return found


def needed(environment: dict[str, str]) -> set[str]:
    """Return what rosdep installs in that environment, as rosdep asks catkin_pkg."""
    package = pytest.importorskip('catkin_pkg.package')
    parsed = package.parse_package(str(REPOSITORY / 'package.xml'))
    parsed.evaluate_conditions(environment)
    return {entry.name for entry in parsed.exec_depends if entry.evaluated_condition}


def test_what_is_launched_is_declared():
    packages = launched_packages()
    assert {'rviz2', 'tf2_ros'} <= packages
    assert packages - {'cigocc_ros'} <= declared()


def test_classes_of_the_rviz_config_are_declared():
    text = (REPOSITORY / 'config' / 'occ.rviz').read_text()
    classes = {line.partition('Class: ')[2] for line in text.splitlines() if 'Class: ' in line}
    plugins = {name.partition('/')[0] for name in classes if '/' in name}
    assert plugins - {'rviz_common'} <= declared()  # rviz2 is made of rviz_common


def test_every_key_resolves_on_every_distribution():
    """The table is made from ros/rosdistro by test/fixtures_rosdep.py."""
    table = read_table()
    unknown = declared() - set(table)
    assert not unknown, f'run test/fixtures_rosdep.py: {sorted(unknown)} are not in the table'
    missing = {key: SUPPORTED - table[key] for key in declared() if SUPPORTED - table[key]}
    assert not missing


def test_packages_that_documents_install_exist_where_the_package_runs():
    names, table = installed_in_documents(), read_table()
    assert names <= set(table), 'run test/fixtures_rosdep.py'
    assert not [name for name in names if not {'humble', 'jazzy'} <= table[name]]


def test_a_vehicle_without_screen_gets_no_rviz():
    every, headless = needed({}), needed(HEADLESS)
    assert every - headless == {'rviz2', 'rviz_default_plugins'}
    assert needed({'CIGOCC_HEADLESS': '0'}) == every
    assert {'rclpy', 'tf2_ros', 'launch_ros'} <= headless


def test_rosdep_calls_no_pip():
    """A pip rule brings numpy 2 over apt's on jammy, and is refused from noble on (PEP 668)."""
    assert not [key for key in declared() if key.endswith('-pip')]


@pytest.mark.parametrize(
    ('rules', 'codename', 'there'),
    [
        ({'ubuntu': ['python3-numpy']}, 'jammy', True),
        ({'ubuntu': {'*': ['a'], 'jammy': None}}, 'jammy', False),
        ({'ubuntu': {'*': ['a'], 'jammy': None}}, 'noble', True),
        ({'ubuntu': {'noble': ['a']}}, 'resolute', False),
        ({'ubuntu': {'pip': {'packages': ['onnxruntime']}}}, 'jammy', True),
        ({'debian': ['a']}, 'jammy', False),
        (None, 'noble', False),
    ],
)
def test_rules_of_system_keys_are_read_as_rosdep_does(rules, codename, there):
    assert resolves(rules, codename) is there
