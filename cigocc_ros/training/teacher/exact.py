"""The perfect teacher: class images that the data brings, as synthetic scenes do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.labels import NUM_CLASSES
from cigocc_ros.data.kitti_sequence import KittiSequence, Side
from cigocc_ros.training.teacher.output import (
    MASK_CLASSES,
    TeacherInfo,
    TeacherOutput,
    as_features,
    cells_of_scale,
    masks_of_classes,
)

CELL_PX = 4
"""Source pixels per feature cell along each axis."""


class ExactTeacher:
    """Reads masks_2; its features are how much of a cell each class fills.

    Channel k of 20 is the share of the cell's pixels with train id k, 0 being the sky; unknown
    pixels count in none, so the channels add up to the known share.
    """

    info = TeacherInfo(
        name='exact',
        version=f'masks_2, cells of {CELL_PX} px',
        features='share of the cell that each train id 0..19 fills',
        channels=NUM_CLASSES,
        classes=MASK_CLASSES,
        known_classes=MASK_CLASSES,
    )

    def look(self, sequence: KittiSequence, frame_id: str, side: Side = 'left') -> TeacherOutput:
        """Return the classes of a frame; raise DataFileError where it has no class image."""
        if side != 'left':
            raise DataFileError('the exact teacher knows the left camera only: masks_2 is its')
        if not sequence.has_semantic_image(frame_id):
            raise DataFileError(
                f'{sequence.path}/masks_2/{frame_id}.png is missing: the exact teacher reads the '
                'class images of "cigocc synthesize"; for photographs use another teacher'
            )
        classes = sequence.semantic_image(frame_id)
        masks, valid = masks_of_classes(classes)
        origin, step = cells_of_scale(1.0, CELL_PX)
        return TeacherOutput(
            features=as_features(class_shares(classes)),
            origin_px=(origin, origin),
            step_px=(step, step),
            masks=masks,
            valid=valid,
        )


def class_shares(classes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (20, ceil(H / 4), ceil(W / 4)); cells that the border cuts count what they have."""
    rows, columns = (np.arange(0, size, CELL_PX) for size in classes.shape)
    counts = np.add.reduceat(np.ones(classes.shape, np.float32), rows, axis=0)
    counts = np.add.reduceat(counts, columns, axis=1)
    shares = []
    for train_id in range(NUM_CLASSES):
        filled = np.add.reduceat((classes == train_id).astype(np.float32), rows, axis=0)
        shares.append(np.add.reduceat(filled, columns, axis=1) / counts)
    return np.stack(shares)
