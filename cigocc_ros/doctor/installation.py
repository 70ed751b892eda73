"""Is ROS there, and whole? Importable without rclpy."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping

from cigocc_ros.core.dds import HIGHEST_DOMAIN
from cigocc_ros.core.ros_environment import DOMAIN_CURE, domain_trouble
from cigocc_ros.doctor.finding import Finding, fail, ok, warn
from cigocc_ros.doctor.machine import library_version

DISTROS = ('humble', 'jazzy', 'kilted', 'lyrical')
"""Where the package is meant to run; others may work."""
DISCOVERY_VARIABLES = ('ROS_DISCOVERY_SERVER', 'ROS_STATIC_PEERS', 'CYCLONEDDS_URI')
"""Whoever is not in the same shell may not be heard."""
MESSAGES = (
    'diagnostic_msgs',
    'nav_msgs',
    'sensor_msgs',
    'std_msgs',
    'std_srvs',
    'visualization_msgs',
)
SOURCE_ROS = "source /opt/ros/jazzy/setup.bash, or pip install '.[ros-jazzy]'"


def check_rclpy() -> tuple[list[Finding], str]:
    """Check rclpy, distribution, middleware and messages; return the middleware, '' without."""
    try:
        rclpy = importlib.import_module('rclpy')
        rmw = str(importlib.import_module('rclpy.utilities').get_rmw_implementation_identifier())
    except Exception as error:  # ImportError, or the library of another distribution
        found = f'rclpy cannot be imported ({error}): no check of ROS was made'
        expected = 'rclpy, for the node; the other commands of cigocc work without'
        return [warn('ros', found, expected, SOURCE_ROS)], ''
    found = f'rclpy in {os.path.dirname(str(rclpy.__file__))}'
    return [ok('ros', found), _distro(), ok('rmw', rmw), check_domain(), check_messages()], rmw


def _distro() -> Finding:
    distro = os.environ.get('ROS_DISTRO', '')
    if not distro:
        return ok('ros distro', 'not stated: ROS from Python wheels')
    if distro in DISTROS:
        return ok('ros distro', distro)
    expected, fix = ' or '.join(DISTROS), 'use one of them; with another, run `make test` first'
    return warn('ros distro', distro, expected, fix)


def check_domain(environment: Mapping[str, str] | None = None) -> Finding:
    """Check ROS_DOMAIN_ID and say who can be heard: the first thing that keeps nodes apart."""
    variables = os.environ if environment is None else environment
    trouble = domain_trouble(variables)
    if trouble is not None:
        return fail(trouble.check, trouble.found, trouble.expected, trouble.cure)
    text = variables.get('ROS_DOMAIN_ID') or '0'
    reach = variables.get('ROS_AUTOMATIC_DISCOVERY_RANGE') or 'the default range'
    found = 'this host only' if variables.get('ROS_LOCALHOST_ONLY') == '1' else reach
    named = [f'{name}={variables[name]}' for name in DISCOVERY_VARIABLES if variables.get(name)]
    found = ', '.join([found, *named])
    if int(text) > HIGHEST_DOMAIN:
        found = f'ROS_DOMAIN_ID={text}: its ports reach into the ephemeral ones of Linux'
        return warn('ros domain', found, f'a number from 0 to {HIGHEST_DOMAIN}', DOMAIN_CURE)
    return ok('ros domain', f'{text}, discovery in {found}')


def check_messages(packages: tuple[str, ...] = MESSAGES) -> Finding:
    """Check that every message package of the node can be imported."""
    missing = [name for name in packages if not _importable(f'{name}.msg', f'{name}.srv')]
    if not missing:
        return ok('messages', ', '.join(packages))
    fix = 'rosdep install --from-paths src --ignore-src -y'
    return fail('messages', f'cannot import {", ".join(missing)}', 'all of them', fix)


def _importable(*names: str) -> bool:
    """Say whether any of the modules can be imported."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:  # a typesupport of another distribution raises anything
            continue
        return True
    return False


def check_tf2() -> Finding:
    """Check the library that tells the camera pose, which parameters can replace."""
    if library_version('tf2_ros') is not None:
        return ok('tf2', 'tf2_ros')
    fix = 'sudo apt install ros-$ROS_DISTRO-tf2-ros-py, or set extrinsics.rotation'
    return warn('tf2', 'tf2_ros not importable', 'tf2_ros, or the pose as parameters', fix)


def check_cv_bridge() -> Finding:
    """Check that cv_bridge, where it is installed, fits this numpy. It is optional."""
    try:
        importlib.import_module('cv_bridge')
    except ModuleNotFoundError as error:
        if error.name == 'cv_bridge':
            return ok('cv_bridge', 'not installed; OpenCV decodes unusual encodings')
        found = str(error)
    except Exception as error:  # built for numpy 1, it raises AttributeError and worse
        found = f'{type(error).__name__}: {error}'
    else:
        return ok('cv_bridge', f'works with numpy {library_version("numpy")}')
    fix = "pip uninstall numpy, so that apt's is used; or pip install 'numpy<2'"
    found = f'{found} (numpy {library_version("numpy")})'
    return warn('cv_bridge', found, 'the numpy it was built with', fix)
