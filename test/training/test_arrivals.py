"""Shards that come while a run trains join at an epoch, and a resume counts them exactly."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import fixtures_boxes
import numpy as np
import pytest
import torch
from fixtures_trainer import CONFIG, PLAIN, interrupted_at, logged, trainer_for

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.typed_yaml import from_mapping, to_mapping
from cigocc_ros.model.build import load_checkpoint
from cigocc_ros.training.arrivals import SetShards, ShardWatch
from cigocc_ros.training.cache import FrameRef, cache_key, load_frame
from cigocc_ros.training.config import TrainConfig
from cigocc_ros.training.loop import LATEST, Trainer
from cigocc_ros.training.mixture import BLOCK, Era, FrameSet, Mixture
from cigocc_ros.training.resident import ResidentFrames
from cigocc_ros.training.schedule import plan_stages
from cigocc_ros.training.shards import packed_frames, write_shard


def refs(count: int, start: int = 0) -> list[FrameRef]:
    return [FrameRef(Path('s'), f'{i:06d}', Path(f'{i}')) for i in range(start, start + count)]


def shown(mixture: Mixture, draws: range) -> list[str]:
    return [mixture.frame(draw).frame_id for draw in draws]


@pytest.mark.parametrize('at', [0, 1, 4, 5, 7, 250])
def test_more_frames_join_at_the_next_epoch(at: int) -> None:
    before = Mixture.of(refs(5), seed=3)
    after = before.grown(0, refs(3, 5), at)
    begin = -(-at // 5) * 5
    assert shown(after, range(begin)) == shown(before, range(begin))
    for epoch in range(3):
        draws = range(begin + 8 * epoch, begin + 8 * (epoch + 1))
        assert Counter(shown(after, draws)) == Counter(f'{i:06d}' for i in range(8))


def test_frames_that_come_twice_in_an_epoch_join_together() -> None:
    once = Mixture.of(refs(5), seed=3).grown(0, refs(3, 5), 6)
    twice = Mixture.of(refs(5), seed=3).grown(0, refs(1, 5), 6).grown(0, refs(2, 6), 9)
    assert shown(once, range(60)) == shown(twice, range(60))
    later = twice.grown(0, refs(2, 8), 19)
    assert (
        later.sets[0].eras
        == (Era(0, 5), Era(10, 8), Era(26, 10))
        == (
            *twice.sets[0].eras[:2],
            later.sets[0].eras[2],
        )
    )
    assert set(shown(later, range(26, 36))) == {f'{i:06d}' for i in range(10)}


def test_one_set_of_several_grows_by_its_own_draws() -> None:
    mixture = Mixture((FrameSet(tuple(refs(5)), 0.75), FrameSet(tuple(refs(4, 100)), 0.25)), 1)
    at = BLOCK + 7
    grown = mixture.grown(0, refs(2, 5), at)
    ids = shown(grown, range(20 * BLOCK))
    plain = shown(mixture, range(20 * BLOCK))
    assert [i for i in ids if int(i) >= 100] == [i for i in plain if int(i) >= 100]
    own = [i for i in ids if int(i) < 100]
    drawn = sum(int(i) < 100 for i in plain[:at])
    begin = -(-drawn // 5) * 5
    assert own[:begin] == [i for i in plain if int(i) < 100][:begin]
    assert not {'000005', '000006'} & set(own[:begin])
    for epoch in range(3):
        part = own[begin + 7 * epoch : begin + 7 * (epoch + 1)]
        assert Counter(part) == Counter(f'{i:06d}' for i in range(7))


@pytest.fixture(scope='module')
def packed(tiny: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three shards of two frames each."""
    folder = tmp_path_factory.mktemp('packed')
    paths = [folder / f'{name}.shard' for name in 'abc']
    for number, path in enumerate(paths):
        named = [
            (f'0{number}/{i:06d}', fixtures_boxes.prepared_arrays(tiny, 2 * number + i))
            for i in range(2)
        ]
        write_shard(path, cache_key(tiny), named)
    return paths


