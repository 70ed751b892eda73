"""Where the camera stands in the grid frame: from tf2, looked up once, or from parameters.

A missing transform is never replaced by identity: there is no output until it is known.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rclpy.node import Node
from rclpy.time import Time

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.projection import check_transform
from cigocc_ros.core.rotation import rigid_transform
from cigocc_ros.core.text import cut, excerpt
from cigocc_ros.ros.dropped import DroppedFrame
from cigocc_ros.ros.occ_parameters import UNSET_ROTATION, OccParameters
from cigocc_ros.ros.stamps import steady_clock

logger = logging.getLogger(__name__)
Transform = NDArray[np.float64]
Lookup = Callable[[str, str], Any]
RETRY_S = 0.5
FORGET_S = 5.0
"""One message with an odd frame_id must not be an error for ever."""
KEPT_MISSING = 8
MOVED_M, TURNED_DEG = 0.005, 0.1


class Extrinsics(Protocol):
    """The pose of the cameras."""

    @property
    def problem(self) -> str:
        """What is missing, for diagnostics; empty where nothing is."""
        ...

    @property
    def warning(self) -> str:
        """What changed since the numbers were taken; empty where nothing did."""
        ...

    @property
    def source(self) -> str:
        """Where the numbers come from."""
        ...

    def cam_from_velo(self, frame_id: str) -> Transform:
        """Return the (4, 4) transform into a camera; raise DroppedFrame while it is unknown."""
        ...


class ParameterExtrinsics:
    """One camera pose given by parameters; it holds for whatever frame the images carry."""

    source = 'parameters'
    problem = warning = ''

    def __init__(self, translation: ArrayLike, rotation_xyzw: ArrayLike) -> None:
        """Take the pose of the optical frame in the grid frame; raise CalibrationError."""
        pose = rigid_transform(translation, rotation_xyzw)
        self._cam_from_velo: Transform = np.linalg.inv(pose).astype(np.float64)

    def cam_from_velo(self, frame_id: str) -> Transform:
        """Return the transform, (4, 4)."""
        return self._cam_from_velo


class TfExtrinsics:
    """Camera poses from tf, asked for without waiting and kept for ever once known."""

    source = 'tf'

    def __init__(self, output_frame: str, lookup: Lookup) -> None:
        """Take `lookup(target, source)`, which returns a TransformStamped or raises."""
        self._output_frame = output_frame
        self._lookup = lookup
        self._known: dict[str, Transform] = {}
        self._missing: dict[str, str] = {}
        self._moved: dict[str, str] = {}
        self._asked_s: dict[str, float] = {}

    @property
    def problem(self) -> str:
        """What tf says about the frames that were asked for and are not known."""
        return '; '.join(
            f'no transform {self._output_frame} <- {excerpt(frame)}: {reason}'
            for frame, reason in sorted(dict(self._missing).items())
        )

    @property
    def warning(self) -> str:
        """Which cameras moved in tf; the poses in use stay those of the first answer."""
        return '; '.join(text for _, text in sorted(dict(self._moved).items()))

    def cam_from_velo(self, frame_id: str) -> Transform:
        """Return the cached transform, (4, 4); the first request asks tf, the next ones wait."""
        if frame_id not in self._known and frame_id not in self._missing:
            self._ask(frame_id)
        if frame_id in self._known:
            return self._known[frame_id]
        self._asked_s[frame_id] = time.monotonic()
        raise DroppedFrame('no_extrinsics', self.problem)

    def retry(self) -> None:
        """Ask again for what is missing, and whether the rest stayed; called by a timer."""
        known = list(self._known)
        for frame_id in list(self._missing):
            if time.monotonic() - self._asked_s.get(frame_id, 0.0) > FORGET_S:
                self._missing.pop(frame_id, None)
            else:
                self._ask(frame_id)
        for frame_id in known:
            self._compare(frame_id)

    def _compare(self, frame_id: str) -> None:
        try:
            shift_m, turn_deg = _difference(self._known[frame_id], self._found(frame_id))
        except Exception:  # tf forgot it, or speaks nonsense now: what is known stays
            return
        if shift_m <= MOVED_M and turn_deg <= TURNED_DEG:
            self._moved.pop(frame_id, None)
            return
        if frame_id not in self._moved:
            logger.warning('extrinsics of %s changed in tf: restart to take them', frame_id)
        self._moved[frame_id] = (
            f'{frame_id!r} moved in tf by {shift_m:.2f} m and {turn_deg:.1f} degrees since it was '
            'looked up: restart the node to take the new pose'
        )

    def _found(self, frame_id: str) -> Transform:
        """Return what tf says now; raise what tf2 raises, or CalibrationError."""
        stamped = self._lookup(frame_id, self._output_frame)
        found = stamped.transform.translation, stamped.transform.rotation
        return check_transform(rigid_transform(*(_numbers(part) for part in found)), 'it')

    def _ask(self, frame_id: str) -> None:
        if not frame_id:
            self._missing[frame_id] = 'the image has no frame_id'
            return
        try:
            self._known[frame_id] = self._found(frame_id)
        except Exception as error:  # tf2's exceptions share no base but Exception
            self._missing[frame_id] = cut(str(error))
            self._forget_oldest()
            return
        self._missing.pop(frame_id, None)
        logger.info('extrinsics %s <- %s found', frame_id, self._output_frame)

    def _forget_oldest(self) -> None:
        """Keep a bounded number: whoever may publish images chooses their frame_id."""
        while len(self._missing) > KEPT_MISSING:
            self._missing.pop(next(iter(self._missing)), None)


def _difference(a: Transform, b: Transform) -> tuple[float, float]:
    """Return by how many metres and degrees two poses of the grid in the camera differ."""
    turn = a[:3, :3].T @ b[:3, :3]
    origin_a, origin_b = (-pose[:3, :3].T @ pose[:3, 3] for pose in (a, b))
    cosine = np.clip((np.trace(turn) - 1) / 2, -1, 1)
    return float(np.linalg.norm(origin_a - origin_b)), float(np.degrees(np.arccos(cosine)))


def _numbers(part: Any) -> list[float]:
    names = 'xyzw' if hasattr(part, 'w') else 'xyz'
    return [getattr(part, name) for name in names]


class NoExtrinsics:
    """Neither parameters nor tf: every frame is dropped, and diagnostics say why."""

    source = 'none'
    warning = ''
    problem = (
        'tf2_ros is not installed and the parameters extrinsics.translation and '
        'extrinsics.rotation are not set: set them, or install ros-<distro>-tf2-ros-py'
    )

    def cam_from_velo(self, frame_id: str) -> Transform:
        """Raise DroppedFrame."""
        raise DroppedFrame('no_extrinsics', self.problem)


def create_extrinsics(node: Node, parameters: OccParameters) -> Extrinsics:
    """Return the source that the parameters ask for; raise ConfigError, CalibrationError."""
    given = parameters.extrinsics_rotation != UNSET_ROTATION
    wanted = parameters.extrinsics_source
    if wanted == 'parameters' and not given:
        raise ConfigError(
            'extrinsics.source is parameters but extrinsics.rotation is not set: give the pose '
            f'of the camera in {parameters.output_frame}, as `ros2 run tf2_ros tf2_echo '
            f'{parameters.output_frame} CAMERA_FRAME` prints it'
        )
    if wanted == 'parameters' or (wanted == 'auto' and given):
        pose = parameters.extrinsics_translation, parameters.extrinsics_rotation
        return ParameterExtrinsics(*pose)
    if importlib.util.find_spec('tf2_ros') is None:
        return NoExtrinsics()
    return _from_tf(node, parameters.output_frame)


def _from_tf(node: Node, output_frame: str) -> TfExtrinsics:
    import tf2_ros

    buffer = tf2_ros.Buffer()
    listener = tf2_ros.TransformListener(buffer, node)

    def lookup(target: str, source: str) -> Any:
        _ = listener  # lives as long as the lookup
        return buffer.lookup_transform(target, source, Time())

    extrinsics = TfExtrinsics(output_frame, lookup)
    node.create_timer(RETRY_S, extrinsics.retry, clock=steady_clock())
    return extrinsics
