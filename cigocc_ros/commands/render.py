"""`cigocc render`: pictures of label files."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID, Shape
from cigocc_ros.render.files import FrameFiles, frame_files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cigocc_ros.render.sheet import VoxelPanel

HELP = 'draw voxels beside their camera image: pictures, a video, pages for a browser'
DEFAULT_OUT = Path('render_output')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        'labels',
        type=Path,
        help='a .label file of raw SemanticKITTI ids, a folder of them, or a KITTI sequence '
        'folder (its voxels/ and image_2/ are used)',
    )
    parser.add_argument(
        '--image', type=Path, help='camera image, or the folder of <frame>.png for a folder'
    )
    parser.add_argument(
        '--ground-truth', type=Path, help='second label file or folder, drawn beside the first'
    )
    parser.add_argument(
        '--out', type=Path, default=DEFAULT_OUT, help='PNG file, or a folder (default %(default)s)'
    )
    parser.add_argument('--view', choices=('chase', 'top'), default='chase')
    parser.add_argument(
        '--size', type=_size, metavar='WxH', help='size of the picture (default 1280x1000)'
    )
    parser.add_argument(
        '--grid-shape',
        type=_shape,
        default=SEMANTIC_KITTI_GRID.shape,
        metavar='XxYxZ',
        help='voxels of the label file along x, y, z (default 256x256x32)',
    )
    parser.add_argument(
        '--ground-truth-shape',
        type=_shape,
        metavar='XxYxZ',
        help='voxels of the ground truth, where it is finer or coarser (default: the same)',
    )
    parser.add_argument('--title', help='headline (default: the name of the label file)')
    parser.add_argument(
        '--errors',
        action='store_true',
        help='also show what is right, missed, invented or of a wrong class',
    )
    parser.add_argument(
        '--html', action='store_true', help='pages to turn in a browser instead of pictures'
    )
    parser.add_argument(
        '--video', action='store_true', help='one MP4 of all frames (default OUT/video.mp4)'
    )
    parser.add_argument(
        '--fps', type=int, default=10, help='frames a second of the video (default %(default)s)'
    )


def run(args: argparse.Namespace) -> int:
    """Draw every label file as picture, page or frame of a video; return 0."""
    if args.errors and args.ground_truth is None:
        raise ConfigError('--errors compares with the ground truth: give --ground-truth too')
    if args.html and args.video:
        raise ConfigError('expected one of --html and --video, found both')
    frames = frame_files(args.labels, args.image, args.ground_truth)
    if args.video:
        return _draw_video(args, frames)
    suffix = '.html' if args.html else '.png'
    to_file = args.labels.is_file() and args.out.suffix.lower() == suffix
    for frame in _tracked(frames):
        out = args.out if to_file else args.out / f'{frame.labels.stem}{suffix}'
        _draw(args, frame, out)
        print(out)
    return 0


def _tracked(frames: list[FrameFiles]) -> Iterable[FrameFiles]:
    from tqdm import tqdm

    bar: Iterable[FrameFiles] = tqdm(frames, desc='render', unit='frame', disable=len(frames) < 2)
    return bar


def _draw_video(args: argparse.Namespace, frames: list[FrameFiles]) -> int:
    from cigocc_ros.render.video import write_video

    path = args.out if args.out.suffix else args.out / 'video.mp4'
    pictures = (_sheet(args, frame) for frame in _tracked(frames))
    count = write_video(path, pictures, args.fps)
    print(f'{path}: {count} frames, {path.stat().st_size / 1e6:.1f} MB')
    return 0


def _draw(args: argparse.Namespace, frame: FrameFiles, out: Path) -> None:
    from cigocc_ros.render.files import load_image, save_picture
    from cigocc_ros.render.page import write_page

    if args.html:
        image = None if frame.image is None else load_image(frame.image)
        write_page(out, _title(args, frame), _panels(args, frame), image)
    else:
        save_picture(out, _sheet(args, frame))


def _sheet(args: argparse.Namespace, frame: FrameFiles) -> NDArray[np.uint8]:
    from cigocc_ros.render.files import load_image
    from cigocc_ros.render.sheet import DEFAULT_SIZE, draw_sheet

    return draw_sheet(
        _title(args, frame),
        _panels(args, frame),
        None if frame.image is None else load_image(frame.image),
        view=args.view,
        size=args.size or DEFAULT_SIZE,
    )


def _title(args: argparse.Namespace, frame: FrameFiles) -> str:
    name = f'{frame.labels.parent.name}/{frame.labels.name}'
    return f'{args.title}, {frame.labels.stem}' if args.title else name


def _panels(args: argparse.Namespace, frame: FrameFiles) -> list[VoxelPanel]:
    """Return prediction, ground truth and errors, as far as they are there and asked for."""
    from cigocc_ros.render.error_map import judge
    from cigocc_ros.render.sheet import VoxelPanel

    if frame.truth is None:
        return [_panel('voxels', frame.labels, args.grid_shape)]
    predicted = _panel('prediction', frame.labels, args.grid_shape)
    truth = _panel('ground truth', frame.truth, args.ground_truth_shape or args.grid_shape)
    panels = [predicted, truth]
    if args.errors:
        errors = judge(predicted.labels, truth.labels, predicted.grid)
        panels.append(VoxelPanel.of_errors(errors))
    return panels


def _panel(title: str, path: Path, shape: Shape) -> VoxelPanel:
    from cigocc_ros.render.files import load_labels
    from cigocc_ros.render.sheet import VoxelPanel

    grid = SEMANTIC_KITTI_GRID.with_shape(shape)
    return VoxelPanel(title, load_labels(path, grid), grid)


def _size(text: str) -> tuple[int, int]:
    width, height = _numbers(text, 2, '1280x1000')
    return width, height


def _shape(text: str) -> Shape:
    x, y, z = _numbers(text, 3, '256x256x32')
    return x, y, z


def _numbers(text: str, count: int, example: str) -> list[int]:
    """Parse `AxB...`."""
    parts = text.lower().split('x')
    if len(parts) != count or not all(part.isdigit() and int(part) for part in parts):
        message = f'expected {count} positive numbers like {example}, found {text!r}'
        raise argparse.ArgumentTypeError(message)
    return [int(part) for part in parts]
