"""Evaluate a launch file without `launch`, which is not on PyPI.

Knows just the classes that our launch files use. A Node becomes the command that launch_ros
builds: `<prefix>/lib/<package>/<executable> <arguments> --ros-args -r __node:=... -r __ns:=...
--params-file ... -p ... -r from:=to`. (launch_ros writes parameters given as a dict into a
temporary file; here they are `-p name:=value`, which ROS reads the same way.)

Imitated from the branches humble and jazzy of ros2/launch and ros2/launch_ros: what starts, in
which order (launch_service.py visits one entity after the other, and an exception ends it there),
types of parameters (launch/utilities/type_utils.py), scope of included files
(launch/actions/include_launch_description.py), and what `on_exit` is given
(launch/actions/execute_local.py).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import yaml


@dataclass
class Context:
    """What a launch run knows: arguments, environment, where packages are installed."""

    prefix: Path
    configurations: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)
    commands: dict[str, list[str]] = field(default_factory=dict)
    declared: dict[str, DeclareLaunchArgument] = field(default_factory=dict)
    processes: dict[str, ExecuteProcess] = field(default_factory=dict)
    packages: frozenset[str] = frozenset({'cigocc_ros', 'rviz2', 'tf2_ros'})
    is_shutdown: bool = False

    @property
    def launch_configurations(self) -> dict[str, str]:
        return self.configurations

    def text(self, value: Any) -> str:
        """Resolve a substitution, or a list of them put together."""
        if isinstance(value, list | tuple):
            return ''.join(self.text(part) for part in value)
        return value.resolve(self) if hasattr(value, 'resolve') else str(value)


class Substitution:
    def resolve(self, context: Context) -> str:
        raise NotImplementedError

    def perform(self, context: Context) -> str:
        return self.resolve(context)


class LaunchConfiguration(Substitution):
    def __init__(self, name: str, *, default: str | None = None) -> None:
        self.name, self.default = name, default

    def resolve(self, context: Context) -> str:
        if self.default is not None:
            return context.configurations.get(self.name, self.default)
        return context.configurations[self.name]


class FindPackagePrefix(Substitution):
    def __init__(self, package: str) -> None:
        self.package = package

    def resolve(self, context: Context) -> str:
        if self.package not in context.packages:  # ament_index_python's is a KeyError too
            raise KeyError(f"package '{self.package}' not found")
        return str(context.prefix)


class FindPackageShare(FindPackagePrefix):
    def resolve(self, context: Context) -> str:
        return str(Path(super().resolve(context)) / 'share' / self.package)


class ParameterValue(Substitution):
    """A parameter of a type that is known, which launch_ros converts while it visits the node."""

    def __init__(self, value: Any, *, value_type: type) -> None:
        self.value, self.type = value, value_type

    def resolve(self, context: Context) -> str:
        text = context.text(self.value)
        if self.type is bool:
            value = yaml.safe_load(text)
            if not isinstance(value, bool):
                raise ValueError(f"Cannot convert value '{text}' to bool")
            return str(value).lower()
        return str(self.type(text))


class PathJoinSubstitution(Substitution):
    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts

    def resolve(self, context: Context) -> str:
        return str(Path(*(context.text(part) for part in self.parts)))


class IfCondition:
    def __init__(self, predicate: Any) -> None:
        self.predicate = predicate

    def evaluate(self, context: Context) -> bool:
        text = context.text(self.predicate).lower()
        assert text in ('true', 'false', '1', '0'), f'{text!r} is no condition'
        return text in ('true', '1')


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
        context.declared.setdefault(self.name, self)
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


class Shutdown:
    def __init__(self, *, reason: str) -> None:
        self.reason = reason


class OpaqueFunction:
    def __init__(self, *, function: Any) -> None:
        self.function = function

    def run(self, context: Context) -> None:
        for entity in self.function(context) or []:
            entity.run(context)


class PythonLaunchDescriptionSource:
    def __init__(self, path: str) -> None:
        self.path = Path(path)


class IncludeLaunchDescription:
    """What is included sees the arguments of its parent, and the parent sees its own."""

    def __init__(self, source: PythonLaunchDescriptionSource) -> None:
        self.path = source.path

    def run(self, context: Context) -> None:
        for entity in load(self.path).generate_launch_description().entities:
            entity.run(context)


@dataclass(frozen=True)
class ProcessExited:
    """What `on_exit` gets."""

    process_name: str
    returncode: int


class ExecuteProcess:
    def __init__(
        self,
        *,
        cmd: list[Any],
        name: str = '',
        condition: Any = None,
        output: str = 'log',
        prefix: Any = '',
        respawn: Any = False,
        respawn_delay: float | None = None,
        on_exit: Any = None,
    ) -> None:
        self.cmd, self.condition, self.output = cmd, condition, output
        self.label, self.prefix, self.on_exit = name, prefix, on_exit
        self.respawn, self.respawn_delay = respawn, respawn_delay

    def run(self, context: Context) -> None:
        if self.condition is None or self.condition.evaluate(context):
            words = self.words(context)
            context.commands[Path(words[0]).name] = words
            context.processes[Path(words[0]).name] = self
            for value in (self.prefix, self.respawn):
                context.text(value)

    def words(self, context: Context) -> list[str]:
        return [context.text(word) for word in self.cmd]


class Node(ExecuteProcess):
    def __init__(
        self,
        *,
        package: str,
        executable: str,
        exec_name: str = '',
        name: str | None = None,
        namespace: Any = '',
        parameters: list[Any] | None = None,
        remappings: list[tuple[Any, Any]] | None = None,
        arguments: list[Any] | None = None,
        ros_arguments: list[Any] | None = None,
        **process: Any,
    ) -> None:
        super().__init__(cmd=arguments or [], name=exec_name, **process)
        self.package, self.executable, self.name = package, executable, name
        self.namespace, self.parameters = namespace, parameters or []
        self.remappings, self.ros_arguments = remappings or [], ros_arguments or []

    def words(self, context: Context) -> list[str]:
        program = context.prefix / 'lib' / self.package / self.executable
        words = [str(program), *super().words(context)]
        if self.ros_arguments:
            words += ['--ros-args', *(context.text(word) for word in self.ros_arguments)]
        words += ['--ros-args']
        if self.name:
            words += ['-r', f'__node:={self.name}']
        namespace = context.text(self.namespace)
        words += ['-r', f'__ns:=/{namespace.lstrip("/")}']
        for given in self.parameters:
            words += parameter_words(context, given)
        for old, new in self.remappings:
            words += ['-r', f'{context.text(old)}:={context.text(new)}']
        return words


_EMPTY = "''"
"""As YAML, for the command line takes no empty value."""


def parameter_words(context: Context, given: Any) -> list[str]:
    """Return the words of one entry of Node(parameters=[...]): a dict or a file."""
    if not isinstance(given, dict):
        return ['--params-file', context.text(given)]
    words = []
    for name, value in given.items():
        text = str(value).lower() if isinstance(value, bool) else context.text(value)
        words += ['-p', f'{name}:={text or _EMPTY}']
    return words


@dataclass
class LaunchDescription:
    entities: list[Any]


@contextmanager
def modules(log_dir: Path) -> Iterator[None]:
    """Put the stand-in where `import launch` looks; log_dir is that of launch.logging."""
    tree = {
        'launch': [LaunchDescription],
        'launch.actions': [
            DeclareLaunchArgument,
            ExecuteProcess,
            IncludeLaunchDescription,
            OpaqueFunction,
            SetEnvironmentVariable,
            Shutdown,
        ],
        'launch.conditions': [IfCondition],
        'launch.launch_description_sources': [PythonLaunchDescriptionSource],
        'launch.logging': [],
        'launch.substitutions': [LaunchConfiguration, PathJoinSubstitution],
        'launch_ros': [],
        'launch_ros.actions': [Node],
        'launch_ros.parameter_descriptions': [ParameterValue],
        'launch_ros.substitutions': [FindPackagePrefix, FindPackageShare],
    }
    made = {}
    for name, classes in tree.items():
        made[name] = ModuleType(name)
        vars(made[name]).update({entry.__name__: entry for entry in classes})
    made['launch.logging'].launch_config = SimpleNamespace(log_dir=str(log_dir))
    with mock.patch.dict(sys.modules, made):
        yield


def load(path: Path) -> ModuleType:
    """Import a launch file under whatever `launch` there is."""
    spec = importlib.util.spec_from_file_location(path.name.partition('.')[0] + '_launch', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def evaluate(path: Path, prefix: Path, arguments: Mapping[str, str], **known: Any) -> Context:
    """Return what `ros2 launch <path> <arguments>` would start with the package in `prefix`.

    An exception has `started`: the processes that it would leave running.
    """
    context = Context(prefix, dict(arguments), **known)
    log_dir = prefix / 'log'
    log_dir.mkdir(exist_ok=True)
    with modules(log_dir):
        try:
            for entity in load(path).generate_launch_description().entities:
                entity.run(context)
        except Exception as error:
            error.started = list(context.commands)
            raise
    unknown = set(arguments) - set(context.declared) - {'launch-prefix'}
    assert not unknown, f'undeclared arguments {unknown}'
    return context
