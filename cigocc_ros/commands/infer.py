"""`cigocc infer`: map one image or a KITTI sequence to label files, without ROS."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.commands.arguments import (
    add_engine_arguments,
    add_prior_argument,
    add_semantics_arguments,
    add_stereo_arguments,
    open_predictor,
    opened_semantics,
    semantics_of,
    stereo_config,
    warn_of_untrained,
)
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.frames import CameraFrame, Occupancy, labels_on_grid
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.installed import DEFAULT_MODEL
from cigocc_ros.core.labels import CLASS_NAMES, raw_from_train
from cigocc_ros.core.prior import AUTO
from cigocc_ros.data.camera_frames import image_frame, sequence_frame, sequence_prior
from cigocc_ros.data.kitti_files import write_voxel_labels
from cigocc_ros.runtime.predictor import Predictor

if TYPE_CHECKING:
    from cigocc_ros.data.label_images import LabelImages
    from cigocc_ros.data.stereo_config import StereoConfig

HELP = 'map one image, or a KITTI sequence, to .label files without ROS'


@dataclass(frozen=True)
class NamedFrame:
    """A frame and where its labels go, relative to the output folder and without suffix."""

    frame: CameraFrame
    target: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        'input', type=Path, help='an image file, or a KITTI sequence folder or data set root'
    )
    parser.add_argument('--out', type=Path, required=True, help='folder of the label files')
    parser.add_argument(
        '--model', default=DEFAULT_MODEL, help='shipped model or folder (default %(default)s)'
    )
    add_engine_arguments(parser)
    parser.add_argument('--picture', action='store_true', help='also draw a PNG of every frame')
    image = parser.add_argument_group('one image')
    image.add_argument(
        '--calib',
        type=Path,
        help='KITTI calib.txt, or YAML: fx, fy, cx, cy, cam_from_velo (and baseline_m)',
    )
    image.add_argument('--right', type=Path, help='right image, for a stereo depth prior')
    image.add_argument(
        '--depth',
        type=Path,
        help='depth prior: 16 bit PNG of metres * 256, or .npy of metres; 0 is unknown',
    )
    add_prior_argument(parser.add_argument_group('a sequence'))
    add_semantics_arguments(
        parser.add_argument_group('classes from outside'),
        'label image, or for sequences the folder with sequences/SS/FFFFFF.png,',
    )
    add_stereo_arguments(parser.add_argument_group('stereo matching'))


def run(args: argparse.Namespace) -> int:
    """Predict every frame, write its labels, print latencies and a summary; return 0."""
    check_input(args)
    with closing(open_predictor(args)) as predictor:
        frames = named_frames(args, predictor.manifest.training)
        predictor.warm_up()
        print(f'{predictor.manifest.model_id} on {predictor.engine.name}')
        predict_all(predictor, frames, args.out, args.picture)
    return 0


def predict_all(
    predictor: Predictor, frames: Iterator[NamedFrame], out: Path, picture: bool
) -> None:
    """Write the labels (and picture) of every frame below `out`; print a line for each."""
    latencies_ms: list[float] = []
    counts = np.zeros(len(CLASS_NAMES), dtype=np.int64)
    told: set[str] = set()
    for named in frames:
        frame, manifest = named.frame, predictor.manifest
        warn_of_untrained(manifest, frame.depth_m is not None, frame.classes is not None, told)
        occupancy = predictor(frame)
        if predictor.timing is not None:
            latencies_ms.append(predictor.timing.total_ms)
        counts += occupancy.class_counts()
        path = (out / named.target).with_suffix('.label')
        write_labels(path, occupancy)
        details = f'{latencies_ms[-1]:.0f} ms, {int(occupancy.occupied.sum())} voxels occupied'
        print(f'{path}: {details}')
        if picture:
            draw(path.with_suffix('.png'), named.frame, occupancy)
    print(summary(latencies_ms, counts))


def summary(latencies_ms: list[float], counts: NDArray[np.int64]) -> str:
    """Return two lines: frames and latency, then classes with their share of the occupied."""
    median, late = np.percentile(latencies_ms, (50, 95))
    order = [int(index) for index in np.argsort(-counts) if index and counts[index]]
    total = max(int(counts[1:].sum()), 1)
    seen = ', '.join(f'{CLASS_NAMES[i]} {100 * counts[i] / total:.1f} %' for i in order)
    return (
        f'{len(latencies_ms)} frames, latency median {median:.0f} ms, p95 {late:.0f} ms\n'
        f'occupied voxels by class: {seen or "none"}'
    )


def write_labels(path: Path, occupancy: Occupancy) -> None:
    """Write raw SemanticKITTI ids at SemanticKITTI's size; a coarser voxel fills its fine ones."""
    write_voxel_labels(path, raw_from_train(labels_on_grid(occupancy, SEMANTIC_KITTI_GRID)))


def draw(path: Path, frame: CameraFrame, occupancy: Occupancy) -> None:
    """Write the camera image beside the voxels as PNG."""
    from cigocc_ros.render.files import save_picture
    from cigocc_ros.render.sheet import VoxelPanel, draw_sheet

    save_picture(path, draw_sheet(path.stem, [VoxelPanel.of(occupancy)], frame.image))


def check_input(args: argparse.Namespace) -> None:
    """Raise ConfigError for options that do not belong to the input, DataFileError without one."""
    if args.input.is_dir():
        given = [name for name in ('calib', 'right', 'depth') if getattr(args, name) is not None]
        if given:
            raise ConfigError(f'--{given[0]} is for one image; a sequence brings its own')
        return
    if not args.input.is_file():
        raise DataFileError(f'no image file or sequence folder {args.input}')
    if args.prior != AUTO:
        raise ConfigError('--prior is for a sequence; give an image --right or --depth')


def named_frames(args: argparse.Namespace, training: Mapping[str, Any]) -> Iterator[NamedFrame]:
    """Return the frames of the input; `training` is what the model says of its own."""
    stereo = stereo_config(args, training)
    if args.input.is_dir():
        return sequence_frames(args.input, args.prior, opened_semantics(args), stereo)
    classes = image_classes(args)
    frame = image_frame(args.input, args.calib, args.right, args.depth, classes, stereo)
    return iter([NamedFrame(frame, Path(args.input.stem))])


def image_classes(args: argparse.Namespace) -> NDArray[np.uint8] | None:
    """Return the classes of one image, (h, w) train ids, None where none were given."""
    from cigocc_ros.data.label_images import read_train_ids  # needs OpenCV

    found = semantics_of(args)
    return None if found is None else read_train_ids(*found)


def sequence_frames(
    root: Path,
    prior: str,
    semantics: LabelImages | None = None,
    stereo: StereoConfig | None = None,
) -> Iterator[NamedFrame]:
    """Yield the frames of all sequences; targets follow the layout of benchmark submissions."""
    from cigocc_ros.data.kitti_layout import find_sequences
    from cigocc_ros.data.kitti_sequence import KittiSequence

    for folder in find_sequences(root):
        sequence = KittiSequence(folder)
        source = sequence_prior(sequence, prior)
        print(f'sequence {sequence.name}: {len(sequence.frame_ids)} frames, prior: {source}')
        for frame_id in sequence.frame_ids:
            frame = sequence_frame(sequence, frame_id, source, semantics, stereo)
            yield NamedFrame(frame, Path('sequences', sequence.name, 'predictions', frame_id))
