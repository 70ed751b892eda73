"""Arguments that several verbs share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cigocc_ros.core.class_presets import PRESETS
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.manifest import ModelManifest
from cigocc_ros.core.prior import AUTO, FILE_SOURCES, current_word, untrained_inputs
from cigocc_ros.data.stereo_config import StereoConfig, trained_stereo
from cigocc_ros.runtime.contract import DEFAULT_THREADS
from cigocc_ros.runtime.devices import AUTO_DEVICE, DEVICE_HELP
from cigocc_ros.runtime.engine import AUTO as AUTO_BACKEND
from cigocc_ros.runtime.engine import BACKENDS
from cigocc_ros.runtime.predictor import Predictor

if TYPE_CHECKING:
    from cigocc_ros.data.label_images import LabelImages


def add_engine_arguments(arguments: argparse._ActionsContainer) -> None:
    """Declare what runs the network."""
    arguments.add_argument(
        '--backend',
        choices=BACKENDS,
        default=AUTO_BACKEND,
        help='torch takes a checkpoint folder as --model (default %(default)s)',
    )
    arguments.add_argument(
        '--device',
        default=AUTO_DEVICE,
        help=f'{DEVICE_HELP[0].lower()}{DEVICE_HELP[1:]} (default %(default)s)',
    )
    add_threads_argument(arguments)


def open_predictor(args: argparse.Namespace) -> Predictor:
    """Load the model on what the arguments of `add_engine_arguments` say."""
    return Predictor.from_model_dir(args.model, args.backend, args.threads, device=args.device)


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


def add_semantics_arguments(arguments: argparse._ActionsContainer, what: str) -> None:
    """Declare label images of a segmentation network, and what their ids mean."""
    arguments.add_argument(
        '--semantic-prior',
        type=Path,
        metavar='PATH',
        help=f'{what} of any segmentation network, for models that take classes from outside',
    )
    arguments.add_argument(
        '--semantic-classes',
        metavar='CLASSES',
        help=f'what the ids of the label images mean: {", ".join(PRESETS)}, or a YAML file that '
        'maps classes to ids; needed with --semantic-prior',
    )


def semantics_of(args: argparse.Namespace) -> tuple[Path, str] | None:
    """Return where the label images lie and what their ids mean; raise ConfigError for half."""
    path, preset = args.semantic_prior, args.semantic_classes
    if (path is None) != (preset is None):
        raise ConfigError('give --semantic-prior and --semantic-classes together')
    return None if path is None else (path, preset)


def opened_semantics(args: argparse.Namespace) -> LabelImages | None:
    """Return the folder of label images that was asked for; raise ConfigError, DataFileError."""
    from cigocc_ros.data.label_images import LabelImages  # needs OpenCV

    found = semantics_of(args)
    return None if found is None else LabelImages(*found)


def add_threads_argument(arguments: argparse._ActionsContainer) -> None:
    """Declare the CPU threads of the network."""
    arguments.add_argument(
        '--threads', type=int, default=DEFAULT_THREADS, help='0 (default): every core'
    )


def add_stereo_arguments(arguments: argparse._ActionsContainer) -> None:
    """Declare the settings of the stereo matcher."""
    arguments.add_argument(
        '--stereo-width',
        type=int,
        metavar='PX',
        help='wider pairs are shrunk for the stereo matcher (default: as the model was trained, '
        'else 640)',
    )
    arguments.add_argument(
        '--stereo-offset',
        type=float,
        metavar='PX',
        help='added to every disparity of the stereo matcher (default: as the model was trained, '
        'else 0)',
    )


def stereo_config(args: argparse.Namespace, training: Mapping[str, Any]) -> StereoConfig:
    """Return the settings of the matcher: those given, else those of the model's training."""
    return trained_stereo(training, args.stereo_width, args.stereo_offset)


def warn_of_untrained(manifest: ModelManifest, depth: bool, classes: bool, told: set[str]) -> None:
    """Say on stderr what the model never saw in training, unless it was told before.

    depth, classes: whether a frame has a depth prior, and classes from outside.
    """
    takes = manifest.takes_semantic_prior
    doubt = untrained_inputs(manifest.training, depth, classes if takes else None)
    if doubt and doubt not in told:
        told.add(doubt)
        print(f'warning: {doubt}', file=sys.stderr)
