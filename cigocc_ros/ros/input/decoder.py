"""Messages of one frame -> CameraFrame."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo

from cigocc_ros.core.errors import FrameError
from cigocc_ros.core.frames import NANOSECONDS, CameraFrame
from cigocc_ros.core.prior import DEPTH, NONE
from cigocc_ros.ros.counters import Counters
from cigocc_ros.ros.dropped import DroppedFrame
from cigocc_ros.ros.input.camera_info import ImageGeometry, geometry_from_info, info_key, is_raw
from cigocc_ros.ros.input.depth_prior import depth_prior, require_right_info, stereo_prior
from cigocc_ros.ros.input.extrinsics import Extrinsics
from cigocc_ros.ros.input.images import decode_rgb
from cigocc_ros.ros.input.pairing import Bundle
from cigocc_ros.ros.occ_parameters import OccParameters
from cigocc_ros.ros.stamps import stamp_to_ns

logger = logging.getLogger(__name__)
CACHED_GEOMETRIES = 8


class GeometryCache:
    """Calibrations that were worked out, by value of their CameraInfo."""

    def __init__(self, topic: str, rectification: str) -> None:
        """Take the image topic and the parameter `rectification`."""
        self._topic, self._rectification = topic, rectification
        self._known: OrderedDict[tuple[Any, ...], ImageGeometry] = OrderedDict()

    def geometry(self, info: CameraInfo, size: tuple[int, int]) -> ImageGeometry:
        """Return the geometry of an image of `size` (width, height); raise DroppedFrame."""
        key = info_key(info, size)
        if key not in self._known:
            self._known[key] = self._computed(info, size)
            while len(self._known) > CACHED_GEOMETRIES:
                self._known.popitem(last=False)
        return self._known[key]

    def _computed(self, info: CameraInfo, size: tuple[int, int]) -> ImageGeometry:
        raw = is_raw(info, self._topic, self._rectification)
        geometry = geometry_from_info(info, size, raw)
        state = 'raw, will be rectified here' if raw else 'rectified'
        logger.info('%s: %dx%d, taken as %s', self._topic, *size, state)
        if geometry.rescaled:
            logger.warning('%s: camera_info is of another size, intrinsics rescaled', self._topic)
        return geometry


class FrameDecoder:
    """Decode the messages of a frame; used by the worker thread."""

    def __init__(
        self,
        parameters: OccParameters,
        topics: tuple[str, str],
        extrinsics: Extrinsics,
        counters: Counters,
    ) -> None:
        """Take the topics of left and right image, and where failed priors are counted."""
        left, right = (GeometryCache(topic, parameters.rectification) for topic in topics)
        self._geometries, self._right_geometries = left, right
        self._output_frame = parameters.output_frame
        self._extrinsics, self._counters = extrinsics, counters

    def __call__(self, bundle: Bundle) -> CameraFrame:
        """Return the rectified frame; raise DroppedFrame with what is wrong."""
        header = bundle.image.header
        if header.stamp.nanosec >= NANOSECONDS:
            raise DroppedFrame(
                'invalid_stamp', f'the stamp has {header.stamp.nanosec} ns beyond its seconds'
            )
        if bundle.info is None:
            raise DroppedFrame(
                'no_camera_info', 'no message on camera_info yet: is it published and remapped?'
            )
        cam_from_velo = self._extrinsics.cam_from_velo(header.frame_id)
        raw_image = decode_rgb(bundle.image)
        geometry = self._geometries.geometry(bundle.info, _size(raw_image))
        image = geometry.rectify(raw_image)
        return CameraFrame(
            image=image,
            camera=geometry.camera,
            cam_from_velo=cam_from_velo,
            stamp_ns=stamp_to_ns(header.stamp),
            frame_id=header.frame_id,
            grid_frame_id=self._output_frame,
            depth_m=self._prior(bundle, geometry, image),
        )

    def _prior(
        self, bundle: Bundle, geometry: ImageGeometry, image: NDArray[np.uint8]
    ) -> NDArray[np.float32] | None:
        """Return the depth prior, or None, which is valid input, after counting why."""
        if bundle.prior_kind == NONE:
            return None
        try:
            depth = self._decoded_prior(bundle, geometry, image)
        except FrameError as error:
            reason = error.reason if isinstance(error, DroppedFrame) else 'prior_invalid'
            self._counters.add_prior(reason, str(error))
            return None
        self._counters.add_prior()
        return depth

    def _decoded_prior(
        self, bundle: Bundle, geometry: ImageGeometry, image: NDArray[np.uint8]
    ) -> NDArray[np.float32]:
        if bundle.prior is None:
            raise DroppedFrame('prior_late', f'no {bundle.prior_kind} message with this stamp')
        if bundle.prior_kind == DEPTH:
            return depth_prior(bundle.prior, geometry)
        right_raw = decode_rgb(bundle.prior)
        info = require_right_info(bundle.right_info)
        right = self._right_geometries.geometry(info, _size(right_raw))
        return stereo_prior(image, geometry.camera, right.rectify(right_raw), right.camera)


def _size(image: NDArray[np.uint8]) -> tuple[int, int]:
    return image.shape[1], image.shape[0]
