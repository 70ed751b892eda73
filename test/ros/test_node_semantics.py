"""Label images of a topic reach the voxels of a real network that was exported to ONNX."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('torch')
pytest.importorskip('onnxruntime')

import torch
from fixtures_export import lively, main
from fixtures_faults import Patient
from sensor_msgs.msg import Image

from cigocc_ros.core.config import load_model_config
from cigocc_ros.model.build import build_model, save_checkpoint
from cigocc_ros.replay.cloud_reading import points_from_cloud
from cigocc_ros.runtime.predictor import Predictor

CITYSCAPES_CAR = 13


@pytest.fixture(scope='module')
def model_dir(tmp_path_factory):
    """Return the folder of an exported `tiny` that takes classes from outside."""
    root = tmp_path_factory.mktemp('semantics')
    torch.manual_seed(5)
    config = replace(load_model_config('tiny'), semantic_prior=True)
    save_checkpoint(lively(build_model(config)), root / 'checkpoint')
    words = ['export', '--checkpoint', str(root / 'checkpoint'), '--out', str(root / 'model')]
    assert main(words) == 0
    return root / 'model'


def test_label_images_change_the_voxels_that_the_node_publishes(graph, model_dir):
    graph.predictor = Predictor.from_model_dir(model_dir, 'onnxruntime', threads=1)
    patient = Patient(graph, **{'semantic_classes': 'cityscapes', 'semantic_prior.wait_s': 0.3})
    labels = graph.publisher(Image, 'semantic_prior')
    cars = Image(height=48, width=80, encoding='mono8', step=80)
    cars.data = np.full((48, 80), CITYSCAPES_CAR, np.uint8).tobytes()

    def with_labels():
        patient.camera.publish()
        labels.publish(patient.camera.stamped(cars))

    def points(cloud):
        found = points_from_cloud(cloud)
        return {tuple(map(float, (p['x'], p['y'], p['z'], p['label']))) for p in found}

    without = points(patient.until_cloud(patient.camera.publish))
    assert points(patient.until_cloud(patient.camera.publish)) == without
    graph.until(lambda: patient.counted.semantic_used, with_labels)
    used = patient.counted.processed
    graph.until(lambda: patient.counted.processed > used, with_labels)
    patient.settled()
    graph.until(lambda: len(patient.clouds) == patient.counted.processed)
    assert points(patient.clouds[-1]) != without
    assert patient.counted.dropped == {}