def watching(folder: Path, tiny: ModelConfig, out: Path, config: TrainConfig) -> Trainer:
    trainer = trainer_for(packed_frames(folder, cache_key(tiny)), tiny, out, config)
    trainer.watch = ShardWatch([(0, folder)], cache_key(tiny))
    return trainer


def copying(trainer: Trainer, step: int, source: Path, folder: Path) -> Trainer:
    """Let a shard come while a trainer takes its step number `step`."""
    inner, count = trainer.step, 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == step:
            shutil.copy(source, folder)
        return inner(*args, **kwargs)

    trainer.step = counted  # type: ignore[method-assign]
    return trainer


WATCHED = dataclasses.replace(
    CONFIG, steps=12, new_shards_every=2, validate_every=4, validation_priors=('stereo',)
)


@pytest.mark.parametrize('resident', [False, True], ids=['loader', 'resident'])
def test_a_resume_counts_what_came_exactly(
    resident: bool, packed: list[Path], tiny: ModelConfig, tmp_path: Path
) -> None:
    config = dataclasses.replace(WATCHED, resident=resident)
    plans = plan_stages('joint', config)
    for name in ('whole', 'part'):
        (tmp_path / name).mkdir()
        shutil.copy(packed[1], tmp_path / name)
        trainer = watching(tmp_path / name, tiny, tmp_path / f'run_{name}', config)
        trainer.validation = []
        copying(trainer, 3, packed[0], tmp_path / name)  # of a name that sorts before the first
        if name == 'whole':
            trainer.run(plans)
            assert len(trainer.stream.frames) == 4
            continue
        with pytest.raises(KeyboardInterrupt):
            interrupted_at(trainer, 10).run(plans)
        again = watching(tmp_path / name, tiny, tmp_path / f'run_{name}', config)
        again.validation = []
        again.run(plans, resume=True)
        assert again.stream.mixture.sets[0].eras == trainer.stream.mixture.sets[0].eras
    expected, found = (
        [e | {'time_s': 0} for e in logged(tmp_path / f'run_{n}')] for n in ('whole', 'part')
    )
    assert found[-4:] == expected[-4:]
    one, other = (
        load_checkpoint(tmp_path / f'run_{n}' / LATEST).state_dict() for n in ('whole', 'part')
    )
    assert all(one[name].equal(other[name]) for name in one)


