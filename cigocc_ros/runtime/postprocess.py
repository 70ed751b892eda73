"""Turn the network's outputs into the occupancy of a frame."""

from __future__ import annotations

from cigocc_ros.core.frames import CameraFrame, Occupancy
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.manifest import CLASS_PROBABILITY, LABELS, OCCUPIED_PROBABILITY
from cigocc_ros.runtime.contract import Arrays


def occupancy_from_outputs(outputs: Arrays, grid: VoxelGrid, frame: CameraFrame) -> Occupancy:
    """Return the occupancy of a frame: its stamp, its grid frame, views of the output arrays."""
    sure = outputs.get(CLASS_PROBABILITY)
    return Occupancy(
        labels=outputs[LABELS][0],
        probability=outputs[OCCUPIED_PROBABILITY][0],
        grid=grid,
        stamp_ns=frame.stamp_ns,
        frame_id=frame.grid_frame_id,
        class_probability=None if sure is None else sure[0],
    )
