"""Bags read back by two independent readers: rosbags, and mcap with its ROS 2 decoder."""

import argparse

import cv2
import numpy as np
import pytest
from fixtures_sequence import P2, build_label_images, build_sequence
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability
from rosbags.typesys import Stores, get_typestore

from cigocc_ros.commands import bag as bag_command
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.point_records import LIDAR_DTYPE, OCCUPANCY_DTYPE
from cigocc_ros.core.rotation import rigid_transform
from cigocc_ros.data.bag import BagContent, write_bag
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.rig import rig_of_sequence

LEFT, RIGHT = '/kitti/camera_color_left', '/kitti/camera_color_right'
EVERYTHING = BagContent(right=True, depth=True, lidar=True, ground_truth=True)
SECOND = 1_000_000_000


@pytest.fixture(scope='module')
def sequence(tmp_path_factory):
    return KittiSequence(build_sequence(tmp_path_factory.mktemp('bag') / 'sequences/00'))


def read_with_rosbags(folder):
    """Return topic -> [(time, message)] and topic -> offered QoS profiles."""
    store = get_typestore(Stores.ROS2_JAZZY)
    messages: dict = {}
    with AnyReader([folder], default_typestore=store) as reader:
        qos = {c.topic: c.ext.offered_qos_profiles for c in reader.connections}
        for connection, time_ns, raw in reader.messages():
            decoded = reader.deserialize(raw, connection.msgtype)
            messages.setdefault(connection.topic, []).append((time_ns, decoded))
    return messages, qos


def read_with_mcap(folder):
    decoder = pytest.importorskip('mcap_ros2.decoder')
    from mcap.reader import make_reader

    (path,) = folder.glob('*.mcap')
    messages: dict = {}
    with path.open('rb') as file:
        reader = make_reader(file, decoder_factories=[decoder.DecoderFactory()])
        for _, channel, message, decoded in reader.iter_decoded_messages():
            messages.setdefault(channel.topic, []).append((message.log_time, decoded))
    return messages


def pixels(message):
    data = np.frombuffer(bytes(message.data), np.uint8)
    return data.reshape(message.height, message.width, 3)


def records(message, dtype):
    assert [field.name for field in message.fields] == list(dtype.names)
    assert [field.offset for field in message.fields] == [dtype.fields[n][1] for n in dtype.names]
    assert message.point_step == dtype.itemsize
    return np.frombuffer(bytes(message.data), dtype)


def check_everything(messages, sequence):
    """Compare every message with the sequence that was written."""
    assert {topic: len(found) for topic, found in messages.items()} == {
        '/tf_static': 1,
        f'{LEFT}/image_rect': 3,
        f'{LEFT}/camera_info': 3,
        f'{RIGHT}/image_rect': 3,
        f'{RIGHT}/camera_info': 3,
        f'{LEFT}/depth': 3,
        '/kitti/velo/pointcloud': 3,
        '/kitti/ground_truth': 3,
    }
    for topic, side in ((LEFT, 'left'), (RIGHT, 'right')):
        for index, (time_ns, image) in enumerate(messages[f'{topic}/image_rect']):
            assert time_ns == SECOND + index * SECOND // 10
            assert image.header.stamp.sec * SECOND + image.header.stamp.nanosec == time_ns
            assert image.header.frame_id == f'camera_color_{side}'
            assert (image.encoding, image.step) == ('rgb8', 480)
            np.testing.assert_array_equal(pixels(image), sequence.image(index, side))
    check_calibration(messages, sequence)
    for index, (_, image) in enumerate(messages[f'{LEFT}/depth']):
        assert (image.encoding, image.step, image.width, image.height) == ('32FC1', 640, 160, 48)
        depth = np.frombuffer(bytes(image.data), '<f4').reshape(48, 160)
        np.testing.assert_array_equal(np.nan_to_num(depth), sequence.depth(index))
        assert np.isnan(depth[0]).all()
    for index, (_, cloud) in enumerate(messages['/kitti/velo/pointcloud']):
        assert cloud.header.frame_id == 'velo_link'
        scan = records(cloud, LIDAR_DTYPE).view('<f4').reshape(-1, 4)
        np.testing.assert_array_equal(scan, sequence.velodyne(index))
    assert messages['/kitti/ground_truth'][0][1].header.frame_id == 'velo_link'
    truth = records(messages['/kitti/ground_truth'][0][1], OCCUPANCY_DTYPE)
    assert truth['label'].tolist() == [9, 1]
    np.testing.assert_allclose(truth['x'], [2.1, 2.3], rtol=1e-6)
    assert truth['rgb'].view('<u4').tolist() == [0xFF00FF, 0x6496F5]


def check_calibration(messages, sequence):
    (_, left), (_, right) = (messages[f'{side}/camera_info'][0] for side in (LEFT, RIGHT))
    np.testing.assert_array_equal(np.reshape(left.k, (3, 3)), P2[:, :3])
    np.testing.assert_array_equal(np.reshape(left.p, (3, 4))[:, 3], 0)
    np.testing.assert_array_equal(np.reshape(right.p, (3, 4))[:, 3], [-80, 0, 0])
    assert (left.width, left.height, left.distortion_model) == (160, 48, 'plumb_bob')
    assert not np.any(left.d)
    (_, tf) = messages['/tf_static'][0]
    for stamped, camera in zip(tf.transforms, rig_of_sequence(sequence).cameras, strict=True):
        assert stamped.header.frame_id == 'velo_link'
        assert stamped.child_frame_id == camera.frame_id
        moved, turned = stamped.transform.translation, stamped.transform.rotation
        pose = rigid_transform(
            [moved.x, moved.y, moved.z], [turned.x, turned.y, turned.z, turned.w]
        )
        np.testing.assert_allclose(pose @ camera.cam_from_velo, np.eye(4), atol=1e-12)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_rosbags_reads_everything_back(sequence, tmp_path, storage):
    counts = write_bag(sequence, tmp_path / 'bag', storage, EVERYTHING)
    messages, qos = read_with_rosbags(tmp_path / 'bag')
    assert counts == {topic: len(found) for topic, found in messages.items()}
    check_everything(messages, sequence)
    latched = {
        topic for topic, (p,) in qos.items() if p.durability == QosDurability.TRANSIENT_LOCAL
    }
    assert latched == {'/tf_static'}
    assert [path.name for path in tmp_path.iterdir()] == ['bag']


