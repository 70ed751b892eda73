"""The node in process, with a predictor that answers at once."""

import numpy as np
import pytest

pytest.importorskip('rclpy')

from fixtures_ros import CAMERA, EXTRINSICS, Camera
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Float64, String
from std_srvs.srv import SetBool
from visualization_msgs.msg import MarkerArray

from cigocc_ros.core.errors import ManifestError
from cigocc_ros.core.point_records import OCCUPANCY_DTYPE, SURE_OCCUPANCY_DTYPE
from cigocc_ros.ros.input.camera_info import info_from_camera
from cigocc_ros.ros.input.images import rgb_from_image
from cigocc_ros.ros.players.kitti_messages import image_from_depth, image_from_rgb

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def test_one_image_in_one_cloud_out(graph):
    clouds = graph.hear(PointCloud2, 'occ/occupancy')
    times = graph.hear(Float64, 'occ/debug/processing_time_ms')
    latencies = graph.hear(Float64, 'occ/debug/pipeline_latency_ms')
    node, camera = graph.start(**EXTRINSICS, output_frame='lidar_top'), Camera(graph)
    graph.until(lambda: camera.matched() and graph.observer.count_subscribers('/image'))
    graph.until(lambda: node.count_subscribers('/occ/occupancy'))
    sent = camera.publish()
    graph.until(lambda: clouds and times and latencies)

    assert clouds[0].header.stamp == sent.header.stamp
    assert clouds[0].header.frame_id == 'lidar_top'
    points = np.frombuffer(clouds[0].data, OCCUPANCY_DTYPE)
    assert points['label'].tolist() == [9, 1]
    np.testing.assert_allclose(points['probability'], 0.8)
    (frame,) = graph.predictor.frames
    np.testing.assert_array_equal(frame.image, rgb_from_image(sent))
    assert frame.camera == CAMERA and frame.depth_m is None
    # the camera stands 0.25 m ahead of and 0.1 m below the grid frame, looking forward
    np.testing.assert_allclose(
        frame.cam_from_velo @ [10.25, 1.0, -0.1, 1], [-1, 0, 10, 1], atol=1e-9
    )
    assert times[0].data > 0 and graph.report().processed == 1


def test_a_model_that_knows_how_sure_it_is_says_so_for_every_point(graph):
    graph.predictor.sure = np.full(graph.predictor.grid.shape, 51, np.uint8)
    clouds = graph.hear(PointCloud2, 'occ/occupancy')
    node, camera = graph.start(**EXTRINSICS, **{'shown.classes': 'car'}), Camera(graph)
    graph.until(lambda: camera.matched() and node.count_subscribers('/occ/occupancy'))
    camera.publish()
    graph.until(lambda: clouds)
    assert [field.name for field in clouds[0].fields][-1] == 'class_confidence'
    points = np.frombuffer(clouds[0].data, SURE_OCCUPANCY_DTYPE)
    assert points['label'].tolist() == [1]
    np.testing.assert_allclose(points['class_confidence'], 0.2)


def test_the_predictor_is_ready_before_the_first_subscription(graph):
    subscribed = []
    graph.predictor.warm_up = lambda: subscribed.append(graph.observer.count_subscribers('/image'))
    graph.start(**EXTRINSICS)
    assert subscribed == [0]


def test_markers_are_published_to_who_listens(graph):
    heard = []
    graph.observer.create_subscription(MarkerArray, 'occ/markers', heard.append, 1, raw=True)
    node, camera = graph.start(**EXTRINSICS), Camera(graph)
    graph.until(lambda: node.count_subscribers('/occ/markers') and camera.matched())
    graph.until(lambda: heard, every=camera.publish)
    array = deserialize_message(heard[0], MarkerArray)
    assert [marker.ns for marker in array.markers] == ['', 'car', 'road']


