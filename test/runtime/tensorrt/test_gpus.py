"""Which GPU is meant, where there are several."""

import pytest

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.runtime.tensorrt.gpus import find_gpu


@pytest.fixture
def several(fake_driver, monkeypatch):
    """CUDA counts the fastest first; the slots are the other way round."""
    import fake_cuda

    big = fake_cuda.gpu('NVIDIA RTX 6000', '8.9', 142, 98_304, 49_140, bus=0x41)
    small = [fake_cuda.gpu('NVIDIA RTX A2000', '8.6', 26, 3072, 12_282, bus) for bus in (5, 3)]
    monkeypatch.setenv('FAKE_GPUS', ';'.join([big, *small]))


def test_what_is_known_of_a_gpu(fake_driver):
    gpu = find_gpu()
    assert (gpu.name, gpu.compute_capability, gpu.cuda_driver) == ('Fake GPU', '8.7', '12.6')
    assert (gpu.multiprocessors, gpu.l2_cache_kib, gpu.memory_gib) == (16, 4096, 62)
    assert gpu.uuid == 'GPU-11a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf'
    assert str(gpu) == 'Fake GPU (8.7, 16 multiprocessors, 62 GiB)'


def test_jetsons_of_one_name_differ(fake_driver, monkeypatch):
    import fake_cuda

    monkeypatch.setenv('FAKE_GPUS', f'{fake_cuda.AGX_ORIN};{fake_cuda.ORIN_NANO}')
    agx, nano = find_gpu('0'), find_gpu('1')
    assert (agx.name, agx.compute_capability) == (nano.name, nano.compute_capability)
    assert agx.multiprocessors != nano.multiprocessors and agx.memory_gib != nano.memory_gib


@pytest.mark.parametrize(
    ('device', 'ordinal'),
    [
        ('', 0),
        ('0', 2),
        ('cuda:0', 2),
        ('1', 1),
        (' cuda:2 ', 0),
        ('GPU-13a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf', 2),
        ('gpu-15', 1),
    ],
)
def test_numbers_are_those_of_nvidia_smi(several, device, ordinal):
    """By PCI bus id; CUDA itself counts the fastest first (CUDA_DEVICE_ORDER of its manual)."""
    assert find_gpu(device).ordinal == ordinal


@pytest.mark.parametrize('device', ['3', 'cuda:7', 'GPU-99', 'GPU-1', 'cuda', '-1', 'Orin', '1.0'])
def test_an_unknown_gpu_is_an_error_that_lists_them(several, device):
    with pytest.raises(ConfigError, match=f'device {device!r}: expected') as said:
        find_gpu(device)
    assert 'cuda:0 GPU-13a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf NVIDIA RTX A2000' in str(said.value)
    assert 'cuda:2 GPU-51a1' in str(said.value) and 'CUDA_VISIBLE' not in str(said.value)


def test_hidden_gpus_are_mentioned(several, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1')
    with pytest.raises(ConfigError, match='CUDA_VISIBLE_DEVICES=0,1 hides the others'):
        find_gpu('3')


def test_a_slice_of_a_gpu_has_a_uuid_of_its_own_kind(fake_driver, monkeypatch):
    monkeypatch.setenv('FAKE_GPUS', 'NVIDIA A100-SXM4-40GB MIG 1g.5gb,8.0,14,5120,4864,7')
    gpu = find_gpu('MIG-17')
    assert gpu.uuid.startswith('MIG-17a1') and gpu.multiprocessors == 14
