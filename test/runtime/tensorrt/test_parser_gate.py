"""Real TensorRT parsers: what we export passes, and every trap that ever bit is caught."""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from fixtures_rtx import gate, rtx_versions, run_rtx
from onnx import TensorProto, helper, numpy_helper

from cigocc_ros.core.installed import DEFAULT_MODEL, models_dir
from cigocc_ros.core.manifest import MIXED_ROLE, load_manifest
from cigocc_ros.core.onnx_file import SAMPLE_OP
from cigocc_ros.runtime.contract import ONNX_ROLE

RTX_10, RTX_11 = rtx_versions()
FLOAT, HALF, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8


def graph_file(folder, name, nodes, inputs, output, opset=18, constants=None):
    """Write a graph of one output whose shape is left to inference; return its path."""
    tensors = [numpy_helper.from_array(v, key) for key, v in (constants or {}).items()]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(key, kind, shape) for key, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info('y', output, None)],
        tensors,
    )
    opsets = [helper.make_opsetid('', opset)]
    onnx.save_model(
        helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / f'{name}.onnx'
    )
    return folder / f'{name}.onnx'


def grid_sample(folder, name, rank=4, grid_type=FLOAT, image_type=FLOAT, opset=18, **attributes):
    size = (8,) * (rank - 2)
    inputs = {
        'x': (image_type, (1, 2, *size)),
        'grid': (grid_type, (1, *size, rank - 2)),
    }
    node = helper.make_node('GridSample', ['x', 'grid'], ['y'], 'sampler', **attributes)
    return graph_file(folder, name, [node], inputs, image_type, opset)


def half_arithmetic_before_the_grid(folder):
    nodes = [
        helper.make_node('Mul', ['offsets', 'scale'], ['scaled'], 'half_scaling'),
        helper.make_node('Cast', ['scaled'], ['grid'], 'up', to=FLOAT),
        helper.make_node('GridSample', ['x', 'grid'], ['y'], 'sampler', mode='bilinear'),
    ]
    inputs = {'x': (FLOAT, (1, 2, 8, 8)), 'offsets': (HALF, (1, 8, 8, 2))}
    constants = {'scale': np.full((1, 1, 1, 2), 0.1, np.float16)}
    return graph_file(folder, 'half_arithmetic', nodes, inputs, FLOAT, constants=constants)


def unary(folder, kind, type_):
    node = helper.make_node(kind, ['x'], ['y'], f'a_{kind}')
    return graph_file(folder, kind, [node], {'x': (type_, (1, 8))}, type_)


def resize(folder, name, mode, coordinates, **attributes):
    node = helper.make_node(
        'Resize',
        ['x', '', 'scales'],
        ['y'],
        'resizer',
        mode=mode,
        coordinate_transformation_mode=coordinates,
        **attributes,
    )
    constants = {'scales': np.array([1, 1, 2, 2], np.float32)}
    inputs = {'x': (FLOAT, (1, 2, 8, 8))}
    return graph_file(folder, name, [node], inputs, FLOAT, constants=constants)


def top_k(folder):
    nodes = [
        helper.make_node('TopK', ['x', 'k'], ['y', 'places'], 'a_TopK'),
    ]
    constants = {'k': np.array([16384])}
    inputs = {'x': (FLOAT, (1, 20000))}
    return graph_file(folder, 'top_k', nodes, inputs, FLOAT, constants=constants)


def non_zero(folder):
    nodes = [
        helper.make_node('NonZero', ['x'], ['places'], 'a_NonZero'),
        helper.make_node('Cast', ['places'], ['y'], to=FLOAT),
    ]
    return graph_file(folder, 'non_zero', nodes, {'x': (FLOAT, (4, 4))}, FLOAT)


def transposed_bytes(folder):
    nodes = [
        helper.make_node('Transpose', ['x'], ['t'], 'a_Transpose', perm=[0, 3, 1, 2]),
        helper.make_node('Cast', ['t'], ['y'], to=FLOAT),
    ]
    return graph_file(folder, 'transposed_bytes', nodes, {'x': (UINT8, (1, 8, 8, 3))}, FLOAT)


