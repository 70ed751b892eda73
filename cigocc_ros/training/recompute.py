"""Trade time for memory: activations that are computed again rather than kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from cigocc_ros.core.errors import ConfigError

Contexts = tuple[AbstractContextManager[object], AbstractContextManager[object]]


def recompute_activations(model: nn.Module, parts: Sequence[str]) -> None:
    """Let parts of a network keep their inputs alone and run again in the backward pass.

    Results and gradients stay the same; statistics of batch norms count each batch once. `model`
    cannot be copied to another process any more. Raises ConfigError for a part that it has not.
    """
    known = dict(model.named_children())
    for name in parts:
        if name not in known:
            raise ConfigError(f'recompute: no part {name!r}; the network has {sorted(known)}')
        _wrap(known[name])


def _wrap(module: nn.Module) -> None:
    inner = module.forward

    def contexts() -> Contexts:
        return nullcontext(), _kept_statistics(module)

    def forward(*args: Any, **more: Any) -> Any:
        if not torch.is_grad_enabled():
            return inner(*args, **more)
        return checkpoint(inner, *args, use_reentrant=False, context_fn=contexts, **more)

    module.forward = forward


@contextmanager
def _kept_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch norms compute from their batch, but not count it a second time."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    counts = [
        None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone()
        for norm in norms
    ]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            if count is not None and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(count)
