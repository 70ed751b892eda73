"""What the live checks say of things that are seen, without a graph."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('rclpy')

from fixtures_ros import CAMERA, FORWARD_XYZW
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from cigocc_ros.core.rotation import rigid_transform
from cigocc_ros.doctor.camera_checks import (
    check_calibration,
    check_camera,
    check_doubts,
    check_pose,
    check_sizes,
    check_stamp,
    check_stream,
    check_together,
)
from cigocc_ros.doctor.finding import FAIL, OK, WARN
from cigocc_ros.doctor.graph_checks import (
    check_input,
    check_node,
    check_optional,
    check_reliability,
    check_report,
)
from cigocc_ros.doctor.observation import (
    COMPRESSED_TYPE,
    IMAGE_TYPE,
    INFO_TYPE,
    Endpoint,
    Heard,
    Observation,
    Pose,
    Report,
    TopicView,
)
from cigocc_ros.ros.input.camera_info import info_from_camera
from cigocc_ros.ros.players.kitti_messages import image_from_rgb
from cigocc_ros.ros.stamps import stamp_from_ns

NOW_NS = 1_700_000_000_000_000_000
RELIABLE = QoSProfile(depth=1)
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def heard(message, count=20, rate_hz=10.0, frame='cam', stamp_ns=NOW_NS):
    message.header.frame_id, message.header.stamp = frame, stamp_from_ns(stamp_ns)
    return Heard(message, count, 0.0, (count - 1) / rate_hz)


def image(width=80, height=48):
    return image_from_rgb(np.zeros((height, width, 3), np.uint8))


def observed(**changes):
    plain = Observation(
        wanted='occ',
        node='/occ',
        report=Report(0, 'running'),
        image=TopicView('/image', (Endpoint('/cam', IMAGE_TYPE, RELIABLE),)),
        info=TopicView('/camera_info', (Endpoint('/cam', INFO_TYPE, RELIABLE),)),
        output_frame='velo_link',
        rectification='auto',
        duration_s=2.0,
        images=heard(image()),
        infos=heard(info_from_camera(CAMERA)),
        now_ns=NOW_NS,
    )
    return replace(plain, **changes)


def statuses(findings):
    return {finding.check: finding.status for finding in findings}


def test_streams():
    view = TopicView('/image')
    assert check_stream(view, Heard(image(), 30, 1.0, 3.9), 3.0).found == '30 in 3 s, 10.0 Hz'
    silent = check_stream(view, Heard(), 3.0)
    assert silent.status == FAIL and 'ros2 topic hz /image' in silent.fix


def test_sizes_that_fit_are_rescaled_or_cannot_be_used():
    seen, info = observed(), info_from_camera(CAMERA)
    assert check_sizes(seen, info, (80, 48)).status == OK
    assert check_sizes(seen, info, (160, 96)).status == WARN
    assert check_sizes(seen, info, (80, 80)).status == FAIL
    info.distortion_model, info.d = 'of my own', [0.1] * 5
    assert 'of my own' in check_sizes(seen, info, (80, 48)).found


def test_what_is_used_though_it_may_be_wrong_is_told():
    info = info_from_camera(CAMERA)
    assert not list(check_doubts(observed(), info, (80, 48)))
    info.p[3] = -40.0
    (offset,) = check_doubts(observed(), info, (80, 48))
    assert offset.status == WARN and 'camera of a pair' in offset.found
    info = info_from_camera(CAMERA)
    info.d = [0.1, 0.0, 0.0, 0.0, 0.0]
    by_name = observed(image=TopicView('/cam/image_rect/compressed'))
    (doubt,) = check_doubts(by_name, info, (80, 48))
    assert doubt.status == WARN and 'against its camera_info' in doubt.found
    assert not list(check_doubts(observed(image=TopicView('/cam/image_unrect')), info, (80, 48)))
    fisheye = info_from_camera(CAMERA)
    fisheye.distortion_model = 'thin_prism_fisheye'
    assert check_sizes(observed(), fisheye, (80, 48)).status == FAIL
    assert not list(check_doubts(observed(), fisheye, (80, 48)))


def test_doubts_and_unused_depth_of_the_node_are_findings():
    values = {
        'doubt: depth_far_plane': '30 % of the depth pixels carry exactly 10 m',
        'depth prior: prior_frame': '7',
        'last error': "prior, prior_frame: depth is of frame 'depth', the image of 'color'",
    }
    state, doubt, prior = check_report(observed(report=Report(1, 'running, but', values)))
    assert {state.status, doubt.status, prior.status} == {WARN}
    assert 'exactly 10 m' in doubt.found
    assert '7 not used, prior_frame' in prior.found and "'color'" in prior.found
    assert prior.fix == doubt.fix == 'docs/trust.md'


def test_unused_label_images_of_the_node_are_findings():
    values = {
        'semantic prior: semantic_colour': '5',
        'last error': 'semantic prior, semantic_colour: label images of encoding rgb8',
    }
    _, prior = check_report(observed(report=Report(1, 'running, but', values)))
    assert (prior.status, prior.check) == (WARN, 'semantic prior')
    assert '5 not used, semantic_colour' in prior.found and 'encoding rgb8' in prior.found


def test_an_optional_topic_of_another_type_is_named():
    mine = Endpoint('/occ', IMAGE_TYPE, RELIABLE)
    for kind, expected in ((IMAGE_TYPE, [OK]), (COMPRESSED_TYPE, [OK, FAIL])):
        view = TopicView('/labels', (Endpoint('/seg', kind, RELIABLE),), (mine,))
        findings = list(check_optional(observed(node='/occ', optional_inputs=(view,))))
        assert [finding.status for finding in findings] == expected
    assert f'published as {COMPRESSED_TYPE}: nothing arrives' in findings[1].found


def test_a_camera_info_that_is_published_once_is_no_fault_where_it_is_kept():
    kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    latched = TopicView('/camera_info', (Endpoint('/cam', INFO_TYPE, kept),))
    once = observed(info=latched, infos=heard(info_from_camera(CAMERA), count=1))
    assert statuses(check_together(once))['rates'] == OK
    forgotten = replace(once, info=observed().info)
    assert statuses(check_together(forgotten))['rates'] == WARN


def test_depth_that_is_only_compressed_is_named():
    view = TopicView('/depth')
    seen = observed(optional_inputs=(view,), all_topics={'/depth/compressedDepth': ()})
    (finding,) = check_optional(seen)
    assert finding.found == 'not published, but /depth/compressedDepth is; optional'


def test_an_image_that_cannot_be_decoded():
    odd = Image(width=80, height=48, encoding='of_my_own', step=80, data=bytes(80 * 48))
    assert statuses(check_camera(observed(images=heard(odd))))['image'] == FAIL
    assert set(statuses(check_camera(observed())).values()) == {OK}


def test_rates_and_frames():
    info = info_from_camera(CAMERA)
    assert statuses(check_together(observed())) == {'rates': OK, 'frame_id': OK}
    slow = observed(infos=heard(info, rate_hz=1.0, frame='other'))
    assert statuses(check_together(slow)) == {'rates': WARN, 'frame_id': WARN}
    latched = observed(infos=heard(info, count=1), images=heard(image(), frame=''))
    assert statuses(check_together(latched)) == {'rates': WARN, 'frame_id': FAIL}


def test_stamps():
    assert check_stamp(observed()).status == OK
    for stamp_ns, found in ((0, '0'), (NOW_NS - 60 * 10**9, '60.0 s old')):
        finding = check_stamp(observed(images=heard(image(), stamp_ns=stamp_ns)))
        assert finding.status == WARN and finding.found == found


def test_an_uncalibrated_camera():
    info = info_from_camera(CAMERA)
    info.k, info.p = [0.0] * 9, [0.0] * 12
    assert [f.status for f in check_calibration(info)] == [FAIL]


@pytest.mark.parametrize(
    ('row', 'column', 'value', 'wrong'),
    [(0, 0, 4000.0, 'field of view'), (1, 1, 30.0, 'fx near fy'), (0, 2, 2.0, 'principal point')],
)
def test_implausible_calibrations(row, column, value, wrong):
    info = info_from_camera(CAMERA)
    assert [f.status for f in check_calibration(info)] == [OK]
    info.p[4 * row + column] = value
    (finding,) = check_calibration(info)
    assert finding.status == WARN and wrong in finding.expected


@pytest.mark.parametrize(
    ('position', 'rotation', 'status', 'words'),
    [
        ([0.27, 0, -0.08], FORWARD_XYZW, OK, 'looks along (1.00, 0.00, 0.00)'),
        ([0.27, 0, -0.08], [0, 0, 0, 1], WARN, 'optical frame'),
        ([0.27, 0, -0.08], [-0.7071, 0, 0.7071, 0], WARN, 'optical frame'),
        ([0.27, 0, 1.65], FORWARD_XYZW, WARN, 'above the road'),
    ],
)
def test_poses(position, rotation, status, words):
    """A body frame instead of the optical one, a camera on its side, a grid frame on the road."""
    pose = Pose('tf', np.linalg.inv(rigid_transform(position, rotation)))
    finding = check_pose(observed(pose=pose))
    assert finding.status == status, str(finding)
    assert words in str(finding)


def test_a_pose_that_is_not_known():
    finding = check_pose(observed(pose=Pose('tf', None, 'no transform velo_link <- cam')))
    assert finding.status == FAIL and 'static_transform_publisher' in finding.fix
    # a frame has one parent, and that of a driver's camera is taken
    assert '--child-frame-id ROOT' in finding.fix and 'docs/cameras.md' in finding.fix
    silent = check_pose(observed(images=Heard(), pose=Pose('tf', None, 'no frame_id')))
    assert silent.status == FAIL and 'image topic first' in silent.fix


def test_an_image_topic_of_another_type_or_with_two_publishers():
    compressed = TopicView('/image', (Endpoint('/cam', COMPRESSED_TYPE, RELIABLE),))
    (wrong,) = check_input(compressed, (IMAGE_TYPE,), observed())
    assert wrong.status == FAIL and 'image_transport:=compressed' in wrong.fix
    twice = replace(compressed, publishers=observed().image.publishers * 2)
    assert [f.status for f in check_input(twice, (IMAGE_TYPE,), observed())] == [OK, WARN]


def test_large_best_effort_images():
    view = TopicView('/image', (Endpoint('/cam', IMAGE_TYPE, BEST_EFFORT),))
    (finding,) = check_reliability(view, 1_350_000, 549_408)
    assert finding.status == WARN and '1.4 MB as BEST_EFFORT' in finding.found
    assert not check_reliability(view, 100_000, 549_408)
    assert not check_reliability(observed().image, 1_350_000, 549_408)


def test_several_nodes_of_one_name():
    assert check_node(observed()).status == OK
    several = check_node(observed(node='/left/occ', namesakes=('/right/occ',)))
    assert several.status == WARN and several.fix == 'cigocc doctor --node /left/occ'
    assert check_node(observed(node='')).status == WARN


def test_what_the_node_says_itself():
    assert [f.status for f in check_report(observed())] == [OK]
    assert not check_report(observed(node=''))
    for level, status in ((None, WARN), (1, WARN), (2, FAIL)):
        report = Report(level, 'frames dropped', {'last error': 'wrong_step: 3'})
        (finding,) = check_report(observed(report=report))
        assert finding.status == status
