"""Print the largest difference to every reference number.

    python benchmark/golden_differences.py GOLDEN_FOLDER

GOLDEN_FOLDER holds voxel_projection.npz, ms_deformable_attention.npz, ssc_losses.npz and
ssc_metrics.npz, computed by independent, published implementations.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.markdown import table
from cigocc_ros.core.projection import project_voxels
from cigocc_ros.evaluation.metrics import SscMetrics
from cigocc_ros.model.deform_attention import deformable_sample
from cigocc_ros.training import losses

Row = tuple[str, float, str]


def projection(folder: Path) -> Iterator[Row]:
    """Compare voxel projection; the source rounds pixels and leaves the P2 translation out."""
    golden = np.load(folder / 'voxel_projection.npz')
    rows = np.loadtxt(io.StringIO(str(golden['calib_txt'])), usecols=range(1, 13))
    cam_from_velo = np.vstack([rows[4].reshape(3, 4), [0, 0, 0, 1]])
    camera = CameraModel(1220, 370, np.hstack([golden['camera_matrix'], np.zeros((3, 1))]))
    pixel_uv, depth_m, _ = project_voxels(SEMANTIC_KITTI_GRID, camera, cam_from_velo)
    picked, seen = tuple(golden['voxel_ijk'].astype(int).T), golden['in_image']
    pixels = np.abs(np.rint(pixel_uv[picked])[seen] - golden['pixel_uv'][seen]).max()
    yield 'voxel projection, rounded pixel', pixels, 'px'
    yield 'voxel projection, depth', np.abs(depth_m[picked] - golden['depth_m']).max(), 'm'


def attention(folder: Path) -> Iterator[Row]:
    """Compare multi-scale deformable attention."""
    golden = np.load(folder / 'ms_deformable_attention.npz')
    value, locations, weights = (
        torch.from_numpy(golden[name])
        for name in ('value', 'sampling_locations', 'attention_weights')
    )
    found = deformable_sample(value, golden['spatial_shapes'].tolist(), locations, weights)
    yield 'deformable attention', np.abs(found.numpy() - golden['output']).max(), ''


def ssc_losses(folder: Path) -> Iterator[Row]:
    """Compare the voxel losses, relative to their values."""
    golden = np.load(folder / 'ssc_losses.npz')
    logits, target = torch.from_numpy(golden['logits']), torch.from_numpy(golden['labels'])
    weights = torch.from_numpy(golden['class_weights'])
    found = {
        'ce': losses.cross_entropy(logits, target, weights),
        'scal_geo': losses.scal_geo(logits, target),
        'scal_sem': losses.scal_sem(logits, target),
    }
    for name, loss in found.items():
        yield f'loss {name}', abs(loss.item() / float(golden[name]) - 1), 'relative'


def ssc_metrics(folder: Path) -> Iterator[Row]:
    """Compare the scene-completion scores with both published evaluators."""
    golden = np.load(folder / 'ssc_metrics.npz')
    metrics = SscMetrics()
    for prediction, target in zip(golden['pred'], golden['target'], strict=True):
        metrics.update(prediction, target)
    scores = metrics.compute()
    for name in ('precision', 'recall', 'iou', 'miou'):
        yield f'metric {name}', abs(getattr(scores, name) - float(golden[name])), ''
    for name in ('iou', 'miou'):
        difference = abs(getattr(scores, name) - float(golden[f'official_{name}']))
        yield f'metric {name}, official evaluator', difference, ''


def main() -> int:
    """Print a Markdown table."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    rows = [
        (name, f'{difference:.2g}', unit)
        for quantity in (projection, attention, ssc_losses, ssc_metrics)
        for name, difference, unit in quantity(folder)
    ]
    print('\n'.join(table(('quantity', 'largest difference', 'unit'), rows)))
    return 0


if __name__ == '__main__':
    sys.exit(main())
