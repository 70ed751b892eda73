"""Compare the voxeliser with official SemanticKITTI volumes, frame by frame.

    python benchmark/voxelizer_agreement.py DATASET [--reference DIR] [--scans 70] [--every 5]

DATASET holds sequences/SS with velodyne, labels, poses.txt and the official voxels/*.bin,
*.occluded and *.invalid. --reference names a folder of SS_FFFFFF.npz with `label`, a volume of
train ids (255 unknown) made in another way. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.labels import EMPTY, IGNORE, train_from_raw
from cigocc_ros.data.kitti_layout import VOXELS_EVERY, find_sequences
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.voxelizer import (
    LATER_SCANS,
    VoxelVolumes,
    frames_to_voxelize,
    read_scans,
    voxelize,
)

COLUMNS = {
    'bin_differs': '`.bin` voxels that differ',
    'occluded_agrees': '`.occluded` agrees',
    'occluded_confirmed': 'our occluded, officially too',
    'invalid_agrees': '`.invalid` agrees',
    'hit_known': 'our occupied, officially known',
    'free_confirmed': 'officially seen empty, ours too',
    'empty_confirmed': 'ours seen empty, officially too',
    'label_agrees': 'reference label agrees',
}


def agreement(
    volumes: VoxelVolumes,
    sequence: KittiSequence,
    frame_id: str,
    reference: NDArray[np.uint8] | None = None,
) -> dict[str, float]:
    """Return shares in 0..1 and, for `.bin`, a count; the keys are those of COLUMNS.

    Lines of sight that fewer scans already block stay blocked with more, so `occluded_confirmed`,
    `hit_known` and `free_confirmed` are near 1 however few scans there are; the others need all.
    `reference` (X, Y, Z) are train ids; only voxels with a class in both are compared.
    """
    scanned, occluded, invalid = (
        sequence.voxel_bits(frame_id, kind) for kind in ('bin', 'occluded', 'invalid')
    )
    labels = train_from_raw(volumes.labels)
    known = volumes.occluded & ~volumes.invalid & (volumes.labels > 0)
    ours_free = ~volumes.occluded & (volumes.labels == 0)
    result = {
        'bin_differs': float((volumes.scanned != scanned).sum()),
        'occluded_agrees': float((volumes.occluded == occluded).mean()),
        'occluded_confirmed': float(occluded[volumes.occluded].mean()),
        'invalid_agrees': float((volumes.invalid == invalid).mean()),
        'hit_known': float((occluded & ~invalid)[known].mean()),
        'free_confirmed': float(ours_free[~occluded].mean()),
        'empty_confirmed': float((~occluded)[ours_free].mean()),
    }
    if reference is not None:
        both = known & (reference != EMPTY) & (reference != IGNORE) & (labels != IGNORE)
        result['label_agrees'] = float((labels == reference)[both].mean())
    return result


def main() -> None:
    """Print one row a frame and their mean."""
    args = _arguments()
    _print(['frame', 'scans', *COLUMNS.values(), 's'])
    _print(['---'] * (len(COLUMNS) + 3))
    rows = []
    for path in find_sequences(args.dataset):
        sequence = KittiSequence(path)
        for frame_id in frames_to_voxelize(sequence, args.every, args.scans):
            if not sequence.has_voxel_bits(frame_id, 'bin'):
                continue
            start = time.process_time()
            scans = read_scans(sequence, frame_id, args.scans)
            volumes = voxelize(scans)
            seconds = time.process_time() - start
            reference = _reference(args.reference, f'{sequence.name}_{frame_id}.npz')
            row = agreement(volumes, sequence, frame_id, reference)
            rows.append(row)
            cells = [_cell(name, row) for name in COLUMNS]
            _print([f'{sequence.name}/{frame_id}', f'{len(scans)}', *cells, f'{seconds:.1f}'])
    if not rows:
        sys.exit(f'no frame under {args.dataset} has official volumes to compare with')
    names = rows[0]
    mean = {name: float(np.mean([row[name] for row in rows])) for name in names}
    _print(['mean', '', *(_cell(name, mean) for name in COLUMNS), ''])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Compare the voxeliser with official volumes.')
    parser.add_argument('dataset', type=Path, help='folder above sequences/')
    parser.add_argument('--reference', type=Path, help='folder of SS_FFFFFF.npz with `label`')
    parser.add_argument('--every', type=int, default=VOXELS_EVERY)
    parser.add_argument('--scans', type=int, default=LATER_SCANS)
    return parser.parse_args()


def _reference(folder: Path | None, name: str) -> NDArray[np.uint8] | None:
    if folder is None or not (folder / name).is_file():
        return None
    with np.load(folder / name) as content:
        labels: NDArray[np.uint8] = content['label']
    return labels


def _cell(name: str, row: dict[str, float]) -> str:
    if name not in row:
        return ''
    return f'{row[name]:.2g}' if name == 'bin_differs' else f'{100 * row[name]:.2f} %'


def _print(cells: list[str]) -> None:
    sys.stdout.write(f'| {" | ".join(cells)} |\n')
    sys.stdout.flush()


if __name__ == '__main__':
    main()
