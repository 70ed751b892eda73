"""A network with every way of semantics and fused depth passes the gates of `cigocc export`."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures_export import lively, main

from cigocc_ros.core.config import load_model_config
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.model.build import build_model, save_checkpoint
from cigocc_ros.runtime.predictor import Predictor
from cigocc_ros.runtime.random_frames import random_inputs

WAYS = {
    'class_evidence': 'trusted',
    'class_say': 0.5,
    'head_upsample': 'shape',
    'evidence_points': 2,
    'unet_blocks': 'residual',
    'fusion_points': 2,
    'cross_points': 2,
    'cross_levels': (8, 16),
    'cross_depth': True,
    'self_stride': 2,
    'lift_channels': 8,
    'fusion_residual': 'both',
    'image_skip': True,
    'stage1_residual': True,
    'depth_fusion': 'fused',
    'semantic_prior': True,
    'semantic_branch': 'fddwnet',
    'semantic_channels': 19,
    'fddwnet_cell_px': 6,
}


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Return the folders of a checkpoint and of the model exported from it."""
    root = tmp_path_factory.mktemp('ways')
    torch.manual_seed(5)
    tiny = load_model_config('tiny')
    x, y, z = (4 * n for n in tiny.query_shape)
    model = lively(build_model(replace(tiny, output_shape=(x, y, z), **WAYS)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(('offsets.weight', 'weights.weight', 'correct.weight')):
                torch.nn.init.normal_(parameter, std=0.05)
    save_checkpoint(model, root / 'checkpoint')
    arguments = ['export', '--checkpoint', str(root / 'checkpoint'), '--out', str(root / 'model')]
    assert main(arguments) == 0
    return root / 'checkpoint', root / 'model'


def test_the_manifest_lists_the_fifth_input(folders):
    manifest = load_manifest(folders[1])
    assert manifest.takes_semantic_prior
    assert manifest.training['config']['semantic_prior'] is True


def test_classes_from_outside_reach_the_labels_as_in_torch(folders):
    reference = Predictor.from_model_dir(folders[0], backend='torch')
    deployed = Predictor.from_model_dir(folders[1], threads=1)
    deployed.warm_up()
    for arrays in random_inputs((48, 160), 3, seed=21, semantic_prior=True):
        ours, theirs = reference.engine.run(arrays), deployed.engine.run(arrays)
        assert (ours['labels'] == theirs['labels']).mean() >= 0.999
        blind = deployed.engine.run({**arrays, 'semantic_prior': arrays['semantic_prior'] * 0})
        changed = not np.array_equal(blind['labels'], theirs['labels'])
        assert changed == bool(arrays['semantic_prior'].any())
