"""Text and binary files: exact round trips, and errors that name file, line and finding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cigocc_ros.core.errors import CalibrationError, DataFileError
from cigocc_ros.data import kitti_files as files

few = settings(max_examples=25, deadline=None)  # each example writes a file
finite = st.floats(allow_nan=False, allow_infinity=False)
MATRIX = np.arange(12.0).reshape(3, 4) / 7
CALIB = {name: MATRIX + i for i, name in enumerate(files.CALIB_ROWS)}


@pytest.fixture
def calib_lines(tmp_path):
    path = tmp_path / 'calib.txt'
    files.write_calib(path, CALIB)
    return path, path.read_text().splitlines()


def fails_with(path, lines, *words):
    path.write_text('\n'.join(lines) + '\n')
    with pytest.raises(CalibrationError) as raised:
        files.read_calib(path)
    message = str(raised.value)
    assert str(path) in message
    for word in words:
        assert word in message
    return message


@few
@given(hnp.arrays(np.float64, (3, 4), elements=finite))
def test_every_float_of_a_calib_survives(tmp_path_factory, matrix):
    path = tmp_path_factory.mktemp('calib') / 'calib.txt'
    files.write_calib(path, {'P2': matrix})
    np.testing.assert_array_equal(files.read_calib(path, required=('P2',))['P2'], matrix)


def test_a_calib_is_read_by_name(calib_lines):
    path, _ = calib_lines
    calib = files.read_calib(path)
    assert list(calib) == ['P0', 'P1', 'P2', 'P3', 'Tr']
    np.testing.assert_array_equal(calib['Tr'], MATRIX + 4)


@pytest.mark.parametrize('missing', files.CALIB_ROWS)
def test_a_missing_row_is_named(calib_lines, missing):
    path, lines = calib_lines
    kept = [line for line in lines if not line.startswith(missing)]
    fails_with(path, kept, f'{missing} missing', 'found')


def test_a_row_of_eleven_numbers_is_named(calib_lines):
    path, lines = calib_lines
    lines[2] = lines[2].rpartition(' ')[0]
    fails_with(path, lines, 'line 3', '(P2)', 'expected 12 numbers', 'found 11')


@pytest.mark.parametrize(('word', 'kind'), [('nan', 'finite '), ('-inf', 'finite '), ('x1', '')])
def test_what_is_no_finite_number_is_named(calib_lines, word, kind):
    path, lines = calib_lines
    lines[4] = lines[4].rpartition(' ')[0] + f' {word}'
    fails_with(path, lines, 'line 5', '(Tr)', f'expected a {kind}number, found {word!r}')


@pytest.mark.parametrize('mark', [b'', b'\xef\xbb\xbf'])
@pytest.mark.parametrize('newline', [b'\n', b'\r\n', b'\r'])
def test_text_as_editors_save_it(tmp_path, mark, newline):
    """A UTF-8 mark and the line ends of other systems are no part of the first and last name."""
    matrix = np.arange(12.0).reshape(3, 4)
    files.write_calib(tmp_path / 'plain', {'P2': matrix, 'Tr': matrix})
    text = (tmp_path / 'plain').read_bytes().replace(b'\n', newline)
    (tmp_path / 'calib.txt').write_bytes(mark + text)
    np.testing.assert_array_equal(
        files.read_calib(tmp_path / 'calib.txt', ('P2', 'Tr'))['P2'], matrix
    )
    (tmp_path / 'times.txt').write_bytes(mark + b'0.0' + newline + b'0.1')
    np.testing.assert_array_equal(files.read_times(tmp_path / 'times.txt'), [0.0, 0.1])
    (tmp_path / 'poses.txt').write_bytes(mark + text.split(b': ')[1].split(newline)[0])
    np.testing.assert_array_equal(files.read_poses(tmp_path / 'poses.txt')[0, :3], matrix)


@pytest.mark.parametrize(
    ('rows', 'says'),
    [
        ('P2\u200b: {0}\nTr: {0}', r"found 'P2\\u200b', 'Tr'; P2 missing: write P2 where it says"),
        ('p2: {0}\nTr: {0}', "write P2 where it says 'p2'"),
        ('P2: {0}\ntr: {0}', "write Tr where it says 'tr'"),
        ('P_2: {0}\nTr: {0}', "write P2 where it says 'P_2'"),
        ('P_rect_02: {0}', r'KITTI raw: there P2 is P_rect_02.*"cigocc bag"'),
        ('P2: {0}\nTr_velo_to_cam: {0}', 'KITTI object; there Tr is R0_rect'),
        ('P2: {0}', 'the one with Tr is in data_odometry_calib.zip'),
        ('', 'found none; P2, Tr missing: take the calib.txt of'),
    ],
)
def test_the_difference_is_told_not_the_rule(tmp_path, rows, says):
    path = tmp_path / 'calib.txt'
    path.write_text(rows.format(' '.join(['1'] * 12)), encoding='utf-8')
    with pytest.raises(CalibrationError, match=says):
        files.read_calib(path, ('P2', 'Tr'))


@pytest.mark.parametrize('codec', ['utf-16', 'utf-16-le', 'utf-16-be'])
def test_utf_16_is_named(tmp_path, codec):
    path = tmp_path / 'times.txt'
    mark = '' if codec == 'utf-16' else '\ufeff'
    path.write_bytes((mark + '0.0\n').encode(codec))
    with pytest.raises(DataFileError, match='found UTF-16.*save it as UTF-8'):
        files.read_times(path)


def test_line_numbers_count_blank_lines(calib_lines):
    path, lines = calib_lines
    fails_with(path, [lines[0], '', 'no colon here', *lines[1:]], 'line 3', 'no colon here')


def test_a_row_that_is_there_twice_is_refused(calib_lines):
    path, lines = calib_lines
    fails_with(path, [*lines, lines[0]], 'line 6', 'P0', 'twice')


def test_missing_and_binary_files_are_named(tmp_path):
    with pytest.raises(DataFileError, match=r'calib\.txt: cannot be read'):
        files.read_calib(tmp_path / 'calib.txt')
    (tmp_path / 'poses.txt').write_bytes(b'\x80\xfe\x00')
    with pytest.raises(DataFileError, match='expected a text file'):
        files.read_poses(tmp_path / 'poses.txt')


@few
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(0, 4), st.just(3), st.just(4)), elements=finite)
)
def test_every_float_of_poses_survives(tmp_path_factory, poses):
    path = tmp_path_factory.mktemp('poses') / 'poses.txt'
    files.write_poses(path, poses)
    read = files.read_poses(path)
    assert read.shape == (len(poses), 4, 4)
    np.testing.assert_array_equal(read[:, :3], poses)
    np.testing.assert_array_equal(read[:, 3], np.tile([0.0, 0, 0, 1], (len(poses), 1)))


def test_a_short_pose_is_named(tmp_path):
    path = tmp_path / 'poses.txt'
    path.write_text('1 0 0 0 0 1 0 0 0 0 1 0\n1 2 3\n')
    with pytest.raises(DataFileError, match=r'poses\.txt, line 2: expected 12 numbers, found 3'):
        files.read_poses(path)


def test_times_survive_and_must_increase(tmp_path):
    path = tmp_path / 'times.txt'
    times = np.array([0.0, 0.1, 1 / 3, 1.7e9])
    files.write_times(path, times)
    np.testing.assert_array_equal(files.read_times(path), times)
    path.write_text('0\n0.2\n0.1\n')
    with pytest.raises(DataFileError, match=r'line 3: expected a time after 0\.2 s, found 0\.1'):
        files.read_times(path)


@few
@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 9), st.just(4))))
def test_scans_survive_bit_by_bit(tmp_path_factory, points):
    path = tmp_path_factory.mktemp('scan') / '000000.bin'
    files.write_velodyne(path, points)
    assert files.read_velodyne(path).tobytes() == points.tobytes()


def test_a_truncated_scan_is_named(tmp_path):
    path = tmp_path / '000000.bin'
    path.write_bytes(bytes(33))
    with pytest.raises(DataFileError, match='multiple of 16 bytes, found 33 bytes'):
        files.read_velodyne(path)


@few
@given(
    hnp.arrays(np.uint16, st.shared(st.integers(0, 9), key='n')),
    hnp.arrays(np.uint16, st.shared(st.integers(0, 9), key='n')),
)
def test_point_labels_and_instances_survive(tmp_path_factory, labels, instances):
    path = tmp_path_factory.mktemp('labels') / '000000.label'
    files.write_point_labels(path, labels, instances)
    np.testing.assert_array_equal(files.read_point_labels(path, labels.size), labels)
    np.testing.assert_array_equal(files.read_point_instances(path)[1], instances)


def test_the_semantic_id_is_the_lower_half(tmp_path):
    path = tmp_path / '000000.label'
    path.write_bytes((7 << 16 | 252).to_bytes(4, 'little'))
    assert files.read_point_labels(path).tolist() == [252]


def test_labels_of_another_scan_are_refused(tmp_path):
    path = tmp_path / '000000.label'
    files.write_point_labels(path, np.arange(3))
    with pytest.raises(DataFileError, match=r'expected 5 labels.*\(20 bytes\), found 3 \(12 byt'):
        files.read_point_labels(path, 5)
    with pytest.raises(DataFileError, match='0\\.\\.65535'):
        files.write_point_labels(path, np.array([70000]))
    assert files.read_point_labels(path).tolist() == [0, 1, 2]
