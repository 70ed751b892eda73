"""A value declared once: what commands and nodes make of the same field."""

import argparse
import dataclasses
from dataclasses import dataclass

import pytest

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.options import (
    add_options,
    check_options,
    option,
    option_words,
    options_from,
)


@dataclass(frozen=True)
class Own:
    folder: str = option('', 'Where it lies')
    share_pct: float = option(50.0, 'How many % are taken', limits=(0.0, 100.0))
    most: int = option(3, 'At most', limits=(1, 9))
    kind: str = option('auto', 'Which kind', choices=('auto', 'other'))
    warm: bool = option(True, 'Whether it is warm')

    def __post_init__(self):
        check_options(self)


FIELDS = dataclasses.fields(Own)


def parser():
    made = argparse.ArgumentParser()
    add_options(made, FIELDS)
    return made


def test_without_words_the_defaults_come_back():
    assert options_from(Own, parser().parse_args([])) == Own()


@pytest.mark.parametrize(
    'own', [Own(), Own('a b', 2.5, 9, 'other', False), Own(most=1), Own(warm=False)]
)
def test_the_words_of_options_are_read_back_as_the_same_options(own):
    assert options_from(Own, parser().parse_args(option_words(own, FIELDS))) == own


def test_only_what_is_no_default_becomes_words():
    assert option_words(Own(), FIELDS) == []
    assert option_words(Own(most=4, warm=False), FIELDS) == ['--most', '4', '--no-warm']
    assert option_words(Own(most=4, warm=False), FIELDS[:2]) == []


@pytest.mark.parametrize(
    ('values', 'said'),
    [
        ({'share_pct': 100.5}, r'share_pct: expected 0.0 to 100.0, found 100.5'),
        ({'share_pct': float('nan')}, 'share_pct: expected 0.0 to 100.0, found nan'),
        ({'most': 0}, 'most: expected 1 to 9, found 0'),
        ({'kind': 'third'}, "kind: expected one of auto, other, found 'third'"),
    ],
)
def test_values_that_are_not_allowed_say_what_is(values, said):
    with pytest.raises(ConfigError, match=said):
        Own(**values)


def test_the_help_holds_description_range_and_default():
    text = ' '.join(parser().format_help().split())
    assert 'how many % are taken (0.0 to 100.0, default 50.0)' in text
    assert 'at most (1 to 9, default 3)' in text
    assert '--kind {auto,other}' in text and 'which kind (default auto)' in text
    assert '--warm, --no-warm' in text
    assert 'where it lies' in text


def test_a_choice_that_is_none_is_refused_by_the_command(capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(['--kind', 'third'])
    assert 'invalid choice' in capsys.readouterr().err
