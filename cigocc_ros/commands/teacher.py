"""`cigocc teacher`: write what a segmentation teacher sees in every frame, for training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cigocc_ros.core.errors import ConfigError

if TYPE_CHECKING:
    from cigocc_ros.data.kitti_sequence import Side
    from cigocc_ros.training.teacher.output import Teacher
    from cigocc_ros.training.teacher.writing import Job

HELP = 'write features and class masks of a segmentation teacher, for training'
TEACHERS = ('exact', 'fddwnet', 'cityscapes', 'grounded_sam')
EXIT_BAD_FRAMES = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--data', type=Path, required=True, help='folder that holds sequences/')
    parser.add_argument('--teacher', choices=TEACHERS, required=True)
    parser.add_argument(
        '--out', '--cache', type=Path, help='cache folder (default: teacher/TEACHER in the data)'
    )
    parser.add_argument('--right', action='store_true', help='look at the right images too')
    parser.add_argument(
        '--weights',
        type=Path,
        help='fddwnet: the .safetensors file; cityscapes: the .tflite file (see docs/teacher.md)',
    )
    parser.add_argument('--detector', help='grounded_sam: GroundingDINO, model name or folder')
    parser.add_argument('--sam', help='grounded_sam: SAM, model name or folder')
    parser.add_argument('--box-threshold', type=float, help='grounded_sam: least score of a box')
    parser.add_argument(
        '--text-threshold', type=float, help='grounded_sam: least score of a phrase of a box'
    )
    parser.add_argument(
        '--device',
        help="grounded_sam, fddwnet: 'cpu', 'cuda', ... (default: this process's GPU if any; "
        'fddwnet: cpu)',
    )
    parser.add_argument(
        '--width', type=int, dest='width_px', help='fddwnet: width of the image shown to it, px'
    )
    parser.add_argument('--scale', type=float, help='cityscapes: scale of the image shown to it')
    parser.add_argument(
        '--min-probability',
        type=float,
        help='cityscapes, fddwnet: less sure pixels are not valid',
    )
    parser.add_argument(
        '--all-frames',
        action='store_true',
        help='look at every image, as train --stage eyes learns from, with a volume or without',
    )
    parser.add_argument(
        '--every', type=int, help='frame ids to take of sequences without voxel labels'
    )


def run(args: argparse.Namespace) -> int:
    """Look at this process's share of the frames; return 1 where some could not be used."""
    from tqdm import tqdm

    from cigocc_ros.training.teacher.writing import Shard, find_jobs, look_at, open_jobs

    shard = Shard.from_environment()
    sides: tuple[Side, ...] = ('left', 'right') if args.right else ('left',)
    jobs = find_jobs(args.data, sides=sides, all_frames=args.all_frames, **_given(args, 'every'))
    folder = args.out or args.data / 'teacher' / args.teacher
    teacher = _teacher(args)
    todo = open_jobs(jobs, teacher, folder, shard)
    bad = []
    bar = tqdm(total=len(todo), desc=f'{args.teacher} {shard.rank + 1}/{shard.world_size}')
    with bar:
        for outcome in look_at(todo, teacher, folder):
            bar.update()
            if outcome.error is not None:
                bad.append(outcome.job)
                bar.write(f'{outcome.job.name}: {outcome.error}')
    _summarise(todo, bad, len(jobs[shard.rank :: shard.world_size]), folder)
    return EXIT_BAD_FRAMES if bad else 0


def _summarise(todo: list[Job], bad: list[Job], share: int, folder: Path) -> None:
    done = share - len(todo)
    print(f'{len(todo) - len(bad)} frames written, {done} were done before, in {folder}')
    if bad:
        print(f'{len(bad)} frames could not be used: {", ".join(job.name for job in bad)}')


def _teacher(args: argparse.Namespace) -> Teacher:
    """Build the teacher that the arguments name; raise ConfigError for those of another one."""
    options = {
        'exact': (),
        'fddwnet': ('weights', 'width_px', 'min_probability', 'device'),
        'cityscapes': ('weights', 'scale', 'min_probability'),
        'grounded_sam': ('detector', 'sam', 'box_threshold', 'text_threshold', 'device'),
    }
    known = {name for names in options.values() for name in names}
    strange = sorted(_given(args, *(known - set(options[args.teacher]))))
    if strange:
        option = strange[0].removesuffix('_px').replace('_', '-')
        raise ConfigError(f'--{option} is not for the teacher {args.teacher!r}')
    given = _given(args, *options[args.teacher])
    if args.teacher == 'exact':
        from cigocc_ros.training.teacher.exact import ExactTeacher

        return ExactTeacher()
    if args.teacher == 'fddwnet':
        from cigocc_ros.training.teacher.fddwnet import FddwnetTeacher

        if 'weights' not in given:
            raise ConfigError(
                '--teacher fddwnet needs --weights FILE.safetensors (docs/teacher.md)'
            )
        return FddwnetTeacher(**given)
    if args.teacher == 'cityscapes':
        from cigocc_ros.training.teacher.cityscapes import CityscapesTeacher

        if 'weights' not in given:
            raise ConfigError('--teacher cityscapes needs --weights FILE.tflite (docs/teacher.md)')
        return CityscapesTeacher(**given)
    from cigocc_ros.training.teacher.grounded_sam import GroundedSamTeacher

    return GroundedSamTeacher(**given)


def _given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}
