"""Devices that are not there are refused; reduced precision leaves the geometry exact."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.model.build import build_model
from cigocc_ros.training.augmentation import Sample
from cigocc_ros.training.devices import channels_last, make_fabric
from cigocc_ros.training.objectives import model_inputs
from cigocc_ros.training.scene_dataset import collate


class Spy(nn.Module):
    """Remember the types of what comes in, and whether matrices are multiplied in bf16."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3))

    def forward(self, calibration: Tensor) -> dict[str, Tensor]:
        self.seen, self.product = calibration, calibration @ self.weight
        return {'product': self.product}


def test_bf16_does_not_round_the_inputs() -> None:
    fabric = make_fabric('bf16', 'cpu')
    spy = Spy()
    calibration = torch.tensor([[707.0912, 0.0, 601.8873]])
    out = fabric.setup(spy)(calibration)
    assert spy.seen.equal(calibration) and spy.seen.dtype == torch.float32
    assert spy.product.dtype == torch.bfloat16  # the forward pass is autocast all the same
    assert out['product'].dtype == torch.float32


def test_fp32_computes_in_fp32() -> None:
    spy = Spy()
    make_fabric('fp32', 'cpu').setup(spy)(torch.ones(1, 3))
    assert spy.product.dtype == torch.float32


def test_fp16_on_the_cpu_is_refused() -> None:
    with pytest.raises(ConfigError, match='fp16 needs a CUDA device'):
        make_fabric('fp16', 'cpu')


def test_missing_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ConfigError, match='1 CUDA devices wanted.* sees 0'):
        make_fabric(accelerator='cuda')
    with pytest.raises(ConfigError, match='at least 1 device'):
        make_fabric(accelerator='cpu', devices=0)
    assert make_fabric(accelerator='auto').device.type == 'cpu'


def test_several_devices_are_fresh_processes() -> None:
    assert make_fabric(accelerator='cpu', devices=2).world_size == 2


@pytest.mark.gpu
def test_fp16_scales_the_loss_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip('no CUDA device')
    fabric = make_fabric('fp16', 'cuda')
    assert fabric.strategy.precision.state_dict()['scale'] > 1


def test_channels_last_changes_the_layout_alone(tiny: ModelConfig, sample: Sample) -> None:
    torch.manual_seed(0)
    model = build_model(tiny).eval()
    other = copy.deepcopy(model)
    channels_last(other)
    kernels = [m.weight for m in other.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    wide = [k for k in kernels if k.shape[1] > 1 and k[0, 0].numel() > 1]
    assert wide and all(not k.is_contiguous() for k in wide)
    for name, value in model.state_dict().items():
        assert value.equal(other.state_dict()[name]), name
    with torch.no_grad():
        inputs = model_inputs(collate([sample]))
        torch.testing.assert_close(other(*inputs).logits, model(*inputs).logits)
