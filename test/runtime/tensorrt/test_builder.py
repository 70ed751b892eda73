"""The builder on a fake TensorRT: choices, progress, cache, refusals, and two at once."""

import json
import threading

import pytest
from fixtures_engine import (
    WAIT_S,
    add_sampling_calls,
    build,
    build_golden_model_dir,
    engine_files,
    frame_inputs,
)

from cigocc_ros.core.errors import EngineError, ManifestError
from cigocc_ros.core.manifest import MIXED_ROLE, file_spec, load_manifest, write_manifest
from cigocc_ros.runtime.loading import Loading, LoadingCancelled
from cigocc_ros.runtime.tensorrt.builder import build_engine
from cigocc_ros.runtime.tensorrt.loading import open_tensorrt
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions


@pytest.fixture
def model_dir(tmp_path, fake_gpu):
    return build_golden_model_dir(tmp_path / 'model')


def test_the_engine_lies_beside_the_model_and_is_built_once(model_dir, fake_gpu):
    first = build(model_dir)
    assert first.built and first.path.parent == model_dir
    assert engine_files(model_dir) == [first.path.name, f'{first.path.name}.json']
    sidecar = first.sidecar
    assert (sidecar.key.gpu, sidecar.key.compute_capability) == ('Fake GPU', '8.7')
    assert (sidecar.key.cuda_driver, sidecar.key.library_version) == ('12.6', '10.13.2')
    assert sidecar.deserialised and sidecar.layers == 9
    assert not build(model_dir).built
    assert len(fake_gpu.trt.built) == 1
    assert build(model_dir, force=True).built


def test_what_the_builder_is_told(model_dir, fake_gpu, tmp_path):
    result = build(
        model_dir, workspace_mb=256, optimization_level=5, engine_dir=str(tmp_path / 'engines')
    )
    (config,) = fake_gpu.trt.built
    assert config.pools == {fake_gpu.trt.MemoryPoolType.WORKSPACE: 256 << 20}
    assert config.builder_optimization_level == 5
    assert not config.flags  # TF32 would round the geometry
    assert result.path.parent == tmp_path / 'engines' and not engine_files(model_dir)


def test_the_timing_cache_is_kept_and_one_of_another_release_started_anew(
    model_dir, fake_gpu, caplog
):
    build(model_dir)
    build(model_dir, optimization_level=4)
    first, second = fake_gpu.trt.built
    assert first.cache_given == b'' and second.cache_given == b'timings of 10.13.2'
    (path,) = model_dir.glob('*.engine.timing')
    path.write_bytes(b'timings of 9')
    build(model_dir, force=True)
    assert 'started anew' in caplog.text
    assert path.read_bytes() == b'timings of 10.13.2'


def test_progress_rises_to_the_end_and_estimates_the_rest(model_dir, monkeypatch):
    monkeypatch.setenv('FAKE_TENSORRT_STEP_S', '0.02')
    heard = []
    build(model_dir, report=heard.append)
    shares = [progress.share for progress in heard]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] > 0.9
    assert heard[-1].phase == 'Building engine'
    half = next(progress for progress in heard if progress.share > 0.4)
    assert half.eta_s == pytest.approx(half.elapsed_s * (1 - half.share) / half.share)
    assert heard[0].eta_s is None


def test_cancelling_leaves_nothing(model_dir, fake_gpu):
    loading = Loading()

    def report(progress):
        if progress.share > 0.3:
            loading.cancel()

    with pytest.raises(LoadingCancelled):
        build_engine(model_dir, load_manifest(model_dir), TensorRtOptions(), report, loading)
    assert not engine_files(model_dir)
    assert build(model_dir).built  # the lock is free again


@pytest.mark.parametrize(
    ('fail', 'said'),
    [
        ('parse', r"cannot parse it: node 'node_NonZero_7' \(NonZero\): no importer"),
        ('memory', 'cannot build the engine: .*OutOfMemory; .*lower workspace_mb'),
    ],
)
def test_refusals_of_the_library_say_why(model_dir, monkeypatch, fail, said):
    monkeypatch.setenv('FAKE_TENSORRT_FAIL', fail)
    with pytest.raises(EngineError, match=said):
        build(model_dir)
    assert not engine_files(model_dir)


def test_an_engine_with_other_tensors_is_not_written(model_dir, monkeypatch):
    monkeypatch.setenv('FAKE_TENSORRT_FAIL', 'contract')
    with pytest.raises(ManifestError, match='expected labels uint8.*found labels_0 uint8'):
        build(model_dir)
    assert not engine_files(model_dir)


def test_a_network_read_with_other_tensors_is_refused_before_the_build(
    model_dir, fake_gpu, monkeypatch
):
    monkeypatch.setitem(fake_gpu.trt._TYPES, 2, fake_gpu.trt.DataType.INT32)
    with pytest.raises(ManifestError, match='as tensorrt 10.13.2 reads it: inputs.*image int32'):
        build(model_dir)
    assert not fake_gpu.trt.built


def test_a_changed_onnx_file_is_not_compiled(model_dir, fake_gpu):
    path = model_dir / 'model.onnx'
    path.write_bytes(path.read_bytes()[:-1] + b'!')
    with pytest.raises(ManifestError, match='sha256'):
        build(model_dir)
    assert not fake_gpu.trt.built


