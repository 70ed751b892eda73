"""Properties of what other nodes send: decoded exactly, or dropped for a reason."""

import resource

import numpy as np
import pytest

pytest.importorskip('rclpy')

import cv2
from fixtures_properties import examples, result_or_error
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.class_presets import PRESETS, class_set
from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import CLASS_NAMES
from cigocc_ros.core.point_records import OCCUPANCY_DTYPE, occupancy_points
from cigocc_ros.replay.cloud_reading import points_from_cloud
from cigocc_ros.replay.outcome import occupancy_from_points
from cigocc_ros.ros.input.camera_info import ImageGeometry, geometry_from_info, info_from_camera
from cigocc_ros.ros.input.depth_images import depth_from_image
from cigocc_ros.ros.input.depth_prior import stereo_prior
from cigocc_ros.ros.input.images import rgb_from_compressed, rgb_from_image
from cigocc_ros.ros.input.label_images import TYPES, ids_from_message, translated
from cigocc_ros.ros.output.clouds import cloud_from_occupancy, cloud_from_points
from cigocc_ros.ros.players.kitti_messages import image_from_depth, image_from_rgb
from cigocc_ros.ros.stamps import stamp_from_ns, stamp_to_ns
from cigocc_ros.runtime.preprocess import calibration_tables

# encoding -> channels, bytes of one, which are red, green, blue
LAYOUTS = {
    'rgb8': (3, 1, (0, 1, 2)),
    'bgr8': (3, 1, (2, 1, 0)),
    'rgba8': (4, 1, (0, 1, 2)),
    'bgra8': (4, 1, (2, 1, 0)),
    'mono8': (1, 1, (0, 0, 0)),
    'mono16': (1, 2, (0, 0, 0)),
    'rgb16': (3, 2, (0, 1, 2)),
    'bgr16': (3, 2, (2, 1, 0)),
    'rgba16': (4, 2, (0, 1, 2)),
    'bgra16': (4, 2, (2, 1, 0)),
}
# decoded by OpenCV: what counts is that they are, in the right size
INTERPOLATED = {
    **{f'bayer_{order}8': 1 for order in ('rggb', 'bggr', 'gbrg', 'grbg')},
    **{f'bayer_{order}16': 2 for order in ('rggb', 'bggr', 'gbrg', 'grbg')},
    **dict.fromkeys(('uyvy', 'yuv422', 'yuyv', 'yuv422_yuy2'), 2),
}
SIDES = st.integers(1, 7)
FORWARD = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
ADE20K = class_set('ade20k')
ADE20K_IDS = {CLASS_NAMES.index(name): ids for name, ids in PRESETS['ade20k'].items()}
GRID = VoxelGrid((0, -2, -1), (0.5, 0.5, 0.5), (4, 3, 2))


def message(rows: np.ndarray, size, encoding: str, padding: int, bigendian=False) -> Image:
    """Return an Image of (H, W * bytes) uint8 rows with `padding` bytes after each."""
    width, height = size
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xEE)
    image = Image(width=width, height=height, encoding=encoding, step=padded.shape[1])
    image.is_bigendian, image.data = int(bigendian), padded.tobytes()
    return image


@examples(120)
@given(
    encoding=st.sampled_from(sorted(LAYOUTS)),
    width=SIDES,
    height=SIDES,
    padding=st.integers(0, 5),
    bigendian=st.booleans(),
    seed=st.integers(0, 9),
)
def test_every_encoding_is_decoded_exactly(encoding, width, height, padding, bigendian, seed):
    channels, size, order = LAYOUTS[encoding]
    pixels = np.random.default_rng(seed).integers(
        0, 256, (height, width, channels, size), np.uint8
    )
    high = pixels[..., 0] if bigendian or size == 1 else pixels[..., 1]
    image = message(pixels.reshape(height, -1), (width, height), encoding, padding, bigendian)
    np.testing.assert_array_equal(rgb_from_image(image), high[..., order])


@examples(80)
@given(
    encoding=st.sampled_from(sorted(INTERPOLATED)),
    width=SIDES,
    height=SIDES,
    padding=st.integers(0, 3),
)
def test_interpolated_encodings_are_decoded_or_dropped(encoding, width, height, padding):
    rows = np.full((height, width * INTERPOLATED[encoding]), 128, np.uint8)
    image = message(rows, (width, height), encoding, padding)
    rgb = result_or_error(lambda: rgb_from_image(image))
    if width % 2 == 0 and height > 2 and width > 2:
        assert rgb is not None
    assert rgb is None or (rgb.shape == (height, width, 3) and rgb.dtype == np.uint8)


