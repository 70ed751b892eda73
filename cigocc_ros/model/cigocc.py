"""CIGOcc: camera to semantic voxels in two stages (see the package's design notes)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cigocc_ros.core.calibration import Calibration
from cigocc_ros.core.config import ModelConfig
from cigocc_ros.model.answers import Answers, calibrated, logit_answers, shape_answers
from cigocc_ros.model.backbone import ImageBackbone, ImageFeatures
from cigocc_ros.model.branches import DepthBranch, DepthMaps, Extractor, SemanticBranch
from cigocc_ros.model.class_evidence import ClassGate, ClassTrust, draw_say, lift_classes
from cigocc_ros.model.completion import CigNet
from cigocc_ros.model.fddwnet_branch import FddwnetBranch
from cigocc_ros.model.fusion import MultiLevelFusion
from cigocc_ros.model.geometry import (
    Projection,
    VoxelProjector,
    full_precision,
    normalized_pixel,
)
from cigocc_ros.model.head import OccupancyHead, classifier
from cigocc_ros.model.lifting import GatherLift, ScatterLift, sample_at_voxels
from cigocc_ros.model.logits import occupied_logit
from cigocc_ros.model.proposals import propose, propose_occupied
from cigocc_ros.model.semantic_prior import SemanticPrior
from cigocc_ros.model.shape_head import Lattice, ShapeHead, shape_logits
from cigocc_ros.model.unet3d import UNet3d
from cigocc_ros.model.views import views


class CigOccOutput(NamedTuple):
    """Everything that a loss needs, float32."""

    logits: Tensor
    """(B, 20, X, Y, Z) on the output grid."""
    stage1_logits: Tensor
    """(B, 20, Qx, Qy, Qz) on the query grid."""
    mask_logits: Tensor
    """(B, K, H/4, W/4) of the Extractor (L_bce)."""
    semantic_mask_logits: Tensor
    """(B, K, H/4, W/4) of the semantic branch (distillation)."""
    semantic_features: Tensor
    """(B, Csem, H/4, W/4) of the semantic branch (distillation)."""
    depth_log_mean: Tensor
    """(B, H/4, W/4) log metres."""
    depth_log_scale: Tensor
    """(B, H/4, W/4) log metres."""
    fused_log_mean: Tensor
    """(B, H/4, W/4) log metres: the corrected prior where the config fuses depth."""
    fused_log_scale: Tensor
    """(B, H/4, W/4) log metres, likewise."""


class Sight(NamedTuple):
    """What the branches see in the image, before anything is in 3D."""

    image: ImageFeatures
    semantic_features: Tensor
    """(B, Csem, H/4, W/4) of the semantic branch."""
    semantic_mask_logits: Tensor
    """(B, K, H/4, W/4) of the semantic branch."""
    class_masks: Tensor
    """(B, K, H/4, W/4) of the classes from outside where there are some, else of the branch."""
    depth: DepthMaps
    embedding: Tensor | None
    """(B, C, H/4, W/4) of the classes from outside, where the config takes them."""


class StageOne(NamedTuple):
    """What stage 1 hands to stage 2."""

    hidden: Tensor
    logits: Tensor
    hit: Tensor
    geometry: Projection
    image: ImageFeatures
    semantic_features: Tensor
    semantic_mask_logits: Tensor
    depth: DepthMaps
    evidence: Tensor | None
    """(B, 19, Qx, Qy, Qz) lifted classes, where the config has them."""
    say: Tensor | float
    """How much the volume's own classes count, of each sample or of all."""


