"""Map a calibrated camera: images and camera_info in, semantic voxels on ~/occupancy out."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

PACKAGE = 'cigocc_ros'
BOOLEAN = ['true', 'false']
BACKENDS = ['auto', 'onnxruntime', 'openvino', 'torch', 'tensorrt']

# Argument -> relative topic of the node.
TOPICS = {
    'image': 'image',
    'camera_info': 'camera_info',
    'right_image': 'right/image',
    'right_camera_info': 'right/camera_info',
    'depth': 'depth',
}
PARAMETERS = ('model', 'backend', 'output_frame', 'image_transport', 'use_sim_time')


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
        argument('image', 'image', 'Image topic'),
        argument('camera_info', 'camera_info', 'Calibration of the image'),
        argument(
            'right_image',
            'right/image',
            'Right image of a stereo pair, optional: measured depth helps',
        ),
        argument(
            'right_camera_info', 'right/camera_info', 'Calibration of the right image, optional'
        ),
        argument(
            'depth', 'depth', 'Depth image registered to the image, optional (32FC1 m or 16UC1 mm)'
        ),
        argument(
            'image_transport',
            'raw',
            'compressed subscribes to <image>/compressed',
            ['raw', 'compressed'],
        ),
        argument('model', 'mid', 'Model folder (absolute), or the name of a shipped model'),
        argument('backend', 'auto', 'What runs the network', BACKENDS),
        argument(
            'output_frame',
            'velo_link',
            'Frame of the voxels: x forward, y left, z up, about 1.7 m above ground',
        ),
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
        argument('namespace', '', 'Namespace of the node'),
        argument('use_sim_time', 'false', 'Follow /clock', BOOLEAN),
        argument('rviz', 'true', 'Start RViz', BOOLEAN),
        argument(
            'dds_profile',
            config('fastdds_large_messages.xml'),
            'Fast DDS profile; the default has room for images in shared memory',
        ),
    ]


def remappings():
    """Return the topic of every input; compressed topics follow the raw ones."""
    images = ('image', 'right_image')
    raw = [(topic, LaunchConfiguration(name)) for name, topic in TOPICS.items()]
    return raw + [
        (f'{TOPICS[name]}/compressed', [LaunchConfiguration(name), '/compressed'])
        for name in images
    ]


def generate_launch_description():
    """Start the node, and RViz where it is wanted."""
    namespace = LaunchConfiguration('namespace')
    profile = LaunchConfiguration('dds_profile')
    node = Node(
        package=PACKAGE,
        executable='occ_node',
        name='occ',
        namespace=namespace,
        output='screen',
        parameters=[
            config('occ.param.yaml'),
            {name: LaunchConfiguration(name) for name in PARAMETERS},
            LaunchConfiguration('extrinsics_file'),
            LaunchConfiguration('params_file'),
        ],
        remappings=remappings(),
    )
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        namespace=namespace,
        arguments=['-d', config('occ.rviz'), '-f', LaunchConfiguration('output_frame')],
        parameters=[{'use_sim_time': LaunchConfiguration('use_sim_time')}],
        remappings=[('image', LaunchConfiguration('image'))],
        condition=IfCondition(LaunchConfiguration('rviz')),
    )
    return LaunchDescription(
        [
            *arguments(),
            # Fast DDS before and after 3.0
            SetEnvironmentVariable('FASTRTPS_DEFAULT_PROFILES_FILE', profile),
            SetEnvironmentVariable('FASTDDS_DEFAULT_PROFILES_FILE', profile),
            node,
            rviz,
        ]
    )
