"""The depth prior of a frame: one set of words for node, commands, training and evaluation.

A prior is depth that is known before the network looks: metres along the optical axis of the left
camera, (H, W), 0 = unknown. Its kinds say where it comes from.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

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
