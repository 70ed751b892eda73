"""The three levels: semantic (high), depth (low) and Extractor (middle) branches."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cigocc_ros.core.config import FEATURE_STRIDE
from cigocc_ros.model.backbone import ImageFeatures, conv_block
from cigocc_ros.model.geometry import full_precision, pixel_rays

DEPTH_RANGE_M = (1.0, 120.0)
"""Depths the branch can predict; the far end stands for the sky."""
SCALE_RANGE_M = (0.05, 30.0)
"""Scales of the logistic depth distribution."""
PRIOR_SCALE_INIT = (0.1, 0.02)
"""Scale of measured depth d at the start of training: 0.1 m + 0.02 d."""
TRUST_INIT = 4.0
"""Logit of the trust in measured depth at the start of training: 0.98."""
MAX_SHIFT, MAX_FACTOR = 0.5, 2.5
"""Largest correction of measured depth and of its scale, both in natural logarithms."""
EXTRACTOR_STRIDE = 16
"""Stride of the Extractor's masks and of what the cross-attention sees by default."""
_GUIDE_CHANNELS = 7
_FOCAL_REFERENCE_PX = 400.0


class SemanticBranch(nn.Module):
    """Student of the segmentation teacher: features F_2D and per-class mask logits, stride 4."""

    def __init__(self, channels: int, semantic_channels: int, num_masks: int) -> None:
        """Take the width of the fine features, of F_2D, and the number of mask channels."""
        super().__init__()
        self.features = nn.Sequential(
            conv_block(channels, channels), nn.Conv2d(channels, semantic_channels, 1)
        )
        self.masks = nn.Sequential(nn.ReLU(), nn.Conv2d(semantic_channels, num_masks, 1))

    def forward(self, fine: Tensor) -> tuple[Tensor, Tensor]:
        """Return F_2D (B, Csem, H/4, W/4) and mask logits (B, K, H/4, W/4)."""
        features = self.features(fine)
        return features, self.masks(features)


class DepthMaps(NamedTuple):
    """A logistic distribution of depth per pixel.

    log_mean, log_scale (B, h, w): the prediction at stride 4, log metres. mean_m, scale_m
    (B, H, W): prediction and prior merged at input resolution. cell_m (B, h, w): merged depth of
    the stride-4 cells; measured (B, h, w): fraction of their pixels that the prior covers.
    fused_log_mean, fused_log_scale (B, h, w): what is trained of the cells besides, log metres:
    the corrected prior where the config fuses, the prediction again where the prior overrides.
    """

    log_mean: Tensor
    log_scale: Tensor
    mean_m: Tensor
    scale_m: Tensor
    cell_m: Tensor
    measured: Tensor
    fused_log_mean: Tensor
    fused_log_scale: Tensor


