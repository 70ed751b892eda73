"""Compare what a Cityscapes teacher sees with the labelled lidar points in the image.

    python benchmark/teacher_agreement.py DATASET WEIGHTS.tflite [--scale 1 ...] [--every 5]
    python benchmark/teacher_agreement.py DATASET --fddwnet WEIGHTS.safetensors [--width 1536 ...]

DATASET holds sequences/SS with image_2, velodyne, labels and calib.txt. Prints a Markdown table
with a row for every scale or width and least probability, then the IoU of each class. The lidar
looks from above the camera, so some points lie behind what it sees: no teacher reaches 100 %.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.labels import IGNORE, NUM_CLASSES, train_from_raw
from cigocc_ros.core.projection import project_points
from cigocc_ros.data.kitti_layout import find_sequences
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.training.teacher.cityscapes import (
    CityscapesNetwork,
    CityscapesTeacher,
    train_ids,
)
from cigocc_ros.training.teacher.output import (
    MASK_CLASSES,
    Teacher,
    TeacherOutput,
    as_features,
    masks_of_classes,
)
from cigocc_ros.training.teacher.tiles import interpolate

Frame = tuple[KittiSequence, str]
Points = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]


@dataclass
class Score:
    """Counts over labelled points, by class where the shape is (19,)."""

    knows: NDArray[np.bool_]
    points: int = 0
    valid: int = 0
    nameable: int = 0
    hits: int = 0
    seconds: float = 0.0
    frames: int = 0
    both: NDArray[np.int64] = field(default_factory=lambda: np.zeros(NUM_CLASSES - 1, np.int64))
    either: NDArray[np.int64] = field(default_factory=lambda: np.zeros(NUM_CLASSES - 1, np.int64))

    def add(self, output: TeacherOutput, points: Points) -> None:
        """Count the points (rows, columns, train ids 1..19) of a frame."""
        rows, columns, truth = points
        wanted = truth[None] == np.arange(1, NUM_CLASSES)[:, None]
        valid = output.valid[rows, columns]
        said = output.masks[:, rows, columns] & valid
        hit = (said & wanted).any(0)
        self.points += len(truth)
        self.valid += int(valid.sum())
        self.nameable += int((self.knows[truth - 1] & valid).sum())
        self.hits += int(hit.sum())
        self.both += (said & wanted).sum(1)
        self.either += ((said | wanted) & valid).sum(1)

    @property
    def iou(self) -> NDArray[np.float64]:
        """IoU of each class over valid points, 0 where it occurs in neither."""
        return self.both / np.maximum(self.either, 1)

    def row(self) -> list[str]:
        """Return the cells after the settings."""
        shares = (
            self.hits / self.points,
            self.hits / max(self.nameable, 1),
            self.valid / self.points,
            float(self.iou[self.knows].mean()),
        )
        return [*(f'{100 * s:.1f} %' for s in shares), f'{self.seconds / self.frames:.2f}']


class Squeezed:
    """The usual way, to compare with: the whole image squeezed into the network's square."""

    def __init__(self, weights: Path) -> None:
        """Load the network."""
        self.network = CityscapesNetwork(weights)

    def __call__(self, sequence: KittiSequence, frame_id: str) -> TeacherOutput:
        """Return what the network sees."""
        image = sequence.image(frame_id)
        points, stride = self.network.points, self.network.stride
        side = (points - 1) * stride + 1
        features, logits = self.network(
            cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        )
        ratios = (image.shape[0] / side, image.shape[1] / side)
        origin = (0.5 * ratios[0] - 0.5, 0.5 * ratios[1] - 0.5)
        step = (stride * ratios[0], stride * ratios[1])
        best = interpolate(logits, (image.shape[0], image.shape[1]), origin, step).argmax(-1)
        masks, valid = masks_of_classes(train_ids()[best])
        return TeacherOutput(as_features(features.transpose(2, 0, 1)), origin, step, masks, valid)


def labelled_points(sequence: KittiSequence, frame_id: str) -> Points:
    """Return rows, columns and train ids 1..19 of the labelled points in the left image."""
    raw = sequence.point_labels(frame_id)
    truth = np.where(raw > 0, train_from_raw(raw), IGNORE).astype(np.uint8)
    xyz, camera = sequence.velodyne(frame_id)[:, :3], sequence.camera_left
    pixel_uv, _, seen = project_points(xyz, camera, sequence.cam_from_velo)
    seen &= truth != IGNORE
    columns, rows = np.rint(pixel_uv[seen]).astype(np.int64).T
    rows, columns = np.minimum(rows, camera.height - 1), np.minimum(columns, camera.width - 1)
    return rows, columns, truth[seen]


