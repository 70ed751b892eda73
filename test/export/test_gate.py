"""Gate: a folder appears only when ONNX Runtime computes what torch computes."""

import gc
import weakref

import numpy as np
import onnx
import pytest
import torch
from fixtures_tiny_model import TINY_CONFIG
from onnx import numpy_helper

from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.export import gate, to_onnx
from cigocc_ros.export.gate import ModelFacts, ParityError, export_model, torch_reference
from cigocc_ros.export.graph_rules import GraphError
from cigocc_ros.export.half_emulation import emulated, half_values, with_ranges
from cigocc_ros.export.parity import ParityReport, compare_outputs, output_agreement
from cigocc_ros.model.answers import occupied_probability
from cigocc_ros.model.output import ExportModel
from cigocc_ros.runtime.engine import create_engine
from cigocc_ros.runtime.onnxruntime_engine import open_session
from cigocc_ros.runtime.predictor import Predictor, blank_frame
from cigocc_ros.runtime.random_frames import random_inputs

FACTS = ModelFacts('stub', 'Apache-2.0', {'seed': 11, 'steps': 0})


@pytest.fixture(scope='module')
def exported(stub_network, tmp_path_factory):
    folder = tmp_path_factory.mktemp('models') / 'stub'
    report = export_model(stub_network, TINY_CONFIG, folder, FACTS)
    return folder, report


def test_folder_agrees_with_torch_on_frames_the_gate_never_saw(exported, stub_network):
    folder, report = exported
    assert report.parity.worst.labels >= 0.999 and report.parity.num_classes > 2
    engine = create_engine('onnxruntime', folder, load_manifest(folder), threads=1)
    for arrays in random_inputs(TINY_CONFIG.image_size, 5, seed=99):
        expected = torch_reference(stub_network, arrays)
        found = output_agreement(expected, {**expected, **engine.run(arrays)})
        assert found.labels >= 0.9999 and found.probability_steps <= 1


def test_manifest_states_grid_config_training_and_licence(exported):
    manifest = load_manifest(exported[0])
    assert manifest.voxel_grid == TINY_CONFIG.output_grid
    assert (manifest.model_id, manifest.license, manifest.opset) == ('stub', 'Apache-2.0', 18)
    assert manifest.training['seed'] == 11
    assert manifest.training['config']['image_size'] == [48, 160]


def test_folder_runs_in_the_predictor(exported):
    predictor = Predictor.from_model_dir(exported[0], threads=1)
    assert predictor.golden is not None
    predictor.warm_up()
    assert predictor(blank_frame((48, 160))).labels.shape == (32, 32, 8)


def test_file_holds_no_local_paths_and_is_reproducible(exported, stub_network, tmp_path):
    content = (exported[0] / 'model.onnx').read_bytes()
    assert b'.py' not in content and b'site-packages' not in content
    export_model(stub_network, TINY_CONFIG, tmp_path / 'again', FACTS, num_inputs=1)
    assert (tmp_path / 'again' / 'model.onnx').read_bytes() == content


def spoil_weights(proto):
    for tensor in proto.graph.initializer:
        if len(tensor.dims) == 2 and tensor.dims[0] == 32 or list(tensor.dims) == [32]:
            tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))


def spoil_activations(proto):
    for node in proto.graph.node:
        if node.op_type == 'Relu':
            node.op_type = 'Abs'


@pytest.mark.parametrize('spoil', [spoil_weights, spoil_activations])
def test_wrong_file_is_refused_and_the_old_folder_stays(
    exported, stub_network, tmp_path, monkeypatch, spoil
):
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'model.onnx').write_bytes(b'the old one')
    honest = gate.to_onnx

    def faulty(model, example, **options):
        proto = honest(model, example, **options)
        spoil(proto)
        return proto

    monkeypatch.setattr(gate, 'to_onnx', faulty)
    with pytest.raises(ParityError, match='was not written: .* label [0-9]'):
        export_model(stub_network, TINY_CONFIG, out, FACTS)
    assert (out / 'model.onnx').read_bytes() == b'the old one'
    assert sorted(p.name for p in tmp_path.iterdir()) == ['out']


def test_forbidden_operator_of_a_real_export_leaves_nothing(tmp_path):
    class WithTopK(torch.nn.Module):
        def forward(self, image, depth_prior, pixel_from_velo, velo_from_pixel):
            best = depth_prior.flatten(1).topk(8).values
            logits = best.expand(20, 32, 32, 8)[None]
            return type('Output', (), {'logits': logits})

    with pytest.raises(GraphError, match='TopK'):
        export_model(WithTopK(), TINY_CONFIG, tmp_path / 'out', FACTS)
    assert not list(tmp_path.iterdir())


def test_logits_variant_carries_the_torch_logits(stub_network, tmp_path):
    export_model(stub_network, TINY_CONFIG, tmp_path / 'out', FACTS, 1, keep_logits=True)
    arrays = random_inputs(TINY_CONFIG.image_size, 1, seed=5)[0]
    session = open_session(tmp_path / 'out' / 'model_logits.onnx', 1)
    names = [output.name for output in session.get_outputs()]
    assert names == ['labels', 'occupied_probability', 'class_probability', 'logits']
    found = dict(zip(names, session.run(None, arrays), strict=True))
    with torch.no_grad():
        expected = stub_network(*(torch.from_numpy(arrays[n].copy()) for n in to_onnx.INPUT_NAMES))
    np.testing.assert_allclose(found['logits'], expected.logits, atol=1e-4)


