"""The network can learn one scene by heart, and it does so through its geometry."""

import numpy as np
import pytest
import torch

from cigocc_ros.core.labels import class_weights, coarsen_labels
from cigocc_ros.core.projection import pixel_from_velo, project_points, unproject, velo_from_pixel
from cigocc_ros.model.build import build_model
from cigocc_ros.training.losses import cross_entropy, scal_geo, scal_sem

CAR, ROAD, BUILDING = 1, 9, 13
SKY_RGB = (120, 160, 255)
RGB = {ROAD: (90, 90, 90), BUILDING: (200, 120, 60), CAR: (200, 0, 0)}
CAR_ROW = list(RGB).index(CAR)
MAX_STEPS, LEARNING_RATE, GOAL = 250, 1e-2, 0.95


def street(grid, box_y_m: float) -> np.ndarray:
    """Return labels (X, Y, Z): a road, a wall on the left, a box on the road."""
    x, y, z = np.moveaxis(grid.centers_m(), -1, 0)
    labels = np.zeros(grid.shape, np.uint8)
    labels[z < -1.2] = ROAD
    labels[(y > 12) & (z < 3)] = BUILDING
    labels[(np.abs(x - 14) < 3) & (np.abs(y - box_y_m) < 2.5) & (z < 0)] = CAR
    return labels


def look_at(labels: np.ndarray, grid, camera, cam_from_velo) -> tuple[np.ndarray, np.ndarray]:
    """March along every pixel's ray; return rgb (H, W, 3) and depth (H, W), 0 for the sky."""
    v, u = np.mgrid[0 : camera.height, 0 : camera.width]
    pixels = np.stack([u, v], axis=-1).astype(float)
    depth = np.zeros(u.shape, np.float32)
    image = np.full((*u.shape, 3), SKY_RGB, np.uint8)
    for distance in np.arange(2.0, 60.0, 0.1):
        points = unproject(pixels, np.full(u.shape, distance), camera, cam_from_velo)
        index, inside = grid.index_of(points.reshape(-1, 3))
        found = np.where(inside, labels[tuple(index.T)], 0).reshape(u.shape)
        new = (depth == 0) & (found > 0)
        depth[new] = distance
        for label, rgb in RGB.items():
            image[new & (found == label)] = rgb
    return image, depth


def ious(logits: torch.Tensor, target: torch.Tensor) -> list[float]:
    predicted = logits.argmax(1)
    both = [((predicted == k) & (target == k)).sum().item() for k in RGB]
    either = [((predicted == k) | (target == k)).sum().item() for k in RGB]
    return [b / e for b, e in zip(both, either, strict=True)]


@pytest.fixture
def scenes(tiny, kitti_like):
    """Return inputs and targets of two streets that differ in where the box stands.

    Both show the first street's image: only the depth tells them apart.
    """
    camera, cam_from_velo = kitti_like(tiny)
    grid = tiny.output_grid
    labels = np.stack([street(grid, box_y_m) for box_y_m in (3.0, -6.0)])
    views = [look_at(x, grid, camera, cam_from_velo) for x in labels]
    image = torch.from_numpy(views[0][0]).expand(2, -1, -1, -1)
    depth = torch.from_numpy(np.stack([depth for _, depth in views]))
    forth = pixel_from_velo(camera, cam_from_velo)
    back = velo_from_pixel(forth)
    matrices = [torch.from_numpy(m).float().expand(2, -1, -1) for m in (forth, back)]
    coarse = np.stack([coarsen_labels(x, (2, 2, 2)) for x in labels])
    return [image, depth, *matrices], [torch.from_numpy(x).long() for x in (labels, coarse)]


def test_the_scene_is_seen(tiny, kitti_like, scenes):
    """Guard the test's own ray caster: the box's front projects to the box's depth."""
    camera, cam_from_velo = kitti_like(tiny)
    uv, depth, inside = project_points(np.array([11.2, 3.0, -0.8]), camera, cam_from_velo)
    column, row = uv.round().astype(int)
    image, depths = scenes[0][:2]
    assert inside
    assert depths[0, row, column].item() == pytest.approx(depth, abs=0.25)
    assert depths[1, row, column].item() > depth + 1.0
    assert image[0, row, column].tolist() == list(RGB[CAR])


def test_learns_two_scenes_that_only_depth_tells_apart(tiny, scenes):
    inputs, (target, coarse) = scenes
    weights = torch.from_numpy(class_weights())
    model = build_model(tiny)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
    scores = [0.0]
    for _ in range(MAX_STEPS):
        output = model(*inputs)
        scores = ious(output.logits, target)
        if min(scores) > GOAL:
            break
        loss = cross_entropy(output.logits, target, weights) + scal_geo(output.logits, target)
        loss = loss + scal_sem(output.logits, target)
        loss = loss + cross_entropy(output.stage1_logits, coarse, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert min(scores) > GOAL, scores
    image, depth, *matrices = inputs
    with torch.no_grad():
        swapped = model(image, depth.flip(0), *matrices)
    assert min(ious(swapped.logits, target.flip(0))) > 0.9
    assert ious(swapped.logits, target)[CAR_ROW] < 0.1
