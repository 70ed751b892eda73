"""Dense grids as messages, over DDS and in the layout of Foxglove."""

import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip('rclpy')

from fixtures_ros import EXTRINSICS, Camera
from nav_msgs.msg import OccupancyGrid
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image

from cigocc_ros.core.birds_eye import DRIVABLE, OBSTACLE, UNKNOWN
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import PALETTE_RGB
from cigocc_ros.ros.output import grids

GRID = VoxelGrid((1.0, -2.0, -3.0), (0.5, 0.5, 0.25), (4, 3, 2))


@pytest.fixture
def occupancy() -> Occupancy:
    labels = np.arange(24, dtype=np.uint8).reshape(GRID.shape) % 20
    return Occupancy(labels, np.zeros_like(labels), GRID, 1_500_000_007, 'velo')


def test_both_grids_reach_who_listens(graph):
    dense, above = graph.hear(Image, 'occ/grid'), graph.hear(OccupancyGrid, 'occ/bev')
    node, camera = graph.start(**EXTRINSICS), Camera(graph)
    graph.until(lambda: node.count_subscribers('/occ/grid') and node.count_subscribers('/occ/bev'))
    graph.until(lambda: dense and above, every=camera.publish)
    shape = graph.predictor.grid.shape
    labels = np.frombuffer(dense[0].data, np.uint8).reshape(shape)
    assert labels[1, 2, 3] == 9 and labels[4, 5, 6] == 1 and (labels > 0).sum() == 2
    cost = np.array(above[0].data, np.int8).reshape(shape[1], shape[0])
    assert cost[2, 1] == DRIVABLE and cost[5, 4] in (OBSTACLE, UNKNOWN)
    assert above[0].header.frame_id == dense[0].header.frame_id == 'velo_link'
    assert above[0].header.stamp == dense[0].header.stamp


def test_the_map_from_above_is_kept_for_who_comes_late(graph):
    """Nav2's static layer asks for TRANSIENT_LOCAL (nav2_costmap_2d/plugins/static_layer.cpp)."""
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    first = graph.hear(OccupancyGrid, 'occ/bev', latched)
    graph.start(**EXTRINSICS)
    camera = Camera(graph)
    graph.until(lambda: first, every=camera.publish)
    late = graph.hear(OccupancyGrid, 'occ/bev', latched)
    graph.until(lambda: late)  # no further image
    assert late[-1].header.stamp == first[-1].header.stamp


def test_nothing_is_computed_without_subscribers(graph, monkeypatch):
    def fail(*_: Any) -> None:
        raise AssertionError('computed for nobody')

    monkeypatch.setattr(grids, 'label_image', fail)
    monkeypatch.setattr('cigocc_ros.ros.output.publishers.bev_message', fail)
    graph.start(**EXTRINSICS)
    camera = Camera(graph)
    graph.until(lambda: graph.report().processed >= 2, every=camera.publish)
    assert not graph.report().dropped


def test_the_image_has_a_row_per_column_of_voxels(occupancy):
    image = grids.label_image(occupancy)
    assert (image.height, image.width, image.step, image.encoding) == (12, 2, 2, 'mono8')
    pixels = np.frombuffer(image.data, np.uint8).reshape(image.height, image.step)
    x, y, z = 3, 1, 1
    assert pixels[x * 3 + y, z] == occupancy.labels[x, y, z]


def test_the_view_from_above_lies_as_occupancy_grids_do(occupancy):
    message = grids.bev_message(occupancy)
    assert (message.info.width, message.info.height, message.info.resolution) == (4, 3, 0.5)
    origin = message.info.origin.position
    assert (origin.x, origin.y, origin.z) == GRID.origin_m
    assert message.info.origin.orientation.w == 1.0
    assert len(message.data) == 12 and set(message.data) <= {-1, 0, 50, 100}


def test_cells_that_are_not_square_are_refused(occupancy):
    grid = VoxelGrid(GRID.origin_m, (0.5, 0.4, 0.25), GRID.shape)
    odd = Occupancy(occupancy.labels, occupancy.probability, grid, 0, 'velo')
    with pytest.raises(ConfigError, match='square'):
        grids.bev_message(odd)


@dataclass
class FakeField:
    name: str
    offset: int
    type: int


@dataclass
class FakeGrid:
    """The fields of foxglove_msgs/VoxelGrid, which has no package for pip environments."""

    timestamp: Any
    frame_id: str
    pose: Any
    row_count: int
    column_count: int
    cell_size: Any
    slice_stride: int
    row_stride: int
    cell_stride: int
    fields: list[FakeField]
    data: Any = field(default=None)


def test_foxglove_reads_each_voxel_where_it_is(occupancy, monkeypatch):
    monkeypatch.setattr(grids, 'FoxgloveGrid', FakeGrid)
    monkeypatch.setattr(grids, 'PackedElementField', FakeField, raising=False)
    message = grids.grid_format('foxglove').make(occupancy)
    data = np.frombuffer(message.data, np.uint8)
    assert len(data) == 2 * message.slice_stride
    for x, y, z in np.ndindex(*GRID.shape):
        # where Foxglove looks for it: slices along z, rows along y, cells along x
        start = z * message.slice_stride + y * message.row_stride + x * message.cell_stride
        label = occupancy.labels[x, y, z]
        cell = dict(zip((f.name for f in message.fields), data[start : start + 5], strict=True))
        assert cell.pop('label') == label and cell.pop('alpha') == (255 if label else 0)
        assert list(cell.values()) == PALETTE_RGB[label].tolist()


def test_the_type_is_what_the_parameter_says_not_what_is_installed(monkeypatch):
    import importlib

    fake = SimpleNamespace(VoxelGrid=FakeGrid, PackedElementField=FakeField)
    monkeypatch.setitem(sys.modules, 'foxglove_msgs', SimpleNamespace(msg=fake))
    monkeypatch.setitem(sys.modules, 'foxglove_msgs.msg', fake)
    try:
        installed = importlib.reload(grids)
        assert installed.grid_format('image').kind is Image
        assert installed.grid_format('foxglove').kind is FakeGrid
    finally:
        monkeypatch.undo()
        importlib.reload(grids)


def test_a_format_whose_package_is_missing_is_refused_at_start(graph, monkeypatch):
    monkeypatch.setattr(grids, 'FoxgloveGrid', None)
    with pytest.raises(ConfigError, match='foxglove-msgs'):
        graph.start(**EXTRINSICS, grid_type='foxglove')
