"""The table of a replay: numbers of the node and of the subscriber, words that wrap."""

from pathlib import Path

import pytest

pytest.importorskip('rclpy')

from cigocc_ros.core.labels import CLASS_NAMES, NUM_CLASSES
from cigocc_ros.replay.outcome import Collected, CollectedCloud
from cigocc_ros.replay.replay import Replayed
from cigocc_ros.replay.report import replay_table, text_table


def cloud(latency_ms, **voxels):
    counts = [0] * NUM_CLASSES
    for name, count in voxels.items():
        counts[CLASS_NAMES.index(name)] = count
    counts[0] = 1000 - sum(counts)
    return CollectedCloud(0, 'velo_link', tuple(counts), latency_ms, None)


def test_what_was_seen_is_counted_without_what_is_empty():
    reported = {'frames in': '9', 'dropped: no tf': '2', 'replaced by a newer frame': '3'}
    collected = Collected(marker_cubes=[5, 7], diagnostics=reported, diagnostics_message='fine')
    clouds = [cloud(10.0, road=40, car=2), cloud(30.0, road=60), cloud(None, road=50)]
    text = replay_table(Path('street'), Replayed(collected, clouds, [4.0, 6.0], 4, 2, 0.5))
    rows = dict(line.split('  ', 1) for line in text.splitlines() if '  ' in line)
    rows = {name: value.strip() for name, value in rows.items()}
    assert rows['occupied voxels a frame'] == '50 (median)'
    assert rows['classes seen'] == '2: road, car'
    assert rows['voxel clouds arrived'] == '3 of 4'
    assert rows['latency image to voxels'] == 'median 20 ms, p95 29 ms'
    assert rows['dropped (node)'] == '2 no tf, 3 replaced by a newer frame'
    assert rows['cubes in markers'] == '6 (median)' and rows['diagnostics'] == 'fine'
    assert rows['images sent'] == '4 and 2 to measure the pace'


def test_what_was_not_measured_says_so():
    text = replay_table(Path('s'), Replayed(Collected(), [cloud(None, road=1)], [], 1, 0, 1.0))
    assert text.count('not measured') == 2 and '?, ?' in text


def test_long_values_go_on_below_themselves():
    lines = text_table('t', [('name', 'word ' * 30), ('b', '')], width=40).splitlines()
    assert all(len(line) <= 40 for line in lines) and lines[4].startswith('      word')
