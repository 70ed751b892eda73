"""`cigocc evaluate`: the official scores of a model, or of prediction files."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

from cigocc_ros.commands.infer import add_engine_arguments, add_prior_argument
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.installed import code_commit
from cigocc_ros.core.manifest import ModelManifest
from cigocc_ros.data.kitti_layout import FrameKey
from cigocc_ros.evaluation.evaluate import (
    LABELLED_SPLITS,
    Evaluation,
    Predict,
    evaluate,
    select_frames,
)
from cigocc_ros.evaluation.ground_truth import GroundTruth, open_ground_truth
from cigocc_ros.evaluation.predictions import PredictionFiles, SequencePredictions
from cigocc_ros.evaluation.report import (
    NOT_RECORDED,
    STUDENT,
    Subject,
    report_markdown,
    write_report,
)
from cigocc_ros.runtime.postprocess import labels_on_grid
from cigocc_ros.runtime.predictor import Predictor

HELP = "score a model or prediction files as SemanticKITTI's scene-completion benchmark does"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        'data', type=Path, help='data set root: the images for --model, and the ground truth'
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--model', help='shipped model or folder, to be run on the images')
    source.add_argument(
        '--predictions', type=Path, help='folder with sequences/SS/predictions/FFFFFF.label'
    )
    parser.add_argument(
        '--ground-truth',
        type=Path,
        metavar='DIR',
        help='ground truth elsewhere: volumes in the same layout (as "cigocc voxelize" writes), '
        "or SS_FFFFFF.npz with an array 'label' of train ids, 255 unknown (default: the data)",
    )
    frames = parser.add_mutually_exclusive_group()
    frames.add_argument(
        '--split', choices=LABELLED_SPLITS, help='an official split, which must be complete'
    )
    frames.add_argument(
        '--sequences', nargs='+', default=[], metavar='SS', help='default: all with ground truth'
    )
    parser.add_argument('--name', help='what the prediction files are, for the report')
    parser.add_argument('--out', type=Path, help='folder of evaluation.json and evaluation.md')
    add_model_arguments(parser)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how a model is run on sequences."""
    group = parser.add_argument_group('running the model')
    add_engine_arguments(group)
    add_prior_argument(group)


def run(args: argparse.Namespace) -> int:
    """Score all frames, print the Markdown report, write both reports to --out; return 0."""
    truth = open_ground_truth(args.ground_truth or args.data)
    frames = select_frames(truth, args.split, args.sequences)
    if args.predictions is not None:
        subject, evaluation = evaluate_files(args, truth, frames)
    else:
        subject, evaluation = evaluate_model(args, truth, frames)
    print(report_markdown(subject, evaluation))
    if args.out is not None:
        for path in write_report(args.out, subject, evaluation):
            print(path)
    return 0


def evaluate_files(
    args: argparse.Namespace, truth: GroundTruth, frames: tuple[FrameKey, ...]
) -> tuple[Subject, Evaluation]:
    """Score prediction files; what made them is not recorded in them."""
    files = PredictionFiles(args.predictions)
    files.require(frames)
    subject = subject_of(args, truth, data=str(args.predictions), model=args.name)
    return subject, score(frames, truth, files)


def evaluate_model(
    args: argparse.Namespace, truth: GroundTruth, frames: tuple[FrameKey, ...]
) -> tuple[Subject, Evaluation]:
    """Run the model on the images of all frames and score what it says."""
    with closing(Predictor.from_model_dir(args.model, args.backend, args.threads)) as predictor:
        predict = predictions_of(predictor, args, frames)
        predictor.warm_up()
        subject = subject_of(
            args,
            truth,
            data=str(args.data),
            model=args.name or predictor.manifest.model_id,
            backend=predictor.engine.name,
            depth_prior=predict.prior_text(),
            semantic_path=STUDENT,
            manifest=predictor.manifest,
        )
        return subject, score(frames, truth, predict)


def predictions_of(
    predictor: Predictor, args: argparse.Namespace, frames: tuple[FrameKey, ...]
) -> SequencePredictions:
    """Return the model's labels of frames at SemanticKITTI's size; coarse voxels are spread."""
    return SequencePredictions(
        lambda frame: labels_on_grid(predictor(frame), SEMANTIC_KITTI_GRID),
        args.data,
        frames,
        args.prior,
    )


def score(frames: tuple[FrameKey, ...], truth: GroundTruth, predict: Predict) -> Evaluation:
    """Score all frames behind a progress bar, which is silent in a pipe."""
    from tqdm import tqdm

    return evaluate(tqdm(frames, unit='frame', disable=None), truth, predict)


def subject_of(
    args: argparse.Namespace,
    truth: GroundTruth,
    *,
    data: str,
    model: str | None,
    backend: str = NOT_RECORDED,
    depth_prior: str = NOT_RECORDED,
    semantic_path: str = NOT_RECORDED,
    manifest: ModelManifest | None = None,
) -> Subject:
    """Return what the report says of the model, the data and the code."""
    onnx = manifest.files.get('onnx') if manifest else None
    return Subject(
        model=model or 'prediction files',
        backend=backend,
        depth_prior=depth_prior,
        semantic_path=semantic_path,
        model_sha256=onnx.sha256 if onnx else None,
        model_commit=manifest.training.get('commit') if manifest else None,
        code_commit=code_commit(),
        data=data,
        ground_truth=f'{args.ground_truth or args.data} ({truth.form})',
        split=split_text(args.split, args.sequences),
    )


def split_text(split: str | None, sequences: list[str]) -> str:
    """Say which frames were scored, and whether that is an official split."""
    if split is not None:
        return f'{split} (official, complete)'
    chosen = f'sequences {", ".join(sequences)}' if sequences else 'all ground truth there is'
    return f'{chosen} (not an official split)'
