"""The TensorRT engine on a fake GPU: order of calls, answers, hangs, and what is left behind."""

import threading
import time

import numpy as np
import pytest
from fixtures_engine import WAIT_S, build, build_golden_model_dir, frame_inputs
from fixtures_tiny_model import expected_outputs

from cigocc_ros.core.errors import EngineError, ManifestError
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.runtime.engine import create_engine
from cigocc_ros.runtime.predictor import Predictor
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions

ILLEGAL_ADDRESS, OUT_OF_MEMORY, NO_DEVICE = 700, 2, 100
OWNER = {'tensorrt'}
FRAME = ['cuMemcpyHtoDAsync_v2', 'execute_async_v3', 'cuMemcpyDtoHAsync_v2']


@pytest.fixture
def model_dir(tmp_path, fake_gpu):
    return build_golden_model_dir(tmp_path / 'model')


@pytest.fixture
def open_engine(model_dir, fake_gpu):
    """Return a function that opens the engine of the model; what it opened is closed."""
    build(model_dir)
    opened = []

    def open_(**options):
        fake_gpu.cuda.forget_calls()
        opened.append(
            create_engine(
                'tensorrt',
                model_dir,
                load_manifest(model_dir),
                tensorrt=TensorRtOptions(build_missing=False, **options),
            )
        )
        return opened[-1]

    yield open_
    for engine in opened:
        engine.close()


@pytest.fixture
def hang(fake_gpu):
    """Return a function that makes the GPU hang in the next frame, until its event is set."""
    events = []

    def begin():
        events.append(fake_gpu.cuda.block())
        return events[-1]

    yield begin
    for event in events:
        event.set()


def assert_answers(engine, manifest, seed):
    arrays = frame_inputs(manifest, seed)
    found, expected = engine.run(arrays), expected_outputs(arrays, manifest)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    return found


def steps(state):
    """Return the calls that matter for the order, repetitions folded."""
    names = [name.split()[0] for name in state.names()]
    wanted = {
        'cuCtxSetCurrent',
        'cuMemAlloc_v2',
        'cuMemHostAlloc',
        'set_tensor_address',
        'cuMemcpyHtoDAsync_v2',
        'cuMemcpyDtoHAsync_v2',
        'execute_async_v3',
        'cuEventSynchronize',
        'cuStreamBeginCapture_v2',
        'cuStreamEndCapture',
        'cuGraphLaunch',
    }
    return [n for i, n in enumerate(names) if n in wanted and (i == 0 or names[i - 1] != n)]


@pytest.mark.parametrize('cuda_graph', [True, False])
def test_answers_are_those_of_the_network(open_engine, model_dir, cuda_graph):
    engine, manifest = open_engine(cuda_graph=cuda_graph), load_manifest(model_dir)
    first = assert_answers(engine, manifest, seed=1)
    kept = first['labels'].copy()
    assert len(np.unique(kept)) > 5
    assert_answers(engine, manifest, seed=2)
    np.testing.assert_array_equal(first['labels'], kept)  # the caller's own


def test_order_of_calls_and_one_thread(open_engine, model_dir, fake_gpu):
    state = fake_gpu.cuda
    engine, manifest = open_engine(), load_manifest(model_dir)
    start = state.calls.index(('cuCtxSetCurrent', 'tensorrt'))
    per_tensor = ['cuMemAlloc_v2', 'cuMemHostAlloc', 'set_tensor_address']
    capture = ['cuStreamBeginCapture_v2', *FRAME, 'cuStreamEndCapture']
    assert steps(state) == [
        'cuCtxSetCurrent',
        'cuMemAlloc_v2',  # what the execution context needs
        *per_tensor * 6,
        *FRAME,
        'cuEventSynchronize',
        *capture,
    ]
    assert {thread for _, thread in state.calls[start:]} == OWNER

    state.forget_calls()
    for seed in range(3):
        assert_answers(engine, manifest, seed)
    assert steps(state) == ['cuGraphLaunch', 'cuEventSynchronize'] * 3
    assert state.threads() == OWNER


def test_without_graph_every_frame_is_enqueued_and_nothing_allocated(
    open_engine, model_dir, fake_gpu
):
    state = fake_gpu.cuda
    engine, manifest = open_engine(cuda_graph=False), load_manifest(model_dir)
    state.forget_calls()
    assert_answers(engine, manifest, 0)
    assert_answers(engine, manifest, 1)
    assert steps(state) == [*FRAME, 'cuEventSynchronize'] * 2


