"""Settings of the stereo matcher, and those that a model was trained with; needs no OpenCV."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.text import excerpt

MAX_OFFSET_PX = 5.0
DISPARITY_GRANULE = 16
"""StereoSGBM searches multiples of 16 disparities."""


@dataclass(frozen=True)
class StereoConfig:
    """Settings of the matcher; pixels are those of the images it works on.

    max_width_px: wider images are shrunk by the smallest whole number that fits.
    search_share: largest disparity searched, as a share of the width (KITTI: nearer than 3 m is
    lost). block_size_px: odd edge of the matched block. smooth_small, smooth_large: penalties of
    a disparity step by 1 and by more, per pixel of the block. uniqueness_percent: lead of the best
    match over the second. left_right_px: largest difference between matching left to right and
    back. speckle_px, speckle_range_px: smallest island of similar disparity that is kept.
    min_disparity_px: smaller ones, far away, are unknown. disparity_offset_px: added to every
    disparity, pixels of the image given, where a rig is known to be off by so much.
    """

    max_width_px: int = 640
    search_share: float = 0.1
    block_size_px: int = 5
    smooth_small: int = 8
    smooth_large: int = 32
    uniqueness_percent: int = 10
    left_right_px: int = 1
    speckle_px: int = 100
    speckle_range_px: int = 2
    min_disparity_px: float = 1.0
    disparity_offset_px: float = 0.0

    def __post_init__(self) -> None:
        """Raise ConfigError for settings that StereoSGBM cannot work with."""
        if self.max_width_px < 2 * DISPARITY_GRANULE or not 0 < self.search_share < 1:
            raise ConfigError(
                f'expected max_width_px >= {2 * DISPARITY_GRANULE} and search_share between 0 '
                f'and 1, found {self.max_width_px} and {self.search_share}'
            )
        if self.block_size_px < 1 or self.block_size_px % 2 == 0 or self.min_disparity_px <= 0:
            raise ConfigError(
                'expected an odd block_size_px and min_disparity_px > 0, found '
                f'{self.block_size_px} and {self.min_disparity_px}'
            )
        if not abs(self.disparity_offset_px) <= MAX_OFFSET_PX:
            raise ConfigError(
                f'expected a disparity_offset_px of at most {MAX_OFFSET_PX} pixels, found '
                f'{self.disparity_offset_px}: more is a wrong calibration'
            )

    def num_disparities(self, width: int) -> int:
        """Return how many disparities are searched in images of this width."""
        granules = math.ceil(width * self.search_share / DISPARITY_GRANULE)
        return max(granules, 1) * DISPARITY_GRANULE


DEFAULT_STEREO = StereoConfig()


def trained_stereo(
    training: Mapping[str, Any], width_px: int | None = None, offset_px: float | None = None
) -> StereoConfig:
    """Return the matcher of a model: as it was trained with, unless a number is given.

    training: `ModelManifest.training`; models that say nothing were trained with the defaults.
    Raises ConfigError for numbers that no matcher works with.
    """
    config = training.get('train')
    trained = config if isinstance(config, Mapping) else {}
    if width_px is None:
        width_px = trained.get('stereo_width_px', DEFAULT_STEREO.max_width_px)
    if offset_px is None:
        offset_px = trained.get('stereo_offset_px', DEFAULT_STEREO.disparity_offset_px)
    for name, value in (('stereo_width_px', width_px), ('stereo_offset_px', offset_px)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f'{name}: expected a number of pixels, found {excerpt(value)}')
    return StereoConfig(max_width_px=int(width_px), disparity_offset_px=float(offset_px))
