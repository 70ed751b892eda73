"""Namespaces, remappings, and more than one node in a domain."""

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('onnxruntime')

from contextlib import ExitStack

from fixtures_faults import OK, WARN, Ears, assert_no_more, held, node_process
from fixtures_ros import Camera
from fixtures_tiny_model import build_tiny_model_dir

from cigocc_ros.ros.stamps import stamp_to_ns

STEP_NS = 100_000_000


@pytest.fixture(scope='module')
def model_dir(tmp_path_factory):
    return build_tiny_model_dir(tmp_path_factory.mktemp('models') / 'handmade')


def test_two_nodes_in_one_domain_with_namespace_and_remapping(graph, model_dir, tmp_path):
    """Each hears its camera alone, reports under its name, and survives the end of the other."""
    remapped = ['-r', '__ns:=/rear', '-r', 'image:=/rear_cam/raw', '-r', '__node:=mapper']
    remapped += ['-r', 'camera_info:=/rear_cam/info']
    with ExitStack() as stack:
        front = stack.enter_context(
            node_process(graph, model_dir, tmp_path, '-r', '__ns:=/front', node='/front/occ')
        )
        with node_process(
            graph, model_dir, tmp_path, *remapped, node='/rear/mapper', name='rear'
        ) as rear:
            front_camera, rear_camera = Camera(graph, '/front/'), rear_of(graph)
            # both in steps of 100 ms: those of the rear one lie between the others
            rear_camera.stamp_ns = front_camera.stamp_ns + STEP_NS // 2
            phase_ns = front_camera.stamp_ns % STEP_NS
            front.ears.until_cloud(front_camera.publish)
            assert not rear.ears.clouds
            rear.ears.until_said('no images on /rear_cam/raw', WARN, front_camera.publish)
            rear.ears.until_cloud(rear_camera.publish)
            rear.ears.until_said('running', OK, rear_camera.publish)
            front.ears.until_said('running', OK, front_camera.publish)
            before = held(front.pid)
            assert {stamp_to_ns(c.header.stamp) % STEP_NS for c in front.ears.clouds} == {phase_ns}
            assert phase_ns not in {
                stamp_to_ns(c.header.stamp) % STEP_NS for c in rear.ears.clouds
            }
        # the rear one is killed now
        front.ears.until_cloud(front_camera.publish)
        front.ears.until_said('running', OK, front_camera.publish)
        assert_no_more(held(front.pid), before)


def rear_of(graph) -> Camera:
    """Return a camera on topics of its own names."""
    from sensor_msgs.msg import CameraInfo, Image

    camera = Camera(graph, '/unused/')
    camera.images = graph.publisher(Image, '/rear_cam/raw')
    camera.infos = graph.publisher(CameraInfo, '/rear_cam/info')
    return camera


def test_two_nodes_of_one_name(graph, model_dir, tmp_path):
    """A mistake, but both work: every frame comes out twice, under one name."""
    with (
        node_process(graph, model_dir, tmp_path) as one,
        node_process(graph, model_dir, tmp_path, name='two') as two,
    ):
        camera, ears = Camera(graph), Ears(graph)
        sent = []

        def twice() -> bool:
            stamps = [stamp_to_ns(cloud.header.stamp) for cloud in ears.clouds]
            return any(stamps.count(stamp) == 2 for stamp in stamps)

        graph.until(twice, lambda: sent.append(camera.publish()))
        ears.until_said('running', OK, camera.publish)
        assert one.child.poll() is None and two.child.poll() is None
