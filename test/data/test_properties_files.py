"""Properties of the file formats: what is written is read, anything else is a clear error."""

import io
import os

import numpy as np
import pytest
from fixtures_properties import examples, result_or_error
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cigocc_ros.core.arrays import read_array, read_arrays
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.labels import raw_from_train, train_from_raw
from cigocc_ros.data import image_files, kitti_files
from cigocc_ros.evaluation.predictions import prediction_labels

FINITE = st.floats(allow_nan=False, allow_infinity=False)
ROWS = hnp.arrays(np.float64, (3, 4), elements=FINITE)
SHAPES = st.tuples(*[st.integers(1, 9)] * 3)
NAMES = st.from_regex(r'[A-Za-z][A-Za-z0-9_]{0,7}', fullmatch=True)
# Text near to that of the formats, so that some of it is right.
WORDS = st.sampled_from(
    ['0', '1.5', '-2e-3', '1e400', 'nan', 'inf', '1_0', 'P2:', 'Tr:', ':', 'x']
)
LINES = st.lists(WORDS, max_size=14).map(' '.join)
TEXTS = st.lists(LINES, max_size=5).map('\n'.join).map(str.encode)
BYTES = st.binary(max_size=200)


@examples()
@given(calib=st.dictionaries(NAMES, ROWS, max_size=6))
def test_calib_round_trip(tmp_path, calib):
    kitti_files.write_calib(tmp_path / 'calib.txt', calib)
    found = kitti_files.read_calib(tmp_path / 'calib.txt', required=())
    assert list(found) == list(calib)
    for name, matrix in calib.items():
        np.testing.assert_array_equal(found[name], matrix)


@examples()
@given(
    poses=hnp.arrays(
        np.float64, st.tuples(st.integers(0, 4), st.just(3), st.just(4)), elements=FINITE
    )
)
def test_poses_round_trip(tmp_path, poses):
    kitti_files.write_poses(tmp_path / 'poses.txt', poses)
    found = kitti_files.read_poses(tmp_path / 'poses.txt')
    np.testing.assert_array_equal(found[:, :3], poses)
    assert (found[:, 3] == [0, 0, 0, 1]).all()


@examples()
@given(times=st.lists(FINITE, unique=True, max_size=20).map(sorted))
def test_times_round_trip(tmp_path, times):
    kitti_files.write_times(tmp_path / 'times.txt', np.array(times))
    assert kitti_files.read_times(tmp_path / 'times.txt').tolist() == times


@examples(150)
@given(content=TEXTS | BYTES, kind=st.sampled_from(['read_calib', 'read_poses', 'read_times']))
@example(b'0.1\n' + b'9' * 100_000 + b'x', 'read_times')
@example(b'N' * 100_000 + b': 1', 'read_calib')
def test_any_text_is_read_or_refused(tmp_path, content, kind):
    (tmp_path / 'file.txt').write_bytes(content)
    found = result_or_error(lambda: getattr(kitti_files, kind)(tmp_path / 'file.txt'))
    if found is not None:
        arrays = found.values() if isinstance(found, dict) else [found]
        assert all(np.isfinite(array).all() for array in arrays)


