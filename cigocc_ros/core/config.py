"""The architecture of one CIGOcc network as a typed, validated config."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cigocc_ros.core.config_files import load_config_file
from cigocc_ros.core.encoded_images import MAX_IMAGE_PIXELS, MAX_IMAGE_SIDE_PX
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.grid import MAX_VOXELS, SEMANTIC_KITTI_GRID, VoxelGrid
from cigocc_ros.core.labels import NUM_CLASSES
from cigocc_ros.core.text import excerpt
from cigocc_ros.core.typed_yaml import from_mapping, to_mapping

__all__ = ['BackboneConfig', 'ModelConfig', 'from_mapping', 'load_model_config', 'to_mapping']

FEATURE_STRIDE = 4
"""Pixels of the model's input per cell of fine features, masks, depth and classes."""
IMAGE_STRIDE = 16
"""Deepest feature stride; image sizes are multiples of twice this."""
MAX_WIDTH, MAX_LAYERS = 8192, 256
"""Far beyond any network that fits; what is more is a slip or an attack."""
FDDWNET_CHANNELS, FDDWNET_STRIDE = 19, 8
"""Classes of Cityscapes, which FDDWNet names, and what its images must be divisible by."""
HEAD_FACTOR = 2
"""Voxels of the evidence, and of most outputs, per query voxel along each axis."""
FINE_FACTOR = 2 * HEAD_FACTOR
"""Voxels per query voxel of an output whose shape is finer than the evidence."""


