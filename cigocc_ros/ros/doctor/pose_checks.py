"""Judge where the camera stands in the grid frame."""

from __future__ import annotations

import numpy as np

from cigocc_ros.core.findings import Finding, fail, ok, warn
from cigocc_ros.ros.doctor.observation import Observation

FORWARD_COSINE = 0.5
"""Of the angle between optical axis and x of the grid: beyond 60 degrees little of it is seen."""
UP_COSINE = 0.5
HEIGHT_M = (-1.5, 1.0)
"""Of cameras in a frame 1.73 m above the road. With a frame on the road, cars have them above."""


def check_pose(seen: Observation) -> Finding:
    """Check that the pose is known, that the camera looks into the grid and stands upright."""
    frame = seen.images.last.header.frame_id if seen.images.last is not None else ''
    check = f'pose of {frame!r} in {seen.output_frame!r}'
    if seen.pose.cam_from_velo is None:
        if not frame and seen.pose.source == 'tf':
            found, mend = 'no image, so its frame is unknown', 'mend the image topic first'
        else:
            found = seen.pose.problem
            mend = (
                f'ros2 run tf2_ros static_transform_publisher --frame-id {seen.output_frame} '
                f'--child-frame-id {frame} ..., or set extrinsics.* (docs/camera.md)'
            )
        return fail(check, found, f'a transform {seen.output_frame} <- {frame}', mend)
    # as people read it; + 0.0 turns -0.0 into 0.0
    velo_from_cam = np.round(np.linalg.inv(seen.pose.cam_from_velo), 2) + 0.0
    x, y, z = velo_from_cam[:3, 3]
    axis, down = velo_from_cam[:3, 2], velo_from_cam[:3, 1]
    found = (
        f'from {seen.pose.source}: at ({x:.2f}, {y:.2f}, {z:.2f}) m, looks along '
        f'({axis[0]:.2f}, {axis[1]:.2f}, {axis[2]:.2f})'
    )
    mend = 'use the optical frame (x right, y down, z forward) in tf and in the header of images'
    if axis[0] < FORWARD_COSINE:
        return warn(check, found, 'an optical axis along x of the grid, (1, 0, 0)', mend)
    if -down[2] < UP_COSINE:
        return warn(check, f'{found}, tilted to the side', 'y of the camera downwards', mend)
    if not HEIGHT_M[0] <= z <= HEIGHT_M[1]:
        expected = f'z between {HEIGHT_M[0]} and {HEIGHT_M[1]} m'
        mend = f'docs/camera.md: {seen.output_frame} is about 1.7 m above the road, not on it'
        return warn(check, found, expected, mend)
    return ok(check, found)
