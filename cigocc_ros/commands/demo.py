"""`cigocc demo`: replay a sequence through the node over DDS and draw what comes out."""

from __future__ import annotations

import argparse
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import ConfigError, DataFileError, FrameError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID, VoxelGrid
from cigocc_ros.core.installed import DEFAULT_MODEL
from cigocc_ros.runtime.engine import AUTO, BACKENDS

if TYPE_CHECKING:
    from cigocc_ros.render.sheet import VoxelPanel
    from cigocc_ros.replay.outcome import CollectedCloud, StoredCloud
    from cigocc_ros.replay.replay import Replayed

HELP = 'replay a sequence through the node over DDS, print a table, write pictures'
MARK = '.cigocc-demo'  # only folders with it are emptied
SYNTHETIC_SEED = 8
SYNTHETIC_STEP_M = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        '--sequence', type=Path, help='KITTI sequence folder (default: a synthetic street)'
    )
    parser.add_argument('--frames', type=int, default=10, help='first frames (default 10)')
    parser.add_argument(
        '--out', type=Path, default=Path('demo_output'), help='default %(default)s'
    )
    parser.add_argument(
        '--model', default=DEFAULT_MODEL, help='name of a shipped model, or a folder'
    )
    parser.add_argument('--backend', default=AUTO, choices=BACKENDS)
    parser.add_argument(
        '--pictures', type=int, default=3, help='how many frames are drawn (default 3)'
    )
    parser.add_argument('--seed', type=int, default=SYNTHETIC_SEED, help='of the synthetic street')


def run(args: argparse.Namespace) -> int:
    """Replay, print, draw; return 0."""
    from cigocc_ros.replay.replay import Replay, ReplaySettings
    from cigocc_ros.replay.report import replay_table
    from cigocc_ros.runtime.predictor import find_model_dir

    if args.frames < 1 or args.pictures < 0:
        raise ConfigError('--frames must be at least 1 and --pictures at least 0')
    find_model_dir(args.model)
    started_s = time.monotonic()
    _empty_folder(args.out)
    sequence = args.sequence or _synthesize(args)
    folder = Path(args.model).resolve() if Path(args.model).is_dir() else args.model
    store_every = max(1, args.frames // max(4 * args.pictures, 1))
    settings = ReplaySettings(
        sequence, args.out.resolve(), args.frames, str(folder), args.backend, store_every
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the processes end too
    replayed = Replay(settings, _say).run(_progress)
    print(replay_table(sequence, replayed))
    for path in _draw(args, sequence, replayed):
        print(path)
    _say(f'done in {time.monotonic() - started_s:.0f} s')
    return 0


def _say(line: str) -> None:
    print(f'== {line}', flush=True)


def _progress(arrived: int, total: int) -> None:
    print(f'   voxels of frame {arrived} of {total}', flush=True)


def _empty_folder(out: Path) -> None:
    """Make the output folder; what an earlier demo left in it goes, save its sequence."""
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise DataFileError(f'{out} holds other files: name a new or an empty folder with --out')
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()
    for name in ('logs', 'collected', 'pictures'):
        shutil.rmtree(out / name, ignore_errors=True)


def _synthesize(args: argparse.Namespace) -> Path:
    """Return the synthetic street of the seed; one that is complete is used again."""
    from tqdm import tqdm

    from cigocc_ros.data.synthetic.drive import GENERATOR_VERSION, SequenceSettings
    from cigocc_ros.data.synthetic.sequence import write_sequence

    name = f'v{GENERATOR_VERSION}_seed{args.seed}_{args.frames}_frames'
    folder: Path = args.out / 'synthetic' / name
    if folder.is_dir():
        _say(f'synthetic street {folder} is there')
        return folder
    _say(f'drawing a synthetic street with stereo images, seed {args.seed}')
    unfinished = folder.with_name(f'{name}.unfinished')
    shutil.rmtree(unfinished, ignore_errors=True)
    settings = SequenceSettings(args.frames, step_m=SYNTHETIC_STEP_M, seed=args.seed)
    frames = write_sequence(unfinished, settings)
    for _ in tqdm(frames, total=args.frames, desc='   street', unit='frame'):
        pass
    return unfinished.rename(folder)


def _draw(args: argparse.Namespace, sequence: Path, replayed: Replayed) -> list[Path]:
    """Write pictures of frames spread over the replay; return their paths."""
    from cigocc_ros.render.files import save_picture
    from cigocc_ros.render.sheet import draw_sheet
    from cigocc_ros.replay.outcome import load_cloud

    stored = [cloud for cloud in replayed.clouds if cloud.file is not None]
    chosen = sorted({round(i) for i in np.linspace(0, len(stored) - 1, args.pictures)})
    model = replayed.collected.diagnostics.get('model id', '?')
    paths = []
    for number, cloud in ((i, stored[i]) for i in chosen if stored):
        content = load_cloud(cloud.file or Path())
        latency = '' if cloud.latency_ms is None else f' | {cloud.latency_ms:.0f} ms'
        sheet = draw_sheet(
            f'{sequence.name}, stamp {cloud.stamp_ns * 1e-9:.2f} s',
            _panels(replayed, cloud, content),
            content.image,
            details=f'model {model}{latency}',
        )
        paths.append(args.out / 'pictures' / f'{number:03d}.png')
        save_picture(paths[-1], sheet)
    return paths


def _panels(replayed: Replayed, cloud: CollectedCloud, content: StoredCloud) -> list[VoxelPanel]:
    """Return the voxels that the node published and, where the player did, the ground truth."""
    from cigocc_ros.render.sheet import VoxelPanel
    from cigocc_ros.replay.outcome import occupancy_from_points

    def panel(title: str, points: NDArray[Any], grid: VoxelGrid | None) -> VoxelPanel:
        if grid is None:
            raise FrameError('voxels came, but ~/class_info with their grid did not')
        return VoxelPanel.of(
            occupancy_from_points(points, grid, cloud.stamp_ns, cloud.frame_id), title
        )

    panels = [panel('voxels from ~/occupancy', content.points, replayed.collected.grid)]
    if content.truth_points is not None:
        panels.append(panel('ground truth', content.truth_points, SEMANTIC_KITTI_GRID))
    return panels
