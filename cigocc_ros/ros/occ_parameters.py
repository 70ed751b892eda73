"""The parameters of the node `occ`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cigocc_ros.core.class_presets import PRESETS, class_set
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.frames import LIDAR_FRAME
from cigocc_ros.core.installed import DEFAULT_MODEL
from cigocc_ros.core.prior import NODE_SOURCES
from cigocc_ros.core.voxel_filter import ALL_CLASSES, ShownVoxels, checked_classes
from cigocc_ros.data.stereo_config import MAX_OFFSET_PX, StereoConfig, trained_stereo
from cigocc_ros.ros.parameters import parameter
from cigocc_ros.runtime.contract import DEFAULT_THREADS
from cigocc_ros.runtime.devices import AUTO_DEVICE, DEVICE_HELP
from cigocc_ros.runtime.engine import AUTO, BACKENDS
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions

FARTHEST_M = 200.0
GRID_TYPES = GRID_IMAGE, GRID_FOXGLOVE = 'image', 'foxglove'
AUTO_RELIABILITY, RELIABLE, BEST_EFFORT = 'auto', 'reliable', 'best_effort'
RATE_LIMITS_HZ = (0.0, 100.0)
UNSET_ROTATION = (0.0, 0.0, 0.0, 0.0)


def checked_frame(name: str) -> str:
    """Return a name that tf2 takes for a frame; raise ConfigError."""
    if not name.strip() or name != name.strip():
        raise ConfigError(f'expected the name of a frame, found {name!r}')
    if name.startswith('/'):
        raise ConfigError(f'frames of tf2 have no slash in front, found {name!r}')
    return name


def checked_class_set(name: str) -> str:
    """Return a name of a set of classes, or of a file of them; raise ConfigError."""
    if name:
        class_set(name)
    return name


@dataclass(frozen=True)
class OccParameters:
    """What the robot decides; what the model needs travels in its manifest."""

    model: str = parameter(
        DEFAULT_MODEL, 'Model folder, or the name of a shipped model', path=True
    )
    backend: str = parameter(AUTO, 'What runs the network', choices=BACKENDS)
    device: str = parameter(AUTO_DEVICE, DEVICE_HELP)
    threads: int = parameter(
        DEFAULT_THREADS,
        'CPU threads of the network; 0 takes every physical core',
        limits=(0, 256),
    )
    tensorrt: TensorRtOptions = TensorRtOptions()
    output_frame: str = parameter(
        LIDAR_FRAME,
        'Frame of the voxel grid: x forward, y left, z up, placed like the lidar of '
        'SemanticKITTI (the grid reaches from 2 m below it to 4.4 m above)',
        check=checked_frame,
    )
    grid_type: str = parameter(
        GRID_IMAGE,
        'What ~/grid is: image is a sensor_msgs/Image, foxglove a foxglove_msgs/VoxelGrid, which '
        'needs that package',
        choices=GRID_TYPES,
    )
    image_transport: str = parameter(
        'raw',
        'raw subscribes to image (sensor_msgs/Image), compressed to image/compressed',
        choices=('raw', 'compressed'),
    )
    image_reliability: str = parameter(
        AUTO_RELIABILITY,
        'Of the subscriptions to images and depth; auto begins reliable and takes best effort '
        'where a publisher offers no more',
        choices=(AUTO_RELIABILITY, RELIABLE, BEST_EFFORT),
    )
    rectification: str = parameter(
        'auto',
        'Whether the images are rectified; auto takes them as raw where camera_info has a '
        'non-zero D or a fisheye model, unless the last part of the topic has the word rect or '
        'rectified',
        choices=('auto', 'rectified', 'raw'),
    )
    extrinsics_source: str = parameter(
        'auto',
        'Where the camera pose comes from; auto is parameters where extrinsics.rotation is set, '
        'else tf',
        name='extrinsics.source',
        choices=('auto', 'tf', 'parameters'),
    )
    extrinsics_translation: tuple[float, float, float] = parameter(
        (0.0, 0.0, 0.0),
        'Position of the camera (optical frame) in output_frame, metres',
        name='extrinsics.translation',
    )
    extrinsics_rotation: tuple[float, float, float, float] = parameter(
        UNSET_ROTATION,
        'Orientation of the optical frame in output_frame, quaternion x y z w; all zeros means '
        'not given',
        name='extrinsics.rotation',
    )
    prior_source: str = parameter(
        'auto',
        'Depth prior: from depth, from stereo matching of image and right/image, or none; auto '
        'takes what is published, depth first',
        name='prior.source',
        choices=NODE_SOURCES,
    )
    prior_depth_transport: str = parameter(
        'auto',
        'raw subscribes to depth (sensor_msgs/Image), compressedDepth to depth/compressedDepth; '
        'auto takes the second where only that is published',
        name='prior.depth_transport',
        choices=('auto', 'raw', 'compressedDepth'),
    )
    prior_wait_s: float = parameter(
        0.1,
        'How long an image waits for its depth or right image, seconds; then it goes without',
        name='prior.wait_s',
        limits=(0.001, 1.0),
    )
    prior_tolerance_s: float = parameter(
        0.005,
        'Largest difference of stamps within a pair, seconds',
        name='prior.tolerance_s',
        limits=(0.0, 0.5),
    )
    prior_stereo_width_px: int = parameter(
        0,
        'Wider stereo pairs are shrunk for the matcher; 0 matches as the model was trained, width '
        'and offset',
        name='prior.stereo_width_px',
        limits=(0, 8192),
    )
    prior_stereo_offset_px: float = parameter(
        0.0,
        'Added to every disparity of the matcher, pixels of the image; needs '
        'prior.stereo_width_px',
        name='prior.stereo_offset_px',
        limits=(-MAX_OFFSET_PX, MAX_OFFSET_PX),
    )
    semantic_classes: str = parameter(
        '',
        'What the ids of the label images on semantic_prior mean: '
        f'{", ".join(PRESETS)}, or a YAML file that maps classes to ids; empty takes no label '
        'images',
        check=checked_class_set,
    )
    semantic_wait_s: float = parameter(
        0.2,
        'How long an image waits for its label image, seconds; then it goes without',
        name='semantic_prior.wait_s',
        limits=(0.001, 2.0),
    )
    semantic_tolerance_s: float = parameter(
        0.005,
        'Largest difference between the stamps of an image and its label image, seconds',
        name='semantic_prior.tolerance_s',
        limits=(0.0, 0.5),
    )
    max_markers: int = parameter(
        50_000,
        'Most cubes in ~/markers; the nearest surface voxels are kept',
        limits=(1, 2_000_000),
        read_only=False,
    )
    shown_max_range_m: float = parameter(
        FARTHEST_M,
        'Farthest voxels in ~/occupancy and ~/markers, horizontally from output_frame, metres; '
        '~/grid, ~/bev and saved grids are always whole',
        name='shown.max_range_m',
        limits=(0.0, FARTHEST_M),
        read_only=False,
    )
    shown_min_probability: float = parameter(
        0.0,
        'Least probability of being occupied of voxels in ~/occupancy and ~/markers',
        name='shown.min_probability',
        limits=(0.0, 1.0),
        read_only=False,
    )
    shown_classes: str = parameter(
        ALL_CLASSES,
        'Classes in ~/occupancy and ~/markers, comma separated, or all',
        name='shown.classes',
        read_only=False,
        check=checked_classes,
    )
    shown_surface_only: bool = parameter(
        False,
        'Whether ~/occupancy has only voxels with a free neighbour, as ~/markers always do: solid '
        'ground and walls without what is inside them, a smaller cloud',
        name='shown.surface_only',
        read_only=False,
    )
    rates_markers_hz: float = parameter(
        0.0,
        'Most messages a second on ~/markers; 0 publishes every frame',
        name='rates.markers_hz',
        limits=RATE_LIMITS_HZ,
        read_only=False,
    )
    rates_grid_hz: float = parameter(
        0.0,
        'Most messages a second on ~/grid; 0 publishes every frame',
        name='rates.grid_hz',
        limits=RATE_LIMITS_HZ,
        read_only=False,
    )
    rates_bev_hz: float = parameter(
        0.0,
        'Most messages a second on ~/bev; 0 publishes every frame',
        name='rates.bev_hz',
        limits=RATE_LIMITS_HZ,
        read_only=False,
    )
    # read-only: whoever may set parameters must not choose where files are written
    save_dir: str = parameter(
        '', 'Folder that the service ~/save_grid writes to; empty refuses', path=True
    )

    def stereo(self, training: Mapping[str, Any]) -> StereoConfig:
        """Return the stereo matcher: as asked for, else as the model was trained.

        training: of the manifest. Raises ConfigError.
        """
        if self.prior_stereo_width_px:
            return trained_stereo({}, self.prior_stereo_width_px, self.prior_stereo_offset_px)
        if self.prior_stereo_offset_px:
            raise ConfigError(
                'parameter prior.stereo_offset_px is of a matcher of one width: set '
                f'prior.stereo_width_px too, e.g. {trained_stereo(training).max_width_px}, which '
                'the model was trained with'
            )
        return trained_stereo(training)

    @property
    def shown(self) -> ShownVoxels:
        """The choice of voxels in ~/occupancy and ~/markers."""
        return ShownVoxels(
            self.shown_max_range_m,
            self.shown_min_probability,
            self.shown_classes,
            self.shown_surface_only,
        )
