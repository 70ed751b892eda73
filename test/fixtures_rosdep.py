"""Where the rosdep keys that we name exist: `python test/fixtures_rosdep.py ROSDISTRO`.

Reads a checkout of github.com/ros/rosdistro: packages from `<distribution>/distribution.yaml` (REP
143), keys of the system from `rosdep/{base,python}.yaml` (REP 111). Writes data/rosdep_keys.tsv:
the key, and the distributions in which it resolves on their Ubuntu.
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).parent / 'packaging' / 'data' / 'rosdep_keys.tsv'
UBUNTU_OF = {
    'humble': 'jammy',
    'jazzy': 'noble',
    'kilted': 'noble',
    'lyrical': 'resolute',
    'rolling': 'resolute',
}
APT_NAME = re.compile(r'ros-(?:\$\{?ROS_DISTRO\}?|[a-z]+)-([a-z0-9][a-z0-9-]+)')


def declared() -> set[str]:
    """Return every key of package.xml, whatever its condition."""
    root = ElementTree.parse(REPOSITORY / 'package.xml').getroot()
    return {str(entry.text) for entry in root if entry.tag.endswith('depend')}


def installed_in_documents() -> set[str]:
    """Return the packages that pages install by `apt install ros-$ROS_DISTRO-...`."""
    pages = [*REPOSITORY.glob('*.md'), *REPOSITORY.glob('docs/*.md')]
    lines = [
        line
        for page in pages
        for line in page.read_text(encoding='utf-8').splitlines()
        if 'apt install' in line
    ]
    return {name.replace('-', '_') for line in lines for name in APT_NAME.findall(line)}


def read_table() -> dict[str, set[str]]:
    """Return key -> distributions, as they were written."""
    rows = (line.split('\t') for line in TABLE.read_text(encoding='utf-8').splitlines())
    return {key: set(names.split()) for key, names in rows}


def packages(rosdistro: Path, distribution: str) -> set[str]:
    """Return every package that a distribution knows; a repository without list is its own."""
    file = yaml.load(
        (rosdistro / distribution / 'distribution.yaml').read_text(encoding='utf-8'),
        Loader=getattr(yaml, 'CSafeLoader', yaml.SafeLoader),
    )
    found: set[str] = set()
    for name, repository in file['repositories'].items():
        release = repository.get('release') or {}
        found |= set(release.get('packages', [name] if release else []))
    return found


def resolves(rules: Any, codename: str) -> bool:
    """Say whether the rules of a system key give something on that Ubuntu."""
    rule = (rules or {}).get('ubuntu')
    if isinstance(rule, dict) and not set(rule) & {'apt', 'pip', 'packages'}:
        rule = rule.get(codename, rule.get('*'))
    return bool(rule)


def main(rosdistro: Path) -> None:
    """Write the table."""
    system: dict[str, Any] = {}
    for name in ('base', 'python'):
        system |= yaml.safe_load((rosdistro / 'rosdep' / f'{name}.yaml').read_text('utf-8'))
    known = {name: packages(rosdistro, name) for name in UBUNTU_OF}
    lines = []
    for key in sorted(declared() | installed_in_documents()):
        where = [
            name
            for name, codename in UBUNTU_OF.items()
            if key in known[name] or resolves(system.get(key), codename)
        ]
        lines.append(f'{key}\t{" ".join(where)}\n')
    TABLE.write_text(''.join(lines), encoding='utf-8')


if __name__ == '__main__':
    main(Path(sys.argv[1]))
