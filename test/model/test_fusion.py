"""What passes by the deformable fusion, and where its sampling starts."""

import pytest
import torch

from cigocc_ros.model.fusion import DeformableFusion

SHAPE = (1, 16, 6, 8)


@pytest.mark.parametrize('both', [False, True])
def test_one_point_of_every_head_starts_at_the_own_cell(both):
    fusion = DeformableFusion(16, heads=4, points=3, both=both)
    offsets = fusion.offsets.bias.detach().reshape(4, 3, 2).abs().amax(-1)
    assert (offsets[:, 0] == 0).all() if both else (offsets[:, 0] > 0).all()
    assert (offsets[:, 1:] > 0).all()


def test_what_a_cell_says_of_itself_passes_by_the_attention():
    torch.manual_seed(0)
    points, semantics = torch.randn(SHAPE), torch.randn(SHAPE)
    for both in (False, True):
        fusion = DeformableFusion(16, heads=4, points=3, both=both)
        with torch.no_grad():
            fusion.output.weight.zero_()
            fusion.output.bias.zero_()
            found = fusion(points, semantics)
            expected = fusion.norm(points + semantics if both else points)
        torch.testing.assert_close(found, expected)
