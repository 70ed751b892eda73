"""Inputs that are not what they seem, and topics that are published in another way."""

import struct

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')

from fixtures_faults import ERROR, OK, WARN, Patient
from fixtures_ros import CAMERA, EXTRINSICS, Camera
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.ros import diagnostics
from cigocc_ros.ros.input import pairing, subscriptions
from cigocc_ros.ros.input.camera_info import info_from_camera
from cigocc_ros.ros.players.kitti_messages import image_from_depth, image_from_rgb

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TEXTURE = cv2.GaussianBlur(
    np.random.default_rng(3).integers(0, 256, (48, 200, 3), np.uint8), (0, 0), 1.2
)
FOCAL_PX, BASELINE_M, FAR_M = 80.0, 0.5, 4.0


@pytest.fixture(autouse=True)
def reports_often(monkeypatch):
    monkeypatch.setattr(diagnostics, 'PERIOD_S', 0.2)
    monkeypatch.setattr(subscriptions, 'LOOK_S', 0.1)


def test_camera_info_that_was_published_once_before_the_node_started(graph):
    infos = graph.publisher(CameraInfo, 'camera_info', LATCHED)
    infos.publish(info_from_camera(CAMERA))
    patient = Patient(graph)
    graph.observer.destroy_publisher(patient.camera.infos)  # another camera's, of the helper
    patient.until_cloud(lambda: patient.camera.images.publish(patient.camera.image()))
    patient.until_said(
        'running', OK, lambda: patient.camera.images.publish(patient.camera.image())
    )


def test_a_latched_camera_info_that_gives_way_to_a_usual_one(graph):
    infos = graph.publisher(CameraInfo, 'camera_info', LATCHED)
    infos.publish(info_from_camera(CAMERA))
    node = graph.start(**EXTRINSICS)
    images = graph.publisher(Image, 'image')
    graph.until(lambda: node._inputs.info.age_s is not None)
    graph.observer.destroy_publisher(infos)
    camera = Camera(graph)
    graph.observer.destroy_publisher(images)
    changed = CameraModel.from_intrinsics(90, 90, 40, 24, 80, 48)
    graph.until(
        lambda: graph.predictor.frames and graph.predictor.frames[-1].camera == changed,
        lambda: camera.publish(info=info_from_camera(changed)),
    )


def test_the_first_image_is_not_lost_where_its_camera_info_comes_after_it(graph, monkeypatch):
    monkeypatch.setattr(pairing, 'INFO_WAIT_S', 1.0)
    patient = Patient(graph)
    graph.until(patient.camera.matched)
    image = patient.camera.image()
    patient.camera.images.publish(image)
    graph.until(lambda: patient.graph.node._inputs._pairing.wait_s is not None)
    patient.camera.infos.publish(patient.camera.stamped(info_from_camera(CAMERA)))
    graph.until(lambda: graph.predictor.frames)
    patient.settled()
    assert patient.counted.processed == 1 and patient.counted.dropped == {}


def test_a_fault_is_remembered_between_the_images_of_a_slow_camera(graph, monkeypatch):
    """An image every 1.7 s without camera_info: the reports between them say so too."""
    monkeypatch.setattr(diagnostics, 'SILENCE_S', 60.0)  # as slow as that: never silent
    patient = Patient(graph)
    patient.until_said(
        'no_camera_info', ERROR, lambda: patient.camera.images.publish(patient.camera.image())
    )
    patient.settled()
    already = len(patient.reports)
    graph.until(lambda: len(patient.reports) >= already + 6)
    assert {report.level for report in patient.reports[already + 1 :]} == {ERROR}
    patient.until_cloud(patient.camera.publish)
    patient.until_said('running', OK, patient.camera.publish)


def depth_patient(graph, **parameters):
    patient = Patient(graph, **{'prior.source': 'depth', 'prior.wait_s': 0.05, **parameters})
    patient.depths = graph.publisher(Image, 'depth')
    return patient


def publish_depth(patient, depth=None, frame=None):
    patient.camera.publish()
    plain = np.full((48, 80), FAR_M, np.float32)
    message = patient.camera.stamped(image_from_depth(plain if depth is None else depth))
    message.header.frame_id = frame or message.header.frame_id
    patient.depths.publish(message)


def used_depth(graph):
    return [f.depth_m for f in graph.predictor.frames if f.depth_m is not None]


