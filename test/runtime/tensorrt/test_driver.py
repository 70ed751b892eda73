"""The calls of the CUDA driver, against a compiled stand-in of it."""

import ctypes
import re
import subprocess
import threading
import time

import pytest

from cigocc_ros.core.errors import EngineError
from cigocc_ros.runtime.tensorrt import driver as cuda_driver
from cigocc_ros.runtime.tensorrt.cuda import Cuda, array_at
from cigocc_ros.runtime.tensorrt.driver import CudaError, Driver
from cigocc_ros.runtime.tensorrt.gpus import find_gpu

WAIT_S, TICK_S = 0.4, 0.005


@pytest.fixture
def cuda(fake_driver):
    """Return a GPU whose context this thread has."""
    made = Cuda(find_gpu())
    made.attach()
    yield made
    fake_driver.fail_nothing()
    made.detach()


def test_every_function_has_the_signature_of_the_stand_in(fake_driver):
    """Which was written by cuda.h; a wrong number of arguments would not be noticed by ctypes."""
    import fake_cuda

    source = fake_cuda.SOURCE.read_text()
    Driver()
    for name, kinds in cuda_driver._SIGNATURES.items():
        (arguments,) = re.findall(rf'^int {name}\(([^)]*(?:\([^)]*\))?[^)]*)\) {{', source, re.M)
        pointers = ['*' in one for one in arguments.split(',')]
        ours = [kind in (ctypes.c_void_p, ctypes.c_char_p) or kind in cuda_driver._ANSWERS
                or kind is ctypes.POINTER(ctypes.c_char_p) for kind in kinds]  # fmt: skip
        assert pointers == ours, name


def test_a_frame_goes_in_and_comes_out(cuda, fake_driver):
    stream, event = cuda.stream(), cuda.event()
    device, host, back = cuda.allocate(8), cuda.allocate_pinned(8), cuda.allocate_pinned(8)
    array_at(host, 'uint8', (8,))[:] = range(8)
    cuda.copy_in(device, host, 8, stream)
    cuda.copy_out(back, device, 8, stream)
    assert list(array_at(back, 'uint8', (8,))) != list(range(8))  # nothing is done before a wait
    cuda.wait(event, stream)
    assert list(array_at(back, 'uint8', (8,))) == list(range(8))

    cuda.begin_capture(stream)
    cuda.copy_in(device, host, 8, stream)
    cuda.copy_out(back, device, 8, stream)
    graph = cuda.end_capture(stream)
    array_at(host, 'uint8', (8,))[:] = 7
    cuda.launch(graph, stream)
    cuda.wait(event, stream)
    assert list(array_at(back, 'uint8', (8,))) == [7] * 8
    for kind, handle in [('graph', graph), ('pinned', back), ('pinned', host), ('device', device),
                         ('event', event), ('stream', stream)]:  # fmt: skip
        cuda.free(kind, handle)
    assert not fake_driver.memory and not fake_driver.handles


def test_an_aborted_capture_leaves_a_usable_stream_and_no_graph(cuda, fake_driver):
    stream, event = cuda.stream(), cuda.event()
    for spoil in (lambda: None, lambda: fake_driver.invalidate(stream)):
        cuda.begin_capture(stream)
        spoil()
        cuda.abort_capture(stream)
        cuda.wait(event, stream)
    assert fake_driver.handles == ['event', 'stream']
    cuda.abort_capture(stream)  # nothing to leave
    cuda.free('event', event)
    cuda.free('stream', stream)


def test_two_engines_share_the_context_and_the_last_one_ends_it(fake_driver):
    first, second = Cuda(find_gpu()), Cuda(find_gpu())
    first.attach()
    second.attach()
    stream = second.stream()
    first.detach()
    assert fake_driver.retained() == 1
    second.attach()
    second.wait(event := second.event(), stream)
    second.free('event', event)
    second.free('stream', stream)
    second.detach()
    second.detach()
    assert fake_driver.retained() == 0
    assert fake_driver.names().count('cuDevicePrimaryCtxRetain') == 3


ACTIONS = {
    'cuStreamCreate': lambda cuda, a: cuda.stream(),
    'cuEventCreate': lambda cuda, a: cuda.event(),
    'cuMemAlloc_v2': lambda cuda, a: cuda.allocate(4),
    'cuMemHostAlloc': lambda cuda, a: cuda.allocate_pinned(4),
    'cuMemcpyHtoDAsync_v2': lambda cuda, a: cuda.copy_in(a['device'], a['host'], 4, a['stream']),
    'cuMemcpyDtoHAsync_v2': lambda cuda, a: cuda.copy_out(a['host'], a['device'], 4, a['stream']),
    'cuEventRecord': lambda cuda, a: cuda.wait(a['event'], a['stream']),
    'cuEventSynchronize': lambda cuda, a: cuda.wait(a['event'], a['stream']),
    'cuStreamBeginCapture_v2': lambda cuda, a: cuda.begin_capture(a['stream']),
    'cuStreamEndCapture': lambda cuda, a: cuda.end_capture(a['stream']),
    'cuGraphLaunch': lambda cuda, a: cuda.launch(a['graph'], a['stream']),
    'cuCtxSetCurrent': lambda cuda, a: cuda.attach(),
    'cuDevicePrimaryCtxRetain': lambda cuda, a: cuda.attach(),
    'cuDevicePrimaryCtxSetFlags_v2': lambda cuda, a: cuda.attach(),
    'cuDeviceGetCount': lambda cuda, a: find_gpu(),
    'cuDeviceGet': lambda cuda, a: find_gpu(),
    'cuDeviceGetName': lambda cuda, a: find_gpu(),
    'cuDeviceGetUuid_v2': lambda cuda, a: find_gpu(),
    'cuDeviceTotalMem_v2': lambda cuda, a: find_gpu(),
    'cuDeviceGetAttribute': lambda cuda, a: find_gpu(),
    'cuDriverGetVersion': lambda cuda, a: find_gpu(),
    'cuInit': lambda cuda, a: Driver(),
}


