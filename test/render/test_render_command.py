"""`cigocc render` and the files it reads."""

import shutil

import numpy as np
import pytest
from PIL import Image

from cigocc_ros.commands.main import main
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import CLASS_NAMES, IGNORE, raw_from_train
from cigocc_ros.data.kitti_files import write_voxel_bits, write_voxel_labels
from cigocc_ros.render.files import load_image, load_labels

SHAPE = (32, 32, 8)
GRID = SEMANTIC_KITTI_GRID.with_shape(SHAPE)
SMALL = ['--grid-shape', '32x32x8', '--size', '320x360']


@pytest.fixture
def sequence(tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, 10:20, 1] = CLASS_NAMES.index('road')
    invalid = np.zeros(SHAPE, bool)
    invalid[:4] = True
    for name in ('voxels', 'image_2'):
        (tmp_path / name).mkdir()
    for name in ('000000', '000005'):
        write_voxel_labels(tmp_path / f'voxels/{name}.label', raw_from_train(labels))
        write_voxel_bits(tmp_path / f'voxels/{name}.invalid', invalid)
        Image.new('RGB', (100, 30), (0, 99, 200)).save(tmp_path / f'image_2/{name}.png')
    return tmp_path


def test_invalid_voxels_are_unknown(sequence):
    labels = load_labels(sequence / 'voxels/000000.label', GRID)
    assert (labels[:4] == IGNORE).all() and (
        labels[4:, 10:20, 1] == CLASS_NAMES.index('road')
    ).all()


def test_a_sequence_folder_gives_a_picture_a_frame(sequence, capsys):
    out = sequence / 'pictures'
    assert main(['render', str(sequence), '--out', str(out), *SMALL]) == 0
    assert [path.name for path in sorted(out.iterdir())] == ['000000.png', '000005.png']
    with Image.open(out / '000000.png') as opened:
        picture = np.asarray(opened)
    assert picture.shape == (360, 320, 3)
    assert (picture == (0, 99, 200)).all(-1).sum() > 1000
    assert '000005.png' in capsys.readouterr().out


def test_one_file_beside_its_ground_truth(sequence):
    label = str(sequence / 'voxels/000000.label')
    out = sequence / 'one.png'
    words = ['render', label, '--ground-truth', label, '--view', 'top', '--out', str(out), *SMALL]
    assert main(words) == 0
    assert out.is_file()


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['voxels/000000.label', '--size', '320x360'], 'expected 4194304 bytes'),
        (['nothing.label', *SMALL], 'nothing.label'),
        (['image_2', *SMALL], '*.label'),
        (['voxels/000000.label', '--image', 'no.png', *SMALL], 'no.png'),
        (['voxels/000000.label', '--grid-shape', '32x32x8', '--size', '50x50'], 'larger'),
    ],
)
def test_bad_input_is_named(sequence, capsys, monkeypatch, words, message):
    monkeypatch.chdir(sequence)
    assert main(['render', *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith('cigocc render: ') and error.count('\n') == 1
    assert message in error


def test_a_file_of_another_length_says_both_sizes(sequence):
    with pytest.raises(DataFileError, match=r'4194304 bytes.*found 16384'):
        load_labels(sequence / 'voxels/000000.label', SEMANTIC_KITTI_GRID)


def test_unknown_raw_ids_name_the_file(sequence):
    path = sequence / 'voxels/000009.label'
    write_voxel_labels(path, np.full(SHAPE, 200, np.uint16))
    with pytest.raises(DataFileError, match=r'000009\.label.*200'):
        load_labels(path, GRID)


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / 'x.png').write_bytes(b'not a picture')
    with pytest.raises(DataFileError, match='not an image'):
        load_image(tmp_path / 'x.png')


def test_bad_sizes_are_refused_by_the_parser(capsys):
    with pytest.raises(SystemExit):
        main(['render', 'x.label', '--size', '12'])
    assert '1280x1000' in capsys.readouterr().err


def test_a_folder_becomes_a_video_also_where_ground_truth_is_rare(sequence, capsys):
    av = pytest.importorskip('av')
    (sequence / 'rare').mkdir()
    shutil.copy(sequence / 'voxels/000005.label', sequence / 'rare')
    words = ['render', str(sequence), '--ground-truth', str(sequence / 'rare'), '--errors']
    out = sequence / 'films'
    size = ['--grid-shape', '32x32x8', '--size', '480x420']
    assert main([*words, '--video', '--fps', '2', '--out', str(out), *size]) == 0
    assert '2 frames' in capsys.readouterr().out
    with av.open(str(out / 'video.mp4')) as opened:
        frames = [frame.to_ndarray(format='rgb24') for frame in opened.decode(video=0)]
    assert [frame.shape for frame in frames] == [(420, 480, 3)] * 2
    assert np.abs(frames[0].astype(int) - frames[1]).mean() > 5  # one view, then three


def test_a_page_for_each_frame(sequence):
    pytest.importorskip('plotly')
    words = ['render', str(sequence), '--html', '--title', 'street', '--out', str(sequence / 'p')]
    assert main([*words, '--grid-shape', '32x32x8']) == 0
    pages = sorted((sequence / 'p').iterdir())
    assert [page.name for page in pages] == ['000000.html', '000005.html']
    text = pages[0].read_text(encoding='utf-8')
    assert '<title>street, 000000</title>' in text and 'data:image/jpeg;base64' in text


@pytest.mark.parametrize('wrong', [['--errors'], ['--html', '--video']])
def test_options_that_do_not_fit_say_so(sequence, wrong, capsys):
    assert main(['render', str(sequence), '--out', str(sequence / 'x'), *wrong]) == 2
    assert 'expected one' in (error := capsys.readouterr().err) or '--ground-truth too' in error