def test_class_info_reaches_late_joiners(graph):
    import json

    graph.start(**EXTRINSICS)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    heard = graph.hear(String, 'occ/class_info', latched)
    graph.until(lambda: heard)
    content = json.loads(heard[0].data)
    assert content['model_id'] == 'fake' and content['frame_id'] == 'velo_link'
    assert content['grid'] == graph.predictor.grid.to_dict()
    assert content['classes'][9]['name'] == 'road' and len(content['classes']) == 20
    assert content['occupied_from'] == 0.35


def test_topics_follow_the_namespace(make_graph):
    graph = make_graph(namespace='front')
    clouds = graph.hear(PointCloud2, '/front/occ/occupancy')
    graph.start(**EXTRINSICS)
    camera = Camera(graph, prefix='/front/')
    graph.until(lambda: clouds, every=camera.publish)
    names = {name for name, _ in graph.observer.get_topic_names_and_types()}
    assert {'/front/image', '/front/camera_info', '/front/occ/class_info'} <= names


def test_a_best_effort_camera_is_heard(graph):
    node, camera = graph.start(**EXTRINSICS), Camera(graph, qos=BEST_EFFORT)
    graph.until(lambda: graph.report().processed, every=camera.publish)
    offered = [
        info.qos_profile.reliability for info in node.get_subscriptions_info_by_topic('/image')
    ]
    assert offered == [ReliabilityPolicy.BEST_EFFORT]


def test_a_reliable_camera_keeps_the_subscription_reliable(graph):
    node, camera = graph.start(**EXTRINSICS), Camera(graph)
    graph.until(lambda: graph.report().processed, every=camera.publish)
    (info,) = node.get_subscriptions_info_by_topic('/image')
    assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE


def spoiled(kind: str) -> tuple[Image, CameraInfo]:
    """Return an image with its info, one of them unusable."""
    image = image_from_rgb(np.zeros((48, 80, 3), np.uint8))
    info = info_from_camera(CAMERA)
    if kind == 'unknown_encoding':
        image.encoding = 'holo9'
    elif kind == 'wrong_step':
        image.step = 80
    elif kind == 'truncated_image':
        image.data = image.data[:100]
    elif kind == 'empty_image':
        image = Image(encoding='rgb8')
    elif kind == 'camera_info_size':
        info.height = 80
    elif kind == 'camera_info_invalid':
        info = CameraInfo()
    return image, info


@pytest.mark.parametrize(
    'reason',
    [
        'unknown_encoding',
        'wrong_step',
        'truncated_image',
        'empty_image',
        'camera_info_size',
        'camera_info_invalid',
    ],
)
def test_a_bad_frame_is_counted_and_the_next_one_processed(graph, reason):
    graph.start(**EXTRINSICS)
    camera = Camera(graph)

    def publish_bad():
        image, info = spoiled(reason)
        camera.publish(camera.stamped(image), info)

    graph.until(lambda: graph.report().dropped.get(reason), every=publish_bad)
    assert reason in graph.report().last_error
    assert graph.report().processed == 0
    graph.until(lambda: graph.report().processed, every=camera.publish)


def test_an_engine_that_raises_costs_one_frame(graph):
    graph.start(**EXTRINSICS)
    camera = Camera(graph)
    graph.predictor.error = RuntimeError('out of memory')
    graph.until(lambda: graph.report().dropped.get('engine_error'), every=camera.publish)
    assert 'RuntimeError: out of memory' in graph.report().last_error
    graph.predictor.error = None
    graph.until(lambda: graph.report().processed, every=camera.publish)


def test_images_without_camera_info_are_counted(graph):
    graph.start(**EXTRINSICS)
    camera = Camera(graph)
    graph.until(
        lambda: graph.report().dropped.get('no_camera_info'),
        every=lambda: camera.images.publish(camera.image()),
    )


def test_a_busy_worker_takes_the_newest_frame(graph):
    graph.start(**EXTRINSICS)
    camera = Camera(graph)
    graph.predictor.may_answer.clear()
    graph.until(lambda: graph.predictor.frames, every=camera.publish)
    graph.until(lambda: graph.report().replaced >= 3, every=camera.publish)
    while_busy = graph.report()
    assert len(graph.predictor.frames) == 1
    assert while_busy.frames_in == while_busy.replaced + 2  # one worked on, one waiting
    graph.predictor.may_answer.set()
    graph.until(lambda: graph.report().processed >= 2)
    assert graph.predictor.frames[1].stamp_ns > graph.predictor.frames[0].stamp_ns + 3e8
    assert graph.predictor.threads == {'predictor'}


