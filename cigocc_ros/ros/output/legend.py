"""The classes as a board that stands beyond the far edge of the grid: a cube and a name each.

RViz has no legend of its own. The rows rise and recede like seats of a theatre, so that they are
read from behind the vehicle and from above alike.
"""

from __future__ import annotations

from collections.abc import Iterator

from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import CLASS_NAMES, EMPTY, PALETTE_RGB
from cigocc_ros.ros.output.clouds import header

COLUMNS = 4
LETTER_SHARE = 0.025
"""Height of the letters by the width of the grid: 1.3 m beside 51 m; more, and names overlap."""
BACK_LETTERS, UP_LETTERS = 1.4, 1.25
"""Between rows. The whole board is in view where config/occ.rviz looks from."""
TEXT_RGB = (255, 255, 255)


def legend_message(grid: VoxelGrid, frame_id: str) -> MarkerArray:
    """Return the board for a grid; of stamp 0, so that it moves with the frame for ever."""
    shown = [train_id for train_id in range(len(CLASS_NAMES)) if train_id != EMPTY]
    markers = []
    for train_id, (x, y, z) in zip(shown, _places(grid, len(shown)), strict=True):
        markers += _entry(train_id, Point(x=x, y=y, z=z), _letter_m(grid))
    for number, marker in enumerate(markers):
        marker.header, marker.ns, marker.id = header(0, frame_id), 'legend', number
        marker.action, marker.frame_locked = Marker.ADD, True
    return MarkerArray(markers=markers)


def _letter_m(grid: VoxelGrid) -> float:
    return LETTER_SHARE * grid.shape[1] * grid.voxel_size_m[1]


def _places(grid: VoxelGrid, count: int) -> Iterator[tuple[float, float, float]]:
    """Yield where the cubes stand: rows from the lowest, columns from the left."""
    letter_m = _letter_m(grid)
    far_m, width_m, height_m = (
        size * count for size, count in zip(grid.voxel_size_m, grid.shape, strict=True)
    )
    rows = -(-count // COLUMNS)
    x, y, z = grid.origin_m[0] + far_m, grid.origin_m[1] + width_m, grid.origin_m[2] + height_m
    for index in range(count):
        column, row = divmod(index, rows)
        up = rows - 1 - row
        yield (
            x + (2 + BACK_LETTERS * up) * letter_m,
            y - (column + 0.05) * width_m / COLUMNS,
            z + (0.5 + UP_LETTERS * up) * letter_m,
        )


def _entry(train_id: int, place: Point, letter_m: float) -> list[Marker]:
    """Return the cube and the name of a class; the name is centred, so it begins beside it."""
    name = CLASS_NAMES[train_id]
    half_m = 0.3 * letter_m * len(name)
    beside = Point(x=place.x, y=place.y - letter_m - half_m, z=place.z)
    return [
        _marker(Marker.CUBE, place, letter_m, tuple(PALETTE_RGB[train_id].tolist())),
        _marker(Marker.TEXT_VIEW_FACING, beside, letter_m, TEXT_RGB, name),
    ]


def _marker(
    kind: int, place: Point, size_m: float, rgb: tuple[int, ...], text: str = ''
) -> Marker:
    red, green, blue = (channel / 255 for channel in rgb)
    return Marker(
        type=kind,
        pose=Pose(position=place, orientation=Quaternion(w=1.0)),
        scale=Vector3(x=size_m, y=size_m, z=size_m),
        color=ColorRGBA(r=red, g=green, b=blue, a=1.0),
        text=text,
    )