def two_cumulative_sums(folder):
    nodes = [
        helper.make_node('CumSum', ['x', 'axis'], ['s'], 'first'),
        helper.make_node('CumSum', ['s', 'axis'], ['y'], 'second'),
    ]
    constants = {'axis': np.array(1)}
    return graph_file(folder, 'sums', nodes, {'x': (FLOAT, (2, 8))}, FLOAT, constants=constants)


SHIPPED = models_dir() / DEFAULT_MODEL
BILINEAR = {'mode': 'bilinear'}
FINE: dict[str, Callable] = {
    'bilinear': lambda d: grid_sample(d, 'bilinear', **BILINEAR),
    'nearest_floor': lambda d: resize(
        d, 'nearest_floor', 'nearest', 'asymmetric', nearest_mode='floor'
    ),
    'half_pixel': lambda d: resize(d, 'half_pixel', 'linear', 'half_pixel'),
}
TRAPS: dict[str, tuple[Callable, str]] = {
    'nearest': (lambda d: grid_sample(d, 'nearest', mode='nearest'), 'samples NEAREST'),
    'border': (
        lambda d: grid_sample(d, 'border', padding_mode='border', **BILINEAR),
        'samples CLAMP outside',
    ),
    'corners': (
        lambda d: grid_sample(d, 'corners', align_corners=1, **BILINEAR),
        'aligns corners',
    ),
    'rank': (lambda d: grid_sample(d, 'rank', rank=5, **BILINEAR), '(rank 5|nbDims == 4)'),
    'half_grid': (
        lambda d: grid_sample(d, 'half_grid', grid_type=HALF, **BILINEAR),
        '(same type|grid is HALF)',
    ),
    'all_half': (
        lambda d: grid_sample(d, 'all_half', grid_type=HALF, image_type=HALF, **BILINEAR),
        'grid is HALF, expected FLOAT',
    ),
    'half_arithmetic': (
        half_arithmetic_before_the_grid,
        'half_scaling.*: computes sampling locations in float16',
    ),
    'half_exp': (lambda d: unary(d, 'Exp', HALF), 'EXP in float16'),
    'resize_corners': (
        lambda d: resize(d, 'resize_corners', 'linear', 'align_corners'),
        'LINEAR ALIGN_CORNERS, expected HALF_PIXEL',
    ),
    'resize_rounds': (
        lambda d: resize(
            d, 'resize_rounds', 'nearest', 'half_pixel', nearest_mode='round_prefer_ceil'
        ),
        'NEAREST HALF_PIXEL HALF_UP, expected ASYMMETRIC FLOOR',
    ),
    'cubic': (lambda d: resize(d, 'cubic', 'cubic', 'half_pixel'), 'resizes CUBIC'),
    'top_k': (top_k, 'refused by the builder: .*3840'),
    'non_zero': (non_zero, 'a_NonZero'),
    'transposed_bytes': (transposed_bytes, 'a_Transpose'),
    'two_sums': (two_cumulative_sums, '2 cumulative sums'),
}


@pytest.fixture(scope='module', params=rtx_versions())
def judged(request, tmp_path_factory):
    """Return trap or fine name -> problems of one version, all judged by one process."""
    folder = tmp_path_factory.mktemp('graphs')
    makers = {name: make for name, (make, _) in TRAPS.items()} | FINE
    reports = gate(request.param, *(make(folder) for make in makers.values()))
    return {name: report['problems'] for name, report in zip(makers, reports, strict=True)}


@pytest.mark.parametrize('trap', TRAPS)
def test_trap_is_caught(judged, trap):
    assert re.search(TRAPS[trap][1], '\n'.join(judged[trap])), judged[trap]


@pytest.mark.parametrize('name', FINE)
def test_correct_construct_passes(judged, name):
    assert judged[name] == []