class DepthBranch(nn.Module):
    """Predicts depth at stride 4, guided by the prior and by where each pixel looks.

    Where the prior d is known it overrides the prediction p (`override`), or is corrected: with a
    trust t, a correction c and a factor of the scale that the branch predicts per cell (`fused`),

        log mean = t log d + (1 - t) log p + c,    scale = (a + b d) exp(s),

    so that measured depth stays the base, an outlier can be given up, and the loss trains what the
    lifting uses.
    """

    def __init__(
        self,
        channels: int,
        image_size: tuple[int, int],
        fusion: Literal['override', 'fused'] = 'override',
    ) -> None:
        """Take the width of the fine features, the input (height, width), how the prior enters."""
        super().__init__()
        self.image_size = image_size
        self.trunk = nn.Sequential(
            conv_block(channels + _GUIDE_CHANNELS, channels), conv_block(channels, channels)
        )
        self.predict = nn.Conv2d(channels, 2, 1)
        self.prior_scale = nn.Parameter(torch.tensor(PRIOR_SCALE_INIT).log())
        self.correct: nn.Conv2d | None = None
        if fusion == 'fused':
            self.correct = nn.Conv2d(channels, 3, 1)
            nn.init.zeros_(self.correct.weight)
            with torch.no_grad():
                self.correct.bias.copy_(torch.tensor([TRUST_INIT, 0.0, 0.0]))  # type: ignore[union-attr]

    def forward(self, fine: Tensor, depth_prior: Tensor, velo_from_pixel: Tensor) -> DepthMaps:
        """Merge prediction and prior (B, H, W) metres, which is known where it is above 0."""
        cell_log, measured = pool_prior(depth_prior)
        guide = self._guide(cell_log, measured, velo_from_pixel)
        features = self.trunk(torch.cat((fine, guide.to(fine.dtype)), dim=1))
        raw = self.predict(features)
        correction = None if self.correct is None else self.correct(features)
        with full_precision(raw):
            log_mean = _between(raw[:, 0].float(), DEPTH_RANGE_M)
            log_scale = _between(raw[:, 1].float(), SCALE_RANGE_M)
            if correction is None:
                return self._merge(log_mean, log_scale, depth_prior, cell_log, measured)
            predicted = torch.stack((log_mean, log_scale), dim=1)
            maps = torch.cat((predicted, _bounded(correction.float())), dim=1)
            return self._fuse(maps, depth_prior, cell_log, measured)

    def _fuse(self, maps: Tensor, prior: Tensor, cell_log: Tensor, measured: Tensor) -> DepthMaps:
        """Correct the prior; maps (B, 5, h, w): log mean and scale, trust, correction, factor."""
        cell_mean, cell_scale = self._corrected(maps, cell_log, measured > 0)
        fine = F.interpolate(
            maps, scale_factor=float(FEATURE_STRIDE), mode='bilinear', align_corners=False
        )
        known = prior > 0
        prior_log = torch.where(known, prior, torch.ones_like(prior)).log()
        mean, scale = self._corrected(fine, prior_log, known)
        return DepthMaps(
            maps[:, 0],
            maps[:, 1],
            mean.exp(),
            scale.exp(),
            cell_mean.exp(),
            measured,
            cell_mean,
            cell_scale,
        )

    def _corrected(self, maps: Tensor, prior_log: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Return log mean and log scale of the merged depth, each like `prior_log`."""
        log_mean, log_scale, trust, shift, factor = maps.unbind(1)
        offset, slope = self.prior_scale.exp().unbind()
        mean = log_mean + trust * (prior_log - log_mean) + shift
        scale = (offset + slope * prior_log.exp()).log() + factor
        return torch.where(known, mean, log_mean), torch.where(known, scale, log_scale)

    def _guide(self, cell_log: Tensor, measured: Tensor, velo_from_pixel: Tensor) -> Tensor:
        """Stack prior and camera channels, (B, 7, h, w): ray, camera height, focal length."""
        rays = pixel_rays(velo_from_pixel, self.image_size, FEATURE_STRIDE)
        height_m = velo_from_pixel[:, 2, 3]
        pixel_size = torch.linalg.vector_norm(velo_from_pixel[:, :, 0], dim=1)
        focal = -torch.log(pixel_size * _FOCAL_REFERENCE_PX)
        constants = torch.stack((height_m, focal), dim=1)[:, :, None, None]
        constants = constants.expand(-1, -1, rays.shape[2], rays.shape[3])
        return torch.cat((torch.stack((cell_log, measured), 1), rays, constants), dim=1)

    def _merge(
        self,
        log_mean: Tensor,
        log_scale: Tensor,
        prior: Tensor,
        cell_log: Tensor,
        measured: Tensor,
    ) -> DepthMaps:
        known = prior > 0
        both = torch.stack((log_mean, log_scale), dim=1)
        both = F.interpolate(
            both, scale_factor=float(FEATURE_STRIDE), mode='bilinear', align_corners=False
        ).exp()
        offset, slope = self.prior_scale.exp().unbind()
        mean = torch.where(known, prior, both[:, 0])
        scale = torch.where(known, offset + slope * prior, both[:, 1])
        cell = torch.where(measured > 0, cell_log, log_mean).exp()
        return DepthMaps(log_mean, log_scale, mean, scale, cell, measured, log_mean, log_scale)


class Extractor(nn.Module):
    """Middle level: features for cross-attention, and masks that guide those of stride 16."""

    def __init__(self, channels: int, num_masks: int, strides: tuple[int, ...] = (16,)) -> None:
        """Take the feature width, the number of mask channels, the strides of what it gives."""
        super().__init__()
        self.strides = strides
        self.features = nn.Sequential(
            conv_block(channels, channels), nn.Conv2d(channels, channels, 1)
        )
        self.others = nn.ModuleList(
            nn.Conv2d(channels, channels, 1) for stride in strides if stride != EXTRACTOR_STRIDE
        )
        self.masks = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, num_masks, 1))

    def forward(self, image: ImageFeatures) -> tuple[list[Tensor], Tensor]:
        """Return F_2D (B, C, H/s, W/s) of each stride s, and mask logits (B, K, H/4, W/4).

        The masks are those of stride 16, upsampled.
        """
        own = self.features(image.coarse)
        logits = F.interpolate(
            self.masks(own), scale_factor=4.0, mode='bilinear', align_corners=False
        )
        others = iter(self.others)
        maps = [
            own if stride == EXTRACTOR_STRIDE else next(others)(image.levels[_level(stride)])
            for stride in self.strides
        ]
        return maps, logits


def _level(stride: int) -> int:
    """Return the place of a stride among 4, 8, 16, 32."""
    return int(math.log2(stride // FEATURE_STRIDE))


def pool_prior(depth_prior: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean log depth of the known pixels of each stride-4 cell and their fraction.

    Both (B, H/4, W/4); the mean is 0 where nothing is known.
    """
    known = depth_prior > 0
    log_depth = torch.where(known, depth_prior, 1.0).log()
    pooled = F.avg_pool2d(torch.stack((log_depth, known.to(torch.float32)), dim=1), FEATURE_STRIDE)
    fraction = pooled[:, 1]
    return pooled[:, 0] / fraction.clamp(min=1.0 / FEATURE_STRIDE**2), fraction


def _bounded(correction: Tensor) -> Tensor:
    """Bound raw trust, correction and scale factor (B, 3, h, w): 0..1, and both ways of 0."""
    trust, shift, factor = correction.unbind(1)
    limited = (torch.sigmoid(trust), MAX_SHIFT * shift.tanh(), MAX_FACTOR * factor.tanh())
    return torch.stack(limited, dim=1)


def _between(raw: Tensor, limits: tuple[float, float]) -> Tensor:
    """Map a free number to log(limits[0])..log(limits[1]), smoothly."""
    low, high = math.log(limits[0]), math.log(limits[1])
    return low + (high - low) * torch.sigmoid(raw)
