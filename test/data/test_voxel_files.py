"""Voxel files: bit order, axis order, lengths, and the official files where they are there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.data.kitti_files import (
    read_voxel_bits,
    read_voxel_labels,
    write_voxel_bits,
    write_voxel_labels,
)
from cigocc_ros.data.kitti_sequence import KittiSequence

few = settings(max_examples=25, deadline=None)  # each example writes a file
shapes = st.tuples(*[st.integers(1, 9)] * 3)


@few
@given(hnp.arrays(np.bool_, shapes))
def test_bits_survive_and_are_packed(tmp_path_factory, bits):
    path = tmp_path_factory.mktemp('bits') / '000000.bin'
    write_voxel_bits(path, bits)
    assert path.stat().st_size == -(-bits.size // 8)
    np.testing.assert_array_equal(read_voxel_bits(path, bits.shape), bits)


@few
@given(hnp.arrays(np.uint16, shapes))
def test_labels_survive(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp('labels') / '000000.label'
    write_voxel_labels(path, labels)
    read = read_voxel_labels(path, labels.shape)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, labels)


def test_the_first_voxel_is_the_highest_bit_and_z_runs_fastest(tmp_path):
    path = tmp_path / '000000.bin'
    path.write_bytes(bytes([0b10000000, 0b00000010]))
    bits = read_voxel_bits(path, (2, 2, 4))
    assert np.argwhere(bits).tolist() == [[0, 0, 0], [1, 1, 2]]


def test_labels_are_little_endian_and_z_runs_fastest(tmp_path):
    path = tmp_path / '000000.label'
    path.write_bytes(bytes([0, 0, 252, 0, 0, 1, 0, 0]))
    np.testing.assert_array_equal(read_voxel_labels(path, (2, 1, 2)), [[[0, 252]], [[256, 0]]])


@pytest.mark.parametrize('num_bytes', [0, 262143, 262145, 4194304])
def test_bits_of_a_wrong_length_are_refused(tmp_path, num_bytes):
    path = tmp_path / '000000.invalid'
    path.write_bytes(bytes(num_bytes))
    with pytest.raises(DataFileError) as raised:
        read_voxel_bits(path, SEMANTIC_KITTI_GRID.shape)
    assert 'expected 262144 bytes' in str(raised.value)
    assert f'found {num_bytes}' in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize('num_bytes', [0, 4194303, 262144])
def test_labels_of_a_wrong_length_are_refused(tmp_path, num_bytes):
    path = tmp_path / '000000.label'
    path.write_bytes(bytes(num_bytes))
    with pytest.raises(DataFileError, match=f'expected 4194304 bytes.*found {num_bytes}'):
        read_voxel_labels(path, SEMANTIC_KITTI_GRID.shape)


def test_arrays_of_a_wrong_kind_are_not_written(tmp_path):
    with pytest.raises(DataFileError, match='bits must be bool'):
        write_voxel_bits(tmp_path / 'a.bin', np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(DataFileError, match='raw labels must be uint16'):
        write_voxel_labels(tmp_path / 'a.label', np.zeros((2, 2, 2), np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('name', 'frame_id'), [('02', '000000'), ('04', '000005')])
def test_the_official_bin_is_the_voxelised_scan(shared_dir, name, frame_id):
    """Points without label are not in it; apart from them it is the scan, voxel by voxel."""
    sequence = KittiSequence(shared_dir / 'data/kitti_mini/sequences' / name)
    points = sequence.velodyne(frame_id)[:, :3]
    index, inside = SEMANTIC_KITTI_GRID.index_of(points)
    index = index[inside & (sequence.point_labels(frame_id) > 0)]
    expected = np.zeros(SEMANTIC_KITTI_GRID.shape, bool)
    expected[tuple(index.T)] = True
    official = sequence.voxel_bits(frame_id, 'bin')
    assert official.sum() > 10_000
    assert (official ^ expected).sum() <= 2
