"""Checks of the ROS installation and of the middleware's shared memory."""

import sys
from types import ModuleType

import pytest

from cigocc_ros.core.dds import PROFILE_VARIABLES
from cigocc_ros.doctor.dds import (
    DEFAULT_SEGMENT_BYTES,
    check_segment,
    check_shared_memory,
    segment_bytes,
    shipped_profile,
)
from cigocc_ros.doctor.finding import FAIL, OK, WARN
from cigocc_ros.doctor.installation import (
    check_cv_bridge,
    check_domain,
    check_messages,
    check_rclpy,
    check_tf2,
)

FAST_DDS = 'rmw_fastrtps_cpp'


def profile(path, size):
    path.write_text(
        f'<dds><transport_descriptor><segment_size>{size}</segment_size>'
        '</transport_descriptor></dds>'
    )
    return {PROFILE_VARIABLES[0]: str(path)}


def test_ros(monkeypatch):
    pytest.importorskip('rclpy')
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    findings, rmw = check_rclpy()
    assert {finding.status for finding in findings} == {OK} and rmw.startswith('rmw_')
    monkeypatch.setenv('ROS_DISTRO', 'foxy')
    assert [f.status for f in check_rclpy()[0] if f.check == 'ros distro'] == [WARN]


def test_without_ros_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, 'rclpy', None)
    findings, rmw = check_rclpy()
    assert [f.status for f in findings] == [WARN] and not rmw
    assert 'no check of ROS was made' in findings[0].found


def test_domains():
    assert check_domain({}).found == '0, discovery in the default range'
    local = {'ROS_DOMAIN_ID': '42', 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
    assert check_domain(local).found == '42, discovery in LOCALHOST'
    assert 'this host' in check_domain({'ROS_LOCALHOST_ONLY': '1'}).found
    assert check_domain({'ROS_DOMAIN_ID': '150'}).status == WARN
    for wrong in ('233', '-1', 'mine'):
        assert check_domain({'ROS_DOMAIN_ID': wrong}).status == FAIL


def test_messages():
    pytest.importorskip('sensor_msgs')
    assert check_messages().status == OK
    missing = check_messages(('sensor_msgs', 'nowhere_msgs'))
    assert missing.status == FAIL and 'nowhere_msgs' in missing.found


def test_tf2(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tf2_ros', ModuleType('tf2_ros'))
    assert check_tf2().status == OK
    monkeypatch.setitem(sys.modules, 'tf2_ros', None)
    assert check_tf2().status == WARN


class BuiltForNumpy1:
    """A finder that raises what apt's cv_bridge raises under numpy 2."""

    def find_spec(self, name, path=None, target=None):
        if name == 'cv_bridge':
            raise AttributeError('_ARRAY_API not found')


def test_cv_bridge(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv_bridge', ModuleType('cv_bridge'))
    assert check_cv_bridge().status == OK
    monkeypatch.delitem(sys.modules, 'cv_bridge')
    monkeypatch.setattr(sys, 'meta_path', [BuiltForNumpy1(), *sys.meta_path])
    broken = check_cv_bridge()
    assert broken.status == WARN and '_ARRAY_API' in broken.found and 'numpy' in broken.fix


def test_the_segment_of_the_profile_in_use(tmp_path):
    assert check_segment(FAST_DDS, {PROFILE_VARIABLES[1]: str(shipped_profile())}).status == OK
    assert check_segment('rmw_cyclonedds_cpp', {}).status == OK
    none = check_segment(FAST_DDS, {})
    assert none.status == WARN and '0.5 MB' in none.found and str(shipped_profile()) in none.fix
    small = check_segment(FAST_DDS, profile(tmp_path / 'small.xml', 4_000_000))
    assert small.status == WARN and '4.0 MB' in small.found
    assert (
        check_segment(FAST_DDS, {PROFILE_VARIABLES[0]: str(tmp_path / 'gone.xml')}).status == FAIL
    )
    assert check_segment(FAST_DDS, profile(tmp_path / 'bad.xml', 'many')).status == FAIL
    (tmp_path / 'text.xml').write_text('segment_size: 64')
    assert (
        check_segment(FAST_DDS, {PROFILE_VARIABLES[0]: str(tmp_path / 'text.xml')}).status == FAIL
    )


def test_the_shipped_profile_has_a_larger_segment_than_the_default(tmp_path):
    assert segment_bytes(shipped_profile()) > 100 * DEFAULT_SEGMENT_BYTES
    (tmp_path / 'empty.xml').write_text('<dds/>')
    assert segment_bytes(tmp_path / 'empty.xml') == DEFAULT_SEGMENT_BYTES


def test_shared_memory(tmp_path):
    assert check_shared_memory(tmp_path, 10**9).status == OK
    container = check_shared_memory(tmp_path, 64_000_000)
    assert container.status == WARN and 'shm-size' in container.fix
    assert check_shared_memory(tmp_path / 'none').status == OK
