"""The depth prior of a frame: one set of words for node, commands, training and evaluation.

A prior is depth that is known before the network looks: metres along the optical axis of the left
camera, (H, W), 0 = unknown. Its kinds say where it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.text import excerpt

Prior = Literal['none', 'depth', 'stereo', 'depth_stereo']
"""none: monocular. depth: measured, of a depth topic, of depth_2/ or of the lidar. stereo: matched
from the pair as it comes (SGBM). depth_stereo: of any stereo network, from files beside depth_2/.
"""
PriorSource = Literal['auto', 'none', 'depth', 'stereo', 'depth_stereo']
"""What a user asks for: a kind, or `auto`, the best that is there without being asked."""

AUTO: Final = 'auto'
NONE: Final = 'none'
DEPTH: Final = 'depth'
STEREO: Final = 'stereo'
DEPTH_STEREO: Final = 'depth_stereo'

PRIORS: tuple[Prior, ...] = get_args(Prior)
NODE_SOURCES: tuple[PriorSource, ...] = (AUTO, NONE, DEPTH, STEREO)
"""What topics can bring; a stereo network publishes its depth as any other depth."""
FILE_SOURCES: tuple[PriorSource, ...] = (AUTO, *PRIORS)
"""What the folders of a sequence can bring."""
FORMER_WORDS: dict[str, Prior] = {'mono': NONE, 'measured': DEPTH, 'true': DEPTH}
"""What commands and configs called the kinds in 0.1.0; still understood."""


def current_word(word: str) -> str:
    """Return today's word for a word of 0.1.0, any other one as it is."""
    return FORMER_WORDS.get(word, word)


def parse_prior(word: str) -> Prior:
    """Return the kind that a word names, today's or a former one; raise ConfigError."""
    found = current_word(word)
    if found not in PRIORS:
        raise ConfigError(f'depth prior: expected one of {list(PRIORS)}, found {excerpt(word)}')
    return found


def untrained_inputs(training: Mapping[str, Any], depth: bool, classes: bool | None) -> str:
    """Say which input of a frame, or lack of one, the model never saw in training; '' for none.

    training: `ModelManifest.training`. depth, classes: whether the frame has a depth prior, and
    classes from outside; None for a model that takes none. Manifests that say nothing of their
    training are believed to have seen everything.
    """
    config = training.get('train')
    augment = config.get('augment') if isinstance(config, Mapping) else None
    if not isinstance(augment, Mapping):
        return ''
    none = augment.get('prior_none', 1)
    others = [value for name, value in augment.items() if name.startswith('prior_')]
    doubts = []
    if not depth and none == 0 and any(others):
        doubts.append('with a depth prior in every image, and this one has none')
    if depth and none and sum(map(bool, others)) == 1:
        doubts.append('without any depth prior, and this image has one')
    if classes is False and augment.get('semantic_none') == 0:
        doubts.append('with classes from outside in every image, and this one has none')
    return f'the model was trained {"; ".join(doubts)}' if doubts else ''