@pytest.mark.parametrize('frame', ['camera_depth_optical', 'camera', ' camera_optical'])
def test_depth_of_another_camera_is_not_used(graph, frame):
    patient = depth_patient(graph)
    graph.until(
        lambda: patient.counted.prior_failed.get('prior_frame'),
        lambda: publish_depth(patient, frame=frame),
    )
    patient.until_said(
        'depth priors could not be used', WARN, lambda: publish_depth(patient, frame=frame)
    )
    assert not used_depth(graph)
    graph.until(lambda: used_depth(graph), lambda: publish_depth(patient))


def test_depth_in_millimetres_of_32_bits_is_not_used(graph):
    patient = depth_patient(graph)
    millimetres = np.linspace(2000, 9000, 48 * 80, dtype=np.float32).reshape(48, 80)
    graph.until(
        lambda: patient.counted.prior_failed.get('prior_units'),
        lambda: publish_depth(patient, millimetres),
    )
    assert not used_depth(graph)


def test_a_far_plane_is_unknown_and_said(graph):
    patient = depth_patient(graph)
    depth = np.full((48, 80), FAR_M, np.float32)
    depth[:20] = 1000.0
    patient.until_said('the end of the range', WARN, lambda: publish_depth(patient, depth))
    assert not used_depth(graph)[-1][:20].any() and (used_depth(graph)[-1][20:] == FAR_M).all()
    assert 'doubt: depth_far_plane' in patient.values


@pytest.mark.parametrize(
    ('camera', 'used'),
    [
        (CAMERA, True),
        (CameraModel.from_intrinsics(40, 40, 19.5, 11.5, 40, 24), True),  # of half the size
        (CameraModel.from_intrinsics(70, 70, 40, 24, 80, 48), False),
        (CameraModel.from_intrinsics(80, 80, 44, 24, 80, 48), False),
    ],
)
def test_depth_is_compared_by_its_own_camera_info(graph, camera, used):
    patient = depth_patient(graph)
    infos = graph.publisher(CameraInfo, 'depth/camera_info')
    graph.until(infos.get_subscription_count)

    def publish():
        infos.publish(patient.camera.stamped(info_from_camera(camera)))
        publish_depth(patient, np.full((camera.height, camera.width), FAR_M, np.float32))

    graph.until(lambda: graph.node._inputs.others['depth/camera_info'].age_s is not None, publish)
    before = patient.counted.prior_used
    if used:
        graph.until(lambda: patient.counted.prior_used > before, publish)
        assert not patient.counted.prior_failed
    else:
        graph.until(lambda: patient.counted.prior_failed.get('prior_calibration'), publish)


def test_camera_info_of_depth_is_looked_for_beside_a_remapped_depth(graph):
    patient = Patient(graph, 'depth:=/camera/aligned/image_raw')
    topic = patient.graph.node._inputs.others['depth/camera_info'].topic
    assert topic == '/camera/aligned/camera_info'


def test_compressed_depth_is_taken_where_only_that_is_published(graph):
    patient = Patient(graph, **{'prior.source': 'depth', 'prior.wait_s': 0.05})
    depths = graph.publisher(CompressedImage, 'depth/compressedDepth')
    png = cv2.imencode('.png', np.full((48, 80), 4000, np.uint16))[1].tobytes()
    data = struct.pack('<iff', 0, 0.0, 0.0) + png

    def publish():
        patient.camera.publish()
        message = CompressedImage(format='16UC1; compressedDepth png', data=data)
        depths.publish(patient.camera.stamped(message))

    graph.until(lambda: used_depth(graph), publish)
    np.testing.assert_allclose(used_depth(graph)[-1], FAR_M)


def test_a_compressed_right_image_is_taken_where_only_that_is_published(graph):
    patient = Patient(graph, **{'prior.source': 'stereo', 'prior.wait_s': 0.05})
    rights = graph.publisher(CompressedImage, 'right/image/compressed')
    infos = graph.publisher(CameraInfo, 'right/camera_info')
    png = cv2.imencode('.png', TEXTURE[:, :80])[1].tobytes()

    def publish():
        patient.camera.publish()
        infos.publish(patient.camera.stamped(right_info(40.0)))
        rights.publish(patient.camera.stamped(CompressedImage(format='png', data=png)))

    graph.until(lambda: patient.counted.prior_used, publish)


