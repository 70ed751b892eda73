"""The network as the engine contract wants it: bytes in, bytes out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cigocc_ros.core.calibration import Calibration
from cigocc_ros.core.manifest import CLASS_PROBABILITY, LABELS, LOGITS, OCCUPIED_PROBABILITY
from cigocc_ros.model.answers import logit_answers
from cigocc_ros.model.cigocc import CigOcc


class ExportModel(nn.Module):
    """Reduce a network with `.logits` (1, 20, X, Y, Z) to the outputs of the engine contract."""

    def __init__(
        self,
        model: nn.Module,
        with_logits: bool = False,
        calibration: Calibration | None = None,
    ) -> None:
        """Take the network in eval mode; `with_logits` adds them as the last output (parity).

        `calibration` is between the network and all outputs, the logits too.
        """
        super().__init__()
        self.model = model.eval()
        self.with_logits, self.calibration = with_logits, calibration

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of what `forward` returns."""
        names = (LABELS, OCCUPIED_PROBABILITY, CLASS_PROBABILITY)
        return (*names, LOGITS) if self.with_logits else names

    def forward(
        self,
        image: Tensor,
        depth_prior: Tensor,
        pixel_from_velo: Tensor,
        velo_from_pixel: Tensor,
        semantic_prior: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return labels, and probabilities in 1/255, each (1, X, Y, Z) uint8.

        The probabilities are those of being occupied and, given that, of the best class.
        `semantic_prior` is given to networks that take it, and to no other.
        """
        inputs = (image, depth_prior, pixel_from_velo, velo_from_pixel)
        if isinstance(self.model, CigOcc):
            answers, logits = self.model.answers(
                *inputs,
                semantic_prior=semantic_prior,
                calibration=self.calibration,
                with_logits=self.with_logits,
            )
        else:
            given = () if semantic_prior is None else (semantic_prior,)
            found = self.model(*inputs, *given).logits
            answers, logits = logit_answers(found, self.calibration)
        outputs = (answers.labels, _bytes(answers.occupied), _bytes(answers.class_share))
        return (*outputs, logits) if self.with_logits and logits is not None else outputs


def _bytes(probability: Tensor) -> Tensor:
    return torch.round(255.0 * probability).to(torch.uint8)