@examples()
@given(bits=hnp.arrays(np.bool_, SHAPES))
def test_bits_round_trip_and_order(tmp_path, bits):
    path = tmp_path / 'a.bin'
    kitti_files.write_voxel_bits(path, bits)
    np.testing.assert_array_equal(kitti_files.read_voxel_bits(path, bits.shape), bits)
    # first voxel = highest bit of the first byte, by plain arithmetic
    expected = bytearray(-(-bits.size // 8))
    for index, bit in enumerate(bits.ravel().tolist()):
        expected[index // 8] |= bit << 7 - index % 8
    assert path.read_bytes() == bytes(expected)


@examples()
@given(labels=hnp.arrays(np.uint16, SHAPES))
def test_labels_round_trip_and_order(tmp_path, labels):
    path = tmp_path / 'a.label'
    kitti_files.write_voxel_labels(path, labels)
    np.testing.assert_array_equal(kitti_files.read_voxel_labels(path, labels.shape), labels)
    expected = b''.join(value.to_bytes(2, 'little') for value in labels.ravel().tolist())
    assert path.read_bytes() == expected


@examples()
@given(shape=SHAPES, size=st.integers(0, 2000))
def test_volumes_of_another_size_are_refused(tmp_path, shape, size):
    path = tmp_path / 'a.bin'
    path.write_bytes(bytes(size))
    voxels = int(np.prod(shape))
    for read, right in (
        (kitti_files.read_voxel_bits, -(-voxels // 8)),
        (kitti_files.read_voxel_labels, 2 * voxels),
    ):
        volume = result_or_error(lambda read=read: read(path, shape))
        assert (volume is not None) == (size == right)


@examples()
@given(train=hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 19)))
def test_predictions_round_trip(train):
    raw = raw_from_train(train)
    np.testing.assert_array_equal(train_from_raw(raw), train)
    found = prediction_labels(raw.astype('<u2').tobytes(), 'p', train.shape)
    np.testing.assert_array_equal(found, train)


@examples()
@given(raw=hnp.arrays(np.uint16, SHAPES))
def test_any_prediction_is_right_or_refused(raw):
    found = result_or_error(lambda: prediction_labels(raw.tobytes(), 'p', raw.shape))
    assert found is None or found.max() < 20


@examples()
@given(content=BYTES)
def test_any_scan_is_read_whole_or_refused(tmp_path, content):
    path = tmp_path / 'a.bin'
    path.write_bytes(content)
    scan = result_or_error(lambda: kitti_files.read_velodyne(path))
    labels = result_or_error(lambda: kitti_files.read_point_instances(path))
    assert (scan is not None) == (len(content) % 16 == 0)
    assert (labels is not None) == (len(content) % 4 == 0)
    if scan is not None:
        assert scan.tobytes() == content


@examples()
@given(
    arrays=st.dictionaries(
        NAMES,
        hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, max_side=4)),
        max_size=3,
    ),
    packed=st.booleans(),
)
def test_arrays_round_trip(tmp_path, arrays, packed):
    path = tmp_path / 'a.npz'
    (np.savez_compressed if packed else np.savez)(path, **{f'_{k}': v for k, v in arrays.items()})
    found = read_arrays(path)
    assert found.keys() == {f'_{name}' for name in arrays}
    for name, array in arrays.items():
        again = found[f'_{name}']
        assert again.dtype == array.dtype and again.shape == array.shape
        assert again.tobytes() == array.tobytes()


def npy(array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@examples(100)
@given(place=st.integers(0, 140), value=st.integers(0, 255), end=st.integers(0, 150))
def test_damaged_arrays_are_read_or_refused(tmp_path, place, value, end):
    content = bytearray(npy(np.arange(4, dtype='<u4')))
    content[place % len(content)] = value
    (tmp_path / 'a.npy').write_bytes(content[:end] if end < 140 else content)
    found = result_or_error(lambda: read_array(tmp_path / 'a.npy'))
    assert found is None or found.nbytes <= 16


@examples(100)
@given(
    suffix=st.sampled_from(['.png', '.jpg']),
    place=st.integers(0, 200),
    value=st.integers(0, 255),
    end=st.integers(0, 400),
)
def test_damaged_images_are_read_or_refused(tmp_path, suffix, place, value, end):
    path = tmp_path / f'a{suffix}'
    image_files.write_image(path, np.arange(75, dtype=np.uint8).reshape(5, 5, 3))
    content = bytearray(path.read_bytes())
    content[place % len(content)] = value
    path.write_bytes(content[:end])
    for read in (
        image_files.read_image,
        image_files.read_depth_image,
        image_files.read_semantic_image,
    ):
        image = result_or_error(lambda read=read: read(path))
        assert image is None or image.size


@examples(30)
@given(
    image=hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))),
    depth=hnp.arrays(np.uint16, (3, 4)),
)
def test_lossless_images_round_trip(tmp_path, image, depth):
    image_files.write_image(tmp_path / 'a.png', image)
    np.testing.assert_array_equal(image_files.read_image(tmp_path / 'a.png'), image)
    depth_m = depth[:, :3] / np.float32(256)
    depth_m[depth_m >= image_files.MAX_DEPTH_M] = 0
    image_files.write_depth_image(tmp_path / 'd.png', depth_m)
    np.testing.assert_array_equal(image_files.read_depth_image(tmp_path / 'd.png'), depth_m)


@pytest.mark.parametrize('kind', ['pipe', 'device', 'folder', 'sparse'])
def test_what_is_no_plain_file_is_not_waited_for(tmp_path, kind):
    path = tmp_path / 'calib.txt'
    if kind == 'pipe':
        os.mkfifo(path)
    elif kind == 'device':
        path.symlink_to('/dev/zero')
    elif kind == 'folder':
        path.mkdir()
    else:
        with path.open('wb') as stream:
            stream.truncate(10**12)
    with pytest.raises(DataFileError, match='cannot be read|at most'):
        kitti_files.read_calib(path)
