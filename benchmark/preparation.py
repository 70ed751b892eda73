"""How long preparing a frame takes in a long sequence, and how large it is.

    python -m benchmark.preparation SEQUENCE [--truth DIR]

The sequence is repeated by links until it is as long as SemanticKITTI's 00, of which every fifth
frame is labelled: opening such a folder costs more than the ten frames of a test show.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from cigocc_ros.core.config import ModelConfig, load_model_config
from cigocc_ros.core.labels import CLASS_NAMES
from cigocc_ros.core.markdown import table
from cigocc_ros.data.kitti_files import read_poses, write_poses, write_times
from cigocc_ros.data.kitti_layout import CALIB, NUM_SCANS, POSES, SPLITS, TIMES, labelled_frames
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.stereo_config import StereoConfig
from cigocc_ros.training.cache import SOURCE_PARTS, VOLUME_PARTS, FrameRef, find_frames
from cigocc_ros.training.preparation import prepare_frames
from cigocc_ros.training.teacher.files import write_output
from cigocc_ros.training.teacher.folder import claim_folder, frame_file
from cigocc_ros.training.teacher.output import MASK_CLASSES, TeacherInfo, TeacherOutput

TRAINING_FRAMES = len(labelled_frames(SPLITS['train']))
SAM_GRID = (256, 20, 64)
"""Features that SAM's encoder has of a KITTI image without its padding."""


def repeat_sequence(source: Path, truth: Path | None, out: Path, length: int) -> Path | None:
    """Link a sequence and its ground truth again and again below `out`.

    Returns the folder of the SS_FFFFFF.npz; None where the sequence has volumes of its own.
    """
    sequence = KittiSequence(source)
    folder, ids = out / 'sequences' / source.name, sequence.frame_ids
    for part in (*SOURCE_PARTS, *VOLUME_PARTS):
        files = part.files(source)
        if not files:
            continue
        (folder / part.folder).mkdir(parents=True, exist_ok=True)
        for index in range(length):
            original = files.get(ids[index % len(ids)])
            if original is not None:
                name = f'{index:06d}{original.suffix}'
                (folder / part.folder / name).symlink_to(original.resolve())
    (folder / CALIB).symlink_to((source / CALIB).resolve())
    write_times(folder / TIMES, 0.1 * np.arange(length))
    if sequence.has_poses:
        poses = read_poses(source / POSES)
        write_poses(folder / POSES, poses[np.arange(length) % len(poses)])
    if truth is None:
        return None
    (out / 'truth').mkdir()
    for index in range(length):
        array = truth / f'{source.name}_{ids[index % len(ids)]}.npz'
        if array.is_file():
            (out / 'truth' / f'{source.name}_{index:06d}.npz').symlink_to(array.resolve())
    return out / 'truth'


def write_teacher(folder: Path, frames: list[FrameRef]) -> None:
    """Write features of SAM's size, noise that does not pack, and masks of a few rectangles."""
    info = TeacherInfo(
        name='noise of the size of SAM',
        version='1',
        features='noise',
        channels=SAM_GRID[0],
        classes=MASK_CLASSES,
        known_classes=MASK_CLASSES,
    )
    claim_folder(folder, info)
    rng = np.random.default_rng(0)
    for frame in frames:
        camera = KittiSequence(frame.sequence).camera_left
        size = (camera.height, camera.width)
        masks = np.zeros((len(CLASS_NAMES) - 1, *size), dtype=bool)
        for mask in masks:
            top, left = rng.integers(0, size[0]), rng.integers(0, size[1])
            mask[top : top + 90, left : left + 200] = True
        step = size[1] / SAM_GRID[2]
        output = TeacherOutput(
            features=rng.standard_normal(SAM_GRID).astype(np.float16),
            origin_px=(step / 2 - 0.5,) * 2,
            step_px=(step,) * 2,
            masks=masks,
            valid=np.ones(size, dtype=bool),
        )
        path = frame_file(folder, frame.sequence.name, frame.frame_id, frame.side)
        write_output(path, output, info)


def measure(frames: list[FrameRef], config: ModelConfig, stereo: StereoConfig) -> dict[str, float]:
    """Prepare frames in this process; return seconds a frame, of the wall and of the CPU."""
    before, began = _cpu_s(), time.perf_counter()
    for _ in prepare_frames(frames, config, workers=1, stereo=stereo):
        pass
    wall_s, cpu_s = time.perf_counter() - began, _cpu_s() - before
    return {'wall': wall_s / len(frames), 'cpu': cpu_s / len(frames)}


def packed_bytes(frames: list[FrameRef]) -> Counter[str]:
    """Return the mean bytes of each array as they lie on disk, and of whole files."""
    total: Counter[str] = Counter()
    for frame in frames:
        with zipfile.ZipFile(frame.cached) as archive:
            for member in archive.infolist():
                total[member.filename.removesuffix('.npy')] += member.compress_size
        total['file'] += frame.cached.stat().st_size
    return Counter({name: size // len(frames) for name, size in total.items()})


def main() -> None:
    """Print the seconds a frame and the sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('sequence', type=Path, help='a few frames of KITTI, with scans and labels')
    parser.add_argument('--truth', type=Path, help='SS_FFFFFF.npz, where it has no volumes')
    parser.add_argument('--model', default='full')
    parser.add_argument('--length', type=int, default=NUM_SCANS['00'], help='frames after linking')
    parser.add_argument('--frames', type=int, default=20, help='how many are prepared')
    parser.add_argument('--stereo-width', type=int, default=StereoConfig.max_width_px)
    parser.add_argument('--teacher', action='store_true', help='with features of the size of SAM')
    args = parser.parse_args()
    config, stereo = load_model_config(args.model), StereoConfig(max_width_px=args.stereo_width)
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        truth = repeat_sequence(args.sequence, args.truth, out, args.length)
        began = time.perf_counter()
        frames = find_frames(out, config, out / 'cache', truth=truth, stereo=stereo)
        print(f'{len(frames)} frames listed in {time.perf_counter() - began:.2f} s')
        if args.teacher:
            write_teacher(out / 'said', frames[: args.frames])
            frames = find_frames(
                out, config, out / 'cache', truth=truth, teacher=out / 'said', stereo=stereo
            )
        frames = frames[: args.frames]
        seconds = measure(frames, config, stereo)
        print(
            f'{len(frames)} frames of `{config.name}` in a sequence of {args.length}: '
            f'{seconds["cpu"]:.3f} CPU s, {seconds["wall"]:.3f} s a frame'
        )
        sizes = packed_bytes(frames)
        rows = [
            (part, f'{size / 1e6:.3f}', f'{size * TRAINING_FRAMES / 1e9:.2f}')
            for part, size in sizes.most_common()
        ]
        lines = table(('array', 'MB a frame', f'GB of {TRAINING_FRAMES} frames'), rows)
        print('\n'.join(lines))


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == '__main__':
    main()
