"""The stage `eyes` learns from images alone, computes nothing in 3D, and joint goes on from it."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fixtures_boxes
import numpy as np
import pytest
import torch
from fixtures_trainer import CONFIG, interrupted_at, logged, trainer_for

from cigocc_ros.commands.main import main
from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.config import ModelConfig
from cigocc_ros.data.image_files import write_depth_image, write_semantic_image
from cigocc_ros.data.kitti_files import write_point_labels, write_velodyne
from cigocc_ros.data.label_images import LabelImages
from cigocc_ros.model.build import build_model, load_checkpoint, read_checkpoint_record
from cigocc_ros.training import data_needs as needs
from cigocc_ros.training.augmentation import Sample
from cigocc_ros.training.cache import FrameRef, find_frames, load_frame
from cigocc_ros.training.config import LossWeights
from cigocc_ros.training.data_choice import DataChoice
from cigocc_ros.training.devices import make_fabric
from cigocc_ros.training.loop import BEST_EYES, StageData, Trainer
from cigocc_ros.training.losses import total_loss
from cigocc_ros.training.objectives import set_trainable, stage_terms
from cigocc_ros.training.preparation import prepare_frames
from cigocc_ros.training.scene_dataset import SceneDataset, TrainingStream, collate
from cigocc_ros.training.schedule import plan_stages
from cigocc_ros.training.sight_scores import SightCounts, SightScores
from cigocc_ros.training.validation import validate_sight

LEARNS = dataclasses.replace(CONFIG, losses=LossWeights(weak_masks=0.3, weak_depth=0.1))
WITH_3D = ('fusion', 'project', 'lift', 'unet', 'stage1_classify', 'cignet', 'head')


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three streets without any volume: depth and class images, of frame 2 but a scan."""
    root = tmp_path_factory.mktemp('images')
    folder = fixtures_boxes.write_kitti_tree(root, seeds=(0, 1, 2), size=(104, 320))
    shutil.rmtree(folder / 'voxels')
    for name in ('depth_2', 'masks_2'):
        (folder / name / '000002.png').unlink()
    for name in ('velodyne', 'labels', 'depth_stereo'):
        (folder / name).mkdir()
    rng = np.random.default_rng(0)
    points = np.c_[
        rng.uniform(6, 30, (300, 1)), rng.uniform(-4, 4, (300, 1)), np.full((300, 2), -1)
    ]
    write_velodyne(folder / 'velodyne/000002.bin', points)
    write_point_labels(folder / 'labels/000002.label', np.full(300, 40))
    camera = fixtures_boxes.camera_of(104, 320)
    for index in range(3):
        depth, _ = fixtures_boxes.render(fixtures_boxes.street(index), camera)
        write_depth_image(folder / f'depth_stereo/{index:06d}.png', depth)
    return root


@pytest.fixture(scope='module')
def flat(images: Path, tiny: ModelConfig) -> list[FrameRef]:
    frames = find_frames(images, tiny, sides=('left', 'right'), volumes=False)
    list(prepare_frames(frames, tiny, workers=1))
    return frames


def eyes_trainer(
    frames: list[FrameRef], model: ModelConfig, out: Path, devices: int = 1
) -> Trainer:
    torch.manual_seed(0)
    left = [frame for frame in frames if frame.side == 'left']
    return Trainer(
        build_model(model),
        TrainingStream(frames, model, LEARNS.augment, seed=0, flat=True),
        [SceneDataset(left, model, 'none', flat=True)],
        LEARNS,
        out,
        make_fabric('fp32', 'cpu', devices),
    )


@pytest.fixture
def batches(flat: list[FrameRef], tiny: ModelConfig) -> Iterator[Any]:
    stream = TrainingStream(flat, tiny, LEARNS.augment, seed=0, flat=True)
    return (collate([stream[2 * k], stream[2 * k + 1]]) for k in range(100))


@pytest.mark.parametrize('change', [{}, {'depth_fusion': 'fused', 'semantic_prior': True}])
def test_only_what_sees_is_computed_and_all_of_it_learns(
    change: dict[str, Any], tiny: ModelConfig, batches: Iterator[Any]
) -> None:
    model = build_model(dataclasses.replace(tiny, **change))
    parameters = set_trainable(model, 'eyes')
    for name in WITH_3D:
        getattr(model, name).register_forward_pre_hook(refuse)
    weights = dataclasses.asdict(LEARNS.losses)
    total_loss(stage_terms(model, next(batches), 'eyes'), weights).backward()
    seen = {name for name, one in model.named_parameters() if one.grad is not None}
    assert seen == {name for name, one in model.named_parameters() if one.requires_grad}
    assert len(seen) == len(parameters)
    parts = {name.partition('.')[0] for name in seen}
    expected = {'backbone', 'semantic', 'depth', 'extractor'}
    assert parts == expected
    assert not any(getattr(model, name).training for name in ('unet', 'head'))


