"""The parameters of the nodes `kitti_player` and `bag_player`."""

from __future__ import annotations

from dataclasses import dataclass

from cigocc_ros.core.frames import LIDAR_FRAME
from cigocc_ros.data.rig import LEFT_FRAME, RIGHT_FRAME
from cigocc_ros.ros.parameters import parameter


@dataclass(frozen=True)
class PlayerParameters:
    """How the sequence is played."""

    sequence: str = parameter('', 'Sequence folder, e.g. dataset/sequences/00', path=True)
    rate: float = parameter(1.0, 'Speed, 1 is as recorded', limits=(0.001, 1000.0))
    loop: bool = parameter(False, 'Start again after the last frame, with later stamps')
    start: int = parameter(0, 'Index of the first frame', limits=(0, 1_000_000))
    end: int = parameter(-1, 'Index after the last frame; -1 is the end', limits=(-1, 1_000_000))
    clock: bool = parameter(
        True,
        'Publish /clock and stamp as recorded; without it, frames are stamped when published',
    )
    right: bool = parameter(True, 'Publish the right camera')
    depth: bool = parameter(False, 'Publish depth_2 of the folder as topic depth')
    semantic_prior: str = parameter(
        '',
        'Folder of label images of the left camera, sequences/SS/FFFFFF.png, published as topic '
        'semantic_prior; empty publishes none',
        path=True,
    )
    camera_frame: str = parameter(LEFT_FRAME, 'Frame of the left camera')
    right_camera_frame: str = parameter(RIGHT_FRAME, 'Frame of the right camera')
    lidar_frame: str = parameter(LIDAR_FRAME, 'Frame of the lidar and of the ground truth')
    ground_truth_frame: str = parameter(
        '',
        'Frame of the ground truth, to show it beside the prediction where tf moves that frame; '
        'empty is lidar_frame',
    )
    wait_for_subscribers: int = parameter(
        1, 'Start when image and camera_info have this many subscribers', limits=(0, 100)
    )
    linger_s: float = parameter(
        1.0, 'How long /clock goes on after the last frame, seconds', limits=(0.0, 600.0)
    )
    write_extrinsics: str = parameter(
        '',
        'Write the camera pose to this file as parameters of the node occ, and exit',
        path=True,
    )


@dataclass(frozen=True)
class BagPlayerParameters:
    """How the bag is played."""

    bag: str = parameter(
        '', 'Bag: a folder, or one .mcap or .db3 file, as rosbag2 records them', path=True
    )
    rate: float = parameter(1.0, 'Speed, 1 is as recorded', limits=(0.001, 1000.0))
    loop: bool = parameter(False, 'Start again after the last message; stamps are as recorded')
    clock: bool = parameter(
        True, 'Publish /clock: that of the bag where it has one, else the times of its messages'
    )
    wait_for_subscribers: int = parameter(
        1, 'Start when this many subscribers listen to wait_for_topic', limits=(0, 100)
    )
    wait_for_topic: str = parameter(
        '', 'Topic of the bag whose subscribers count; empty: those of all topics together'
    )
    linger_s: float = parameter(
        1.0, 'How long /clock goes on after the last message, seconds', limits=(0.0, 600.0)
    )
