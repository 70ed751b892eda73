"""`cigocc infer` on a generated mini sequence and on single images."""

import cv2
import numpy as np
import pytest
import yaml
from fixtures_tiny_model import build_tiny_model_dir, expected_outputs

from cigocc_ros.commands import main as dispatcher
from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import train_from_raw
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.data.image_files import write_depth_image
from cigocc_ros.data.kitti_files import read_voxel_labels, write_calib, write_times
from cigocc_ros.runtime.preprocess import Preprocessor

WIDTH, HEIGHT, FOCAL, BASELINE_M = 320, 96, 180.0, 0.5
CENTRE = (160.0, 46.0)
TR = np.array([[0.0, -1, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27]])


@pytest.fixture(scope='module')
def model_dir(tmp_path_factory):
    return build_tiny_model_dir(tmp_path_factory.mktemp('models') / 'handmade')


@pytest.fixture
def sequence(tmp_path):
    """Two frames of noise at 15 m distance, left and right, with depth of frame 0."""
    folder = tmp_path / 'sequences' / '42'
    left = CameraModel.from_intrinsics(FOCAL, FOCAL, *CENTRE, WIDTH, HEIGHT).projection
    right = left.copy()
    right[0, 3] = -FOCAL * BASELINE_M
    folder.mkdir(parents=True)
    rows = {'P0': left, 'P1': right, 'P2': left, 'P3': right, 'Tr': TR}
    write_calib(folder / 'calib.txt', rows)
    write_times(folder / 'times.txt', np.array([0.0, 0.1]))
    rng = np.random.default_rng(1)
    disparity = round(FOCAL * BASELINE_M / 15.0)
    for frame_id in ('000000', '000001'):
        wide = rng.integers(1, 256, (HEIGHT, WIDTH + disparity, 3), dtype=np.uint8)
        write_png(folder / 'image_2' / f'{frame_id}.png', wide[:, :WIDTH])
        write_png(folder / 'image_3' / f'{frame_id}.png', wide[:, disparity:])
    depth = np.full((HEIGHT, WIDTH), 30 * 256, np.uint16)
    write_png(folder / 'depth_2' / '000000.png', depth)
    return folder


def write_png(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def infer(model_dir, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatcher, 'VERBS', ('infer',))
        words = ['infer', *map(str, arguments), '--model', str(model_dir), '--threads', '1']
        return dispatcher.main(words)


def occupied_x_m(path):
    labels = train_from_raw(read_voxel_labels(path, SEMANTIC_KITTI_GRID.shape))
    return SEMANTIC_KITTI_GRID.centers_m()[labels > 0][:, 0]


def test_sequence_becomes_one_full_size_label_file_per_frame(
    model_dir, sequence, tmp_path, capsys
):
    out = tmp_path / 'out'
    assert infer(model_dir, sequence, '--out', out, '--prior', 'none') == 0
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob('*.label'))
    assert files == [f'sequences/42/predictions/00000{i}.label' for i in (0, 1)]
    printed = capsys.readouterr().out
    assert 'prior: none' in printed and '2 frames, latency median' in printed
    assert 'occupied voxels by class: ' in printed


def test_labels_are_those_of_the_network(model_dir, sequence, tmp_path):
    assert infer(model_dir, sequence, '--out', tmp_path / 'out', '--prior', 'mono') == 0
    image = cv2.imread(str(sequence / 'image_2' / '000001.png'))[..., ::-1].copy()
    camera = CameraModel.from_intrinsics(FOCAL, FOCAL, *CENTRE, WIDTH, HEIGHT)
    frame = CameraFrame(image, camera, np.vstack([TR, [0, 0, 0, 1]]), 0, 'camera')
    manifest = load_manifest(model_dir)
    expected = expected_outputs(Preprocessor(manifest.image_size)(frame), manifest)['labels'][0]
    path = tmp_path / 'out' / 'sequences' / '42' / 'predictions' / '000001.label'
    found = train_from_raw(read_voxel_labels(path, SEMANTIC_KITTI_GRID.shape))
    assert (found[4::8, 4::8, 2::4] == expected).mean() > 0.999