def refuse(module: torch.nn.Module, args: object) -> None:
    raise AssertionError(f'{type(module).__name__} was computed')


def test_a_weaker_target_counts_only_where_the_data_knows_nothing(
    tiny: ModelConfig, batches: Iterator[Any]
) -> None:
    model = build_model(tiny).eval()
    batch = next(batches)
    assert batch.extra is not None
    batch = batch._replace(depth=torch.where(batch.depth > 20, 0.0, batch.depth))
    known = batch.depth > 0
    before = stage_terms(model, batch, 'eyes')
    other = torch.where(known, 3.0, batch.extra.depth)
    same = stage_terms(model, batch._replace(extra=batch.extra._replace(depth=other)), 'eyes')
    assert same['weak_depth'] == before['weak_depth'] and before['weak_depth'] != 0
    moved = torch.where(known, batch.extra.depth, 3.0)
    now = stage_terms(model, batch._replace(extra=batch.extra._replace(depth=moved)), 'eyes')
    assert now['weak_depth'] != before['weak_depth']
    assert now['stage1_depth'] == before['stage1_depth']


def test_frames_without_volumes_have_targets_of_every_kind(
    flat: list[FrameRef], tiny: ModelConfig
) -> None:
    named = {(frame.frame_id, frame.side): load_frame(frame) for frame in flat}
    # a right image without a scan is taught by the disparity of the left one
    assert set(named) == {(f'00000{k}', side) for k in range(3) for side in ('left', 'right')}
    assert all('labels' not in arrays for arrays in named.values())
    sparse = {key: bool(arrays['classes_are_sparse']) for key, arrays in named.items()}
    assert [sparse[f'00000{k}', 'left'] for k in range(3)] == [False, False, True]
    assert (named['000002', 'left']['classes'] == 9).sum() > 30
    right = named['000000', 'right']
    assert not right['measured'].any() and (right['dense'] > 0).mean() > 0.3
    sample = SceneDataset([f for f in flat if f.side == 'right'], tiny, 'none', flat=True)[0]
    assert (sample.labels == 255).all() and sample.extra is not None
    assert (sample.extra.depth > 0).mean() > 0.2 and not sample.depth.any()


def test_depth_of_the_right_camera_is_what_it_sees(images: Path, flat: list[FrameRef]) -> None:
    """Compared with the street ray-cast from there."""
    left = fixtures_boxes.camera_of(48, 148)
    moved = left.projection.copy()
    moved[0, 3] = -left.intrinsics[0, 0] * fixtures_boxes.BASELINE_M
    arrays = load_frame(next(f for f in flat if f.side == 'right'))
    height, width = arrays['dense'].shape
    matrix = arrays['pixel_from_velo'] @ np.linalg.inv(fixtures_boxes.CAM_FROM_VELO)

    depth, _ = fixtures_boxes.render(fixtures_boxes.street(0), CameraModel(width, height, matrix))
    both = (arrays['dense'] > 0) & (depth > 0)
    error = np.abs(arrays['dense'].astype(float) - depth)[both] / depth[both]
    assert both.mean() > 0.3 and (error < 0.08).mean() > 0.93


def test_the_depth_that_is_given_is_not_a_target(flat: list[FrameRef], tiny: ModelConfig) -> None:
    left = [frame for frame in flat if frame.side == 'left']
    depths = {
        prior: SceneDataset(left, tiny, prior, flat=True)[0].extra
        for prior in ('none', 'depth_stereo')
    }
    assert depths['none'] is not None and depths['none'].depth.any()
    assert depths['depth_stereo'] is not None and not depths['depth_stereo'].depth.any()


