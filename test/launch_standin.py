"""Evaluate a launch file without `launch`, which is not on PyPI.

Knows just the classes that our launch files use. A Node becomes the command that launch_ros
builds: `<prefix>/lib/<package>/<executable> <arguments> --ros-args -r __node:=... -r __ns:=...
--params-file ... -p ... -r from:=to`. (launch_ros writes parameters given as a dict into a
temporary file; here they are `-p name:=value`, which ROS reads the same way.)
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock


@dataclass
class Context:
    """What a launch run knows: arguments, environment, where packages are installed."""

    prefix: Path
    configurations: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)
    commands: dict[str, list[str]] = field(default_factory=dict)
    declared: dict[str, DeclareLaunchArgument] = field(default_factory=dict)

    def text(self, value: Any) -> str:
        """Resolve a substitution, or a list of them put together."""
        if isinstance(value, list | tuple):
            return ''.join(self.text(part) for part in value)
        return value.resolve(self) if hasattr(value, 'resolve') else str(value)


class LaunchConfiguration:
    def __init__(self, name: str) -> None:
        self.name = name

    def resolve(self, context: Context) -> str:
        return context.configurations[self.name]


class FindPackageShare:
    def __init__(self, package: str) -> None:
        self.package = package

    def resolve(self, context: Context) -> str:
        return str(context.prefix / 'share' / self.package)


class PathJoinSubstitution:
    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts

    def resolve(self, context: Context) -> str:
        return str(Path(*(context.text(part) for part in self.parts)))


class PythonExpression:
    def __init__(self, expression: list[Any]) -> None:
        self.expression = expression

    def resolve(self, context: Context) -> str:
        return str(eval(context.text(self.expression), {'__builtins__': {}}))


class IfCondition:
    wanted = True

    def __init__(self, predicate: Any) -> None:
        self.predicate = predicate

    def holds(self, context: Context) -> bool:
        text = context.text(self.predicate).lower()
        assert text in ('true', 'false', '1', '0'), f'{text!r} is no condition'
        return (text in ('true', '1')) is self.wanted


class UnlessCondition(IfCondition):
    wanted = False


class DeclareLaunchArgument:
    def __init__(
        self,
        name: str,
        *,
        default_value: Any = None,
        description: str = '',
        choices: list[str] | None = None,
    ) -> None:
        self.name, self.default, self.description = name, default_value, description
        self.choices = choices

    def run(self, context: Context) -> None:
        context.declared[self.name] = self
        if self.name not in context.configurations:
            if self.default is None:
                raise RuntimeError(f'launch argument {self.name} is required')
            context.configurations[self.name] = context.text(self.default)
        value = context.configurations[self.name]
        if self.choices is not None and value not in self.choices:
            raise RuntimeError(f'{self.name}:={value} is not one of {self.choices}')


class SetEnvironmentVariable:
    def __init__(self, name: str, value: Any) -> None:
        self.name, self.value = name, value

    def run(self, context: Context) -> None:
        context.environment[self.name] = context.text(self.value)


class ExecuteProcess:
    def __init__(self, *, cmd: list[Any], condition: Any = None, output: str = 'log') -> None:
        self.cmd, self.condition, self.output = cmd, condition, output

    def run(self, context: Context) -> None:
        if self.condition is None or self.condition.holds(context):
            words = self.words(context)
            context.commands[Path(words[0]).name] = words

    def words(self, context: Context) -> list[str]:
        return [context.text(word) for word in self.cmd]


class Node(ExecuteProcess):
    def __init__(
        self,
        *,
        package: str,
        executable: str,
        name: str | None = None,
        namespace: Any = '',
        parameters: list[Any] | None = None,
        remappings: list[tuple[Any, Any]] | None = None,
        arguments: list[Any] | None = None,
        output: str = 'log',
        condition: Any = None,
    ) -> None:
        super().__init__(cmd=arguments or [], condition=condition, output=output)
        self.package, self.executable, self.name = package, executable, name
        self.namespace, self.parameters = namespace, parameters or []
        self.remappings = remappings or []

    def words(self, context: Context) -> list[str]:
        program = context.prefix / 'lib' / self.package / self.executable
        words = [str(program), *super().words(context), '--ros-args']
        if self.name:
            words += ['-r', f'__node:={self.name}']
        namespace = context.text(self.namespace)
        words += ['-r', f'__ns:=/{namespace.lstrip("/")}']
        for given in self.parameters:
            words += parameter_words(context, given)
        for old, new in self.remappings:
            words += ['-r', f'{context.text(old)}:={context.text(new)}']
        return words


def parameter_words(context: Context, given: Any) -> list[str]:
    """Return the words of one entry of Node(parameters=[...]): a dict or a file."""
    if not isinstance(given, dict):
        return ['--params-file', context.text(given)]
    words = []
    for name, value in given.items():
        text = str(value).lower() if isinstance(value, bool) else context.text(value)
        words += ['-p', f'{name}:={text}']
    return words


@dataclass
class LaunchDescription:
    entities: list[Any]


@contextmanager
def modules() -> Iterator[None]:
    """Put the stand-in where `import launch` looks."""
    tree = {
        'launch': [LaunchDescription],
        'launch.actions': [DeclareLaunchArgument, ExecuteProcess, SetEnvironmentVariable],
        'launch.conditions': [IfCondition, UnlessCondition],
        'launch.substitutions': [LaunchConfiguration, PathJoinSubstitution, PythonExpression],
        'launch_ros': [],
        'launch_ros.actions': [Node],
        'launch_ros.substitutions': [FindPackageShare],
    }
    made = {}
    for name, classes in tree.items():
        made[name] = ModuleType(name)
        vars(made[name]).update({entry.__name__: entry for entry in classes})
    with mock.patch.dict(sys.modules, made):
        yield


def load(path: Path) -> ModuleType:
    """Import a launch file under whatever `launch` there is."""
    spec = importlib.util.spec_from_file_location(path.name.partition('.')[0] + '_launch', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def evaluate(path: Path, prefix: Path, arguments: Mapping[str, str]) -> Context:
    """Return what `ros2 launch <path> <arguments>` would start with the package in `prefix`."""
    with modules():
        description = load(path).generate_launch_description()
    context = Context(prefix, dict(arguments))
    for entity in description.entities:
        entity.run(context)
    unknown = set(arguments) - set(context.declared)
    assert not unknown, f'undeclared arguments {unknown}'
    return context
