"""Devices that are not there are refused; reduced precision leaves the geometry exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.training.devices import make_fabric


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
