"""Backbone weights under the names of torchvision and timm, which are the same for ResNets.

The names are those of torchvision/models/resnet.py and timm/models/resnet.py: conv1, bn1,
layerN.B.convM, layerN.B.bnM, layerN.B.downsample.0 and .1, fc.
"""

import pytest
import torch
from safetensors.torch import save_file

from cigocc_ros.core.config import BackboneConfig
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.model.backbone import ImageBackbone, load_backbone_weights, rename_resnet

BASIC = BackboneConfig('basic', 8, (8, 8, 16), (1, 2, 1))
BOTTLENECK = BackboneConfig('bottleneck', 8, (16, 16, 32), (1, 2, 1))
FOUR = BackboneConfig('bottleneck', 8, (16, 16, 32, 32), (1, 1, 1, 2))


def published(config: BackboneConfig) -> dict[str, torch.Tensor]:
    """Return random weights as torchvision would name them, a classifier and layer4 included."""
    convolutions = 2 if config.layer_type == 'basic' else 3
    shapes = {k: v.shape for k, v in ImageBackbone(config, 8).encoder.state_dict().items()}
    tensors = {}

    def add(name: str, ours: str) -> None:
        for leaf in ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'):
            if f'{ours}.{leaf}' in shapes:
                tensors[f'{name}.{leaf}'] = torch.rand(shapes[f'{ours}.{leaf}'])

    add('conv1', 'embedder.embedder.convolution')
    add('bn1', 'embedder.embedder.normalization')
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            theirs, ours = f'layer{stage + 1}.{block}', f'encoder.stages.{stage}.layers.{block}'
            for index in range(convolutions):
                add(f'{theirs}.conv{index + 1}', f'{ours}.layer.{index}.convolution')
                add(f'{theirs}.bn{index + 1}', f'{ours}.layer.{index}.normalization')
            add(f'{theirs}.downsample.0', f'{ours}.shortcut.convolution')
            add(f'{theirs}.downsample.1', f'{ours}.shortcut.normalization')
    if len(config.depths) == 3:
        tensors['layer4.0.conv1.weight'] = torch.zeros(1)
    tensors['fc.weight'], tensors['fc.bias'] = torch.zeros(10, 3), torch.zeros(10)
    return tensors


@pytest.mark.parametrize('config', [BASIC, BOTTLENECK, FOUR], ids=['basic', 'bottleneck', 'four'])
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_every_weight_of_a_published_file_arrives(config, suffix, tmp_path):
    tensors = published(config)
    path = tmp_path / f'resnet{suffix}'
    torch.save(tensors, path) if suffix == '.pth' else save_file(tensors, path)
    backbone = ImageBackbone(config, 8)
    load_backbone_weights(backbone, path)
    loaded = backbone.encoder.state_dict()
    for name, value in tensors.items():
        if not name.startswith('fc.') and value.shape != (1,):
            assert torch.equal(loaded[rename_resnet(name)], value.to(loaded[rename_resnet(name)]))


def test_names_of_transformers_stay():
    name = 'encoder.stages.1.layers.0.layer.2.normalization.running_var'
    assert rename_resnet(name) == rename_resnet(f'resnet.{name}') == name


@pytest.mark.parametrize('stored', [[1, 2], {'weight': 'text'}])
def test_files_without_tensors_are_refused(stored, tmp_path):
    torch.save(stored, tmp_path / 'x.pth')
    with pytest.raises(DataFileError, match='expected tensors by name'):
        load_backbone_weights(ImageBackbone(BASIC, 8), tmp_path / 'x.pth')


def test_another_network_is_named_by_what_does_not_fit(tmp_path):
    save_file({'stem.conv.weight': torch.zeros(1)}, tmp_path / 'x.safetensors')
    with pytest.raises(DataFileError, match=r'missing .* unexpected'):
        load_backbone_weights(ImageBackbone(BASIC, 8), tmp_path / 'x.safetensors')
