"""The TensorRT engine on a fake GPU: order of calls, answers, hangs, and what is left behind."""

import ctypes
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
from cigocc_ros.runtime.tensorrt import engine as tensorrt_engine
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions

INVALID_VALUE, OUT_OF_MEMORY, NO_DEVICE, ILLEGAL_ADDRESS = 1, 2, 100, 700
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
        *per_tensor * 7,
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
    assert len(fake_gpu.cuda.memory) == 2 * 7 + 1  # buffers, and what a context needs
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


def assert_late(engine, arrays, deadline_s):
    """Run a frame that does not come back in time."""
    began_s = time.monotonic()
    with pytest.raises(EngineError, match=f'no answer within {deadline_s:g} s; the frame is lost'):
        engine.run(arrays)
    assert time.monotonic() - began_s >= deadline_s


def until_answer(engine, arrays):
    """Run frames until one is answered; return the messages of those that were not."""
    ends_s, said = time.monotonic() + WAIT_S, []
    while time.monotonic() < ends_s:
        try:
            engine.run(arrays)
            return said
        except EngineError as error:
            said.append(str(error))
            time.sleep(0.01)
    raise AssertionError(f'no answer: {said[-1]}')


def test_late_frames_never_cost_the_engine(open_engine, model_dir, fake_gpu, hang, caplog):
    """A second of contention on Monday, one on Friday: each costs what comes meanwhile."""
    state, manifest, deadline_s = fake_gpu.cuda, load_manifest(model_dir), 0.2
    engine = open_engine(deadline_s=deadline_s)
    arrays = frame_inputs(manifest)
    state.forget_calls()
    for turn in range(1, 5):
        event = hang()
        assert_late(engine, arrays, deadline_s)
        began_s = time.monotonic()
        for _ in range(3):
            with pytest.raises(EngineError, match=r'deadline_s is 0\.2; this frame is dropped'):
                engine.run(arrays)
        assert time.monotonic() - began_s < 2 * deadline_s  # they do not wait
        event.set()
        until_answer(engine, arrays)
        assert_answers(engine, manifest, seed=turn)
        assert (engine.late, engine.rebuilds, engine.problem) == (turn, 0, '')
    assert 'a frame was back after' in caplog.text
    assert not {'cuMemAlloc_v2', 'cuStreamCreate', 'cuMemFree_v2'} & set(state.names())


def test_a_gpu_that_hangs_is_told_of_and_replaced_when_it_comes_back(
    open_engine, model_dir, fake_gpu, hang, monkeypatch
):
    state, manifest = fake_gpu.cuda, load_manifest(model_dir)
    monkeypatch.setattr(tensorrt_engine, 'PATIENCE', 2)
    engine = open_engine(deadline_s=0.1)
    arrays, most_bytes, event = frame_inputs(manifest), state.most_bytes, hang()
    assert_late(engine, arrays, 0.1)
    with pytest.raises(EngineError, match='this frame is dropped'):
        engine.run(arrays)
    time.sleep(0.2)
    with pytest.raises(EngineError, match='it hangs; unless it comes back, restart the node'):
        engine.run(arrays)
    assert 'restart the node' in engine.problem and engine.rebuilds == 0
    event.set()
    said = until_answer(engine, arrays)
    assert 'the GPU hung for' in said[-1] and 'the context is replaced' in said[-1]
    assert (engine.problem, engine.rebuilds) == ('', 1)
    assert_answers(engine, manifest, 1)
    assert state.most_bytes == most_bytes  # never both at once


def test_memory_is_needed_once(open_engine, model_dir, fake_gpu):
    """On 8 GB, two contexts do not fit."""
    state, manifest = fake_gpu.cuda, load_manifest(model_dir)
    engine = open_engine()
    state.limit(state.most_bytes)
    state.fail(cuGraphLaunch=INVALID_VALUE)
    with pytest.raises(EngineError, match='the frame is lost, the context is replaced'):
        engine.run(frame_inputs(manifest))
    state.fail_nothing()
    assert_answers(engine, manifest, 1)
    assert engine.rebuilds == 1


