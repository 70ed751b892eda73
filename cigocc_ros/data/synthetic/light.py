"""Sun, sky, haze and the camera's response to them."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import Floats32
from cigocc_ros.data.synthetic.noise import value_noise

OVERCAST_SHARE = 0.25
LINEAR_SHARE = 0.7
"""How often the camera answers almost linearly, as KITTI's does: black shade, white walls."""
_ROAD_ALBEDO = 0.15


@dataclass(frozen=True)
class Light:
    """Weather, daytime and camera response of one sequence; radiances are linear rgb."""

    sun: Floats32
    """Unit vector towards the sun, world frame."""
    sun_rgb: Floats32
    ambient_rgb: Floats32
    zenith_rgb: Floats32
    horizon_rgb: Floats32
    haze_per_m: float
    clouds: float
    exposure: float
    gain_rgb: Floats32
    gamma: float
    knee: float
    """From here on highlights are compressed; 1 cuts them off."""
    noise: float
    blur_px: float
    hills_rad: float
    """Height of the wooded horizon."""
    seed: int

    @classmethod
    def drawn(cls, random: np.random.Generator) -> Light:
        """Draw weather, daytime and camera response; the exposure follows the light."""
        azimuth, elevation = random.uniform(0, 2 * np.pi), random.uniform(0.4, 1.1)
        level = np.cos(elevation)
        sun = np.array([np.cos(azimuth) * level, np.sin(azimuth) * level, np.sin(elevation)])
        dull = random.random() < OVERCAST_SHARE
        overcast = random.uniform(0.6, 1.0) if dull else 0.3 * random.random() ** 2
        sun_rgb = np.array([1.0, 0.95, 0.86]) * (1 - overcast) ** 1.5 * random.uniform(2.4, 3.6)
        blue, grey = np.array([0.62, 0.78, 1.0]), np.array([0.95, 0.97, 1.0])
        ambient = (blue + (grey - blue) * overcast) * (random.uniform(0.22, 0.55) + 0.6 * overcast)
        lit = _ROAD_ALBEDO * (sun_rgb.mean() * np.sin(elevation) + ambient.mean())
        linear = random.random() < LINEAR_SHARE
        gamma = random.uniform(0.95, 1.35) if linear else random.uniform(1.4, 2.3)
        wanted = random.uniform(0.33, 0.68) if linear else random.uniform(0.35, 0.6)
        exposure = wanted**gamma / lit
        deep = _mixed([0.12, 0.34, 0.82], [0.85, 0.88, 0.93], overcast) ** (gamma / 1.2)
        pale = _mixed([0.5, 0.72, 0.97], [0.97, 0.98, 1.0], overcast) ** (gamma / 1.2)
        glare = random.uniform(1.1, 2.2) if random.random() < 0.35 else random.uniform(0.75, 1.1)
        hazy = random.random() < 0.1
        return cls(
            sun.astype(np.float32),
            sun_rgb.astype(np.float32),
            ambient.astype(np.float32),
            (deep * glare / exposure).astype(np.float32),
            (pale * glare / exposure).astype(np.float32),
            random.uniform(0.0015, 0.004) if hazy else random.uniform(0.00005, 0.0007),
            random.random() ** 1.5,
            exposure,
            (1 + 0.05 * random.normal(size=3)).astype(np.float32),
            gamma,
            random.uniform(0.6, 1.0),
            random.uniform(0.002, 0.012),
            random.uniform(0.25, 0.6),
            random.uniform(0.0, 0.06),
            int(random.integers(1 << 30)),
        )

    def sky(self, directions: NDArray[np.floating]) -> tuple[Floats32, NDArray[np.bool_]]:
        """Return the sky's radiance (N, 3) along world directions (N, 3), and which are hills."""
        up = np.clip(directions[:, 2:], 0, 1)
        base = self.horizon_rgb + (self.zenith_rgb - self.horizon_rgb) * up**0.45
        plane = directions[:, :2] / (directions[:, 2:] + 0.12)
        flat = np.column_stack([plane, np.zeros(len(plane))])
        octaves = [value_noise(flat * s, self.seed) / s for s in (0.7, 1.4, 2.8, 5.6)]
        cloud = functools.reduce(np.add, octaves)
        share = np.clip((cloud[:, None] / 2.7 - 0.75 + 0.5 * self.clouds) * 3, 0, 0.95)
        base = base * (1 - share) + self.horizon_rgb * 1.1 * share
        glow = np.clip(directions @ self.sun, 0, 1)[:, None] ** 60
        base = base + glow * self.sun_rgb * 0.4
        hills = self._hills(directions)
        wooded = np.array([0.06, 0.085, 0.05]) * (self.ambient_rgb + 0.3 * self.sun_rgb)
        wooded = wooded + 0.06 * self.horizon_rgb
        return np.where(hills[:, None], wooded, base).astype(np.float32), hills

    def _hills(self, directions: NDArray[np.floating]) -> NDArray[np.bool_]:
        around = (
            directions[:, :2]
            / np.maximum(np.linalg.norm(directions[:, :2], axis=1), 1e-6)[:, None]
        )
        ring = np.column_stack([around, np.zeros(len(around))])
        height = 0.2 + 0.6 * value_noise(ring * 6, self.seed + 3)
        for scale, weight in ((25, 0.3), (90, 0.25), (300, 0.12)):
            height = height + weight * (value_noise(ring * scale, self.seed + scale) - 0.4)
        ridge: NDArray[np.bool_] = directions[:, 2] < self.hills_rad * height
        return ridge

    def exposed(self, radiance: Floats32, random: np.random.Generator) -> NDArray[np.uint8]:
        """Turn radiance (H, W, 3) into 8 bit: optics, exposure, white balance, noise, gamma."""
        import cv2

        blurred = cv2.GaussianBlur(radiance, (0, 0), self.blur_px)
        light = np.clip(blurred * (self.exposure * self.gain_rgb), 0, None)
        room = max(1 - self.knee, 1e-3)
        bright = 1 - room * np.exp(-np.maximum(light - self.knee, 0) / room)
        toned = np.where(light > self.knee, bright, light)
        noisy = toned + self.noise * np.sqrt(toned + 0.02) * random.standard_normal(
            toned.shape, np.float32
        )
        image: NDArray[np.uint8] = (255 * np.clip(noisy, 0, 1) ** (1 / self.gamma) + 0.5).astype(
            np.uint8
        )
        return image


def _mixed(clear: list[float], covered: list[float], overcast: float) -> NDArray[np.float64]:
    low, high = np.array(clear), np.array(covered)
    mixed: NDArray[np.float64] = low + (high - low) * overcast
    return mixed
