"""CameraInfo -> camera and rectification."""

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')

from sensor_msgs.msg import CameraInfo

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.ros.dropped import DroppedFrame
from cigocc_ros.ros.input.camera_info import (
    geometry_from_info,
    info_from_camera,
    info_key,
    is_raw,
)

CAMERA = CameraModel(80, 48, np.array([[60.0, 0, 39, 12], [0, 61, 23, 0.5], [0, 0, 1, 0.01]]))


def reason(info: CameraInfo, size=(80, 48), raw=False) -> str:
    with pytest.raises(DroppedFrame) as caught:
        geometry_from_info(info, size, raw)
    return caught.value.reason


def test_a_camera_round_trips():
    geometry = geometry_from_info(info_from_camera(CAMERA), (80, 48), raw=False)
    assert geometry.camera == CAMERA
    assert geometry.maps is None and not geometry.rescaled


def test_an_image_of_half_the_size_rescales_the_intrinsics():
    geometry = geometry_from_info(info_from_camera(CAMERA), (40, 24), raw=False)
    assert geometry.camera == CAMERA.rescale(40, 24)
    assert geometry.rescaled


def test_roi_and_binning_are_followed():
    info = info_from_camera(CAMERA)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 10, 4, 60, 40
    info.binning_x = info.binning_y = 2
    geometry = geometry_from_info(info, (30, 20), raw=False)
    assert geometry.camera == CAMERA.crop(10, 4, 60, 40).rescale(30, 20)


def test_unusable_infos_say_why():
    assert reason(CameraInfo()) == 'camera_info_invalid'
    assert reason(CameraInfo(width=80, height=48)) == 'camera_info_invalid'
    assert reason(info_from_camera(CAMERA), (80, 80)) == 'camera_info_size'
    outside = info_from_camera(CAMERA)
    outside.roi.x_offset, outside.roi.width, outside.roi.height = 50, 60, 40
    assert reason(outside) == 'camera_info_invalid'
    not_finite = info_from_camera(CAMERA)
    not_finite.p[0] = float('nan')
    assert reason(not_finite) == 'camera_info_invalid'


def test_unusable_distortion_says_why():
    info = info_from_camera(CAMERA)
    info.distortion_model = 'division'
    assert reason(info, raw=True) == 'unknown_distortion'
    info = info_from_camera(CAMERA)
    info.r = [0.0] * 9
    assert reason(info, raw=True) == 'camera_info_invalid'
    info = info_from_camera(CAMERA)
    info.d = [float('nan')] * 5
    assert reason(info, raw=True) == 'camera_info_invalid'


@pytest.mark.parametrize(
    ('d', 'topic', 'rectification', 'raw'),
    [
        ([], '/camera/image_raw', 'auto', False),
        ([0.0] * 5, '/camera/image_raw', 'auto', False),
        ([0.1, 0, 0, 0, 0], '/camera/image_raw', 'auto', True),
        ([0.1, 0, 0, 0, 0], '/camera/image_rect_color', 'auto', False),
        ([0.1, 0, 0, 0, 0], '/camera/image_raw', 'rectified', False),
        ([0.0] * 5, '/camera/image_rect', 'raw', True),
    ],
)
def test_which_images_are_raw(d, topic, rectification, raw):
    assert is_raw(CameraInfo(d=[float(x) for x in d]), topic, rectification) is raw


@pytest.mark.parametrize(
    ('model', 'd'),
    [('plumb_bob', [-0.25, 0.05, 0.001, -0.002, 0.0]), ('equidistant', [0.05, -0.01, 0.0, 0.0])],
)
def test_rectification_moves_a_distorted_point_to_where_the_camera_says(model, d):
    """A bright raw pixel, where OpenCV's lens model puts a 3D point, lands at P X."""
    info = info_from_camera(CameraModel.from_intrinsics(70, 70, 40, 24, 80, 48))
    info.distortion_model, info.d = model, d
    info.p = CameraModel.from_intrinsics(60, 60, 38, 25, 80, 48).projection.ravel().tolist()
    geometry = geometry_from_info(info, (80, 48), raw=True)
    point = np.array([[[0.25, 0.12, 1.0]]])
    lens = cv2.fisheye.projectPoints if model == 'equidistant' else cv2.projectPoints
    zero = np.zeros(3)
    k = np.array(info.k).reshape(3, 3)
    u, v = lens(point, zero, zero, k, np.array(d))[0].ravel()
    rows, columns = np.mgrid[:48, :80]
    spot = 255 * np.exp(-0.5 * ((columns - u) ** 2 + (rows - v) ** 2) / 1.5**2)
    rectified = geometry.rectify(np.repeat(spot.astype(np.uint8)[..., None], 3, -1))[..., 0]
    weight = rectified.astype(float) / rectified.sum()
    expected = geometry.camera.intrinsics @ point.ravel()
    np.testing.assert_allclose((columns * weight).sum(), expected[0], atol=0.3)
    np.testing.assert_allclose((rows * weight).sum(), expected[1], atol=0.3)
    raw_depth = np.where(spot > 100, 7.5, 0).astype(np.float32)
    assert geometry.rectify_depth(raw_depth)[round(expected[1]), round(expected[0])] == 7.5


def test_the_key_follows_every_number():
    keys = {
        info_key(info_from_camera(CAMERA), (80, 48)),
        info_key(info_from_camera(CAMERA), (40, 24)),
    }
    for field in ('k', 'r', 'p', 'd'):
        info = info_from_camera(CAMERA)
        getattr(info, field)[0] += 0.5
        keys.add(info_key(info, (80, 48)))
    binned = info_from_camera(CAMERA)
    binned.binning_x = 2
    keys.add(info_key(binned, (80, 48)))
    assert len(keys) == 7
    assert info_key(info_from_camera(CAMERA), (80, 48)) in keys
