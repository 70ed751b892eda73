"""Replay a KITTI sequence through the node: from a folder, or from a bag of `cigocc bag`."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, SetEnvironmentVariable
from launch.conditions import IfCondition, UnlessCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

PACKAGE = 'cigocc_ros'
BOOLEAN = ['true', 'false']
BACKENDS = ['auto', 'onnxruntime', 'openvino', 'torch', 'tensorrt']

# Argument -> relative topic of player and node, topic in the bags of `cigocc bag`.
TOPICS = {
    'image': ('image', '/kitti/camera_color_left/image_rect'),
    'camera_info': ('camera_info', '/kitti/camera_color_left/camera_info'),
    'right_image': ('right/image', '/kitti/camera_color_right/image_rect'),
    'right_camera_info': ('right/camera_info', '/kitti/camera_color_right/camera_info'),
    'depth': ('depth', '/kitti/camera_color_left/depth'),
}
# What the player publishes besides, as in the bags.
EXTRA_TOPICS = [
    ('velodyne', '/kitti/velo/pointcloud'),
    ('ground_truth', '/kitti/ground_truth'),
]
PARAMETERS = ('model', 'backend', 'output_frame')


def config(name):
    """Return the installed path of a file of config/."""
    return PathJoinSubstitution([FindPackageShare(PACKAGE), 'config', name])


def argument(name, default, description, choices=None):
    """Declare one argument; one without default must be given."""
    return DeclareLaunchArgument(
        name, default_value=default, description=description, choices=choices
    )


def arguments():
    """Declare what `ros2 launch --show-args` lists."""
    return [
        argument('sequence', None, 'Sequence folder, e.g. dataset/sequences/00, or bag'),
        argument(
            'from_bag', 'false', 'sequence is a bag, played by ros2 bag play --clock', BOOLEAN
        ),
        argument('rate', '1.0', '1 is as recorded'),
        argument('loop', 'false', 'Only of a folder', BOOLEAN),
        *(
            argument(name, bag_topic, f'Topic of {topic}')
            for name, (topic, bag_topic) in TOPICS.items()
        ),
        argument('model', 'mid', 'Model folder (absolute), or the name of a shipped model'),
        argument('backend', 'auto', 'What runs the network', BACKENDS),
        argument('output_frame', 'velo_link', 'Frame of lidar and voxels'),
        argument(
            'extrinsics_file',
            config('empty.param.yaml'),
            'YAML with the camera pose as parameters; without it the pose is from tf',
        ),
        argument(
            'params_file',
            config('empty.param.yaml'),
            'Your YAML, loaded last: what it sets wins over the arguments here',
        ),
        argument('namespace', '', 'Of both nodes'),
        argument('rviz', 'true', 'Start RViz', BOOLEAN),
        argument(
            'dds_profile',
            config('fastdds_large_messages.xml'),
            'Fast DDS profile; the default has room for images in shared memory',
        ),
    ]


def remappings():
    """Give player and node the topics of the arguments."""
    return [(topic, LaunchConfiguration(name)) for name, (topic, _) in TOPICS.items()]


def nodes():
    """Return the node and RViz, both on the clock of the recording."""
    clock = {'use_sim_time': True}
    occ = Node(
        package=PACKAGE,
        executable='occ_node',
        name='occ',
        namespace=LaunchConfiguration('namespace'),
        output='screen',
        parameters=[
            config('occ.param.yaml'),
            clock | {name: LaunchConfiguration(name) for name in PARAMETERS},
            LaunchConfiguration('extrinsics_file'),
            LaunchConfiguration('params_file'),
        ],
        remappings=remappings(),
    )
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        namespace=LaunchConfiguration('namespace'),
        arguments=['-d', config('occ.rviz'), '-f', LaunchConfiguration('output_frame')],
        parameters=[clock],
        remappings=[('image', LaunchConfiguration('image'))],
        condition=IfCondition(LaunchConfiguration('rviz')),
    )
    return [occ, rviz]


def players():
    """Return the two ways to play, of which one starts."""
    from_bag = LaunchConfiguration('from_bag')
    sequence, rate = LaunchConfiguration('sequence'), LaunchConfiguration('rate')
    folder = Node(
        package=PACKAGE,
        executable='kitti_player',
        name='kitti_player',
        namespace=LaunchConfiguration('namespace'),
        output='screen',
        parameters=[
            {
                'sequence': sequence,
                'rate': rate,
                'loop': LaunchConfiguration('loop'),
                'lidar_frame': LaunchConfiguration('output_frame'),
            }
        ],
        remappings=remappings() + EXTRA_TOPICS,
        condition=UnlessCondition(from_bag),
    )
    bag = ExecuteProcess(
        cmd=['ros2', 'bag', 'play', sequence, '--clock', '--rate', rate],
        output='screen',
        condition=IfCondition(from_bag),
    )
    return [folder, bag]


def generate_launch_description():
    """Start the node first: the player waits for its subscriptions."""
    profile = LaunchConfiguration('dds_profile')
    return LaunchDescription(
        [
            *arguments(),
            # Fast DDS before and after 3.0
            SetEnvironmentVariable('FASTRTPS_DEFAULT_PROFILES_FILE', profile),
            SetEnvironmentVariable('FASTDDS_DEFAULT_PROFILES_FILE', profile),
            *nodes(),
            *players(),
        ]
    )
