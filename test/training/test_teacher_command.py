"""`cigocc teacher` from a folder of frames to targets that a sample can use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import fixtures_boxes
import numpy as np
import pytest
import torch

from cigocc_ros.commands.main import main
from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.labels import IGNORE
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.model.build import build_model
from cigocc_ros.runtime.preprocess import fit_camera
from cigocc_ros.training.cells import cell_masks
from cigocc_ros.training.losses import feature_distillation
from cigocc_ros.training.teacher.exact import ExactTeacher
from cigocc_ros.training.teacher.folder import TeacherCache, frame_file
from cigocc_ros.training.teacher.writing import Shard, find_jobs, look_at, open_jobs

SEEDS = (0, 1, 2)
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def only_this_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('cigocc_ros.commands.main.VERBS', ('teacher',))
    for name in ('RANK', 'WORLD_SIZE'):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope='module')
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('kitti')
    fixtures_boxes.write_kitti_tree(folder, seeds=SEEDS, size=(104, 320))
    return folder


@pytest.fixture
def root(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / 'data'))


def teach(root: Path, *more: str) -> int:
    return main(['teacher', '--data', str(root), '--teacher', 'exact', *more])


def files(folder: Path) -> dict[str, int]:
    found = sorted((folder / 'sequences').rglob('*.npz'))
    return {f'{path.parent.name}/{path.stem}': path.stat().st_mtime_ns for path in found}


def test_exact_masks_are_those_of_the_class_images(root: Path, tiny: ModelConfig) -> None:
    assert teach(root) == 0
    cache, sequence = TeacherCache(root / 'teacher/exact'), KittiSequence(root / 'sequences/00')
    fit = fit_camera(sequence.camera_left, tiny.image_size)
    for frame_id in sequence.frame_ids:
        classes = fit.apply_nearest(sequence.semantic_image(frame_id), IGNORE)
        masks, valid = cell_masks(classes)
        targets = cache.load_targets('00', frame_id, fit, tiny.semantic_channels)
        np.testing.assert_array_equal(targets.masks, masks)
        np.testing.assert_array_equal(targets.masks_valid, np.broadcast_to(valid, masks.shape))
        assert targets.features.shape == (tiny.semantic_channels, 12, 40)
        assert targets.features.dtype == np.float32


def test_second_run_does_only_what_is_missing_or_damaged(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = root / 'teacher/exact'
    assert teach(root) == 0
    before = files(out)
    assert list(before) == ['00/000000', '00/000001', '00/000002']
    (out / 'sequences/00/000001.npz').unlink()
    damaged = out / 'sequences/00/000002.npz'
    damaged.write_bytes(damaged.read_bytes()[:-50])
    assert teach(root) == 0
    after = files(out)
    assert after['00/000000'] == before['00/000000'] and set(after) == set(before)
    assert TeacherCache(out).load('00', '000002').valid.any()
    assert '2 frames written, 1 were done before' in capsys.readouterr().out


def test_two_ranks_at_once_share_the_frames(root: Path) -> None:
    command = ['-m', 'cigocc_ros.commands.main', 'teacher', '--teacher', 'exact']
    command = [sys.executable, *command, '--data', str(root), '--out', str(root / 'both')]
    ranks = [
        subprocess.Popen(
            command,
            env=os.environ | {'RANK': str(rank), 'WORLD_SIZE': '2'},
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    texts = [process.communicate(timeout=120)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0]
    assert [text.split()[0] for text in texts] == ['2', '1']
    assert list(files(root / 'both')) == ['00/000000', '00/000001', '00/000002']
    assert TeacherCache(root / 'both').load('00', '000001').valid.any()


def test_shards_never_share_a_job(root: Path, tmp_path: Path) -> None:
    jobs, teacher = find_jobs(root), ExactTeacher()
    parts = [open_jobs(jobs, teacher, tmp_path, Shard(rank, 2)) for rank in (0, 1)]
    next(iter(look_at(parts[0], teacher, tmp_path)))
    again = open_jobs(jobs, teacher, tmp_path, Shard(1, 2))
    assert [job.name for job in again] == [job.name for job in parts[1]]
    assert sorted(job.name for part in parts for job in part) == [job.name for job in jobs]


def test_right_images_have_files_of_their_own(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exact teacher refuses them, for masks_2 is of the left camera."""
    names = [job.name for job in find_jobs(root, sides=('left', 'right'))]
    assert names[:3] == ['00/000000', '00/000000 right', '00/000001']
    assert teach(root, '--right') == 1
    assert '00/000000 right: the exact teacher knows the left' in capsys.readouterr().out
    out = root / 'teacher/exact'
    left = frame_file(out, '00', '000001')
    shutil.copy(left, frame_file(out, '00', '000001', 'right'))
    assert files(out).keys() - {'00/000001_right'} == {f'00/00000{k}' for k in SEEDS}
    cache = TeacherCache(out)
    assert cache.has('00', '000001', 'right') and not cache.has('00', '000002', 'right')
    assert cache.load('00', '000001', 'right').valid.any()


