"""What every topic carries, and the stamps of bags and player."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures_sequence import build_label_images, build_sequence

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.point_records import LIDAR_DTYPE, OCCUPANCY_DTYPE
from cigocc_ros.data import kitti_files
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.recording import RIGHT_TOPICS, TOPICS, Recording
from cigocc_ros.data.rig import LEFT_FRAME, RIGHT_FRAME, rig_of_sequence


def recording_of(folder, labels=None):
    sequence = KittiSequence(folder)
    return Recording(sequence, rig_of_sequence(sequence), label_root=labels)


@pytest.fixture(scope='module')
def recording(tmp_path_factory):
    labels = build_label_images(tmp_path_factory.mktemp('labels'), '00', frames=2)
    folder = build_sequence(tmp_path_factory.mktemp('recording') / '00', frames=2)
    return recording_of(folder, labels)


def test_content_of_every_topic(recording):
    found = {topic: recording.item(topic, '000001') for topic in TOPICS}
    sequence, rig = recording.sequence, recording.rig
    np.testing.assert_array_equal(found['image'].content, sequence.image(1))
    np.testing.assert_array_equal(found['right/image'].content, sequence.image(1, 'right'))
    assert found['camera_info'].content == rig.left.model
    assert found['right/camera_info'].content == rig.right.model
    depth = found['depth'].content
    assert np.isnan(depth[0]).all() and (depth[1:] == 11).all()
    ids = found['semantic_prior'].content
    assert ids.shape == (24, 80) and ids[:, 0].tolist() == list(range(1, 25))
    assert found['velodyne'].content.dtype == LIDAR_DTYPE
    assert found['ground_truth'].content.dtype == OCCUPANCY_DTYPE
    assert found['ground_truth'].content['label'].tolist() == [9, 1]


def test_topics_are_in_the_frame_that_their_name_in_bags_says(recording):
    for name, topic in TOPICS.items():
        frame = recording.item(name, '000000').frame_id
        expected = 'velo_link' if topic.kind == 'cloud' else topic.in_bags.split('/')[2]
        assert frame == expected
    assert {LEFT_FRAME, RIGHT_FRAME} < {t.in_bags.split('/')[2] for t in TOPICS.values()}


def test_a_rig_without_right_camera_has_no_right_topics(recording):
    left_only = replace(recording, rig=recording.rig.without_right())
    for topic in TOPICS:
        assert (left_only.item(topic, '000000') is None) == (topic in RIGHT_TOPICS)


@pytest.mark.parametrize(('first_s', 'expected_s'), [(0.0, 1.0), (0.25, 1.0), (5.0, 5.0)])
def test_stamps_are_recorded_ones_but_never_zero(tmp_path, first_s, expected_s):
    folder = build_sequence(tmp_path / '00', frames=2)
    kitti_files.write_times(folder / 'times.txt', np.array([first_s, first_s + 0.1]))
    recording = recording_of(folder)
    expected_ns = [expected_s * 1e9, (expected_s + 0.1) * 1e9]
    stamps_ns = [recording.stamp_ns(frame) for frame in recording.sequence.frame_ids]
    np.testing.assert_allclose(stamps_ns, expected_ns, rtol=0, atol=1)


def test_label_images_of_some_frames_are_those_of_some_frames(tmp_path):
    labels = build_label_images(tmp_path / 'labels', '00', frames=1)
    recording = recording_of(build_sequence(tmp_path / '00', frames=2), labels)
    found = [recording.item('semantic_prior', frame) for frame in recording.sequence.frame_ids]
    assert found[0] is not None and found[1] is None


def test_a_folder_without_label_images_of_the_sequence_is_told(tmp_path):
    folder = build_sequence(tmp_path / '00', frames=2)
    with pytest.raises(DataFileError, match='no such folder of label images'):
        recording_of(folder, tmp_path / 'gone')
    others = build_label_images(tmp_path / 'labels', '01')
    with pytest.raises(DataFileError, match='no label image of frame 00/000000: expected'):
        recording_of(folder, others)
