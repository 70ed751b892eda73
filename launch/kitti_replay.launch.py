"""Replay a KITTI sequence through the node: from a folder, or from a bag of `cigocc bag`."""

import importlib.util
import os
import shutil

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

PACKAGE = 'cigocc_ros'
BOOLEAN = ['true', 'false', 'True', 'False']
OCC = os.path.join(os.path.dirname(__file__), 'occ.launch.py')

# Argument -> relative topic of player and node, topic in the bags of `cigocc bag`.
TOPICS = {
    'image': ('image', '/kitti/camera_color_left/image_rect'),
    'camera_info': ('camera_info', '/kitti/camera_color_left/camera_info'),
    'right_image': ('right/image', '/kitti/camera_color_right/image_rect'),
    'right_camera_info': ('right/camera_info', '/kitti/camera_color_right/camera_info'),
    'depth': ('depth', '/kitti/camera_color_left/depth'),
    'semantic_prior': ('semantic_prior', '/kitti/camera_color_left/semantic_prior'),
}
# What the player publishes besides, as in the bags.
EXTRA_TOPICS = [
    ('velodyne', '/kitti/velo/pointcloud'),
    ('ground_truth', '/kitti/ground_truth'),
]
# Frame of the ground truth of a folder, beside the grid of the node; bags may be recorded with it.
GROUND_TRUTH_FRAME = 'ground_truth_view'


def argument(name, default, description, choices=None):
    """Declare one argument."""
    return DeclareLaunchArgument(
        name, default_value=default, description=description, choices=choices
    )


def arguments():
    """Declare what a replay has besides the arguments of occ.launch.py, or has otherwise."""
    return [
        argument('sequence', '', 'Sequence folder, e.g. dataset/sequences/00'),
        argument('bag', '', 'Bag (a folder, or one .mcap or .db3), instead of a sequence'),
        argument('semantic_images', '', 'Folder of label images of the sequence, optional'),
        argument('rate', '1.0', '1 is as recorded'),
        argument('loop', 'false', 'Start again after the last frame', BOOLEAN),
        argument(
            'ground_truth_shift_m',
            '-55.0',
            'How far beside the prediction (y, metres) RViz shows the ground truth',
        ),
        *(
            argument(name, bag_topic, f'Topic of {topic}')
            for name, (topic, bag_topic) in TOPICS.items()
        ),
        argument('use_sim_time', 'true', 'Follow /clock, which the player tells', BOOLEAN),
    ]


def remappings():
    """Give the player the topics of the arguments."""
    return [(topic, LaunchConfiguration(name)) for name, (topic, _) in TOPICS.items()]


def text(name):
    """Return an argument as a parameter that is text, whatever it looks like."""
    return ParameterValue(LaunchConfiguration(name), value_type=str)


def tied():
    """Return what makes Linux end a process with launch; see occ.launch.py."""
    tool = 'setpriv --pdeathsig TERM ' if shutil.which('setpriv') else ''
    return [tool, LaunchConfiguration('launch-prefix', default='')]


def failed(event, context):
    """End everything where the player failed; after a good end the last voxels stay."""
    if event.returncode and not context.is_shutdown:
        raise RuntimeError(f'{event.process_name} ended with {event.returncode}: its log says why')


def folder_player():
    """Return the player of a sequence folder."""
    return Node(
        package=PACKAGE,
        executable='kitti_player',
        exec_name='kitti_player',
        name='kitti_player',
        namespace=LaunchConfiguration('namespace'),
        output='screen',
        parameters=[
            {
                'sequence': text('sequence'),
                'rate': LaunchConfiguration('rate'),
                'loop': ParameterValue(LaunchConfiguration('loop'), value_type=bool),
                'semantic_prior': text('semantic_images'),
                'lidar_frame': text('output_frame'),
                'ground_truth_frame': GROUND_TRUTH_FRAME,
            }
        ],
        remappings=remappings() + EXTRA_TOPICS,
        ros_arguments=['--log-level', LaunchConfiguration('log_level')],
        on_exit=failed,
        prefix=tied(),
    )


def bag_player():
    """Return the player of this package, for machines without `ros2 bag play`."""
    return Node(
        package=PACKAGE,
        executable='bag_player',
        exec_name='bag_player',
        name='bag_player',
        output='screen',
        parameters=[
            {
                'bag': text('bag'),
                'rate': LaunchConfiguration('rate'),
                'loop': ParameterValue(LaunchConfiguration('loop'), value_type=bool),
                # the node, not RViz, which is there before the model is loaded
                'wait_for_topic': text('camera_info'),
            }
        ],
        ros_arguments=['--log-level', LaunchConfiguration('log_level')],
        on_exit=failed,
        prefix=tied(),
    )


def player(context):
    """Return the one player that is wanted."""
    rate, loop = LaunchConfiguration('rate'), LaunchConfiguration('loop')
    bag = os.path.expanduser(LaunchConfiguration('bag').perform(context))
    if not bag:
        return [folder_player()]
    if importlib.util.find_spec('ros2bag') is None:
        return [bag_player()]
    looped = ['--loop'] if loop.perform(context).lower() == 'true' else []
    words = ['ros2', 'bag', 'play', bag, '--clock', '--rate', rate, *looped]
    return [
        ExecuteProcess(
            cmd=words, output='screen', name='ros2_bag_play', on_exit=failed, prefix=tied()
        )
    ]


def ground_truth_view():
    """Return what moves the ground truth of a folder beside the prediction, for RViz only."""
    return Node(
        package='tf2_ros',
        executable='static_transform_publisher',
        exec_name='static_transform_publisher',
        name='ground_truth_view',
        arguments=[
            '--y',
            LaunchConfiguration('ground_truth_shift_m'),
            '--frame-id',
            LaunchConfiguration('output_frame'),
            '--child-frame-id',
            GROUND_TRUTH_FRAME,
        ],
        condition=IfCondition(LaunchConfiguration('rviz')),
        prefix=tied(),
    )


def generate_launch_description():
    """Start RViz and the node first: the player waits for those who listen."""
    return LaunchDescription(
        [
            *arguments(),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(OCC)),
            ground_truth_view(),
            OpaqueFunction(function=player),
        ]
    )