def test_loader_processes_see_what_came(
    packed: list[Path], tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have a copy of the stream: they are started again where they would draw from it."""
    shutil.copy(packed[0], tmp_path)
    config = dataclasses.replace(WATCHED, num_workers=1)
    begun: list[int] = []

    def counted(stream: Any, config: Any, fabric: Any, first_draw: int, *_: Any) -> Any:
        begun.append(first_draw)
        plain = dataclasses.replace(config, num_workers=0)
        return inner(stream, plain, fabric, first_draw)

    from cigocc_ros.training import loop

    inner = loop.training_batches
    monkeypatch.setattr(loop, 'training_batches', counted)
    trainer = watching(tmp_path, tiny, tmp_path / 'run', config)
    trainer.validation = []
    copying(trainer, 3, packed[1], tmp_path).run(plan_stages('joint', config))
    assert begun == [0, 4]


def test_shards_that_were_added_between_two_runs_join_like_those_that_come(
    packed: list[Path], tiny: ModelConfig, tmp_path: Path
) -> None:
    for path in packed[1:]:
        shutil.copy(path, tmp_path)
    watch = ShardWatch([(0, tmp_path)], cache_key(tiny))
    first = watch.start(Mixture.of(packed_frames(tmp_path, cache_key(tiny)), 0), (), 0)
    state = watch.state(first)
    assert state == (SetShards(('0/b.shard', '0/c.shard'), ()),)
    kept = from_mapping(SetShards, json.loads(json.dumps(to_mapping(state[0]))), 'state')
    assert kept == state[0]
    shutil.copy(packed[0], tmp_path)
    every = Mixture.of(packed_frames(tmp_path, cache_key(tiny)), 0)
    again = watch.start(every, state, 6)
    assert shown(again, range(8)) == shown(first, range(8))
    assert [f.sequence.name for f in again.frames] == ['01', '01', '02', '02', '00', '00']
    assert again.sets[0].eras == (Era(0, 4), Era(8, 6))
    (tmp_path / 'b.shard').unlink()
    left = Mixture.of(packed_frames(tmp_path, cache_key(tiny)), 0)
    with pytest.raises(DataFileError, match=r'drawing from the shard 0/b\.shard'):
        watch.start(left, state, 6)


def test_a_shard_that_is_not_whole_yet_is_left_until_it_is(
    packed: list[Path], tiny: ModelConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(packed[0], tmp_path)
    mixture = Mixture.of(packed_frames(tmp_path, cache_key(tiny)), 0)
    watch = ShardWatch([(0, tmp_path)], cache_key(tiny))
    content = packed[1].read_bytes()
    for length in (100, 200):
        (tmp_path / 'b.shard').write_bytes(content[:length])
        assert watch.new(mixture) == watch.new(mixture) == []
    assert caplog.text.count('left alone until it changes') == 1
    (tmp_path / 'b.shard').write_bytes(content)
    found = watch.new(mixture)
    assert found == [(0, tmp_path / 'b.shard')]
    assert watch.new(watch.grown(mixture, found, 0)) == []


def test_shards_of_other_sizes_end_no_run(
    packed: list[Path], tiny: ModelConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(packed[0], tmp_path)
    trainer = watching(tmp_path, tiny, tmp_path / 'run', WATCHED)
    other = tmp_path / 'other' / 'b.shard'
    write_shard(other, 'small-1', [('00/000000', load_frame(trainer.stream.frames[0]))])
    copying(trainer, 1, other, tmp_path).run(plan_stages('joint', WATCHED))
    assert 'packed for small-1' in caplog.text
    assert len(trainer.stream.frames) == 2


def test_frames_for_which_the_device_has_no_room_end_no_run(
    packed: list[Path],
    tiny: ModelConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copy(packed[0], tmp_path)
    config = dataclasses.replace(WATCHED, resident=True)
    trainer = watching(tmp_path, tiny, tmp_path / 'run', config)
    inner = ResidentFrames.add

    def full(self: ResidentFrames, frames: Any) -> None:
        free = 10**12 if not self.rows else 1000
        monkeypatch.setattr('cigocc_ros.training.resident.free_bytes', lambda _: free)
        inner(self, frames)

    monkeypatch.setattr(ResidentFrames, 'add', full)
    copying(trainer, 1, packed[1], tmp_path).run(plan_stages('joint', config))
    assert 'take fewer frames' in caplog.text
    assert len(trainer.stream.frames) == 2 and logged(tmp_path / 'run')[-1]['step'] == 12


def test_frames_are_read_from_their_shards(packed: list[Path], tiny: ModelConfig) -> None:
    frames = packed_frames(packed[0].parent, cache_key(tiny))
    assert all(frame.is_prepared for frame in frames) and len(frames) == 6
    expected = fixtures_boxes.prepared_arrays(tiny, 3)
    np.testing.assert_array_equal(load_frame(frames[3])['labels'], expected['labels'])
    assert sorted(path.name for path in packed[0].parent.iterdir()) == [p.name for p in packed]


def test_watching_changes_nothing_where_nothing_comes(
    packed: list[Path], tiny: ModelConfig, tmp_path: Path
) -> None:
    folder = packed[0].parent
    for name, every in (('plain', 0), ('watched', 2)):
        config = dataclasses.replace(WATCHED, steps=4, new_shards_every=every, augment=PLAIN)
        trainer = watching(folder, tiny, tmp_path / name, config)
        trainer.watch = trainer.watch if every else None
        torch.manual_seed(0)
        trainer.run(plan_stages('joint', config))
    one, other = ([e | {'time_s': 0} for e in logged(tmp_path / n)] for n in ('plain', 'watched'))
    assert one == other
