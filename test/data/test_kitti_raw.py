"""Drives of KITTI's raw recordings, laid out from a sequence folder."""

import shutil

import numpy as np
import pytest
from fixtures_properties import examples, result_or_error
from fixtures_sequence import build_sequence
from hypothesis import given
from hypothesis import strategies as st

from cigocc_ros.commands.main import main
from cigocc_ros.core.errors import CalibrationError, DataFileError
from cigocc_ros.data.kitti_raw import is_raw_drive, link_as_sequence
from cigocc_ros.data.kitti_sequence import KittiSequence

DRIVE = '2011_09_26_drive_0001_sync'
# as in the calib files of KITTI, which mix lines of other names and lengths
CAMERA_LINES = 'calib_time: 09-Jan-2012 13:57:47\ncorner_dist: 9.950000e-02\nS_00: 1.392e+03 512\n'
ANGLE = 0.01
LONG = 5000 * 'x'


def numbers(values) -> str:
    return ' '.join(f'{value:.12e}' for value in np.ravel(values))


@pytest.fixture
def raw(tmp_path):
    """Return a drive, and the sequence that it was made from."""
    sequence = KittiSequence(build_sequence(tmp_path / 'odometry' / 'sequences' / '00'))
    drive = tmp_path / '2011_09_26' / DRIVE
    folders = {'image_2': 'image_02', 'image_3': 'image_03', 'velodyne': 'velodyne_points'}
    for name, target in folders.items():
        (drive / target / 'data').mkdir(parents=True)
        for path in (sequence.path / name).iterdir():
            shutil.copy(path, drive / target / 'data' / f'{int(path.stem):010d}{path.suffix}')
    stamps = ['2011-09-26 13:59:59.123456789']
    stamps += [f'2011-09-26 14:00:{i:02d}.{123456789 + i}' for i in range(1, len(sequence))]
    (drive / 'image_02' / 'timestamps.txt').write_text('\n'.join(stamps) + '\n')
    turn = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0],
                     [0, 0, 1]])  # fmt: skip
    velo = np.linalg.inv(np.vstack([np.hstack([turn, np.zeros((3, 1))]), [0, 0, 0, 1]]))
    velo = velo @ np.vstack([sequence.calib['Tr'], [0, 0, 0, 1]])
    cameras = [f'R_rect_00: {numbers(turn)}']
    cameras += [f'P_rect_0{i}: {numbers(sequence.calib.get(f"P{i}", np.eye(3, 4)))}'
                for i in range(4)]  # fmt: skip
    (drive.parent / 'calib_cam_to_cam.txt').write_text(CAMERA_LINES + '\n'.join(cameras) + '\n')
    lines = f'calib_time: x\nR: {numbers(velo[:3, :3])}\nT: {numbers(velo[:3, 3])}\n'
    (drive.parent / 'calib_velo_to_cam.txt').write_text(lines)
    return drive, sequence


def test_a_drive_is_read_like_the_sequence_that_it_was_made_from(raw, tmp_path):
    drive, sequence = raw
    assert is_raw_drive(drive) and not is_raw_drive(sequence.path)
    linked = KittiSequence(link_as_sequence(drive, tmp_path / 'linked'))
    assert len(linked) == len(sequence) and linked.has_right
    np.testing.assert_allclose(linked.cam_from_velo, sequence.cam_from_velo, atol=1e-9)
    np.testing.assert_array_equal(linked.image(linked.frame_ids[1]), sequence.image(1))
    np.testing.assert_array_equal(linked.velodyne(linked.frame_ids[1]), sequence.velodyne(1))
    np.testing.assert_allclose(linked.camera_left.projection, sequence.camera_left.projection)
    # from 13:59:59.123456789 to 14:00:01.123456790
    assert linked.stamp_ns(linked.frame_ids[1]) == pytest.approx(2_000_000_001, abs=2)


def test_the_command_makes_a_bag_of_a_drive(raw, tmp_path, capsys):
    drive, sequence = raw
    words = ['bag', str(drive), '--right', '--lidar', '--out', str(tmp_path / 'bag')]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert f'{len(sequence):6d}  /kitti/camera_color_right/image_rect' in out
    assert f'{len(sequence):6d}  /kitti/velo/pointcloud' in out


@pytest.mark.parametrize(
    ('file', 'old', 'new', 'error'),
    [
        ('../calib_cam_to_cam.txt', 'P_rect_02', 'P_rect_09', 'expected a line "P_rect_02'),
        ('../calib_velo_to_cam.txt', 'T: ', 'T: nan ', 'T: expected 3 numbers, found 4'),
        ('../calib_velo_to_cam.txt', 'R: ', f'R: {LONG}', r'a number, found .{,240}$'),
        ('image_02/timestamps.txt', '2011-', '', 'expected lines like'),
    ],
    ids=['name', 'count', 'long word', 'stamp'],
)
def test_what_is_wrong_is_named(raw, tmp_path, file, old, new, error):
    path = raw[0] / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises((CalibrationError, DataFileError), match=error) as raised:
        link_as_sequence(raw[0], tmp_path / 'linked')
    assert path.name in str(raised.value)


def test_another_folder_is_no_drive(tmp_path):
    with pytest.raises(DataFileError, match='image_02'):
        link_as_sequence(tmp_path, tmp_path / 'linked')


TEXTS = st.lists(
    st.sampled_from(
        ['R:', 'T:', 'R_rect_00:', 'P_rect_02:', '1.5', 'nan', 'inf', 'x', '\n', '0 ' * 9]
        + ['1 ' * 12, '2011-09-26 13:02:25.594360375', '2011-09-26 13:02:25.x', '9999-12-31 24:00']
    ),
    max_size=20,
).map(' '.join)


@examples()
@given(cameras=TEXTS, velodyne=TEXTS, times=TEXTS.map(lambda text: text.replace(' ', '\n', 3)))
def test_any_text_is_linked_or_refused(tmp_path_factory, cameras, velodyne, times):
    date = tmp_path_factory.mktemp('raw')
    (date / DRIVE / 'image_02' / 'data').mkdir(parents=True)
    (date / 'calib_cam_to_cam.txt').write_text(cameras)
    (date / 'calib_velo_to_cam.txt').write_text(velodyne)
    (date / DRIVE / 'image_02' / 'timestamps.txt').write_text(times)
    result_or_error(lambda: link_as_sequence(date / DRIVE, date / 'linked'))
