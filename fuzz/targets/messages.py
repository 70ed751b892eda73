"""What other nodes send: images, depth, CameraInfo, compressed images, clouds, a whole frame."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import (
    CameraInfo,
    CompressedImage,
    Image,
    PointCloud2,
    PointField,
    RegionOfInterest,
)

from cigocc_ros.core.class_presets import class_set
from cigocc_ros.core.encoded_images import check_encoded_image
from cigocc_ros.core.errors import CigoccError
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import NUM_CLASSES
from cigocc_ros.replay.cloud_reading import points_from_cloud
from cigocc_ros.replay.outcome import occupancy_from_points
from cigocc_ros.ros.input.camera_info import geometry_from_info
from cigocc_ros.ros.input.depth_images import depth_from_image
from cigocc_ros.ros.input.images import rgb_from_compressed, rgb_from_image
from cigocc_ros.ros.input.label_images import ids_from_message, translated
from cigocc_ros.ros.stamps import stamp_from_ns, stamp_to_ns
from cigocc_ros.runtime.preprocess import calibration_tables
from fuzz.targets import archives

ENCODINGS = (
    *('rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', 'mono16', 'rgb16', 'bgr16', 'rgba16', 'bgra16'),
    *('bayer_rggb8', 'bayer_bggr8', 'bayer_gbrg8', 'bayer_grbg8', 'bayer_rggb16'),
    *('uyvy', 'yuv422', 'yuyv', 'yuv422_yuy2', '32FC1', '16UC1', '', 'holo9', 'bayer_8'),
)
MODELS = ('plumb_bob', 'rational_polynomial', '', 'equidistant', 'fisheye', 'thin_prism')
CLOUD_NAMES = ('x', 'y', 'z', 'label', 'probability', 'rgb', '', 'x')
IMAGE_HEAD, INFO_HEAD, NUMBERS = '<BHHiBIiI', '<HHHHHHHBBBBBB', 9 + 12 + 9
MODEL_INPUT = (48, 160)
CITYSCAPES = class_set('cityscapes')


def seeds() -> list[bytes]:
    """Return inputs: a byte that chooses the message, then its fields."""
    image = struct.pack(IMAGE_HEAD, 0, 4, 4, 12, 0, 48, 1, 2) + bytes(range(48))
    depth = struct.pack(IMAGE_HEAD, 19, 2, 2, 8, 1, 16, 1, 2)
    depth += np.array([1, np.nan, -1, 3], '>f4').tobytes()
    k = [700.0, 0, 320, 0, 700, 90, 0, 0, 1]
    p = [700.0, 0, 320, 0, 0, 700, 90, 0, 0, 0, 1, 0]
    info = struct.pack(INFO_HEAD, 640, 192, 0, 0, 0, 0, 640, 96, 1, 1, 1, 0, 5)
    info += struct.pack(f'<{NUMBERS}f', *k, *p, *np.eye(3).ravel()) + bytes(20)
    fields = b''.join(struct.pack('<BIB', i, 4 * i, 7) for i in range(3))
    cloud = struct.pack('<BIIIIB', 3, 2, 1, 12, 24, 0) + fields
    encoded = [b'\3' + seed[1:] for seed in archives.seeds() if seed[0] in (4, 5)]
    points = np.arange(6, dtype='<f4').tobytes()
    return [b'\0' + image, b'\1' + depth, b'\2' + info, b'\4' + cloud + points, *encoded]


def run(data: bytes, _folder: Path) -> None:
    """Build the message that the first byte chooses, and decode it as the node does."""
    kind = (data[:1] or b'\0')[0] % 5
    try:
        (_rgb, _depth, _info, _compressed, _cloud)[kind](data[1:])
    except CigoccError as error:
        assert len(str(error)) < 2000


def _unpacked(pattern: str, data: bytes) -> tuple[tuple[Any, ...], bytes]:
    """Return the numbers at the beginning, zeros where bytes are missing, and the rest."""
    size = struct.calcsize(pattern)
    return struct.unpack(pattern, data[:size].ljust(size, b'\0')), data[size:]


def _image(data: bytes) -> Image:
    head, content = _unpacked(IMAGE_HEAD, data)
    encoding, width, height, step, bigendian, count, sec, nanosec = head
    image = Image(width=width, height=height, encoding=ENCODINGS[encoding % len(ENCODINGS)])
    image.step = (width * encoding if step < 0 else step) % (1 << 32)
    image.is_bigendian = bigendian
    image.header.stamp = Time(sec=sec, nanosec=nanosec)
    image.data = (content * (1 + count % 65536 // max(len(content), 1)))[: count % 65536]
    return image


def _rgb(data: bytes) -> None:
    image = _image(data)
    stamp_ns = stamp_to_ns(image.header.stamp)
    if image.header.stamp.nanosec < 1_000_000_000:
        assert stamp_from_ns(stamp_ns) == image.header.stamp
    rgb = rgb_from_image(image)
    assert rgb.dtype == np.uint8 and rgb.shape == (image.height, image.width, 3)


def _labels(image: Image) -> None:
    """Read an image of any encoding as class ids; most are none."""
    with suppress(CigoccError):
        labels = translated(ids_from_message(image), CITYSCAPES)
        assert labels.classes.shape == (image.height, image.width)
        assert labels.classes.dtype == np.uint8 and labels.classes.max() < NUM_CLASSES


def _depth(data: bytes) -> None:
    image = _image(data)
    _labels(image)
    depth = depth_from_image(image)
    assert depth.dtype == np.float32 and depth.shape == (image.height, image.width)
    assert np.isfinite(depth).all() and depth.min() >= 0


def _info(data: bytes) -> None:
    head, rest = _unpacked(INFO_HEAD, data)
    width, height, left, top, roi_width, roi_height = head[:6]
    image_width, image_height, bin_x, bin_y, raw, model, count = head[6:]
    numbers, rest = _unpacked(f'<{NUMBERS}f', rest)
    distortion, _ = _unpacked(f'<{count % 20}f', rest)
    info = CameraInfo(width=width, height=height, distortion_model=MODELS[model % len(MODELS)])
    info.k, info.p, info.r = numbers[:9], numbers[9:21], numbers[21:]
    info.d, info.binning_x, info.binning_y = distortion, bin_x, bin_y
    info.roi = RegionOfInterest(x_offset=left, y_offset=top, width=roi_width, height=roi_height)
    size = (1 + image_width % 640, 1 + image_height % 480)
    geometry = geometry_from_info(info, size, bool(raw & 1))
    image = geometry.rectify(np.zeros((size[1], size[0], 3), np.uint8))
    assert image.shape == (geometry.camera.height, geometry.camera.width, 3)
    forward = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    tables = calibration_tables(geometry.camera, forward, MODEL_INPUT)
    assert tables.fit.apply(image).shape == (*MODEL_INPUT, 3)
    for matrix in (tables.pixel_from_velo, tables.velo_from_pixel):
        assert np.isfinite(matrix).all()


def _compressed(data: bytes) -> None:
    width, height = check_encoded_image(data, 'image')
    if width * height <= archives.MOST_PIXELS:
        rgb = rgb_from_compressed(CompressedImage(format='png', data=data))
        assert rgb.dtype == np.uint8 and rgb.shape[2] == 3


def _cloud(data: bytes) -> None:
    head, rest = _unpacked('<BIIIIB', data)
    count, width, height, point_step, row_step, bigendian = head
    cloud = PointCloud2(width=width, height=height, point_step=point_step, row_step=row_step)
    cloud.is_bigendian = bool(bigendian & 1)
    for _ in range(count % 9):
        (name, offset, kind), rest = _unpacked('<BIB', rest)
        cloud.fields.append(
            PointField(name=CLOUD_NAMES[name % 8], offset=offset, datatype=kind, count=1)
        )
    cloud.data = rest
    points = points_from_cloud(cloud)
    assert len(points) == width * height
    grid = VoxelGrid((0, 0, 0), (1, 1, 1), (4, 4, 4))
    assert occupancy_from_points(points, grid, 0, 'f').labels.max() < 20
