"""Proposals: fixed slots filled in order, padding that reads zero and writes nowhere."""

import pytest
import torch

from cigocc_ros.model.proposals import compact, propose, put, take

SHAPE = (4, 3, 2)
COUNT = 24


def logits_with(occupied: list[int]) -> torch.Tensor:
    """Return stage-1 logits where exactly the flat voxels `occupied` are not empty."""
    logits = torch.zeros(1, 20, COUNT)
    logits[:, 0] = 10.0
    logits[:, 0, occupied] = -10.0
    return logits.reshape(1, 20, *SHAPE)


@pytest.mark.parametrize('slots', [1, 7, 24])
@pytest.mark.parametrize('density', [0.0, 0.3, 1.0])
def test_compact_equals_nonzero(slots, density):
    mask = torch.rand(3, COUNT) < density
    index = compact(mask, slots)
    assert index.shape == (3, slots)
    for row in range(3):
        expected = mask[row].nonzero().flatten()[:slots].tolist()
        assert index[row].tolist() == expected + [COUNT] * (slots - len(expected))


def test_proposes_occupied_and_hit_voxels_in_view():
    view = torch.ones(1, *SHAPE, dtype=torch.bool)
    view.view(-1)[5] = False
    hit = torch.zeros(1, *SHAPE)
    hit.view(-1)[9] = 0.8
    index = propose(logits_with([2, 5, 7]), hit, view, threshold=0.5, slots=5)
    assert index.tolist() == [[2, 7, 9, COUNT, COUNT]]


def test_proposes_the_view_where_nothing_is_occupied():
    view = torch.zeros(2, *SHAPE, dtype=torch.bool)
    view[:, 0] = True
    logits = torch.cat((logits_with([]), logits_with([1])))
    index = propose(logits, torch.zeros(2, *SHAPE), view, threshold=0.5, slots=8)
    assert index.tolist() == [[0, 1, 2, 3, 4, 5, COUNT, COUNT], [1] + [COUNT] * 7]


def test_proposes_nothing_without_a_view():
    view = torch.zeros(1, *SHAPE, dtype=torch.bool)
    index = propose(logits_with([1]), torch.ones(1, *SHAPE), view, threshold=0.5, slots=3)
    assert index.tolist() == [[COUNT] * 3]


def test_take_reads_zeros_and_put_writes_nowhere_at_free_slots():
    table = torch.randn(2, COUNT, 3)
    index = torch.tensor([[4, 0, COUNT], [23, COUNT, COUNT]])
    taken = take(table, index)
    assert torch.equal(taken[0, 0], table[0, 4]) and torch.equal(taken[1, 0], table[1, 23])
    assert taken[0, 2].abs().sum() == 0
    written = put(table, index, torch.ones(2, 3, 3))
    expected = table.clone()
    expected[0, [4, 0]] = 1.0
    expected[1, 23] = 1.0
    assert torch.equal(written, expected)
