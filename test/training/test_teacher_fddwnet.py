"""FDDWNet as a teacher: sizes and places of what it says, and how often it is right."""

from __future__ import annotations

from pathlib import Path

import fixtures_boxes
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cigocc_ros.commands.main import main
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.labels import CLASS_NAMES, IGNORE, train_from_raw
from cigocc_ros.core.projection import project_points
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.model.fddwnet import Fddwnet
from cigocc_ros.training.teacher.fddwnet import FddwnetTeacher
from cigocc_ros.training.teacher.files import read_output


@pytest.fixture(scope='module')
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp('weights') / 'random.safetensors'
    save_file(Fddwnet().state_dict(), path)
    return path


@pytest.fixture(scope='module')
def frames_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('kitti')
    fixtures_boxes.write_kitti_tree(folder, seeds=(0,), size=(104, 320))
    return folder


@pytest.mark.parametrize('size', [(376, 1241), (370, 1226), (480, 640), (97, 333)])
def test_features_lie_where_the_pixels_lie(size: tuple[int, int], random_weights: Path) -> None:
    teacher = FddwnetTeacher(random_weights, width_px=256)
    output = teacher.segment(np.full((*size, 3), 90, np.uint8))
    assert output.image_size == size
    assert output.features.shape[0] == 19 and output.features.shape[2] == 64
    rows, columns = output.features.shape[1:]
    last = [
        origin + (count - 0.5) * step
        for origin, count, step in zip(
            output.origin_px, (rows, columns), output.step_px, strict=True
        )
    ]
    # the outer edge of the last cell is the outer edge of the last pixel
    np.testing.assert_allclose(last, [size[0] - 0.5, size[1] - 0.5], atol=1e-6)
    assert np.abs(output.features).max() <= 4


def test_unsure_pixels_are_not_valid(random_weights: Path) -> None:
    image = np.zeros((64, 128, 3), np.uint8)
    assert FddwnetTeacher(random_weights, 128, 0.99).segment(image).valid.sum() == 0


@pytest.mark.parametrize(('width', 'probability'), [(100, 0.0), (0, 0.0), (8192, 0.0), (64, 1.0)])
def test_settings_that_cannot_work_are_refused(
    width: int, probability: float, random_weights: Path
) -> None:
    with pytest.raises(ConfigError, match='expected a width of 8..4096 px'):
        FddwnetTeacher(random_weights, width, probability)


def test_the_command_writes_what_training_reads(
    random_weights: Path, tmp_path: Path, frames_root: Path
) -> None:
    arguments = ['teacher', '--data', str(frames_root), '--teacher', 'fddwnet', '--width', '64']
    arguments += ['--weights', str(random_weights), '--out', str(tmp_path)]
    assert main(arguments) == 0
    written = sorted(tmp_path.glob('sequences/*/*.npz'))
    output, info = read_output(written[0])
    assert info.name == 'fddwnet' and 'width 64' in info.version and output.features.any()
    assert 'parking' not in info.known_classes and 'car' in info.known_classes


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (['--teacher', 'fddwnet'], '--teacher fddwnet needs --weights'),
        (['--teacher', 'exact', '--width', '64'], "--width is not for the teacher 'exact'"),
    ],
)
def test_wrong_arguments_are_told(
    given: list[str], message: str, frames_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['teacher', '--data', str(frames_root), *given]) == 2
    assert message in capsys.readouterr().err


def test_it_knows_real_streets(shared_dir: Path) -> None:
    """On labelled lidar points: 0.81 right over all frames at hand, at least 0.75 on these two."""
    weights = shared_dir / 'data' / 'weights' / 'fddwnet_cityscapes.safetensors'
    teacher = FddwnetTeacher(weights, width_px=1024)
    right = total = 0
    for name in ('00', '05'):
        sequence = KittiSequence(shared_dir / 'data' / 'kitti_mini' / 'sequences' / name)
        raw = sequence.point_labels('000000')
        truth = np.where(raw > 0, train_from_raw(raw), IGNORE)
        uv, _, seen = project_points(
            sequence.velodyne('000000')[:, :3], sequence.camera_left, sequence.cam_from_velo
        )
        known = [CLASS_NAMES.index(one) for one in teacher.info.known_classes]
        seen &= np.isin(truth, known)
        columns, rows = uv[seen].astype(int).T
        output = teacher.look(sequence, '000000')
        right += int(output.masks[truth[seen] - 1, rows, columns].sum())
        total += int(seen.sum())
    assert right / total > 0.75