def test_the_mcap_reader_reads_everything_back(sequence, tmp_path):
    write_bag(sequence, tmp_path / 'bag', 'mcap', EVERYTHING)
    check_everything(read_with_mcap(tmp_path / 'bag'), sequence)


def test_compressed_images_are_jpeg_of_the_same_picture(tmp_path):
    folder = build_sequence(tmp_path / '00', frames=1)
    smooth = np.full((48, 160, 3), (200, 60, 20), np.uint8)
    cv2.imwrite(str(folder / 'image_2/000000.png'), smooth[..., ::-1])
    write_bag(KittiSequence(folder), tmp_path / 'bag', content=BagContent(compressed=True))
    messages, _ = read_with_rosbags(tmp_path / 'bag')
    ((_, message),) = messages[f'{LEFT}/image_rect/compressed']
    assert f'{LEFT}/image_rect' not in messages
    assert message.format == 'rgb8; jpeg compressed bgr8'
    assert bytes(message.data[:2]) == b'\xff\xd8'
    decoded = cv2.imdecode(message.data, cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_allclose(decoded.astype(int), smooth, atol=4)


def test_label_images_are_written_with_their_images(sequence, tmp_path):
    labels = build_label_images(tmp_path / 'labels', '00', frames=2)
    out = tmp_path / 'bag'
    counts = write_bag(sequence, out, content=BagContent(semantic_prior=labels))
    topic = f'{LEFT}/semantic_prior'
    assert counts[topic] == 2
    (stamp_ns, first), _ = read_with_rosbags(out)[0][topic]
    assert (first.encoding, first.step, stamp_ns) == ('mono8', 80, SECOND)
    rows = np.asarray(first.data).reshape(24, 80)
    assert (rows == np.arange(24)[:, None]).all()


def test_the_default_is_the_left_camera(sequence, tmp_path):
    counts = write_bag(sequence, tmp_path / 'bag', content=BagContent(start=1, end=3))
    assert counts == {'/tf_static': 1, f'{LEFT}/camera_info': 2, f'{LEFT}/image_rect': 2}
    messages, _ = read_with_rosbags(tmp_path / 'bag')
    assert messages[f'{LEFT}/image_rect'][0][0] == SECOND + SECOND // 10
    assert len(messages['/tf_static'][0][1].transforms) == 1


def test_the_ground_truth_can_be_in_a_frame_of_its_own(sequence, tmp_path):
    content = BagContent(lidar=True, ground_truth=True, ground_truth_frame='ground_truth_view')
    write_bag(sequence, tmp_path / 'bag', content=content)
    messages, _ = read_with_rosbags(tmp_path / 'bag')
    truths = [message for _, message in messages['/kitti/ground_truth']]
    assert {truth.header.frame_id for truth in truths} == {'ground_truth_view'}
    assert messages['/kitti/velo/pointcloud'][0][1].header.frame_id == 'velo_link'
    with pytest.raises(ConfigError, match='add --ground-truth'):
        BagContent(ground_truth_frame='ground_truth_view')


def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path):
    folder = build_sequence(tmp_path / '00', frames=2)
    for path in [*(folder / 'voxels').iterdir(), *(folder / 'velodyne').iterdir()]:
        path.unlink()
    for path in (folder / 'depth_2').iterdir():
        path.unlink()
    (folder / 'image_3/000000.png').unlink()
    sequence = KittiSequence(folder)
    with pytest.raises(DataFileError, match=r'(?s)image_3.*depth_2.*velodyne.*voxels/\*\.label'):
        write_bag(sequence, tmp_path / 'bag', content=EVERYTHING)
    with pytest.raises(ConfigError, match='start 2 and end None select no frame'):
        write_bag(sequence, tmp_path / 'bag', content=BagContent(start=2))
    (folder / 'image_2/000001.png').write_bytes(b'broken')
    with pytest.raises(DataFileError, match=r'000001\.png'):
        write_bag(sequence, tmp_path / 'bag')
    assert [path.name for path in tmp_path.iterdir()] == ['00']


def test_an_existing_folder_is_kept(sequence, tmp_path):
    (tmp_path / 'bag').mkdir()
    with pytest.raises(DataFileError, match='exists: remove it'):
        write_bag(sequence, tmp_path / 'bag')
    with pytest.raises(ConfigError, match='storage must be one of mcap, sqlite3'):
        write_bag(sequence, tmp_path / 'other', 'zip')


def test_the_command(sequence, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    bag_command.add_arguments(parser)
    out = tmp_path / 'bag'
    words = [str(sequence.path), '--out', str(out), '--lidar', '--end', '1']
    words += ['--ground-truth', '--ground-truth-frame', 'beside']
    assert bag_command.run(parser.parse_args(words)) == 0
    printed = capsys.readouterr().out
    ((_, truth),) = read_with_rosbags(out)[0]['/kitti/ground_truth']
    assert truth.header.frame_id == 'beside'
    assert '1  /kitti/velo/pointcloud' in printed
    assert f'ros2 bag play {out} --clock' in printed
    assert (out / 'metadata.yaml').is_file()
