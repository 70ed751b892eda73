"""The occupancy head's shift towards empty."""

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
