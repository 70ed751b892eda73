"""What is measured on: a picture of a street, and voxels with a stated number of them occupied."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from cigocc_ros.core.config import HEAD_FACTOR, load_model_config
from cigocc_ros.core.frames import CameraFrame, Occupancy
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID, Shape
from cigocc_ros.core.labels import CLASS_NAMES, EMPTY
from cigocc_ros.core.manifest import (
    CLASS_PROBABILITY,
    LABELS,
    OCCUPIED_PROBABILITY,
    TensorSpec,
    file_spec,
    write_manifest,
)
from cigocc_ros.core.prior import NONE
from cigocc_ros.data.camera_frames import sequence_frame
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.runtime.contract import ONNX_ROLE, input_specs, manifest_for, output_specs

SEED = 7
GROUND_M, FACADE_M, ROOF_M, CAR_EVERY_M = -1.7, 9.0, 3.0, 12.0


def street(shape: Shape, occupied: int) -> Occupancy:
    """Return road, facades and parked cars ahead of the vehicle, exactly `occupied` voxels.

    The occupied ones are those nearest to the surfaces, as in a real map: few are buried.
    """
    grid = SEMANTIC_KITTI_GRID.with_shape(shape)
    x, y, z = np.moveaxis(grid.centers_m(), -1, 0)
    ahead_m = np.abs(x % CAR_EVERY_M - CAR_EVERY_M / 2) - 2
    distances = {
        'road': np.abs(z - GROUND_M),
        'building': np.abs(np.abs(y) - FACADE_M) + np.maximum(z - ROOF_M, 0),
        'car': np.abs(np.maximum(np.maximum(ahead_m, np.abs(np.abs(y) - 5) - 0.9), z + 0.3)),
    }
    unseen = np.where(np.abs(y) > x + 2, 10.0, 0.0)
    nearness = np.stack(list(distances.values())) + unseen
    chosen = np.argsort(nearness.min(axis=0), axis=None, kind='stable')[:occupied]
    classes = np.array([CLASS_NAMES.index(name) for name in distances], np.uint8)
    labels = np.zeros(grid.num_voxels, np.uint8)
    labels[chosen] = classes[nearness.argmin(axis=0).ravel()[chosen]]
    labels = labels.reshape(shape)
    probability = np.where(labels == EMPTY, 30, 220).astype(np.uint8)
    sure = np.full(shape, 180, np.uint8)
    return Occupancy(labels, probability, grid, 1_500_000_000, 'velo_link', sure)


def street_frame(folder: Path) -> CameraFrame:
    """Return the first frame of a generated street, which is drawn into `folder` unless there."""
    from cigocc_ros.data.synthetic.drive import SequenceSettings
    from cigocc_ros.data.synthetic.sequence import write_sequence

    if not folder.is_dir():
        for _ in write_sequence(folder, SequenceSettings(1, seed=SEED)):
            pass
    return first_frame(folder)


def first_frame(folder: Path) -> CameraFrame:
    """Return the first frame of a sequence in the layout of KITTI, without a depth prior."""
    sequence = KittiSequence(folder)
    return sequence_frame(sequence, next(iter(sequence.frame_ids)), NONE)


def stored_answers(folder: Path, image_size: tuple[int, int], occupancy: Occupancy) -> Path:
    """Write a model that gives this answer to every image at once: all of the path but a network.

    Returns `folder`.
    """
    answers = outputs_of(occupancy)
    graph = helper.make_graph(
        [helper.make_node('Identity', [f'stored_{name}'], [name]) for name in answers],
        'stored',
        [_value(spec) for spec in input_specs(image_size)],
        [_value(spec) for spec in output_specs(occupancy.grid.shape, len(answers) > 2)],
        [numpy_helper.from_array(array, f'stored_{name}') for name, array in answers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, folder / 'model.onnx')
    x, y, z = occupancy.grid.shape
    config = replace(
        load_model_config('tiny'),
        image_size=image_size,
        output_shape=(x, y, z),
        query_shape=(x // HEAD_FACTOR, y // HEAD_FACTOR, z // HEAD_FACTOR),
    )
    files = {ONNX_ROLE: file_spec(folder, 'model.onnx', 'fp32')}
    manifest = manifest_for(
        config,
        'stored',
        license='none',
        files=files,
        training={},
        class_probability=len(answers) > 2,
    )
    write_manifest(folder, manifest)
    return folder


def outputs_of(occupancy: Occupancy) -> dict[str, NDArray[np.uint8]]:
    """Return what an engine gives for this occupancy, by name."""
    outputs = {LABELS: occupancy.labels[None], OCCUPIED_PROBABILITY: occupancy.probability[None]}
    if occupancy.class_probability is not None:
        outputs[CLASS_PROBABILITY] = occupancy.class_probability[None]
    return outputs


def _value(spec: TensorSpec) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(spec.name, kind, spec.shape)
