"""A grid is saved whole or not at all."""

import resource

import numpy as np
import pytest

pytest.importorskip('rclpy')

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.ros.output.grids import save_grid

LIMIT_BYTES = 1_000_000  # room for the JSON, not for the labels


@pytest.fixture
def occupancy() -> Occupancy:
    labels = np.zeros(SEMANTIC_KITTI_GRID.shape, np.uint8)
    return Occupancy(labels, labels.copy(), SEMANTIC_KITTI_GRID, 5, 'velo')


def test_a_full_disk_leaves_nothing_and_room_mends_it(occupancy, full_disk, tmp_path):
    """A real file system without room: first for neither file, then for the JSON alone."""
    for _ in ('full', 'almost'):
        with pytest.raises(DataFileError, match='No space left on device'):
            save_grid(str(full_disk), occupancy, 'mid')
        assert {path.name for path in full_disk.iterdir()} <= {'other'}
        (full_disk / 'other').unlink(missing_ok=True)
    path = save_grid(str(tmp_path), occupancy, 'mid')
    assert path.stat().st_size == 2 * occupancy.labels.size


def test_a_file_that_may_not_grow_leaves_nothing(occupancy, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, hard))
    try:
        with pytest.raises(DataFileError, match=r'5\.label: cannot be written'):
            save_grid(str(tmp_path), occupancy, 'mid')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    save_grid(str(tmp_path), occupancy, 'mid')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['5.json', '5.label']
