"""Depth and right images that are wrong or missing: the frame goes without, and is counted."""

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('cv2')

from fixtures_faults import WARN, Patient, nothing_leaks
from fixtures_ros import CAMERA
from sensor_msgs.msg import CameraInfo, Image

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.ros import diagnostics
from cigocc_ros.ros.input.camera_info import info_from_camera
from cigocc_ros.ros.players.kitti_messages import image_from_depth, image_from_rgb


@pytest.fixture(autouse=True)
def reports_often(monkeypatch):
    monkeypatch.setattr(diagnostics, 'PERIOD_S', 0.2)


def depth_patient(graph):
    patient = Patient(graph, **{'prior.source': 'depth', 'prior.wait_s': 0.02})
    patient.depths = graph.publisher(Image, 'depth')
    return patient


def with_depth(patient, depth):
    """Return what publishes an image and its depth."""

    def publish():
        patient.camera.publish()
        message = image_from_depth(np.full((48, 80), 12.5, np.float32))
        message.data = np.asarray(depth, np.float32).tobytes()
        patient.depths.publish(patient.camera.stamped(message))

    return publish


def stereo_patient(graph):
    patient = Patient(graph, **{'prior.source': 'stereo', 'prior.wait_s': 0.02})
    patient.rights = graph.publisher(Image, 'right/image')
    patient.right_infos = graph.publisher(CameraInfo, 'right/camera_info')
    return patient


def with_right(patient, height=48, info=True):
    """Return what publishes an image and the right image of it."""

    def publish():
        patient.camera.publish()
        if info:
            patient.right_infos.publish(patient.camera.stamped(right_info(height)))
        image = image_from_rgb(np.full((height, 80, 3), 90, np.uint8))
        patient.rights.publish(patient.camera.stamped(image))

    return publish


def right_info(height):
    """Return the CameraInfo of a camera half a metre to the right."""
    camera = CameraModel.from_intrinsics(80, 80, 40, height / 2, 80, height)
    info = info_from_camera(camera)
    info.p[3] = -80 * 0.5
    return info


def test_nan_and_negative_depth_is_unknown(graph):
    patient = depth_patient(graph)
    depth = np.full((48, 80), 12.5, np.float32)
    depth[:10], depth[10:20], depth[20:25] = np.nan, -3.0, np.inf
    graph.until(lambda: patient.counted.prior_used, with_depth(patient, depth))
    used = [f.depth_m for f in graph.predictor.frames if f.depth_m is not None][0]
    assert not used[:25].any() and (used[25:] == 12.5).all()
    patient.until_said('running', b'\0', with_depth(patient, np.full((48, 80), 9.0)))


@pytest.mark.parametrize('value', [np.nan, -1.0, 0.0])
def test_depth_without_one_good_pixel(graph, value):
    patient = depth_patient(graph)
    publish = with_depth(patient, np.full((48, 80), value, np.float32))
    patient.until_cloud(publish)
    patient.until_said('depth priors could not be used', WARN, publish)
    graph.until(lambda: 'depth prior: prior_empty' in patient.values, publish)
    used = patient.counted.prior_used
    good = with_depth(patient, np.full((48, 80), 9.0))
    graph.until(lambda: patient.counted.prior_used > used, good)
    patient.until_said('running', b'\0', good)


def test_the_right_image_stops_coming(graph):
    patient = stereo_patient(graph)
    graph.until(lambda: patient.counted.prior_used, with_right(patient))
    cloud = patient.until_cloud(patient.camera.publish)
    assert cloud.width == 2
    patient.until_said('depth priors could not be used', WARN, patient.camera.publish)
    assert 'depth prior: prior_late' in patient.values
    assert patient.counted.dropped == {}
    used = patient.counted.prior_used
    graph.until(lambda: patient.counted.prior_used > used, with_right(patient))


def test_the_right_image_has_another_size(graph):
    patient = stereo_patient(graph)
    publish = with_right(patient, height=40)
    patient.until_cloud(publish)
    patient.until_said('depth priors could not be used', WARN, publish)
    graph.until(lambda: 'depth prior: prior_size' in patient.values, publish)
    good = with_right(patient)
    graph.until(lambda: patient.counted.prior_used, good)
    patient.until_said('running', b'\0', good)


def test_the_right_camera_has_no_info(graph):
    patient = stereo_patient(graph)
    publish = with_right(patient, info=False)
    patient.until_cloud(publish)
    graph.until(lambda: 'depth prior: prior_no_camera_info' in patient.values, publish)
    graph.until(lambda: patient.counted.prior_used, with_right(patient))


def test_the_first_right_image_comes_before_its_info(graph):
    """Discovery takes its time: the pair waits, as long as any prior is waited for."""
    patient = Patient(graph, **{'prior.source': 'stereo', 'prior.wait_s': 1.0})
    patient.rights = graph.publisher(Image, 'right/image')
    patient.right_infos = graph.publisher(CameraInfo, 'right/camera_info')
    graph.until(lambda: patient.camera.matched() and patient.rights.get_subscription_count())
    graph.until(patient.right_infos.get_subscription_count)
    with_right(patient, info=False)()
    graph.until(lambda: graph.node._inputs._pairing.wait_s is not None)
    assert not graph.predictor.frames
    patient.right_infos.publish(right_info(48))
    graph.until(lambda: graph.predictor.frames)
    assert patient.counted.prior_used == 1 and not patient.counted.prior_failed


def test_missing_priors_leak_nothing(graph):
    patient = Patient(graph)  # auto: what is heard is waited for
    depths = graph.publisher(Image, 'depth')
    patient.depths = depths
    with nothing_leaks(patient):
        graph.until(lambda: patient.counted.prior_used, with_depth(patient, np.ones((48, 80))))
        graph.until(lambda: patient.counted.prior_failed.get('prior_late'), patient.camera.publish)
    assert graph.predictor.frames[-1].camera == CAMERA
