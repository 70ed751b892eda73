"""FDDWNet gives the numbers of the published implementation, module by module."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.model.fddwnet import Doubling, Fddwnet, load_fddwnet, normalised

ADDED_IN_PLACE = {'layer26_27.1', 'layer26_27'}
"""The reference adds the skip connection into these tensors after they were recorded."""
COMPUTED_OTHERWISE = ('.up_conv', '.up_conv.0', '.up_conv.1', '.up_conv.2')
"""Inside of a doubling, whose output has the reference's numbers again."""
SAMPLES = 64


@pytest.fixture(scope='module')
def network(shared_dir):
    return load_fddwnet(shared_dir / 'data' / 'weights' / 'fddwnet_cityscapes.safetensors')


@pytest.fixture(scope='module')
def golden(shared_dir):
    with np.load(shared_dir / 'golden' / 'segmentation_fddwnet.npz') as arrays:
        return dict(arrays)


@pytest.fixture(scope='module')
def heard(network, golden):
    """Return what every module gave for the golden image, and the logits."""
    outputs = {}
    handles = [
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: outputs.__setitem__(name, output)
        )
        for name, module in network.named_modules()
    ]
    with torch.inference_mode():
        logits = network(normalised(torch.from_numpy(golden['image_rgb'])[None]))
    for handle in handles:
        handle.remove()
    return outputs, logits


def test_logits_are_those_of_the_reference(heard, golden):
    logits = heard[1]
    assert tuple(logits.shape) == tuple(golden['logits_shape'])
    found = logits[0, :, ::4, ::4].numpy()
    np.testing.assert_allclose(found, golden['logits_every_4th_pixel'], atol=1e-4)


def test_every_module_is_that_of_the_reference(heard, golden):
    names = [name[4:] for name in golden if name.startswith('act/')]
    assert len(names) > 40
    for name in set(names) - ADDED_IN_PLACE:
        if name.endswith(COMPUTED_OTHERWISE):
            continue
        output = heard[0][name]
        assert tuple(output.shape) == tuple(golden[f'shape/{name}']), name
        flat = output[0].flatten(1)
        found = flat[:, :: flat.shape[1] // SAMPLES][:, :SAMPLES].numpy()
        np.testing.assert_allclose(found, golden[f'act/{name}'], atol=1e-4, err_msg=name)


def test_number_of_parameters_is_the_published_one():
    count = sum(parameter.numel() for parameter in Fddwnet().parameters())
    assert round(count / 1e6, 2) == 0.77


def test_weights_that_are_none_or_of_another_network_are_refused(tmp_path):
    with pytest.raises(DataFileError, match='no such file'):
        load_fddwnet(tmp_path / 'gone.safetensors')
    broken = tmp_path / 'broken.safetensors'
    broken.write_bytes(b'{}')
    with pytest.raises(DataFileError, match='not a whole safetensors file'):
        load_fddwnet(broken)
    other = tmp_path / 'other.safetensors'
    save_file({'layer1.conv.0.weight': torch.zeros(13, 3, 3, 3)}, other)
    with pytest.raises(DataFileError, match='missing'):
        load_fddwnet(other)


def test_doubling_is_the_transposed_convolution():
    torch.manual_seed(1)
    doubling, features = Doubling(5, 3), torch.randn(2, 5, 7, 9)
    torch.testing.assert_close(doubling(features), doubling.up_conv(features))  # batch statistics
    norm = doubling.up_conv[1]
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2e5)
    doubling.eval()
    torch.testing.assert_close(doubling(features), doubling.up_conv(features))
