"""What Nav2, the spatio-temporal voxel layer and octomap_server hear and make of the node.

They are C++ and not on PyPI: their subscriptions and rules are imitated, from these sources.
Nav2 (ros-navigation/navigation2, branches humble to lyrical and main of 2026-08):
nav2_costmap_2d/plugins/{static,obstacle,voxel,inflation}_layer.cpp, src/observation_buffer.cpp,
src/costmap_2d_ros.cpp. SteveMacenski/spatio_temporal_voxel_layer, branch ros2:
src/{spatio_temporal_voxel_layer,measurement_buffer}.cpp. OctoMap/octomap_mapping, branch ros2:
octomap_server/src/octomap_server.cpp.
"""

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy')

from fixtures_ros import EXTRINSICS, Camera, FakePredictor
from nav_msgs.msg import OccupancyGrid
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2, PointField

from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import CLASS_NAMES
from cigocc_ros.ros.occ_parameters import OccParameters

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
KEPT, VOLATILE = DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE
MAP, CLOUD = OccupancyGrid, PointCloud2
SUBSCRIPTIONS = {
    'static layer, Humble to Kilted': (
        MAP,
        QoSProfile(depth=1, reliability=RELIABLE, durability=KEPT),
    ),
    'static layer, Lyrical': (MAP, QoSProfile(depth=3, reliability=RELIABLE, durability=KEPT)),
    'voxel layer': (CLOUD, QoSProfile(depth=50, reliability=BEST_EFFORT, durability=VOLATILE)),
    'octomap_server': (CLOUD, QoSProfile(depth=5, reliability=BEST_EFFORT, durability=VOLATILE)),
}
COSTMAP = {
    'global_frame', 'robot_base_frame', 'rolling_window', 'width', 'height', 'resolution',
    'update_frequency', 'publish_frequency', 'transform_tolerance', 'track_unknown_space',
    'trinary_costmap', 'plugins',
}  # fmt: skip
SOURCE = {
    'topic', 'sensor_frame', 'observation_persistence', 'expected_update_rate', 'data_type',
    'min_obstacle_height', 'max_obstacle_height', 'inf_is_valid', 'marking', 'clearing',
}  # fmt: skip
RANGES = {f'{kind}_{end}_range' for kind in ('obstacle', 'raytrace') for end in ('min', 'max')}
LAYERS = {
    'nav2_costmap_2d::VoxelLayer': {
        'enabled', 'footprint_clearing_enabled', 'min_obstacle_height', 'max_obstacle_height',
        'z_voxels', 'origin_z', 'z_resolution', 'unknown_threshold', 'mark_threshold',
        'combination_method', 'publish_voxel_map', 'observation_sources',
    },
    'nav2_costmap_2d::StaticLayer': {
        'enabled', 'subscribe_to_updates', 'map_subscribe_transient_local', 'transform_tolerance',
        'map_topic', 'footprint_clearing_enabled',
    },
    'nav2_costmap_2d::InflationLayer': {
        'enabled', 'inflation_radius', 'cost_scaling_factor', 'inflate_unknown',
        'inflate_around_unknown',
    },
    'spatio_temporal_voxel_layer/SpatioTemporalVoxelLayer': {
        'observation_sources', 'transform_tolerance', 'enabled', 'publish_voxel_map', 'voxel_size',
        'combination_method', 'mark_threshold', 'update_footprint_enabled', 'decay_model',
        'track_unknown_space', 'voxel_decay', 'mapping_mode', 'map_save_duration',
    },
}  # fmt: skip
SOURCES = {
    'nav2_costmap_2d::VoxelLayer': SOURCE | RANGES,
    'spatio_temporal_voxel_layer/SpatioTemporalVoxelLayer': SOURCE
    | {
        'obstacle_range', 'min_z', 'max_z', 'vertical_fov_angle', 'vertical_fov_padding',
        'horizontal_fov_angle', 'decay_acceleration', 'filter', 'voxel_min_points',
        'clear_after_reading', 'model_type',
    },
}  # fmt: skip
FREE, LETHAL, NO_INFORMATION = 0, 254, 255
LIDAR_HEIGHT_M = 1.73
GRID = SEMANTIC_KITTI_GRID.with_shape((128, 128, 16))  # the coarser of the two
CAR, ROAD, SIDEWALK, BUILDING, VEGETATION = (
    CLASS_NAMES.index(name) for name in ('car', 'road', 'sidewalk', 'building', 'vegetation')
)
THINGS = {  # m in velo_link: low corner, high corner, class
    'road': ((0, -5, -2), (50, 5, -1.7), ROAD),
    'kerb': ((0, 5, -2), (50, 8, -1.3), SIDEWALK),
    'car': ((10, -1, -1.6), (14, 1, -0.1), CAR),
    'wall': ((4, 8.1, -1.6), (20, 8.3, 2.0), BUILDING),
    'crown': ((16, -2, 1.7), (19, 2, 4.0), VEGETATION),
}


