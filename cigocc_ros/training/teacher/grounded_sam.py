"""What to ask an open-vocabulary detector for, so that its boxes become SemanticKITTI classes."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.data.kitti_sequence import KittiSequence, Side
from cigocc_ros.training.teacher.output import (
    MASK_CLASSES,
    TeacherInfo,
    TeacherOutput,
    as_features,
)

PROMPTS: dict[str, tuple[str, ...]] = {
    'car': ('car',),
    'bicycle': ('bicycle',),
    'motorcycle': ('motorcycle',),
    'truck': ('truck',),
    'other-vehicle': ('bus', 'tram', 'caravan', 'trailer'),
    'person': ('person',),
    'bicyclist': ('cyclist',),
    'motorcyclist': ('motorcyclist',),
    'road': ('road',),
    'parking': ('parking lot',),
    'sidewalk': ('sidewalk',),
    'other-ground': ('traffic island', 'railway track'),
    'building': ('building', 'garage'),
    'fence': ('fence', 'guard rail', 'low wall'),
    'vegetation': ('bush', 'tree crown', 'hedge'),
    'trunk': ('tree trunk',),
    'terrain': ('grass', 'soil'),
    'pole': ('pole', 'street lamp post'),
    'traffic-sign': ('traffic sign',),
}
"""Phrases of each class, lower-case as the detector was trained. Every mask class has some."""


def phrases() -> tuple[str, ...]:
    """Return all phrases, in the order of the classes."""
    return tuple(phrase for name in MASK_CLASSES for phrase in PROMPTS[name])


def class_of_phrase() -> tuple[int, ...]:
    """Return the mask channel 0..18 of each phrase."""
    return tuple(k for k, name in enumerate(MASK_CLASSES) for _ in PROMPTS[name])


def detector_text() -> str:
    """Return all phrases as one text, each ended by a full stop as GroundingDINO wants them."""
    return ' '.join(f'{phrase}.' for phrase in phrases())


DEFAULT_DETECTOR = 'IDEA-Research/grounding-dino-tiny'
DEFAULT_SAM = 'facebook/sam-vit-huge'
BOX_THRESHOLD, TEXT_THRESHOLD = 0.3, 0.25
"""Those of the demo of Grounded-SAM."""
BOXES_AT_ONCE = 16
"""Boxes that SAM decodes together, which bounds the memory of its masks."""


class Detector:
    """Finds boxes and which classes each may show."""

    def __init__(
        self, name: str, device: torch.device, box_threshold: float, text_threshold: float
    ) -> None:
        """Load GroundingDINO by model name or from a folder; raise ConfigError."""
        from transformers import GroundingDinoForObjectDetection, GroundingDinoProcessor

        self.processor = _load(GroundingDinoProcessor, name)
        self.model = _load(GroundingDinoForObjectDetection, name).to(device).eval()
        self.thresholds = (box_threshold, text_threshold)
        encoded = self.processor.tokenizer(detector_text(), return_tensors='pt')
        self.spans = phrase_spans(
            encoded['input_ids'][0].tolist(), self.processor.tokenizer.convert_tokens_to_ids('.')
        )
        limit = self.model.config.max_text_len
        if encoded['input_ids'].shape[1] > limit:
            raise ConfigError(
                f'{name}: reads {limit} tokens, the prompts have {encoded["input_ids"].shape[1]}'
            )

    def __call__(self, image: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Return boxes (N, 4), x0 y0 x1 y1 in pixels, and which classes each shows (N, 19)."""
        height, width = image.shape[:2]
        inputs = self.processor(images=image, text=detector_text(), return_tensors='pt')
        inputs = inputs.to(self.model.device)
        found = self.model(**inputs)
        shown = classes_of_boxes(found.logits[0].sigmoid(), self.spans, *self.thresholds)
        keep = shown.any(1)
        center, size = found.pred_boxes[0][keep].split(2, dim=-1)
        corners = torch.cat((center - size / 2, center + size / 2), -1).clamp(0, 1)
        return corners * corners.new_tensor([width, height, width, height]), shown[keep]


class Segmenter:
    """Makes a mask of each box, and the features of the image."""

    def __init__(self, name: str, device: torch.device) -> None:
        """Load SAM by model name or from a folder; raise ConfigError."""
        from transformers import SamModel, SamProcessor

        self.processor = _load(SamProcessor, name)
        self.model = _load(SamModel, name).to(device).eval()
        vision = self.model.config.vision_config
        self.channels = int(vision.output_channels)
        self.stride = int(vision.patch_size)

    def embed(self, image: NDArray[np.uint8]) -> tuple[Tensor, tuple[int, int]]:
        """Return the embedding (1, C, n, n) and the (height, width) SAM scaled the image to.

        The rest of the n * stride square is padding.
        """
        inputs = self.processor(images=image, return_tensors='pt')
        height, width = (int(size) for size in inputs['reshaped_input_sizes'][0])
        pixels = inputs['pixel_values'].to(self.model.device)
        return self.model.get_image_embeddings(pixels), (height, width)

    def masks(
        self, embedding: Tensor, boxes: Tensor, source: tuple[int, int], scaled: tuple[int, int]
    ) -> Tensor:
        """Return the masks (N, H, W) bool of boxes (N, 4) in pixels of the source image."""
        ratio = boxes.new_tensor([scaled[1] / source[1], scaled[0] / source[0]] * 2)
        decoded = self.model(
            image_embeddings=embedding, input_boxes=(boxes * ratio)[None], multimask_output=False
        )
        process = self.processor.image_processor.post_process_masks
        masks: Tensor = process([decoded.pred_masks[0]], [source], [scaled])[0]
        return masks[:, 0]


