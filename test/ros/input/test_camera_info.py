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
    geometry_of_topic,
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


NONE, SOME = [0.0] * 5, [0.1, 0.0, 0.0, 0.0, 0.0]


def lens(d, model='plumb_bob') -> CameraInfo:
    info = info_from_camera(CameraModel.from_intrinsics(70, 70, 40, 24, 80, 48))
    info.d, info.distortion_model = d, model
    return info


@pytest.mark.parametrize(
    ('d', 'topic', 'rectification', 'raw', 'doubted'),
    [
        ([], '/camera/image_raw', 'auto', False, False),
        (NONE, '/camera/image_raw', 'auto', False, False),
        (SOME, '/camera/image_raw', 'auto', True, False),
        (SOME, '/camera/image_rect_color', 'auto', False, True),
        (SOME, '/camera/image_rectified', 'auto', False, True),
        (SOME, '/camera/image_rect_color', 'rectified', False, False),
        (SOME, '/camera/image_raw', 'rectified', False, False),
        (NONE, '/camera/image_rect', 'raw', True, False),
        # letters are no words, and only the last part counts
        (SOME, '/cam/image_unrect', 'auto', True, False),
        (SOME, '/cam/image_unrectified', 'auto', True, False),
        (SOME, '/direct/image', 'auto', True, False),
        (SOME, '/correct/image', 'auto', True, False),
        (SOME, '/rect_robot/image_raw', 'auto', True, False),
        (SOME, '/rectangle', 'auto', True, False),
    ],
)
def test_which_images_are_raw(d, topic, rectification, raw, doubted):
    found, doubt = is_raw(lens(d), topic, rectification)
    assert (found, bool(doubt)) == (raw, doubted)


@pytest.mark.parametrize('model', ['equidistant', 'fisheye'])
def test_a_fisheye_is_raw_whatever_d_is(model):
    found, doubt = is_raw(lens([0.0] * 4, model), '/camera/image', 'auto')
    assert found and 'ideal fisheye' in doubt
    assert is_raw(lens([0.1, 0, 0, 0.0], model), '/camera/image', 'auto') == (True, '')
    found, doubt = is_raw(lens([0.1, 0, 0, 0.0], model), '/camera/image_rect', 'auto')
    assert not found and 'taken as rectified for its name' in doubt


def test_an_ideal_fisheye_is_rectified_and_one_without_numbers_refused():
    """79 px at 40 degrees lie between a pinhole and r = f theta."""
    info = lens([0.0] * 4, 'equidistant')
    geometry = geometry_of_topic(info, (80, 48), '/camera/image', 'auto')
    angle = np.radians(25)
    u, v = 40 + 70 * np.tan(angle), 24
    raw_u = geometry.maps[0][round(v), round(u)]
    assert raw_u == pytest.approx(40 + 70 * np.arctan((round(u) - 40) / 70), abs=0.01)
    assert reason_of_topic(lens([], 'equidistant')) == 'camera_info_invalid'


def reason_of_topic(info, topic='/camera/image', rectification='auto') -> str:
    with pytest.raises(DroppedFrame) as caught:
        geometry_of_topic(info, (80, 48), topic, rectification)
    return caught.value.reason


@pytest.mark.parametrize('d', [[], [0.0] * 5, [0.1, 0, 0, 0, 0.0]])
@pytest.mark.parametrize('model', ['division', 'omnidirectional', 'thin_prism_fisheye', 'ftheta'])
def test_models_that_the_node_cannot_rectify_are_refused_whatever_d_is(model, d):
    for topic in ('/camera/image', '/camera/image_rect'):
        assert reason_of_topic(lens(d, model), topic) == 'unknown_distortion'
    info = lens(d, model)
    assert geometry_of_topic(info, (80, 48), '/camera/image', 'rectified').maps is None


def test_a_lens_without_distortion_has_names_too():
    assert geometry_of_topic(lens(NONE, 'pinhole'), (80, 48), '/c/image', 'auto').maps is None
    assert reason_of_topic(lens(SOME, 'pinhole')) == 'unknown_distortion'


def test_without_distortion_r_and_k_may_still_tell_of_a_raw_image():
    info = lens(NONE)
    info.r = cv2.Rodrigues(np.array([0.0, 0.05, 0.0]))[0].ravel().tolist()
    assert is_raw(info, '/left/image_raw', 'auto') == (True, '')
    assert is_raw(info, '/left/image_rect', 'auto') == (False, '')
    found, doubt = is_raw(info, '/left/image', 'auto')
    assert not found and 'set rectification' in doubt
    info = lens(NONE)
    info.k[0] = 75.0
    assert is_raw(info, '/left/image_raw', 'auto')[0]
    info = lens(NONE)
    info.r = [0.0] * 9  # simulators leave it out
    assert is_raw(info, '/left/image', 'auto') == (False, '')


@pytest.mark.parametrize(
    ('change', 'name'),
    [
        ({'p3': -38.0}, 'camera_info_offset'),
        ({'p7': -38.0}, 'camera_info_offset'),
        ({'fx': 300.0}, 'camera_info_numbers'),
        ({'cx': 79.0}, 'camera_info_numbers'),
        ({'fx': 9.0, 'fy': 9.0}, 'camera_info_numbers'),
    ],
)
def test_doubtful_numbers_are_named(change, name):
    numbers = {'fx': 70.0, 'fy': 70.0, 'cx': 40.0, 'cy': 24.0}
    camera = CameraModel.from_intrinsics(
        **{k: change.get(k, v) for k, v in numbers.items()}, width=80, height=48
    )
    info = info_from_camera(camera)
    info.p[3], info.p[7] = change.get('p3', 0.0), change.get('p7', 0.0)
    doubts = geometry_of_topic(info, (80, 48), '/camera/image', 'auto').doubts
    assert list(doubts) == [name] and doubts[name]
    assert not geometry_of_topic(lens(NONE), (80, 48), '/camera/image', 'auto').doubts


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
    assert geometry.rectify_nearest(raw_depth)[round(expected[1]), round(expected[0])] == 7.5


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