def test_stereo_is_the_default_and_places_the_wall(model_dir, sequence, tmp_path, capsys):
    assert infer(model_dir, sequence, '--out', tmp_path / 'out') == 0
    assert 'prior: stereo' in capsys.readouterr().out
    x_m = occupied_x_m(tmp_path / 'out' / 'sequences' / '42' / 'predictions' / '000000.label')
    assert abs(np.median(x_m) - 15.27) < 2.0


def test_depth_prior_is_read_from_the_sequence(model_dir, sequence, tmp_path, capsys):
    (sequence / 'image_2' / '000001.png').unlink()
    assert infer(model_dir, sequence, '--out', tmp_path / 'out', '--prior', 'depth') == 0
    x_m = occupied_x_m(tmp_path / 'out' / 'sequences' / '42' / 'predictions' / '000000.label')
    assert len(x_m) and (np.abs(x_m - 30.27) < 3.0).all()


@pytest.mark.parametrize('suffix', ['.png', '.npy'])
def test_files_of_a_stereo_network_are_a_prior(model_dir, sequence, tmp_path, capsys, suffix):
    for index in (0, 1):
        depth = np.full((HEIGHT, WIDTH), 30, np.float32)
        path = sequence / 'depth_stereo' / f'{index:06d}{suffix}'
        path.parent.mkdir(exist_ok=True)
        write_depth_image(path, depth) if suffix == '.png' else np.save(path, depth)
    (sequence / 'depth_2' / '000000.png').unlink()
    out = tmp_path / 'out'
    assert infer(model_dir, sequence, '--out', out, '--prior', 'depth_stereo') == 0
    assert 'prior: depth_stereo' in capsys.readouterr().out
    x_m = occupied_x_m(out / 'sequences' / '42' / 'predictions' / '000000.label')
    assert len(x_m) and (np.abs(x_m - 30.27) < 3.0).all()
    path.unlink()
    assert infer(model_dir, sequence, '--out', out, '--prior', 'depth_stereo') == 2
    assert 'depth_stereo/*.png: 1 of 2 missing (000001)' in capsys.readouterr().err


def test_frame_without_depth_is_named(model_dir, sequence, tmp_path, capsys):
    assert infer(model_dir, sequence, '--out', tmp_path / 'out', '--prior', 'depth') == 2
    assert 'depth_2/*.png: 1 of 2 missing (000001)' in capsys.readouterr().err


def test_one_image_with_kitti_calibration_and_depth(model_dir, sequence, tmp_path):
    image = sequence / 'image_2' / '000000.png'
    options = ['--calib', sequence / 'calib.txt', '--depth', sequence / 'depth_2' / '000000.png']
    assert infer(model_dir, image, *options, '--out', tmp_path / 'out') == 0
    x_m = occupied_x_m(tmp_path / 'out' / '000000.label')
    assert len(x_m) and (np.abs(x_m - 30.27) < 3.0).all()


def test_one_image_with_yaml_equals_kitti_calibration(model_dir, sequence, tmp_path):
    image = sequence / 'image_2' / '000000.png'
    right = ['--right', sequence / 'image_3' / '000000.png']
    content = {'fx': FOCAL, 'fy': FOCAL, 'cx': CENTRE[0], 'cy': CENTRE[1]}
    content |= {'cam_from_velo': TR.tolist(), 'baseline_m': BASELINE_M}
    camera = tmp_path / 'camera.yaml'
    camera.write_text(yaml.safe_dump(content))
    assert infer(model_dir, image, *right, '--calib', camera, '--out', tmp_path / 'a') == 0
    kitti = sequence / 'calib.txt'
    assert infer(model_dir, image, *right, '--calib', kitti, '--out', tmp_path / 'b') == 0
    labels = [(tmp_path / name / '000000.label').read_bytes() for name in 'ab']
    assert labels[0] == labels[1]


