"""`cigocc calibrate`: probabilities that mean what they say, and the threshold of occupancy."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.commands.arguments import (
    add_engine_arguments,
    add_semantics_arguments,
    add_stereo_arguments,
    open_predictor,
    opened_semantics,
    stereo_config,
)
from cigocc_ros.core.calibration import (
    CALIBRATION_FILE,
    WEIGHTS_SHA256,
    Calibration,
    write_calibration,
)
from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.files import write_atomically
from cigocc_ros.core.frames import CameraFrame, Occupancy
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.installed import code_commit
from cigocc_ros.core.labels import EMPTY, spread_voxels
from cigocc_ros.core.manifest import (
    DEPTH_PRIOR,
    LOGITS,
    MANIFEST_FILE,
    OCCUPIED_PROBABILITY,
    PIXEL_FROM_VELO,
)
from cigocc_ros.core.prior import AUTO, FILE_SOURCES, current_word
from cigocc_ros.core.typed_yaml import from_mapping
from cigocc_ros.core.views import OUTSIDE, views_of_voxels
from cigocc_ros.data.kitti_layout import FrameKey
from cigocc_ros.evaluation.calibrate import (
    DEFAULT_FOLDS,
    Counted,
    all_scores,
    calibration_of,
    fit,
    parts_of,
)
from cigocc_ros.evaluation.calibration import BYTES, Reliability, logit_levels
from cigocc_ros.evaluation.calibration import LOGITS as LOGIT_LEVELS
from cigocc_ros.evaluation.calibration_report import (
    Diagram,
    calibration_markdown,
    diagrams_of,
    view_table,
)
from cigocc_ros.evaluation.evaluate import LABELLED_SPLITS, frames_to_score, split_text
from cigocc_ros.evaluation.ground_truth import GroundTruth, open_ground_truth
from cigocc_ros.evaluation.predictions import SequencePredictions
from cigocc_ros.evaluation.view_counts import ViewCounts
from cigocc_ros.runtime.engine import AUTO as AUTO_BACKEND
from cigocc_ros.runtime.engine import TORCH
from cigocc_ros.runtime.postprocess import occupancy_from_outputs
from cigocc_ros.runtime.predictor import Predictor

HELP = 'make the probabilities of a checkpoint true on validation frames, for `cigocc export`'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('data', type=Path, help='data set root with the images')
    parser.add_argument(
        '--model',
        required=True,
        help='checkpoint folder, e.g. runs/mid/best; or an exported model, of which occupancy '
        'alone can be calibrated',
    )
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='FILE',
        help=f'YAML to write, e.g. runs/mid/best/{CALIBRATION_FILE}; a table (.md) and a '
        'reliability diagram (.png) go beside it',
    )
    parser.add_argument(
        '--ground-truth',
        type=Path,
        metavar='DIR',
        help='ground truth elsewhere, as for `cigocc evaluate` (default: the data)',
    )
    frames = parser.add_mutually_exclusive_group()
    frames.add_argument(
        '--split', choices=LABELLED_SPLITS, help='an official split, which must be complete'
    )
    frames.add_argument(
        '--sequences', nargs='+', default=[], metavar='SS', help='default: all with ground truth'
    )
    parser.add_argument(
        '--every', type=int, default=1, metavar='N', help='take every Nth frame (default 1)'
    )
    parser.add_argument(
        '--folds',
        type=int,
        default=DEFAULT_FOLDS,
        help='parts of the frames of a single sequence, each of them left out in turn (default '
        '%(default)s); several sequences are the parts themselves',
    )
    group = parser.add_argument_group('running the model')
    add_engine_arguments(group)
    group.add_argument(
        '--prior',
        type=current_word,
        choices=FILE_SOURCES,
        nargs='+',
        default=[AUTO],
        help='depth priors, as of `cigocc evaluate`; one calibration serves all that are named',
    )
    add_semantics_arguments(group, 'folder with label images sequences/SS/FFFFFF.png')
    add_stereo_arguments(group)


def run(args: argparse.Namespace) -> int:
    """Run the model on all frames, fit, print the report, write three files; return 0."""
    truth = open_ground_truth(args.ground_truth or args.data)
    if args.every < 1:
        raise ConfigError(f'--every: expected 1 or more, found {args.every}')
    frames = frames_to_score(truth, args.split, args.sequences)[:: args.every]
    parts = parts_of(frames, args.folds)
    with closing(opened(args)) as predictor:
        counted = {prior: count(args, predictor, truth, parts, prior) for prior in args.prior}
    manifest, with_classes = predictor.manifest, predictor.engine_has_logits
    fitted = fit(counted, with_classes)
    scores = all_scores(counted, fitted, with_classes)
    facts = facts_of(args, predictor)
    calibration = calibration_of(manifest, frames, fitted, scores, facts)
    diagrams = diagrams_of(counted, fitted)
    report = calibration_markdown(calibration, scores, diagrams, view_table(counted, fitted))
    print(report)
    write_calibration(args.out, calibration)
    write_atomically(args.out.with_suffix('.md'), report)
    draw(args.out.with_suffix('.png'), diagrams, calibration)
    print(args.out)
    return 0


class RawPredictor(Predictor):
    """Keeps what the engine said of the frame that was predicted last."""

    engine_has_logits = False
    weights: str | None = None
    """sha256 of the tensors of the checkpoint, where that is known."""
    view_grid: VoxelGrid | None = None
    """The grid on which its graph tells how the camera sees a voxel, where that is known."""

    def __call__(self, frame: CameraFrame) -> Occupancy:
        """Return the occupancy of a frame."""
        self._inputs = self.prepare(frame).arrays
        self._outputs = self.engine.run(self._inputs)
        return occupancy_from_outputs(self._outputs, self.grid, frame)

    @property
    def logits(self) -> NDArray[np.float32] | None:
        """Logits (20, x, y, z) of that frame."""
        found: NDArray[np.float32] | None = self._outputs.get(LOGITS, [None])[0]
        return found

    def levels(self) -> NDArray[np.integer[Any]]:
        """Return how occupied its voxels were said to be, (x, y, z): indices of LOGIT_LEVELS.

        Of BYTES where the engine gives no logits.
        """
        if self.logits is None:
            return np.asarray(self._outputs[OCCUPIED_PROBABILITY][0])
        empty, classes = self.logits[EMPTY], self.logits[EMPTY + 1 :]
        highest = classes.max(0)
        return logit_levels(highest + np.log(np.exp(classes - highest).sum(0)) - empty)

    def views(self) -> NDArray[np.uint8]:
        """Return the index into VIEWS of its voxels, (x, y, z); OUTSIDE where that is not told."""
        if self.view_grid is None:
            return np.full(self.grid.shape, OUTSIDE, np.uint8)
        matrix, prior = (self._inputs[name][0] for name in (PIXEL_FROM_VELO, DEPTH_PRIOR))
        return spread_voxels(views_of_voxels(self.view_grid, matrix, prior), self.grid.shape)


def opened(args: argparse.Namespace) -> RawPredictor:
    """Load a checkpoint, as it is without a calibration, or an exported model."""
    folder = Path(args.model)
    is_checkpoint = folder.is_dir() and not (folder / MANIFEST_FILE).is_file()
    if args.backend != TORCH and not (args.backend == AUTO_BACKEND and is_checkpoint):
        loaded = open_predictor(args)
        exported = RawPredictor(loaded.engine, loaded.manifest)
        training = loaded.manifest.training
        exported.weights = training.get(WEIGHTS_SHA256)
        if 'config' in training:
            where = f'{folder}: training.config'
            exported.view_grid = from_mapping(ModelConfig, training['config'], where).query_grid
        return exported
    from cigocc_ros.model.build import checkpoint_config
    from cigocc_ros.model.weight_files import weights_sha256
    from cigocc_ros.runtime.torch_engine import TorchEngine, load_checkpoint_manifest

    manifest = load_checkpoint_manifest(folder, with_calibration=False)
    engine = TorchEngine(folder, manifest, args.threads, args.device, with_logits=True)
    predictor = RawPredictor(engine, manifest)
    predictor.engine_has_logits, predictor.weights = True, weights_sha256(folder)
    predictor.view_grid = checkpoint_config(folder).query_grid
    return predictor


def count(
    args: argparse.Namespace,
    predictor: RawPredictor,
    truth: GroundTruth,
    parts: Sequence[tuple[FrameKey, ...]],
    prior: str,
) -> list[Counted]:
    """Run the model with one depth prior; return what was counted on each part."""
    from tqdm import tqdm

    frames = tuple(key for part in parts for key in part)
    stereo = stereo_config(args, predictor.manifest.training)
    predict = SequencePredictions(
        predictor, args.data, frames, prior, opened_semantics(args), stereo
    )
    kind = LOGIT_LEVELS if predictor.engine_has_logits else BYTES
    counted = [Counted(ViewCounts(kind)) for _ in parts]
    with tqdm(total=len(frames), unit='frame', desc=prior, disable=None) as bar:
        for one, part in zip(counted, parts, strict=True):
            for key in part:
                labels, target = predict(key), truth.labels(key)
                levels, views = predictor.levels(), predictor.views()
                fine = spread_voxels(levels, target.shape), spread_voxels(views, target.shape)
                one.update(labels, *fine, target)
                if predictor.logits is not None:
                    one.classes.update(predictor.logits, levels, views, target)
                bar.update()
    return counted


def facts_of(args: argparse.Namespace, predictor: RawPredictor) -> dict[str, Any]:
    """Return what should be known of where the numbers are from."""
    return {
        'model': named(str(args.model)),
        WEIGHTS_SHA256: predictor.weights,
        'backend': predictor.engine.name,
        'data': named(str(args.data)),
        'ground_truth': named(str(args.ground_truth or args.data)),
        'chosen': f'{split_text(args.split, args.sequences)}, every {args.every}',
        'command': shlex.join(['cigocc', *map(named, sys.argv[1:])]),
        'code_commit': code_commit(),
    }


def named(word: str) -> str:
    """Return a word without the folders of this machine: a manifest is for others to read."""
    path = Path(word)
    return path.name if path.is_absolute() else word


def draw(path: Path, diagrams: list[Diagram], calibration: Calibration) -> None:
    """Write the reliability diagrams as PNG."""
    from cigocc_ros.data.image_files import write_image
    from cigocc_ros.render.reliability import ReliabilityPanel, draw_reliability

    def points(rows: list[Reliability]) -> list[tuple[float, float, int]]:
        return [(row.said, row.found, row.voxels) for row in rows]

    panels = []
    errors = (calibration.occupied_error, calibration.class_error)
    for diagram, error in zip(diagrams, errors, strict=False):
        if error is not None:
            pair = (error.before, error.after)
            panels.append(
                ReliabilityPanel(
                    diagram.title, points(diagram.before), points(diagram.after), pair
                )
            )
    write_image(path, draw_reliability(panels))
