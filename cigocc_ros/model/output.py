"""The network as the engine contract wants it: bytes in, bytes out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cigocc_ros.core.manifest import LABELS, OCCUPIED_PROBABILITY
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.model.head import logit_answers

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
        if isinstance(self.model, CigOcc):
            labels, probability, logits = self.model.answers(
                *inputs, semantic_prior=semantic_prior, with_logits=self.with_logits
            )
        else:
            given = () if semantic_prior is None else (semantic_prior,)
            logits = self.model(*inputs, *given).logits
            labels, probability = logit_answers(logits)
        occupied = torch.round(255.0 * probability).to(torch.uint8)
        if not self.with_logits or logits is None:
            return labels, occupied
        return labels, occupied, logits
