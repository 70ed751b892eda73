"""FDDWNet as the semantic branch: what it is shown, what F_2D and the masks say of that."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from cigocc_ros.core.class_presets import CITYSCAPES
from cigocc_ros.core.config import load_model_config
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.labels import CLASS_NAMES
from cigocc_ros.model.build import build_model
from cigocc_ros.model.fddwnet import Fddwnet, normalised
from cigocc_ros.model.fddwnet_branch import FddwnetBranch

HEIGHT, WIDTH = 48, 160


def config_of(**changes):
    switched = {'semantic_branch': 'fddwnet', 'semantic_channels': 19, 'fddwnet_cell_px': 4}
    return replace(load_model_config('tiny'), **(switched | changes))


@pytest.fixture
def published(tmp_path):
    """Return a file like the published one, with random weights, and its network."""
    torch.manual_seed(4)
    network = Fddwnet()
    for name, value in network.state_dict().items():
        if name.endswith('running_mean'):
            value.normal_(std=0.1)
    save_file(network.state_dict(), tmp_path / 'fddwnet.safetensors')
    return tmp_path / 'fddwnet.safetensors', network.eval()


@pytest.fixture
def image():
    torch.manual_seed(3)
    return torch.randint(0, 256, (1, HEIGHT, WIDTH, 3), dtype=torch.uint8)


@pytest.mark.parametrize('cell_px', [4, 6])
def test_features_are_the_log_shares_of_the_cells(published, image, cell_px):
    branch = FddwnetBranch(config_of(fddwnet_cell_px=cell_px)).eval()
    branch.load(published[0])
    with torch.inference_mode():
        features, masks = branch(image)
        shown = normalised(image)
        if cell_px == 6:
            shown = functional.interpolate(shown, (72, 240), mode='bilinear', align_corners=False)
        pixels = published[1](shown).softmax(1)
    assert features.shape == masks.shape == (1, 19, HEIGHT // 4, WIDTH // 4)
    rows, columns = slice(2 * cell_px, 3 * cell_px), slice(5 * cell_px, 6 * cell_px)
    share = pixels[0, :, rows, columns].mean((1, 2))
    expected = share.clamp(min=torch.tensor(-7.0).exp()).log() + 3
    torch.testing.assert_close(features[0, :, 2, 5], expected)
    assert features.min() >= -4 and features.max() <= 3


@torch.inference_mode()
def test_masks_start_with_what_both_call_the_same():
    branch = FddwnetBranch(config_of())
    for index, (_, name) in enumerate(CITYSCAPES):
        said = torch.full((1, len(CITYSCAPES), 1, 1), -4.0)
        said[0, index] = 2.9  # 0.9 of the cell
        best = CLASS_NAMES[int(branch.masks(said).argmax(1)) + 1]
        if name not in (None, 'empty'):
            assert best == name
            assert branch.masks(said).sigmoid().max() == pytest.approx(0.948, abs=1e-2)


def test_norms_keep_their_statistics_while_training(published, image):
    branch = build_model(config_of()).semantic
    branch.load(published[0])
    before, _ = branch.eval()(image)
    after, _ = branch.train()(image)
    torch.testing.assert_close(after, before)
    assert branch.training
    for name, value in published[1].state_dict().items():
        assert value.equal(branch.network.state_dict()[name]), name
    with pytest.raises(DataFileError, match='no such file'):
        branch.load(published[0].with_name('gone'))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'semantic_channels': 16}, '19 semantic_channels, found 16'),
        ({'fddwnet_cell_px': 5}, 'divisible by 8'),
        ({'fddwnet_cell_px': 2}, 'no smaller than image_size'),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        config_of(**changes)