class GroundedSamTeacher:
    """Masks are the union of SAM's masks per class; features are SAM's image embedding.

    All pixels are valid: where no box was found, no class is claimed, as in the paper's M_s.
    """

    def __init__(
        self,
        detector: str = DEFAULT_DETECTOR,
        sam: str = DEFAULT_SAM,
        box_threshold: float = BOX_THRESHOLD,
        text_threshold: float = TEXT_THRESHOLD,
        device: str | None = None,
    ) -> None:
        """Load both models by name or from a folder, to `device` or the default one."""
        if not 0 < text_threshold <= box_threshold < 1:
            raise ConfigError(
                'expected 0 < text threshold <= box threshold < 1, found '
                f'{text_threshold} and {box_threshold}'
            )
        place = default_device() if device is None else torch.device(device)
        self.detector = Detector(detector, place, box_threshold, text_threshold)
        self.segmenter = Segmenter(sam, place)
        weights = [
            _identity(name, model)
            for name, model in ((detector, self.detector.model), (sam, self.segmenter.model))
        ]
        prompts = hashlib.sha256(json.dumps(PROMPTS).encode()).hexdigest()[:8]
        self.info = TeacherInfo(
            name='grounded_sam',
            version=f'{weights[0]} box {box_threshold:g} text {text_threshold:g} '
            f'prompts {prompts}; {weights[1]}',
            features='image embedding of SAM without the padding',
            channels=self.segmenter.channels,
            classes=MASK_CLASSES,
            known_classes=MASK_CLASSES,
        )

    def look(self, sequence: KittiSequence, frame_id: str, side: Side = 'left') -> TeacherOutput:
        """Return what the two see in one image of a frame."""
        return self.segment(sequence.image(frame_id, side))

    @torch.inference_mode()
    def segment(self, image: NDArray[np.uint8]) -> TeacherOutput:
        """Return what the two see in (H, W, 3) uint8 rgb."""
        source = (image.shape[0], image.shape[1])
        boxes, shown = self.detector(image)
        embedding, scaled = self.segmenter.embed(image)
        masks = torch.zeros((len(MASK_CLASSES), *source), dtype=torch.bool)
        for start in range(0, len(boxes), BOXES_AT_ONCE):
            some, classes = (part[start : start + BOXES_AT_ONCE] for part in (boxes, shown))
            if len(some):
                found = self.segmenter.masks(embedding, some, source, scaled).cpu()
                masks |= (classes.cpu().T[..., None, None] & found).any(1)
        stride = self.segmenter.stride
        rows, columns = (math.ceil(size / stride) for size in scaled)
        steps = tuple(stride * source[axis] / scaled[axis] for axis in (0, 1))
        return TeacherOutput(
            features=as_features(embedding[0, :, :rows, :columns].float().cpu().numpy()),
            # Cells cover areas, so the first is centred half a cell from the image's corner.
            origin_px=(0.5 * steps[0] - 0.5, 0.5 * steps[1] - 0.5),
            step_px=(steps[0], steps[1]),
            masks=masks.numpy(),
            valid=np.ones(source, dtype=bool),
        )


def default_device() -> torch.device:
    """Return the GPU of this process by the launcher's LOCAL_RANK, the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device('cpu')
    return torch.device('cuda', int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count())


def phrase_spans(tokens: list[int], stop: int) -> list[tuple[int, int]]:
    """Return where each phrase lies among the tokens [start, full stop, ..., full stop, end].

    Raises ConfigError where they are not as many as the prompts have.
    """
    ends = [index for index, token in enumerate(tokens) if token == stop]
    spans = list(zip([1, *(end + 1 for end in ends)], ends, strict=False))
    if len(spans) != len(phrases()) or any(start == end for start, end in spans):
        raise ConfigError(
            f'the tokenizer makes {len(spans)} phrases of the {len(phrases())} prompts: is it the '
            "detector's own?"
        )
    return spans


def classes_of_boxes(
    scores: Tensor, spans: list[tuple[int, int]], box_threshold: float, text_threshold: float
) -> Tensor:
    """Return which classes each box shows, (N, 19) bool, from its scores per token (N, T).

    A phrase scores what its best token does. A box whose best phrase reaches `box_threshold`
    shows the class of every phrase that reaches `text_threshold`; any other shows none.
    """
    phrase = torch.stack([scores[:, start:end].amax(1) for start, end in spans], 1)
    kept = phrase.amax(1, keepdim=True) >= box_threshold
    accepted = (phrase >= text_threshold) & kept
    shown = torch.zeros((len(scores), len(MASK_CLASSES)), dtype=torch.bool, device=scores.device)
    for index, channel in enumerate(class_of_phrase()):
        shown[:, channel] |= accepted[:, index]
    return shown


def _load(kind: Any, name: str) -> Any:
    """Load a processor or model; a folder is never looked up elsewhere."""
    try:
        return kind.from_pretrained(name, local_files_only=Path(name).is_dir())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f'{name}: no {kind.__name__} could be loaded: {error}; give a model name, or a folder '
            'with what save_pretrained writes (docs/teacher.md)'
        ) from error


def _identity(name: str, model: Any) -> str:
    """Name weights by their commit on the hub, or by their content where they are a folder."""
    if Path(name).is_dir():
        digest = hashlib.sha256()
        for file in sorted(Path(name).glob('*.safetensors')) + sorted(Path(name).glob('*.bin')):
            with file.open('rb') as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        return f'{Path(name).name}@{digest.hexdigest()[:12]}'
    return f'{name}@{model.config._commit_hash}'
