"""Everything around the network: decode, preprocess, postprocess, clouds, markers, publish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from rclpy.serialization import serialize_message

from benchmark.speed.measure import Case, interleaved, summary
from benchmark.speed.scene import outputs_of, street
from cigocc_ros.core.frames import CameraFrame, Occupancy
from cigocc_ros.core.grid import Shape
from cigocc_ros.ros.input.images import rgb_from_image
from cigocc_ros.ros.output.clouds import cloud_from_occupancy
from cigocc_ros.ros.output.markers import MarkerWriter
from cigocc_ros.ros.players.kitti_messages import image_from_rgb
from cigocc_ros.runtime.postprocess import occupancy_from_outputs
from cigocc_ros.runtime.preprocess import Preprocessor

MAX_CUBES = 2_000_000
CLOUD, MARKERS = 'cloud, made and serialised', 'markers, made and serialised'
PATH = 'whole path without the network, cloud published'
PATH_MARKERS = 'the same, markers published too'
Publish = Callable[[object], None]


@dataclass(frozen=True)
class Setting:
    """What the steps are timed on: the input of a network and the grid of its answers."""

    name: str
    image_size: tuple[int, int]
    shape: Shape
    occupied: int
    frame: CameraFrame

    @cached_property
    def occupancy(self) -> Occupancy:
        """The answer, as views of the arrays that an engine returns."""
        return street(self.shape, self.occupied)

    def fresh(self) -> Occupancy:
        """Return the answer as if it had just come: nothing about it is known yet."""
        return replace(self.occupancy)


def run_steps(
    setting: Setting, rounds: int, publish: tuple[Publish, Publish]
) -> dict[str, dict[str, Any]]:
    """Return a summary per step, turn by turn; `publish` takes a cloud, and markers."""
    write = MarkerWriter()
    cases: dict[str, Case] = {
        **_input_steps(setting),
        **_postprocess(setting),
        CLOUD: lambda: serialize_message(cloud_from_occupancy(setting.fresh())),
        MARKERS: lambda: write(setting.fresh(), MAX_CUBES),
        **_whole_path(setting, publish),
    }
    return {name: summary(ms) for name, ms in interleaved(cases, rounds).items()}


def _input_steps(setting: Setting) -> dict[str, Case]:
    frame = setting.frame
    rgb, bgr = image_from_rgb(frame.image), image_from_rgb(frame.image)
    bgr.encoding = 'bgr8'
    preprocess = Preprocessor(setting.image_size)
    fit = preprocess.tables(frame.camera, frame.cam_from_velo).fit
    depth_m = np.full(frame.image.shape[:2], 7.0, np.float32)
    return {
        'decode rgb8': lambda: rgb_from_image(rgb),
        'decode bgr8': lambda: rgb_from_image(bgr),
        'preprocess': lambda: preprocess(frame),
        'depth prior to the size of the input': lambda: fit.apply_depth(depth_m),
    }


def _postprocess(setting: Setting) -> dict[str, Case]:
    outputs, grid = outputs_of(setting.occupancy), setting.occupancy.grid
    return {'postprocess': lambda: occupancy_from_outputs(outputs, grid, setting.frame)}


def _whole_path(setting: Setting, publish: tuple[Publish, Publish]) -> dict[str, Case]:
    """Return what a frame costs around the network, from the message in to the message out."""
    publish_cloud, publish_markers = publish
    message, write = image_from_rgb(setting.frame.image), MarkerWriter()
    preprocess = Preprocessor(setting.image_size)
    outputs, grid = outputs_of(setting.occupancy), setting.occupancy.grid

    def path(markers: bool) -> None:
        frame = replace(setting.frame, image=rgb_from_image(message))
        preprocess(frame)
        occupancy = occupancy_from_outputs(outputs, grid, frame)
        publish_cloud(cloud_from_occupancy(occupancy))
        if markers:
            publish_markers(write(occupancy, MAX_CUBES))

    return {PATH: lambda: path(False), PATH_MARKERS: lambda: path(True)}
