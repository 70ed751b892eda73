"""The node follows what the manifest says of the training: the stereo matcher, the priors."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')

from fixtures_faults import OK, WARN, Patient
from fixtures_ros import EXTRINSICS
from sensor_msgs.msg import CameraInfo, Image

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.ros import diagnostics
from cigocc_ros.ros.input.camera_info import info_from_camera
from cigocc_ros.ros.occ_parameters import OccParameters
from cigocc_ros.ros.players.kitti_messages import image_from_rgb

FOCAL_BASELINE, DISPARITY_PX, OFFSET_PX = 40.0, 8, 2.0
TRAINED = {'train': {'stereo_width_px': 1280, 'stereo_offset_px': OFFSET_PX}}
TEXTURE = cv2.GaussianBlur(
    np.random.default_rng(3).integers(0, 256, (48, 120, 3), np.uint8), (0, 0), 1.2
)


def publish_pair(patient):
    """Publish a wall, DISPARITY_PX nearer in the right image."""
    patient.camera.image()  # the next stamp
    left = image_from_rgb(TEXTURE[:, :80].copy())
    patient.camera.publish(patient.camera.stamped(left))
    info = info_from_camera(CameraModel.from_intrinsics(80, 80, 40, 24, 80, 48))
    info.p[3] = -FOCAL_BASELINE
    patient.right_infos.publish(patient.camera.stamped(info))
    right = image_from_rgb(TEXTURE[:, DISPARITY_PX : 80 + DISPARITY_PX].copy())
    patient.rights.publish(patient.camera.stamped(right))


@pytest.mark.parametrize(
    ('parameters', 'offset_px'),
    [({}, OFFSET_PX), ({'prior.stereo_width_px': 640}, 0.0)],
    ids=['as trained', 'as asked for'],
)
def test_stereo_is_matched_as_the_model_was_trained(graph, parameters, offset_px):
    graph.predictor.manifest = replace(graph.predictor.manifest, training=TRAINED)
    patient = Patient(graph, **{'prior.source': 'stereo', 'prior.wait_s': 0.05, **parameters})
    patient.rights = graph.publisher(Image, 'right/image')
    patient.right_infos = graph.publisher(CameraInfo, 'right/camera_info')

    def used():
        return [f.depth_m for f in graph.predictor.frames if f.depth_m is not None]

    graph.until(used, lambda: publish_pair(patient))
    depth = used()[0][:, 20:]
    expected = FOCAL_BASELINE / (DISPARITY_PX + offset_px)
    assert np.median(depth[depth > 0]) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        ({}, (1280, OFFSET_PX)),
        ({'prior_stereo_width_px': 640}, (640, 0.0)),
        ({'prior_stereo_width_px': 320, 'prior_stereo_offset_px': 0.5}, (320, 0.5)),
    ],
)
def test_width_and_offset_are_of_one_matcher(given, expected):
    config = OccParameters(**given).stereo(TRAINED)
    assert (config.max_width_px, config.disparity_offset_px) == expected


def test_an_offset_alone_is_refused_at_start(graph):
    graph.predictor.manifest = replace(graph.predictor.manifest, training=TRAINED)
    with pytest.raises(ConfigError, match=r'set prior\.stereo_width_px too, e\.g\. 1280'):
        graph.start(**EXTRINSICS, **{'prior.stereo_offset_px': 0.5})


def test_a_model_that_never_saw_a_frame_without_depth_says_so(graph, monkeypatch):
    monkeypatch.setattr(diagnostics, 'PERIOD_S', 0.2)
    augment = {'prior_none': 0.0, 'prior_stereo': 1.0}
    training = {'train': {'augment': augment}}
    graph.predictor.manifest = replace(graph.predictor.manifest, training=training)
    patient = Patient(graph)
    patient.until_said('with a depth prior in every image', WARN, patient.camera.publish)
    assert 'doubt: untrained_inputs' in patient.values
    graph.predictor.manifest.training.clear()
    monkeypatch.setattr('cigocc_ros.ros.counters.DOUBT_S', 0.5)
    patient.until_said('running', OK, patient.camera.publish)
