"""Weights in float16 and in parts come back as they went, or are refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fixtures_export import lively
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.model.build import (
    build_model,
    load_checkpoint,
    read_checkpoint_record,
    save_checkpoint,
)
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.model.weight_files import (
    MIB,
    WEIGHTS_FILE,
    halved,
    read_record,
    read_weights,
    weight_files,
    weights_sha256,
    write_weights,
)

RECORD = {'stage': '"joint"', 'step': '12'}
MATRIX = torch.linspace(-2, 2, 4096).reshape(64, 64)


@pytest.fixture
def model(tiny: ModelConfig) -> CigOcc:
    torch.manual_seed(5)
    return lively(build_model(tiny))


def test_float16_is_half_the_size_and_nearly_the_same(model: CigOcc, tmp_path: Path) -> None:
    save_checkpoint(model, tmp_path / 'whole', RECORD)
    save_checkpoint(model, tmp_path / 'half', RECORD, 'fp16')
    whole, half = (
        sum(p.stat().st_size for p in weight_files(tmp_path / n)) for n in ('whole', 'half')
    )
    assert half < 0.6 * whole
    loaded = load_checkpoint(tmp_path / 'half').state_dict()
    for name, value in model.state_dict().items():
        assert loaded[name].dtype == value.dtype
        if value.ndim < 2:
            assert loaded[name].equal(value), name
        else:
            torch.testing.assert_close(loaded[name], value, rtol=2**-11, atol=2**-25)
    assert read_checkpoint_record(tmp_path / 'half') == {
        'stage': 'joint',
        'step': 12,
        'weights_precision': 'fp16',
    }
    assert read_checkpoint_record(tmp_path / 'whole') == {'stage': 'joint', 'step': 12}


def test_the_hash_is_that_of_the_tensors_whatever_files_they_are_in(
    model: CigOcc, tmp_path: Path
) -> None:
    save_checkpoint(model, tmp_path / 'one', RECORD)
    save_checkpoint(model, tmp_path / 'parts', {}, part_mib=0.25)
    assert len(weight_files(tmp_path / 'parts')) > 1
    digest = weights_sha256(tmp_path / 'one')
    assert digest == weights_sha256(tmp_path / 'parts')
    with torch.no_grad():
        next(model.parameters())[0] += 1e-3
    save_checkpoint(model, tmp_path / 'other', RECORD)
    assert weights_sha256(tmp_path / 'other') != digest


def test_what_was_read_is_written_again_exactly(model: CigOcc, tmp_path: Path) -> None:
    save_checkpoint(model, tmp_path / 'first', RECORD, 'fp16')
    again = load_checkpoint(tmp_path / 'first')
    save_checkpoint(again, tmp_path / 'second', read_record(tmp_path / 'first'), 'fp16')
    one, other = (load_file(tmp_path / name / WEIGHTS_FILE) for name in ('first', 'second'))
    assert {value.dtype for value in one.values()} >= {torch.float16, torch.float32}
    assert list(one) == list(other) and read_record(tmp_path / 'first') == read_record(
        tmp_path / 'second'
    )
    for name, value in one.items():
        assert value.dtype == other[name].dtype and value.equal(other[name]), name


@pytest.mark.parametrize('scale', [1e-7, 1.0, 1e5], ids=['underflow', 'fits', 'overflow'])
def test_matrices_that_float16_would_change_stay_float32(scale: float) -> None:
    assert halved(MATRIX * scale).dtype == (torch.float16 if scale == 1.0 else torch.float32)


@pytest.mark.parametrize('value', [1e-8, 7e4, 1e-3])
def test_variances_of_norms_are_kept_to_the_bit(
    value: float, model: CigOcc, tmp_path: Path
) -> None:
    """A variance of 1e-8 would be 0 in float16, one of 70,000 infinite."""
    name = next(name for name in model.state_dict() if name.endswith('running_var'))
    model.state_dict()[name].fill_(value)
    save_checkpoint(model, tmp_path, precision='fp16')
    assert load_checkpoint(tmp_path).state_dict()[name].equal(model.state_dict()[name])


def test_values_that_are_no_numbers_and_zeros_are_left_alone() -> None:
    assert halved(torch.full((2, 2), float('nan'))).dtype == torch.float32
    assert halved(torch.zeros(2, 2)).dtype == torch.float16
    assert halved(torch.ones(2, 2, dtype=torch.int64)).dtype == torch.int64


def test_parts_load_like_one_file(model: CigOcc, tmp_path: Path) -> None:
    part_mib = 0.1
    paths = save_checkpoint(model, tmp_path / 'parts', RECORD, part_mib=part_mib)
    parts = weight_files(tmp_path / 'parts')
    assert [path.name for path in parts[:2]] == [
        f'model-00001-of-{len(parts):05d}.safetensors',
        f'model-00002-of-{len(parts):05d}.safetensors',
    ]
    assert len(parts) > 4 and paths[:-1] == parts
    assert max(path.stat().st_size for path in parts) <= part_mib * MIB
    loaded = load_checkpoint(tmp_path / 'parts').state_dict()
    assert all(value.equal(loaded[name]) for name, value in model.state_dict().items())
    assert read_checkpoint_record(tmp_path / 'parts') == {'stage': 'joint', 'step': 12}


def test_a_tensor_larger_than_a_part_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='wide alone has 1.0 MiB, a part of 1 MiB has room for'):
        write_weights(tmp_path, {'wide': torch.zeros(512, 512)}, {}, part_mib=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('before', 'after'), [(None, 0.1), (0.1, None), (0.1, 0.2)])
def test_weights_replace_those_that_were_there(
    before: float | None, after: float | None, model: CigOcc, tmp_path: Path
) -> None:
    save_checkpoint(model, tmp_path, part_mib=before)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    save_checkpoint(model, tmp_path, part_mib=after)
    loaded = load_checkpoint(tmp_path).state_dict()
    assert all(value.equal(loaded[name]) for name, value in model.state_dict().items())


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    tensors = {f't{i}': torch.full((256, 256), float(i)) for i in range(3)}
    return write_weights(tmp_path / 'parts', tensors, RECORD, part_mib=0.3)


def test_a_missing_part_is_named(parts: list[Path]) -> None:
    parts[1].unlink()
    with pytest.raises(DataFileError, match='part model-00002-of-00003.safetensors of the'):
        read_weights(parts[0].parent)


def test_parts_of_other_weights_are_refused(parts: list[Path], tmp_path: Path) -> None:
    """Of the same names and sizes: a copy that was broken off between two saves."""
    other = {f't{i}': torch.full((256, 256), 7.0) for i in range(3)}
    later = write_weights(tmp_path / 'later', other, RECORD, part_mib=0.3)
    parts[2].write_bytes(later[2].read_bytes())
    with pytest.raises(DataFileError, match='parts of several sets of weights'):
        read_weights(parts[0].parent)


def test_parts_of_another_number_are_refused(parts: list[Path]) -> None:
    parts[0].with_name('model-00001-of-00004.safetensors').write_bytes(parts[0].read_bytes())
    with pytest.raises(DataFileError, match='parts of several sets of weights'):
        read_weights(parts[0].parent)


def test_one_file_and_parts_are_refused(parts: list[Path]) -> None:
    save_file({'t0': torch.zeros(1)}, parts[0].with_name(WEIGHTS_FILE))
    with pytest.raises(DataFileError, match='both model.safetensors and parts'):
        read_weights(parts[0].parent)


def test_a_tensor_in_two_parts_is_refused(parts: list[Path]) -> None:
    with safe_open(parts[0], 'pt') as file:
        header = file.metadata()
    save_file(load_file(parts[0]), parts[1], metadata=header)
    with pytest.raises(DataFileError, match="'t0' is in another part too"):
        read_weights(parts[0].parent)


@pytest.mark.parametrize('cut_at', [5, 3000])
def test_a_part_cut_off_is_told(cut_at: int, parts: list[Path]) -> None:
    parts[2].write_bytes(parts[2].read_bytes()[:cut_at])
    with pytest.raises(DataFileError, match='model-00003-of-00003.safetensors'):
        read_weights(parts[0].parent)


def test_every_part_says_what_belongs_together(parts: list[Path]) -> None:
    said = []
    for path in parts:
        with safe_open(path, 'pt') as file:
            said.append(json.loads(file.metadata()['parts']))
    assert said[0]['count'] == 3 and said == [said[0]] * 3
