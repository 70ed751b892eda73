"""The newest grid as files: SemanticKITTI labels, and JSON that says what they are."""

from __future__ import annotations

import json
from pathlib import Path

from cigocc_ros.core.atomic import write_atomically
from cigocc_ros.core.errors import CigoccError, ConfigError
from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import CLASS_NAMES, RAW_FROM_TRAIN, raw_from_train
from cigocc_ros.data.voxel_files import write_voxel_labels
from cigocc_ros.runtime.postprocess import labels_on_grid


def save_grid(folder: str, occupancy: Occupancy | None, model_id: str) -> Path:
    """Write `<stamp>.label` (raw ids, 256 x 256 x 32) and `<stamp>.json`; return the first.

    Raises ConfigError without a folder or a grid, and DataFileError where writing fails; neither
    file is left behind then.
    """
    if not folder:
        raise ConfigError('no folder to save in: start the node with the parameter save_dir')
    if occupancy is None:
        raise ConfigError('no grid yet: no frame has been processed, see /diagnostics')
    path = Path(folder).expanduser() / f'{occupancy.stamp_ns}.label'
    facts = path.with_suffix('.json')
    write_atomically(facts, _facts(occupancy, model_id))
    try:
        write_voxel_labels(path, raw_from_train(labels_on_grid(occupancy, SEMANTIC_KITTI_GRID)))
    except CigoccError:
        facts.unlink(missing_ok=True)
        raise
    return path


def _facts(occupancy: Occupancy, model_id: str) -> str:
    facts = {
        'stamp_ns': occupancy.stamp_ns,
        'frame_id': occupancy.frame_id,
        'model_id': model_id,
        'grid': SEMANTIC_KITTI_GRID.to_dict(),
        'predicted_on': occupancy.grid.to_dict(),
        'occupied_voxels': int(occupancy.occupied.sum()),
        'raw_ids': dict(zip(CLASS_NAMES, RAW_FROM_TRAIN.tolist(), strict=True)),
    }
    return json.dumps(facts, indent=2) + '\n'