def test_label_images_teach_the_cells_that_no_point_hits(
    images: Path, tiny: ModelConfig, tmp_path: Path
) -> None:

    labels = tmp_path / 'labels/00'
    labels.mkdir(parents=True)
    write_semantic_image(labels / '000002.png', np.full((52, 160), 13, np.uint8))  # a car: 1
    frames = find_frames(
        images,
        tiny,
        tmp_path / 'c',
        semantics=LabelImages(tmp_path / 'labels', 'cityscapes'),
        volumes=False,
    )
    assert [frame.semantics is not None for frame in frames] == [False, False, True]
    list(prepare_frames(frames, tiny, workers=1))
    sample = SceneDataset(frames, tiny, 'none', flat=True)[2]
    assert sample.extra is not None
    hit = sample.mask_valid[0]
    assert 5 < hit.sum() < hit.size / 2
    car, trunk = 0, 15  # of which the latter has no name in Cityscapes
    np.testing.assert_array_equal(sample.extra.valid[car] & hit, np.zeros_like(hit))
    assert (sample.extra.masks[car] == 1)[sample.extra.valid[car]].all()
    assert sample.extra.valid[car].sum() > hit.size / 3 and not sample.extra.valid[trunk].any()
    with pytest.raises(Exception, match='no label image of frame'):
        empty = tmp_path / 'empty'
        empty.mkdir()
        find_frames(images, tiny, semantics=LabelImages(empty, 'cityscapes'), volumes=False)


def test_a_teacher_may_have_seen_some_of_the_images(
    images: Path, tiny: ModelConfig, tmp_path: Path
) -> None:
    """What it says is a weaker target than the data, and teaches features."""
    said = tmp_path / 'said'
    shutil.copytree(images / 'sequences', tmp_path / 'data/sequences')
    folder = tmp_path / 'data/sequences/00'
    shutil.rmtree(folder / 'masks_2')
    words = ['--data', str(images), '--teacher', 'exact', '--out', str(said)]
    with pytest.raises(Exception, match='cigocc teacher --all-frames'):
        empty = tmp_path / 'empty'
        find_frames(tmp_path / 'data', tiny, tmp_path / 'c', teacher=empty, volumes=False)
    assert main(['teacher', *words, '--all-frames']) == 1  # frame 2 has no class image
    frames = find_frames(tmp_path / 'data', tiny, tmp_path / 'c', teacher=said, volumes=False)
    assert [frame.teacher is not None for frame in frames] == [True, True, False]
    list(prepare_frames(frames, tiny, workers=1))
    shown, unseen = (SceneDataset(frames, tiny, 'none', flat=True)[k] for k in (1, 2))
    assert shown.teacher_features is not None and unseen.teacher_features is not None
    assert np.isfinite(shown.teacher_features).mean() > 0.5
    assert np.isnan(unseen.teacher_features).all()
    assert shown.extra is not None and not shown.mask_valid.any()
    assert shown.extra.valid.mean() > 0.3 and shown.extra.masks[8].any()  # the road
    (said / 'sequences/00/000001.npz').unlink()
    again = find_frames(tmp_path / 'data', tiny, tmp_path / 'c', teacher=said, volumes=False)
    assert [frame.is_prepared for frame in again] == [True, False, True]


def test_images_of_which_nothing_is_known_are_named(
    images: Path, tiny: ModelConfig, tmp_path: Path
) -> None:
    shutil.copytree(images / 'sequences', tmp_path / 'sequences')
    folder = tmp_path / 'sequences/00'
    shutil.rmtree(folder / 'depth_stereo')
    (folder / 'velodyne/000002.bin').unlink()
    with pytest.raises(Exception, match=r'1 of 3 images have nothing to learn from.* 00/000002'):
        find_frames(tmp_path, tiny, volumes=False)
    with pytest.raises(Exception, match='no sequences 07'):
        DataChoice.parse(f'{images}@00,07').frames(tiny, volumes=False)


def test_what_the_stage_lacks_is_said(flat: list[FrameRef]) -> None:
    left = [frame for frame in flat if frame.side == 'left']
    assert needs.lacking_everywhere(left, LEARNS, volumes=False) == [
        'the loss weak_masks stays 0: no frame has label images (--semantic-prior) or what '
        '"cigocc teacher" writes (--teacher)'
    ]
    assert needs.lacking_everywhere(left, CONFIG, volumes=False) == []
    distils = dataclasses.replace(CONFIG, losses=LossWeights(distill=1.0))
    with pytest.raises(Exception, match='no folder has features of a teacher'):
        needs.lacking_everywhere(left, distils, volumes=False)


