"""Config files that inherit: `base:` names another one, `--set key=value` changes one value.

A file says what differs from its base; mappings are merged key by key, lists are replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.installed import config_file
from cigocc_ros.core.text import excerpt
from cigocc_ros.core.yaml_json import load_yaml, parse_yaml

BASE = 'base'
MAX_BASES = 8
"""Files that may inherit from each other; more are a circle, or nobody can follow them."""


def load_config_file(
    kind: str, name_or_path: str | Path, settings: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the mapping of config/<kind>/<name>.yaml or of a YAML file, its bases included.

    `settings` are texts `key=value`, `outer.inner=value`, whose values are YAML; they win. Raises
    ConfigError for files that are missing, inherit in a circle, or hold no mapping.
    """
    mapping = _with_bases(kind, config_file(kind, name_or_path), [])
    for setting in settings:
        mapping = merged(mapping, _parse_setting(setting))
    return mapping


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes`: mappings within mappings are merged, all else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = merged(old, value)
        result[key] = value
    return result


def _with_bases(kind: str, path: Path, below: list[Path]) -> dict[str, Any]:
    """Return a file merged into its base; `below` are the files that inherit from it."""
    chain = [*below, path.resolve()]
    if len(chain) > MAX_BASES or len(set(chain)) < len(chain):
        names = ' <- '.join(str(one) for one in chain)
        raise ConfigError(f'{path}: bases in a circle, or more than {MAX_BASES}: {names}')
    mapping = load_yaml(path)
    base = mapping.pop(BASE, None)
    if base is None:
        return mapping
    if not isinstance(base, str):
        raise ConfigError(f'{path}: {BASE}: expected a name or a path, found {excerpt(base)}')
    beside = path.parent / base
    source = beside if beside.suffix == '.yaml' and beside.is_file() else base
    return merged(_with_bases(kind, config_file(kind, source), chain), mapping)


def _parse_setting(text: str) -> dict[str, Any]:
    """Read `outer.inner=value` as nested mappings."""
    keys, equals, value = text.partition('=')
    names = keys.split('.')
    if not equals or not all(name.strip() for name in names):
        raise ConfigError(f'--set: expected KEY=VALUE, such as losses.distill=1, found {text!r}')
    nested: dict[str, Any] = {names[-1].strip(): parse_yaml(value, f'--set {keys}')}
    for name in reversed(names[:-1]):
        nested = {name.strip(): nested}
    return nested
