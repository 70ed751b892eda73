"""What each stage trains: its parameters, its forward pass and its named losses."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.labels import class_weights
from cigocc_ros.model.cigocc import CigOcc, Sight
from cigocc_ros.model.shape_head import Lattice, every_second
from cigocc_ros.training import losses
from cigocc_ros.training.config import Stage
from cigocc_ros.training.scene_dataset import Batch

STAGE_ONE = (
    'backbone',
    'semantic',
    'depth',
    'prior',
    'fusion',
    'project',
    'lift',
    'unet',
    'image_skip',
    'skip_out',
    'stage1_classify',
    'stage1_gate',
)
"""Submodules of the network that stage 1 trains and stage 2 keeps."""

EYES = ('backbone', 'semantic', 'depth', 'extractor')
"""Submodules that the stage `eyes` trains: all that see and nothing in 3D."""
UNSEEN = ('extractor.others.',)
"""What of them only the 3D part uses."""
OVERRIDDEN = 'depth.prior_scale'
"""Of a prior that overrides the prediction, as only the lifting knows it."""

Terms = dict[str, Tensor]
DepthPair = tuple[Tensor, Tensor]
"""Log mean and log scale of metres, (B, H/4, W/4) each."""


def set_trainable(model: CigOcc, stage: Stage) -> list[nn.Parameter]:
    """Freeze what `stage` does not train, put the rest in training mode and return its parameters.

    Frozen parts run in evaluation mode, so that their batch statistics stay too. The network
    itself is in training mode, whatever it was loaded as: there it draws `class_say`.
    """
    model.train()
    for name, module in model.named_children():
        trains = _trains(name, stage)
        module.train(trains)
        for parameter in module.parameters():
            parameter.requires_grad_(trains)
    if stage == 'eyes':
        for name, parameter in model.named_parameters():
            unseen = name.startswith(UNSEEN)
            if unseen or (name == OVERRIDDEN and model.config.depth_fusion == 'override'):
                parameter.requires_grad_(False)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _trains(part: str, stage: Stage) -> bool:
    if stage == 'eyes':
        return part in EYES
    return stage == 'joint' or (part in STAGE_ONE) == (stage == '1')


def freeze_norm_statistics(model: nn.Module) -> None:
    """Let batch norms use their running statistics from now on, as they will when deployed."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


class StageObjective(nn.Module):
    """A network with the losses of one stage: a batch in, losses by name out."""

    def __init__(self, model: CigOcc, stage: Stage, distill: bool = False) -> None:
        """Take the network; `distill` asks for the features of the teacher."""
        super().__init__()
        self.model = model
        self.stage = stage
        self.distill = distill

    def forward(self, batch: Batch) -> Terms:
        """Run the network on a collated batch."""
        return stage_terms(self.model, batch, self.stage, self.distill)


def stage_terms(model: CigOcc, batch: Batch, stage: Stage, distill: bool = False) -> Terms:
    """Run the network on a collated batch and return the losses of `stage` by name.

    `distill` adds the one to the teacher's features where `stage` trains the semantic branch.
    """
    if stage == 'eyes':
        return _eyes_terms(model, batch, distill)
    inputs = model_inputs(batch)
    if stage == '1':
        one = model.stage_one(*inputs)
        depth = one.depth
        terms = _stage_one_terms(
            one.logits,
            one.semantic_mask_logits,
            (depth.log_mean, depth.log_scale),
            (depth.fused_log_mean, depth.fused_log_scale),
            batch,
        )
        return terms | (_distillation(one.semantic_features, batch) if distill else {})
    lattice, labels = _draw_lattice(model), batch.labels
    if lattice is not None:
        labels = every_second(labels, lattice)
    out = model(*inputs, lattice=lattice)
    terms = {
        'ssc': losses.cross_entropy(out.logits, labels, _weights(out.logits)),
        'scal_geo': losses.scal_geo(out.logits, labels),
        'scal_sem': losses.scal_sem(out.logits, labels),
        'masks': losses.mask_bce(out.mask_logits, batch.masks, batch.mask_valid),
    }
    if stage == 'joint':
        terms |= _stage_one_terms(
            out.stage1_logits,
            out.semantic_mask_logits,
            (out.depth_log_mean, out.depth_log_scale),
            (out.fused_log_mean, out.fused_log_scale),
            batch,
        )
        terms |= _distillation(out.semantic_features, batch) if distill else {}
    return terms