def test_opset_20_linear_is_caught_where_it_turns_nearest(tmp_path):
    path = grid_sample(tmp_path, 'opset20', opset=20, mode='linear')
    (old,), (new,) = gate(RTX_10, path), gate(RTX_11, path)
    assert any('samples NEAREST, expected LINEAR' in text for text in old['problems'])
    assert not new['problems']


def operators(folder):
    """Return how often each of both files has deformable sampling and GridSample in its graph."""
    manifest = load_manifest(folder)
    files = (folder / manifest.file(role).path for role in (ONNX_ROLE, MIXED_ROLE))
    counts = (Counter(node.op_type for node in onnx.load(path).graph.node) for path in files)
    return [(count[SAMPLE_OP], count['GridSample']) for count in counts]


def require_plain_operators(reports, folder):
    """TensorRT-RTX has no stock plugin: none is expected, every call is plain operators."""
    (none, fp32_samplers), (samplings, samplers) = operators(folder)
    assert none == 0 < samplings  # written out in the file for CPUs
    assert [report['samplings'] for report in reports] == [0, samplings]
    assert [report['samplers'] for report in reports] == [fp32_samplers, samplings + samplers]
    assert {(report['plugins'], report['expected_plugins']) for report in reports} == {(0, 0)}


@pytest.mark.parametrize('version', rtx_versions())
@pytest.mark.parametrize('model', ['tiny', 'mid'])
def test_both_files_parse_and_build(tiny_folder, version, model):
    folder = tiny_folder if model == 'tiny' else SHIPPED
    reports = gate(version, folder)
    assert [report['problems'] for report in reports] == [[], []]
    fp32, mixed = reports
    assert fp32['half_layers'] == 0 < mixed['half_layers'] == mixed['learned_layers']
    assert min(fp32['engine_bytes'], mixed['engine_bytes']) > 100_000
    require_plain_operators(reports, folder)


def unproved_folder(name, folder):
    """Write both files of a config with random weights, without comparing them with torch."""
    import torch

    from cigocc_ros.core.config import load_model_config
    from cigocc_ros.core.manifest import file_spec, write_manifest
    from cigocc_ros.export.cpu_rewrites import rewrite_for_cpu
    from cigocc_ros.export.mixed_precision import mixed_precision
    from cigocc_ros.export.to_onnx import to_onnx, without_logits
    from cigocc_ros.model.build import build_model
    from cigocc_ros.runtime.contract import manifest_for
    from cigocc_ros.runtime.random_frames import random_inputs

    torch.manual_seed(0)
    model = build_model(load_model_config(name)).eval()
    config = model.config
    inputs = random_inputs(config.image_size, 1, 0, config.semantic_prior)[0]
    graph = without_logits(to_onnx(model, inputs))
    onnx.save_model(rewrite_for_cpu(graph), folder / 'model.onnx')
    onnx.save_model(mixed_precision(graph), folder / 'model_fp16.onnx')
    files = {
        'onnx': file_spec(folder, 'model.onnx', 'fp32'),
        MIXED_ROLE: file_spec(folder, 'model_fp16.onnx', 'mixed_fp16'),
    }
    manifest = manifest_for(
        model.config,
        name,
        license='none',
        files=files,
        training={},
        class_probability=True,
    )
    write_manifest(folder, manifest)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not os.environ.get('CIGOCC_FULL'), reason='minutes: run "make gate-full"')
def test_both_files_of_full_parse_and_build(tmp_path):
    folder = unproved_folder('full', tmp_path)
    for version in rtx_versions():
        reports = gate(version, folder, timeout_s=1800)
        assert [report['problems'] for report in reports] == [[], []]
        assert reports[1]['half_layers'] == reports[1]['learned_layers'] > 100
        require_plain_operators(reports, folder)
        print(*(json.dumps(report) for report in reports), sep='\n')