NUMBERS = st.integers(0, 40) | st.sampled_from([2**16, 2**31, 2**32 - 1])


@examples(200)
@given(
    encoding=st.sampled_from([*LAYOUTS, *INTERPOLATED, '32FC1', '16UC1', '', '8UC3'])
    | st.text(max_size=20),
    width=NUMBERS,
    height=NUMBERS,
    step=NUMBERS,
    bigendian=st.integers(0, 255),
    data=st.binary(max_size=300),
)
def test_any_image_is_decoded_or_dropped(encoding, width, height, step, bigendian, data):
    image = Image(width=width, height=height, step=step, encoding=encoding)
    image.is_bigendian, image.data = bigendian, data
    rgb = result_or_error(lambda: rgb_from_image(image))
    assert rgb is None or rgb.shape == (height, width, 3)
    depth = result_or_error(lambda: depth_from_image(image))
    if depth is not None:
        assert depth.shape == (height, width)
        assert np.isfinite(depth).all() and depth.min() >= 0
    labels = result_or_error(lambda: translated(ids_from_message(image), ADE20K))
    assert labels is None or labels.classes.shape == (height, width)


@examples(120)
@given(
    encoding=st.sampled_from(sorted(TYPES)),
    numbers=hnp.arrays(
        np.int64,
        st.tuples(SIDES, SIDES),
        elements=st.integers(0, 260) | st.sampled_from([-1, -128, 65535, 2**31 - 1]),
    ),
    bigendian=st.booleans(),
    padding=st.integers(0, 3),
)
def test_ids_become_classes_one_by_one(encoding, numbers, bigendian, padding):
    """Compare with a loop over the pixels that knows nothing of tables."""
    ids = numbers.astype(TYPES[encoding])
    rows = ids.astype(np.dtype(('>' if bigendian else '<') + TYPES[encoding]))
    rows = rows.view(np.uint8).reshape(ids.shape[0], -1)
    image = message(rows, ids.shape[::-1], encoding, padding, bigendian)
    np.testing.assert_array_equal(ids_from_message(image), ids)
    found = result_or_error(lambda: translated(ids_from_message(image), ADE20K))
    plain = [int(one) for one in ids.ravel()]
    known = [next((c for c, own in ADE20K_IDS.items() if one in own), 0) for one in plain]
    foreign = [one > 149 and one not in (255, 65535) for one in plain]
    if found is None:
        assert not any(known) or sum(foreign) > 0.5 * len(plain)
    else:
        assert found.classes.ravel().tolist() == known
        assert found.foreign_share == pytest.approx(np.mean(foreign))
        assert found.known_share == pytest.approx(np.mean(np.array(known) > 0))


@examples()
@given(rgb=hnp.arrays(np.uint8, st.tuples(SIDES, SIDES, st.just(3))))
def test_images_round_trip(rgb):
    np.testing.assert_array_equal(rgb_from_image(image_from_rgb(rgb)), rgb)


@examples()
@given(
    depth=hnp.arrays(np.float32, st.tuples(SIDES, SIDES), elements=st.floats(0, 1e6, width=32)),
    bigendian=st.booleans(),
    padding=st.integers(0, 8),
)
def test_depth_round_trips_in_both_byte_orders(depth, bigendian, padding):
    np.testing.assert_array_equal(depth_from_image(image_from_depth(depth)), depth)
    height, width = depth.shape
    rows = depth.astype('>f4' if bigendian else '<f4').view(np.uint8).reshape(height, -1)
    image = message(rows, (width, height), '32FC1', padding, bigendian)
    np.testing.assert_array_equal(depth_from_image(image), depth)


@examples()
@given(values=hnp.arrays(np.float32, st.tuples(SIDES, SIDES)))
def test_depth_that_is_no_distance_is_unknown(values):
    height, width = values.shape
    image = message(values.view(np.uint8).reshape(height, -1), (width, height), '32FC1', 0)
    depth = depth_from_image(image)
    with np.errstate(invalid='ignore'):
        bad = ~(values >= 0) | np.isinf(values)
    np.testing.assert_array_equal(depth, np.where(bad, 0, values))


@examples()
@given(raw=hnp.arrays(np.uint16, st.tuples(SIDES, SIDES)), bigendian=st.booleans())
def test_millimetres_are_read_in_both_byte_orders(raw, bigendian):
    height, width = raw.shape
    rows = raw.astype('>u2' if bigendian else '<u2').view(np.uint8).reshape(height, -1)
    depth = depth_from_image(message(rows, (width, height), '16UC1', 0, bigendian))
    np.testing.assert_allclose(depth, np.where(raw == 65535, 0, raw / 1000), rtol=1e-6)


