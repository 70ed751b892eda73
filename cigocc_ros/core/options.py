"""Values that people decide, each declared once: default, meaning and range.

A field made by `option` is read by `ros.parameters`, which declares it on a node and writes it
into the parameter file, and by `add_options`, which makes it an argument of a command.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from cigocc_ros.core.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar('Options', bound='DataclassInstance')
Limits = tuple[float, float]
OptionField = dataclasses.Field[Any]


def option(
    default: Any,
    description: str,
    *,
    choices: tuple[str, ...] = (),
    limits: Limits | None = None,
    **more: Any,
) -> Any:
    """Return a dataclass field with what people read of it; `limits` are inclusive.

    `more` is kept in the field's metadata for those who know what it means.
    """
    metadata = {'description': description, 'choices': choices, 'limits': limits, **more}
    return dataclasses.field(default=default, metadata=metadata)


def allowed(choices: tuple[str, ...], limits: Limits | None) -> str:
    """Say which values are allowed; empty where any value of the type is."""
    if choices:
        return 'one of ' + ', '.join(choices)
    return '' if limits is None else f'{limits[0]} to {limits[1]}'


def check_options(options: DataclassInstance) -> None:
    """Raise ConfigError for a value that is none of the choices, or out of its limits."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        choices, limits = field.metadata['choices'], field.metadata['limits']
        outside = limits is not None and not limits[0] <= value <= limits[1]
        if outside or (choices and value not in choices):
            raise ConfigError(
                f'{field.name}: expected {allowed(choices, limits)}, found {value!r}'
            )


def flag(name: str) -> str:
    """Return how an option is written on the command line."""
    return '--' + name.replace('_', '-')


def add_options(parser: argparse.ArgumentParser, options: Iterable[OptionField]) -> None:
    """Declare options as arguments of a command, with their defaults and descriptions."""
    for field in options:
        default, description = field.default, field.metadata['description']
        notes = [allowed((), field.metadata['limits'])]
        if default != '' and not isinstance(default, bool):
            notes.append('default %(default)s')
        text = f'{description[0].lower()}{description[1:]}'.replace('%', '%%')
        noted = ', '.join(filter(None, notes))
        settings: dict[str, Any] = {'help': f'{text} ({noted})' if noted else text}
        if isinstance(default, bool):
            settings['action'] = argparse.BooleanOptionalAction
        else:
            settings['type'] = type(default)
            settings['choices'] = field.metadata['choices'] or None
        parser.add_argument(flag(field.name), default=default, **settings)


def options_from(cls: type[Options], arguments: argparse.Namespace) -> Options:
    """Return the options that a command was given; those it has no argument for are defaults."""
    given = vars(arguments)
    names = (field.name for field in dataclasses.fields(cls))
    return cls(**{name: given[name] for name in names if name in given})


def option_words(options: DataclassInstance, chosen: Iterable[OptionField]) -> list[str]:
    """Return the words of a command line that say where `options` are not the defaults."""
    words = []
    for field in chosen:
        value = getattr(options, field.name)
        if value == field.default:
            continue
        name = flag(field.name)
        if isinstance(value, bool):
            words.append(name if value else f'--no-{name[2:]}')
        else:
            words += [name, str(value)]
    return words
