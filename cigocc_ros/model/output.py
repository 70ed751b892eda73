"""The network as the engine contract wants it: bytes in, bytes out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cigocc_ros.core.labels import EMPTY
from cigocc_ros.core.manifest import LABELS, OCCUPIED_PROBABILITY

LOGITS = 'logits'


class ExportModel(nn.Module):
    """Reduce a network with `.logits` (1, 20, X, Y, Z) to labels and occupied probability."""

    def __init__(self, model: nn.Module, with_logits: bool = False) -> None:
        """Take the network in eval mode; `with_logits` adds them as a third output (parity)."""
        super().__init__()
        self.model = model.eval()
        self.with_logits = with_logits

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of what `forward` returns."""
        names = (LABELS, OCCUPIED_PROBABILITY)
        return (*names, LOGITS) if self.with_logits else names

    def forward(
        self,
        image: Tensor,
        depth_prior: Tensor,
        pixel_from_velo: Tensor,
        velo_from_pixel: Tensor,
        semantic_prior: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return labels (1, X, Y, Z) uint8 and round(255 (1 - p_empty)) (1, X, Y, Z) uint8.

        `semantic_prior` is given to networks that take it, and to no other.
        """
        inputs = (image, depth_prior, pixel_from_velo, velo_from_pixel)
        given = () if semantic_prior is None else (semantic_prior,)
        logits = self.model(*inputs, *given).logits
        labels = logits.argmax(dim=1).to(torch.uint8)
        occupied = torch.round(255.0 * occupied_probability(logits)).to(torch.uint8)
        return (labels, occupied, logits) if self.with_logits else (labels, occupied)


def occupied_probability(logits: Tensor) -> Tensor:
    """Return 1 - softmax(logits)[:, EMPTY], (B, X, Y, Z), without materialising the softmax.

    p_empty = 1 / sum_c exp(l_c - l_empty): the sum is at least 1 and may overflow to infinity,
    which gives the right 0.
    """
    return 1.0 - 1.0 / torch.exp(logits - logits[:, EMPTY : EMPTY + 1]).sum(dim=1)
