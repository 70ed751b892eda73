"""The depth branch merges prediction and prior; the backbone reads uint8 images."""

import math

import pytest
import torch

from cigocc_ros.model.backbone import ImageBackbone
from cigocc_ros.model.branches import DEPTH_RANGE_M, PRIOR_SCALE_INIT, DepthBranch, pool_prior
from cigocc_ros.training.objectives import depth_loss


@pytest.fixture
def depth_run(tiny, make_inputs):
    branch = DepthBranch(tiny.channels, tiny.image_size).eval()
    _, prior, _, back = make_inputs(tiny)
    prior[:, :16] = 0.0  # four rows of cells without any measurement
    return branch(torch.randn(1, tiny.channels, 12, 40), prior, back), prior


def test_the_prior_wins_where_it_is_known(depth_run):
    depth, prior = depth_run
    known = prior > 0
    offset, slope = PRIOR_SCALE_INIT
    assert known.any() and not known.all()
    assert torch.equal(depth.mean_m[known], prior[known])
    assert torch.allclose(depth.scale_m[known], offset + slope * prior[known])


def test_the_prediction_fills_the_rest(depth_run):
    depth, prior = depth_run
    assert depth.log_mean.shape == depth.log_scale.shape == (1, 12, 40)
    assert depth.mean_m.shape == prior.shape
    low, high = DEPTH_RANGE_M
    unknown = depth.mean_m[prior == 0]
    assert low <= unknown.min() and unknown.max() <= high
    # Interpolation is done in log depth: an interior cell's corner mixes 4 cells.
    expected = (
        sum(
            w * depth.log_mean[0, r, c]
            for w, r, c in ((49, 1, 1), (7, 1, 2), (7, 2, 1), (1, 2, 2))
        )
        / 64
    )
    assert depth.mean_m[0, 6, 6].log().item() == pytest.approx(expected.item(), abs=1e-5)


def test_cells_without_measurement_use_the_prediction(depth_run):
    depth, _ = depth_run
    assert torch.equal(depth.measured[:, :4], torch.zeros(1, 4, 40))
    assert torch.allclose(depth.cell_m[:, :4], depth.log_mean[:, :4].exp())


def test_pooling_averages_log_depth_of_known_pixels():
    prior = torch.zeros(1, 8, 4)
    prior[0, 0, 0], prior[0, 3, 2] = 2.0, 8.0
    mean, fraction = pool_prior(prior)
    assert mean.shape == (1, 2, 1)
    assert mean[0, 0, 0].item() == pytest.approx(math.log(4.0), abs=1e-6)
    assert fraction.flatten().tolist() == [2 / 16, 0.0]
    assert mean[0, 1, 0] == 0.0


def test_backbone_normalises_rgb(tiny):
    backbone = ImageBackbone(tiny.backbone, tiny.channels).eval()
    seen = []
    backbone.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    image = torch.zeros(1, 48, 160, 3, dtype=torch.uint8)
    image[..., 0] = 255
    features = backbone(image)
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    assert seen[0][0, :, 7, 9].tolist() == pytest.approx(expected, abs=1e-5)
    assert features.fine.shape == (1, 16, 12, 40)
    assert features.coarse.shape == (1, 16, 3, 10)


@pytest.fixture
def fused(tiny, make_inputs):
    """Return a branch that fuses, its prior with unknown rows, and what else it takes."""
    torch.manual_seed(3)
    branch = DepthBranch(tiny.channels, tiny.image_size, 'fused').eval()
    _, prior, _, back = make_inputs(tiny)
    prior[:, :16] = 0.0
    return branch, (torch.randn(1, tiny.channels, 12, 40), prior, back)


def set_correction(branch, trust, shift, factor):
    with torch.no_grad():
        branch.correct.bias.copy_(torch.tensor([trust, shift, factor]))


def test_fused_depth_trusts_the_prior_where_it_is_told_to(fused):
    branch, inputs = fused
    set_correction(branch, 40.0, 0.0, 0.0)
    depth, prior = branch(*inputs), inputs[1]
    known = prior > 0
    offset, slope = PRIOR_SCALE_INIT
    torch.testing.assert_close(depth.mean_m[known], prior[known])
    torch.testing.assert_close(depth.scale_m[known], offset + slope * prior[known])


def test_fused_depth_gives_up_a_prior_that_it_does_not_trust(fused):
    branch, inputs = fused
    set_correction(branch, -40.0, 0.0, 0.0)
    distrusted = branch(*inputs)
    torch.testing.assert_close(distrusted.fused_log_mean, distrusted.log_mean)
    fine = torch.nn.functional.interpolate(
        distrusted.log_mean[:, None], scale_factor=4.0, mode='bilinear', align_corners=False
    )
    torch.testing.assert_close(distrusted.mean_m, fine[:, 0].exp())


def test_correction_and_factor_scale_what_is_measured_alone(fused):
    branch, inputs = fused
    set_correction(branch, 40.0, 0.0, 0.0)
    plain = branch(*inputs)
    set_correction(branch, 40.0, math.atanh(0.2), math.atanh(0.4))
    moved = branch(*inputs)
    known = inputs[1] > 0
    ratio, widened = moved.mean_m / plain.mean_m, moved.scale_m / plain.scale_m
    torch.testing.assert_close(ratio[known], torch.full_like(ratio[known], math.exp(0.1)))
    torch.testing.assert_close(widened[known], torch.full_like(ratio[known], math.e))
    assert torch.equal(ratio[~known], torch.ones_like(ratio[~known]))


def test_the_loss_on_used_depth_trains_the_correction(fused):
    branch, (fine, prior, back) = fused
    truth = 0.9 * pool_prior(prior)[0].exp()  # the prior is 1 / 0.9 too far
    known = pool_prior(prior)[1] > 0
    optimizer = torch.optim.Adam(branch.correct.parameters(), lr=0.05)
    for _ in range(40):
        depth = branch(fine, prior, back)
        target = torch.where(known, truth, 0.0)
        pair = (depth.fused_log_mean, depth.fused_log_scale)
        loss = depth_loss((depth.log_mean.detach(), depth.log_scale.detach()), pair, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    depth = branch(fine, prior, back)
    error = (depth.fused_log_mean - truth.log())[known].abs().median()
    assert error < 0.03 < -math.log(0.9)
