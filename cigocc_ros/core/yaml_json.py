"""Plain values from YAML and JSON text: bounded in size and depth, nothing but data.

YAML aliases are refused: a kilobyte of them can stand for gigabytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.files import read_bytes
from cigocc_ros.core.text import cut

MAX_YAML_BYTES = 250_000
"""Manifests have 5 kB; PyYAML takes seconds for this much."""
MAX_JSON_BYTES = 16_000_000
MAX_DEPTH = 20
"""Mappings and lists within each other."""


def load_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; raise ConfigError where there is none."""
    try:
        content = parse_yaml(read_bytes(path, MAX_YAML_BYTES).decode('utf-8'), str(path))
    except DataFileError as error:
        raise ConfigError(str(error)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f'{path}: not valid YAML: {error}') from error
    if not isinstance(content, dict):
        raise ConfigError(f'{path}: expected a mapping, found {type(content).__name__}')
    return content


def parse_yaml(text: str, where: str) -> Any:
    """Return the plain values of a YAML text; raise ConfigError beginning with `where`.

    Refused besides what is no YAML: aliases, keys that are there twice, values too deep.
    """
    try:
        return _PlainLoader(text).get_single_data()
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        # ValueError: a date such as 2001-99-99, or a number of more digits than Python reads
        raise ConfigError(f'{where}: not valid YAML: {cut(str(error))}') from error


def load_json(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON file; raise DataFileError or ConfigError."""
    return parse_json(read_bytes(path, MAX_JSON_BYTES), str(path))


def parse_json(content: str | bytes, where: str) -> dict[str, Any]:
    """Return the mapping of a JSON text; raise ConfigError beginning with `where`."""
    try:
        mapping = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f'{where}: not valid JSON: {cut(str(error))}') from error
    if not isinstance(mapping, dict):
        raise ConfigError(f'{where}: expected a mapping, found {type(mapping).__name__}')
    return mapping


class _PlainLoader(yaml.SafeLoader):
    """A SafeLoader for data that its writer did not choose to make dangerous."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _problem('aliases (*name) are not supported here', event)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _problem(f'more than {MAX_DEPTH} levels of nesting', event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(
                None, None, f'a mapping expected, found {node.tag}'
            )
        mapping = super().construct_mapping(node, deep=True)
        if len(mapping) < len(node.value):
            raise yaml.constructor.ConstructorError(
                None, None, 'a key is there twice in one mapping', node.start_mark
            )
        return mapping


def _problem(text: str, event: yaml.Event) -> yaml.YAMLError:
    return yaml.YAMLError(f'{text}: {event.start_mark}')
