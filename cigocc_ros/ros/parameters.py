"""ROS parameters from a dataclass: one default, description and range for node, YAML and table."""

from __future__ import annotations

import array
import dataclasses
import difflib
import logging
import os
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import yaml
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.markdown import table
from cigocc_ros.core.options import Limits, allowed, option

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar('T')
Parameters = TypeVar('Parameters', bound='DataclassInstance')
YAML_WIDTH = 99
OF_EVERY_NODE = ('use_sim_time', 'start_type_description_service')
logger = logging.getLogger(__name__)


def parameter(
    default: Any,
    description: str,
    *,
    name: str = '',
    choices: tuple[str, ...] = (),
    limits: Limits | None = None,
    read_only: bool = True,
    check: Callable[[Any], object] | None = None,
    path: bool = False,
) -> Any:
    """Return a dataclass field that is a ROS parameter.

    `name` is the ROS name where it has dots; `limits` are inclusive; `check` raises ConfigError
    for values that neither they nor `choices` exclude; `path` is for files and folders, whose `~`
    no shell expands behind `:=`. A parameter that is not `read_only` may change at any time: take
    its value from `Live` each time it is used.
    """
    more = {'name': name, 'read_only': read_only, 'check': check, 'path': path}
    return option(default, description, choices=choices, limits=limits, **more)


