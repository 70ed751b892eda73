"""`cigocc render`: pictures of label files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID, Shape

if TYPE_CHECKING:
    from cigocc_ros.render.sheet import VoxelPanel

HELP = 'draw voxels beside their camera image'
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


def run(args: argparse.Namespace) -> int:
    """Draw every label file; return 0."""
    from tqdm import tqdm

    labels, images = _inputs(args.labels, args.image)
    to_file = args.labels.is_file() and args.out.suffix.lower() == '.png'
    for path in tqdm(labels, desc='render', unit='picture', disable=len(labels) < 2):
        out = args.out if to_file else args.out / f'{path.stem}.png'
        _draw(args, path, _beside(images, path.stem, '.png'), out)
        tqdm.write(str(out))
    return 0


def _draw(args: argparse.Namespace, labels: Path, image: Path | None, out: Path) -> None:
    from cigocc_ros.render.files import load_image, save_picture
    from cigocc_ros.render.sheet import DEFAULT_SIZE, draw_sheet

    truth = _beside(args.ground_truth, labels.stem, '.label')
    panels = [_panel('voxels' if truth is None else 'prediction', labels, args.grid_shape)]
    if truth is not None:
        shape = args.ground_truth_shape or args.grid_shape
        panels.append(_panel('ground truth', truth, shape))
    sheet = draw_sheet(
        args.title or f'{labels.parent.name}/{labels.name}',
        panels,
        None if image is None else load_image(image),
        view=args.view,
        size=args.size or DEFAULT_SIZE,
    )
    save_picture(out, sheet)


def _panel(title: str, path: Path, shape: Shape) -> VoxelPanel:
    from cigocc_ros.render.files import load_labels
    from cigocc_ros.render.sheet import VoxelPanel

    grid = SEMANTIC_KITTI_GRID.with_shape(shape)
    return VoxelPanel(title, load_labels(path, grid), grid)


def _inputs(labels: Path, image: Path | None) -> tuple[list[Path], Path | None]:
    """Return the label files and the image file or folder that goes with them."""
    if labels.is_file():
        return [labels], image
    if not labels.is_dir():
        raise DataFileError(f'no label file or folder {labels}')
    folder = labels / 'voxels' if (labels / 'voxels').is_dir() else labels
    if folder != labels and image is None and (labels / 'image_2').is_dir():
        image = labels / 'image_2'
    found = sorted(folder.glob('*.label'))
    if not found:
        raise DataFileError(f'no *.label file in {folder}')
    return found, image


def _beside(place: Path | None, stem: str, suffix: str) -> Path | None:
    """Return the file of a frame: `place` itself, or the one of that name in the folder."""
    if place is None or not place.is_dir():
        return place
    return place / f'{stem}{suffix}'


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
