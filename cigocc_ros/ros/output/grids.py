"""The dense outputs: ~/grid and ~/bev, what their numbers mean, and the newest grid as files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from nav_msgs.msg import MapMetaData, OccupancyGrid
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from cigocc_ros.core.birds_eye import birds_eye
from cigocc_ros.core.errors import CigoccError, ConfigError
from cigocc_ros.core.files import write_atomically
from cigocc_ros.core.frames import Occupancy, labels_on_grid
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID, VoxelGrid
from cigocc_ros.core.labels import (
    CLASS_NAMES,
    EMPTY,
    NUM_CLASSES,
    PALETTE_RGB,
    RAW_FROM_TRAIN,
    raw_from_train,
)
from cigocc_ros.data.kitti_files import write_voxel_labels
from cigocc_ros.ros.occ_parameters import GRID_IMAGE
from cigocc_ros.ros.output.clouds import byte_array, header
from cigocc_ros.ros.stamps import stamp_from_ns

try:
    from foxglove_msgs.msg import PackedElementField
    from foxglove_msgs.msg import VoxelGrid as FoxgloveGrid
except ImportError:
    FoxgloveGrid = None


def class_info_json(
    model_id: str,
    grid: VoxelGrid,
    frame_id: str,
    grid_layout: str,
    occupied_from: float | None = None,
) -> str:
    """Return the classes with colours, the grid, its frame and layout on ~/grid, the model.

    `occupied_from` is the least probability of the voxels that a calibrated model calls occupied.
    """
    classes = [
        {'id': train_id, 'name': name, 'rgb': PALETTE_RGB[train_id].tolist()}
        for train_id, name in enumerate(CLASS_NAMES)
    ]
    content = {
        'model_id': model_id,
        'empty': EMPTY,
        'classes': classes,
        'frame_id': frame_id,
        'grid': grid.to_dict(),
        'grid_layout': grid_layout,
        'occupied_from': occupied_from,
    }
    return json.dumps(content)


def save_grid(folder: str, occupancy: Occupancy | None, model_id: str) -> Path:
    """Write `<stamp>.label` (raw ids, 256 x 256 x 32) and `<stamp>.json`; return the first.

    Raises ConfigError without a folder or a grid, and DataFileError where writing fails; neither
    file is left behind then.
    """
    if not folder:
        raise ConfigError('no folder to save in: start the node with the parameter save_dir')
    if occupancy is None:
        raise ConfigError('no grid yet: no frame has been processed, see /diagnostics')
    path = Path(folder).expanduser() / f'{occupancy.stamp_ns}.label'
    facts = path.with_suffix('.json')
    write_atomically(facts, _facts(occupancy, model_id))
    try:
        write_voxel_labels(path, raw_from_train(labels_on_grid(occupancy, SEMANTIC_KITTI_GRID)))
    except CigoccError:
        facts.unlink(missing_ok=True)
        raise
    return path


def _facts(occupancy: Occupancy, model_id: str) -> str:
    facts = {
        'stamp_ns': occupancy.stamp_ns,
        'frame_id': occupancy.frame_id,
        'model_id': model_id,
        'grid': SEMANTIC_KITTI_GRID.to_dict(),
        'predicted_on': occupancy.grid.to_dict(),
        'occupied_voxels': int(occupancy.occupied.sum()),
        'raw_ids': dict(zip(CLASS_NAMES, RAW_FROM_TRAIN.tolist(), strict=True)),
    }
    return json.dumps(facts, indent=2) + '\n'


@dataclass(frozen=True)
class GridFormat:
    """How ~/grid carries the labels: the type of its messages, in words, and what makes them."""

    kind: type[Any]
    layout: str
    make: Callable[[Occupancy], Any]


def grid_format(name: str) -> GridFormat:
    """Return the format of a name in `GRID_TYPES`; raise ConfigError where its package is missing.

    An installed package never changes the type of a topic: whoever listens would hear nothing.
    """
    if name == GRID_IMAGE:
        return GridFormat(Image, 'mono8 image: row x * Y + y, column z', label_image)
    if FoxgloveGrid is None:
        raise ConfigError(
            'grid_type is foxglove, but foxglove_msgs is not installed: '
            'sudo apt install ros-$ROS_DISTRO-foxglove-msgs'
        )
    return GridFormat(FoxgloveGrid, 'foxglove_msgs/VoxelGrid', foxglove_grid)


_UINT8 = 1  # foxglove_msgs/PackedElementField
_CELL_FIELDS = ('label', 'red', 'green', 'blue', 'alpha')
_OPAQUE = 255


def label_image(occupancy: Occupancy) -> Image:
    """Return the train ids as a mono8 image of X * Y rows and Z columns: row x * Y + y."""
    size_x, size_y, size_z = occupancy.labels.shape
    image = Image(
        header=header(occupancy.stamp_ns, occupancy.frame_id),
        height=size_x * size_y,
        width=size_z,
        encoding='mono8',
        step=size_z,
    )
    image.data = byte_array(occupancy.labels)
    return image


def foxglove_grid(occupancy: Occupancy) -> Any:
    """Return train id and colour of every voxel, z-major as Foxglove wants it; empty is clear."""
    size_x, size_y, size_z = occupancy.labels.shape
    cell, row = len(_CELL_FIELDS), len(_CELL_FIELDS) * size_x
    x, y, z = occupancy.grid.voxel_size_m
    grid = FoxgloveGrid(
        timestamp=stamp_from_ns(occupancy.stamp_ns),
        frame_id=occupancy.frame_id,
        pose=corner_pose(occupancy.grid),
        row_count=size_y,
        column_count=size_x,
        cell_size=Vector3(x=x, y=y, z=z),
        slice_stride=row * size_y,
        row_stride=row,
        cell_stride=cell,
        fields=[
            PackedElementField(name=name, offset=i, type=_UINT8)
            for i, name in enumerate(_CELL_FIELDS)
        ],
    )
    cells = _cell_table().take(occupancy.labels.transpose(2, 1, 0), axis=0)
    grid.data = byte_array(np.ascontiguousarray(cells))
    return grid


def bev_message(occupancy: Occupancy) -> OccupancyGrid:
    """Return the view from above: a cell is a column of voxels, x along the rows.

    Raises ConfigError where voxels are not square, which OccupancyGrid cannot say.
    """
    grid = occupancy.grid
    size_x, size_y, _ = grid.voxel_size_m
    if not np.isclose(size_x, size_y):
        raise ConfigError(f'~/bev needs square voxels, found {size_x} x {size_y} m')
    message = OccupancyGrid(
        header=header(occupancy.stamp_ns, occupancy.frame_id),
        info=MapMetaData(
            map_load_time=stamp_from_ns(occupancy.stamp_ns),
            resolution=size_x,
            width=grid.shape[0],
            height=grid.shape[1],
            origin=corner_pose(grid),
        ),
    )
    cells = byte_array(np.ascontiguousarray(birds_eye(occupancy).T).view(np.uint8))
    message.data = type(message.data)('b', cells.tobytes())
    return message


def corner_pose(grid: VoxelGrid) -> Pose:
    """Return the lowest corner of the grid."""
    x, y, z = grid.origin_m
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(w=1.0))


def _cell_table() -> NDArray[np.uint8]:
    """Return the bytes of a cell of each class, (20, 5)."""
    alpha = np.full((NUM_CLASSES, 1), _OPAQUE, np.uint8)
    alpha[EMPTY] = 0
    labels = np.arange(NUM_CLASSES, dtype=np.uint8)[:, None]
    return np.concatenate([labels, PALETTE_RGB, alpha], axis=1)
