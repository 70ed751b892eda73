"""The command that installs what is missing, without breaking what is there.

apt's OpenCV and cv_bridge are built for apt's numpy: a numpy of another major version, which many
a library brings, makes them fail at import. docs/install.md has the lines of each distribution.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

FROM_APT = {'cv2': 'python3-opencv'}
"""Libraries that come from apt beside its ROS, never from PyPI."""
_DISTRIBUTIONS = {'PIL': 'pillow', 'ai_edge_litert': 'ai-edge-litert'}
_SYSTEM_ROS = '/opt/ros/'


def beside_system_ros(environment: Mapping[str, str] | None = None) -> bool:
    """Say whether apt's ROS is sourced, over which no extra of this package may be installed."""
    variables = os.environ if environment is None else environment
    prefixes = variables.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    return any(prefix.startswith(_SYSTEM_ROS) for prefix in prefixes)


def pip_line(*requirements: str, numpy_version: str = np.__version__) -> str:
    """Return the line that installs libraries by name and keeps the major version of numpy."""
    below = int(numpy_version.partition('.')[0]) + 1
    return f"pip install 'numpy<{below}' {' '.join(requirements)}"


def install_line(library: str, extra: str) -> str:
    """Return what brings a library, by its name in Python: an extra of ours or, beside apt's ROS,
    the library alone.
    """
    if not beside_system_ros():
        return f"pip install '.[{extra}]'"
    if library in FROM_APT:
        return f'sudo apt install {FROM_APT[library]}'
    return pip_line(_DISTRIBUTIONS.get(library, library))