def test_the_mixed_file_is_preferred_where_there_is_one(model_dir):
    assert build(model_dir).sidecar.key.precision == 'fp32'
    with pytest.raises(ManifestError, match=f"has no '{MIXED_ROLE}' file.*cigocc export"):
        build(model_dir, precision='mixed_fp16')
    manifest = load_manifest(model_dir)
    manifest.files[MIXED_ROLE] = file_spec(model_dir, 'model.onnx', 'mixed_fp16')
    write_manifest(model_dir, manifest)
    assert build(model_dir).sidecar.key.precision == 'mixed_fp16'
    assert build(model_dir, precision='fp32').sidecar.key.precision == 'fp32'


def test_a_damaged_engine_is_refused_and_force_mends_it(model_dir):
    path = build(model_dir).path
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(EngineError, match=r'not loaded: run `cigocc build-engine .* --force`'):
        build(model_dir)
    assert build(model_dir, force=True).built
    assert not build(model_dir).built


def test_without_gpu_tensorrt_does_not_build(model_dir, fake_gpu):
    fake_gpu.cuda.fail(cuInit=100)
    with pytest.raises(EngineError, match='builds only on the GPU that runs the engine'):
        build(model_dir)


def test_a_folder_that_cannot_be_written_is_named(model_dir, tmp_path):
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(EngineError, match='cannot be written.*--engine-dir FOLDER'):
        build(model_dir, engine_dir=str(tmp_path / 'file' / 'engines'))


def test_a_folder_of_everybody_is_refused_before_the_build(model_dir, fake_gpu, tmp_path):
    folder = tmp_path / 'engines'
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(EngineError, match='not writable by everybody.*tensorrt.engine_dir'):
        build(model_dir, engine_dir=str(folder))
    assert not fake_gpu.trt.built


def test_a_runtime_without_builder_says_what_to_install(model_dir, fake_gpu, monkeypatch):
    monkeypatch.delattr(fake_gpu.trt, 'Builder')
    with pytest.raises(EngineError, match='runtime without builder: install the full TensorRT'):
        build(model_dir)


def test_of_two_builders_one_builds_and_the_other_waits(model_dir, fake_gpu, monkeypatch):
    """flock belongs to the open file, so that two threads stand for two processes."""
    monkeypatch.setenv('FAKE_TENSORRT_STEP_S', '0.2')
    first_builds, results, told = threading.Event(), {}, {'first': [], 'second': []}

    def work(name):
        def report(progress):
            told[name].append(progress.phase)
            first_builds.set()

        results[name] = build(model_dir, report=report)

    threads = [threading.Thread(target=work, args=(name,)) for name in told]
    threads[0].start()
    assert first_builds.wait(WAIT_S)
    threads[1].start()
    for thread in threads:
        thread.join(WAIT_S)
    assert {name: result.built for name, result in results.items()} == {
        'first': True,
        'second': False,
    }
    assert len(fake_gpu.trt.built) == 1
    assert set(told['first']) == {'Building engine'}
    assert told['second'] and all('waiting for another builder' in p for p in told['second'])


def test_stock_plugins_are_a_choice_and_part_of_the_key(model_dir, fake_gpu):
    add_sampling_calls(model_dir)
    plain = build(model_dir, stock_plugins=False)
    assert plain.sidecar.plugins == 0 and not plain.sidecar.key.stock_plugins
    assert fake_gpu.trt.plugins_known  # a plan is loaded with them: it may be another's
    with_plugins = build(model_dir)
    assert with_plugins.built and with_plugins.sidecar.plugins == 2


def test_plugins_that_cannot_be_loaded_are_an_error(model_dir, fake_gpu, monkeypatch):
    monkeypatch.setattr(fake_gpu.trt, 'init_libnvinfer_plugins', lambda *_: False)
    with pytest.raises(EngineError, match='cannot load its plugins'):
        build(model_dir)


@pytest.mark.parametrize(('device', 'ordinal'), [('cuda:0', 1), ('cuda:1', 0), ('', 0)])
def test_the_gpu_that_was_named_is_built_for_and_runs(
    model_dir, fake_gpu, monkeypatch, device, ordinal
):
    """CUDA counts the fastest first, nvidia-smi by the slot."""
    import fake_cuda

    fast, slow = (fake_cuda.gpu(f'GPU {bus}', bus=bus, multiprocessors=50 * bus) for bus in (2, 1))
    monkeypatch.setenv('FAKE_GPUS', f'{fast};{slow}')
    manifest, options = load_manifest(model_dir), TensorRtOptions(build_missing=False)
    arguments = options, lambda _: None, Loading()
    result = build_engine(model_dir, manifest, *arguments, device=device)
    assert result.sidecar.key.gpu == ('GPU 2', 'GPU 1')[ordinal]
    assert json.loads(result.path.read_bytes().splitlines()[1])['gpu'] == ordinal
    assert fake_gpu.cuda.retained(0) == fake_gpu.cuda.retained(1) == 0
    engine = open_tensorrt(model_dir, manifest, options, Loading(), device)
    assert fake_gpu.cuda.retained(ordinal) == 1 and fake_gpu.cuda.retained(1 - ordinal) == 0
    engine.run(frame_inputs(manifest))
    engine.close()
    other = 'cuda:1' if ordinal else 'cuda:0'
    with pytest.raises(EngineError, match=f'stale, gpu: .* --device {other}'):
        open_tensorrt(model_dir, manifest, options, Loading(), other)
