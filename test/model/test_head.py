"""The occupancy head: its shift towards empty, and surfaces finer than the queries."""

import pytest
import torch

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.labels import EMPTY
from cigocc_ros.model.head import OccupancyHead


def test_a_shift_moves_the_logit_of_empty_alone_by_its_amount(tiny):
    head = OccupancyHead(tiny).eval()
    volume = torch.randn(1, tiny.channels, 4, 4, 2)
    with torch.no_grad():
        before = head(volume)
        head.raise_empty(2.5)
        change = head(volume) - before
    torch.testing.assert_close(change[:, EMPTY], torch.full_like(change[:, EMPTY], 2.5))
    assert change[:, EMPTY + 1 :].abs().max() == 0


@pytest.mark.parametrize('shift', [float('nan'), float('inf')])
def test_a_shift_that_is_no_number_is_refused(tiny, shift):
    with pytest.raises(ConfigError, match='finite'):
        OccupancyHead(tiny).raise_empty(shift)


def test_a_refined_shape_moves_surfaces_and_no_class(tiny_with):
    config = tiny_with(head_upsample='subvoxel_shape')
    head = OccupancyHead(config).eval()
    volume = torch.randn(2, config.channels, 3, 4, 2)
    with torch.no_grad():
        head.refine.weight.zero_()
        head.refine.bias.copy_(torch.arange(8.0))
        refined = head(volume)
        head.refine = None
        change = refined - head(volume)
    assert change[:, EMPTY + 1 :].abs().max() == 0
    block = -torch.arange(8.0).reshape(2, 2, 2)  # of one query voxel: x, y, z
    torch.testing.assert_close(change[:, EMPTY], block.repeat(2, 3, 4, 2))
