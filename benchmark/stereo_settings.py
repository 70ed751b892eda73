"""How near stereo matching comes to the lidar, by its width and offset.

    python -m benchmark.stereo_settings DATASET [--sequences 00 01]

For each range: the fraction of the lidar's points within 0.4 m, and the median disparity error in
pixels of the full-size image, negative where the matcher's disparity is too small.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.camera import stereo_pair
from cigocc_ros.core.markdown import table
from cigocc_ros.core.projection import project_points
from cigocc_ros.data.kitti_layout import find_sequences
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.stereo_config import StereoConfig
from cigocc_ros.data.stereo_depth import stereo_depth_m

RANGES_M = ((0, 10), (10, 20), (20, 30), (30, 40), (40, 60))
NEAR_M = 0.4
FULL_PX = 1280
SETTINGS = {
    'half size': StereoConfig(),
    'full size': StereoConfig(max_width_px=FULL_PX),
    'full size, +0.35 px': StereoConfig(max_width_px=FULL_PX, disparity_offset_px=0.35),
}
Errors = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def errors(sequence: KittiSequence, frame_id: str, config: StereoConfig) -> Errors:
    """Return of the lidar's points that were matched: metres, error in metres and in pixels."""
    camera = sequence.camera_left
    pair = stereo_pair(camera, sequence.camera_right)
    images = sequence.image(frame_id), sequence.image(frame_id, 'right')
    depth = stereo_depth_m(*images, *pair, config=config)
    points = sequence.velodyne(frame_id)[:, :3]
    pixel_uv, truth, seen = project_points(points, camera, sequence.cam_from_velo)
    column, row = np.rint(pixel_uv[seen]).astype(int).T
    column, row = np.clip(column, 0, camera.width - 1), np.clip(row, 0, camera.height - 1)
    found, truth = depth[row, column].astype(np.float64), truth[seen]
    known = found > 0
    found, truth = found[known], truth[known]
    return truth, found - truth, pair.focal_baseline / found - pair.focal_baseline / truth


def main() -> None:
    """Print one row for each setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('dataset', type=Path)
    parser.add_argument('--sequences', nargs='+')
    parser.add_argument('--every', type=int, default=5, help='every how many frames')
    args = parser.parse_args()
    parts: dict[str, list[Errors]] = defaultdict(list)
    folders = [
        path for path in find_sequences(args.dataset) if path.name in (args.sequences or path.name)
    ]
    for folder in folders:
        sequence = KittiSequence(folder)
        for frame_id in sequence.frame_ids[:: args.every]:
            for name, config in SETTINGS.items():
                parts[name].append(errors(sequence, frame_id, config))
    heads = ('setting', *(f'{low} to {high} m' for low, high in RANGES_M))
    rows = [(name, *_cells(found)) for name, found in parts.items()]
    print('\n'.join(table(heads, rows)))


def _cells(found: list[Errors]) -> list[str]:
    truth, metres, pixels = (np.concatenate(part) for part in zip(*found, strict=True))
    cells = []
    for low, high in RANGES_M:
        inside = (truth >= low) & (truth < high)
        near = (np.abs(metres[inside]) < NEAR_M).mean()
        cells.append(f'{100 * near:.0f} %, {np.median(pixels[inside]):+.2f} px')
    return cells


if __name__ == '__main__':
    main()
