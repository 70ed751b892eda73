"""What the logits of 20 classes say of whether a voxel is occupied."""

from __future__ import annotations

from torch import Tensor

from cigocc_ros.core.labels import EMPTY, NUM_CLASSES


def occupied_logit(logits: Tensor) -> Tensor:
    """Return the logit of being occupied, (B, 1, X, Y, Z), of 20 logits (B, 20, X, Y, Z)."""
    empty, classes = logits.split([EMPTY + 1, NUM_CLASSES - 1], dim=1)
    out: Tensor = log_sum(classes) - empty
    return out


def log_sum(classes: Tensor) -> Tensor:
    """Return the log of the sum of exponentials over axis 1, kept, in operators that are fast."""
    highest = classes.amax(1, keepdim=True)
    return highest + (classes - highest).exp().sum(1, keepdim=True).log()
