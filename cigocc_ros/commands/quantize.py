"""`cigocc quantize`: a model folder whose convolutions compute in eight bits."""

from __future__ import annotations

import argparse
from pathlib import Path

from cigocc_ros.commands.arguments import add_prior_argument, add_threads_argument
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.installed import DEFAULT_MODEL
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.data.camera_frames import DataFrames
from cigocc_ros.data.stereo_config import trained_stereo
from cigocc_ros.runtime.predictor import find_model_dir
from cigocc_ros.runtime.preprocess import Preprocessor

HELP = 'make an int8 model folder, calibrated on frames, from an exported one'
AUTO, ONNXRUNTIME, MODELOPT = 'auto', 'onnxruntime', 'modelopt'
DEFAULT_FRAMES = 8


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
        help='how many calibrate (default %(default)s); 4 others between them check the labels',
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
    add_threads_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Calibrate, quantise, check, write; return 0."""
    from cigocc_ros.export.int8_folder import Int8Options, calibration_frames, quantize_folder
    from cigocc_ros.export.modelopt_route import has_modelopt

    source = find_model_dir(args.model)
    use_modelopt = has_modelopt() if args.scales == AUTO else args.scales == MODELOPT
    if use_modelopt and not has_modelopt():
        raise ConfigError(
            '--scales modelopt: NVIDIA ModelOpt is not installed; docs/quantization.md says how, '
            'in an environment of its own'
        )
    manifest = load_manifest(source)
    data = DataFrames(args.data, args.prior, trained_stereo(manifest.training))
    prepare = Preprocessor.of(manifest)
    chosen = calibration_frames(len(data), args.frames, str(args.data))
    frames, held_out = ([prepare(data[index]) for index in indices] for indices in chosen)
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
