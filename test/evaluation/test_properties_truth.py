"""Properties of what is exchanged as volumes: partial truth, saved grids, ground truth."""

import json

import numpy as np
import pytest
from fixtures_properties import examples, result_or_error
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cigocc_ros.core.frames import Occupancy, labels_on_grid
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID, VoxelGrid
from cigocc_ros.core.labels import IGNORE, raw_from_train, train_from_raw
from cigocc_ros.data.kitti_files import read_voxel_labels, write_voxel_bits, write_voxel_labels
from cigocc_ros.data.kitti_layout import FrameKey
from cigocc_ros.data.partial_truth import LABEL_KEY
from cigocc_ros.evaluation.ground_truth import ARRAY_KEY, LabelArrays, LabelVolumes

GRID = VoxelGrid((0, 0, 0), (1, 1, 1), (3, 2, 4))
FRAME = FrameKey('08', '000005')
IDS = st.integers(0, 19) | st.just(IGNORE)
LABELS = hnp.arrays(np.uint8, GRID.shape, elements=IDS)


def test_writer_and_reader_agree_on_the_name():
    assert LABEL_KEY == ARRAY_KEY


@examples(40)
@given(labels=LABELS, packed=st.booleans())
def test_partial_truth_round_trip(tmp_path, labels, packed):
    (np.savez_compressed if packed else np.savez)(tmp_path / '08_000005.npz', label=labels)
    found = LabelArrays(tmp_path, GRID)
    assert found.frames == (FRAME,)
    np.testing.assert_array_equal(found.labels(FRAME), labels)


@examples()
@given(
    array=hnp.arrays(
        hnp.integer_dtypes() | hnp.floating_dtypes(), hnp.array_shapes(max_dims=4, max_side=4)
    ),
    key=st.sampled_from(['label', 'labels']),
)
def test_any_array_is_the_truth_or_refused(tmp_path, array, key):
    np.savez(tmp_path / '08_000005.npz', **{key: array})
    found = result_or_error(lambda: LabelArrays(tmp_path, GRID).labels(FRAME))
    fits = key == 'label' and array.dtype == np.uint8 and array.shape == GRID.shape
    assert (found is not None) == fits


@examples(40)
@given(labels=hnp.arrays(np.uint8, GRID.shape, elements=st.integers(0, 19)), data=st.data())
def test_volumes_with_masks_round_trip(tmp_path, labels, data):
    folder = tmp_path / 'sequences' / '08' / 'voxels'
    invalid = data.draw(hnp.arrays(np.bool_, GRID.shape))
    write_voxel_labels(folder / '000005.label', raw_from_train(labels))
    write_voxel_bits(folder / '000005.invalid', invalid)
    found = LabelVolumes(tmp_path, GRID).labels(FRAME)
    np.testing.assert_array_equal(found, np.where(invalid, IGNORE, labels))


COARSE = SEMANTIC_KITTI_GRID.with_shape((4, 4, 2))


@examples(8)
@given(
    labels=hnp.arrays(np.uint8, COARSE.shape, elements=st.integers(0, 19)),
    stamp_ns=st.integers(0, 2**62),
)
def test_saved_grids_are_read_back_as_they_were(tmp_path, labels, stamp_ns):
    pytest.importorskip('rclpy')
    from cigocc_ros.ros.output.grids import save_grid

    probability = np.zeros(COARSE.shape, np.uint8)
    path = save_grid(
        str(tmp_path), Occupancy(labels, probability, COARSE, stamp_ns, 'velo_link'), 'model'
    )
    found = train_from_raw(read_voxel_labels(path))
    blocks = found.reshape(4, 64, 4, 64, 2, 16)
    expected = np.broadcast_to(labels[:, None, :, None, :, None], blocks.shape)
    np.testing.assert_array_equal(blocks, expected)
    facts = json.loads(path.with_suffix('.json').read_text())
    assert (
        facts['stamp_ns'] == stamp_ns and VoxelGrid.from_dict(facts['grid']).shape == found.shape
    )
    assert facts['occupied_voxels'] == np.count_nonzero(labels)


@examples(40)
@given(shape=st.tuples(*[st.integers(1, 8)] * 3))
def test_only_grids_that_divide_the_voxels_are_refined(shape):
    labels = np.zeros((2, 2, 2), np.uint8)
    coarse = Occupancy(labels, labels, SEMANTIC_KITTI_GRID.with_shape((2, 2, 2)), 0, 'f')
    fine = SEMANTIC_KITTI_GRID.with_shape(shape)
    found = result_or_error(lambda: labels_on_grid(coarse, fine))
    assert (found is not None) == all(n % 2 == 0 for n in shape)
