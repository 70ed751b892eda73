"""The interface of the nodes as tables; `python -m cigocc_ros.ros.interface` writes the page.

A test compares the rows with the graph of a running node.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cigocc_ros.core.markdown import table, write_into
from cigocc_ros.data.recording import TOPICS as RECORDED
from cigocc_ros.ros.occ_parameters import OccParameters
from cigocc_ros.ros.parameters import param_table
from cigocc_ros.ros.players.player_parameters import BagPlayerParameters, PlayerParameters

FALLBACK, RELIABLE, LATCHED = 'reliable, else best effort', 'reliable', 'reliable, latched'


@dataclass(frozen=True)
class Row:
    """A topic or service of the node `occ`; names as in the code, before remapping."""

    name: str
    kind: str
    qos: str
    meaning: str


INPUTS = (
    Row(
        'image',
        'sensor_msgs/msg/Image',
        FALLBACK,
        'Camera, colour or grey; `image/compressed` with `image_transport:=compressed`',
    ),
    Row(
        'camera_info',
        'sensor_msgs/msg/CameraInfo',
        FALLBACK,
        'Of that image; ROI and binning are honoured',
    ),
    Row(
        'right/image',
        'sensor_msgs/msg/Image',
        FALLBACK,
        'Optional: right camera of a rectified pair, for depth by stereo matching',
    ),
    Row('right/camera_info', 'sensor_msgs/msg/CameraInfo', FALLBACK, 'Of the right image'),
    Row(
        'depth',
        'sensor_msgs/msg/Image',
        FALLBACK,
        'Optional: depth registered to the image, 32FC1 in m or 16UC1 in mm (REP 118); '
        '`depth/compressedDepth` where only that is published',
    ),
    Row(
        'depth/camera_info',
        'sensor_msgs/msg/CameraInfo',
        FALLBACK,
        'Optional: of the depth image, compared with that of the image; `camera_info` beside '
        '`depth` where that is remapped',
    ),
    Row(
        'semantic_prior',
        'sensor_msgs/msg/Image',
        FALLBACK,
        'Optional, with `semantic_classes` and a model that takes classes from outside: class ids '
        'of the pixels, by any segmentation network, mono8, mono16, 8UC1, 8SC1, 16UC1, 16SC1 or '
        '32SC1',
    ),
)
OUTPUTS = (
    Row(
        '~/occupancy',
        'sensor_msgs/msg/PointCloud2',
        RELIABLE,
        'One point per occupied voxel: `x y z rgb label probability`, and `class_confidence` of '
        'models that say it',
    ),
    Row(
        '~/markers',
        'visualization_msgs/msg/MarkerArray',
        RELIABLE,
        'Cubes per class; slow in RViz',
    ),
    Row(
        '~/grid',
        'sensor_msgs/msg/Image',
        RELIABLE,
        'Every label: mono8, row x * Y + y, column z; `foxglove_msgs/msg/VoxelGrid` instead '
        'with `grid_type:=foxglove`',
    ),
    Row(
        '~/bev',
        'nav_msgs/msg/OccupancyGrid',
        LATCHED,
        'The map from above, for planners: 0 drivable, 50 other ground, 100 obstacle, -1 unknown',
    ),
    Row(
        '~/class_info',
        'std_msgs/msg/String',
        LATCHED,
        'JSON: names and colours of the classes, grid and its frame, model',
    ),
    Row(
        '~/legend',
        'visualization_msgs/msg/MarkerArray',
        LATCHED,
        'Names and colours of the classes for RViz, on a board beyond the far edge of the grid',
    ),
    Row(
        '~/debug/processing_time_ms',
        'std_msgs/msg/Float64',
        RELIABLE,
        'From the start of decoding to the end of publishing',
    ),
    Row(
        '~/debug/pipeline_latency_ms',
        'std_msgs/msg/Float64',
        RELIABLE,
        'From the stamp of the image to the end of publishing',
    ),
    Row(
        '/diagnostics',
        'diagnostic_msgs/msg/DiagnosticArray',
        RELIABLE,
        'Once a second: what was received, processed, replaced, dropped, and why',
    ),
)
SERVICES = (
    Row('~/enable', 'std_srvs/srv/SetBool', '', 'Stop and start the work; the model stays loaded'),
    Row(
        '~/save_grid',
        'std_srvs/srv/Trigger',
        '',
        'Write the newest grid into `save_dir`: STAMP.label (raw ids, 256 x 256 x 32) and '
        'STAMP.json, which says what it is',
    ),
)


def topic_table(rows: Iterable[Row]) -> str:
    """Return topics as a Markdown table."""
    return _text(
        ('topic', 'type', 'QoS', ''), [(f'`{r.name}`', r.kind, r.qos, r.meaning) for r in rows]
    )


def service_table(rows: Iterable[Row]) -> str:
    """Return services as a Markdown table."""
    return _text(('service', 'type', ''), [(f'`{r.name}`', r.kind, r.meaning) for r in rows])


def recording_table() -> str:
    """Return the topics of the player and of bags as a Markdown table."""
    rows = [(f'`{name}`', f'`{topic.in_bags}`') for name, topic in RECORDED.items()]
    return _text(('`kitti_player`', 'in bags'), rows)


def _text(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return '\n'.join(table(heads, rows, left=len(heads))) + '\n'


TABLES: dict[str, Callable[[], str]] = {
    'inputs': lambda: topic_table(INPUTS),
    'outputs': lambda: topic_table(OUTPUTS),
    'services': lambda: service_table(SERVICES),
    'parameters of occ': lambda: param_table(OccParameters),
    'parameters of kitti_player': lambda: param_table(PlayerParameters),
    'parameters of bag_player': lambda: param_table(BagPlayerParameters),
    'recordings': recording_table,
}


def main(paths: list[str]) -> int:
    """Rewrite the blocks of pages in place."""
    for path in map(Path, paths):
        write_into(path, {name: table() for name, table in TABLES.items()})
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
