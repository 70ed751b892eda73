"""Messages of one frame -> CameraFrame: the one place where they are decoded and compared."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo

from cigocc_ros.core.class_presets import ClassSet, class_set
from cigocc_ros.core.errors import FrameError
from cigocc_ros.core.frames import NANOSECONDS, CameraFrame
from cigocc_ros.core.manifest import ModelManifest
from cigocc_ros.core.prior import DEPTH, NONE, untrained_inputs
from cigocc_ros.ros.counters import Counters
from cigocc_ros.ros.dropped import DroppedFrame
from cigocc_ros.ros.input.camera_info import ImageGeometry, geometry_of_topic, info_key
from cigocc_ros.ros.input.depth_images import depth_from_message
from cigocc_ros.ros.input.depth_prior import (
    check_frames,
    pair_doubt,
    registered_depth,
    stereo_prior,
)
from cigocc_ros.ros.input.extrinsics import Extrinsics
from cigocc_ros.ros.input.images import AnyImage, decode_rgb, format_doubt
from cigocc_ros.ros.input.label_images import (
    Classes,
    check_label_frame,
    fitted_classes,
    ids_from_message,
    translated,
)
from cigocc_ros.ros.input.pairing import Bundle
from cigocc_ros.ros.input.subscriptions import Topics
from cigocc_ros.ros.occ_parameters import OccParameters
from cigocc_ros.ros.stamps import stamp_to_ns

logger = logging.getLogger(__name__)
CACHED_GEOMETRIES = 8
Depth = NDArray[np.float32]


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
        geometry = geometry_of_topic(info, size, self._topic, self._rectification)
        state = 'rectified' if geometry.maps is None else 'raw, will be rectified here'
        logger.info('%s: %dx%d, taken as %s', self._topic, *size, state)
        if geometry.rescaled:
            logger.warning('%s: camera_info is of another size, intrinsics rescaled', self._topic)
        return geometry


class FrameDecoder:
    """Decode the messages of a frame; used by one thread."""

    def __init__(
        self,
        parameters: OccParameters,
        topics: Topics,
        extrinsics: Extrinsics,
        counters: Counters,
        manifest: ModelManifest,
    ) -> None:
        """Take the topics, the poses, where failed priors and doubts are counted, and the model.

        Raises ConfigError where the stereo matcher of parameters or manifest cannot work.
        """
        self._image, self._right, self._depth = (
            GeometryCache(topic, parameters.rectification) for topic in topics
        )
        self._output_frame = parameters.output_frame
        self._extrinsics, self._counters = extrinsics, counters
        self._stereo = parameters.stereo(manifest.training)
        self._manifest = manifest
        name = parameters.semantic_classes
        self._classes = class_set(name) if name else None

    def __call__(self, bundle: Bundle) -> CameraFrame:
        """Return the rectified frame; raise DroppedFrame with what is wrong."""
        header, info = bundle.image.header, _require_info(bundle)
        cam_from_velo = self._extrinsics.cam_from_velo(header.frame_id)
        raw_image = decode_rgb(bundle.image)
        geometry = self._image.geometry(info, _size(raw_image))
        image = geometry.rectify(raw_image)
        self._doubt(
            **geometry.doubts,
            camera_info_frame=_frame_doubt(header.frame_id, info.header.frame_id),
            compressed_format=format_doubt(bundle.image),
        )
        depth_m = self._prior(bundle, geometry, image)
        classes = self._semantics(bundle, geometry)
        self._doubt(untrained_inputs=self._untrained(depth_m, classes))
        return CameraFrame(
            image=image,
            # where the camera stands is the pose of its frame: P[:,3] is not added to it
            camera=geometry.camera.centred(),
            cam_from_velo=cam_from_velo,
            stamp_ns=stamp_to_ns(header.stamp),
            frame_id=header.frame_id,
            grid_frame_id=self._output_frame,
            depth_m=depth_m,
            classes=classes,
        )

    def _untrained(self, depth_m: Depth | None, classes: Classes | None) -> str:
        """Say that the model never saw a frame with, or without, what this one has."""
        given = classes is not None if self._manifest.takes_semantic_prior else None
        return untrained_inputs(self._manifest.training, depth_m is not None, given)

    def _prior(
        self, bundle: Bundle, geometry: ImageGeometry, image: NDArray[np.uint8]
    ) -> Depth | None:
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
    ) -> Depth:
        if bundle.prior is None:
            raise DroppedFrame('prior_late', f'no {bundle.prior_kind} message with this stamp')
        if bundle.prior_kind == DEPTH:
            frame_id = bundle.image.header.frame_id
            return self._from_depth(bundle.prior, bundle.prior_info, geometry, frame_id)
        if bundle.prior_info is None:
            raise DroppedFrame('prior_no_camera_info', 'no message on right/camera_info yet')
        right_raw = decode_rgb(bundle.prior)
        right = self._right.geometry(bundle.prior_info, _size(right_raw))
        self._doubt(right_camera_info=pair_doubt(geometry, right))
        return stereo_prior(image, geometry, right.rectify(right_raw), right, self._stereo)

    def _from_depth(
        self, message: AnyImage, info: CameraInfo | None, image: ImageGeometry, frame_id: str
    ) -> Depth:
        frame_doubt = check_frames(frame_id, message.header.frame_id)
        depth, value_doubt = depth_from_message(message)
        self._doubt(depth_frame=frame_doubt, depth_far_plane=value_doubt)
        own = None if info is None else self._depth.geometry(info, _size(depth))
        return registered_depth(depth, image, own)

    def _semantics(self, bundle: Bundle, image: ImageGeometry) -> Classes | None:
        """Return the classes from outside, or None, which is valid input, after counting why."""
        if self._classes is None or not bundle.wants_labels:
            return None
        try:
            return self._from_labels(bundle, image, self._classes)
        except FrameError as error:
            reason = error.reason if isinstance(error, DroppedFrame) else 'semantic_invalid'
            self._counters.add_semantics_failed(reason, str(error))
            return None

    def _from_labels(self, bundle: Bundle, image: ImageGeometry, meaning: ClassSet) -> Classes:
        if bundle.labels is None:
            raise DroppedFrame('semantic_late', 'no label image with this stamp in time')
        frame_doubt = check_label_frame(
            bundle.image.header.frame_id, bundle.labels.header.frame_id
        )
        labels = translated(ids_from_message(bundle.labels), meaning)
        classes = fitted_classes(labels.classes, image)
        self._counters.add_semantics(labels.known_share, labels.foreign_share)
        self._doubt(semantic_frame=frame_doubt, semantic_ids=labels.doubt(meaning.name))
        return classes

    def _doubt(self, **doubts: str) -> None:
        for name, text in doubts.items():
            if text and self._counters.add_doubt(name, text):
                logger.warning('%s', text)


def _require_info(bundle: Bundle) -> CameraInfo:
    """Return the CameraInfo; raise DroppedFrame where it or the stamp is none."""
    nanoseconds = bundle.image.header.stamp.nanosec
    if nanoseconds >= NANOSECONDS:
        raise DroppedFrame('invalid_stamp', f'the stamp has {nanoseconds} ns beyond its seconds')
    if bundle.info is None:
        raise DroppedFrame(
            'no_camera_info', 'no message on camera_info yet: is it published and remapped?'
        )
    return bundle.info


def _frame_doubt(image_frame: str, info_frame: str) -> str:
    if not info_frame or info_frame == image_frame:
        return ''
    return (
        f'images are of frame {image_frame!r}, camera_info of {info_frame!r}: is camera_info of '
        'this camera?'
    )


def _size(image: NDArray[Any]) -> tuple[int, int]:
    return image.shape[1], image.shape[0]
