"""Frames on the device give the batches that numpy gives: exactly, or in distribution."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fixtures_boxes
import numpy as np
import pytest
import torch
from fixtures_trainer import CONFIG, interrupted_at, logged, trainer_for
from torch.utils._python_dispatch import TorchDispatchMode

from cigocc_ros.core.arrays import Arrays
from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.model.build import load_checkpoint
from cigocc_ros.training import resident as module
from cigocc_ros.training.augmentation import degrade_classes, degrade_depth, jitter_colors
from cigocc_ros.training.batches import BatchSplit
from cigocc_ros.training.cache import FrameRef, load_frame
from cigocc_ros.training.config import AugmentConfig
from cigocc_ros.training.device_augmentation import (
    degrade_class_cells,
    degrade_depths,
    jitter_images,
    unpacked_bits,
)
from cigocc_ros.training.loop import LATEST
from cigocc_ros.training.objectives import StageObjective, set_trainable
from cigocc_ros.training.resident import ResidentFrames, resident_batches
from cigocc_ros.training.scene_dataset import TrainingStream, collate
from cigocc_ros.training.schedule import plan_stages
from cigocc_ros.training.variations import Variation, draw_variation, require_drawn_here

CPU = torch.device('cpu')
STEREO_ONLY = AugmentConfig(flip=0, jitter=0, prior_none=0, prior_stereo=1, prior_depth=0)
EVERYTHING = AugmentConfig(flip=0.5, jitter=0.4, prior_none=0.2, prior_stereo=0.3, prior_depth=0.5)
MANY = 3000


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope='module')
def various(tiny: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> list[FrameRef]:
    """Frames that differ in what they have: all of it, no stereo, no classes from outside."""
    folder, refs = tmp_path_factory.mktemp('various'), []
    for seed in range(4):
        arrays = fixtures_boxes.prepared_arrays(tiny, seed)
        if seed == 1:
            del arrays['stereo']
        if seed in (0, 3):
            cells = arrays['depth'].shape
            arrays['semantic_prior'] = np.random.default_rng(seed).integers(
                0, 20, cells, dtype=np.uint8
            )
        if seed == 3:
            arrays['depth_stereo'] = (arrays['stereo'] * np.float16(1.1)).astype(np.float16)
        ref = FrameRef(Path('unused'), f'{seed:06d}', folder / f'{seed:06d}.npz')
        np.savez(ref.cached, **arrays)
        refs.append(ref)
    return refs


def stream_of(frames: list[FrameRef], tiny: ModelConfig, augment: AugmentConfig) -> TrainingStream:
    return TrainingStream(frames, tiny, augment, seed=4)


def on_device(frames: list[FrameRef], tiny: ModelConfig) -> ResidentFrames:
    held = ResidentFrames(tiny, CPU)
    held.add(frames)
    return held


def batches(
    frames: list[FrameRef], tiny: ModelConfig, augment: AugmentConfig, size: int = 4
) -> Iterator[Any]:
    split = BatchSplit(size, 1, size)
    stream = stream_of(frames, tiny, augment)
    return resident_batches(stream, on_device(frames, tiny), split.draws(0, 0))


@pytest.mark.parametrize('flip', [0, 1], ids=['plain', 'mirrored'])
def test_what_is_not_drawn_is_equal_to_the_bit(
    flip: int, frames: list[FrameRef], tiny: ModelConfig
) -> None:
    """Pictures, volumes, masks, priors and calibration, of frames and of their mirror images."""
    augment = dataclasses.replace(STEREO_ONLY, flip=flip)
    stream = stream_of(frames, tiny, augment)
    expected = collate([stream[draw] for draw in range(4)])
    found = next(batches(frames, tiny, augment))
    for name, value in expected._asdict().items():
        mine = getattr(found, name)
        if value is None:
            assert mine is None
            continue
        assert mine.dtype == value.dtype and mine.equal(value), name


class Factors(np.random.Generator):
    """Gives the factors that it is told to."""

    def __init__(self, factors: tuple[float, float, float], strength: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.given = (np.array(factors) - 1) / strength

    def uniform(self, *_: Any) -> Any:
        return self.given


@pytest.mark.parametrize('factors', [(1.3, 0.8, 1.2), (0.7, 1.35, 0.7), (1.0, 1.0, 0.6)])
def test_jitter_by_given_factors(
    factors: tuple[float, float, float], frames: list[FrameRef]
) -> None:
    images = [load_frame(frame)['image'] for frame in frames]
    expected = np.stack([jitter_colors(one, 0.4, Factors(factors, 0.4)) for one in images])
    colors = torch.tensor([factors] * len(images))
    found = jitter_images(torch.from_numpy(np.stack(images)), colors).numpy()
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 2 and (difference > 1).mean() < 1e-3
    assert np.abs(expected.astype(int) - np.stack(images)).mean() > 5


def test_each_frame_gets_its_own_colors(frames: list[FrameRef], tiny: ModelConfig) -> None:
    augment = dataclasses.replace(STEREO_ONLY, jitter=0.4)
    plain = next(batches(frames, tiny, STEREO_ONLY)).image.float()
    brightness = next(batches(frames, tiny, augment)).image.float() / plain.clamp_min(1)
    assert brightness.mean((1, 2, 3)).std() > 0.02


def test_priors_are_chosen_as_often_as_in_numpy(
    various: list[FrameRef], tiny: ModelConfig
) -> None:
    """Frame by frame: what one does not have goes to its other kinds."""
    augment = AugmentConfig(
        prior_none=0.2, prior_stereo=0.3, prior_depth=0.1, prior_depth_stereo=0.4
    )
    fractions = augment.prior_fractions
    held = on_device(various, tiny)
    for frame in various:
        available = held.rows[frame].priors
        arrays = load_frame(frame)
        assert set(available) == {
            kind for kind, name in module.PRIOR_ARRAYS.items() if name in arrays
        }
        rng = np.random.default_rng(0)
        drawn = Counter(
            draw_variation(available, False, augment, tiny.image_size, held.cells, rng).kind
            for _ in range(MANY)
        )
        chances = {k: v for k, v in fractions.items() if k == 'none' or k in available}
        total = sum(chances.values())
        assert set(drawn) == set(chances)
        for kind, chance in chances.items():
            share = chance / total
            assert drawn[kind] / MANY == pytest.approx(
                share, abs=4 * (share * (1 - share) / MANY) ** 0.5
            )


def test_the_prior_is_that_of_its_kind(various: list[FrameRef], tiny: ModelConfig) -> None:
    held = on_device(various, tiny)
    arrays = load_frame(various[3])
    for kind, name in (('stereo', 'stereo'), ('depth_stereo', 'depth_stereo'), ('none', None)):
        batch = held.batch([various[3]], [PLAIN._replace(kind=kind)])
        expected = 0 * arrays['stereo'] if name is None else arrays[name]
        np.testing.assert_array_equal(batch.depth_prior[0].numpy(), expected.astype(np.float32))


NO_HOLES = np.zeros((6, 4), dtype=np.int64)
PLAIN = Variation(
    kind='stereo',
    flip=False,
    colors=(1.0, 1.0, 1.0),
    depth_sigma=0.0,
    depth_density=2.0,
    depth_holes=NO_HOLES,
    class_factor=1.0,
    class_wrong=0.0,
    class_shift=(0, 0),
    class_holes=NO_HOLES,
    noise_seed=5,
)


def degraded(depth: np.ndarray, *variations: Variation) -> np.ndarray:
    numbers = torch.tensor([one.numbers() for one in variations])
    given = torch.from_numpy(np.stack([depth] * len(variations)))
    return degrade_depths(given, numbers, variations).numpy()


def test_measured_depth_is_degraded_as_it_is_told() -> None:
    depth = np.full((48, 160), 20.0, dtype=np.float32)
    holes = NO_HOLES.copy()
    holes[1] = 3, 10, 7, 30
    noisy = PLAIN._replace(kind='depth', depth_sigma=0.02, noise_seed=1)
    sparse = PLAIN._replace(kind='depth', depth_density=0.3)
    holed = PLAIN._replace(kind='depth', depth_holes=holes)
    one, two, three, four = degraded(depth, noisy, sparse, holed, PLAIN)
    assert np.log(one / 20).std() == pytest.approx(0.02, rel=0.05)
    assert (two > 0).mean() == pytest.approx(0.3, abs=0.03)
    assert set(np.unique(two)) == {0.0, np.float32(20.0)}
    inside = np.zeros_like(depth, dtype=bool)
    inside[3:7, 10:30] = True
    np.testing.assert_array_equal(three == 0, inside)
    np.testing.assert_array_equal(four, depth)


def test_depth_is_degraded_in_distribution_as_in_numpy(tiny: ModelConfig) -> None:
    depth = np.full(tiny.image_size, 20.0, dtype=np.float32)
    augment = AugmentConfig(prior_none=0, prior_stereo=0, prior_depth=1)
    rng = np.random.default_rng(2)
    there = [degrade_depth(depth, rng) for _ in range(300)]
    cells = (12, 40)
    variations = [
        draw_variation({'depth'}, False, augment, tiny.image_size, cells, rng) for _ in range(300)
    ]
    mine = degraded(depth, *variations)
    for statistic in (lambda one: (one > 0).mean(), lambda one: np.log(one[one > 0] / 20).std()):
        expected, found = (np.array([statistic(one) for one in many]) for many in (there, mine))
        assert found.mean() == pytest.approx(expected.mean(), abs=4 * expected.std() / 300**0.5)
        assert found.std() == pytest.approx(expected.std(), rel=0.25)


def test_classes_from_outside_are_degraded_as_they_are_told() -> None:
    cells = np.random.default_rng(0).integers(1, 20, (12, 40), dtype=np.uint8)
    holes = NO_HOLES.copy()
    holes[0] = 2, 5, 6, 9
    variations = [
        PLAIN,
        PLAIN._replace(class_factor=0.0),
        PLAIN._replace(class_holes=holes),
        PLAIN._replace(class_shift=(1, -1)),
        PLAIN._replace(class_wrong=0.5),
    ]
    numbers = torch.tensor([one.numbers() for one in variations])
    given = torch.from_numpy(np.stack([cells] * len(variations)))
    same, none, holed, moved, wrong = degrade_class_cells(given, numbers, variations).numpy()
    np.testing.assert_array_equal(same, cells)
    assert not none.any()
    inside = np.zeros_like(cells, dtype=bool)
    inside[2:6, 5:9] = True
    np.testing.assert_array_equal(holed, np.where(inside, 0, cells))
    rolled = np.roll(cells, (1, -1), axis=(0, 1))
    assert np.logical_or(moved == cells, moved == rolled).all()
    assert 0 < (moved != cells).mean() < 1
    blocks = np.pad(moved == rolled, ((0, 4), (0, 0))).reshape(2, 8, 5, 8).transpose(0, 2, 1, 3)
    whole = blocks[0].reshape(5, -1)  # blocks are moved whole
    assert all(one.all() or one.mean() < 0.5 for one in whole)
    assert (wrong != cells).mean() == pytest.approx(0.5 * 18 / 19, abs=0.08)


def test_classes_are_degraded_in_distribution_as_in_numpy() -> None:
    cells = np.random.default_rng(0).integers(1, 20, (24, 80), dtype=np.uint8)
    augment, rng = AugmentConfig(semantic_none=0), np.random.default_rng(3)
    there = np.stack([degrade_classes(cells, rng) for _ in range(300)])
    variations = [draw_variation((), True, augment, (96, 320), (24, 80), rng) for _ in range(300)]
    numbers = torch.tensor([one.numbers() for one in variations])
    given = torch.from_numpy(np.stack([cells] * 300))
    mine = degrade_class_cells(given, numbers, variations).numpy()
    for changed in (lambda many: many == 0, lambda many: many != cells):
        expected, found = (changed(many).mean((1, 2)) for many in (there, mine))
        assert found.mean() == pytest.approx(expected.mean(), abs=4 * expected.std() / 300**0.5)
    none = [
        draw_variation((), True, AugmentConfig(semantic_none=0.3), (96, 320), (24, 80), rng)
        for _ in range(MANY)
    ]
    assert np.mean([one.class_factor for one in none]) == pytest.approx(0.7, abs=0.035)


def test_bits_are_unpacked_as_numpy_does() -> None:
    bits = np.random.default_rng(0).random((2, 3, 5, 7)) < 0.5
    packed = torch.from_numpy(np.stack([np.packbits(one) for one in bits]))
    np.testing.assert_array_equal(unpacked_bits(packed, (3, 5, 7)).numpy(), bits)


def test_a_draw_is_the_same_in_every_batch(various: list[FrameRef], tiny: ModelConfig) -> None:
    one_by_one = batches(various, tiny, EVERYTHING, size=1)
    together = next(batches(various, tiny, EVERYTHING, size=4))
    for index in range(4):
        alone = next(one_by_one)
        for name, value in alone._asdict().items():
            if value is not None:
                torch.testing.assert_close(value[0], getattr(together, name)[index])


def test_a_run_resumes_exactly(various: list[FrameRef], tiny: ModelConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(
        CONFIG, resident=True, augment=EVERYTHING, batch_size=2, validation_priors=('none',)
    )
    whole, part = tmp_path / 'whole', tmp_path / 'part'
    plans = plan_stages('joint', config)
    trainer_for(various, tiny, whole, config).run(plans)
    with pytest.raises(KeyboardInterrupt):
        interrupted_at(trainer_for(various, tiny, part, config), 5).run(plans)
    trainer_for(various, tiny, part, config).run(plans, resume=True)
    expected, found = ([e | {'time_s': 0} for e in logged(path)] for path in (whole, part))
    assert found[-2:] == expected[-2:]
    one, other = (load_checkpoint(path / LATEST).state_dict() for path in (whole, part))
    assert all(one[name].equal(other[name]) for name in one)


class Questions(TorchDispatchMode):
    """Notes what makes the host wait for the answer of a device."""

    ASKING = ('_local_scalar_dense', 'is_nonzero', 'nonzero', 'masked_select', 'equal', 'unique')

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if any(name == one or name.startswith(f'{one}_') for one in self.ASKING):
            self.asked.append(name)
        return func(*args, **(kwargs or {}))


def test_nothing_is_asked_of_the_device_before_the_step_ends(
    various: list[FrameRef], tiny: ModelConfig, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, augment=EVERYTHING)
    trainer = trainer_for(various, tiny, tmp_path, config)
    set_trainable(trainer.model, 'joint')
    objective = StageObjective(trainer.model, 'joint')
    source = batches(various, tiny, EVERYTHING)
    with Questions() as questions:
        assert torch.ones(1).item() == 1.0
        assert questions.asked == ['_local_scalar_dense']  # it would be noticed
        questions.asked.clear()
        terms = objective(next(source))
        torch.stack([*terms.values()]).sum().backward()
    assert questions.asked == []


@pytest.mark.gpu
def test_a_batch_is_made_without_waiting_for_a_gpu(
    various: list[FrameRef], tiny: ModelConfig
) -> None:
    if not torch.cuda.is_available():
        pytest.skip('no CUDA device')
    held = ResidentFrames(tiny, torch.device('cuda'))
    held.add(various)
    source = resident_batches(
        stream_of(various, tiny, EVERYTHING), held, BatchSplit(4, 1, 4).draws(0, 0)
    )
    next(source)
    torch.cuda.set_sync_debug_mode('error')
    try:
        next(source)
    finally:
        torch.cuda.set_sync_debug_mode('default')


def test_frames_are_added_once_and_stay(various: list[FrameRef], tiny: ModelConfig) -> None:
    held = on_device(various[:2], tiny)
    held.add(various)
    held.add(various)
    assert len(held.rows) == 4
    whole = on_device(various, tiny)
    variations = [PLAIN._replace(kind='depth', noise_seed=i) for i in range(4)]
    for name, value in held.batch(various, variations)._asdict().items():
        if value is not None:
            assert value.equal(getattr(whole.batch(various, variations), name)), name


def test_a_device_without_room_is_told_before_the_frames_are_read(
    various: list[FrameRef], tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[FrameRef] = []

    def counted(frame: FrameRef) -> Arrays:
        read.append(frame)
        return load_frame(frame)

    monkeypatch.setattr(module, 'free_bytes', lambda _: 300_000)
    monkeypatch.setattr(module, 'load_frame', counted)
    with pytest.raises(
        ConfigError, match='4 more frames of 0.07 MB need .* GB are free.*num_workers'
    ):
        on_device(various, tiny)
    assert len(read) == 1


def test_free_memory_is_a_number_of_bytes() -> None:
    assert 10**8 < module.free_bytes(CPU) < 10**14


@pytest.mark.parametrize(
    ('distill', 'stage', 'message'),
    [
        (0.5, 'joint', 'features of a teacher.*set resident to false'),
        (0.0, 'eyes', 'the stage eyes learns.*set resident to false'),
    ],
)
def test_what_it_cannot_give_is_refused(
    distill: float,
    stage: str,
    message: str,
    frames: list[FrameRef],
    tiny: ModelConfig,
    tmp_path: Path,
) -> None:
    losses = dataclasses.replace(CONFIG.losses, distill=distill)
    config = dataclasses.replace(CONFIG, resident=True, losses=losses)
    trainer = trainer_for(frames, tiny, tmp_path / 'run', config)
    with pytest.raises(ConfigError, match=message):
        trainer.run(plan_stages(stage, config))
    assert not (tmp_path / 'run').exists()


def test_augmentations_that_it_does_not_know_are_refused() -> None:
    """Whatever is added to AugmentConfig must be drawn here, or be refused."""

    @dataclasses.dataclass(frozen=True)
    class More(AugmentConfig):
        rain: float = 0.0

    require_drawn_here(More())
    with pytest.raises(ConfigError, match='not varied by augment.rain'):
        require_drawn_here(More(rain=0.1))


def test_a_frame_that_lacks_an_array_is_named(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path
) -> None:
    arrays = load_frame(frames[0])
    del arrays['query_labels']
    broken = dataclasses.replace(frames[0], cached=tmp_path / 'broken.npz')
    np.savez(broken.cached, **arrays)
    with pytest.raises(DataFileError, match='broken.npz has no query_labels'):
        on_device([broken], tiny)
