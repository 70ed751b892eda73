"""Configs, checkpoints, backbone weights and cost."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from cigocc_ros.core.config import ModelConfig, from_mapping, load_model_config
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.model.backbone import ImageBackbone, load_backbone_weights
from cigocc_ros.model.build import (
    CONFIG_FILE,
    build_model,
    load_checkpoint,
    save_checkpoint,
)
from cigocc_ros.model.cost import main, measure_cost
from cigocc_ros.model.weight_files import WEIGHTS_FILE


@pytest.fixture
def saved(tiny, tmp_path):
    model = build_model(tiny).eval()
    save_checkpoint(model, tmp_path / 'checkpoint')
    return model, tmp_path / 'checkpoint'


def test_a_checkpoint_comes_back_whole(saved, make_inputs):
    model, folder = saved
    loaded = load_checkpoint(folder)
    assert loaded.config == model.config and not loaded.training
    inputs = make_inputs(model.config)
    with torch.no_grad():
        assert torch.equal(model(*inputs).logits, loaded(*inputs).logits)
    assert sorted(path.name for path in folder.iterdir()) == sorted([WEIGHTS_FILE, CONFIG_FILE])


def test_missing_and_unexpected_weights_are_named(saved):
    _, folder = saved
    tensors = load_file(folder / WEIGHTS_FILE)
    tensors['stranger'] = tensors.pop('head.classify.bias')
    save_file(tensors, folder / WEIGHTS_FILE)
    with pytest.raises(DataFileError, match=r"missing \['head.classify.bias'\].*\['stranger'\]"):
        load_checkpoint(folder)


def test_wrong_shapes_are_named(saved):
    _, folder = saved
    mapping = json.loads((folder / CONFIG_FILE).read_text())
    mapping['unet_widths'] = [16, 32]
    (folder / CONFIG_FILE).write_text(json.dumps(mapping))
    with pytest.raises(DataFileError, match=r'unet.down.1.0.0.weight: \(24, 16, 3, 3, 3\) for'):
        load_checkpoint(folder)


def test_damaged_checkpoints_are_refused(saved, tmp_path):
    _, folder = saved
    with pytest.raises(DataFileError, match=r'model_config\.json is missing'):
        load_checkpoint(tmp_path)
    (folder / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes()[:1000])
    with pytest.raises(DataFileError, match='not a whole safetensors file'):
        load_checkpoint(folder)
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(DataFileError, match=r'model\.safetensors is missing'):
        load_checkpoint(folder)
    (folder / CONFIG_FILE).write_text('{')
    with pytest.raises(DataFileError, match='not valid JSON'):
        load_checkpoint(folder)
    (folder / CONFIG_FILE).write_text('{"nome": 1}')
    with pytest.raises(ConfigError, match="unknown key 'nome'"):
        load_checkpoint(folder)


def test_backbone_weights_load_from_a_published_layout(tiny, tmp_path):
    source = ImageBackbone(tiny.backbone, tiny.channels)
    published = {f'resnet.{k}': v.clone() for k, v in source.encoder.state_dict().items()}
    published['classifier.1.weight'] = torch.zeros(10, 3)
    published['resnet.encoder.stages.3.layers.0.x'] = torch.zeros(1)
    save_file(published, tmp_path / 'weights.safetensors')
    target = ImageBackbone(tiny.backbone, tiny.channels)
    load_backbone_weights(target, tmp_path / 'weights.safetensors')
    for name, value in source.encoder.state_dict().items():
        assert torch.equal(value, target.encoder.state_dict()[name]), name


def test_backbone_weights_must_fit(tiny, tmp_path):
    backbone = ImageBackbone(tiny.backbone, tiny.channels)
    with pytest.raises(DataFileError, match='no such file'):
        load_backbone_weights(backbone, tmp_path / 'weights.safetensors')
    save_file({'resnet.other': torch.zeros(1)}, tmp_path / 'weights.safetensors')
    with pytest.raises(DataFileError, match=r"missing \['embedder.*unexpected \['other'\]"):
        load_backbone_weights(backbone, tmp_path / 'weights.safetensors')


@pytest.mark.parametrize(
    ('name', 'image', 'output', 'channels', 'proposals'),
    [
        ('tiny', (48, 160), (32, 32, 8), 16, 512),
        ('small', (96, 320), (64, 64, 16), 32, 2048),
        ('mid_light', (192, 640), (128, 128, 16), 64, 8192),
        ('mid', (192, 640), (256, 256, 32), 64, 8192),
        ('full', (384, 1280), (256, 256, 32), 128, 32768),
    ],
)
def test_shipped_configs(name, image, output, channels, proposals):
    config = load_model_config(name)
    found = config.name, config.image_size, config.output_shape, config.channels
    assert found == (name, image, output, channels)
    assert config.max_proposals == proposals
    assert config.output_grid.extent_m == pytest.approx((51.2, 51.2, 6.4))


def test_cost_adds_up_and_mid_light_stays_small(capsys, monkeypatch, tiny):
    cost = measure_cost(load_model_config('mid_light'))
    assert 6e6 < cost.parameters < 7e6
    assert 11e9 < cost.macs < 13e9
    assert sum(cost.part_parameters.values()) == cost.parameters
    assert sum(cost.part_macs.values()) == cost.macs
    monkeypatch.setattr('sys.argv', ['cost', 'tiny'])
    main()
    assert 'tiny: 0.119 M parameters, 0.05 GMAC' in capsys.readouterr().out


def test_cost_of_every_kind_of_query(tiny):
    static = measure_cost(replace(tiny, queries='static', fusion='none'))
    table, linear = 16 * 16 * 4 * 16, 16 * 16 + 16
    without_fusion = measure_cost(replace(tiny, fusion='none'))
    assert static.parameters - without_fusion.parameters == table - linear


def test_macs_of_one_convolution_by_hand(tiny):
    # stage1_classify: 16 -> 20 channels, 1x1x1, on 16 x 16 x 4 voxels.
    assert measure_cost(tiny).part_macs['stage1_classify'] == 16 * 20 * 16 * 16 * 4


def test_the_shipped_model_keeps_the_network_that_its_manifest_states(repository):
    """Its config knows none of the later switches, whose defaults leave the network as it was."""
    manifest = load_manifest(repository / 'models' / 'mid')
    config = from_mapping(ModelConfig, manifest.training['config'], 'manifest')
    cost = measure_cost(config)
    if set(manifest.training['config']) >= {'semantic_prior'}:
        assert config == load_model_config('mid')
    else:
        assert (cost.parameters, round(cost.macs / 1e7)) == (4_871_297, 1648)
        assert not manifest.takes_semantic_prior
