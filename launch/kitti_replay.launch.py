"""Replay a KITTI sequence through the node: from a folder, or from a bag of `cigocc bag`."""

import importlib.util

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, SetEnvironmentVariable
from launch.conditions import IfCondition, UnlessCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
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
# Frame of the ground truth of a folder, beside the grid of the node; bags may be recorded with it.
GROUND_TRUTH_FRAME = 'ground_truth_view'
PARAMETERS = ('model', 'backend', 'output_frame', 'image_transport')


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
        argument('sequence', '', 'Sequence folder, e.g. dataset/sequences/00'),
        argument('bag', '', 'Bag of `cigocc bag`, instead of a sequence'),
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
        argument('image_transport', 'raw', 'compressed for bags of JPEG', ['raw', 'compressed']),
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


def compressed():
    """Let the compressed topics follow the raw ones."""
    names = ('image', 'right_image')
    return [(f'{TOPICS[n][0]}/compressed', [LaunchConfiguration(n), '/compressed']) for n in names]


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
        remappings=remappings() + compressed(),
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
    """Return the ways to play, of which one starts: a folder, or a bag."""
    given = PythonExpression(["'", LaunchConfiguration('bag'), "' != ''"])
    bag, rate, loop, info = map(LaunchConfiguration, ('bag', 'rate', 'loop', 'camera_info'))
    folder = Node(
        package=PACKAGE,
        executable='kitti_player',
        name='kitti_player',
        namespace=LaunchConfiguration('namespace'),
        output='screen',
        parameters=[
            {
                'sequence': LaunchConfiguration('sequence'),
                'rate': rate,
                'loop': loop,
                'lidar_frame': LaunchConfiguration('output_frame'),
                'ground_truth_frame': GROUND_TRUTH_FRAME,
            }
        ],
        remappings=remappings() + EXTRA_TOPICS,
        condition=UnlessCondition(given),
    )
    if importlib.util.find_spec('ros2bag') is None:
        own = Node(
            package=PACKAGE,
            executable='bag_player',
            name='bag_player',
            output='screen',
            # the node, not RViz, which is there before the model is loaded
            parameters=[{'bag': bag, 'rate': rate, 'loop': loop, 'wait_for_topic': info}],
            condition=IfCondition(given),
        )
        return [folder, own]
    words = ['ros2', 'bag', 'play', bag, '--clock', '--rate', rate]
    looped = PythonExpression([given, " and '", loop, "' == 'true'"])
    once = PythonExpression([given, " and '", loop, "' != 'true'"])
    return [
        folder,
        ExecuteProcess(cmd=words, output='screen', condition=IfCondition(once)),
        ExecuteProcess(cmd=[*words, '--loop'], output='screen', condition=IfCondition(looped)),
    ]


def ground_truth_view():
    """Return what moves the ground truth of a folder beside the prediction, for RViz only."""
    return Node(
        package='tf2_ros',
        executable='static_transform_publisher',
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
    )


def generate_launch_description():
    """Start the node first: the player waits for its subscriptions."""
    profile = LaunchConfiguration('dds_profile')
    return LaunchDescription(
        [
            *arguments(),
            # Fast DDS before and after 3.0
            SetEnvironmentVariable('FASTRTPS_DEFAULT_PROFILES_FILE', profile),
            SetEnvironmentVariable('FASTDDS_DEFAULT_PROFILES_FILE', profile),
            ground_truth_view(),
            *nodes(),
            *players(),
        ]
    )
