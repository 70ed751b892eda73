"""`cigocc quantize`: a model folder whose convolutions compute in eight bits."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cigocc_ros.commands.infer import add_prior_argument
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.installed import DEFAULT_MODEL
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.data.camera_frames import sequence_frame, sequence_prior
from cigocc_ros.runtime.contract import DEFAULT_THREADS
from cigocc_ros.runtime.predictor import find_model_dir
from cigocc_ros.runtime.preprocess import Preprocessor

if TYPE_CHECKING:
    from cigocc_ros.runtime.contract import Arrays

HELP = 'make an int8 model folder, calibrated on frames, from an exported one'
AUTO, ONNXRUNTIME, MODELOPT = 'auto', 'onnxruntime', 'modelopt'
DEFAULT_FRAMES, HELD_OUT_FRAMES = 8, 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        'data', type=Path, help='KITTI sequence folder or data set root: frames to calibrate on'
    )
    parser.add_argument(
        '--model', default=DEFAULT_MODEL, help='shipped model or folder (default %(default)s)'
    )
    parser.add_argument('--out', type=Path, required=True, help='model folder to write')
    parser.add_argument(
        '--frames',
        type=int,
        default=DEFAULT_FRAMES,
        help=f'how many calibrate (default %(default)s); {HELD_OUT_FRAMES} others between them '
        'check the labels',
    )
    add_prior_argument(parser)
    parser.add_argument(
        '--scales',
        choices=(AUTO, ONNXRUNTIME, MODELOPT),
        default=AUTO,
        help='what gives the scales of the file for TensorRT; auto: NVIDIA ModelOpt where it is '
        'installed. The file for CPUs always has those of ONNX Runtime',
    )
    parser.add_argument(
        '--reduce-range',
        action='store_true',
        help='7-bit weights in the file for CPUs: for x86 CPUs without VNNI',
    )
    parser.add_argument(
        '--threads', type=int, default=DEFAULT_THREADS, help='0 (default): every core'
    )


def run(args: argparse.Namespace) -> int:
    """Calibrate, quantise, check, write; return 0."""
    from cigocc_ros.export.int8_folder import Int8Options, quantize_folder
    from cigocc_ros.export.modelopt_route import has_modelopt

    source = find_model_dir(args.model)
    use_modelopt = has_modelopt() if args.scales == AUTO else args.scales == MODELOPT
    if use_modelopt and not has_modelopt():
        raise ConfigError(
            '--scales modelopt: NVIDIA ModelOpt is not installed; docs/quantization.md says how, '
            'in an environment of its own'
        )
    frames, held_out = frames_of(args, load_manifest(source).image_size)
    print(f'calibrating on {len(frames)} frames, checking on {len(held_out)} others ...')
    options = Int8Options(args.reduce_range, use_modelopt, args.threads, args.data.name)
    made = quantize_folder(source, args.out, frames, held_out, options)
    facts = made.training['quantization']
    print(
        f'{facts["convolutions"]} convolutions in int8; float32 labels that survive on the worst'
    )
    for name, share in facts['worst_labels_equal'].items():
        print(f'  {name}: {100 * share:.3f} %, {(args.out / name).stat().st_size / 1e6:.1f} MB')
    print(f'wrote {args.out}')
    return 0


def frames_of(
    args: argparse.Namespace, image_size: tuple[int, int]
) -> tuple[list[Arrays], list[Arrays]]:
    """Return inputs to calibrate on and inputs between them to check; raise ConfigError."""
    from cigocc_ros.data.kitti_sequence import KittiSequence, find_sequences  # needs OpenCV

    sequences = [KittiSequence(folder) for folder in find_sequences(args.data)]
    keys = [(sequence, frame_id) for sequence in sequences for frame_id in sequence.frame_ids]
    wanted = args.frames + HELD_OUT_FRAMES
    if args.frames < 1 or len(keys) < wanted:
        raise ConfigError(
            f'{args.data}: {len(keys)} frames found, --frames {args.frames} needs at least 1 and '
            f'{HELD_OUT_FRAMES} more to check'
        )
    chosen = [keys[index * len(keys) // wanted] for index in range(wanted)]
    checked = {
        (2 * index + 1) * wanted // (2 * HELD_OUT_FRAMES) for index in range(HELD_OUT_FRAMES)
    }
    preprocess = Preprocessor(image_size)
    inputs = [
        preprocess(sequence_frame(sequence, frame_id, sequence_prior(sequence, args.prior)))
        for sequence, frame_id in chosen
    ]
    calibrate = [arrays for index, arrays in enumerate(inputs) if index not in checked]
    return calibrate, [inputs[index] for index in sorted(checked)]
