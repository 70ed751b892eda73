"""Map a calibrated camera: images and camera_info in, semantic voxels on ~/occupancy out."""

import os
import shutil

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    OpaqueFunction,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.logging import launch_config
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackagePrefix, FindPackageShare

PACKAGE = 'cigocc_ros'
BOOLEAN = ['true', 'false', 'True', 'False']
BACKENDS = ['auto', 'onnxruntime', 'openvino', 'torch', 'tensorrt']
LEVELS = ['debug', 'info', 'warn', 'error', 'fatal']

# Argument -> relative topic of the node.
TOPICS = {
    'image': 'image',
    'camera_info': 'camera_info',
    'right_image': 'right/image',
    'right_camera_info': 'right/camera_info',
    'depth': 'depth',
    'semantic_prior': 'semantic_prior',
}
# Arguments that are parameters of the node, and their types: a folder called 2024 is no number.
PARAMETERS = {
    'model': str,
    'backend': str,
    'device': str,
    'threads': int,
    'output_frame': str,
    'image_transport': str,
    'image_reliability': str,
    'semantic_classes': str,
    'save_dir': str,
    'use_sim_time': bool,
}


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
        argument('semantic_prior', 'semantic_prior', 'Class ids of the pixels, optional (Image)'),
        argument('semantic_classes', '', 'What those ids mean, e.g. cityscapes, or a YAML file'),
        argument(
            'image_transport',
            'raw',
            'compressed subscribes to <image>/compressed',
            ['raw', 'compressed'],
        ),
        argument(
            'image_reliability',
            'auto',
            'auto is reliable, or best effort where the camera offers no more',
            ['auto', 'reliable', 'best_effort'],
        ),
        argument('model', 'mid', 'Model folder (absolute), or the name of a shipped model'),
        argument('backend', 'auto', 'What runs the network', BACKENDS),
        argument('device', 'auto', 'auto, cpu, or a GPU by its number in nvidia-smi or UUID'),
        argument('threads', '0', 'CPU threads of the network; 0 takes every physical core'),
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
        argument('save_dir', '', 'Folder that ~/save_grid writes to; empty refuses'),
        argument('namespace', '', 'Namespace of the node'),
        argument('use_sim_time', 'false', 'Follow /clock', BOOLEAN),
        argument(
            'respawn',
            'false',
            'Start the node again 2 s after it died; else its end is that of the launch',
            BOOLEAN,
        ),
        argument('log_level', 'info', 'Of the nodes', LEVELS),
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


def files(context):
    """Expand ~ in the arguments that are files; raise where one is not there."""
    for name in ('extrinsics_file', 'params_file', 'dds_profile'):
        path = os.path.expanduser(context.launch_configurations[name])
        if path and not os.path.isfile(path):
            raise RuntimeError(f'argument {name}: expected a file, found none at {path}')
        context.launch_configurations[name] = path


def tied():
    """Return what makes Linux end a process with launch, whatever ends that."""
    tool = 'setpriv --pdeathsig TERM ' if shutil.which('setpriv') else ''
    return [tool, LaunchConfiguration('launch-prefix', default='')]


def ended(event, context):
    """End everything with the node, with an error where it had one; not where it is respawned."""
    respawn = LaunchConfiguration('respawn').perform(context).lower() == 'true'
    if context.is_shutdown or respawn:
        return None
    if event.returncode:
        raise RuntimeError(f'{event.process_name} ended with {event.returncode}: its log says why')
    return [Shutdown(reason=f'{event.process_name} has ended')]


def rviz(context):
    """Return RViz for this camera and model; raise before anything runs where it is absent."""
    from cigocc_ros.ros.rviz_config import camera_info_beside, write_rviz_config

    if not IfCondition(LaunchConfiguration('rviz')).evaluate(context):
        return []
    try:
        FindPackagePrefix('rviz2').perform(context)
    except LookupError:
        cure = 'sudo apt install ros-$ROS_DISTRO-rviz2, or rviz:=false'
        raise RuntimeError(f'RViz is not installed: {cure}') from None
    names = ('image', 'image_transport', 'model', 'output_frame')
    chosen = {name: LaunchConfiguration(name).perform(context) for name in names}
    source = config('occ.rviz').perform(context)
    written = write_rviz_config(source, launch_config.log_dir, **chosen)
    return [
        Node(
            package='rviz2',
            executable='rviz2',
            exec_name='rviz2',
            namespace=LaunchConfiguration('namespace'),
            arguments=['-d', written],
            parameters=[{'use_sim_time': typed('use_sim_time')}],
            # RViz looks for it beside the image
            remappings=[(camera_info_beside(chosen['image']), LaunchConfiguration('camera_info'))],
            prefix=tied(),
        )
    ]


def typed(name):
    """Return an argument as the parameter of the node that it is."""
    return ParameterValue(LaunchConfiguration(name), value_type=PARAMETERS[name])


def node():
    """Return the node."""
    return Node(
        package=PACKAGE,
        executable='occ_node',
        exec_name='occ_node',
        name='occ',
        namespace=LaunchConfiguration('namespace'),
        output='screen',
        parameters=[
            config('occ.param.yaml'),
            {name: typed(name) for name in PARAMETERS},
            LaunchConfiguration('extrinsics_file'),
            LaunchConfiguration('params_file'),
        ],
        remappings=remappings(),
        ros_arguments=['--log-level', LaunchConfiguration('log_level')],
        respawn=LaunchConfiguration('respawn'),
        respawn_delay=2.0,
        on_exit=ended,
        prefix=tied(),
    )


def generate_launch_description():
    """Start RViz where it is wanted, which may fail, then the node."""
    profile = LaunchConfiguration('dds_profile')
    return LaunchDescription(
        [
            *arguments(),
            OpaqueFunction(function=files),
            # Fast DDS before and after 3.0
            SetEnvironmentVariable('FASTRTPS_DEFAULT_PROFILES_FILE', profile),
            SetEnvironmentVariable('FASTDDS_DEFAULT_PROFILES_FILE', profile),
            OpaqueFunction(function=rviz),
            node(),
        ]
    )
