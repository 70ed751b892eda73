"""Start the installed-like executables as processes of their own session, on their own domain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fixtures_ros import EXTRINSICS, domain_id

REPOSITORY = Path(__file__).resolve().parents[1]
ENDS_WITHIN_S = 60.0


def ros_environment() -> dict[str, str]:
    """Return the environment of a child that finds this package and only this host."""
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get('PYTHONPATH')]))
    return os.environ | {
        'PYTHONPATH': path,
        'ROS_DOMAIN_ID': str(domain_id()),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'OMP_NUM_THREADS': '1',
    }


def command(executable: str, parameters: dict[str, object], *more: str) -> list[str]:
    """Return the command line that launch would start."""
    words = [sys.executable, str(REPOSITORY / 'scripts' / executable), '--ros-args']
    for name, value in parameters.items():
        words += ['-p', f'{name}:={value}']
    return words + list(more)


def occ_command(model: Path) -> list[str]:
    """Return the command line of the node: shipped parameter file, then model and extrinsics."""
    words = command('occ_node', {'model': model, 'threads': 1, **EXTRINSICS})
    first = words.index('--ros-args') + 1
    words[first:first] = ['--params-file', str(REPOSITORY / 'config' / 'occ.param.yaml')]
    return words


@contextmanager
def process(
    words: list[str], output: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a session of its own, its output in a file; kill it in the end."""
    with output.open('wb') as stream:
        child = subprocess.Popen(
            words,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=ros_environment() | environment,
            start_new_session=True,
        )
        try:
            yield child
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def wait_for_line(output: Path, text: str, child: subprocess.Popen[bytes]) -> None:
    """Wait until the process has written `text`; fail where it ends before."""
    deadline = time.monotonic() + ENDS_WITHIN_S
    while text not in output.read_text(errors='replace'):
        assert child.poll() is None, f'ended with {child.returncode}: {output.read_text()}'
        assert time.monotonic() < deadline, f'no {text!r} in: {output.read_text()}'
        time.sleep(0.02)
