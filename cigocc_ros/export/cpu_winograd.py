"""3x3x3 convolutions of volumes with few levels, by fewer multiplications.

Along Z a convolution of three taps is one of polynomials, so m levels of it need m + 2 products of
transformed levels and transformed weights instead of 3 m (Winograd's minimal filtering F(m, 3),
Lavin and Gray 2015): half of them with m = 4, two thirds with m = 2. Each product is one 2D
convolution; those of a tile are the groups of one. What goes in and comes out is combined by small
matrices, which know the border: levels outside are not there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FILTERED = 'filtered_'
"""Begins the names of convolutions of such products."""
Matrix = NDArray[np.float64]
TAPS = 3


@dataclass(frozen=True)
class Planes:
    """How one convolution of a stack of levels becomes a 2D one of combined levels."""

    taken: Matrix
    """(images * groups * joined, levels): what is convolved, of the levels."""
    images: int
    groups: int
    weight: NDArray[np.float32]
    """(groups * O, joined * C, 3, 3)."""
    given: Matrix | None
    """(levels out, images * groups): what comes out, of the convolved; None where it is that."""


def taps_of(weight: NDArray[np.float32], groups: int) -> NDArray[np.float32]:
    """Return the weights (O, C, 3, 3, 3) that became (groups * O, C, 3, 3)."""
    kernel = minimal_filter(groups - TAPS + 1)[1]
    products = weight.astype(np.float64).reshape(groups, -1, *weight.shape[1:])
    taps = np.einsum('kp,pocxy->ocxyk', np.linalg.pinv(kernel), products)
    return np.asarray(taps, np.float32)


def planes(weight: NDArray[np.float32], levels: int, stride: int) -> Planes:
    """Return how to convolve `levels` levels with (O, C, 3, 3, 3), padded by one, along Z."""
    if stride == 1 and levels == 1:
        return Planes(np.ones((1, 1)), 1, 1, np.ascontiguousarray(weight[..., 1]), None)
    return _filtered(weight, levels) if stride == 1 else neighbours(weight, levels, stride)


def _filtered(weight: NDArray[np.float32], levels: int) -> Planes:
    size = 2 if levels == 2 else 4
    image, kernel, back = minimal_filter(size)
    tiles, products = -(-levels // size), size + TAPS - 1
    taken, given = np.zeros((tiles * products, levels)), np.zeros((levels, tiles * products))
    for tile in range(tiles):
        rows = slice(tile * products, (tile + 1) * products)
        for k in range(products):
            level = tile * size + k - 1
            if 0 <= level < levels:
                taken[rows, level] = image[:, k]
        last = min((tile + 1) * size, levels)
        given[tile * size : last, rows] = back[: last - tile * size]
    transformed = np.einsum('pk,ocxyk->pocxy', kernel, weight.astype(np.float64))
    flat = transformed.reshape(-1, *transformed.shape[2:]).astype(np.float32)
    return Planes(taken, tiles, products, flat, given)


def neighbours(weight: NDArray[np.float32], levels: int, stride: int) -> Planes:
    """Join the three levels of each output, in which a stride leaves nothing to share."""
    centers = range(0, levels, stride)
    taken = np.zeros((len(centers) * TAPS, levels))
    for index, center in enumerate(centers):
        for k in range(TAPS):
            if 0 <= center + k - 1 < levels:
                taken[index * TAPS + k, center + k - 1] = 1
    flat = weight.transpose(0, 4, 1, 2, 3).reshape(weight.shape[0], -1, *weight.shape[2:4])
    return Planes(taken, len(centers), 1, np.ascontiguousarray(flat), None)


def minimal_filter(size: int) -> tuple[Matrix, Matrix, Matrix]:
    """Return matrices of input, weights and output of F(size, 3), size 2 or 4.

    output = back @ ((kernel @ weights) * (image @ input)): `size` numbers of size + 2.
    """
    points = {2: (0, 1, -1), 4: (0, 1, -1, 2, -2)}[size]
    count = size + TAPS - 1
    back = np.array(
        [[float(p) ** i for p in points] + [float(i == size - 1)] for i in range(size)]
    )
    kernel = np.array([[float(p) ** i for i in range(TAPS)] for p in points] + [[0.0, 0.0, 1.0]])
    # The input's matrix is the only one for which the identity holds for all inputs and weights.
    wanted = np.zeros((size * TAPS, count))
    for i in range(size):
        for j in range(TAPS):
            wanted[i * TAPS + j, i + j] = 1
    products = np.einsum('ip,pj->ijp', back, kernel).reshape(size * TAPS, count)
    image = np.linalg.lstsq(products, wanted, rcond=None)[0]
    image[np.abs(image) < 1e-9] = 0
    # Whole numbers, which float32 holds exactly; the weights take the rest.
    scale = np.where(image == 0, np.inf, np.abs(image)).min(1, keepdims=True)
    return np.round(image / scale), kernel * scale, back