@pytest.mark.parametrize(
    'environment',
    [
        {'RANK': '0'},
        {'WORLD_SIZE': '2'},
        {'RANK': '2', 'WORLD_SIZE': '2'},
        {'RANK': 'a', 'WORLD_SIZE': '2'},
        {'RANK': '-1', 'WORLD_SIZE': '2'},
    ],
)
def test_a_half_set_launcher_is_an_error(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match='RANK < WORLD_SIZE'):
        Shard.from_environment(environment)


def test_bad_frames_are_named_and_the_others_done(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / 'sequences/00/masks_2/000001.png').write_bytes(b'no image')
    (root / 'sequences/00/masks_2/000002.png').unlink()
    assert teach(root) == 1
    text = capsys.readouterr().out
    assert '1 frames written' in text and '00/000001, 00/000002' in text
    assert list(files(root / 'teacher/exact')) == ['00/000000']


def test_frames_without_voxel_labels_are_taken_at_the_pace_of_semantic_kitti(root: Path) -> None:
    for path in (root / 'sequences/00/voxels').glob('*.label'):
        path.unlink()
    assert [job.name for job in find_jobs(root)] == ['00/000000']
    assert len(find_jobs(root, every=1)) == 3


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        (['--weights', 'x'], "--weights is not for the teacher 'exact'"),
        (['--every', '0'], 'every=0'),
    ],
)
def test_wrong_settings_end_with_one_line(
    more: list[str], message: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert teach(root, *more) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_cityscapes_without_weights_says_what_is_missing(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['teacher', '--data', str(root), '--teacher', 'cityscapes']) == 2
    assert '--weights' in capsys.readouterr().err


def test_student_learns_from_and_is_replaced_by_the_exact_teacher(
    root: Path, tiny: ModelConfig
) -> None:
    """Distillation end to end: the loss falls, and the features fit into the forward pass."""
    teach(root)
    cache, sequence = TeacherCache(root / 'teacher/exact'), KittiSequence(root / 'sequences/00')
    fit = fit_camera(sequence.camera_left, tiny.image_size)
    targets = cache.load_targets('00', '000000', fit, tiny.semantic_channels)
    teacher = torch.from_numpy(targets.features)[None]
    valid = ~teacher.isnan().any(1)
    teacher = teacher.nan_to_num(0.0)
    image = torch.from_numpy(fit.apply(sequence.image('000000')))[None]
    torch.manual_seed(0)
    model = build_model(tiny)
    parts = (*model.backbone.parameters(), *model.semantic.parameters())
    optimizer = torch.optim.Adam(parts, lr=1e-2)
    history = []
    for _ in range(30):
        student, _ = model.semantic(model.backbone(image).fine)
        loss = feature_distillation(student, teacher, valid)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    nothing = float(feature_distillation(torch.zeros_like(teacher), teacher, valid))
    assert history[-1] < 0.5 * nothing < history[0]
    matrices = torch.zeros((1, 3, 4))
    matrices[0, :, :3] = torch.eye(3)
    model.eval()
    with torch.no_grad():
        out = model(image, torch.zeros(1, *tiny.image_size), matrices, matrices, teacher)
    assert out.logits.isfinite().all()
