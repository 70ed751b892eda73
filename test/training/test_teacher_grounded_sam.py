"""Grounded-SAM on tiny models with random weights: the plumbing, not what it sees."""

from __future__ import annotations

from pathlib import Path

import fixtures_boxes
import numpy as np
import pytest
import torch

from cigocc_ros.commands.main import main
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.training.teacher import grounded_sam
from cigocc_ros.training.teacher.folder import TeacherCache
from cigocc_ros.training.teacher.grounded_sam import (
    PROMPTS,
    GroundedSamTeacher,
    classes_of_boxes,
    detector_text,
    phrases,
)
from cigocc_ros.training.teacher.output import MASK_CLASSES

transformers = pytest.importorskip('transformers')
IMAGE_SIZE = (74, 244)
SAM_SIZE, PATCH = 128, 8


def save_tokenizer(folder: Path) -> object:
    words = sorted({word for phrase in phrases() for word in phrase.split()})
    vocabulary = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', *words]
    folder.mkdir(parents=True)
    (folder / 'vocab.txt').write_text('\n'.join(vocabulary))
    return transformers.BertTokenizerFast(vocab={word: i for i, word in enumerate(vocabulary)})


def save_detector(folder: Path) -> None:
    torch.manual_seed(0)
    tokenizer = save_tokenizer(folder)
    backbone = transformers.SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=['stage2', 'stage3', 'stage4'],
    )
    text = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    config = transformers.GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        num_queries=12,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        d_model=32,
        max_text_len=128,
    )
    model = transformers.GroundingDinoForObjectDetection(config)
    model.save_pretrained(folder)
    images = transformers.GroundingDinoImageProcessor(
        size={'shortest_edge': 64, 'longest_edge': 128}
    )
    transformers.GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)


def save_sam(folder: Path) -> None:
    torch.manual_seed(1)
    vision = transformers.SamVisionConfig(
        hidden_size=16,
        output_channels=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SAM_SIZE,
        patch_size=PATCH,
        window_size=4,
        global_attn_indexes=[1],
        num_pos_feats=12,
        mlp_dim=16,
        initializer_range=0.2,  # its default is so small that all features are 0
    )
    prompt = transformers.SamPromptEncoderConfig(
        hidden_size=24, image_size=SAM_SIZE, patch_size=PATCH, mask_input_channels=4
    )
    decoder = transformers.SamMaskDecoderConfig(
        hidden_size=24,
        mlp_dim=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        iou_head_hidden_dim=16,
    )
    config = transformers.SamConfig(
        vision_config=vision.to_dict(),
        prompt_encoder_config=prompt.to_dict(),
        mask_decoder_config=decoder.to_dict(),
        initializer_range=0.2,
    )
    transformers.SamModel(config).save_pretrained(folder)
    square = {'height': SAM_SIZE, 'width': SAM_SIZE}
    images = transformers.SamImageProcessor(size={'longest_edge': SAM_SIZE}, pad_size=square)
    transformers.SamProcessor(images).save_pretrained(folder)


@pytest.fixture(scope='module')
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    root = tmp_path_factory.mktemp('weights')
    save_detector(root / 'dino')
    save_sam(root / 'sam')
    return str(root / 'dino'), str(root / 'sam')


@pytest.fixture(scope='module')
def teacher(folders: tuple[str, str]) -> GroundedSamTeacher:
    return GroundedSamTeacher(*folders, box_threshold=0.02, text_threshold=0.01, device='cpu')


@pytest.fixture(scope='module')
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*IMAGE_SIZE, 3), dtype=np.uint8)


def test_features_are_the_embedding_without_its_padding(
    teacher: GroundedSamTeacher, image: np.ndarray
) -> None:
    output = teacher.segment(image)
    # 244 x 74 scaled to 128 x 39, cells of 8: 16 columns, 4.9 rows of the 16 x 16
    assert output.features.shape == (24, 5, 16) == (teacher.info.channels, 5, 16)
    embedding, scaled = teacher.segmenter.embed(image)
    assert scaled == (39, 128)
    expected = embedding[0, :, :5].detach().numpy().astype(np.float16)
    np.testing.assert_array_equal(output.features, expected)
    assert output.features.std() > 0.1
    np.testing.assert_allclose(output.step_px, (8 * 74 / 39, 8 * 244 / 128))
    last = output.origin_px[1] + 15 * output.step_px[1]
    assert last + output.step_px[1] / 2 == pytest.approx(IMAGE_SIZE[1] - 0.5)


