"""Sun, sky, haze and the camera's response to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.data.synthetic.noise import value_noise

Array = NDArray[np.float32]
OVERCAST_SHARE = 0.3
_ROAD_ALBEDO = 0.14


@dataclass(frozen=True)
class Light:
    """Weather, daytime and camera response of one sequence; radiances are linear rgb."""

    sun: Array
    """Unit vector towards the sun, world frame."""
    sun_rgb: Array
    ambient_rgb: Array
    zenith_rgb: Array
    horizon_rgb: Array
    haze_per_m: float
    clouds: float
    exposure: float
    gain_rgb: Array
    gamma: float
    noise: float
    blur_px: float
    hills_rad: float
    """Height of the wooded horizon."""
    seed: int

    @classmethod
    def drawn(cls, random: np.random.Generator) -> Light:
        """Draw weather, daytime and camera response; the exposure follows the light."""
        azimuth, elevation = random.uniform(0, 2 * np.pi), random.uniform(0.3, 1.1)
        level = np.cos(elevation)
        sun = np.array([np.cos(azimuth) * level, np.sin(azimuth) * level, np.sin(elevation)])
        overcast = (
            random.uniform(0.6, 1.0)
            if random.random() < OVERCAST_SHARE
            else 0.35 * random.random()
        )
        sun_rgb = np.array([1.0, 0.93, 0.82]) * (1 - overcast) ** 1.5 * random.uniform(2.2, 3.6)
        blue, grey = np.array([0.55, 0.72, 1.0]), np.array([0.95, 0.97, 1.0])
        tone = blue + (grey - blue) * overcast
        ambient = tone * (random.uniform(0.3, 0.6) + 0.6 * overcast)
        lit = _ROAD_ALBEDO * (sun_rgb.mean() * np.sin(elevation) + ambient.mean())
        exposure = random.uniform(0.1, 0.26) / lit
        deep = np.array([0.1, 0.27, 0.75]) * (1 - overcast) + np.array([0.8, 0.84, 0.9]) * overcast
        pale = (
            np.array([0.6, 0.75, 0.95]) * (1 - overcast) + np.array([0.95, 0.96, 1.0]) * overcast
        )
        brightness = random.uniform(0.6, 1.3) / exposure
        return cls(
            sun.astype(np.float32),
            sun_rgb.astype(np.float32),
            ambient.astype(np.float32),
            (deep * brightness).astype(np.float32),
            (pale * brightness).astype(np.float32),
            random.uniform(0.0001, 0.0012)
            if random.random() < 0.85
            else random.uniform(0.002, 0.005),
            random.random(),
            exposure,
            (1 + 0.05 * random.normal(size=3)).astype(np.float32),
            random.uniform(1.8, 2.4),
            random.uniform(0.002, 0.014),
            random.uniform(0.25, 0.6),
            random.uniform(0.0, 0.06),
            int(random.integers(1 << 30)),
        )

    def sky(self, directions: NDArray[np.floating]) -> tuple[Array, NDArray[np.bool_]]:
        """Return the sky's radiance (N, 3) along world directions (N, 3), and which are hills."""
        up = np.clip(directions[:, 2:], 0, 1)
        base = self.horizon_rgb + (self.zenith_rgb - self.horizon_rgb) * up**0.45
        plane = directions[:, :2] / (directions[:, 2:] + 0.12)
        flat = np.column_stack([plane, np.zeros(len(plane))])
        cloud = sum(value_noise(flat * s, self.seed) / s for s in (0.7, 1.4, 2.8, 5.6))
        share = np.clip((cloud[:, None] / 2.7 - 0.75 + 0.5 * self.clouds) * 3, 0, 0.95)
        base = base * (1 - share) + self.horizon_rgb * 1.1 * share
        glow = np.clip(directions @ self.sun, 0, 1)[:, None] ** 60
        base = base + glow * self.sun_rgb * 0.4
        hills = self._hills(directions)
        wooded = np.array([0.05, 0.075, 0.05]) * self.ambient_rgb * 2 + 0.15 * self.horizon_rgb
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

    def exposed(self, radiance: Array, random: np.random.Generator) -> NDArray[np.uint8]:
        """Turn radiance (H, W, 3) into 8 bit: optics, exposure, white balance, noise, gamma."""
        import cv2

        blurred = cv2.GaussianBlur(radiance, (0, 0), self.blur_px)
        light = np.clip(blurred * (self.exposure * self.gain_rgb), 0, None)
        bright = 0.6 + 0.4 * (1 - np.exp(-np.maximum(light - 0.6, 0) / 0.4))
        toned = np.where(light > 0.6, bright, light)
        noisy = toned + self.noise * np.sqrt(toned + 0.02) * random.standard_normal(
            toned.shape, np.float32
        )
        image: NDArray[np.uint8] = (255 * np.clip(noisy, 0, 1) ** (1 / self.gamma) + 0.5).astype(
            np.uint8
        )
        return image
