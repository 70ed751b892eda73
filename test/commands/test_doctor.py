"""`cigocc doctor` as a command: exit codes, JSON, no ROS."""

import json
import sys

import pytest
from fixtures_engine import build_golden_model_dir

from cigocc_ros.commands.main import main
from cigocc_ros.doctor.finding import FAIL, OK, WARN, fail, ok


@pytest.fixture
def model(tmp_path):
    return str(build_golden_model_dir(tmp_path / 'model'))


def test_a_usable_installation_is_0(model, capsys):
    assert main(['doctor', '--model', model, '--no-live']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line[:4].strip() in (OK, WARN) for line in lines[:-1])
    assert lines[-1].endswith('0 FAIL')


def test_a_damaged_model_is_1_and_the_findings_are_json(model, capsys):
    with open(f'{model}/model.onnx', 'ab') as stream:
        stream.write(b'more')
    assert main(['doctor', '--model', model, '--no-live', '--json']) == 1
    findings = {entry['check']: entry for entry in json.loads(capsys.readouterr().out)}
    broken = findings[f'model {model}']
    assert broken['status'] == FAIL and 'cigocc export' in broken['fix']
    assert findings['python']['status'] == OK


def test_without_ros_the_rest_is_checked(model, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'rclpy', None)
    assert main(['doctor', '--model', model]) == 0
    text = capsys.readouterr().out
    assert 'WARN  ros: rclpy cannot be imported' in text
    assert 'OK    python' in text and 'neither it nor DDS was looked at' in text
    assert 'topic' not in text


def test_the_running_system_is_looked_at_with_what_was_asked_for(model, capsys, monkeypatch):
    pytest.importorskip('rclpy')
    from cigocc_ros.doctor import examination

    asked = []
    monkeypatch.setattr(
        examination, 'check_live', lambda asks: asked.append(asks) or [ok('x', 'y')]
    )
    words = ['doctor', '--model', model, '--node', '/front/occ', '--seconds', '7']
    assert main(words) == 0
    assert (asked[0].node, asked[0].seconds, asked[0].is_named) == ('/front/occ', 7.0, True)
    assert 'OK    x: y' in capsys.readouterr().out
    monkeypatch.setattr(examination, 'check_live', lambda _: [fail('x', 'y', 'z', 'w')])
    assert main(words) == 1


def test_tensorrt_asked_for_and_absent_is_1(model, monkeypatch, capsys):
    for name in ('tensorrt', 'tensorrt_rtx'):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(['doctor', '--model', model, '--no-live', '--backend', 'tensorrt']) == 1
    assert 'FAIL  tensorrt' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('name', 'value', 'check', 'fix'),
    [
        ('ROS_DOMAIN_ID', 'abc', 'ros domain', 'ROS_DOMAIN_ID=42'),
        ('ROS_LOG_DIR', '/proc/logs', 'ros log', 'ROS_LOG_DIR='),
        ('RMW_IMPLEMENTATION', 'rmw_nothing', 'rmw', 'unset RMW_IMPLEMENTATION'),
    ],
)
def test_what_a_node_could_not_start_with(model, capsys, monkeypatch, name, value, check, fix):
    """The same that the nodes refuse; and the doctor does not stumble over it itself."""
    pytest.importorskip('rclpy')
    monkeypatch.setenv(name, value)
    assert main(['doctor', '--model', model, '--json']) == 1
    findings = {entry['check']: entry for entry in json.loads(capsys.readouterr().out)}
    assert findings[check]['status'] == FAIL and fix in findings[check]['fix']
    assert 'not looked at' in findings['running system']['found']