def test_occupied_probability_is_one_minus_softmax_even_for_extreme_logits():
    torch.manual_seed(0)
    logits = torch.randn(1, 20, 4, 4, 2) * 30
    logits[0, :, 0, 0, 0] = torch.tensor([-3e3, *[3e3] * 19])
    logits[0, :, 0, 0, 1] = torch.tensor([3e3, *[-3e3] * 19])
    expected = 1 - logits.double().softmax(1)[:, 0]
    torch.testing.assert_close(occupied_probability(logits).double(), expected, atol=1e-6, rtol=0)


def test_probability_is_rounded_not_truncated(stub_network):
    inputs = random_inputs(TINY_CONFIG.image_size, 1, seed=1)[0]
    tensors = [torch.from_numpy(inputs[name].copy()) for name in to_onnx.INPUT_NAMES]
    with torch.no_grad():
        labels, occupied, sure, logits = ExportModel(stub_network, with_logits=True)(*tensors)
    exact = 255 * (1 - logits.double().softmax(1)[:, 0])
    assert (occupied.double() - exact).abs().max() <= 0.5 + 1e-3
    exact = 255 * logits[:, 1:].double().softmax(1).amax(1)
    assert (sure.double() - exact).abs().max() <= 0.5 + 1e-3
    assert torch.equal(labels.long(), logits.argmax(1))


def outputs(labels, probability, logits, sure=(255, 200, 100, 50)):
    return {
        'labels': np.array(labels, np.uint8).reshape(1, 2, 2, 1),
        'occupied_probability': np.array(probability, np.uint8).reshape(1, 2, 2, 1),
        'class_probability': np.array(sure, np.uint8).reshape(1, 2, 2, 1),
        'logits': np.array(logits, np.float32).reshape(1, 2, 2, 2, 1),
    }


def test_agreement_counts_voxels_by_hand():
    expected = outputs([0, 1, 2, 3], [0, 100, 200, 255], [0, 1, 2, 3, 4, 5, 6, 7])
    scores = [0, 1, 2.01, 3, 4.5, np.nan, 6.01, 7.0]
    found = outputs([0, 1, 2, 4], [2, 97, 200, 0], scores, (252, 201, 98, 53))
    counted = output_agreement(expected, found)
    assert (counted.labels, counted.probabilities, counted.logits) == (0.75, 0.5, 0.5)
    assert (counted.classes, counted.least) == (0.5, 0.5)
    assert counted.probability_steps == 255
    assert output_agreement(expected, expected).logits == 1.0


def test_report_keeps_the_worst_input():
    good = outputs([0, 1, 2, 3], [9] * 4, range(8))
    bad = outputs([0, 1, 2, 4], [9] * 4, range(8))
    report = compare_outputs((good, found) for found in (good, bad, good))
    assert isinstance(report, ParityReport)
    assert (report.num_inputs, report.num_classes, report.worst.labels) == (3, 4, 0.75)
    assert '75.0000 %' in str(report)


def test_the_gate_holds_one_network_at_a_time(stub_network, tmp_path, monkeypatch):
    """Three of `full` beside each other needed more than 24 GiB."""
    alive, most = weakref.WeakSet(), []

    class Session:
        def __init__(self, session):
            self.run, self.get_inputs = session.run, session.get_inputs
            self.get_outputs = session.get_outputs
            self.get_providers = session.get_providers
            alive.add(self)

    def opened(*words, **options):
        gc.collect()
        most.append(len(alive))
        assert options.get('frugal') or words[3], 'memory is given back during the run'
        return Session(open_session(*words, **options))

    for module in ('runtime.onnxruntime_engine', 'export.gate', 'export.mixed_gate'):
        monkeypatch.setattr(f'cigocc_ros.{module}.open_session', opened)
    export_model(stub_network, TINY_CONFIG, tmp_path / 'out', FACTS, 2)
    assert most == [0, 0, 0]


def test_a_range_is_taken_right_after_its_value(exported):
    mixed = onnx.load(exported[0] / 'model_fp16.onnx')
    names = half_values(mixed)
    graph = with_ranges(emulated(mixed), names).graph
    place = {name: i for i, node in enumerate(graph.node) for name in node.output}
    assert names and all(0 < place[f'{n}__ReduceMax'] - place[n] <= 4 * 2 for n in names)
    assert [output.name for output in graph.output][-1] == 'half_ranges'


def test_a_frugal_session_answers_the_same(exported):
    path = exported[0] / 'model.onnx'
    arrays = random_inputs(TINY_CONFIG.image_size, 1, seed=3)[0]
    usual, frugal = (
        open_session(path, 1, frugal=kind).run(None, arrays) for kind in (False, True)
    )
    assert all(np.array_equal(*pair) for pair in zip(usual, frugal, strict=True))
