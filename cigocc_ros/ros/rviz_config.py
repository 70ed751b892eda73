"""What RViz shows, for this camera and this model: config/occ.rviz with the blanks filled.

Importable without rclpy: the launch files call it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cigocc_ros.core.errors import CigoccError
from cigocc_ros.core.files import write_atomically
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.core.yaml_json import load_yaml
from cigocc_ros.runtime.predictor import find_model_dir

logger = logging.getLogger(__name__)
WRITTEN = 'occ.rviz'
IMAGE_DISPLAYS = ('Camera', 'Overlay')
VOXELS = 'Voxels'


def write_rviz_config(
    source: str | Path,
    folder: str | Path,
    *,
    image: str,
    image_transport: str,
    model: str,
    output_frame: str,
) -> str:
    """Write the config for these launch arguments to a folder and return its path.

    Raises CigoccError where source is no RViz config, OSError where folder cannot be written.
    """
    config = load_yaml(Path(source))
    manager = config['Visualization Manager']
    manager['Global Options']['Fixed Frame'] = output_frame
    # RViz takes the transport from the last word of the topic
    topic = f'{image}/compressed' if image_transport == 'compressed' else image
    voxel_size_m = _voxel_size_m(model)
    for display in _displays(manager):
        if display['Name'] in IMAGE_DISPLAYS:
            display['Topic']['Value'] = topic
        if display['Name'] == VOXELS and voxel_size_m is not None:
            display['Size (m)'] = voxel_size_m
    path = Path(folder) / WRITTEN
    write_atomically(path, yaml.safe_dump(config, sort_keys=False))
    return str(path)


def camera_info_beside(image: str) -> str:
    """Return where RViz looks for the calibration (getCameraInfoTopic of image_transport)."""
    folder, slash, _ = image.rpartition('/')
    return f'{folder}{slash}camera_info'


def _displays(manager: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from manager['Displays']


def _voxel_size_m(model: str) -> float | None:
    """Return the edge of the voxels that a model makes; None where it cannot be told.

    The node says what is wrong with such a model; RViz keeps the size of the default one.
    """
    try:
        grid = load_manifest(find_model_dir(Path(model).expanduser())).voxel_grid
    except CigoccError as error:
        logger.warning('the size of the voxels in RViz is that of the default model: %s', error)
        return None
    return float(max(grid.voxel_size_m))