@dataclasses.dataclass(frozen=True)
class Spec:
    """One declared parameter."""

    attribute: str
    name: str
    default: Any
    description: str
    choices: tuple[str, ...]
    limits: Limits | None
    read_only: bool
    check: Callable[[Any], object] | None = None
    path: bool = False

    @property
    def allowed(self) -> str:
        """Say which values are allowed; empty where any value of the type is."""
        return allowed(self.choices, self.limits)

    @property
    def constraints(self) -> str:
        """Say what `ros2 param describe` shows: the allowed values, and what a change takes."""
        fixed = 'fixed at start: restart the node with another value' if self.read_only else ''
        return '; '.join(filter(None, [self.allowed, fixed]))

    @property
    def kind(self) -> str:
        """Name the ROS type."""
        names = {bool: 'bool', int: 'integer', float: 'double', str: 'string'}
        if isinstance(self.default, tuple):
            return f'{names[type(self.default[0])]} array'
        return names[type(self.default)]

    @property
    def is_real(self) -> bool:
        """Whether the values are floats; `rate:=2` is accepted for them then."""
        first = self.default[0] if isinstance(self.default, tuple) else self.default
        return isinstance(first, float)

    def descriptor(self) -> ParameterDescriptor:
        """Return the ROS descriptor."""
        described = ParameterDescriptor(
            description=self.description,
            read_only=self.read_only,
            dynamic_typing=self.is_real,
            additional_constraints=self.constraints,
        )
        if self.limits is not None and self.is_real:
            real = FloatingPointRange(from_value=self.limits[0], to_value=self.limits[1])
            described.floating_point_range = [real]
        elif self.limits is not None:
            low, high = (int(limit) for limit in self.limits)
            described.integer_range = [IntegerRange(from_value=low, to_value=high)]
        return described

    def checked(self, value: Any) -> Any:
        """Return a declared value as the dataclass wants it; raise ConfigError."""
        if self.choices and value not in self.choices:
            raise self._error(self.allowed, value)
        if self.check is not None:
            self._ask(self.check, value)
        if self.path:
            return os.path.expanduser(value)
        if not isinstance(self.default, tuple):
            return self._number(value) if self.is_real else value
        if not isinstance(value, (Sequence, array.array)) or len(value) != len(self.default):
            raise self._error(f'{len(self.default)} numbers', value)
        return tuple(self._number(item) if self.is_real else item for item in value)

    def _ask(self, check: Callable[[Any], object], value: Any) -> None:
        try:
            check(value)
        except ConfigError as error:
            raise ConfigError(f'parameter {self.name}: {error}') from error

    def _number(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._error('a number', value)
        if self.limits is not None and not self.limits[0] <= value <= self.limits[1]:
            raise self._error(self.allowed, value)
        return float(value)

    def _error(self, expected: str, value: Any) -> ConfigError:
        found = list(value) if isinstance(value, array.array) else value
        return ConfigError(f'parameter {self.name}: expected {expected}, found {found!r}')


def specs(cls: type[Any]) -> list[Spec]:
    """Return the parameters of a dataclass in their order.

    A field whose default is a dataclass of `core.options.option`s is a group: its parameters are
    named after it, `tensorrt.engine_dir`, and fixed at start.
    """
    return [spec for field in dataclasses.fields(cls) for spec in _specs_of(field, '')]


def _specs_of(field: dataclasses.Field[Any], group: str) -> Iterator[Spec]:
    if dataclasses.is_dataclass(field.default):
        for member in dataclasses.fields(field.default):
            yield from _specs_of(member, f'{group}{field.name}.')
        return
    about = field.metadata
    yield Spec(
        attribute=group + field.name,
        name=group + (about.get('name') or field.name),
        default=field.default,
        description=about['description'],
        choices=about['choices'],
        limits=about['limits'],
        read_only=bool(group) or about.get('read_only', True),
        check=about.get('check'),
        path=about.get('path', False),
    )


def from_values(cls: type[T], values: Mapping[str, Any]) -> T:
    """Return `cls` with values by ROS name; those that are not there are defaults.

    Raises ConfigError for a value that is not allowed.
    """
    given: dict[str, Any] = {}
    for spec in specs(cls):
        if spec.name in values:
            *groups, leaf = spec.attribute.split('.')
            target = given
            for group in groups:
                target = target.setdefault(group, {})
            target[leaf] = spec.checked(values[spec.name])
    return _made(cls, given)


def _made(cls: type[T], given: Mapping[str, Any]) -> T:
    groups = {f.name: type(f.default) for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    made = {
        name: _made(groups[name], value) if isinstance(value, dict) else value
        for name, value in given.items()
    }
    return cls(**made)


def declare(node: Node, cls: type[T]) -> T:
    """Declare every parameter of `cls` on the node and return their values at start.

    Raises ConfigError for a value that is not one of the choices or has another length, and
    rclpy's own exceptions for one of another type or out of range.
    """
    values = {}
    for spec in specs(cls):
        default = list(spec.default) if isinstance(spec.default, tuple) else spec.default
        value = node.declare_parameter(spec.name, default, spec.descriptor()).value
        values[spec.name] = value
    # rclpy keeps what was given and not declared, and tells nobody
    for sentence in unknown_parameters(getattr(node, '_parameter_overrides', {}), cls):
        logger.warning('%s', sentence)
    return from_values(cls, values)


def guard(node: Node, cls: type[Any]) -> None:
    """Refuse values that a live parameter of `cls` may not take, with what is allowed."""
    live = {spec.name: spec for spec in specs(cls) if not spec.read_only}

    def judge(changes: list[Parameter]) -> SetParametersResult:
        try:
            for change in changes:
                if change.name in live:
                    live[change.name].checked(change.value)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(judge)


class Live(Generic[Parameters]):
    """The parameters as they are now; made anew only when one of the live ones changed."""

    def __init__(self, node: Node, values: Parameters) -> None:
        """Take the values at start, and watch those that may change."""
        self._node, self._values = node, values
        self._live = [spec for spec in specs(type(values)) if not spec.read_only]
        self._raw = self._read()

    def __call__(self) -> Parameters:
        """Return the values."""
        raw = self._read()
        if raw != self._raw:
            pairs = zip(self._live, raw, strict=True)
            changed = {spec.attribute: spec.checked(value) for spec, value in pairs}
            self._values, self._raw = dataclasses.replace(self._values, **changed), raw
        return self._values

    def _read(self) -> list[Any]:
        return [self._node.get_parameter(spec.name).value for spec in self._live]


def unknown_parameters(given: Iterable[str], cls: type[Any]) -> list[str]:
    """Return a sentence for each name that is no parameter of `cls`, with the nearest that is."""
    known = [spec.name for spec in specs(cls)]
    strange = (name for name in given if name not in known and not _of_rclpy(name))
    return [_sentence(name, difflib.get_close_matches(name, known, 1)) for name in sorted(strange)]


def _of_rclpy(name: str) -> bool:
    """Say whether every node has this parameter."""
    return name in OF_EVERY_NODE or name.startswith('qos_overrides.')


def _sentence(name: str, nearest: list[str]) -> str:
    meant = f'; did you mean {nearest[0]!r}?' if nearest else ''
    return f'no parameter is called {name!r}: it has no effect{meant}'


def param_yaml(cls: type[Any], title: str) -> str:
    """Return a parameter file with every default, keyed `/**` to fit any namespace."""
    lines = [f'# {title}', '# Generated from the declarations; a test compares.', '/**:']
    lines.append('  ros__parameters:')
    previous: list[str] = []
    for spec in specs(cls):
        *groups, leaf = spec.name.split('.')
        if groups != previous:
            lines += [f'{"  " * (2 + depth)}{group}:' for depth, group in enumerate(groups)]
        indent = '  ' * (2 + len(groups))
        note = f' ({spec.allowed})' if spec.allowed else ''
        lines += textwrap.wrap(
            spec.description + note,
            YAML_WIDTH,
            initial_indent=f'{indent}# ',
            subsequent_indent=f'{indent}# ',
        )
        lines.append(f'{indent}{leaf}: {_scalar(spec.default)}')
        previous = groups
    return '\n'.join(lines) + '\n'


def param_table(cls: type[Any]) -> str:
    """Return the parameters as a Markdown table."""
    rows = []
    for spec in specs(cls):
        when = '' if spec.read_only else ' Can be changed while running.'
        cells = (f'`{spec.name}`', spec.kind, f'`{_scalar(spec.default)}`', spec.allowed)
        rows.append((*cells, f'{spec.description}.{when}'))
    return '\n'.join(table(('parameter', 'type', 'default', 'allowed', 'meaning'), rows, 5)) + '\n'


def usage(cls: type[Any], head: str) -> str:
    """Return what `--help` prints: the head, and each parameter with its default."""
    lines = [head]
    for spec in specs(cls):
        lines.append(f'  {spec.name}  ({_scalar(spec.default)})')
        note = f' ({spec.allowed})' if spec.allowed else ''
        lines.append(
            textwrap.fill(
                spec.description + note, 92, initial_indent='      ', subsequent_indent='      '
            )
        )
    return '\n'.join(lines)


def _scalar(value: Any) -> str:
    """Return a value as YAML; strings are quoted so that none is read as a bool."""
    if isinstance(value, str):
        return f"'{value}'"
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True).removesuffix('...\n').strip()
