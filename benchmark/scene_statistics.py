"""Draw generated streets and compare their lidar scans with real ones, class by class.

    cigocc synthesize streets --sequences 12 --frames 2 --step-m 6 --seed 9000
    python benchmark/scene_statistics.py streets --real dataset --picture docs/scenes.png \
        --page docs/scenes.md

Both data sets hold sequences/SS with velodyne, labels and calib.txt; the streets also image_2 and
voxels. The page needs the marks of cigocc_ros/core/markdown.py. Only the streets are drawn.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmark.machine import MEASURED
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import CLASS_NAMES, NUM_CLASSES, train_from_raw
from cigocc_ros.core.markdown import table, write_into
from cigocc_ros.data.kitti_layout import find_sequences
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.render.files import save_picture
from cigocc_ros.render.picture import draw_voxels

COLUMNS, TILE_PX, GAP_PX = 4, 300, 6
IMAGE_ROWS_PX, VOXEL_ROWS_PX = 92, 150
Picture = NDArray[np.uint8]


def class_shares(sequences: list[KittiSequence]) -> NDArray[np.float64]:
    """Return the share of each class (20,) among labelled points in the grid, by sequence mean."""
    shares = np.zeros((len(sequences), NUM_CLASSES))
    for row, sequence in zip(shares, sequences, strict=True):
        for frame in range(len(sequence)):
            labels = train_from_raw(sequence.point_labels(frame))
            _, inside = SEMANTIC_KITTI_GRID.index_of(sequence.velodyne(frame)[:, :3])
            row += np.bincount(labels[inside & (labels < NUM_CLASSES)], minlength=NUM_CLASSES)
        row[0] = 0
        row /= row.sum()
    mean: NDArray[np.float64] = shares.mean(axis=0)
    return mean


def statistics(streets: list[KittiSequence], real: list[KittiSequence]) -> str:
    """Return the Markdown table of both."""
    ours, theirs = class_shares(streets), class_shares(real)
    order = [c for c in np.argsort(-theirs) if c > 0]
    rows = [[CLASS_NAMES[c], f'{100 * theirs[c]:.2f} %', f'{100 * ours[c]:.2f} %'] for c in order]
    frames = [sum(len(s) for s in group) for group in (real, streets)]
    heads = [
        'class',
        f'real, {len(real)} sequences, {frames[0]} scans',
        f'generated, {len(streets)} streets, {frames[1]} scans',
    ]
    return '\n'.join(table(heads, rows))


def tile(sequence: KittiSequence) -> Picture:
    """Return the first camera image above the voxels of its frame."""
    from PIL import Image

    image = Image.fromarray(sequence.image(0)).resize((TILE_PX, IMAGE_ROWS_PX))
    labels = sequence.voxel_labels(0)
    voxels = draw_voxels(labels, SEMANTIC_KITTI_GRID, (TILE_PX, VOXEL_ROWS_PX))
    return np.concatenate([np.asarray(image), voxels])


def montage(tiles: list[Picture]) -> Picture:
    """Return the tiles in rows of COLUMNS on white."""
    rows = -(-len(tiles) // COLUMNS)
    height, width = tiles[0].shape[0] + GAP_PX, tiles[0].shape[1] + GAP_PX
    sheet = np.full((rows * height - GAP_PX, COLUMNS * width - GAP_PX, 3), 255, np.uint8)
    for i, picture in enumerate(tiles):
        top, left = i // COLUMNS * height, i % COLUMNS * width
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


def main() -> int:
    """Write the picture and the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('streets', type=Path, help='generated data set')
    parser.add_argument('--real', type=Path, required=True, help='real data set')
    parser.add_argument('--picture', type=Path, help='PNG file to write')
    parser.add_argument('--page', type=Path, help='Markdown page to write the table into')
    args = parser.parse_args()
    streets = [KittiSequence(path) for path in find_sequences(args.streets)]
    real = [KittiSequence(path) for path in find_sequences(args.real)]
    text = statistics(streets, real)
    print(text)
    if args.page:
        write_into(args.page, {MEASURED: text})
    if args.picture:
        save_picture(args.picture, montage([tile(sequence) for sequence in streets]))
    return 0


if __name__ == '__main__':
    sys.exit(main())
