"""What a user would do without learning: paint stereo depth with a segmentation, fill voxels.

    python -m benchmark.baselines DATASET --labels FOLDER --preset cityscapes \\
        [--ground-truth DIR] [--sequences 05 09] [--prior stereo] [--page docs/baselines.md]

FOLDER holds label images of any segmentation network (sequences/SS/FFFFFF.png). Every pixel with a
depth is a point with the class of the pixel; a voxel takes its commonest class. Rows: voxels of
0.2 and 0.4 m, as they are and with gaps of one voxel closed. Scored like `cigocc evaluate`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import CigoccError
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID, VoxelGrid
from cigocc_ros.core.labels import CLASS_NAMES, EMPTY, NUM_CLASSES, spread_voxels
from cigocc_ros.core.markdown import table, write_into
from cigocc_ros.core.prior import PRIORS, STEREO, Prior
from cigocc_ros.core.projection import unproject
from cigocc_ros.data.camera_frames import sequence_frame
from cigocc_ros.data.kitti_layout import FrameKey, sequence_folder
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.label_images import LabelImages
from cigocc_ros.evaluation.evaluate import frames_to_score
from cigocc_ros.evaluation.ground_truth import open_ground_truth
from cigocc_ros.evaluation.metrics import SscMetrics, SscScores

EDGES_M = (0.2, 0.4)


def paint(frame: CameraFrame, classes: NDArray[np.uint8], grid: VoxelGrid) -> NDArray[np.uint8]:
    """Return train ids (X, Y, Z) of voxels that hold a pixel with depth and class (H, W).

    Pixels of unknown class (0) fill nothing; the commonest class of a voxel wins, the lowest id in
    a tie.
    """
    if frame.depth_m is None or frame.depth_m.shape != classes.shape:
        raise ValueError(f'expected a depth of {classes.shape}, found {frame.depth_m}')
    seen = (frame.depth_m > 0) & (classes != EMPTY)
    rows, columns = np.nonzero(seen)
    pixels = np.stack([columns, rows], -1).astype(np.float64)
    points = unproject(pixels, frame.depth_m[seen], frame.camera, frame.cam_from_velo)
    index, inside = grid.index_of(points)
    flat = np.ravel_multi_index(tuple(index[inside].T), grid.shape)
    pairs, counts = np.unique(flat * NUM_CLASSES + classes[seen][inside], return_counts=True)
    voxels, named = np.divmod(pairs, NUM_CLASSES)
    order = np.lexsort((-named, counts))  # the last one that is written stays
    labels = np.zeros(grid.num_voxels, np.uint8)
    labels[voxels[order]] = named[order]
    return labels.reshape(grid.shape)


def close_gaps(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fill voxels between two occupied ones, along each axis in turn, with the class before."""
    closed = labels.copy()
    for axis in range(3):
        along = np.moveaxis(closed, axis, 0)  # a view: what is filled stays
        gap = (along[1:-1] == EMPTY) & (along[:-2] != EMPTY) & (along[2:] != EMPTY)
        along[1:-1][gap] = along[:-2][gap]
    return closed


def baseline_scores(
    data: Path,
    images: LabelImages,
    truth_root: Path,
    sequences: Sequence[str],
    prior: Prior,
) -> dict[str, SscScores]:
    """Score every variant on all frames with ground truth; counts add up before they divide."""
    truth = open_ground_truth(truth_root)
    metrics: dict[str, SscMetrics] = {}
    for key in frames_to_score(truth, None, sequences):
        frame = _frame(data, key, prior)
        target, classes = truth.labels(key), images.train_ids(key)
        for name, labels in _variants(frame, classes).items():
            metrics.setdefault(name, SscMetrics()).update(labels, target)
    return {name: each.compute() for name, each in metrics.items()}


def _variants(frame: CameraFrame, classes: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    found = {}
    for edge_m in EDGES_M:
        factor = round(edge_m / SEMANTIC_KITTI_GRID.voxel_size_m[0])
        x, y, z = (count // factor for count in SEMANTIC_KITTI_GRID.shape)
        grid = SEMANTIC_KITTI_GRID.with_shape((x, y, z))
        labels = paint(frame, classes, grid)
        found[f'{edge_m} m'] = spread_voxels(labels, SEMANTIC_KITTI_GRID.shape)
        found[f'{edge_m} m, gaps closed'] = spread_voxels(
            close_gaps(labels), SEMANTIC_KITTI_GRID.shape
        )
    return found


def _frame(data: Path, key: FrameKey, prior: Prior) -> CameraFrame:
    return sequence_frame(KittiSequence(sequence_folder(data, key.sequence)), key.frame_id, prior)


def report(scores: dict[str, SscScores]) -> str:
    """Return the tables of the scores, in per cent."""
    head = ['painted voxels', 'IoU', 'precision', 'recall', 'mIoU']
    rows = [
        [name, *(f'{100 * s:.1f}' for s in (one.iou, one.precision, one.recall, one.miou))]
        for name, one in scores.items()
    ]
    classes = [
        [name, *(f'{100 * one.by_name()[name]:.1f}' for one in scores.values())]
        for name in CLASS_NAMES[1:]
    ]
    return '\n'.join([*table(head, rows), '', *table(('class', *scores), classes)])


def main() -> None:
    """Score the baselines and print, or write, the tables."""
    parser = argparse.ArgumentParser(description='Score stereo depth painted with a segmentation.')
    parser.add_argument('data', type=Path, help='folder above sequences/')
    parser.add_argument('--labels', type=Path, required=True, help='folder of label images')
    parser.add_argument('--preset', default='cityscapes', help='what their ids mean')
    parser.add_argument('--ground-truth', type=Path, help='as of cigocc evaluate')
    parser.add_argument('--sequences', nargs='+', default=[], metavar='SS')
    parser.add_argument('--prior', choices=PRIORS[1:], default=STEREO)
    parser.add_argument('--page', type=Path, help='page whose generated block is replaced')
    parser.add_argument('--block', default='painted', help='name of the block')
    args = parser.parse_args()
    truth = args.ground_truth or args.data
    try:
        images = LabelImages(args.labels, args.preset)
        scores = baseline_scores(args.data, images, truth, args.sequences, args.prior)
    except CigoccError as error:
        sys.exit(str(error))
    text = report(scores)
    if args.page is None:
        print(text)
    else:
        write_into(args.page, {args.block: text})


if __name__ == '__main__':
    main()
