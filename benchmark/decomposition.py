"""What costs a model its score: geometry or classes? Each is replaced by the truth in turn.

    python -m benchmark.decomposition DATASET --model mid --ground-truth DIR --sequences 09 \\
        --labels FOLDER --preset cityscapes [--prior stereo]

Rows, all scored as `cigocc evaluate` does:

    the model                              as it is
    its occupancy, true classes            classes are right wherever both see something
    true occupancy, its classes            of the nearest voxel that it calls occupied
    true occupancy, class of the pixel     of the label image, copied along the ray
    its occupancy, class of the pixel      where the camera looks; its own class elsewhere

FOLDER holds label images of any segmentation network (see benchmark.baselines).
"""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import CigoccError
from cigocc_ros.core.frames import CameraFrame, labels_on_grid
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import EMPTY, IGNORE
from cigocc_ros.core.markdown import table
from cigocc_ros.core.prior import PRIORS, STEREO
from cigocc_ros.core.projection import project_voxels
from cigocc_ros.data.camera_frames import sequence_frame
from cigocc_ros.data.kitti_layout import sequence_folder
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.label_images import LabelImages
from cigocc_ros.data.stereo_config import trained_stereo
from cigocc_ros.evaluation.evaluate import frames_to_score
from cigocc_ros.evaluation.ground_truth import open_ground_truth
from cigocc_ros.evaluation.metrics import SscMetrics, SscScores
from cigocc_ros.runtime.predictor import Predictor

Labels = NDArray[np.uint8]


def decomposed(
    frame: CameraFrame, predicted: Labels, target: Labels, pixels: Labels
) -> dict[str, Labels]:
    """Return the rows of the table for one frame, (X, Y, Z) train ids each.

    target: 255 = unknown. pixels: (H, W) train ids of the image, 0 = unknown.
    """
    seen = (target != EMPTY) & (target != IGNORE)
    ray = along_rays(frame, pixels)
    occupied = predicted != EMPTY
    return {
        'the model': predicted,
        'its occupancy, true classes': np.where(occupied & seen, target, predicted),
        'true occupancy, its classes': np.where(seen, nearest_class(predicted), EMPTY),
        'true occupancy, class of the pixel': np.where(seen, ray, EMPTY),
        'its occupancy, class of the pixel': np.where(occupied & (ray != EMPTY), ray, predicted),
    }


def along_rays(frame: CameraFrame, pixels: Labels) -> Labels:
    """Return the class (H, W) of the pixel that each voxel centre falls on; 0 outside."""
    uv, _, inside = project_voxels(SEMANTIC_KITTI_GRID, frame.camera, frame.cam_from_velo)
    height, width = pixels.shape
    column = np.clip(np.rint(uv[..., 0]), 0, width - 1).astype(np.int64)
    row = np.clip(np.rint(uv[..., 1]), 0, height - 1).astype(np.int64)
    return np.where(inside, pixels[row, column], EMPTY).astype(np.uint8)


def nearest_class(labels: Labels) -> Labels:
    """Return labels without empty voxels: each takes that of the nearest, by steps along axes."""
    filled = labels.copy()
    while (filled == EMPTY).any() and filled.any():
        before = filled.copy()
        for axis in range(3):
            there, then = np.moveaxis(filled, axis, 0), np.moveaxis(before, axis, 0)
            for to, of in ((slice(1, None), slice(-1)), (slice(-1), slice(1, None))):
                gap = there[to] == EMPTY
                there[to][gap] = then[of][gap]
    return filled


def decompose(args: argparse.Namespace) -> dict[str, SscScores]:
    """Run the model on all frames with ground truth and score every row."""
    truth = open_ground_truth(args.ground_truth or args.data)
    images = LabelImages(args.labels, args.preset)
    metrics: dict[str, SscMetrics] = {}
    with closing(Predictor.from_model_dir(args.model, args.backend, args.threads)) as predictor:
        stereo = trained_stereo(predictor.manifest.training)
        for key in frames_to_score(truth, None, args.sequences):
            sequence = KittiSequence(sequence_folder(args.data, key.sequence))
            frame = sequence_frame(sequence, key.frame_id, args.prior, stereo=stereo)
            target = truth.labels(key)
            predicted = labels_on_grid(predictor(frame), SEMANTIC_KITTI_GRID)
            rows = decomposed(frame, predicted, target, images.train_ids(key))
            for name, labels in rows.items():
                metrics.setdefault(name, SscMetrics()).update(labels, target)
    return {name: each.compute() for name, each in metrics.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description='Replace geometry and classes by the truth.')
    parser.add_argument('data', type=Path, help='folder above sequences/')
    parser.add_argument('--model', default='mid', help='shipped model or folder')
    parser.add_argument('--backend', default='onnxruntime')
    parser.add_argument('--threads', type=int, default=0)
    parser.add_argument('--labels', type=Path, required=True, help='folder of label images')
    parser.add_argument('--preset', default='cityscapes', help='what their ids mean')
    parser.add_argument('--ground-truth', type=Path, help='as of cigocc evaluate')
    parser.add_argument('--sequences', nargs='+', default=[], metavar='SS')
    parser.add_argument('--prior', choices=PRIORS, default=STEREO)
    try:
        scores = decompose(parser.parse_args())
    except CigoccError as error:
        sys.exit(str(error))
    rows = [[name, f'{100 * s.iou:.1f}', f'{100 * s.miou:.1f}'] for name, s in scores.items()]
    print('\n'.join(table(('', 'IoU', 'mIoU'), rows)))


if __name__ == '__main__':
    main()
