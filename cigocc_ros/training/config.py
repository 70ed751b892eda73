"""What a training run is told besides the model and the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cigocc_ros.core.config import from_mapping
from cigocc_ros.core.config_files import load_config_file
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.prior import PRIORS, Prior, current_word
from cigocc_ros.data.stereo_config import DEFAULT_STEREO, StereoConfig

Stage = Literal['eyes', '1', '2', 'joint']
Precision = Literal['fp32', 'bf16', 'fp16']
FORMER_FRACTION, CURRENT_FRACTION = 'prior_true', 'prior_depth'


@dataclass(frozen=True)
class LossWeights:
    """Factor of each term of the total loss; stage 1 and `joint` use the stage1_ ones."""

    stage1_ce: float = 1.0
    """Cross entropy of the query-grid logits."""
    stage1_depth: float = 0.1
    """Likelihood of the measured depth."""
    stage1_masks: float = 1.0
    """Class masks of the semantic branch."""
    ssc: float = 1.0
    scal_geo: float = 1.0
    scal_sem: float = 1.0
    masks: float = 1.0
    """L_bce: class masks of the Extractor."""
    distill: float = 0.0
    """Squared error to the teacher's features; above 0 every frame must have them, or, in the
    stage `eyes`, some."""
    weak_masks: float = 0.0
    """Stage `eyes`: class masks of both branches in cells of which the data knows nothing, but a
    teacher or a label image says something."""
    weak_depth: float = 0.0
    """Stage `eyes`: likelihood of the depth of a stereo network, where nothing was measured."""


@dataclass(frozen=True)
class AugmentConfig:
    """How samples are varied; everything is exact in geometry."""

    flip: float = 0.5
    """Probability of mirroring the world left to right."""
    jitter: float = 0.4
    """Largest relative change of brightness, contrast and saturation."""
    prior_none: float = 0.25
    """Fraction of samples without depth prior (monocular)."""
    prior_stereo: float = 0.5
    """Fraction of samples with the stereo matcher's depth."""
    prior_depth: float = 0.25
    """Fraction of samples with measured depth, made noisy and holed."""
    prior_depth_stereo: float = 0.0
    """Fraction of samples with the depth of a stereo network, from depth_stereo/."""
    semantic_none: float = 0.5
    """Fraction of the samples with classes from outside that are trained without them."""
    zoom: float = 0.0
    """Largest relative change of the focal length, 0.3 for 1/1.3 to 1.3 of it."""
    crop: float = 0.0
    """Largest share of height and width that is cut off; the rest is brought to full size."""
    shift: float = 0.0
    """Largest shift of the picture, relative to its size; what it uncovers is black."""
    blur: float = 0.0
    """Largest sigma of a Gaussian, pixels of the model's input."""
    noise: float = 0.0
    """Largest sigma of the noise of each pixel, grey levels."""
    erase: float = 0.0
    """Largest share of the picture that rectangles of its mean colour hide."""
    turned: bool = True
    """Whether the volumes of `cigocc voxelize --turned` are trained on, where there are some."""

    def __post_init__(self) -> None:
        """Raise ConfigError unless the numbers are fractions."""
        fractions = self.prior_fractions
        if min(fractions.values()) < 0 or sum(fractions.values()) <= 0:
            raise ConfigError(
                f'the fractions of priors must be >= 0 and not all 0, found {fractions}'
            )
        if not 0 <= self.flip <= 1 or not 0 <= self.jitter < 1:
            raise ConfigError(
                f'expected flip in [0, 1], jitter in [0, 1); found {self.flip}, {self.jitter}'
            )
        if not 0 <= self.semantic_none <= 1:
            raise ConfigError(f'expected semantic_none in [0, 1], found {self.semantic_none}')
        for name in ('zoom', 'crop', 'shift', 'blur', 'noise', 'erase'):
            value, end = getattr(self, name), 1 if name in ('crop', 'shift', 'erase') else None
            if not 0 <= value < (float('inf') if end is None else end):
                wanted = '>= 0' if end is None else 'in [0, 1)'
                raise ConfigError(f'expected {name} {wanted}, found {value}')

    @property
    def moves(self) -> bool:
        """Whether pictures get another lens or aim."""
        return max(self.zoom, self.crop, self.shift) > 0

    @property
    def prior_fractions(self) -> dict[Prior, float]:
        """How often each kind of prior is drawn, relative to the others."""
        return {kind: getattr(self, f'prior_{kind}') for kind in PRIORS}


