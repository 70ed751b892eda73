"""The stand-in of a long sequence is one, and its frames are measured."""

import sys

import fixtures_boxes
import numpy as np
import pytest

from benchmark import preparation
from cigocc_ros.data.kitti_sequence import KittiSequence


def test_a_short_sequence_becomes_a_long_one_of_links(tmp_path):
    folder = fixtures_boxes.write_kitti_tree(tmp_path / 'short', seeds=(0, 1), size=(52, 160))
    assert preparation.repeat_sequence(folder, None, tmp_path / 'long', 7) is None
    long = KittiSequence(tmp_path / 'long/sequences/00')
    assert len(long) == 7 and long.has_right and len(long.voxel_ids) == 7
    np.testing.assert_array_equal(long.image(6), long.image(0))
    assert (tmp_path / 'long/sequences/00/image_2/000006.png').is_symlink()


@pytest.mark.parametrize('more', [(), ('--teacher',)])
def test_the_command_prints_seconds_and_sizes(tmp_path, monkeypatch, capsys, more):
    folder = fixtures_boxes.write_kitti_tree(tmp_path, seeds=(0, 1), size=(104, 320))
    words = [str(folder), '--model', 'tiny', '--length', '6', '--frames', '2', *more]
    monkeypatch.setattr(sys, 'argv', ['preparation', *words])
    preparation.main()
    printed = capsys.readouterr().out
    assert '6 frames listed' in printed and '2 frames of `tiny` in a sequence of 6' in printed
    rows = dict(line.split(' | ')[:2] for line in printed.splitlines() if line.startswith('| '))
    assert 0 < float(rows['| image']) < float(rows['| file'])
    assert ('| teacher_grid' in rows) == bool(more)
