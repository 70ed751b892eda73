"""What to ask an open-vocabulary detector for, so that its boxes become SemanticKITTI classes."""

from __future__ import annotations

from cigocc_ros.training.teacher.output import MASK_CLASSES

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