def test_enable_stops_and_starts_the_work(graph):
    graph.start(**EXTRINSICS)
    camera = Camera(graph)
    client = graph.observer.create_client(SetBool, 'occ/enable')

    def ask(wanted: bool) -> str:
        graph.until(client.service_is_ready)
        future = client.call_async(SetBool.Request(data=wanted))
        graph.until(future.done)
        assert future.result().success
        return future.result().message

    graph.until(lambda: graph.report().processed, every=camera.publish)
    assert ask(False) == 'disabled'
    frames_in, sent = graph.report().frames_in, []
    graph.until(lambda: len(sent) >= 5, every=lambda: sent.append(camera.publish()))
    assert graph.report().frames_in == frames_in
    assert ask(True) == 'enabled'
    graph.until(lambda: graph.report().frames_in > frames_in, every=camera.publish)


def test_compressed_images(graph):
    import cv2

    graph.start(**EXTRINSICS, image_transport='compressed')
    camera = Camera(graph)
    compressed = graph.publisher(CompressedImage, 'image/compressed')
    rgb = np.full((48, 80, 3), (10, 120, 240), np.uint8)
    data = cv2.imencode('.png', rgb[..., ::-1])[1].tobytes()

    def publish():
        camera.infos.publish(camera.stamped(info_from_camera(CAMERA)))
        compressed.publish(camera.stamped(CompressedImage(format='png', data=data)))

    graph.until(lambda: graph.report().processed, every=publish)
    np.testing.assert_array_equal(graph.predictor.frames[0].image, rgb)


@pytest.mark.parametrize(
    ('remapping', 'expected'),
    [
        ('image:=/camera/image_raw', '/camera/image_raw/compressed'),
        ('image/compressed:=/jpeg', '/jpeg'),
    ],
)
def test_compressed_topics_follow_the_remapping_of_their_base(graph, remapping, expected):
    graph.start(remapping, **EXTRINSICS, image_transport='compressed')
    graph.until(lambda: graph.observer.count_subscribers(expected))


def test_a_depth_topic_becomes_the_prior(graph):
    graph.start(**EXTRINSICS, **{'prior.source': 'depth'})
    camera = Camera(graph)
    depths = graph.publisher(Image, 'depth')
    depth = np.full((48, 80), 12.5, np.float32)
    depth[:10] = 0

    def publish():
        camera.publish()
        depths.publish(camera.stamped(image_from_depth(depth)))

    graph.until(lambda: graph.report().prior_used, every=publish)
    with_prior = [frame for frame in graph.predictor.frames if frame.depth_m is not None]
    np.testing.assert_array_equal(with_prior[0].depth_m, depth)


def test_an_image_whose_prior_never_comes_goes_without(graph):
    graph.start(**EXTRINSICS, **{'prior.source': 'depth', 'prior.wait_s': 0.01})
    camera, depths = Camera(graph), graph.publisher(Image, 'depth')
    graph.until(lambda: graph.report().processed, every=camera.publish)
    assert graph.report().prior_failed.get('prior_late')
    assert graph.predictor.frames[0].depth_m is None

    def publish_other_shape():
        camera.publish()
        depths.publish(camera.stamped(image_from_depth(np.ones((48, 48), np.float32))))

    graph.until(lambda: graph.report().prior_failed.get('prior_size'), every=publish_other_shape)


def test_a_model_that_cannot_load_ends_the_constructor(graph):
    def factory(*_):
        raise ManifestError('no manifest.yaml there')

    from cigocc_ros.ros.node import OccNode

    with pytest.raises(ManifestError, match='no manifest'):
        OccNode(factory, context=graph.context)
