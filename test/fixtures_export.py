"""The real network with random weights, exported as a user exports it."""

import pytest
import torch

from cigocc_ros.commands import main as dispatcher


def main(arguments):
    """Run `cigocc export`, dispatched as for a user; other verbs stay unloaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatcher, 'VERBS', ('export',))
        return dispatcher.main(arguments)


def lively(model):
    """Return a random network without the prior for empty, so that many classes appear."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for classify in (model.stage1_classify, model.head.classify):
            classify.bias.zero_()
            classify.weight.normal_(generator=generator)
    return model.eval()
