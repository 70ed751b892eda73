"""`cigocc doctor` against a running node, camera and listener, over DDS."""

import sys
import threading
import time
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest

pytest.importorskip('rclpy')

from fixtures_ros import CAMERA, EXTRINSICS, WAIT_S, Camera, domain_id
from geometry_msgs.msg import Quaternion, Transform, TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from cigocc_ros.doctor.examination import Question, check_live
from cigocc_ros.doctor.finding import FAIL, OK, WARN
from cigocc_ros.doctor.graph_view import GraphView
from cigocc_ros.doctor.observation import Report
from cigocc_ros.doctor.observer import Observer
from cigocc_ros.ros.input.camera_info import info_from_camera

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@contextmanager
def running(graph, publish):
    """Spin the graph in a thread that publishes at 20 Hz."""
    graph.observer.create_timer(0.05, publish)
    stop = threading.Event()

    def spin():
        while not stop.is_set():
            graph.executor.spin_once(timeout_sec=0.02)

    thread = threading.Thread(target=spin, name='graph')
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(WAIT_S)
        assert not thread.is_alive()


def examine(**request):
    """Return check -> finding, the gravest where there are several, and all of them."""
    # it ends as soon as everything is there
    discovery_s = request.pop('discovery_s', WAIT_S)
    question = Question(**{'seconds': 1.0, **request})
    findings = check_live(question, discovery_s=discovery_s, domain_id=domain_id())
    gravest = {}
    for finding in sorted(findings, key=lambda f: [OK, WARN, FAIL].index(f.status)):
        gravest[finding.check] = finding
    return SimpleNamespace(by_name=gravest, all=findings, text='\n'.join(map(str, findings)))


def test_a_file_of_the_machine_of_the_node_is_not_looked_for_here():
    told = {
        'semantic_classes': '/of/the/robot.yaml',
        'output_frame': 'lidar',
        'use_sim_time': True,
    }
    asked = SimpleNamespace(_request=SimpleNamespace(output_frame='velo_link'))
    found = Observer._parameters(asked, Report(parameters=told))
    assert (found.output_frame, found.semantic_classes) == ('lidar', '')


def current(camera):
    camera.stamp_ns = time.time_ns()


def test_a_healthy_system_has_no_findings(graph):
    graph.start(**EXTRINSICS)
    graph.hear(PointCloud2, 'occ/occupancy')
    camera = Camera(graph, qos=BEST_EFFORT)  # the node falls back, so does the doctor

    def publish():
        current(camera)
        camera.publish()

    with running(graph, publish):
        found = examine()
    assert {finding.status for finding in found.all} == {OK}, found.text
    assert found.by_name['node'].found == '/occ runs'
    assert found.by_name['node state'].found == 'running'
    assert 'from parameters' in found.by_name["pose of 'camera_optical' in 'velo_link'"].found
    assert '1 of ' in found.by_name['outputs'].found


def test_no_camera_info_no_pose_and_a_listener_that_cannot_hear(graph):
    graph.start()
    images = graph.publisher(Image, 'image')
    graph.publisher(CameraInfo, 'elsewhere/camera_info')
    graph.hear(PointCloud2, 'occ/occupancy', LATCHED)
    camera = Camera(graph, prefix='unused/')

    def publish():
        current(camera)
        images.publish(camera.image())

    with running(graph, publish):
        found = examine(discovery_s=3.0)  # waits all of it for camera_info
    missing = found.by_name['topic /camera_info']
    assert missing.status == FAIL and 'camera_info:=/elsewhere/camera_info' in missing.fix
    assert found.by_name['node state'].status == FAIL
    pose = found.by_name["pose of 'camera_optical' in 'velo_link'"]
    assert pose.status == FAIL and 'velo_link <- camera_optical' in pose.expected
    deaf = found.by_name['topic /occ/occupancy']
    assert deaf.status == FAIL and 'asks for RELIABLE/TRANSIENT_LOCAL' in deaf.found


def test_a_camera_info_of_other_images(make_graph):
    graph = make_graph(namespace='left')
    graph.start(**EXTRINSICS)
    camera = Camera(graph)

    def publish():
        current(camera)
        camera.publish(info=info_from_camera(CAMERA.crop(0, 0, 80, 24)))

    with running(graph, publish):
        found = examine()
    assert found.by_name['node'].found == '/left/occ runs'
    wrong = found.by_name['camera_info size']
    assert wrong.status == FAIL and '80x48' in wrong.found and '80x24' in wrong.found
    assert found.by_name['node state'].status == FAIL
    assert found.by_name['topic /left/camera_info'].status == OK


def test_a_camera_without_node(graph):
    camera = Camera(graph, prefix='front/')

    def publish():
        current(camera)
        camera.publish()

    with running(graph, publish):
        found = examine(discovery_s=1.0, seconds=0.5)
        told = examine(
            discovery_s=1.0, seconds=0.5, image='/front/image', camera_info='/front/camera_info'
        )
    assert found.by_name['node'].status == WARN
    assert 'image:=/front/image' in found.by_name['topic /image'].fix
    assert told.by_name['topic /front/image'].status == OK
    assert told.by_name['camera_info size'].status == OK


def tf2_with(monkeypatch, lookup):
    """Put a tf2_ros in place whose buffer answers with `lookup(target, source)`; PyPI has none."""
    stand_in = ModuleType('tf2_ros')
    stand_in.__spec__ = ModuleSpec('tf2_ros', None)
    stand_in.Buffer = lambda: SimpleNamespace(lookup_transform=lambda t, s, _: lookup(t, s))
    stand_in.TransformListener = lambda buffer, node: (buffer, node)
    monkeypatch.setitem(sys.modules, 'tf2_ros', stand_in)


def test_a_pose_from_tf_and_none(graph, monkeypatch):
    """tf answers for the frame of the images: the doctor asks as the node does."""
    known = {}

    def lookup(target, source):
        if (target, source) not in known:
            raise LookupError(f'"{target}" passed to lookupTransform does not exist')
        return known[target, source]

    tf2_with(monkeypatch, lookup)
    graph.start()
    camera = Camera(graph)

    def publish():
        current(camera)
        camera.publish()

    name = "pose of 'camera_optical' in 'velo_link'"
    with running(graph, publish):
        missing = examine(seconds=0.4).by_name[name]
        # of the grid in the optical frame: x_cam = -y, y_cam = -z, z_cam = x
        rotation = Quaternion(x=0.5, y=-0.5, z=0.5, w=0.5)
        stamped = TransformStamped(transform=Transform(rotation=rotation))
        known['camera_optical', 'velo_link'] = stamped
        found = examine(seconds=0.4)
    assert missing.status == FAIL and 'does not exist' in missing.found
    assert 'static_transform_publisher' in missing.fix
    assert found.by_name[name].status == OK, found.text
    assert (
        'from tf' in found.by_name[name].found
        and '(1.00, 0.00, 0.00)' in found.by_name[name].found
    )


def test_nothing_runs():
    found = examine(discovery_s=0.5, seconds=0.1)
    assert [f.status for f in found.all] == [WARN, OK], found.text
    named = examine(discovery_s=0.5, seconds=0.1, image='/front/image')
    assert named.by_name['topic /front/image'].status == FAIL


def test_a_node_that_leaves_meanwhile_has_nothing(graph):
    view = GraphView(graph.observer)
    assert view.find('occ') == () and view.inputs('/occ', set()) == () == view.outputs('/occ')
    graph.start()
    graph.until(lambda: view.find('occ') == view.find('/occ') == ('/occ',))
    graph.until(lambda: len(view.inputs('/occ', {'/depth'})) == 5)
