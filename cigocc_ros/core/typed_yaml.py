"""Strict loading of plain mappings (YAML, JSON) into frozen dataclasses."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.text import cut, excerpt
from cigocc_ros.core.yaml_json import load_yaml

__all__ = ['from_mapping', 'load_yaml', 'to_mapping']

T = TypeVar('T')


EXPONENT = re.compile(r'[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+')
"""Numbers such as 1e-4 and 1.5e3, which YAML 1.2 calls floats and PyYAML (YAML 1.1) texts."""


def from_mapping(cls: type[T], mapping: Any, where: str) -> T:
    """Build dataclass `cls` from `mapping`; `where` names the source in errors.

    Unknown keys, missing keys without default and values of the wrong type raise ConfigError.
    Nested dataclasses, tuples, dicts, optionals and Literal choices are followed.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(f'{where}: expected a mapping, found {type(mapping).__name__}')
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(str(key) for key in mapping if key not in fields)
    if unknown:
        known = sorted(fields)
        raise ConfigError(f'{where}: unknown key {excerpt(unknown[0])}; known keys: {known}')
    missing = [name for name, field in fields.items() if name not in mapping and _required(field)]
    if missing:
        raise ConfigError(f'{where}: missing key {missing[0]!r}')
    hints = typing.get_type_hints(cls)
    values = {
        key: _convert(hints[key], value, f'{where}: {key}') for key, value in mapping.items()
    }
    return cls(**values)


def to_mapping(config: Any) -> dict[str, Any]:
    """Return the plain mapping of a dataclass that `from_mapping` reads back."""
    return {key: _plain(value) for key, value in dataclasses.asdict(config).items()}


def _required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Return `value` as type `hint`, or raise ConfigError."""
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return from_mapping(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        return _convert_tuple(typing.get_args(hint), value, where)
    if origin is typing.Literal:
        return _convert_choice(typing.get_args(hint), value, where)
    if origin in (typing.Union, types.UnionType):
        return _convert_optional(typing.get_args(hint), value, where)
    if origin is dict:
        return _convert_dict(typing.get_args(hint)[1], value, where)
    return _convert_scalar(hint, value, where)


def _convert_dict(hint: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f'{where}: expected a mapping, found {excerpt(value)}')
    strange = [key for key in value if not isinstance(key, str)]
    if strange:
        raise ConfigError(f'{where}: keys are texts, found {excerpt(strange[0])}')
    return {key: _convert(hint, item, f'{where}: {cut(key)}') for key, item in value.items()}


def _convert_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f'{where}: expected a list, found {excerpt(value)}')
    if len(args) == 2 and args[1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(args) != len(value):
        found = f'{len(value)}: {excerpt(value)}'
        raise ConfigError(f'{where}: expected {len(args)} values, found {found}')
    pairs = enumerate(zip(args, value, strict=True))
    return tuple(_convert(hint, item, f'{where}[{i}]') for i, (hint, item) in pairs)


def _convert_choice(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if value not in choices:
        raise ConfigError(f'{where}: expected one of {list(choices)}, found {excerpt(value)}')
    return value


def _convert_optional(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in args:
        return None
    hints = [hint for hint in args if hint is not type(None)]
    if len(hints) != 1:
        raise TypeError(f'{where}: only "X | None" unions are supported')
    return _convert(hints[0], value, where)


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    is_int = isinstance(value, int) and not isinstance(value, bool)
    if hint is float and isinstance(value, str) and EXPONENT.fullmatch(value):
        value = float(value)
    if hint is float and (is_int or isinstance(value, float)):
        try:
            return float(value)
        except OverflowError as error:
            raise ConfigError(f'{where}: {excerpt(value)} is too large') from error
    if hint is int and is_int:
        return value
    if hint in (bool, str) and isinstance(value, hint):
        return value
    raise ConfigError(
        f'{where}: expected {getattr(hint, "__name__", hint)}, found {excerpt(value)}'
    )
