"""Images that cannot be used, among good ones."""

import array

import pytest

pytest.importorskip('rclpy')

from fixtures_faults import ERROR, WARN, Patient, nothing_leaks
from fixtures_ros import CAMERA
from rclpy.serialization import serialize_message

from cigocc_ros.ros import diagnostics
from cigocc_ros.ros.input import decoder
from cigocc_ros.ros.input.camera_info import info_from_camera


@pytest.fixture(autouse=True)
def reports_often(monkeypatch):
    monkeypatch.setattr(diagnostics, 'PERIOD_S', 0.2)


def spoiled(image, kind):
    """Return a good image made unusable."""
    if kind == 'unknown_encoding':
        image.encoding = 'holo9'
    elif kind == 'truncated_image':
        image.data = image.data[:100]
    elif kind == 'wrong_step':
        image.step = 80
    elif kind == 'empty_image':
        image.height = image.width = image.step = 0
        image.data = array.array('B')
    return image


@pytest.mark.parametrize(
    'reason', ['unknown_encoding', 'truncated_image', 'wrong_step', 'empty_image']
)
def test_bad_images_among_good_ones(graph, reason):
    patient = Patient(graph)
    turns = iter([False, True] * 1000)
    with nothing_leaks(patient):

        def publish():
            image = patient.camera.image()
            patient.camera.publish(spoiled(image, reason) if next(turns) else image)

        said = patient.until_said(reason, WARN, publish)
        assert said.message.startswith('frames dropped')
        patient.until_cloud(publish)
        patient.settled()
        assert set(patient.counted.dropped) == {reason}
        assert reason in patient.counted.last_error


def test_nothing_but_bad_images_is_an_error(graph):
    patient = Patient(graph)
    with nothing_leaks(patient):
        patient.settled()
        heard = len(patient.clouds)
        patient.until_said(
            'truncated_image',
            ERROR,
            lambda: patient.camera.publish(spoiled(patient.camera.image(), 'truncated_image')),
        )
        patient.settled()
        assert len(patient.clouds) == heard


def test_messages_that_end_in_the_middle(graph):
    """Truncated on the wire: DDS hands bytes over that are no whole Image."""
    patient = Patient(graph)
    with nothing_leaks(patient):
        whole = serialize_message(patient.camera.image())
        sent = []

        def publish():
            patient.camera.infos.publish(info_from_camera(CAMERA))
            patient.camera.images.publish(whole[: len(whole) // 2])
            sent.append(1)

        graph.until(lambda: len(sent) >= 5, publish)
        patient.until_cloud(patient.camera.publish)


def test_an_exception_that_no_check_foresaw_costs_one_frame(graph, monkeypatch):
    patient = Patient(graph)
    with nothing_leaks(patient):

        def broken(message):
            raise ZeroDivisionError('a bug of a decoder')

        with monkeypatch.context() as patch:
            patch.setattr(decoder, 'decode_rgb', broken)
            patient.until_said('decode_error', ERROR, patient.camera.publish)
        assert 'ZeroDivisionError: a bug of a decoder' in patient.counted.last_error
