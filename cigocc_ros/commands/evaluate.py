"""`cigocc evaluate`: the official scores of a model, or of prediction files."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

from cigocc_ros.commands.arguments import (
    add_engine_arguments,
    add_prior_argument,
    add_semantics_arguments,
    add_stereo_arguments,
    open_predictor,
    opened_semantics,
    stereo_config,
    warn_of_untrained,
)
from cigocc_ros.core.prior import NONE
from cigocc_ros.data.kitti_layout import FrameKey
from cigocc_ros.evaluation.evaluate import (
    LABELLED_SPLITS,
    Evaluation,
    Predict,
    Said,
    evaluate,
    frames_to_score,
    split_text,
)
from cigocc_ros.evaluation.ground_truth import GroundTruth, open_ground_truth
from cigocc_ros.evaluation.predictions import PredictionFiles, SequencePredictions
from cigocc_ros.evaluation.report import (
    STUDENT,
    ScoredModel,
    report_markdown,
    write_report,
)
from cigocc_ros.runtime.contract import ONNX_ROLE
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
    add_semantics_arguments(group, 'folder with label images sequences/SS/FFFFFF.png')
    add_stereo_arguments(group)


def run(args: argparse.Namespace) -> int:
    """Score all frames, print the Markdown report, write both reports to --out; return 0."""
    truth = open_ground_truth(args.ground_truth or args.data)
    frames = frames_to_score(truth, args.split, args.sequences)
    if args.predictions is not None:
        scored, evaluation = evaluate_files(args, truth, frames)
    else:
        scored, evaluation = evaluate_model(args, truth, frames)
    print(report_markdown(scored, evaluation))
    if args.out is not None:
        for path in write_report(args.out, scored, evaluation):
            print(path)
    return 0


def evaluate_files(
    args: argparse.Namespace, truth: GroundTruth, frames: tuple[FrameKey, ...]
) -> tuple[ScoredModel, Evaluation]:
    """Score prediction files; what made them is not recorded in them."""
    files = PredictionFiles(args.predictions)
    files.require(frames)
    scored = ScoredModel(
        model=args.name or 'prediction files',
        data=str(args.predictions),
        ground_truth=truth_text(args, truth),
        split=split_text(args.split, args.sequences),
    )
    return scored, score(frames, truth, files)


def evaluate_model(
    args: argparse.Namespace, truth: GroundTruth, frames: tuple[FrameKey, ...]
) -> tuple[ScoredModel, Evaluation]:
    """Run the model on the images of all frames and score what it says."""
    with closing(open_predictor(args)) as predictor:
        predict = predictions_of(predictor, args, frames)
        predictor.warm_up()
        manifest, told = predictor.manifest, set[str]()
        for kind in predict.priors.values():
            warn_of_untrained(manifest, kind != NONE, args.semantic_prior is not None, told)
        network = manifest.files.get(ONNX_ROLE)
        scored = ScoredModel(
            model=args.name or manifest.model_id,
            backend=predictor.engine.name,
            depth_prior=predict.prior_text(),
            semantic_path=semantic_path(args),
            model_sha256=network.sha256 if network else None,
            model_commit=manifest.training.get('commit'),
            data=str(args.data),
            ground_truth=truth_text(args, truth),
            split=split_text(args.split, args.sequences),
        )
        return scored, score(frames, truth, predict, predict)


def semantic_path(args: argparse.Namespace) -> str:
    """Say in the report where the model's classes come from."""
    if args.semantic_prior is None:
        return STUDENT
    return f'{STUDENT}, with label images {args.semantic_prior} ({args.semantic_classes})'


def predictions_of(
    predictor: Predictor, args: argparse.Namespace, frames: tuple[FrameKey, ...]
) -> SequencePredictions:
    """Return the model's labels of frames at SemanticKITTI's size; coarse voxels are spread."""
    return SequencePredictions(
        predictor,
        args.data,
        frames,
        args.prior,
        opened_semantics(args),
        stereo_config(args, predictor.manifest.training),
    )


def score(
    frames: tuple[FrameKey, ...],
    truth: GroundTruth,
    predict: Predict,
    said: Said | None = None,
) -> Evaluation:
    """Score all frames behind a progress bar, which is silent in a pipe."""
    from tqdm import tqdm

    return evaluate(tqdm(frames, unit='frame', disable=None), truth, predict, said)


def truth_text(args: argparse.Namespace, truth: GroundTruth) -> str:
    """Say where the ground truth is, and what kind of files it is."""
    return f'{args.ground_truth or args.data} ({truth.form})'
