"""The table of stereo settings says what the pair was made with."""

import sys

import fixtures_boxes
import numpy as np

from benchmark import stereo_settings
from cigocc_ros.core.projection import unproject
from cigocc_ros.data.kitti_files import write_velodyne
from cigocc_ros.data.kitti_sequence import KittiSequence


def test_a_rendered_pair_has_no_offset_and_the_setting_gives_it_one(tmp_path, monkeypatch, capsys):
    folder = fixtures_boxes.write_kitti_tree(tmp_path, seeds=(0,), size=(208, 640))
    (folder / 'velodyne').mkdir()
    camera = fixtures_boxes.camera_of(208, 640)
    depth = KittiSequence(folder).depth(0)
    row, column = np.nonzero((depth > 4) & (depth < 10))
    pixels, metres = np.stack([column, row], 1), depth[row, column]
    points = unproject(pixels, metres, camera, fixtures_boxes.CAM_FROM_VELO)
    write_velodyne(folder / 'velodyne/000000.bin', np.column_stack([points, 0 * metres]))
    monkeypatch.setattr(stereo_settings, 'RANGES_M', ((0, 10),))
    monkeypatch.setattr(sys, 'argv', ['stereo_settings', str(tmp_path)])
    stereo_settings.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if ' px' in line]
    half, full, moved = (float(line.split(', ')[-1].split()[0]) for line in rows)
    assert abs(full) < 0.4 and abs(half) < 0.8
    assert 0.25 < moved - full < 0.45