@examples()
@given(stamp_ns=st.integers(-(2**31) * 10**9, 2**31 * 10**9 - 1))
def test_stamps_round_trip(stamp_ns):
    assert stamp_to_ns(stamp_from_ns(stamp_ns)) == stamp_ns


def png_header(width: int, height: int) -> bytes:
    return b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR' + width.to_bytes(4, 'big') + height.to_bytes(4, 'big')


def jpeg_header(width: int, height: int) -> bytes:
    size = height.to_bytes(2, 'big') + width.to_bytes(2, 'big')
    return b'\xff\xd8\xff\xe0\0\x04ab\xff\xc0\0\x11\x08' + size + b'\3'


@examples()
@given(
    head=st.sampled_from([b'', png_header(2, 2), jpeg_header(2, 2), b'BM', b'II*\0', b'\xff\xd8']),
    tail=st.binary(max_size=100),
)
def test_any_compressed_image_is_decoded_or_dropped(head, tail):
    image = CompressedImage(format='png', data=head + tail)
    rgb = result_or_error(lambda: rgb_from_compressed(image))
    assert rgb is None or rgb.size


@pytest.mark.parametrize(
    'content',
    [png_header(100_000, 2), png_header(2**31 - 1, 2**31 - 1), jpeg_header(65535, 65535)],
)
def test_headers_that_promise_gigabytes_are_dropped_unread(content):
    image = CompressedImage(format='jpeg', data=content + bytes(200))
    assert result_or_error(lambda: rgb_from_compressed(image)) is None


@pytest.mark.parametrize('length', [100, 2**20, 0x2A000022, 2**32 - 1])
@pytest.mark.parametrize('kind', [b'IDAT', b'IEND', b'tEXt'])
def test_png_chunks_that_promise_gigabytes_are_dropped_unread(length, kind):
    """OpenCV's allocations are not Python's: the resident memory of the process is looked at."""
    _, encoded = cv2.imencode('.png', np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    assert rgb_from_compressed(CompressedImage(format='png', data=encoded.tobytes())).size == 48
    content = bytearray(encoded.tobytes())
    at = content.index(b'IDAT')
    content[at - 4 : at + 4] = length.to_bytes(4, 'big') + kind
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    image = CompressedImage(format='png', data=bytes(content))
    assert result_or_error(lambda: rgb_from_compressed(image)) is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


LABELS = hnp.arrays(np.uint8, GRID.shape, elements=st.integers(0, 19))
PROBABILITIES = hnp.arrays(np.uint8, GRID.shape, elements=st.integers(0, 255))


@examples()
@given(labels=LABELS, probability=PROBABILITIES)
def test_occupancy_round_trips_through_a_cloud(labels, probability):
    sent = Occupancy(labels, probability, GRID, 12_345_678_901, 'velo_link')
    cloud = cloud_from_occupancy(sent)
    points = points_from_cloud(cloud)
    assert points.dtype == OCCUPANCY_DTYPE and points.tobytes() == occupancy_points(sent).tobytes()
    stamp_ns = stamp_to_ns(cloud.header.stamp)
    found = occupancy_from_points(points, GRID, stamp_ns, cloud.header.frame_id)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.probability, np.where(labels > 0, probability, 0))
    assert (found.stamp_ns, found.frame_id) == (sent.stamp_ns, sent.frame_id)


FIELDS = st.lists(
    st.builds(
        PointField,
        name=st.sampled_from(['x', 'y', 'z', 'label', 'probability', '', 'µ']),
        offset=st.integers(0, 24) | st.just(2**32 - 1),
        datatype=st.integers(0, 9),
        count=st.integers(0, 3),
    ),
    max_size=6,
)


@examples(150)
@given(
    fields=FIELDS,
    size=st.tuples(NUMBERS, st.integers(0, 3)),
    steps=st.tuples(NUMBERS, NUMBERS | st.none()),
    bigendian=st.booleans(),
    data=st.binary(max_size=120),
)
def test_any_cloud_is_read_or_refused(fields, size, steps, bigendian, data):
    width, height = size
    row_step = width * steps[0] % 2**32 if steps[1] is None else steps[1]
    cloud = PointCloud2(width=width, height=height, point_step=steps[0], row_step=row_step)
    cloud.fields, cloud.is_bigendian, cloud.data = fields, bigendian, data
    points = result_or_error(lambda: points_from_cloud(cloud))
    if points is not None:
        assert len(points) == width * height and points.tobytes() == data
        result_or_error(lambda: occupancy_from_points(points, GRID, 0, 'f'))


