"""What each stage trains: its parameters, its forward pass and its named losses."""

from __future__ import annotations

from torch import Tensor, nn

from cigocc_ros.core.labels import class_weights
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.training import losses
from cigocc_ros.training.config import Stage
from cigocc_ros.training.scene_dataset import Batch

STAGE_ONE = (
    'backbone',
    'semantic',
    'depth',
    'fusion',
    'project',
    'lift',
    'unet',
    'stage1_classify',
)
"""Submodules of the network that stage 1 trains and stage 2 keeps."""

Terms = dict[str, Tensor]


def set_trainable(model: CigOcc, stage: Stage) -> list[nn.Parameter]:
    """Freeze what `stage` does not train, put the rest in training mode and return its parameters.

    Frozen parts run in evaluation mode, so that their batch statistics stay too.
    """
    for name, module in model.named_children():
        trains = stage == 'joint' or (name in STAGE_ONE) == (stage == '1')
        module.train(trains)
        for parameter in module.parameters():
            parameter.requires_grad_(trains)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def freeze_norm_statistics(model: nn.Module) -> None:
    """Let batch norms use their running statistics from now on, as they will when deployed."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def stage_terms(model: CigOcc, batch: Batch, stage: Stage) -> Terms:
    """Run the network on a collated batch and return the losses of `stage` by name."""
    inputs = (batch.image, batch.depth_prior, batch.pixel_from_velo, batch.velo_from_pixel)
    if stage == '1':
        one = model.stage_one(*inputs)
        depth = one.depth
        return _stage_one_terms(
            one.logits, one.semantic_mask_logits, depth.log_mean, depth.log_scale, batch
        )
    out = model(*inputs)
    terms = {
        'ssc': losses.cross_entropy(out.logits, batch.labels, _weights(out.logits)),
        'scal_geo': losses.scal_geo(out.logits, batch.labels),
        'scal_sem': losses.scal_sem(out.logits, batch.labels),
        'masks': losses.mask_bce(out.mask_logits, batch.masks, batch.mask_valid),
    }
    if stage == 'joint':
        terms |= _stage_one_terms(
            out.stage1_logits,
            out.semantic_mask_logits,
            out.depth_log_mean,
            out.depth_log_scale,
            batch,
        )
    return terms


def _stage_one_terms(
    logits: Tensor, mask_logits: Tensor, log_mean: Tensor, log_scale: Tensor, batch: Batch
) -> Terms:
    return {
        'stage1_ce': losses.cross_entropy(logits, batch.query_labels, _weights(logits)),
        'stage1_depth': losses.depth_nll(log_mean, log_scale, batch.depth, batch.depth > 0),
        'stage1_masks': losses.mask_bce(mask_logits, batch.masks, batch.mask_valid),
    }


def _weights(like: Tensor) -> Tensor:
    return like.new_tensor(class_weights())