def score(
    knows: NDArray[np.bool_],
    look: Callable[[KittiSequence, str], TeacherOutput],
    frames: list[Frame],
) -> Score:
    """Let a teacher look at every frame and count."""
    total = Score(knows)
    for sequence, frame_id in frames:
        start = time.perf_counter()
        output = look(sequence, frame_id)
        total.seconds += time.perf_counter() - start
        total.frames += 1
        total.add(output, labelled_points(sequence, frame_id))
    return total


def main() -> None:
    """Print one row a variant and the classes of all."""
    args = _arguments()
    frames = _frames(args.dataset, args.every)
    _print(['scale or width', 'least probability', *_COLUMNS])
    _print(['---'] * (len(_COLUMNS) + 2))
    _print_classes(_fddwnet(args, frames) if args.fddwnet else _deeplab(args, frames))


def _fddwnet(args: argparse.Namespace, frames: list[Frame]) -> dict[str, Score]:
    from cigocc_ros.training.teacher.fddwnet import FddwnetTeacher

    return {
        f'{width} / {probability:g}': _row(
            FddwnetTeacher(args.fddwnet, width, probability), f'{width} px', probability, frames
        )
        for width in args.width
        for probability in args.probability
    }


def _deeplab(args: argparse.Namespace, frames: list[Frame]) -> dict[str, Score]:
    knows = CityscapesTeacher(args.weights).info.knows
    scores = {'squeezed': score(knows, Squeezed(args.weights), frames)}
    _print(['whole image in the square', '0', *scores['squeezed'].row()])
    for scale in args.scale:
        for probability in args.probability:
            teacher = CityscapesTeacher(args.weights, scale, probability)
            name = f'{scale:g} / {probability:g}'
            scores[name] = _row(teacher, f'{scale:g}', probability, frames)
    return scores


def _row(teacher: Teacher, shown: str, probability: float, frames: list[Frame]) -> Score:
    """Score a teacher and print its row."""
    result = score(teacher.info.knows, teacher.look, frames)
    _print([shown, f'{probability:g}', *result.row()])
    return result


_COLUMNS = (
    'right, of all points',
    'right, of points it can name and is sure of',
    'points it is sure of',
    'mIoU of its classes',
    's a frame',
)


def _print_classes(scores: dict[str, Score]) -> None:
    sys.stdout.write('\n')
    _print(['class', *scores])
    _print(['---'] * (len(scores) + 1))
    for index, name in enumerate(MASK_CLASSES):
        shares = [one.iou[index] for one in scores.values()]
        if next(iter(scores.values())).knows[index]:
            _print([name, *(f'{100 * share:.1f} %' for share in shares)])


def _frames(dataset: Path, every: int) -> list[Frame]:
    sequences = [KittiSequence(path) for path in find_sequences(dataset)]
    found = [
        (sequence, frame_id)
        for sequence in sequences
        for frame_id in sequence.frame_ids[::every]
        if sequence.has_point_labels(frame_id) and sequence.has_velodyne(frame_id)
    ]
    if not found:
        sys.exit(f'no frame under {dataset} has labelled lidar points')
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Compare a teacher with labelled lidar points.')
    parser.add_argument('dataset', type=Path, help='folder above sequences/')
    parser.add_argument('weights', type=Path, nargs='?', help='.tflite file')
    parser.add_argument('--fddwnet', type=Path, help='.safetensors file of FDDWNet instead')
    parser.add_argument('--width', type=int, nargs='+', default=[1536], help='of FDDWNet')
    parser.add_argument('--scale', type=float, nargs='+', default=[1.0, 1.5, 2.0])
    parser.add_argument('--probability', type=float, nargs='+', default=[0.0])
    parser.add_argument('--every', type=int, default=1, help='use every n-th frame')
    args = parser.parse_args()
    if (args.weights is None) == (args.fddwnet is None):
        parser.error('expected WEIGHTS.tflite or --fddwnet WEIGHTS.safetensors')
    return args


def _print(cells: list[str]) -> None:
    sys.stdout.write(f'| {" | ".join(cells)} |\n')
    sys.stdout.flush()


if __name__ == '__main__':
    main()