def _draw_lattice(model: CigOcc) -> Lattice | None:
    """Return which eighth of a fine output is trained: 20 logits of all of it fill gigabytes."""
    if not (model.training and model.config.has_fine_shape):
        return None
    i, j, k = torch.randint(2, (3,)).tolist()
    return i, j, k


def model_inputs(batch: Batch) -> tuple[Tensor, ...]:
    """Return what a network takes of a batch; one without a semantic prior leaves it alone."""
    return (
        batch.image,
        batch.depth_prior,
        batch.pixel_from_velo,
        batch.velo_from_pixel,
        batch.semantic_prior,
    )


def depth_loss(predicted: DepthPair, fused: DepthPair, target: Tensor) -> Tensor:
    """Return how unlikely metres (B, h, w), 0 = unknown, are under log means and scales.

    `fused` is what the lifting uses where a prior is corrected; the prediction, which is all there
    is without a prior, has the other half. Where the prior overrides, both are the prediction.
    """
    known = target > 0
    return 0.5 * sum(
        (losses.depth_nll(mean, scale, target, known) for mean, scale in (predicted, fused)),
        start=target.new_zeros(()),
    )


def _stage_one_terms(
    logits: Tensor, mask_logits: Tensor, predicted: DepthPair, fused: DepthPair, batch: Batch
) -> Terms:
    return {
        'stage1_ce': losses.cross_entropy(logits, batch.query_labels, _weights(logits)),
        'stage1_depth': depth_loss(predicted, fused, batch.depth),
        'stage1_masks': losses.mask_bce(mask_logits, batch.masks, batch.mask_valid),
    }


def _eyes_terms(model: CigOcc, batch: Batch, distill: bool) -> Terms:
    """Return what images alone teach; the data's own depth and classes are the main targets."""
    sight = see(model, batch)
    _, extracted = model.extractor(sight.image)
    depth, branches = sight.depth, (sight.semantic_mask_logits, extracted)
    predicted = depth.log_mean, depth.log_scale
    fused = depth.fused_log_mean, depth.fused_log_scale
    terms = {
        'stage1_depth': depth_loss(predicted, fused, batch.depth),
        'stage1_masks': losses.mask_bce(branches[0], batch.masks, batch.mask_valid),
        'masks': losses.mask_bce(branches[1], batch.masks, batch.mask_valid),
    }
    extra = batch.extra
    if extra is not None:
        both = [losses.mask_bce(logits, extra.masks, extra.valid) for logits in branches]
        terms['weak_masks'] = 0.5 * (both[0] + both[1])
        # The prediction alone: how far a prior is to be trusted is taught by what was measured.
        weak = (extra.depth > 0) & (batch.depth <= 0)
        terms['weak_depth'] = losses.depth_nll(*predicted, extra.depth, weak)
    return terms | (_distillation(sight.semantic_features.float(), batch) if distill else {})


def see(model: CigOcc, batch: Batch) -> Sight:
    """Run what a network has in front of its 3D part; only that hears of classes from outside."""
    return model.see(batch.image, batch.depth_prior, batch.velo_from_pixel)


def _distillation(student: Tensor, batch: Batch) -> Terms:
    """Return the loss to the teacher's features, NaN where it says nothing."""
    teacher = batch.teacher_features
    if teacher is None:
        raise DataFileError(
            'losses.distill is above 0, but there are frames without teacher features: write '
            'them with "cigocc teacher" and name them with --teacher, or set losses.distill to 0'
        )
    if teacher.shape != student.shape:
        raise ConfigError(
            f'teacher features are {tuple(teacher.shape[1:])}, those of the semantic branch '
            f'{tuple(student.shape[1:])}: semantic_channels and image_size of the model config '
            'must be what the teacher was cached for'
        )
    valid = torch.isfinite(teacher).all(1)
    known = torch.nan_to_num(teacher.float())
    return {'distill': losses.feature_distillation(student, known, valid)}


def _weights(like: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return like.new_tensor(class_weights())  # a constant of the graph
    return _class_weights(like.device)


@functools.cache
def _class_weights(device: torch.device) -> Tensor:
    """Return the weights on a device, where they stay: a copy from the host would wait for it."""
    return torch.tensor(class_weights(), device=device)
