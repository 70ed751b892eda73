"""What the numbers in the outputs mean, as JSON for a latched topic."""

from __future__ import annotations

import json

from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import CLASS_NAMES, EMPTY, PALETTE_RGB


def class_info_json(model_id: str, grid: VoxelGrid, frame_id: str, grid_layout: str) -> str:
    """Return the classes with colours, the grid, its frame and layout on ~/grid, the model."""
    classes = [
        {'id': train_id, 'name': name, 'rgb': PALETTE_RGB[train_id].tolist()}
        for train_id, name in enumerate(CLASS_NAMES)
    ]
    content = {
        'model_id': model_id,
        'empty': EMPTY,
        'classes': classes,
        'frame_id': frame_id,
        'grid': grid.to_dict(),
        'grid_layout': grid_layout,
    }
    return json.dumps(content)