def inside(name: str, margin_m: float = 0.0) -> np.ndarray:
    """Return which voxels overlap a thing, (X, Y, Z) bool."""
    low, high, _ = THINGS[name]
    half = np.array(GRID.voxel_size_m) / 2 + margin_m
    centres = GRID.centers_m().reshape(*GRID.shape, 3)
    return ((centres + half > low) & (centres - half < high)).all(-1)


class Street(FakePredictor):
    """A road with kerb, car, wall and a tree above it."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = GRID

    def __call__(self, frame) -> Occupancy:
        labels = np.zeros(GRID.shape, np.uint8)
        for name, (_, _, train_id) in THINGS.items():
            labels[inside(name)] = train_id
        probability = np.where(labels > 0, 250, 0).astype(np.uint8)
        return Occupancy(labels, probability, GRID, frame.stamp_ns, frame.grid_frame_id)


@pytest.fixture(scope='module')
def costmap(request):
    root = request.config.rootpath
    file = yaml.safe_load((root / 'config' / 'nav2.param.yaml').read_text())
    return file['local_costmap']['local_costmap']['ros__parameters']


@pytest.fixture
def heard(graph, costmap):
    """Start the node and return what each consumer hears on the topics of the file."""
    topics = {
        MAP: costmap['occ_map']['map_topic'],
        CLOUD: costmap['occ_voxels']['occ_mark']['topic'],
    }
    graph.predictor = Street()
    messages = {
        name: graph.hear(kind, topics[kind], qos) for name, (kind, qos) in SUBSCRIPTIONS.items()
    }
    graph.start(**EXTRINSICS)
    camera = Camera(graph)
    graph.until(lambda: all(messages.values()), every=camera.publish)
    return {name: each[-1] for name, each in messages.items()}


def points_of(cloud: PointCloud2) -> np.ndarray:
    """Read x, y, z by name, as PointCloud2ConstIterator<float> does; (N, 3)."""
    offsets = {field.name: field.offset for field in cloud.fields}
    kinds = {field.name: field.datatype for field in cloud.fields}
    assert {kinds[axis] for axis in 'xyz'} == {PointField.FLOAT32} and not cloud.is_bigendian
    rows = np.frombuffer(cloud.data, np.uint8).reshape(-1, cloud.point_step)
    return np.stack(
        [rows[:, offsets[a] : offsets[a] + 4].copy().view('<f4')[:, 0] for a in 'xyz'], 1
    )


def in_odom(points: np.ndarray, yaw: float) -> np.ndarray:
    """Move points from velo_link above base_link into a global frame on the ground."""
    c, s = np.cos(yaw), np.sin(yaw)
    turned = points @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T
    return turned + [0, 0, LIDAR_HEIGHT_M]


def marked_cells(points: np.ndarray, source: dict, resolution: float, origin_m) -> set:
    """Return the cells that the voxel layer makes lethal: by heights, range and column."""
    reach = source.get('obstacle_max_range', source.get('obstacle_range'))
    high = (points[:, 2] >= source['min_obstacle_height']) & (
        points[:, 2] <= source['max_obstacle_height']
    )
    near = np.linalg.norm(points - origin_m, axis=1) < reach
    cells = np.floor(points[high & near, :2] / resolution).astype(int)
    return {tuple(cell) for cell in cells.tolist()}


def cells_of(name: str, yaw: float, resolution: float) -> set[tuple[int, int]]:
    points = GRID.centers_m().reshape(*GRID.shape, 3)[inside(name)]
    cells = np.floor(in_odom(points, yaw)[:, :2] / resolution).astype(int)
    return {tuple(cell) for cell in cells.tolist()}


def pieces(cells: set[tuple[int, int]]) -> int:
    """Count the parts that no step to one of eight neighbours joins."""
    left, count = set(cells), 0
    while left:
        count, edge = count + 1, [left.pop()]
        while edge:
            x, y = edge.pop()
            near = {(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            edge += near
    return count


def interpreted(value: int, costmap: dict, lethal: int = 100, unknown: int = 255) -> int:
    """Return the cost that StaticLayer::interpretValue gives a cell of a map."""
    if value == unknown:
        return NO_INFORMATION if costmap['track_unknown_space'] else FREE
    if value >= lethal:
        return LETHAL
    return FREE if costmap['trinary_costmap'] else int(value / lethal * LETHAL)


def test_every_consumer_hears_the_node(heard):
    for name, message in heard.items():
        assert message.header.frame_id == 'velo_link', name
        assert message.header.stamp.sec, name


def test_the_file_names_parameters_that_the_layers_have(costmap):
    layers = {name: value for name, value in costmap.items() if isinstance(value, dict)}
    assert set(costmap) - set(layers) <= COSTMAP
    assert set(costmap['plugins']) <= set(layers)
    for name, layer in layers.items():
        plugin = layer['plugin']
        sources = layer.get('observation_sources', '').split()
        assert set(layer) - {'plugin', *sources} <= LAYERS[plugin], name
        for source in sources:
            assert set(layer[source]) <= SOURCES[plugin], f'{name}.{source}'
    assert layers['occ_voxels']['z_voxels'] <= 16  # bits of a column in nav2_voxel_grid


@pytest.mark.parametrize('layer', ['occ_voxels', 'occ_stvl'])
@pytest.mark.parametrize('yaw', [0.0, 0.3, 0.785])
def test_obstacles_are_marked_and_the_ground_is_not(heard, costmap, layer, yaw):
    points = in_odom(points_of(heard['voxel layer']), yaw)
    assert np.isfinite(points).all()
    source, resolution = costmap[layer]['occ_mark'], costmap['resolution']
    origin = np.array([0, 0, LIDAR_HEIGHT_M])
    marked = marked_cells(points, source, resolution, origin)
    for name in ('car', 'wall'):
        assert cells_of(name, yaw, resolution) <= marked, name
    allowed = cells_of('car', yaw, resolution) | cells_of('wall', yaw, resolution)
    assert marked <= allowed  # neither road nor kerb, nor what hangs above


def test_walls_are_solid_at_the_resolution_of_the_file(heard, costmap):
    points = points_of(heard['voxel layer'])
    source, origin = costmap['occ_voxels']['occ_mark'], np.array([0, 0, LIDAR_HEIGHT_M])
    wall = points[(points[:, 1] > 8) & (points[:, 1] < 8.5)]
    for yaw in np.linspace(0, np.pi / 2, 19):
        turned = in_odom(wall, yaw)
        assert pieces(marked_cells(turned, source, costmap['resolution'], origin)) == 1
    # what the page warns of: dots at the resolution of many a file
    assert pieces(marked_cells(in_odom(wall, 0.3), source, 0.05, origin)) > 20


def test_rays_start_within_the_voxel_grid(costmap):
    """VoxelLayer::raytraceFreespace refuses an origin outside, and clears nothing."""
    layer = costmap['occ_voxels']
    top = layer['origin_z'] + layer['z_voxels'] * layer['z_resolution']
    assert layer['origin_z'] <= LIDAR_HEIGHT_M < top
    assert costmap['width'] / 2 < 51.2  # and the window holds the robot
    assert layer['occ_clear']['min_obstacle_height'] < -0.07  # rays to the road


def test_the_map_from_above_is_what_the_static_layer_needs(heard, costmap):
    for name in ('static layer, Humble to Kilted', 'static layer, Lyrical'):
        message = heard[name]
        info = message.info
        assert (info.width, info.height) == GRID.shape[:2] and len(message.data) == 128 * 128
        values = np.array(message.data, np.int8).view(np.uint8).reshape(info.height, info.width)
        cost = {
            place: interpreted(int(values[np.unravel_index(index, values.shape)]), costmap)
            for place, index in {
                'road': cell_at(info, 8.1, 0.1),
                'kerb': cell_at(info, 30.1, 6.1),
                'car': cell_at(info, 12.1, 0.1),
                'wall': cell_at(info, 10.1, 8.2),
                'under the crown': cell_at(info, 17.1, 0.1),
                'nothing': cell_at(info, 40.1, -20.1),
            }.items()
        }
        assert cost == {
            'road': FREE,
            'kerb': 127,
            'car': LETHAL,
            'wall': LETHAL,
            'under the crown': FREE,
            'nothing': NO_INFORMATION,
        }


def cell_at(info, x: float, y: float) -> int:
    """Return the index of a place, as Costmap2D::worldToMap counts."""
    column = int((x - info.origin.position.x) / info.resolution)
    row = int((y - info.origin.position.y) / info.resolution)
    return row * info.width + column


def test_the_classes_of_the_page_are_all_but_ground(request):
    page = (request.config.rootpath / 'docs' / 'planners.md').read_text()
    (block,) = [text for text in page.split('```yaml\n')[1:] if 'classes' in text.split('```')[0]]
    given = yaml.safe_load(block.split('```')[0])['/**']['ros__parameters']['shown']['classes']
    names = {name.strip() for name in given.split(',')}
    ground = {'empty', 'road', 'parking', 'sidewalk', 'other-ground', 'terrain'}
    assert names == set(CLASS_NAMES) - ground
    assert OccParameters(shown_classes=given).shown.classes