@pytest.mark.parametrize(
    'change', [{'label': 265}, {'label': 20}, {'probability': np.nan}, {'probability': 1.5}]
)
def test_points_out_of_range_are_refused_not_wrapped(change):
    points = np.zeros(1, OCCUPANCY_DTYPE)
    points['x'], points['y'], points['z'] = 0.25, -1.75, -0.75
    assert occupancy_from_points(points, GRID, 0, 'f').labels.max() == 0
    for name, value in change.items():
        points[name] = value
    again = points_from_cloud(cloud_from_points(points, Header()))
    assert result_or_error(lambda: occupancy_from_points(again, GRID, 0, 'f')) is None


SIZES = st.integers(0, 700)
REALS = st.floats(width=32) | st.sampled_from([0.0, 1.0, 700.0, 1e-30, 1e30])
CAMERA = CameraModel.from_intrinsics(700, 700, 320, 96, 640, 192)


@examples(200)
@given(data=st.data())
def test_any_camera_info_gives_finite_numbers_or_drops_the_frame(data):
    info = info_from_camera(CAMERA)
    for name, count in (('k', 9), ('p', 12), ('r', 9)):
        numbers = getattr(info, name)
        for place in data.draw(st.sets(st.integers(0, count - 1), max_size=2), label=name):
            numbers[place] = data.draw(REALS)
        setattr(info, name, numbers)
    info.d = data.draw(st.lists(REALS, max_size=15))
    info.distortion_model = data.draw(
        st.sampled_from(['plumb_bob', 'rational_polynomial', '', 'equidistant', 'holo'])
    )
    info.binning_x, info.binning_y = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 900)))
    roi = data.draw(st.just((0, 0, 0, 0)) | st.tuples(SIZES, SIZES, SIZES, SIZES))
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = roi
    size = data.draw(st.sampled_from([(640, 192), (320, 96), (1, 1), (64, 19)]))

    def tables():
        geometry = geometry_from_info(info, size, raw=data.draw(st.booleans()))
        image = geometry.rectify(np.zeros((size[1], size[0], 3), np.uint8))
        assert image.shape[:2] == (geometry.camera.height, geometry.camera.width)
        return calibration_tables(geometry.camera, FORWARD, (48, 160))

    with np.errstate(all='ignore'):
        found = result_or_error(tables)
    if found is not None:
        assert np.isfinite(found.pixel_from_velo).all()
        assert np.isfinite(found.velo_from_pixel).all()


@examples(40)
@given(left=st.tuples(SIDES, SIDES), right=st.tuples(SIDES, SIDES), shift=st.floats(-100, 100))
def test_any_stereo_pair_gives_depth_or_drops_the_prior(left, right, shift):
    assume(left == right or left[0] != right[0])
    images = [np.zeros((height, width, 3), np.uint8) for width, height in (left, right)]
    moved = CAMERA.projection.copy()
    moved[0, 3] -= shift
    one = ImageGeometry(CameraModel(*left, CAMERA.projection))
    other = ImageGeometry(CameraModel(*right, moved))
    depth = result_or_error(lambda: stereo_prior(images[0], one, images[1], other))
    if depth is not None:
        assert depth.shape == images[0].shape[:2] and np.isfinite(depth).all()


def test_an_empty_camera_info_is_refused():
    assert result_or_error(lambda: geometry_from_info(CameraInfo(), (640, 192), True)) is None


@pytest.mark.parametrize(
    'cloud',
    [
        PointCloud2(width=5, height=1),  # of points without size
        PointCloud2(fields=[PointField(name='x', datatype=77)], point_step=4),
        PointCloud2(fields=[PointField(name='x', offset=2**32 - 1, datatype=7)], point_step=4),
    ],
)
def test_clouds_without_sense_are_refused(cloud):
    assert result_or_error(lambda: points_from_cloud(cloud)) is None


@pytest.mark.parametrize(
    'change', [{0: 1e-30}, {0: 1e30}, {3: 1e30}, {1: 700.0, 4: 700.0, 5: 700}]
)
def test_projections_beyond_all_measure_are_refused(change):
    info = info_from_camera(CAMERA)
    p = np.array(info.p)
    for place, value in change.items():
        p[place] = value
    info.p = p

    def tables():
        geometry = geometry_from_info(info, (640, 192), raw=False)
        return calibration_tables(geometry.camera, FORWARD, (48, 160))

    assert result_or_error(tables) is None
