"""Images of class ids: every encoding that nodes publish, what ids mean, and what is refused."""

import numpy as np
import pytest

pytest.importorskip('rclpy')

from sensor_msgs.msg import CameraInfo, Image

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.class_presets import class_set
from cigocc_ros.core.labels import CLASS_NAMES
from cigocc_ros.ros.dropped import DroppedFrame
from cigocc_ros.ros.input.camera_info import ImageGeometry, geometry_from_info
from cigocc_ros.ros.input.label_images import fitted_classes, ids_from_message, translated

CITYSCAPES = class_set('cityscapes')
ROAD, CAR = CLASS_NAMES.index('road'), CLASS_NAMES.index('car')
DTYPES = {
    'mono8': 'u1',
    '8UC1': 'u1',
    '8SC1': 'i1',
    'mono16': 'u2',
    '16UC1': 'u2',
    '16SC1': 'i2',
    '32SC1': 'i4',
}


def label_message(ids, encoding='mono8', padding=0, bigendian=False):
    dtype = np.dtype(('>' if bigendian else '<') + DTYPES[encoding])
    rows = np.ascontiguousarray(ids, dtype).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    height, width = ids.shape
    message = Image(height=height, width=width, encoding=encoding, step=rows.shape[1])
    message.is_bigendian = int(bigendian)
    message.data = rows.tobytes()
    return message


@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize('bigendian', [False, True])
@pytest.mark.parametrize('encoding', DTYPES)
def test_every_integer_encoding_is_read(encoding, bigendian, padding):
    ids = np.arange(12).reshape(3, 4)
    found = ids_from_message(label_message(ids, encoding, padding, bigendian))
    np.testing.assert_array_equal(found, ids)


@pytest.mark.parametrize('encoding', ['16SC1', '32SC1', '8SC1'])
def test_negative_ids_are_unlabelled(encoding):
    """semantic_inference says -1 where its groups have no place for an id."""
    ids = np.array([[-1, 0], [0, 13]])
    found = translated(ids_from_message(label_message(ids, encoding)), CITYSCAPES)
    np.testing.assert_array_equal(found.classes, [[0, ROAD], [ROAD, CAR]])
    assert (found.known_share, found.foreign_share) == (0.75, 0.0)


@pytest.mark.parametrize(
    ('encoding', 'unlabelled'), [('mono8', 255), ('16UC1', 65535), ('32SC1', 255)]
)
def test_the_largest_number_is_unlabelled(encoding, unlabelled):
    """The convention of vision_msgs/LabelInfo."""
    ids = np.array([[unlabelled, unlabelled], [0, 13]])
    found = translated(ids_from_message(label_message(ids, encoding)), CITYSCAPES)
    np.testing.assert_array_equal(found.classes, [[0, 0], [ROAD, CAR]])
    assert found.foreign_share == 0.0


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'rgba8', 'bgra8', '8UC3', 'bayer_rggb8'])
def test_a_picture_in_colours_is_refused_with_what_to_subscribe_to(encoding):
    message = Image(height=2, width=2, encoding=encoding, step=8, data=bytes(16))
    with pytest.raises(DroppedFrame, match='semantic/image_raw.*raw_segmentation_mask') as found:
        ids_from_message(message)
    assert found.value.reason == 'semantic_colour'


@pytest.mark.parametrize('encoding', ['32FC1', '64FC1', '16UC2', 'holo9', ''])
def test_what_holds_no_ids_is_refused(encoding):
    with pytest.raises(DroppedFrame, match='label images of encoding') as found:
        ids_from_message(Image(height=2, width=2, encoding=encoding, step=16, data=bytes(32)))
    assert found.value.reason == 'unknown_encoding'


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'step': 3}, 'wrong_step'),
        ({'data': bytes(5)}, 'truncated_image'),
        ({'width': 0}, 'empty_image'),
        ({'width': 100_000, 'height': 100_000}, 'oversized_image'),
    ],
)
def test_messages_that_contradict_themselves_are_refused(changes, reason):
    message = label_message(np.zeros((3, 4), int))
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(DroppedFrame) as found:
        ids_from_message(message)
    assert found.value.reason == reason


def ids_with(foreign_pixels, foreign=130):
    ids = np.zeros((10, 20), np.int32)
    ids.flat[:foreign_pixels] = foreign
    return ids


@pytest.mark.parametrize('dtype', ['u1', 'i2', 'i4'])
def test_ids_of_no_class_are_unknown_and_those_of_another_set_are_said(dtype):
    sky, many = np.full((10, 20), 10, dtype), ids_with(30).astype(dtype)
    sky[:5] = 0
    assert translated(sky, CITYSCAPES).doubt('cityscapes') == ''
    found = translated(many, CITYSCAPES)
    assert (found.classes.flat[:30] == 0).all() and (found.classes.flat[30:] == ROAD).all()
    assert found.foreign_share == pytest.approx(0.15)
    assert '15 % of the label pixels have ids that cityscapes does not have, such as [130]' in (
        found.doubt('cityscapes')
    )


def test_a_single_odd_pixel_is_no_doubt():
    assert translated(ids_with(2), CITYSCAPES).doubt('cityscapes') == ''


@pytest.mark.parametrize('foreign', [130, 300, 2000])
def test_an_image_of_another_set_is_refused(foreign):
    with pytest.raises(DroppedFrame, match=rf'90 % .* such as \[{foreign}\]') as found:
        translated(ids_with(180, foreign), CITYSCAPES)
    assert found.value.reason == 'semantic_ids'


def test_an_image_without_any_class_is_refused():
    with pytest.raises(DroppedFrame, match=r'it has \[10\]') as found:
        translated(np.full((4, 4), 10, np.uint8), CITYSCAPES)
    assert found.value.reason == 'semantic_empty'


CAMERA = CameraModel.from_intrinsics(80, 80, 40, 24, 80, 48)


@pytest.mark.parametrize('size', [(48, 80), (24, 40), (96, 160), (480, 800), (13, 22)])
def test_classes_of_the_same_shape_keep_their_size(size):
    classes = np.full(size, ROAD, np.uint8)
    assert fitted_classes(classes, ImageGeometry(CAMERA)) is classes


@pytest.mark.parametrize('size', [(48, 64), (512, 512), (50, 80), (80, 48)])
def test_classes_of_another_shape_are_refused(size):
    with pytest.raises(DroppedFrame, match='another shape') as found:
        fitted_classes(np.full(size, ROAD, np.uint8), ImageGeometry(CAMERA))
    assert found.value.reason == 'semantic_size'


@pytest.mark.parametrize('scale', [1, 2])
def test_classes_of_a_raw_image_are_rectified_with_it(scale):
    pytest.importorskip('cv2')
    info = CameraInfo(width=80, height=48, distortion_model='plumb_bob', d=[-0.3, 0, 0, 0, 0.0])
    info.k = CAMERA.intrinsics.ravel().tolist()
    info.r = np.eye(3).ravel().tolist()
    info.p = CAMERA.projection.ravel().tolist()
    geometry = geometry_from_info(info, (80, 48), raw=True)
    row, column = np.mgrid[0:48, 0:80]
    stripes = (1 + column // 10 + 8 * (row // 24)).astype(np.uint8)
    large = stripes.repeat(scale, 0).repeat(scale, 1)
    found = fitted_classes(large, geometry)
    expected = geometry.rectify(np.repeat(stripes[..., None], 3, 2))[..., 0]
    assert found.shape == (48, 80) and set(np.unique(found)) <= set(range(17))
    assert (found == expected).mean() > 0.8  # but where the image mixes neighbours
    assert (found != stripes).mean() > 0.05