@dataclass(frozen=True)
class BackboneConfig:
    """An image network; features leave at strides 4 and 16.

    `basic` and `bottleneck` are residual networks of any size. `efficientnet_lite0` is that
    published network, which has no sizes to choose.
    """

    layer_type: Literal['basic', 'bottleneck', 'efficientnet_lite0'] = 'basic'
    embedding_size: int = 0
    """Channels of the stem."""
    hidden_sizes: tuple[int, ...] = ()
    """Channels of the stages at strides 4, 8, 16 and, where there are four, 32."""
    depths: tuple[int, ...] = ()
    """Blocks per stage."""
    frozen_norm: bool = False
    """Whether the encoder's batch norms keep their statistics while training: right for
    pre-trained weights at small batches, wrong for random ones."""

    def __post_init__(self) -> None:
        """Raise ConfigError for sizes that the type does not take."""
        sizes = (self.embedding_size, self.hidden_sizes, self.depths)
        if self.layer_type == 'efficientnet_lite0':
            if sizes != (0, (), ()):
                raise ConfigError(
                    'backbone: efficientnet_lite0 takes no embedding_size, hidden_sizes or '
                    f'depths, found {excerpt(sizes)}'
                )
        elif not self._sizes_fit():
            raise ConfigError(
                f'backbone: {self.layer_type} needs embedding_size, and hidden_sizes and depths '
                f'with 3 or 4 values (strides 4 to 16 or 32), widths up to {MAX_WIDTH}, depths to '
                f'{MAX_LAYERS}, found {excerpt(sizes)}'
            )

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the maps that it gives, finest first."""
        coarsest = self.layer_type == 'efficientnet_lite0' or len(self.depths) == 4
        return (4, 8, 16, 32) if coarsest else (4, 8, 16)

    def _sizes_fit(self) -> bool:
        widths = (self.embedding_size, *self.hidden_sizes)
        return (
            len(self.hidden_sizes) == len(self.depths)
            and len(self.depths) in (3, 4)
            and all(1 <= width <= MAX_WIDTH for width in widths)
            and all(1 <= depth <= MAX_LAYERS for depth in self.depths)
        )


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and switches of both stages; defaults are the choices D1-D21 of the design notes."""

    name: str
    image_size: tuple[int, int]
    """Model input (height, width) in pixels."""
    output_shape: tuple[int, int, int]
    """Voxels of the published grid (X, Y, Z); its extent is always SemanticKITTI's."""
    query_shape: tuple[int, int, int]
    """Voxels of the query grid, half of output_shape along each axis, or, with head_upsample
    `shape`, a quarter."""
    channels: int
    """Width C of fused, lifted, query and raw voxel features."""
    semantic_channels: int
    """Width of the semantic branch's features F_2D (student of the teacher's)."""
    backbone: BackboneConfig
    unet_widths: tuple[int, ...]
    """Channels of the 3D UNet's levels, finest first."""
    num_heads: int
    num_points: int
    cross_layers: int
    self_layers: int
    ffn_channels: int
    max_proposals: int
    """Fixed number of query slots for cross-attention."""
    num_mask_channels: int = NUM_CLASSES - 1
    semantic_branch: Literal['features', 'fddwnet'] = 'features'
    """What F_2D comes from: the image backbone's fine features, or FDDWNet beside the backbone."""
    fddwnet_cell_px: int = 5
    """Pixels per stride-4 cell, along each axis, of the picture that FDDWNet is shown: 4 is the
    size of the input, 5 one and a quarter of it, where small things are seen that are not at 4."""
    fusion: Literal['deform_attn', 'concat', 'none'] = 'deform_attn'
    queries: Literal['unet', 'static'] = 'unet'
    """Whether a voxel's query comes from the 3D UNet or from a learned table, as VoxFormer's."""
    completion: Literal['complement', 'add', 'mask_token'] = 'complement'
    lifting: Literal['gather', 'scatter'] = 'gather'
    head_upsample: Literal['trilinear', 'subvoxel', 'subvoxel_shape', 'shape'] = 'subvoxel'
    """How the head comes to the output grid; `shape` leaves the classes at the query grid."""
    class_evidence: Literal['none', 'gated', 'trusted'] = 'none'
    """Whether the classes of the segmentation also reach the classifiers directly: through a gate
    per voxel and class, or through one trust per voxel, beside a muted volume (`class_say`)."""
    class_say: float = 1.0
    """How much the volume's own logits of the classes count beside `trusted` evidence. Training
    draws it for each sample, evenly from 0 to twice this: what is seen must do without the volume,
    which knows few streets by heart."""
    fusion_residual: Literal['points', 'both'] = 'points'
    """What passes by the deformable fusion: the point embedding alone, or F_i too, then also with
    a sampling point at the own cell."""
    image_skip: bool = False
    """Whether F_i, sampled at the voxels' pixels, also joins H behind the 3D UNet."""
    stage1_residual: bool = False
    """Whether the head adds to the stage-1 logits instead of starting its classes anew."""
    depth_fusion: Literal['override', 'fused'] = 'override'
    """Whether a depth prior overrides the predicted depth where it is known, or is corrected."""
    semantic_prior: bool = False
    """Whether the network takes a class image from outside, the engine's fifth input."""
    evidence_points: Literal[1, 2, 4, 8] = 1
    """Points of each output voxel that are asked whether the surface lies there."""
    lift_channels: int | None = None
    """Width to which F_f, and F_i of image_skip, are reduced before they are sampled at voxels;
    None for all channels."""
    unet_blocks: Literal['plain', 'residual'] = 'plain'
    """Two convolutions a level, or residual ones: one at the finest level, two at the others."""
    fusion_points: int | None = None
    """Points per head of the fusion; None for num_points."""
    cross_points: int | None = None
    """Points per head and level of the cross-attention; None for num_points."""
    cross_levels: tuple[int, ...] = (16,)
    """Strides of the maps that the cross-attention looks at, of 8, 16 and 32."""
    cross_depth: bool = False
    """Whether it weighs what it sees by how well the depth there fits that of the voxel."""
    self_stride: Literal[1, 2] = 1
    """Query voxels per place of the self-attention, along each axis: 2 is 8 times cheaper."""
    proposal_threshold: float = 0.5
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Raise ConfigError for sizes that do not fit each other."""
        self._require_bounded()
        stride = 2 * IMAGE_STRIDE
        self._require(
            self.image_size[0] % 16 == 0 and self.image_size[1] % stride == 0,
            f'image_size must be multiples of (16, {stride}), found {self.image_size}',
        )
        factors = (HEAD_FACTOR, FINE_FACTOR) if self.head_upsample == 'shape' else (HEAD_FACTOR,)
        self._require(
            self.output_shape in [tuple(f * n for n in self.query_shape) for f in factors],
            f'output_shape {self.output_shape} must be twice query_shape {self.query_shape}, or '
            'with head_upsample shape four times',
        )
        self._require(
            self.channels % self.num_heads == 0,
            f'channels {self.channels} must be divisible by num_heads {self.num_heads}',
        )
        self._require(
            stride not in self.backbone.strides or self.image_size[0] % stride == 0,
            f'image_size must be multiples of {stride} for {self.backbone.layer_type} of stride '
            f'{stride}, found {self.image_size}',
        )
        factor = 2 ** (len(self.unet_widths) - 1)
        self._require(
            all(n % factor == 0 for n in self.query_shape),
            f'query_shape {self.query_shape} must be divisible by {factor} for the 3D UNet',
        )
        self._require(
            self.class_evidence == 'none' or self.num_mask_channels == NUM_CLASSES - 1,
            f'class_evidence needs a mask channel per class, {NUM_CLASSES - 1}, found '
            f'{self.num_mask_channels}',
        )
        trusted = self.class_evidence == 'trusted'
        self._require(
            not trusted or (self.head_upsample == 'shape' and self.stage1_residual),
            'class_evidence trusted needs head_upsample shape and stage1_residual true',
        )
        self._require(
            0.0 < self.class_say <= 1.0 and (trusted or self.class_say == 1.0),
            f'class_say must lie in (0, 1], below 1 with class_evidence trusted alone, found '
            f'{self.class_say}',
        )
        if self.semantic_branch == 'fddwnet':
            self._require_fddwnet()
        self._require(
            self.fusion != 'none' or not (self.image_skip or self.semantic_prior),
            'image_skip and semantic_prior need F_i, so a fusion other than none',
        )
        self._require(
            self.fusion_residual == 'points' or self.fusion == 'deform_attn',
            f'fusion_residual both needs the fusion deform_attn, found {self.fusion}',
        )
        self._require(
            len(self.cross_levels) == len(set(self.cross_levels)) > 0
            and set(self.cross_levels) <= set(self.backbone.strides) - {4},
            f'cross_levels must be some of {self.backbone.strides[1:]}, the strides of the '
            f'backbone, found {excerpt(self.cross_levels)}',
        )
        self._require(
            all(n % self.self_stride == 0 for n in self.query_shape),
            f'query_shape {self.query_shape} must be divisible by self_stride {self.self_stride}',
        )
        voxels = self.query_shape[0] * self.query_shape[1] * self.query_shape[2]
        self._require(
            0 < self.max_proposals <= voxels,
            f'max_proposals must be 1..{voxels}, found {self.max_proposals}',
        )
        self._require(
            0.0 < self.proposal_threshold < 1.0 and 0.0 <= self.dropout < 1.0,
            'proposal_threshold must lie in (0, 1) and dropout in [0, 1)',
        )

    def _require_fddwnet(self) -> None:
        """Raise ConfigError where FDDWNet cannot be the semantic branch."""
        self._require(
            self.semantic_channels == FDDWNET_CHANNELS,
            f'semantic_branch fddwnet gives {FDDWNET_CHANNELS} semantic_channels, found '
            f'{self.semantic_channels}',
        )
        cell = self.fddwnet_cell_px
        shown = [cell * side // FEATURE_STRIDE for side in self.image_size]
        self._require(
            FEATURE_STRIDE <= cell <= 2 * IMAGE_STRIDE
            and all(side % FDDWNET_STRIDE == 0 for side in shown),
            f'fddwnet_cell_px must show FDDWNet a picture of sides divisible by {FDDWNET_STRIDE} '
            f'and no smaller than image_size, found {cell}, so {shown}',
        )

    def _require_bounded(self) -> None:
        """Raise ConfigError for sizes that are not positive or beyond what can be meant."""
        sides = (*self.image_size, *self.output_shape, *self.query_shape)
        widths = (
            *(self.channels, self.semantic_channels, self.ffn_channels, self.num_heads),
            *(self.num_points, self.num_mask_channels, *self.unet_widths),
            *(
                n
                for n in (self.fusion_points, self.cross_points, self.lift_channels)
                if n is not None
            ),
        )
        self._require(
            min(sides) >= 1 and max(sides) <= MAX_IMAGE_SIDE_PX,
            f'sizes must be 1 to {MAX_IMAGE_SIDE_PX}, found {excerpt(sides)}',
        )
        self._require(
            math.prod(self.image_size) <= MAX_IMAGE_PIXELS
            and math.prod(self.output_shape) <= MAX_VOXELS,
            f'at most {MAX_IMAGE_PIXELS} pixels and {MAX_VOXELS} voxels, found '
            f'{self.image_size} and {self.output_shape}',
        )
        self._require(
            min(widths) >= 1 and max(widths) <= MAX_WIDTH,
            f'widths and counts must be 1 to {MAX_WIDTH}, found {excerpt(widths)}',
        )
        layers = (self.cross_layers, self.self_layers)
        self._require(
            min(layers) >= 0 and max(layers) <= MAX_LAYERS and bool(self.unet_widths),
            f'cross_layers and self_layers must be 0 to {MAX_LAYERS}, found {excerpt(layers)}, '
            'and unet_widths not empty',
        )

    def _require(self, condition: bool, message: str) -> None:
        if not condition:
            raise ConfigError(f'model config {self.name!r}: {message}')

    @property
    def points_of_fusion(self) -> int:
        """Points per head of the fusion."""
        return self.num_points if self.fusion_points is None else self.fusion_points

    @property
    def points_of_cross(self) -> int:
        """Points per head and level of the cross-attention."""
        return self.num_points if self.cross_points is None else self.cross_points

    @property
    def output_grid(self) -> VoxelGrid:
        """Grid of the published labels."""
        return SEMANTIC_KITTI_GRID.with_shape(self.output_shape)

    @property
    def has_fine_shape(self) -> bool:
        """Whether the output is finer than the evidence."""
        return self.output_shape[0] == FINE_FACTOR * self.query_shape[0]

    @property
    def evidence_grid(self) -> VoxelGrid:
        """Grid of which depth is asked whether it is occupied: half a query voxel an edge."""
        x, y, z = (HEAD_FACTOR * n for n in self.query_shape)
        return SEMANTIC_KITTI_GRID.with_shape((x, y, z))

    @property
    def query_grid(self) -> VoxelGrid:
        """Grid of the voxel queries."""
        return SEMANTIC_KITTI_GRID.with_shape(self.query_shape)


def load_model_config(name_or_path: str | Path) -> ModelConfig:
    """Load config/model/<name>.yaml or a YAML file; raise ConfigError naming what is wrong."""
    return from_mapping(ModelConfig, load_config_file('model', name_or_path), str(name_or_path))
