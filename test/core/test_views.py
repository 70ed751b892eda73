"""How the camera sees a voxel: by the definition, and the same in the graph as outside it."""

import numpy as np
import pytest
import torch

from cigocc_ros.core.calibration import Scaling
from cigocc_ros.core.config import load_model_config
from cigocc_ros.core.views import MEASURED, OUTSIDE, SEEN, views_of_voxels
from cigocc_ros.model.branches import pool_prior
from cigocc_ros.model.geometry import VoxelProjector
from cigocc_ros.model.views import scale_and_shift, views
from cigocc_ros.runtime.random_frames import random_inputs

CONFIG = load_model_config('tiny')


def inputs_of(seed):
    """Return a camera, and a prior whose cells are known in part, not at all, and wholly."""
    arrays = random_inputs(CONFIG.image_size, 1, seed=seed)[0]
    rng = np.random.default_rng(seed)
    known = rng.random(arrays['depth_prior'].shape) < rng.random(arrays['depth_prior'].shape[1:])
    prior = np.where(known, 5.0, 0.0).astype(np.float32)
    prior[:, : prior.shape[1] // 3] = 0
    return arrays['pixel_from_velo'], prior


@pytest.mark.parametrize('seed', range(4))
def test_the_graph_tells_the_views_of_the_definition(seed):
    matrix, prior = inputs_of(seed)
    geometry = VoxelProjector(CONFIG.query_grid, CONFIG.image_size)(torch.tensor(matrix))
    _, measured = pool_prior(torch.from_numpy(prior))
    found = views(geometry, measured)[0].numpy()
    expected = views_of_voxels(CONFIG.query_grid, matrix[0], prior[0])
    assert (found != expected).mean() < 0.002  # float32 at the edges of cells
    assert set(np.unique(expected)) == {OUTSIDE, SEEN, MEASURED}


def test_each_voxel_is_looked_up_at_its_own_pixel():
    """A loop over voxels, each by hand, knows nothing of arrays."""
    matrix, prior = inputs_of(5)
    found = views_of_voxels(CONFIG.query_grid, matrix[0], prior[0])
    height, width = CONFIG.image_size
    centers = CONFIG.query_grid.centers_m()
    for index in np.ndindex(*CONFIG.query_grid.shape):
        x, y, depth = matrix[0].astype(float) @ np.append(centers[index], 1.0)
        if depth <= 1e-5 or not (0 < x / depth < width and 0 < y / depth < height):
            assert found[index] == OUTSIDE
            continue
        column, row = int((x / depth + 0.5) // 4), int((y / depth + 0.5) // 4)
        row, column = min(row, height // 4 - 1), min(column, width // 4 - 1)
        cell = prior[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert found[index] == (MEASURED if (cell > 0).sum() >= 8 else SEEN)


def test_the_second_of_a_batch_has_a_prior_of_its_own():
    (matrix, prior), projector = inputs_of(6), VoxelProjector(CONFIG.query_grid, CONFIG.image_size)
    both = np.concatenate((np.zeros_like(prior), prior))
    geometry = projector(torch.from_numpy(np.concatenate((matrix, matrix))))
    first, second = views(geometry, pool_prior(torch.from_numpy(both))[1])
    assert first.max() == SEEN and second.max() == MEASURED
    assert torch.equal(first == OUTSIDE, second == OUTSIDE)


def test_scale_and_shift_are_those_of_the_view():
    scalings = (Scaling(0.5, -2.0), Scaling(1.5, 0.25), Scaling(2.0, 3.0))
    seen = torch.randint(3, (2, 4, 5, 6))
    found = scale_and_shift(seen, scalings)
    assert found.shape == (2, 2, 4, 5, 6)
    for index, one in enumerate(scalings):
        assert set(found[:, 0][seen == index].tolist()) == {one.scale}
        assert set(found[:, 1][seen == index].tolist()) == {one.shift}


def test_a_voxel_behind_the_camera_is_outside():
    """Its pixel may lie in the image: the projection of a point behind is mirrored."""
    matrix, prior = inputs_of(7)
    seen = views_of_voxels(CONFIG.query_grid, matrix[0], prior[0]) != OUTSIDE
    mirrored = views_of_voxels(CONFIG.query_grid, -matrix[0], prior[0]) != OUTSIDE
    assert seen.any() and not (seen & mirrored).any()
