"""The walk of a frame is recorded whole, from its image to its cloud."""

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('onnxruntime')

from fixtures_ros import domain_id
from fixtures_tiny_model import build_tiny_model_dir

from benchmark.frame_walk import FORWARD_XYZW, report, walk_of


def test_the_walk_leads_from_the_subscription_to_the_publisher(tmp_path):
    model = build_tiny_model_dir(tmp_path / 'handmade')
    walk = walk_of(domain_id(), model=str(model), **{'extrinsics.rotation': FORWARD_XYZW})
    steps = walk.steps()
    assert steps[0] == 'ros/input/subscriptions.py'
    order = [
        'ros/input/pairing.py',
        'ros/worker.py',
        'ros/input/decoder.py',
        'runtime/preprocess.py',
        'runtime/onnxruntime_engine.py',
        'ros/output/publishers.py',
    ]
    places = [walk.files.index(file) for file in order]
    assert places == sorted(places)
    # of a frame like the ones before: no calibration is worked out, no parameter is declared
    assert not [name for name in walk.functions if 'calibration_tables' in name]
    assert len(walk.files) <= 30, walk.files
    assert f'{len(walk.functions)} functions' in report(walk)
