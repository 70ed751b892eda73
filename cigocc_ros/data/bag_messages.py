"""ROS 2 messages for bags, without a ROS installation: the types that `rosbags` ships."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.frames import NANOSECONDS
from cigocc_ros.data.rig import StaticPose

JPEG_QUALITY = 95
# image_transport's format text: what it was, how it is compressed, what the decoder gives.
JPEG_FORMAT = 'rgb8; jpeg compressed bgr8'
POINT_FIELD_TYPES = {'<f4': 'FLOAT32', '<u4': 'UINT32'}


class BagMessages:
    """Makes messages; the message definitions of Jazzy are those of Humble to Lyrical here."""

    def __init__(self) -> None:
        """Load the message definitions."""
        self.typestore = get_typestore(Stores.ROS2_JAZZY)

    def image(self, rgb: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> Any:
        """Return (H, W, 3) uint8 rgb as an Image."""
        return self._image('rgb8', rgb, stamp_ns, frame_id)

    def depth(self, depth_m: NDArray[np.float32], stamp_ns: int, frame_id: str) -> Any:
        """Return (H, W) float32 metres, NaN where unknown, as an Image."""
        return self._image('32FC1', depth_m, stamp_ns, frame_id)

    def labels(self, ids: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> Any:
        """Return class ids (h, w) uint8 as an Image."""
        return self._image('mono8', ids, stamp_ns, frame_id)

    def compressed_image(self, rgb: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> Any:
        """Return (H, W, 3) uint8 rgb as a CompressedImage, JPEG."""
        bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        ok, jpeg = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not ok:
            raise DataFileError(f'an image {rgb.shape} cannot be encoded as JPEG')
        return self._make(
            'sensor_msgs/msg/CompressedImage',
            header=self._header(stamp_ns, frame_id),
            format=JPEG_FORMAT,
            data=_bytes(jpeg),
        )

    def camera_info(self, camera: CameraModel, stamp_ns: int, frame_id: str) -> Any:
        """Return the CameraInfo of a rectified camera."""
        whole_image = self._make(
            'sensor_msgs/msg/RegionOfInterest',
            x_offset=0,
            y_offset=0,
            height=0,
            width=0,
            do_rectify=False,
        )
        return self._make(
            'sensor_msgs/msg/CameraInfo',
            header=self._header(stamp_ns, frame_id),
            height=camera.height,
            width=camera.width,
            distortion_model='plumb_bob',
            d=np.zeros(5),
            k=camera.intrinsics.ravel(),
            r=np.eye(3).ravel(),
            p=camera.projection.ravel(),
            binning_x=0,
            binning_y=0,
            roi=whole_image,
        )

    def cloud(self, points: NDArray[Any], stamp_ns: int, frame_id: str) -> Any:
        """Return a structured array (N,) of '<f4' and '<u4' fields as a PointCloud2."""
        step = points.dtype.itemsize
        return self._make(
            'sensor_msgs/msg/PointCloud2',
            header=self._header(stamp_ns, frame_id),
            height=1,
            width=points.size,
            fields=self._fields(points.dtype),
            is_bigendian=False,
            point_step=step,
            row_step=step * points.size,
            data=_bytes(points),
            is_dense=True,
        )

    def tf(self, poses: Sequence[StaticPose], stamp_ns: int) -> Any:
        """Return poses as a TFMessage."""
        transforms = [
            self._make(
                'geometry_msgs/msg/TransformStamped',
                header=self._header(stamp_ns, pose.parent),
                child_frame_id=pose.child,
                transform=self._make(
                    'geometry_msgs/msg/Transform',
                    translation=self._named('Vector3', 'xyz', pose.translation_m),
                    rotation=self._named('Quaternion', 'xyzw', pose.rotation_xyzw),
                ),
            )
            for pose in poses
        ]
        return self._make('tf2_msgs/msg/TFMessage', transforms=transforms)

    def _image(self, encoding: str, pixels: NDArray[Any], stamp_ns: int, frame_id: str) -> Any:
        height, width = pixels.shape[:2]
        data = _bytes(pixels)
        return self._make(
            'sensor_msgs/msg/Image',
            header=self._header(stamp_ns, frame_id),
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=data.size // height,
            data=data,
        )

    def _fields(self, dtype: np.dtype[Any]) -> list[Any]:
        point_field = self.typestore.types['sensor_msgs/msg/PointField']
        return [
            point_field(name, offset, getattr(point_field, POINT_FIELD_TYPES[kind.str]), 1)
            for name, (kind, offset, *_) in (dtype.fields or {}).items()
        ]

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        seconds, nanoseconds = divmod(stamp_ns, NANOSECONDS)
        stamp = self._make('builtin_interfaces/msg/Time', sec=seconds, nanosec=nanoseconds)
        return self._make('std_msgs/msg/Header', stamp=stamp, frame_id=frame_id)

    def _named(self, kind: str, names: str, values: Sequence[float]) -> Any:
        return self._make(f'geometry_msgs/msg/{kind}', **dict(zip(names, values, strict=True)))

    def _make(self, message_type: str, **fields: Any) -> Any:
        return self.typestore.types[message_type](**fields)


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