@dataclass(frozen=True)
class TrainConfig:
    """One training run: optimiser, schedule, losses, bookkeeping."""

    steps: int
    """Optimiser steps of the whole run; a time budget replaces it."""
    learning_rate: float
    batch_size: int = 1
    """Samples per optimiser step, over all processes."""
    micro_batch_size: int | None = None
    """Samples per forward pass; gradients are accumulated over the rest of the batch. None puts
    the whole share of a process into one pass."""
    seed: int = 0
    stage1_share: float = 0.3
    """Share of the run that `both` spends in stage 1."""
    eyes_share: float = 0.3
    """Share of the run that `eyes+joint` spends in the stage `eyes`."""
    second_stage: Literal['2', 'joint'] = 'joint'
    """What follows stage 1 in `both`: with stage 1 frozen ('2') or not ('joint')."""
    weight_decay: float = 0.01
    warmup_steps: int = 50
    final_rate: float = 0.01
    """Learning rate at the end of the cosine, relative to its peak."""
    clip_norm: float = 35.0
    """Largest norm of the gradient."""
    ema_decay: float | None = 0.998
    """Of the moving average of the weights, which is validated and saved; None for none."""
    backbone_rate: float = 1.0
    """Learning rate of the image backbone relative to the rest; pretrained ones take 0.1."""
    semantic_rate: float = 1.0
    """Likewise of FDDWNet, where the network has it; 0 keeps it as it is."""
    require_backbone: bool = False
    """Whether a new network must be given the weights of a pretrained image backbone."""
    freeze_norm_share: float = 0.7
    """Share of a stage after which batch norms keep their statistics."""
    precision: Precision = 'fp32'
    """Of the forward pass; weights, sampling and losses stay fp32. fp16 needs CUDA."""
    compile: bool = False
    """Whether torch.compile translates the network: minutes at the start, faster steps."""
    recompute: tuple[str, ...] = ()
    """Parts of the network whose activations are computed again in the backward pass instead of
    kept, such as [unet, cignet, head]: less memory, up to a third more time."""
    both_cameras: bool = False
    """Whether the right camera of a pair is a view to train on too, where a lidar scan gives it
    depth and classes."""
    new_shards_every: int = 0
    """Steps between looks for shards that came into the folders of --data: their frames are drawn
    from the next epoch on. 0 leaves them to the next run."""
    resident: bool = False
    """Whether all frames lie on the training device, decoded, and are varied there in batches:
    no loader processes. Flip, jitter, depth priors and classes from outside; see resident."""
    channels_last: bool = False
    """Whether kernels lie with their channels last: faster convolutions on GPUs with tensor
    cores; the results are the same."""
    save_state: bool = True
    """Whether a checkpoint also writes the state that --resume needs, three times the weights."""
    num_workers: int = 0
    """Loader processes beside each training process."""
    log_every: int = 10
    validate_every: int = 300
    """Steps between validations; each also writes a checkpoint."""
    keep_validated: bool = False
    """Whether the weights of every validation stay, as joint-000300 and so on, for `cigocc
    average`; else those of the best and of the last one do."""
    validation_frames: int = 32
    """Frames scored at a validation, evenly spread; 0 for all."""
    validation_priors: tuple[Prior, ...] = ('stereo', 'none')
    """Kinds of depth prior to validate with; the first decides which weights are the best."""
    stereo_width_px: int = DEFAULT_STEREO.max_width_px
    """Wider pairs are shrunk for the stereo matcher; 1280 matches KITTI at its full size, which
    takes four times as long once, and halves the error of far depths."""
    stereo_offset_px: float = DEFAULT_STEREO.disparity_offset_px
    """Added to every disparity, pixels of the image file; see docs/training.md."""
    wandb_project: str | None = None
    """Project at Weights & Biases to log to as well, where `wandb` is installed; None for none."""
    losses: LossWeights = LossWeights()
    augment: AugmentConfig = AugmentConfig()

    def __post_init__(self) -> None:
        """Raise ConfigError for numbers that cannot work."""
        for name in ('steps', 'batch_size', 'log_every', 'validate_every'):
            self._require(getattr(self, name) >= 1, f'{name} must be >= 1', getattr(self, name))
        micro = self.micro_batch_size
        fits = micro is None or (micro >= 1 and self.batch_size % micro == 0)
        self._require(fits, f'micro_batch_size must divide batch_size {self.batch_size}', micro)
        self._require(
            self.new_shards_every >= 0, 'new_shards_every must be >= 0', self.new_shards_every
        )
        for name in ('learning_rate', 'clip_norm'):
            self._require(getattr(self, name) > 0, f'{name} must be positive', getattr(self, name))
        for name in ('stage1_share', 'eyes_share'):
            share = getattr(self, name)
            self._require(0 < share < 1, f'{name} must lie between 0 and 1', share)
        decay = self.ema_decay
        self._require(decay is None or 0 <= decay < 1, 'ema_decay must lie in [0, 1)', decay)
        for name in ('backbone_rate', 'semantic_rate'):
            self._require(getattr(self, name) >= 0, f'{name} must be >= 0', getattr(self, name))
        priors = self.validation_priors
        once = len(priors) == len(set(priors)) > 0
        self._require(once, 'validation_priors must name at least one, each once', priors)

    @property
    def stereo(self) -> StereoConfig:
        """Settings of the stereo matcher that prepares the frames."""
        return StereoConfig(
            max_width_px=self.stereo_width_px, disparity_offset_px=self.stereo_offset_px
        )

    def _require(self, condition: bool, message: str, found: object) -> None:
        if not condition:
            raise ConfigError(f'train config: {message}, found {found}')


