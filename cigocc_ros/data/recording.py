"""What a KITTI sequence becomes in ROS, topic by topic; bags and the player take it from here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cigocc_ros.core.frames import LIDAR_FRAME
from cigocc_ros.core.point_records import depth_pixels, lidar_points, occupancy_points
from cigocc_ros.data.image_files import read_label_image
from cigocc_ros.data.kitti_layout import FrameKey
from cigocc_ros.data.kitti_sequence import KittiSequence, Side
from cigocc_ros.data.label_images import has_label_image, label_image_path, require_folder
from cigocc_ros.data.rig import KittiRig, ground_truth

Kind = Literal['image', 'camera_info', 'depth', 'labels', 'cloud']


class Topic(NamedTuple):
    """What a topic carries, and its name in bags, after kitti2bag."""

    kind: Kind
    in_bags: str


TOPICS = {
    'image': Topic('image', '/kitti/camera_color_left/image_rect'),
    'camera_info': Topic('camera_info', '/kitti/camera_color_left/camera_info'),
    'right/image': Topic('image', '/kitti/camera_color_right/image_rect'),
    'right/camera_info': Topic('camera_info', '/kitti/camera_color_right/camera_info'),
    'depth': Topic('depth', '/kitti/camera_color_left/depth'),
    'semantic_prior': Topic('labels', '/kitti/camera_color_left/semantic_prior'),
    'velodyne': Topic('cloud', '/kitti/velo/pointcloud'),
    'ground_truth': Topic('cloud', '/kitti/ground_truth'),
}
"""By their names in the player, relative to its namespace."""
RIGHT_TOPICS = ('right/image', 'right/camera_info')
EARLIEST_STAMP_NS = 1_000_000_000
"""A stamp of 0 means 'not set' in ROS, and KITTI's first one is 0: recordings start at 1 s."""


class Item(NamedTuple):
    """What one topic carries of one frame.

    content, by the kind of the topic: rgb (H, W, 3) uint8 of an image, CameraModel of a
    camera_info, (H, W) metres of a depth image (unknown is NaN), class ids (h, w) uint8 of a label
    image, structured array (N,) of a cloud.
    """

    content: Any
    frame_id: str


@dataclass(frozen=True)
class Recording:
    """A sequence seen by a rig, which may leave the right camera out.

    ground_truth_frame: frame_id of the ground truth, to show it where tf puts that frame; empty is
    lidar_frame, where it belongs. label_root: folder of label images, see data.label_images.
    """

    sequence: KittiSequence
    rig: KittiRig
    lidar_frame: str = LIDAR_FRAME
    ground_truth_frame: str = ''
    label_root: Path | None = None

    def __post_init__(self) -> None:
        """Raise DataFileError for label images that are of none of the frames."""
        if self.label_root is not None:
            require_folder(self.label_root)
            keys = [FrameKey(self.sequence.name, frame) for frame in self.sequence.frame_ids]
            if not any(has_label_image(self.label_root, key) for key in keys):
                label_image_path(self.label_root, keys[0])

    def stamp_ns(self, frame_id: str) -> int:
        """Return the recorded stamp of a frame, later by as much as the first one is too early."""
        first_ns = self.sequence.stamp_ns(self.sequence.frame_ids[0])
        return self.sequence.stamp_ns(frame_id) + max(EARLIEST_STAMP_NS - first_ns, 0)

    def item(self, topic: str, frame_id: str) -> Item | None:
        """Return what one of TOPICS carries; None where the sequence has no such thing."""
        makers: dict[str, Callable[[str], Item | None]] = {
            'image': lambda frame: self._image('left', frame),
            'camera_info': lambda _: self._camera_info('left'),
            'right/image': lambda frame: self._image('right', frame),
            'right/camera_info': lambda _: self._camera_info('right'),
            'depth': self._depth,
            'semantic_prior': self._labels,
            'velodyne': self._velodyne,
            'ground_truth': self._ground_truth,
        }
        return makers[topic](frame_id)

    def _image(self, side: Side, frame_id: str) -> Item | None:
        camera = self.rig.camera(side)
        if camera is None:
            return None
        return Item(self.sequence.image(frame_id, side), camera.frame_id)

    def _camera_info(self, side: Side) -> Item | None:
        camera = self.rig.camera(side)
        return None if camera is None else Item(camera.model, camera.frame_id)

    def _depth(self, frame_id: str) -> Item | None:
        if not self.sequence.has_depth(frame_id):
            return None
        depth = depth_pixels(self.sequence.depth(frame_id))
        return Item(depth, self.rig.left.frame_id)

    def _labels(self, frame_id: str) -> Item | None:
        key = FrameKey(self.sequence.name, frame_id)
        if self.label_root is None or not has_label_image(self.label_root, key):
            return None
        ids = read_label_image(label_image_path(self.label_root, key))
        return Item(ids, self.rig.left.frame_id)

    def _velodyne(self, frame_id: str) -> Item | None:
        if not self.sequence.has_velodyne(frame_id):
            return None
        points = lidar_points(self.sequence.velodyne(frame_id))
        return Item(points, self.lidar_frame)

    def _ground_truth(self, frame_id: str) -> Item | None:
        if not self.sequence.has_voxel_labels(frame_id):
            return None
        stamp_ns = self.stamp_ns(frame_id)
        frame = self.ground_truth_frame or self.lidar_frame
        truth = ground_truth(self.sequence, frame_id, stamp_ns, frame)
        return Item(occupancy_points(truth), frame)
