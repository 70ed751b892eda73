"""Dispatch `cigocc <verb>` to `cigocc_ros.commands.<verb>`."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from cigocc_ros import __version__
from cigocc_ros.core.errors import CigoccError, system_error
from cigocc_ros.core.installing import install_line

VERBS = (
    'average',
    'bag',
    'build-engine',
    'calibrate',
    'demo',
    'doctor',
    'evaluate',
    'export',
    'infer',
    'pack',
    'parity',
    'quantize',
    'render',
    'submit',
    'synthesize',
    'teacher',
    'train',
    'voxelize',
    'weights',
)

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
SHARED_MEMORY_CURE = (
    'the processes share memory in /dev/shm: docker run --shm-size=1g ..., or fewer workers'
)
# what torch says where /dev/shm is full: its loaders die by SIGBUS, or cannot write
_OF_SHARED_MEMORY = re.compile(r'shared memory|/torch_\d+|DataLoader worker|Bus error')
logger = logging.getLogger(__name__)

# Import name -> the extra of setup.py that brings it (a test compares the two).
EXTRA_OF_LIBRARY = {
    'PIL': 'render',
    'av': 'view',
    'plotly': 'view',
    'ai_edge_litert': 'teacher',
    'cv2': 'runtime',
    'embreex': 'synthetic',
    'onnx': 'train',
    'onnxruntime': 'runtime',
    'onnxscript': 'train',
    'openvino': 'openvino',
    'rclpy': 'ros-jazzy',
    'rosbags': 'bag',
    'safetensors': 'train',
    'torch': 'train',
    'tqdm': 'synthetic',
    'transformers': 'train',
}


def verb_module(verb: str) -> ModuleType:
    """Import the module of one verb; it defines HELP, add_arguments(parser) and run(args)."""
    return importlib.import_module(f'cigocc_ros.commands.{verb.replace("-", "_")}')


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs; imports no heavy library."""
    parser = argparse.ArgumentParser(
        prog='cigocc', description='Semantic voxel maps from a camera: tools around the node.'
    )
    parser.add_argument('--version', action='version', version=f'cigocc {__version__}')
    parser.add_argument('-v', '--verbose', action='store_true', help='log what happens inside')
    verbs = parser.add_subparsers(dest='verb', metavar='VERB', required=True)
    for verb in VERBS:
        module = verb_module(verb)
        subparser = verbs.add_parser(verb, help=module.HELP, description=module.HELP)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def install_hint(error: ModuleNotFoundError) -> str | None:
    """Return how to install the optional library that is missing; None if it is not one."""
    library = (error.name or '').partition('.')[0]
    extra = EXTRA_OF_LIBRARY.get(library)
    if extra is None:
        return None
    return (
        f"needs the Python library '{library}', which is not installed; "
        f'from the source folder: {install_line(library, extra)}'
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; return 2 with one line on stderr for what the user can fix."""
    args = at_home(build_parser().parse_args(argv))
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING,
        format='%(levelname)s %(name)s: %(message)s',
    )
    try:
        return int(args.run(args))
    except CigoccError as error:
        print(f'cigocc {args.verb}: {error}', file=sys.stderr)
    except ModuleNotFoundError as error:
        hint = install_hint(error)
        if hint is None:
            raise
        print(f'cigocc {args.verb}: {hint}', file=sys.stderr)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `cigocc ... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        logger.info('where it happened', exc_info=True)
        print(f'cigocc {args.verb}: {system_error(error)}', file=sys.stderr)
    except RuntimeError as error:
        if not _OF_SHARED_MEMORY.search(str(error)):
            raise
        logger.info('where it happened', exc_info=True)
        print(f'cigocc {args.verb}: {_first_line(error)}; {SHARED_MEMORY_CURE}', file=sys.stderr)
    return EXIT_USER_ERROR


def at_home(args: argparse.Namespace) -> argparse.Namespace:
    """Return the arguments with `~` expanded wherever a path, or text like one, begins with it."""
    return argparse.Namespace(**{name: _expanded(value) for name, value in vars(args).items()})


def _expanded(value: Any) -> Any:
    if isinstance(value, list):
        return [_expanded(one) for one in value]
    if isinstance(value, Path):
        return Path(os.path.expanduser(value))
    # a model or a config is the name of a shipped one, or a path
    is_path = isinstance(value, str) and (value == '~' or value.startswith('~/'))
    return os.path.expanduser(value) if is_path else value


def _first_line(error: Exception) -> str:
    return str(error).strip().partition('\n')[0]


if __name__ == '__main__':
    sys.exit(main())
