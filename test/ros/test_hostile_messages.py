"""One message of a hostile or broken sender never ends the node: the next good frame works."""

import struct
import zlib

import pytest

pytest.importorskip('rclpy')

from fixtures_ros import CAMERA, EXTRINSICS, Camera
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image

from cigocc_ros.ros.dropped import MAX_MESSAGE_CHARACTERS, DroppedFrame
from cigocc_ros.ros.input.camera_info import info_from_camera
from cigocc_ros.ros.input.extrinsics import KEPT_MISSING, TfExtrinsics


def sent(camera: Camera, **changes) -> tuple[Image, object]:
    """Return the next image and its CameraInfo with some fields changed."""
    image, info = camera.image(), info_from_camera(CAMERA)
    for name, value in changes.items():
        owner = info if name in ('k', 'd', 'p', 'r', 'distortion_model') else image
        setattr(owner, name, value)
    return image, info


def odd_yuv(camera):
    width, height = 79, 48
    changes = {'encoding': 'yuyv', 'width': width, 'height': height, 'step': 2 * width}
    return sent(camera, **changes, data=bytes(2 * width * height))


def malformed_stamp(camera):
    image, info = sent(camera)
    image.header.stamp.sec, image.header.stamp.nanosec = 2**31 - 1, 2**32 - 1
    return image, info


HOSTILE = {
    'undecodable_image': odd_yuv,
    'invalid_stamp': malformed_stamp,
    'camera_info_invalid': lambda camera: sent(camera, d=[0.1, 0.2, 0.3]),
    'unknown_encoding': lambda camera: sent(camera, encoding='A' * 1_000_000),
    'unknown_distortion': lambda camera: sent(camera, d=[0.1], distortion_model='B' * 1_000_000),
    'oversized_image': lambda camera: sent(camera, width=2**31, height=2**31),
}


@pytest.mark.parametrize('reason', HOSTILE)
def test_the_frame_is_dropped_and_the_next_one_works(graph, reason):
    node, camera = graph.start(**EXTRINSICS), Camera(graph)
    graph.until(camera.matched)
    image, info = HOSTILE[reason](camera)
    graph.until(
        lambda: reason in node.snapshot().dropped, every=lambda: camera.publish(image, info)
    )
    processed = node.snapshot().processed
    graph.until(lambda: node.snapshot().processed > processed, every=camera.publish)
    assert node.worker.error is None


def png(width: int, height: int) -> bytes:
    """Return a PNG with right check sums and a few of its pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', check)

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b'IDAT', zlib.compress(bytes(1000)))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + pixels + chunk(b'IEND', b'')


def test_a_png_that_promises_gigabytes_is_dropped(graph):
    node, camera = graph.start(**EXTRINSICS, image_transport='compressed'), Camera(graph)
    images = graph.publisher(CompressedImage, 'image/compressed', QoSProfile(depth=1))
    bomb = camera.stamped(CompressedImage(format='png', data=png(60_000, 60_000)))

    def publish():
        camera.publish()  # the CameraInfo that belongs to it
        images.publish(bomb)

    graph.until(lambda: 'broken_compressed_image' in node.snapshot().dropped, every=publish)
    assert node.worker.error is None


def test_explanations_are_short_whatever_the_sender_chose():
    assert len(str(DroppedFrame('reason', 'C' * 10**6))) < MAX_MESSAGE_CHARACTERS + 50


def test_frames_that_tf_does_not_know_are_not_kept_for_ever():
    def unknown(target, source):
        raise LookupError(f'no frame {target}')

    extrinsics = TfExtrinsics('velo_link', unknown)
    for number in range(1000):
        with pytest.raises(DroppedFrame):
            extrinsics.cam_from_velo(f'camera_{number}')
    assert extrinsics.problem.count('no transform') == KEPT_MISSING


def test_a_pose_that_is_no_number_is_no_pose():
    from types import SimpleNamespace as Space

    numbers = Space(
        translation=Space(x=float('nan'), y=0.0, z=0.0),
        rotation=Space(x=0.0, y=0.0, z=0.0, w=1.0),
    )
    extrinsics = TfExtrinsics('velo_link', lambda *_: Space(transform=numbers))
    with pytest.raises(DroppedFrame, match='finite'):
        extrinsics.cam_from_velo('camera')
