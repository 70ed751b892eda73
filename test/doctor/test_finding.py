"""One line for each finding, and what may be in it."""

import pytest

from cigocc_ros.doctor.finding import as_mappings, fail, failed, ok, warn


def test_a_finding_is_one_line_that_ends_with_what_mends_it():
    bad = fail('gpu', 'none\nat all', 'a GPU', 'buy one')
    assert str(bad) == 'FAIL  gpu: none at all; expected: a GPU; do: buy one'
    assert str(ok('gpu', 'there')) == 'OK    gpu: there'


def test_bad_news_need_advice():
    with pytest.raises(ValueError, match='expected'):
        warn('gpu', 'none', '', 'buy one')
    with pytest.raises(ValueError, match='fix'):
        fail('gpu', 'none', 'a GPU', '')


def test_only_failures_fail():
    fine = [ok('a', 'b'), warn('a', 'b', 'c', 'd')]
    assert not failed(fine) and failed([*fine, fail('a', 'b', 'c', 'd')])
    assert as_mappings(fine)[1] == {
        'check': 'a',
        'status': 'WARN',
        'found': 'b',
        'expected': 'c',
        'fix': 'd',
    }