def test_masks_are_the_union_of_sams_masks_of_each_class(
    teacher: GroundedSamTeacher, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = torch.tensor([[10.0, 5, 60, 50], [100, 20, 180, 70], [30, 10, 220, 60]])
    shown = torch.zeros((3, 19), dtype=torch.bool)
    shown[0, 0] = shown[1, 0] = shown[1, 8] = shown[2, 18] = True
    monkeypatch.setattr(teacher, 'detector', lambda picture: (boxes, shown))
    monkeypatch.setattr(grounded_sam, 'BOXES_AT_ONCE', 2)
    output = teacher.segment(image)
    with torch.inference_mode():
        embedding, scaled = teacher.segmenter.embed(image)
        one = teacher.segmenter.masks(embedding, boxes, IMAGE_SIZE, scaled).numpy()
    assert 0 < one.mean() < 1
    np.testing.assert_array_equal(output.masks[0], one[0] | one[1])
    np.testing.assert_array_equal(output.masks[8], one[1])
    np.testing.assert_array_equal(output.masks[18], one[2])
    assert output.masks.any((1, 2)).sum() == 3 and output.valid.all()


def test_sam_gets_boxes_as_its_own_processor_scales_them(
    teacher: GroundedSamTeacher, image: np.ndarray
) -> None:
    boxes = torch.tensor([[10.0, 5, 60, 50], [100, 20, 180, 70]])
    segmenter = teacher.segmenter
    inputs = segmenter.processor(images=image, input_boxes=[boxes.tolist()], return_tensors='pt')
    with torch.inference_mode():
        embedding, scaled = segmenter.embed(image)
        ours = segmenter.masks(embedding, boxes, IMAGE_SIZE, scaled)
        theirs = segmenter.model(
            pixel_values=inputs['pixel_values'],
            input_boxes=inputs['input_boxes'].float(),
            multimask_output=False,
        )
    process = segmenter.processor.image_processor.post_process_masks
    expected = process(
        [theirs.pred_masks[0]], inputs['original_sizes'], inputs['reshaped_input_sizes']
    )
    assert (ours == expected[0][:, 0]).float().mean() > 0.999


def test_detector_finds_boxes_inside_the_image(
    teacher: GroundedSamTeacher, image: np.ndarray
) -> None:
    with torch.inference_mode():
        boxes, shown = teacher.detector(image)
    assert 0 < len(boxes) <= 12 and shown.any(1).all()
    assert (boxes[:, :2] <= boxes[:, 2:]).all() and (boxes >= 0).all()
    assert (boxes <= torch.tensor([244.0, 74, 244, 74])).all()


def test_every_phrase_has_its_tokens(teacher: GroundedSamTeacher) -> None:
    tokenizer = teacher.detector.processor.tokenizer
    tokens = tokenizer(detector_text())['input_ids']
    texts = [tokenizer.decode(tokens[start:end]) for start, end in teacher.detector.spans]
    assert tuple(texts) == phrases()


def test_box_shows_every_class_above_the_text_threshold_if_its_best_is_good() -> None:
    spans = [(k, k + 1) for k in range(len(phrases()))]
    scores = torch.zeros((3, len(spans)))
    bus, person = phrases().index('bus'), phrases().index('person')
    scores[0, bus], scores[0, person] = 0.5, 0.27
    scores[1, person] = 0.29  # above the text threshold, below the box threshold
    scores[2, person], scores[2, 0] = 0.3, 0.2
    shown = classes_of_boxes(scores, spans, 0.3, 0.25)
    names = [{MASK_CLASSES[k] for k in torch.nonzero(row).flatten()} for row in shown]
    assert names == [{'other-vehicle', 'person'}, set(), {'person'}]


def test_every_mask_class_has_a_prompt_without_full_stop() -> None:
    assert tuple(PROMPTS) == MASK_CLASSES and all(PROMPTS.values())
    assert all(p == p.lower() and '.' not in p for p in phrases())
    assert len(set(phrases())) == len(phrases())


def test_version_follows_weights_and_thresholds(
    folders: tuple[str, str], teacher: GroundedSamTeacher
) -> None:
    other = GroundedSamTeacher(*folders, box_threshold=0.4, text_threshold=0.01, device='cpu')
    assert other.info != teacher.info
    again = GroundedSamTeacher(*folders, box_threshold=0.02, text_threshold=0.01, device='cpu')
    assert again.info == teacher.info


def test_each_process_of_a_machine_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 4)
    monkeypatch.setenv('LOCAL_RANK', '3')
    assert grounded_sam.default_device() == torch.device('cuda', 3)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert grounded_sam.default_device() == torch.device('cpu')


def test_command_writes_what_both_models_see(
    folders: tuple[str, str],
    teacher: GroundedSamTeacher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr('cigocc_ros.commands.main.VERBS', ('teacher',))
    folder = fixtures_boxes.write_kitti_tree(tmp_path, seeds=(0,), size=IMAGE_SIZE)
    names = ['--detector', folders[0], '--sam', folders[1], '--device', 'cpu']
    thresholds = ['--box-threshold', '0.02', '--text-threshold', '0.01']
    data = ['--data', str(tmp_path), '--teacher', 'grounded_sam']
    assert main(['teacher', *data, *names, *thresholds]) == 0
    cache = TeacherCache(tmp_path / 'teacher/grounded_sam')
    assert 'box 0.02 text 0.01' in cache.info.version and 'dino@' in cache.info.version
    expected, found = teacher.look(KittiSequence(folder), '000000'), cache.load('00', '000000')
    np.testing.assert_array_equal(found.masks, expected.masks)
    np.testing.assert_array_equal(found.features, expected.features)
    assert expected.masks.any() and not expected.masks.all()


def test_wrong_weights_and_thresholds_are_named(folders: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='docs/teacher.md'):
        GroundedSamTeacher(str(tmp_path), folders[1])
    with pytest.raises(ConfigError, match='text threshold'):
        GroundedSamTeacher(*folders, box_threshold=0.2, text_threshold=0.3)
