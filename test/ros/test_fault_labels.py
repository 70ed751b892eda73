"""Label images that are wrong, missing or late: the frame goes without, and is counted."""

import numpy as np
import pytest

pytest.importorskip('rclpy')

from fixtures_faults import OK, WARN, Patient, nothing_leaks
from fixtures_ros import EXTRINSICS, fake_manifest
from sensor_msgs.msg import Image

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.labels import CLASS_NAMES
from cigocc_ros.ros import diagnostics
from cigocc_ros.ros.input import subscriptions
from cigocc_ros.ros.players.kitti_messages import image_from_rgb

CITYSCAPES_ROAD, CITYSCAPES_CAR, ADE20K_SEA = 0, 13, 26
ROAD, CAR = CLASS_NAMES.index('road'), CLASS_NAMES.index('car')


@pytest.fixture(autouse=True)
def reports_often(monkeypatch):
    monkeypatch.setattr(diagnostics, 'PERIOD_S', 0.2)


def label_patient(graph, *remappings, wait_s=0.05, **parameters):
    graph.predictor.manifest = fake_manifest(semantic_prior=True)
    chosen = {'semantic_classes': 'cityscapes', 'semantic_prior.wait_s': wait_s, **parameters}
    patient = Patient(graph, *remappings, **chosen)
    patient.labels = graph.publisher(Image, 'semantic_prior')
    return patient


