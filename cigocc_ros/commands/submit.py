"""`cigocc submit`: predictions in the form that the benchmark's server takes."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

from cigocc_ros.commands.arguments import open_predictor
from cigocc_ros.commands.evaluate import add_model_arguments, predictions_of
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.installed import DEFAULT_MODEL
from cigocc_ros.core.labels import raw_from_train
from cigocc_ros.data.kitti_files import write_voxel_labels
from cigocc_ros.data.kitti_layout import SPLITS, FrameKey, frames_to_predict
from cigocc_ros.evaluation.submission import member_name, pack_submission, validate_submission

HELP = "write or check a submission to SemanticKITTI's scene-completion benchmark"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        'data', type=Path, help='data set root; its voxels/*.bin say which frames are wanted'
    )
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument('--out', type=Path, help='folder to write the submission into')
    task.add_argument(
        '--check', type=Path, metavar='PATH', help='check this folder or zip instead of writing'
    )
    parser.add_argument('--zip', type=Path, metavar='FILE', help='also pack --out into this zip')
    parser.add_argument(
        '--sequences',
        nargs='+',
        default=list(SPLITS['test']),
        metavar='SS',
        help='default: the test split, 11 to 21',
    )
    parser.add_argument(
        '--model', default=DEFAULT_MODEL, help='shipped model or folder (default %(default)s)'
    )
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Predict and check, or only check; print what is ready for the server and return 0."""
    frames = frames_to_predict(args.data, args.sequences)
    if args.check is not None:
        if args.zip is not None:
            raise ConfigError('--zip packs what --out writes; --check only reads')
        return report(args.check, frames)
    predict_all(args, frames)
    report(args.out, frames)
    if args.zip is not None:
        pack_submission(args.out, frames, args.zip)
        report(args.zip, frames)
    return 0


def predict_all(args: argparse.Namespace, frames: tuple[FrameKey, ...]) -> None:
    """Write the labels of every frame below --out."""
    from tqdm import tqdm

    with closing(open_predictor(args)) as predictor:
        predict = predictions_of(predictor, args, frames)
        predictor.warm_up()
        print(f'{predictor.manifest.model_id} on {predictor.engine.name}, {predict.prior_text()}')
        for key in tqdm(frames, unit='frame', disable=None):
            write_voxel_labels(args.out / member_name(key), raw_from_train(predict(key)))


def report(path: Path, frames: tuple[FrameKey, ...]) -> int:
    """Validate a submission and say so; raises DataFileError naming the first bad file."""
    validate_submission(path, frames)
    names = ', '.join(sorted({key.sequence for key in frames}))
    print(f'{path}: valid, {len(frames)} files of sequences {names}')
    return 0