def test_wrong_contract_and_wrong_precision_are_named(tiny_folder, tmp_path):
    folder = tmp_path / 'model'
    shutil.copytree(tiny_folder, folder)
    text = (folder / 'manifest.yaml').read_text()
    text = text.replace('precision: mixed_fp16', 'precision: fp32')
    (folder / 'manifest.yaml').write_text(text.replace('- 160', '- 192'))
    _, mixed = gate(RTX_11, folder)
    assert any(text.startswith('inputs: ') for text in mixed['problems'])
    assert any('layers with weights are not fp32' in text for text in mixed['problems'])


def test_report_is_readable_and_the_exit_status_tells(tmp_path):
    path = grid_sample(tmp_path, 'nearest', mode='nearest')
    done = run_rtx(RTX_11, '-m', 'cigocc_ros.runtime.tensorrt.parser_gate', str(path))
    assert done.returncode == 1
    assert done.stdout.startswith(f'FAILED  tensorrt_rtx {RTX_11}  {path}')
    assert 'sampler: samples NEAREST' in done.stdout


ASK = """
import json, sys, logging
from pathlib import Path
import tensorrt_rtx as trt
from cigocc_ros.core.onnx_file import PLUGIN_VERSION, SAMPLE_OP, without_function
from cigocc_ros.runtime.tensorrt.library import find_tensorrt, has_plugin, library_log
from cigocc_ros.runtime.tensorrt.network import parse_network

asked = []

class Creator(trt.IPluginCreatorV3One):
    def __init__(self):
        trt.IPluginCreatorV3One.__init__(self)
        self.name, self.plugin_namespace, self.plugin_version = SAMPLE_OP, '', PLUGIN_VERSION
        self.field_names = trt.PluginFieldCollection([])

    def create_plugin(self, name, fields, phase):
        asked.append(name)  # TensorRT-RTX's wheel aborts on a plugin made in Python
        return None

def parse(content):
    asked.clear()
    log, _ = library_log(library)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parsed = trt.OnnxParser(network, log).parse(content)
    return [parsed, len(asked)]

logging.disable()
library = find_tensorrt()
content = Path(sys.argv[1]).read_bytes()
before = has_plugin(library, SAMPLE_OP)
creator = Creator()
trt.get_plugin_registry().register_creator(creator, '')
raw = {'as it is': parse(content), 'cut': parse(without_function(content, SAMPLE_OP, 'x'))}
asked.clear()
ours = parse_network(library, content, 'x', True)
raw['ours'] = [ours.plugins, ours.samplings, len(asked)]
asked.clear()
ours = parse_network(library, content, 'x', False)
raw['plain'] = [ours.plugins, ours.samplings, len(asked)]
print(json.dumps({'before': before, 'after': has_plugin(library, SAMPLE_OP), **raw}))
"""


@pytest.mark.parametrize('version', [RTX_10, RTX_11])
@pytest.mark.parametrize('named', [False, True])
def test_real_parsers_ask_for_the_plugin_once_the_function_is_cut_out(
    version, named, tiny_folder, tmp_path
):
    """RTX 1.7 prefers the function to the plugin, but where a call names the plugin's namespace.

    RTX 1.4 takes no plugin for an operator it does not know: what is cut out it refuses, and the
    file is parsed again as it is.
    """
    model = onnx.load(tiny_folder / 'model_fp16.onnx')
    calls = [node for node in model.graph.node if node.op_type == SAMPLE_OP]
    for node in calls if not named else ():
        del node.attribute[:]  # as files exported before
    onnx.save_model(model, tmp_path / 'model.onnx')
    done = run_rtx(version, '-c', ASK, str(tmp_path / 'model.onnx'))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found['before'], found['after']) == (False, True)
    knows = version == RTX_11
    assert found['as it is'] == ([False, 1] if knows and named else [True, 0])
    assert found['cut'] == [False, 1 if knows else 0]
    assert found['ours'] == [0, len(calls), 1 if knows else 0]
    assert found['plain'] == [0, len(calls), 0]
