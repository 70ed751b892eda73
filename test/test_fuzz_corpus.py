"""Everything that fuzzing found worth keeping goes through its parser again, without atheris."""

import importlib

import pytest

pytest.importorskip('cv2')

from fuzz.__main__ import CORPUS, TARGETS, kept_inputs


@pytest.mark.parametrize('name', TARGETS)
def test_seeds_and_kept_inputs_end_well(name, tmp_path):
    if name == 'messages':
        pytest.importorskip('rclpy')
    target = importlib.import_module(f'fuzz.targets.{name}')
    kept = kept_inputs(name)
    assert target.seeds() and kept
    for data in [b'', *target.seeds(), *kept]:
        target.run(data, tmp_path)


def test_the_corpus_stays_small():
    assert sum(path.stat().st_size for path in CORPUS.glob('*')) < 200_000
