"""From files to scores and reports, against counts made another way."""

import json

import numpy as np
import pytest
from fixtures_evaluation import (
    FRAMES,
    SHAPE,
    guess_of,
    truth_of,
    write_arrays,
    write_predictions,
    write_volumes,
)

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.labels import CLASS_NAMES
from cigocc_ros.data.kitti_files import write_voxel_labels
from cigocc_ros.data.kitti_layout import FrameKey
from cigocc_ros.evaluation.evaluate import evaluate, frames_to_score
from cigocc_ros.evaluation.ground_truth import LabelArrays, LabelVolumes, open_ground_truth
from cigocc_ros.evaluation.predictions import PredictionFiles
from cigocc_ros.evaluation.report import ScoredModel, report_dict, report_markdown, write_report

SCORED = ScoredModel(
    model='guess',
    backend='none',
    depth_prior='none',
    semantic_path='student',
    model_sha256=None,
    model_commit='1234abc',
    code_commit=None,
    data='somewhere',
    ground_truth='made up',
    split='all',
)


@pytest.fixture(scope='module')
def volumes(tmp_path_factory):
    return write_volumes(tmp_path_factory.mktemp('volumes'))


@pytest.fixture(scope='module')
def arrays(tmp_path_factory):
    return write_arrays(tmp_path_factory.mktemp('arrays'))


@pytest.fixture(scope='module')
def evaluation(volumes, tmp_path_factory):
    files = PredictionFiles(write_predictions(tmp_path_factory.mktemp('guess')))
    return evaluate(FRAMES, LabelVolumes(volumes), files)


def test_both_forms_of_ground_truth_are_the_same_labels(volumes, arrays):
    opened = open_ground_truth(volumes), open_ground_truth(arrays)
    assert [type(each) for each in opened] == [LabelVolumes, LabelArrays]
    for truth in opened:
        assert truth.frames == FRAMES
        np.testing.assert_array_equal(truth.labels(FRAMES[1]), truth_of(FRAMES[1]))


def test_one_sequence_is_a_root_too(volumes):
    truth = open_ground_truth(volumes / 'sequences' / '08')
    assert truth.frames == FRAMES[2:]
    np.testing.assert_array_equal(truth.labels(FRAMES[2]), truth_of(FRAMES[2]))


def test_perfect_files_score_1_at_every_range(arrays, tmp_path):
    files = PredictionFiles(write_predictions(tmp_path, perfect=True))
    outcome = evaluate(FRAMES, open_ground_truth(arrays), files)
    for scores in outcome.scores.values():
        assert (scores.iou, scores.miou, scores.precision, scores.recall) == (1, 1, 1, 1)
    assert outcome.frames == {'00': 2, '08': 2}


def test_a_reports_numbers_are_hand_counts(evaluation):
    report = json.loads(json.dumps(report_dict(SCORED, evaluation)))
    near = np.s_[:64, 96:160]
    for name, box in {'51.2': np.s_[:], '12.8': near}.items():
        truth = np.concatenate([truth_of(key)[box].ravel() for key in FRAMES])
        guess = np.concatenate([guess_of(key)[box].ravel() for key in FRAMES])[truth != 255]
        truth = truth[truth != 255]
        scores = report['scores'][name]
        hit = ((guess > 0) & (truth > 0)).sum()
        assert scores['num_voxels'] == truth.size
        assert scores['iou'] == pytest.approx(hit / ((guess > 0) | (truth > 0)).sum())
        assert scores['precision'] == pytest.approx(hit / (guess > 0).sum())
        assert scores['recall'] == pytest.approx(hit / (truth > 0).sum())
        for train_id in (1, 9, 19):
            both = ((guess == train_id) & (truth == train_id)).sum()
            either = ((guess == train_id) | (truth == train_id)).sum()
            found = scores['iou_per_class'][CLASS_NAMES[train_id]]
            assert found == pytest.approx(both / either)
        assert scores['miou'] == pytest.approx(np.mean(list(scores['iou_per_class'].values())))
    matrix = report['confusion_rows_predicted']['12.8']
    assert matrix[3][9] == ((guess == 3) & (truth == 9)).sum() > 0


def test_the_page_tells_subject_ranges_and_classes(evaluation, tmp_path):
    page = report_markdown(SCORED, evaluation)
    for words in ('# Scores of guess', '1234abc', '| Depth prior | none |', '00: 2, 08: 2'):
        assert words in page
    scores = evaluation.scores[25.6]
    assert f'| 25.6 | {100 * scores.iou:.2f} | {100 * scores.precision:.2f} |' in page
    assert f'| traffic-sign | {100 * evaluation.scores[12.8].iou_per_class[19]:.2f} |' in page
    assert '19 occur in the ground truth' in page
    written = write_report(tmp_path / 'new' / 'folder', SCORED, evaluation)
    assert json.loads(written[0].read_text())['frames'] == {'00': 2, '08': 2}
    assert written[1].read_text() == page


def test_frames_are_chosen_by_sequence_or_split(volumes):
    truth = LabelVolumes(volumes)
    assert frames_to_score(truth, None, []) == FRAMES
    assert frames_to_score(truth, None, ['08']) == FRAMES[2:]
    with pytest.raises(DataFileError, match='no ground truth of sequence 03; there is some of 00'):
        frames_to_score(truth, None, ['03'])
    with pytest.raises(DataFileError, match=r'08/voxels/\*.label: 813 of 815 missing'):
        frames_to_score(truth, 'val', [])


def test_a_split_of_arrays_must_be_complete(arrays):
    with pytest.raises(DataFileError, match=r'08_000010.npz: missing, and 812 more of 815'):
        frames_to_score(LabelArrays(arrays), 'val', [])


def test_volumes_without_invalid_are_refused(tmp_path):
    path = tmp_path / 'sequences' / '00' / 'voxels' / '000000.label'
    write_voxel_labels(path, np.zeros(SHAPE, np.uint16))
    with pytest.raises(DataFileError, match=r'voxels/\*.invalid: 1 of 1 missing'):
        frames_to_score(open_ground_truth(tmp_path), None, [])


def test_no_ground_truth_says_what_to_do(tmp_path):
    with pytest.raises(DataFileError, match='no ground truth in .*cigocc voxelize'):
        open_ground_truth(tmp_path)


@pytest.mark.parametrize(
    'content, message',
    [
        ({'labels': np.zeros(SHAPE, np.uint8)}, "expected an array 'label'"),
        ({'label': np.zeros((2, 2, 2), np.uint8)}, r'found uint8 \(2, 2, 2\)'),
        ({'label': np.zeros(SHAPE, np.float32)}, 'found float32'),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path, content, message):
    np.savez_compressed(tmp_path / '00_000000.npz', **content)
    with pytest.raises(DataFileError, match=rf'00_000000.npz: .*{message}'):
        LabelArrays(tmp_path).labels(FrameKey('00', '000000'))


def test_an_array_file_that_is_none_is_named(tmp_path):
    (tmp_path / '00_000000.npz').write_bytes(b'PK not a zip')
    with pytest.raises(DataFileError, match='00_000000.npz: expected an array'):
        LabelArrays(tmp_path).labels(FrameKey('00', '000000'))


def test_real_partial_ground_truth_opens(shared_dir):
    truth = open_ground_truth(shared_dir / 'data' / 'derived_partial_gt')
    labels = truth.labels(truth.frames[0])
    assert {key.sequence for key in truth.frames} == {f'{i:02d}' for i in range(6)}
    assert labels.shape == SHAPE and 0.01 < (labels != 255).mean() < 1
