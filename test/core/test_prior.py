"""One set of words for the depth prior; those of 0.1.0 are still understood."""

import argparse
from typing import get_args

import pytest

from cigocc_ros.commands.infer import add_prior_argument
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.prior import (
    FILE_SOURCES,
    NODE_SOURCES,
    PRIORS,
    PriorSource,
    current_word,
    parse_prior,
    untrained_inputs,
)


def test_node_and_files_share_their_words() -> None:
    assert set(NODE_SOURCES) < set(FILE_SOURCES) == set(get_args(PriorSource))
    assert set(FILE_SOURCES) - set(PRIORS) == {'auto'}


@pytest.mark.parametrize(
    ('former', 'today'), [('mono', 'none'), ('measured', 'depth'), ('true', 'depth')]
)
def test_former_words_are_understood(former: str, today: str) -> None:
    assert parse_prior(former) == current_word(former) == parse_prior(today) == today


@pytest.mark.parametrize('word', ['auto', 'lidar', '', 'Stereo', 'x' * 1000])
def test_other_words_are_refused_with_the_choices(word: str) -> None:
    with pytest.raises(ConfigError, match='depth_stereo.*found') as refused:
        parse_prior(word)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize('word', [*FILE_SOURCES, 'mono'])
def test_command_line_takes_every_word(word: str) -> None:
    parser = argparse.ArgumentParser()
    add_prior_argument(parser)
    assert parser.parse_args(['--prior', word]).prior == current_word(word)


def test_node_declares_these_words() -> None:
    pytest.importorskip('rclpy')
    from cigocc_ros.ros.occ_parameters import OccParameters
    from cigocc_ros.ros.parameters import specs

    by_name = {spec.name: spec for spec in specs(OccParameters)}
    assert tuple(by_name['prior.source'].choices) == NODE_SOURCES


ALL = {'prior_none': 0.25, 'prior_stereo': 0.5, 'prior_depth': 0.25, 'semantic_none': 0.5}
STEREO_ONLY = {'prior_none': 0.0, 'prior_stereo': 1.0, 'prior_depth': 0.0, 'semantic_none': 0.0}
MONO_ONLY = {'prior_none': 1.0, 'prior_stereo': 0.0, 'prior_depth': 0.0}
FORMER = {'prior_none': 0.0, 'prior_stereo': 0.5, 'prior_true': 0.5}


@pytest.mark.parametrize(
    ('augment', 'depth', 'classes', 'said'),
    [
        (ALL, False, False, ''),
        (ALL, True, True, ''),
        (STEREO_ONLY, True, True, ''),
        (STEREO_ONLY, True, None, ''),
        (STEREO_ONLY, False, None, 'with a depth prior in every image, and this one has none'),
        (STEREO_ONLY, True, False, 'with classes from outside in every image'),
        (FORMER, False, None, 'with a depth prior in every image'),
        (MONO_ONLY, False, None, ''),
        (MONO_ONLY, True, None, 'without any depth prior, and this image has one'),
    ],
)
def test_what_a_model_never_saw_is_said(augment, depth, classes, said) -> None:
    found = untrained_inputs({'train': {'augment': augment}}, depth, classes)
    assert said in found and bool(found) == bool(said)


@pytest.mark.parametrize('train', [None, {}, {'augment': 3}])
def test_a_model_that_says_nothing_is_believed(train) -> None:
    for given in (False, True):
        assert untrained_inputs({'train': train}, given, given) == ''
    assert untrained_inputs({}, False, False) == ''