@pytest.mark.parametrize('refusal', ['execute', 'capture'])
def test_a_refused_capture_falls_back(open_engine, model_dir, fake_gpu, caplog, refusal):
    if refusal == 'execute':
        fake_gpu.trt.refuse_capture = True
    else:
        fake_gpu.cuda.fail(cuGraphInstantiateWithFlags=900)
    engine = open_engine()
    assert 'no CUDA graph' in caplog.text
    assert_answers(engine, load_manifest(model_dir), 3)
    assert 'cuGraphLaunch' not in fake_gpu.cuda.names()


def test_close_frees_all_and_ends_the_engine(open_engine, model_dir, fake_gpu):
    engine = open_engine()
    assert len(fake_gpu.cuda.memory) == 12 + 1  # buffers, and what a context needs
    engine.close()
    assert not fake_gpu.cuda.memory and not fake_gpu.cuda.handles
    with pytest.raises(EngineError, match='after close'):
        engine.run(frame_inputs(load_manifest(model_dir)))
    engine.close()


@pytest.mark.parametrize('call', ['cuMemHostAlloc', 'cuEventCreate', 'cuEventRecord'])
def test_what_fails_while_opening_leaves_nothing(open_engine, fake_gpu, call):
    fake_gpu.cuda.fail(**{call: OUT_OF_MEMORY})
    with pytest.raises(
        EngineError, match=f'{call}: CUDA error 2, CUDA_ERROR_OUT_OF_MEMORY, .*: close'
    ):
        open_engine()
    assert not fake_gpu.cuda.memory and not fake_gpu.cuda.handles


def test_inputs_off_the_contract_never_reach_the_gpu(open_engine, model_dir, fake_gpu):
    engine = open_engine()
    fake_gpu.cuda.forget_calls()
    arrays = frame_inputs(load_manifest(model_dir))
    with pytest.raises(EngineError, match='expected image uint8'):
        engine.run({**arrays, 'image': arrays['image'].astype(np.float32)})
    assert not fake_gpu.cuda.calls and engine.rebuilds == 0


def test_callers_of_two_threads_take_turns(open_engine, model_dir, fake_gpu):
    engine, manifest = open_engine(), load_manifest(model_dir)
    problems = []

    def work(seed):
        try:
            for _ in range(5):
                assert_answers(engine, manifest, seed)
        except BaseException as error:
            problems.append(error)

    fake_gpu.cuda.forget_calls()
    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert not problems and fake_gpu.cuda.threads() == OWNER


def test_a_hang_costs_one_frame_and_the_context(open_engine, model_dir, fake_gpu, hang):
    state, manifest = fake_gpu.cuda, load_manifest(model_dir)
    engine = open_engine(deadline_s=0.5)
    before, event = set(state.memory), hang()
    with pytest.raises(EngineError, match=r'no answer within 0\.5 s; the frame is lost.*rebuilt'):
        engine.run(frame_inputs(manifest))
    assert engine.rebuilds == 1 and engine.problem == ''
    assert before < set(state.memory)  # the old buffers still belong to the hung thread
    assert_answers(engine, manifest, 4)

    event.set()  # the old thread wakes up and releases what it owned
    deadline = time.monotonic() + WAIT_S
    while before & set(state.memory) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not before & set(state.memory)
    assert_answers(engine, manifest, 5)


def test_a_second_hang_is_final(open_engine, model_dir, fake_gpu, hang):
    state, manifest = fake_gpu.cuda, load_manifest(model_dir)
    deadline_s = 0.5
    engine = open_engine(deadline_s=deadline_s)
    arrays = frame_inputs(manifest)
    first = hang()
    with pytest.raises(EngineError, match='rebuilt'):
        engine.run(arrays)
    second = hang()
    with pytest.raises(EngineError, match='lost.*restart the node'):
        engine.run(arrays)
    assert 'lost' in engine.problem
    state.forget_calls()
    started = time.monotonic()
    with pytest.raises(EngineError, match='lost.*restart the node'):
        engine.run(arrays)
    assert time.monotonic() - started < deadline_s and not state.calls
    first.set()
    second.set()