def street(height=48, width=80):
    """Return label ids of a road below cars."""
    ids = np.full((height, width), CITYSCAPES_CAR, np.uint8)
    ids[height // 2 :] = CITYSCAPES_ROAD
    return ids


def label_message(ids):
    height, width = ids.shape
    message = Image(height=height, width=width, encoding='mono8', step=width)
    message.data = ids.tobytes()
    return message


def with_labels(patient, message=None, frame=None):
    """Return what publishes an image and the label image of it."""

    def publish():
        patient.camera.publish()
        sent = patient.camera.stamped(label_message(street()) if message is None else message)
        sent.header.frame_id = sent.header.frame_id if frame is None else frame
        patient.labels.publish(sent)

    return publish


def used(graph):
    return [f.classes for f in graph.predictor.frames if f.classes is not None]


def test_classes_from_outside_reach_the_network(graph):
    patient = label_patient(graph)
    publish = with_labels(patient)
    graph.until(lambda: used(graph), publish)
    classes = used(graph)[0]
    assert (classes[:24] == CAR).all() and (classes[24:] == ROAD).all()
    patient.until_said('running', OK, publish)
    assert patient.values['semantic prior topic'] == '/semantic_prior'
    assert float(patient.values['label pixels with a class median [%]']) == 100.0
    assert patient.counted.prior_failed == {} and patient.counted.dropped == {}


def test_label_images_that_stop_coming(graph):
    patient = label_patient(graph)
    with nothing_leaks_with(patient):
        graph.until(lambda: patient.counted.semantic_used, with_labels(patient))
        cloud = patient.until_cloud(patient.camera.publish)
        assert cloud.width == 2
        patient.until_said('semantic priors could not be used', WARN, patient.camera.publish)
        assert 'semantic prior: semantic_late' in patient.values
        assert patient.counted.dropped == {}
        before = patient.counted.semantic_used
        graph.until(lambda: patient.counted.semantic_used > before, with_labels(patient))


def nothing_leaks_with(patient):
    patient.until_well = lambda: patient.until_said('running', OK, with_labels(patient))
    return nothing_leaks(patient)


def test_labels_that_come_after_newer_images_belong_to_their_own(graph):
    """A segmentation network takes longer than a camera for its next image."""
    patient = label_patient(graph, wait_s=1.0)
    graph.until(lambda: patient.camera.matched() and patient.labels.get_subscription_count())
    sent = [patient.camera.publish() for _ in range(3)]
    graph.until(lambda: len(graph.node._inputs._pairing._waiting) == 3)
    labels = label_message(street())
    labels.header = sent[1].header
    patient.labels.publish(labels)
    graph.until(lambda: graph.predictor.frames)
    (frame,) = graph.predictor.frames
    assert frame.classes is not None
    stamp = sent[1].header.stamp
    assert frame.stamp_ns == stamp.sec * 1_000_000_000 + stamp.nanosec
    graph.until(lambda: patient.counted.processed == 2)  # the newest goes without, at last
    assert patient.counted.semantic_failed == {'semantic_late': 1}
    assert (patient.counted.frames_in, patient.counted.replaced) == (3, 1)


@pytest.mark.parametrize(
    ('message', 'frame', 'reason'),
    [
        (image_from_rgb(np.zeros((48, 80, 3), np.uint8)), None, 'semantic_colour'),
        (label_message(street(60, 80)), None, 'semantic_size'),
        (label_message(street()), 'camera_right', 'semantic_frame'),
        (label_message(np.full((48, 80), 200, np.uint8)), None, 'semantic_ids'),
        (label_message(np.full((48, 80), 10, np.uint8)), None, 'semantic_empty'),
        (
            Image(height=48, width=80, encoding='mono8', step=80, data=b'1'),
            None,
            'truncated_image',
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_label_images_that_cannot_be_right_are_not_used(graph, message, frame, reason):
    patient = label_patient(graph)
    publish = with_labels(patient, message, frame)
    graph.until(lambda: patient.counted.semantic_failed.get(reason), publish)
    patient.until_said('semantic priors could not be used', WARN, publish)
    assert not used(graph) and patient.counted.processed
    graph.until(lambda: used(graph), with_labels(patient))


def test_ids_of_another_set_are_unknown_and_said(graph):
    patient = label_patient(graph)
    ids = street()
    ids[:12] = ADE20K_SEA
    publish = with_labels(patient, label_message(ids))
    patient.until_said(
        '25 % of the label pixels have ids that cityscapes does not have', WARN, publish
    )
    assert not used(graph)[-1][:12].any() and (used(graph)[-1][12:24] == CAR).all()
    assert 'doubt: semantic_ids' in patient.values
    graph.until(
        lambda: patient.values['label pixels of no id of the set median [%]'] == '25.0', publish
    )


def test_label_images_of_another_size_show_the_same_view(graph):
    patient = label_patient(graph)
    graph.until(lambda: used(graph), with_labels(patient, label_message(street(96, 160))))
    classes = used(graph)[0]
    assert classes.shape == (96, 160) and (classes[48:] == ROAD).all()


def test_a_model_without_the_input_refuses_the_topic_at_start(graph):
    with pytest.raises(ConfigError, match='model fake takes no classes from outside') as found:
        graph.start(**EXTRINSICS, semantic_classes='cityscapes')
    assert 'leave it empty, or give a model' in str(found.value)


def test_label_images_whose_ids_nobody_explained_are_not_used_and_said(graph, monkeypatch):
    monkeypatch.setattr(subscriptions, 'LOOK_S', 0.1)
    graph.predictor.manifest = fake_manifest(semantic_prior=True)
    patient = Patient(graph, 'semantic_prior:=/seg/labels')
    patient.labels = graph.publisher(Image, '/seg/labels')
    publish = with_labels(patient)
    patient.until_said('/seg/labels is published but not used', WARN, publish)
    assert 'doubt: semantic_classes' in patient.values and not used(graph)


@pytest.mark.parametrize('name', ['coco', 'gone.yaml'])
def test_a_set_that_is_not_known_is_refused_at_start(graph, name):
    with pytest.raises(ConfigError, match=f'parameter semantic_classes: .*{name}'):
        graph.start(**EXTRINSICS, semantic_classes=name)


def test_a_model_with_the_input_lives_without_the_topic(graph):
    graph.predictor.manifest = fake_manifest(semantic_prior=True)
    patient = Patient(graph)
    patient.until_well()
    assert not used(graph) and 'semantic priors used' not in patient.values