@pytest.mark.parametrize('name', ACTIONS)
def test_each_failure_names_call_code_and_words(cuda, fake_driver, name):
    stream, event = cuda.stream(), cuda.event()
    arguments = {'stream': stream, 'event': event}
    arguments |= {'device': cuda.allocate(4), 'host': cuda.allocate_pinned(4)}
    cuda.begin_capture(stream)
    arguments['graph'] = cuda.end_capture(stream)
    retained = fake_driver.retained()
    fake_driver.fail(**{name: 1})
    with pytest.raises(CudaError, match=f'^{name}: CUDA error 1, CUDA_ERROR_INVALID') as said:
        ACTIONS[name](cuda, arguments)
    assert said.value.code == 1 and fake_driver.retained() == retained
    fake_driver.fail_nothing()
    kinds = {'graph': 'graph', 'device': 'device', 'host': 'pinned', 'event': 'event'}
    for made, kind in {**kinds, 'stream': 'stream'}.items():
        cuda.free(kind, arguments[made])


@pytest.mark.parametrize(
    ('code', 'cure'),
    [
        (2, 'close what else uses the memory'),
        (34, 'stubs'),
        (100, '--gpus all'),
        (304, 'groups video and render'),
        (702, 'a new process only; look at dmesg'),
        (803, 'restart the machine'),
        (999, 'modprobe nvidia_uvm'),
        (12345, 'unknown to this driver$'),
    ],
)
def test_an_error_says_what_mends_it(fake_driver, code, cure):
    fake_driver.fail(cuInit=code)
    with pytest.raises(CudaError, match=f'^cuInit: CUDA error {code}, .*{cure}'):
        Driver()


def test_without_a_driver_the_reason_is_plain(monkeypatch, tmp_path):
    monkeypatch.setattr(cuda_driver, 'LIBRARY', 'libcuda-that-is-not-there.so.1')
    with pytest.raises(EngineError, match='no CUDA driver .*not-there.*--gpus all'):
        find_gpu()
    junk = tmp_path / 'libcuda.so.1'
    junk.write_bytes(b'\x7fELF no library')
    monkeypatch.setattr(cuda_driver, 'LIBRARY', str(junk))
    with pytest.raises(EngineError, match='no CUDA driver'):
        find_gpu()


def test_an_old_driver_is_named(monkeypatch, compiled_driver, tmp_path):
    """Before CUDA 11.4 there is no cuGraphInstantiateWithFlags."""
    import fake_cuda

    old = tmp_path / 'old.c'
    text = fake_cuda.SOURCE.read_text()
    old.write_text(text.replace('cuGraphInstantiateWithFlags(', 'cuGraphInstantiate_v2('))
    library = tmp_path / 'old.so'
    command = [fake_cuda.compiler(), *fake_cuda.FLAGS, '-o', str(library), str(old)]
    subprocess.run(command, check=True)
    monkeypatch.setattr(cuda_driver, 'LIBRARY', str(library))
    said = 'no cuGraphInstantiateWithFlags: the driver is older than CUDA 11.4'
    with pytest.raises(CudaError, match=said):
        Driver()


def ticks_while(wait):
    """Return how often another thread ran while `wait` was called."""
    ticks, over = [], threading.Event()

    def count():
        while not over.wait(TICK_S):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=count)
    thread.start()
    began_s = time.monotonic()
    wait()
    ended_s = time.monotonic()
    over.set()
    thread.join()
    return sum(began_s < tick < ended_s - TICK_S for tick in ticks)


@pytest.mark.parametrize(
    ('loader', 'runs'),
    [(ctypes.CDLL, True), (ctypes.PyDLL, False)],
    ids=['as it is', 'as cuda-bindings before 12.9.1'],
)
def test_other_threads_run_while_the_gpu_is_waited_for(fake_driver, monkeypatch, loader, runs):
    """Release notes of cuda-bindings 12.9.1: "now have the GIL released"; before, they had not."""
    monkeypatch.setattr(ctypes, 'CDLL', loader)
    cuda = Cuda(find_gpu())
    cuda.attach()
    stream, event = cuda.stream(), cuda.event()
    fake_driver.slow(WAIT_S)
    ticks = ticks_while(lambda: cuda.wait(event, stream))
    assert (ticks > 0.2 * WAIT_S / TICK_S) if runs else (ticks <= 1)
    cuda.free('event', event)
    cuda.free('stream', stream)
    cuda.detach()


def test_a_sticky_error_lasts(cuda, fake_driver):
    stream, event = cuda.stream(), cuda.event()
    fake_driver.poison(700)
    with pytest.raises(CudaError, match='in a new process only'):
        cuda.wait(event, stream)
    with pytest.raises(CudaError, match='CUDA error 700'):
        cuda.allocate(4)
    cuda.free('event', event)  # says nothing