class CigOcc(nn.Module):
    """The whole network; static shapes, no data-dependent control flow."""

    def __init__(self, config: ModelConfig) -> None:
        """Build the network of `config` with random weights."""
        super().__init__()
        self.config = config
        channels, masks = config.channels, config.num_mask_channels
        self.backbone = ImageBackbone(config.backbone, channels)
        self.semantic: SemanticBranch | FddwnetBranch
        if config.semantic_branch == 'fddwnet':
            self.semantic = FddwnetBranch(config)
        else:
            self.semantic = SemanticBranch(channels, config.semantic_channels, masks)
        self.depth = DepthBranch(channels, config.image_size, config.depth_fusion)
        self.prior = SemanticPrior(config) if config.semantic_prior else None
        self.fusion = MultiLevelFusion(config)
        self.project = VoxelProjector(config.query_grid, config.image_size)
        self.lift = GatherLift(config) if config.lifting == 'gather' else ScatterLift(config)
        self.unet = UNet3d(
            self.lift.out_channels, config.unet_widths, channels, config.unet_blocks
        )
        self.image_skip: nn.Conv2d | None = None
        self.skip_out: nn.Conv3d | None = None
        if config.image_skip:
            width = config.lift_channels or channels
            self.image_skip = nn.Conv2d(channels, width, 1)
            if config.lift_channels is not None:
                self.skip_out = nn.Conv3d(width, channels, 1, bias=False)
        self.stage1_classify = classifier(channels)
        self.stage1_gate: ClassGate | ClassTrust | None = None
        if config.class_evidence == 'gated':
            self.stage1_gate = ClassGate(channels)
        elif config.class_evidence == 'trusted':
            self.stage1_gate = ClassTrust(channels)
        self.extractor = Extractor(channels, masks, config.cross_levels)
        self.cignet = CigNet(config)
        self.head: OccupancyHead | ShapeHead
        self.head = ShapeHead(config) if config.head_upsample == 'shape' else OccupancyHead(config)

    def forward(
        self,
        image: Tensor,
        depth_prior: Tensor,
        pixel_from_velo: Tensor,
        velo_from_pixel: Tensor,
        semantic_prior: Tensor | None = None,
        teacher_features: Tensor | None = None,
        lattice: Lattice | None = None,
    ) -> CigOccOutput:
        """Run both stages.

        image (B, H, W, 3) uint8 rgb; depth_prior (B, H, W) metres, 0 = unknown; pixel_from_velo
        and velo_from_pixel (B, 3, 4) of that image; semantic_prior (B, H/4, W/4) uint8 train ids
        of the cells, 0 = unknown, for configs that take one; teacher_features
        (B, Csem, H/4, W/4) replace the student's in the forward pass where given. With a
        `lattice`, for which the head must be `shape`, logits are those of every second voxel.
        """
        one = self.stage_one(
            image, depth_prior, pixel_from_velo, velo_from_pixel, semantic_prior, teacher_features
        )
        volume, mask_logits = self.stage_two(one)
        return CigOccOutput(
            self._head_logits(volume, one, lattice),
            one.logits.float(),
            mask_logits.float(),
            one.semantic_mask_logits.float(),
            one.semantic_features.float(),
            one.depth.log_mean,
            one.depth.log_scale,
            one.depth.fused_log_mean,
            one.depth.fused_log_scale,
        )

    def answers(
        self,
        image: Tensor,
        depth_prior: Tensor,
        pixel_from_velo: Tensor,
        velo_from_pixel: Tensor,
        semantic_prior: Tensor | None = None,
        *,
        calibration: Calibration | None = None,
        with_logits: bool = False,
    ) -> tuple[Answers, Tensor | None]:
        """Return what is said of each voxel, and the logits (B, 20, X, Y, Z) where asked for.

        Nothing is computed at the output resolution that the answers do not need.
        """
        one = self.stage_one(image, depth_prior, pixel_from_velo, velo_from_pixel, semantic_prior)
        volume, _ = self.stage_two(one)
        seen = None
        if calibration is not None and calibration.tells_views:
            seen = views(one.geometry, one.depth.measured)
        if isinstance(self.head, ShapeHead):
            said = self.head.say(volume, one.evidence, one.logits, one.say)
            shape = calibrated(said, calibration, seen)
            answers = shape_answers(shape, calibration)
            return answers, shape_logits(shape) if with_logits else None
        return logit_answers(self._head_logits(volume, one), calibration, seen)

    def _head_logits(
        self, volume: Tensor, one: StageOne, lattice: Lattice | None = None
    ) -> Tensor:
        """Return the logits (B, 20, X, Y, Z), float32, of the completed volume."""
        more = (one.say, lattice) if isinstance(self.head, ShapeHead) else ()
        logits: Tensor = self.head(volume, one.evidence, one.logits, *more)
        return logits.float()

    def stage_two(self, one: StageOne) -> tuple[Tensor, Tensor]:
        """Run CIGNet: the completed volume (B, C, Qx, Qy, Qz), mask logits of the Extractor."""
        features, mask_logits = self.extractor(one.image)
        config = self.config
        index = self._propose(one)
        reference = normalized_pixel(one.geometry.u_px, one.geometry.v_px, config.image_size)
        depth = None
        if config.cross_depth:
            surface = torch.stack((one.depth.cell_m.log(), one.depth.fused_log_scale), dim=1)
            depth = (one.geometry.depth_m, surface)
        in_view = one.geometry.in_image
        volume = self.cignet(one.hidden, index, features, reference, in_view, depth)
        return volume, mask_logits

    def _propose(self, one: StageOne) -> Tensor:
        """Return the proposals (B, slots) of rule D7."""
        in_view, slots = one.geometry.in_image, self.config.max_proposals
        threshold = self.config.proposal_threshold
        if isinstance(self.head, ShapeHead):  # which needs the same logit: computed once
            needed = math.log(threshold / (1.0 - threshold))
            occupied = occupied_logit(one.logits.detach().float())[:, 0] > needed
            return propose_occupied(occupied, one.hit, in_view, slots)
        return propose(one.logits, one.hit, in_view, threshold, slots)

    def stage_one(
        self,
        image: Tensor,
        depth_prior: Tensor,
        pixel_from_velo: Tensor,
        velo_from_pixel: Tensor,
        semantic_prior: Tensor | None = None,
        teacher_features: Tensor | None = None,
    ) -> StageOne:
        """Run DMFNet: branches, fusion, lifting, 3D UNet and stage-1 logits."""
        sight = self.see(image, depth_prior, velo_from_pixel, semantic_prior)
        features, semantic, semantic_masks, class_masks, depth, embedding = sight
        used = semantic if teacher_features is None else teacher_features
        fused, embedded = self.fusion(used, depth, velo_from_pixel, embedding)
        geometry = self.project(pixel_from_velo)
        beside = None
        if self.image_skip is not None and embedded is not None:
            beside = self.image_skip(embedded)
        if isinstance(self.lift, GatherLift):
            volume, hit, skipped = self.lift(fused, depth, geometry, pixel_from_velo, beside)
        else:
            volume, hit = self.lift(fused, depth, image, velo_from_pixel)
            skipped = None if beside is None else self._at_voxels(beside, geometry)
        hidden = self.unet(volume)
        if skipped is not None:
            skipped = skipped.to(hidden.dtype)
            hidden = hidden + (skipped if self.skip_out is None else self.skip_out(skipped))
        logits, evidence = self.stage1_classify(hidden), None
        say: Tensor | float = self.config.class_say
        if self.stage1_gate is not None:
            evidence = lift_classes(class_masks, geometry, self.config.image_size)
            if isinstance(self.stage1_gate, ClassGate):
                logits = logits + self.stage1_gate(hidden, evidence)
            else:
                if self.training:
                    say = draw_say(len(hidden), self.config.class_say, hidden.device)
                logits = self.stage1_gate(logits, hidden, evidence, say)
        return StageOne(
            hidden, logits, hit, geometry, features, semantic, semantic_masks, depth, evidence, say
        )

    def see(
        self,
        image: Tensor,
        depth_prior: Tensor,
        velo_from_pixel: Tensor,
        semantic_prior: Tensor | None = None,
    ) -> Sight:
        """Run backbone, semantic and depth branch; inputs as those of `forward`."""
        features = self.backbone(image)
        sees_image = isinstance(self.semantic, FddwnetBranch)
        semantic, masks = self.semantic(image if sees_image else features.fine)
        depth = self.depth(features.fine, depth_prior, velo_from_pixel)
        embedding, class_masks = None, masks
        if self.prior is not None and semantic_prior is not None:
            embedding, class_masks = self.prior(semantic_prior, masks)
        return Sight(features, semantic, masks, class_masks, depth, embedding)

    def _at_voxels(self, features: Tensor, geometry: Projection) -> Tensor:
        """Sample (B, C, h, w) at the query voxels' pixels, 0 outside the image."""
        with full_precision(features):
            sampled = sample_at_voxels(features.float(), geometry, self.config.image_size)
            return sampled * geometry.in_image.to(torch.float32).unsqueeze(1)
