"""Arguments that several verbs share."""

from __future__ import annotations

import argparse

from cigocc_ros.core.prior import AUTO, FILE_SOURCES, current_word
from cigocc_ros.runtime.contract import DEFAULT_THREADS
from cigocc_ros.runtime.engine import AUTO as AUTO_BACKEND
from cigocc_ros.runtime.engine import BACKENDS


def add_engine_arguments(arguments: argparse._ActionsContainer) -> None:
    """Declare what runs the network."""
    arguments.add_argument(
        '--backend',
        choices=BACKENDS,
        default=AUTO_BACKEND,
        help='torch takes a checkpoint folder as --model (default %(default)s)',
    )
    add_threads_argument(arguments)


def add_prior_argument(arguments: argparse._ActionsContainer) -> None:
    """Declare where the depth prior of a sequence comes from."""
    arguments.add_argument(
        '--prior',
        type=current_word,
        choices=FILE_SOURCES,
        default=AUTO,
        help='depth prior: none, measured depth of depth_2/, stereo matching with image_3/, or '
        'what a stereo network wrote into depth_stereo/; auto (default): stereo where image_3/ '
        'exists, else none',
    )


def add_threads_argument(arguments: argparse._ActionsContainer) -> None:
    """Declare the CPU threads of the network."""
    arguments.add_argument(
        '--threads', type=int, default=DEFAULT_THREADS, help='0 (default): every core'
    )
