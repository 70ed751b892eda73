"""Everything around the network: decode, preprocess, postprocess, clouds, markers, publish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from rclpy.serialization import serialize_message

from benchmark.speed import before, usual
from benchmark.speed.measure import Case, interleaved, summary
from benchmark.speed.scene import logits_of, street
from cigocc_ros.core.frames import CameraFrame, Occupancy
from cigocc_ros.core.grid import Shape
from cigocc_ros.core.manifest import LABELS, OCCUPIED_PROBABILITY
from cigocc_ros.ros.input.images import rgb_from_image
from cigocc_ros.ros.output.cdr import marker_array_bytes
from cigocc_ros.ros.output.clouds import cloud_from_occupancy, cloud_from_points, header
from cigocc_ros.ros.output.markers import MarkerWriter, surface_voxels
from cigocc_ros.ros.players.kitti_messages import image_from_rgb
from cigocc_ros.runtime.postprocess import occupancy_from_outputs
from cigocc_ros.runtime.preprocess import Preprocessor

OURS, BEFORE, USUAL = 'ours', 'before', 'usual'
MAX_CUBES = 2_000_000
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

    def shown(self) -> Occupancy:
        """Return the voxels that markers show: those with a free neighbour."""
        kept = surface_voxels(self.occupancy.occupied)
        return replace(self.occupancy, labels=np.where(kept, self.occupancy.labels, 0))


@dataclass(frozen=True)
class Step:
    """Ways of doing the same by name: OURS, and what it is compared with."""

    name: str
    cases: dict[str, Case]


def run_steps(
    setting: Setting, rounds: int, publish: tuple[Publish, Publish]
) -> dict[str, dict[str, Any]]:
    """Return a summary per step and way; `publish` takes a cloud, and markers."""
    steps = [
        *_input_steps(setting),
        _postprocess(setting),
        _cloud(setting),
        _markers(setting),
        *_whole_path(setting, publish),
    ]
    return {
        step.name: {name: summary(ms) for name, ms in interleaved(step.cases, rounds).items()}
        for step in steps
    }


def _input_steps(setting: Setting) -> list[Step]:
    frame, grid = setting.frame, setting.occupancy.grid
    rgb, bgr = image_from_rgb(frame.image), image_from_rgb(frame.image)
    bgr.encoding = 'bgr8'
    preprocess = Preprocessor(setting.image_size)
    fit = preprocess.tables(frame.camera, frame.cam_from_velo).fit
    depth_m = np.full(frame.image.shape[:2], 7.0, np.float32)
    return [
        Step(
            'decode rgb8',
            {
                OURS: lambda: rgb_from_image(rgb),
                BEFORE: lambda: before.rgb_from_image(rgb, (0, 1, 2)),
            },
        ),
        Step(
            'decode bgr8',
            {
                OURS: lambda: rgb_from_image(bgr),
                BEFORE: lambda: before.rgb_from_image(bgr, (2, 1, 0)),
                USUAL: lambda: usual.bgr_pixels(bgr),
            },
        ),
        Step(
            'preprocess',
            {
                OURS: lambda: preprocess(frame),
                USUAL: lambda: usual.preprocess(frame, setting.image_size, grid),
            },
        ),
        Step(
            'depth prior to the size of the input',
            {
                OURS: lambda: fit.apply_depth(depth_m),
                BEFORE: lambda: before.apply_depth(fit, depth_m),
            },
        ),
    ]


def _outputs(occupancy: Occupancy) -> dict[str, Any]:
    return {LABELS: occupancy.labels[None], OCCUPIED_PROBABILITY: occupancy.probability[None]}


def _postprocess(setting: Setting) -> Step:
    frame, outputs = setting.frame, _outputs(setting.occupancy)
    cases: dict[str, Case] = {
        OURS: lambda: occupancy_from_outputs(outputs, setting.occupancy.grid, frame)
    }
    if setting.occupancy.grid.num_voxels < 1_000_000:  # else 168 MB of scores, a second a turn
        logits = logits_of(setting.occupancy)
        cases[USUAL] = lambda: usual.labels_of(logits)
    return Step('postprocess', cases)


def _cloud(setting: Setting) -> Step:
    head = header(1_500_000_000, 'velo_link')

    def of_records() -> None:
        cloud = usual.create_cloud(head, usual.FIELDS, usual.records(setting.fresh()))
        serialize_message(cloud)

    def of_tuples() -> None:
        points = usual.records(setting.fresh()).tolist()
        serialize_message(usual.create_cloud(head, usual.FIELDS, points))

    return Step(
        'cloud, made and serialised',
        {
            OURS: lambda: serialize_message(cloud_from_occupancy(setting.fresh())),
            BEFORE: lambda: serialize_message(
                cloud_from_points(before.occupancy_points(setting.fresh()), head)
            ),
            'usual, records': of_records,
            USUAL: of_tuples,
        },
    )


def _markers(setting: Setting) -> Step:
    head, write, shown = header(1_500_000_000, 'velo_link'), MarkerWriter(), setting.shown()

    def before_bytes() -> bytes:
        return marker_array_bytes(1_500_000_000, 'velo_link', before.cube_lists(setting.fresh()))

    return Step(
        'markers, made and serialised',
        {
            OURS: lambda: write(setting.fresh(), MAX_CUBES),
            BEFORE: before_bytes,
            USUAL: lambda: serialize_message(usual.marker_objects(head, shown)),
        },
    )


def _whole_path(setting: Setting, publish: tuple[Publish, Publish]) -> list[Step]:
    """Return what a frame costs around the network, from the message in to the message out."""
    publish_cloud, publish_markers = publish
    message, write = image_from_rgb(setting.frame.image), MarkerWriter()
    preprocess = Preprocessor(setting.image_size)
    outputs, grid = _outputs(setting.occupancy), setting.occupancy.grid

    def ours(markers: bool) -> None:
        frame = replace(setting.frame, image=rgb_from_image(message))
        preprocess(frame)
        occupancy = occupancy_from_outputs(outputs, grid, frame)
        publish_cloud(cloud_from_occupancy(occupancy))
        if markers:
            publish_markers(write(occupancy, MAX_CUBES))

    head, shown = header(1_500_000_000, 'velo_link'), setting.shown()

    def usually(markers: bool) -> None:
        image = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        usual.preprocess(replace(setting.frame, image=image), setting.image_size, grid)
        points = usual.records(setting.fresh()).tolist()
        publish_cloud(usual.create_cloud(head, usual.FIELDS, points))
        if markers:
            publish_markers(usual.marker_objects(head, shown))

    return [
        Step(PATH, {OURS: lambda: ours(False), USUAL: lambda: usually(False)}),
        Step(PATH_MARKERS, {OURS: lambda: ours(True), USUAL: lambda: usually(True)}),
    ]