def test_a_chain_that_would_end_later_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stage eyes allows folders without a teacher, joint does not."""
    root = tmp_path / 'data'
    fixtures_boxes.write_kitti_tree(root, seeds=(0,), size=(104, 320))
    teacher = str(tmp_path / 'said')
    assert main(['teacher', '--data', str(root), '--teacher', 'exact', '--out', teacher]) == 0
    words = ['train', '--stage', 'eyes+joint', '--data', str(root), '--data', str(root)]
    words += ['--teacher', teacher, '--teacher', 'none', '--model', 'tiny', '--config', 'eyes']
    more = ['--set', 'losses.distill=1', '--out', str(tmp_path / 'out'), '--steps', '1']
    assert main([*words, *more]) == 2
    assert '1 of 2 frames with volumes have no teacher' in capsys.readouterr().err
    assert not (root / 'cache').exists()
    words[2] = 'eyes'
    assert main([*words, *more, '--set', 'validation_priors=[none]']) == 0


@pytest.mark.parametrize('trains', [True, False])
def test_an_official_split_needs_no_volumes(trains: bool) -> None:
    parts = needs.official_parts(CONFIG, teacher=True, trains=trains, volumes=False)
    folders = {part.folder for part in parts}
    assert {'image_2', 'velodyne', 'labels'} <= folders and 'voxels' not in folders


def test_stage_learns_and_resumes_exactly(
    flat: list[FrameRef], tiny: ModelConfig, tmp_path: Path
) -> None:
    plans = plan_stages('eyes', LEARNS)
    eyes_trainer(flat, tiny, tmp_path / 'whole').run(plans)
    with pytest.raises(KeyboardInterrupt):
        interrupted_at(eyes_trainer(flat, tiny, tmp_path / 'parts'), 4).run(plans)
    eyes_trainer(flat, tiny, tmp_path / 'parts').run(plans, resume=True)
    whole, parts = (
        {e['step']: e['loss'] for e in logged(tmp_path / name)} for name in ('whole', 'parts')
    )
    assert whole == parts and len(whole) == 6
    weights = [load_checkpoint(tmp_path / name / 'latest') for name in ('whole', 'parts')]
    for one, other in zip(*(w.state_dict().values() for w in weights), strict=True):
        assert torch.equal(one, other)
    scores = logged(tmp_path / 'whole', 'depth_near')
    assert {'accuracy', 'miou', 'depth_error', 'depth_near_by_range'} <= scores[-1].keys()
    record = read_checkpoint_record(tmp_path / 'whole' / BEST_EYES)
    assert record['stage'] == 'eyes' and record['scores']['none']['miou'] >= 0
    assert not (tmp_path / 'whole/best').exists()


def test_two_processes_see_what_one_sees(
    flat: list[FrameRef], tiny: ModelConfig, tmp_path: Path
) -> None:
    plans = plan_stages('eyes', dataclasses.replace(LEARNS, steps=2))
    losses = []
    for devices in (1, 2):
        out = tmp_path / str(devices)
        trainer = eyes_trainer(flat, tiny, out, devices)
        trainer.config = dataclasses.replace(LEARNS, batch_size=2, micro_batch_size=1)
        trainer.run(plans)
        losses.append([entry['loss'] for entry in logged(out)])
        scores = logged(out, 'depth_near')[-1]
        losses[-1] += [scores['accuracy'], scores['depth_near']]
    assert losses[1][:2] == pytest.approx(losses[0][:2], rel=1e-3)
    assert losses[1][2:] == pytest.approx(losses[0][2:], abs=0.01)  # batch statistics differ


def test_joint_goes_on_from_the_best_eyes(
    frames: list[FrameRef], flat: list[FrameRef], tiny: ModelConfig, tmp_path: Path
) -> None:
    trainer = trainer_for(frames, tiny, tmp_path, LEARNS)
    left = [frame for frame in flat if frame.side == 'left']
    stream = TrainingStream(left, tiny, LEARNS.augment, seed=0, flat=True)
    trainer.eyes = StageData(stream, [SceneDataset(left, tiny, 'none', flat=True)])
    measured = trainer.run(plan_stages('eyes+joint', LEARNS))
    assert [one['stage'] for one in measured] == ['eyes', 'joint']
    assert {e['stage'] for e in logged(tmp_path, 'depth_near')} == {'eyes'}
    assert {e['stage'] for e in logged(tmp_path, 'iou')} == {'joint'}
    assert (tmp_path / 'best').is_dir()
    steps = [e for e in logged(tmp_path) if e['stage'] == 'joint']
    assert 'ssc' in steps[0] and 'weak_depth' not in steps[0]


def test_command_trains_eyes_without_volumes_and_joint_takes_them(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ['--model', 'tiny', '--steps', '2', '--threads', '1', '--config', 'eyes']
    words += ['--set', 'validation_priors=[none]', '--set', 'batch_size=2']
    data = ['--data', str(images), '--val', str(images), '--cache', str(tmp_path / 'cache')]
    eyes = tmp_path / 'eyes'
    assert main(['train', '--stage', 'eyes', *data, *words, '--out', str(eyes)]) == 0
    record = json.loads((eyes / 'run.json').read_text())
    assert record['train_frames'] == 6 and record['val_frames'] == 3
    assert main(['train', '--stage', 'joint', *data, *words, '--out', str(tmp_path / 'j')]) == 2
    assert 'no labelled frames under' in capsys.readouterr().err
    fixtures_boxes.write_kitti_tree(tmp_path / 'full', seeds=(0,), size=(104, 320))
    full = ['--data', str(tmp_path / 'full'), '--val', str(tmp_path / 'full')]
    more = ['--init', str(eyes / BEST_EYES), '--out', str(tmp_path / 'joint')]
    assert main(['train', '--stage', 'joint', *full, *words, *more]) == 0
    assert (
        main(['export', '--checkpoint', str(eyes / BEST_EYES), '--out', str(tmp_path / 'm')]) == 2
    )
    assert 'its 3D part still has random weights' in capsys.readouterr().err


def test_scores_of_a_perfect_and_of_a_blind_network(
    flat: list[FrameRef], tiny: ModelConfig
) -> None:
    left = [frame for frame in flat if frame.side == 'left']
    dataset = SceneDataset(left, tiny, 'none', flat=True)
    perfect = counted(dataset, right=True)
    assert perfect.accuracy == perfect.miou == 1 == perfect.depth_near
    assert perfect.depth_error < 2e-4 and perfect.quality == 1
    assert set(perfect.iou_per_class) == {'car', 'road', 'building'}
    blind = counted(dataset, right=False)
    assert 0 < blind.accuracy < 1 and blind.depth_near < 0.1
    assert blind.depth_error == pytest.approx(0.5, rel=0.02)
    assert sum(blind.iou_per_class.values()) == max(blind.iou_per_class.values())


def counted(dataset: SceneDataset, right: bool) -> SightScores:
    """Count exact answers, or always road at half the depth."""
    counts = SightCounts(torch.device('cpu'))
    for index in range(len(dataset)):
        batch = collate([dataset[index]])
        assert batch.extra is not None
        classes = batch.extra.classes.long()
        logits = torch.zeros(1, 19, *classes.shape[1:])
        shown = torch.where(classes == 255, 1, classes) if right else torch.full_like(classes, 9)
        logits.scatter_(1, shown[:, None] - 1, 1.0)
        counts._add_classes(logits, batch.extra.classes)
        counts._add_depths(batch.depth * (1 if right else 0.5), batch.depth)
    return counts.compute()


def test_scores_without_anything_to_compare_with(flat: list[FrameRef], tiny: ModelConfig) -> None:
    right = [frame for frame in flat if (frame.side, frame.frame_id) == ('right', '000000')]
    scores = validate_sight(build_model(tiny), SceneDataset(right, tiny, 'none', flat=True))
    assert math.isnan(scores.accuracy) and scores.values() == {} and scores.quality == 0


def test_a_frame_with_a_volume_gives_eyes_the_same(sample: Sample, tiny: ModelConfig) -> None:
    """Frames that came packed with their volumes teach what they have."""
    batch = collate([sample._replace(extra=None)])
    terms = stage_terms(build_model(tiny), batch, 'eyes', distill=True)
    assert {'stage1_depth', 'stage1_masks', 'masks', 'distill'} == set(terms)
    assert all(term > 0 for term in terms.values())


def test_classes_from_outside_do_not_answer_for_the_eyes(
    sample: Sample, tiny: ModelConfig
) -> None:
    model = build_model(dataclasses.replace(tiny, semantic_prior=True)).eval()
    told = np.full_like(sample.semantic_prior, 13)
    assert model.prior is not None
    found = []
    for prior in (told, np.zeros_like(told)):
        counts = SightCounts(torch.device('cpu'))
        with torch.inference_mode():
            counts.add(model, collate([sample._replace(semantic_prior=prior)]))
        found.append(counts.counts)
    assert found[0].equal(found[1]) and found[0].sum() > 0
