"""A reliability diagram has its points where the numbers are."""

import pytest

pytest.importorskip('PIL')

from cigocc_ros.render.reliability import (
    AFTER_RGB,
    BEFORE_RGB,
    MARGIN_PX,
    SIDE_PX,
    ReliabilityPanel,
    draw_reliability,
)


def place(panel, said, found):
    """Return row and column of a point of a panel."""
    left = panel * (SIDE_PX + 2 * MARGIN_PX) + MARGIN_PX
    return MARGIN_PX + SIDE_PX - round(found * SIDE_PX), left + round(said * SIDE_PX)


def test_points_are_where_the_numbers_are():
    before, after = [(0.2, 0.1, 100), (0.8, 0.3, 10)], [(0.1, 0.12, 100), (0.6, 0.55, 10)]
    panels = [
        ReliabilityPanel('Occupied', before, after, (0.2, 0.01)),
        ReliabilityPanel('Class', after, before, (0.1, 0.3)),
    ]
    picture = draw_reliability(panels)
    assert picture.shape[1] == 2 * (SIDE_PX + 2 * MARGIN_PX)
    for panel, sides in ((0, (before, after)), (1, (after, before))):
        for points, rgb in zip(sides, (BEFORE_RGB, AFTER_RGB), strict=True):
            for said, found, _ in points:
                assert tuple(picture[place(panel, said, found)]) == rgb
    assert tuple(picture[place(0, 0.8, 0.8)]) not in (BEFORE_RGB, AFTER_RGB)


def test_bars_grow_with_the_voxels_and_a_diagram_may_be_empty():
    rows = [(0.1, 0.1, 10), (0.9, 0.9, 100_000)]
    picture = draw_reliability([ReliabilityPanel('a', [], rows, (0.0, 0.0))])
    below = picture[MARGIN_PX + SIDE_PX + 30 :]
    _, few = place(0, 0.1, 0)
    _, many = place(0, 0.9, 0)
    low, high = ((below[:, x + 2] == AFTER_RGB).all(-1).sum() for x in (few, many))
    assert 0.1 * high < low < 0.3 * high
    blank = draw_reliability([ReliabilityPanel('a', [], [], (0.0, 0.0))])
    assert not (blank == BEFORE_RGB).all(-1)[MARGIN_PX:].any()
