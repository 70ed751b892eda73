"""CameraInfo that is late, wrong, changing, or missing."""

import pytest

pytest.importorskip('rclpy')

from fixtures_faults import ERROR, OK, WARN, Patient, nothing_leaks
from fixtures_ros import CAMERA

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.ros import diagnostics
from cigocc_ros.ros.input.camera_info import info_from_camera


@pytest.fixture(autouse=True)
def reports_often(monkeypatch):
    monkeypatch.setattr(diagnostics, 'PERIOD_S', 0.2)


def test_camera_info_never_comes_and_then_late(graph):
    patient = Patient(graph)

    def image_alone():
        patient.camera.images.publish(patient.camera.image())

    said = patient.until_said('no_camera_info', ERROR, image_alone)
    assert 'frames dropped' in said.message
    graph.until(lambda: patient.counted.dropped['no_camera_info'] > 5, image_alone)
    assert not patient.clouds and not graph.predictor.frames
    assert patient.values['camera_info age [s]'] == 'never'
    patient.until_well()  # it comes late
    before = patient.counted.dropped['no_camera_info']
    # images go on without it: the last one holds, and diagnostics show how old it is
    patient.until_cloud(image_alone)
    assert patient.counted.dropped['no_camera_info'] == before


def test_camera_info_changes_to_another_shape_and_back(graph):
    patient = Patient(graph)
    other = info_from_camera(CameraModel.from_intrinsics(80, 80, 40, 40, 80, 80))
    with nothing_leaks(patient):
        patient.settled()
        heard = len(patient.clouds)
        said = patient.until_said(
            'camera_info_size', ERROR, lambda: patient.camera.publish(info=other)
        )
        assert 'frames dropped' in said.message
        patient.settled()
        assert len(patient.clouds) == heard  # never a guess
        assert '80x48 but camera_info is of 80x80' in patient.counted.last_error


def test_camera_info_changes_to_half_the_size(graph):
    """The same camera at another resolution: the intrinsics follow the image."""
    patient = Patient(graph)
    half = info_from_camera(CAMERA.rescale(40, 24))
    with nothing_leaks(patient):
        patient.until_cloud(lambda: patient.camera.publish(info=half))
        patient.until_said('running', OK, lambda: patient.camera.publish(info=half))
        seen = graph.predictor.frames[-1].camera
        assert (seen.width, seen.height) == (80, 48)
        assert seen.intrinsics[0, 0] == pytest.approx(CAMERA.intrinsics[0, 0])


def test_camera_info_changes_k(graph):
    """A zoom, or a new calibration: used from its first frame on."""
    patient = Patient(graph)
    zoomed = CameraModel.from_intrinsics(120, 120, 38, 22, 80, 48)
    with nothing_leaks(patient):
        patient.until_cloud(lambda: patient.camera.publish(info=info_from_camera(zoomed)))
        graph.until(
            lambda: graph.predictor.frames[-1].camera == zoomed,
            lambda: patient.camera.publish(info=info_from_camera(zoomed)),
        )
    assert graph.predictor.frames[-1].camera == CAMERA


def test_a_thousand_calibrations_are_not_kept(graph):
    """A K that changes with every frame (auto focus) must not fill the memory."""
    from cigocc_ros.ros.input.decoder import CACHED_GEOMETRIES, GeometryCache

    cache = GeometryCache('/image', 'auto')
    for focal in range(100, 1100):
        camera = CameraModel.from_intrinsics(focal, focal, 40, 24, 80, 48)
        assert cache.geometry(info_from_camera(camera), (80, 48)).camera == camera
    assert len(cache._known) == CACHED_GEOMETRIES


@pytest.mark.parametrize('spoil', ['zero', 'nan'])
def test_a_k_that_is_no_camera(graph, spoil):
    patient = Patient(graph)
    info = info_from_camera(CAMERA)
    info.k[0] = info.p[0] = 0.0 if spoil == 'zero' else float('nan')
    with nothing_leaks(patient):
        patient.until_said('camera_info_invalid', ERROR, lambda: patient.camera.publish(info=info))


def test_good_and_bad_infos_alternate(graph):
    """Some frames come out: a warning, not an error."""
    patient = Patient(graph)
    bad = info_from_camera(CAMERA)
    bad.height = 80
    turn = iter([None, bad] * 1000)
    with nothing_leaks(patient):
        patient.until_said(
            'camera_info_size', WARN, lambda: patient.camera.publish(info=next(turn))
        )