def test_an_error_of_the_gpu_rebuilds_and_a_failing_rebuild_is_final(
    open_engine, model_dir, fake_gpu
):
    state, manifest = fake_gpu.cuda, load_manifest(model_dir)
    engine = open_engine()
    state.fail(cuGraphLaunch=ILLEGAL_ADDRESS)
    with pytest.raises(EngineError, match='an illegal memory access .*; the frame is lost'):
        engine.run(frame_inputs(manifest))
    state.fail_nothing()
    assert_answers(engine, manifest, 1)

    other = open_engine()
    state.fail(cuGraphLaunch=ILLEGAL_ADDRESS, cuMemHostAlloc=OUT_OF_MEMORY)
    with pytest.raises(EngineError, match='rebuilding the context failed.*cuMemHostAlloc'):
        other.run(frame_inputs(manifest))
    assert 'lost' in other.problem


def test_a_hanging_load_is_given_up(model_dir, fake_gpu, hang, monkeypatch):
    from cigocc_ros.runtime.tensorrt import engine as tensorrt_engine

    build(model_dir)
    monkeypatch.setattr(tensorrt_engine, 'LOAD_DEADLINE_S', 0.2)
    hang()
    with pytest.raises(EngineError, match=r'not loaded within 0\.2 s'):
        create_engine('tensorrt', model_dir, load_manifest(model_dir))


def test_an_engine_of_another_release_is_refused_with_the_command(
    open_engine, fake_gpu, monkeypatch
):
    """The key finds this first; the plan itself is the second line."""
    real = fake_gpu.trt.Runtime.deserialize_cuda_engine
    monkeypatch.setattr(
        fake_gpu.trt.Runtime,
        'deserialize_cuda_engine',
        lambda self, plan: real(self, plan.replace(b'10.13.2', b'10.03.0')),
    )
    with pytest.raises(EngineError, match='Version tag does not match.*run `cigocc build-engine`'):
        open_engine()


def test_tensors_of_the_engine_are_compared_by_name(open_engine, fake_gpu, monkeypatch):
    real = fake_gpu.trt.Engine.__init__
    monkeypatch.setattr(
        fake_gpu.trt.Engine, '__init__', lambda self, content, *_: real(self, content, 'labels')
    )
    with pytest.raises(ManifestError, match=r'expected labels uint8.*found labels_0 uint8'):
        open_engine()
    assert not fake_gpu.cuda.memory


def test_the_self_check_refuses_what_computes_something_else(model_dir, fake_gpu):
    build(model_dir)
    predictor = Predictor.from_model_dir(model_dir, 'tensorrt')
    predictor.warm_up()
    predictor.close()
    fake_gpu.trt.wrong_by = 1
    predictor = Predictor.from_model_dir(model_dir, 'tensorrt')
    with pytest.raises(EngineError, match=r'tensorrt 10\.13\.2 fp32 on Fake GPU: self-check'):
        predictor.warm_up()
    predictor.close()


def test_auto_takes_tensorrt_where_library_and_gpu_are(model_dir, fake_gpu, monkeypatch, caplog):
    caplog.set_level('INFO')
    build(model_dir)
    manifest = load_manifest(model_dir)
    engine = create_engine('auto', model_dir, manifest)
    assert engine.name == 'tensorrt 10.13.2 fp32 on Fake GPU'
    engine.close()
    fake_gpu.cuda.fail(cuInit=NO_DEVICE)
    assert 'onnxruntime' in create_engine('auto', model_dir, manifest, threads=1).name
    (said,) = [r for r in caplog.records if 'there is no TensorRT' in r.getMessage()]
    assert (
        'because there is no TensorRT: cuInit: CUDA error 100, CUDA_ERROR_NO_D'
        in said.getMessage()
    )
    assert said.levelname == 'WARNING'  # the library is there: somebody expects it to be used


@pytest.mark.parametrize('version', ['10.2.0', '8.6.1', '12.0.1'])
def test_releases_that_nobody_tried_are_refused(model_dir, fake_gpu, monkeypatch, version):
    monkeypatch.setattr(fake_gpu.trt, '__version__', version)
    with pytest.raises(
        EngineError, match=rf'version {version} found, 10\.3 or later and below 12'
    ):
        create_engine('tensorrt', model_dir, load_manifest(model_dir))
