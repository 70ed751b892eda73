"""Value noise: reproducible random fields over space, from hashed lattice cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import Floats32

_TABLE_BITS = 16
_TABLE: Floats32 = np.random.default_rng(20240607).random(1 << _TABLE_BITS, dtype=np.float32)
_MASK = np.uint32((1 << _TABLE_BITS) - 1)
_PRIMES = (np.uint32(73856093), np.uint32(19349663), np.uint32(83492791))


def value_noise(points: NDArray[np.floating], seed: int) -> Floats32:
    """Return trilinear value noise in 0..1 at points (N, 3), one lattice cell per unit."""
    floor = np.floor(points)
    share = (points - floor).astype(np.float32)
    share = share * share * (3 - 2 * share)
    low = [_scrambled(floor[:, axis], axis, 0) for axis in range(3)]
    high = [_scrambled(floor[:, axis], axis, 1) for axis in range(3)]
    low[0], high[0] = low[0] ^ _salt(seed), high[0] ^ _salt(seed)
    planes = []
    for z in (low[2], high[2]):
        rows = []
        for y in (low[1], high[1]):
            yz = y ^ z
            rows.append(_mixed(_lookup(low[0] ^ yz), _lookup(high[0] ^ yz), share[:, 0]))
        planes.append(_mixed(rows[0], rows[1], share[:, 1]))
    return _mixed(planes[0], planes[1], share[:, 2])


def hashed(cells: NDArray[np.floating], seed: int) -> Floats32:
    """Return a reproducible number in 0..1 for each lattice cell (N, 3)."""
    code: NDArray[np.uint32] = _salt(seed) ^ _scrambled(cells[:, 0], 0, 0)
    for axis in (1, 2):
        code = code ^ _scrambled(cells[:, axis], axis, 0)
    return _lookup(code)


def _scrambled(cell: NDArray[np.floating], axis: int, step: int) -> NDArray[np.uint32]:
    code: NDArray[np.uint32] = (cell.astype(np.int64) + step).astype(np.uint32) * _PRIMES[axis]
    return code ^ (code >> np.uint32(13))


def _salt(seed: int) -> np.uint32:
    return np.uint32(seed * 2654435761 % (1 << 32))


def _lookup(code: NDArray[np.uint32]) -> Floats32:
    values: Floats32 = _TABLE[(code ^ (code >> np.uint32(16))) & _MASK]
    return values


def _mixed(low: Floats32, high: Floats32, share: Floats32) -> Floats32:
    return low + (high - low) * share
