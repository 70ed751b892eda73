"""Binary containers: .npz, .npy, zips of predictions, ONNX, PNG and JPEG."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.lib import format as npy_format

from cigocc_ros.core import arrays as array_files
from cigocc_ros.core.encoded_images import MAX_IMAGE_PIXELS, check_encoded_image
from cigocc_ros.core.errors import CigoccError
from cigocc_ros.core.onnx_file import require_self_contained
from cigocc_ros.data import image_files
from cigocc_ros.data.kitti_layout import FrameKey
from cigocc_ros.evaluation.submission import validate_submission

MOST_BYTES = 1 << 20
MOST_PIXELS = 1 << 20
# model(graph(initializer(data_location = EXTERNAL)))
EXTERNAL_ONNX = bytes([8, 9, 0x3A, 4, 0x2A, 2, 0x70, 1])


def seeds() -> list[bytes]:
    """Return inputs: a byte that chooses the kind, then the content."""
    arrays: dict[str, Any] = {
        'label': np.arange(6, dtype=np.uint8).reshape(1, 2, 3),
        'x': np.ones(2),
    }
    packed, plain, single, submission = (io.BytesIO() for _ in range(4))
    np.savez_compressed(packed, **arrays)
    np.savez(plain, **arrays)
    np.save(single, np.asfortranarray(np.ones((2, 3), '>f4')))
    with zipfile.ZipFile(submission, 'w', zipfile.ZIP_DEFLATED) as target:
        target.writestr('sequences/11/predictions/000000.label', bytes(64))
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    png, jpeg = (cv2.imencode(suffix, image)[1].tobytes() for suffix in ('.png', '.jpg'))
    deep = cv2.imencode('.png', np.arange(16, dtype=np.uint16).reshape(4, 4))[1].tobytes()
    return [
        b'\0' + packed.getvalue(),
        b'\0' + plain.getvalue(),
        b'\1' + single.getvalue(),
        b'\2' + submission.getvalue(),
        b'\3' + EXTERNAL_ONNX,
        b'\3' + bytes([8, 9, 0x3A, 8, 0x0A, 6, 0x2A, 4, 0x2A, 2, 0x68, 0]),
        b'\4' + png,
        b'\4' + jpeg,
        b'\5' + deep,
        b'\6' + cv2.imencode('.png', image[..., 0] % 20)[1].tobytes(),
    ]


def run(data: bytes, folder: Path) -> None:
    """Read the content as the kind that its first byte chooses."""
    kind = (data[:1] or b'\0')[0] % 7
    name = ('a.npz', 'a.npy', 'a.zip', 'a.onnx', 'a.png', 'd.png', 's.png')[kind]
    path = folder / name
    path.write_bytes(data[1:])
    try:
        (_npz, _npy, _submission, _onnx, _image, _depth, _semantic)[kind](path)
    except CigoccError as error:
        assert len(str(error)) < 2000


def _npz(path: Path) -> None:
    arrays = array_files.read_arrays(path, at_most=MOST_BYTES)
    assert sum(array.nbytes for array in arrays.values()) <= MOST_BYTES
    assert not any(array.dtype.hasobject for array in arrays.values())


def _npy(path: Path) -> None:
    array = array_files.read_array(path, MOST_BYTES)
    assert array.nbytes <= MOST_BYTES and not array.dtype.hasobject
    again = io.BytesIO()
    np.save(again, array, allow_pickle=False)
    assert npy_format.read_array(io.BytesIO(again.getvalue())).tobytes() == array.tobytes()


def _submission(path: Path) -> None:
    validate_submission(path, (FrameKey('11', '000000'),))


def _onnx(path: Path) -> None:
    require_self_contained(path.read_bytes(), str(path))


def _image(path: Path) -> None:
    _skip_large(path)
    image = image_files.read_image(path)
    assert image.dtype == np.uint8 and image.shape[2] == 3


def _depth(path: Path) -> None:
    _skip_large(path)
    depth = image_files.read_depth_image(path)
    assert depth.dtype == np.float32 and np.isfinite(depth).all() and depth.min() >= 0


def _semantic(path: Path) -> None:
    _skip_large(path)
    labels = image_files.read_semantic_image(path)
    assert ((labels < 20) | (labels == 255)).all()


def _skip_large(path: Path) -> None:
    """Raise the error of the check; leave out what it lets pass and takes a second to decode."""
    content = path.read_bytes()
    width, height = check_encoded_image(content, str(path))
    assert width * height <= MAX_IMAGE_PIXELS
    if width * height > MOST_PIXELS:
        raise CigoccError(struct.pack('>II', width, height).hex())