def test_a_context_that_does_not_close_is_waited_for(
    open_engine, model_dir, fake_gpu, monkeypatch
):
    state, manifest = fake_gpu.cuda, load_manifest(model_dir)
    monkeypatch.setattr(tensorrt_engine, 'CLOSE_DEADLINE_S', 0.1)
    engine = open_engine()
    release, real = threading.Event(), engine._session.close
    engine._session.close = lambda: (release.wait(WAIT_S), real())
    state.fail(cuGraphLaunch=INVALID_VALUE)
    arrays = frame_inputs(manifest)
    with pytest.raises(EngineError, match='the frame is lost'):
        engine.run(arrays)
    state.fail_nothing()
    with pytest.raises(EngineError, match='closing the old context has been on the GPU'):
        engine.run(arrays)
    assert len(state.memory) == 2 * 7 + 1  # of the old one; there is no other
    release.set()
    until_answer(engine, arrays)
    assert_answers(engine, manifest, 1)


@pytest.mark.parametrize('forgiven', [False, True])
def test_a_second_failure_is_final_unless_the_first_is_long_ago(
    open_engine, model_dir, fake_gpu, monkeypatch, forgiven
):
    state, manifest = fake_gpu.cuda, load_manifest(model_dir)
    engine, arrays = open_engine(), frame_inputs(manifest)
    for turn in range(3 if forgiven else 1):
        state.fail(cuGraphLaunch=INVALID_VALUE)
        with pytest.raises(EngineError, match='cuGraphLaunch: CUDA error 1, .* is replaced'):
            engine.run(arrays)
        state.fail_nothing()
        assert_answers(engine, manifest, turn)
        if forgiven:
            monkeypatch.setattr(tensorrt_engine, 'FORGIVEN_AFTER_S', 0.0)
    if forgiven:
        assert engine.rebuilds == 3
        return
    state.fail(cuGraphLaunch=INVALID_VALUE)
    with pytest.raises(EngineError, match='lost, cuGraphLaunch.*restart the node'):
        engine.run(arrays)
    state.fail_nothing()
    state.forget_calls()
    with pytest.raises(EngineError, match='lost.*restart the node'):
        engine.run(arrays)
    assert 'lost' in engine.problem and not state.calls


def test_a_sticky_error_needs_a_new_process(open_engine, model_dir, fake_gpu):
    engine = open_engine()
    fake_gpu.cuda.poison(ILLEGAL_ADDRESS)
    with pytest.raises(EngineError, match='lost, rebuilding the context failed.* restart the nod'):
        engine.run(frame_inputs(load_manifest(model_dir)))
    assert 'lost' in engine.problem


def test_closing_does_not_wait_for_a_gpu_that_hangs(
    open_engine, model_dir, hang, monkeypatch, caplog
):
    monkeypatch.setattr(tensorrt_engine, 'CLOSE_DEADLINE_S', 0.1)
    engine, event = open_engine(deadline_s=0.1), hang()
    assert_late(engine, frame_inputs(load_manifest(model_dir)), 0.1)
    thread = engine._thread._thread
    engine.close()
    assert 'its memory is not released' in caplog.text
    event.set()
    thread.join(WAIT_S)


@pytest.mark.parametrize(
    ('loader', 'in_time'),
    [(ctypes.CDLL, True), (ctypes.PyDLL, False)],
    ids=['as it is', 'holding the GIL'],
)
def test_the_deadline_fires_while_the_gpu_is_waited_for(
    open_engine, model_dir, fake_gpu, monkeypatch, loader, in_time
):
    """It cannot where a wait holds the GIL, as in cuda-bindings before 12.9.1."""
    arrays, slow_s = frame_inputs(load_manifest(model_dir)), 1.0
    monkeypatch.setattr(ctypes, 'CDLL', loader)
    engine = open_engine(deadline_s=0.2)
    fake_gpu.cuda.slow(slow_s)
    began_s = time.monotonic()
    try:
        engine.run(arrays)
    except EngineError as error:
        assert 'no answer within' in str(error)
    assert (time.monotonic() - began_s < slow_s / 2) is in_time
    fake_gpu.cuda.slow(0)
    until_answer(engine, arrays)


@pytest.mark.parametrize('capturable', [True, False])
def test_rtx_is_asked_before_a_capture(open_engine, model_dir, fake_gpu, capturable):
    fake_gpu.trt.stream_capturable = capturable
    engine = open_engine()
    assert ('cuStreamBeginCapture_v2' in fake_gpu.cuda.names()) is capturable
    assert_answers(engine, load_manifest(model_dir), 1)
    assert ('cuGraphLaunch' in fake_gpu.cuda.names()) is capturable


def test_a_hanging_load_is_given_up(model_dir, fake_gpu, hang, monkeypatch):
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
