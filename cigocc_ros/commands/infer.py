"""`cigocc infer`: map one image or a KITTI sequence to label files, without ROS."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.camera import stereo_focal_baseline
from cigocc_ros.core.errors import CalibrationError, ConfigError, DataFileError
from cigocc_ros.core.frames import CameraFrame, Occupancy
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import CLASS_NAMES, raw_from_train

if TYPE_CHECKING:
    from cigocc_ros.data.camera_file import MountedCamera
    from cigocc_ros.data.kitti_sequence import KittiSequence
    from cigocc_ros.runtime.predictor import Predictor

HELP = 'map one image, or a KITTI sequence, to .label files without ROS'
AUTO, STEREO, DEPTH, MONO = 'auto', 'stereo', 'depth', 'mono'
DEFAULT_MODEL = 'mid'


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
    parser.add_argument(
        '--backend',
        default='auto',
        help='auto, onnxruntime, or torch with a checkpoint folder as --model',
    )
    parser.add_argument('--threads', type=int, default=0, help='0: every core (default)')
    parser.add_argument('--picture', action='store_true', help='also draw a PNG of every frame')
    image = parser.add_argument_group('one image')
    image.add_argument(
        '--calib',
        type=Path,
        help='KITTI calib.txt, or YAML: fx, fy, cx, cy, cam_from_velo (and baseline_m)',
    )
    image.add_argument('--right', type=Path, help='right image, for a stereo depth prior')
    image.add_argument(
        '--depth', type=Path, help='depth prior: 16 bit PNG of metres * 256, 0 unknown'
    )
    parser.add_argument_group('a sequence').add_argument(
        '--prior',
        choices=(AUTO, STEREO, DEPTH, MONO),
        default=AUTO,
        help='depth prior from image_3/, from depth_2/, or none; auto (default): stereo where '
        'image_3/ exists, else none',
    )


def run(args: argparse.Namespace) -> int:
    """Predict every frame, write its labels, print latencies and a summary; return 0."""
    from cigocc_ros.runtime.predictor import Predictor

    frames = frames_of(args)
    with closing(Predictor.from_model_dir(args.model, args.backend, args.threads)) as predictor:
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
    for named in frames:
        occupancy = predictor(named.frame)
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
    from cigocc_ros.data.kitti_files import write_voxel_labels
    from cigocc_ros.runtime.postprocess import labels_on_grid

    write_voxel_labels(path, raw_from_train(labels_on_grid(occupancy, SEMANTIC_KITTI_GRID)))


def draw(path: Path, frame: CameraFrame, occupancy: Occupancy) -> None:
    """Write the camera image beside the voxels as PNG."""
    from cigocc_ros.render.files import save_picture
    from cigocc_ros.render.sheet import VoxelPanel, draw_sheet

    save_picture(path, draw_sheet(path.stem, [VoxelPanel.of(occupancy)], frame.image))


def frames_of(args: argparse.Namespace) -> Iterator[NamedFrame]:
    """Return the frames of the input; raise ConfigError for options that do not belong to it."""
    if args.input.is_dir():
        given = [name for name in ('calib', 'right', 'depth') if getattr(args, name) is not None]
        if given:
            raise ConfigError(f'--{given[0]} is for one image; a sequence brings its own')
        return sequence_frames(args.input, args.prior)
    if not args.input.is_file():
        raise DataFileError(f'no image file or sequence folder {args.input}')
    if args.prior != AUTO:
        raise ConfigError('--prior is for a sequence; give an image --right or --depth')
    return iter([image_frame(args.input, args.calib, args.right, args.depth)])


def sequence_frames(root: Path, prior: str) -> Iterator[NamedFrame]:
    """Yield the frames of all sequences; targets follow the layout of benchmark submissions."""
    from cigocc_ros.data.kitti_sequence import find_sequences

    for sequence in find_sequences(root):
        source = _prior_source(sequence, prior)
        print(f'sequence {sequence.name}: {len(sequence.frame_ids)} frames, prior: {source}')
        for frame_id in sequence.frame_ids:
            frame = CameraFrame(
                image=sequence.image(frame_id),
                camera=sequence.camera_left,
                cam_from_velo=sequence.cam_from_velo,
                stamp_ns=0,  # label files carry no time, so times.txt is not needed
                frame_id=sequence.name,
                depth_m=_sequence_depth(sequence, frame_id, source),
            )
            yield NamedFrame(frame, Path('sequences', sequence.name, 'predictions', frame_id))


def _prior_source(sequence: KittiSequence, prior: str) -> str:
    if prior == AUTO:
        return STEREO if sequence.has_right else MONO
    if prior == STEREO and not sequence.has_right:
        raise DataFileError(f'{sequence.folder}: --prior stereo needs image_3/, none there')
    return prior


def _sequence_depth(
    sequence: KittiSequence, frame_id: str, source: str
) -> NDArray[np.float32] | None:
    if source == MONO:
        return None
    if source == DEPTH:
        depth = sequence.depth(frame_id)
        if depth is None:
            raise DataFileError(f'{sequence.folder}: no depth_2/{frame_id}.png for --prior depth')
        return depth
    from cigocc_ros.data.stereo_depth import stereo_depth_m

    if sequence.camera_right is None:
        raise DataFileError(f'{sequence.folder}: no image_3/ for --prior stereo')
    focal_baseline = stereo_focal_baseline(sequence.camera_left, sequence.camera_right)
    right = sequence.image(frame_id, 'right')
    return stereo_depth_m(sequence.image(frame_id), right, focal_baseline)


def image_frame(
    image: Path, calib: Path | None, right: Path | None, depth: Path | None
) -> NamedFrame:
    """Read one image with its calibration and, where given, its right image or depth."""
    from cigocc_ros.data.camera_file import read_camera
    from cigocc_ros.data.image_files import read_rgb

    if calib is None:
        raise CalibrationError(
            f'{image}: an image alone has no calibration; give --calib with a KITTI calib.txt or '
            'a YAML file of fx, fy, cx, cy (pixels) and cam_from_velo (rows of the transform)'
        )
    pixels = read_rgb(image)
    mounted = read_camera(calib, pixels.shape[1], pixels.shape[0])
    prior = _image_depth(pixels, mounted, right, depth)
    frame = CameraFrame(pixels, mounted.left, mounted.cam_from_velo, 0, image.stem, depth_m=prior)
    return NamedFrame(frame, Path(image.stem))


def _image_depth(
    pixels: NDArray[np.uint8], mounted: MountedCamera, right: Path | None, depth: Path | None
) -> NDArray[np.float32] | None:
    from cigocc_ros.data.image_files import read_depth_png, read_rgb
    from cigocc_ros.data.stereo_depth import stereo_depth_m

    if right is not None and depth is not None:
        raise ConfigError('give --right or --depth, not both')
    if depth is not None:
        return read_depth_png(depth)
    if right is None:
        return None
    if mounted.right is None:
        raise CalibrationError('--right needs a right camera: key baseline_m in the YAML file')
    focal_baseline = stereo_focal_baseline(mounted.left, mounted.right)
    return stereo_depth_m(pixels, read_rgb(right), focal_baseline)