def load_train_config(name_or_path: str | Path, settings: Sequence[str] = ()) -> TrainConfig:
    """Load config/train/<name>.yaml or a YAML file; raise ConfigError naming what is wrong.

    `settings` are `key=value` of the command line, see core.config_files.
    """
    mapping = load_config_file('train', name_or_path, settings)
    missing = [name for name in ('steps', 'learning_rate') if name not in mapping]
    if missing:
        raise ConfigError(
            f'{name_or_path}: missing key {missing[0]!r}; a file that changes some settings of '
            'another one begins with "base: semantic_kitti", or whatever that one is'
        )
    where = str(name_or_path)
    return from_mapping(TrainConfig, with_current_words(mapping, where), where)


def with_current_words(mapping: Any, where: str) -> Any:
    """Return the mapping of a config with the priors of 0.1.0 under today's words.

    Raises ConfigError where a number is given under both.
    """
    if not isinstance(mapping, dict):
        return mapping
    current = dict(mapping)
    priors, augment = current.get('validation_priors'), current.get('augment')
    if isinstance(priors, list):
        current['validation_priors'] = [
            current_word(one) if isinstance(one, str) else one for one in priors
        ]
    if isinstance(augment, dict) and FORMER_FRACTION in augment:
        if CURRENT_FRACTION in augment:
            raise ConfigError(
                f'{where}: augment: {FORMER_FRACTION} is the former name of {CURRENT_FRACTION}; '
                'keep one of them'
            )
        kept = {key: value for key, value in augment.items() if key != FORMER_FRACTION}
        current['augment'] = kept | {CURRENT_FRACTION: augment[FORMER_FRACTION]}
    return current