def right_info(cx, **changes):
    numbers = {'fx': FOCAL_PX, 'fy': FOCAL_PX, 'cx': cx, 'cy': 24.0, **changes}
    info = info_from_camera(CameraModel.from_intrinsics(**numbers, width=80, height=48))
    info.p[3] = -FOCAL_PX * BASELINE_M
    return info


def stereo_publisher(graph, patient, cx, **changes):
    """Return what publishes a wall at FAR_M, seen by a pair of these principal points."""
    rights = graph.publisher(Image, 'right/image')
    infos = graph.publisher(CameraInfo, 'right/camera_info')
    disparity = round(FOCAL_PX * BASELINE_M / FAR_M + 40 - cx)

    def publish():
        left = image_from_rgb(TEXTURE[:, 60:140].copy())
        patient.camera.image()  # the next stamp
        patient.camera.publish(patient.camera.stamped(left))
        infos.publish(patient.camera.stamped(right_info(cx, **changes)))
        right = image_from_rgb(TEXTURE[:, 60 + disparity : 140 + disparity].copy())
        rights.publish(patient.camera.stamped(right))

    return publish


@pytest.mark.parametrize('cx', [40.0, 32.0, 45.0])
def test_a_wall_stands_where_it_is_whatever_the_principal_points(graph, cx):
    patient = Patient(graph, **{'prior.source': 'stereo', 'prior.wait_s': 0.05})
    publish = stereo_publisher(graph, patient, cx)
    graph.until(lambda: len(used_depth(graph)) > 1, publish)
    depth = used_depth(graph)[-1]
    assert np.median(depth[depth > 0]) == pytest.approx(FAR_M, rel=0.05)
    patient.until_said('running', OK, publish)


@pytest.mark.parametrize('changes', [{'fx': 85.0, 'fy': 85.0}, {'cy': 27.0}])
def test_what_is_no_rectified_pair_is_not_matched(graph, changes):
    patient = Patient(graph, **{'prior.source': 'stereo', 'prior.wait_s': 0.05})
    publish = stereo_publisher(graph, patient, 40.0, **changes)
    graph.until(lambda: patient.counted.prior_failed.get('prior_calibration'), publish)
    assert 'one rectification' in patient.counted.last_error
    assert not used_depth(graph)


def test_the_right_camera_alone_stands_where_its_frame_is(graph):
    """Its own frame in tf has the baseline already: P[0,3] is not added, and it is said."""
    patient = Patient(graph)
    patient.until_said(
        'camera of a pair', WARN, lambda: patient.camera.publish(info=right_info(40.0))
    )
    (camera,) = {frame.camera for frame in graph.predictor.frames}
    assert camera == CAMERA
    patient.until_cloud(patient.camera.publish)


def test_a_doubt_is_forgotten_when_its_cause_has_gone(graph, monkeypatch):
    monkeypatch.setattr('cigocc_ros.ros.counters.DOUBT_S', 0.5)
    patient = Patient(graph)
    other = info_from_camera(CAMERA)

    def publish():
        patient.camera.publish(info=other)

    def with_other_frame():
        image = patient.camera.image()
        info = patient.camera.stamped(info_from_camera(CAMERA))
        info.header.frame_id = 'another_camera'
        patient.camera.infos.publish(info)
        patient.camera.images.publish(image)

    patient.until_said("camera_info of 'another_camera'", WARN, with_other_frame)
    patient.until_said('running', OK, publish)


@pytest.mark.parametrize('damage', ['cut', 'closed', 'hole'])
def test_jpeg_that_is_not_whole_is_dropped(graph, damage):
    patient = Patient(graph, image_transport='compressed')
    images = graph.publisher(CompressedImage, 'image/compressed')
    whole = cv2.imencode('.jpg', TEXTURE[:, :80])[1].tobytes()
    half = len(whole) * 2 // 3
    broken = {
        'cut': whole[:half],
        'closed': whole[:half] + b'\xff\xd9',
        'hole': whole[:half] + bytes(64) + whole[half + 64 :],
    }[damage]

    def publish(data):
        image = patient.camera.stamped(CompressedImage(format='jpeg', data=data))
        patient.camera.image()
        patient.camera.infos.publish(patient.camera.stamped(info_from_camera(CAMERA)))
        images.publish(image)

    graph.until(
        lambda: patient.counted.dropped.get('broken_compressed_image'), lambda: publish(broken)
    )
    assert patient.counted.processed == 0
    patient.until_cloud(lambda: publish(whole))