def test_picture_is_drawn_beside_the_labels(model_dir, sequence, tmp_path):
    image = sequence / 'image_2' / '000000.png'
    options = ['--calib', sequence / 'calib.txt', '--picture', '--out', tmp_path / 'out']
    assert infer(model_dir, image, *options) == 0
    assert cv2.imread(str(tmp_path / 'out' / '000000.png')).shape[2] == 3


@pytest.mark.parametrize(
    'options, message',
    [
        ([], 'an image alone has no calibration; give --calib'),
        (['--calib', 'nowhere.txt'], 'no calibration file nowhere.txt'),
        (['--prior', 'stereo'], '--prior is for a sequence'),
    ],
)
def test_image_options_that_are_missing_or_wrong(
    model_dir, sequence, tmp_path, capsys, options, message
):
    image = sequence / 'image_2' / '000000.png'
    assert infer(model_dir, image, *options, '--out', tmp_path / 'out') == 2
    assert message in capsys.readouterr().err and not (tmp_path / 'out').exists()


def test_calibration_without_extrinsics_is_refused(model_dir, sequence, tmp_path, capsys):
    image = sequence / 'image_2' / '000000.png'
    camera = tmp_path / 'camera.yaml'
    camera.write_text('{fx: 1.0, fy: 1.0, cx: 0.0, cy: 0.0}')
    assert infer(model_dir, image, '--calib', camera, '--out', tmp_path / 'out') == 2
    assert "missing key 'cam_from_velo'" in capsys.readouterr().err
    calib = sequence / 'calib.txt'
    lines = calib.read_text().splitlines()
    calib.write_text('\n'.join(line for line in lines if not line.startswith('Tr')))
    assert infer(model_dir, image, '--calib', calib, '--out', tmp_path / 'out') == 2
    assert 'Tr missing' in capsys.readouterr().err


def test_image_that_is_none_is_named(model_dir, sequence, tmp_path, capsys):
    broken = tmp_path / 'broken.png'
    broken.write_bytes(b'not a picture')
    options = ['--calib', sequence / 'calib.txt', '--out', tmp_path / 'out']
    assert infer(model_dir, broken, *options) == 2
    assert 'broken.png: 13 bytes are no image' in capsys.readouterr().err


def test_calib_for_a_sequence_is_refused(model_dir, sequence, tmp_path, capsys):
    options = ['--calib', sequence / 'calib.txt', '--out', tmp_path / 'out']
    assert infer(model_dir, sequence, *options) == 2
    assert 'a sequence brings its own' in capsys.readouterr().err


def test_stereo_settings_are_those_of_the_training_unless_given(model_dir, sequence, tmp_path):
    def median_x_m(*options):
        assert infer(model_dir, sequence, '--out', tmp_path / 'out', *options) == 0
        path = tmp_path / 'out' / 'sequences' / '42' / 'predictions' / '000000.label'
        return np.median(occupied_x_m(path))

    plain, nearer = median_x_m(), median_x_m('--stereo-offset', '5')
    assert nearer < plain - 1
    path = model_dir / 'manifest.yaml'
    before = path.read_text()
    manifest = yaml.safe_load(before)
    manifest['training'] = {'train': {'stereo_width_px': 1280, 'stereo_offset_px': 5.0}}
    path.write_text(yaml.safe_dump(manifest))
    try:
        assert median_x_m() == nearer
        assert median_x_m('--stereo-offset', '0') == plain
    finally:
        path.write_text(before)


def test_what_the_model_never_saw_is_said_once(model_dir, sequence, tmp_path, capsys):
    path = model_dir / 'manifest.yaml'
    before = path.read_text()
    augment = {'prior_none': 0.0, 'prior_stereo': 1.0}
    manifest = yaml.safe_load(before) | {'training': {'train': {'augment': augment}}}
    path.write_text(yaml.safe_dump(manifest))
    try:
        assert infer(model_dir, sequence, '--out', tmp_path / 'a', '--prior', 'stereo') == 0
        assert 'warning' not in capsys.readouterr().err
        assert infer(model_dir, sequence, '--out', tmp_path / 'b', '--prior', 'none') == 0
        assert capsys.readouterr().err.count('warning: the model was trained with a depth') == 1
    finally:
        path.write_text(before)
