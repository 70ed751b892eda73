"""TensorRT-RTX of `make rtx`: real parsers and builders for the tests, each in its own process."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def rtx_versions() -> list[str]:
    """Return the versions that the Makefile installs, the one like TensorRT 10 first."""
    text = (REPOSITORY / 'Makefile').read_text()
    return re.search(r'^RTX_VERSIONS := (.+)$', text, re.MULTILINE).group(1).split()


def rtx_python(version: str) -> Path:
    """Return the interpreter that has this version; skip the test where it is not installed."""
    folder = REPOSITORY / '.rtx' / version
    if not (folder / '.ready').is_file():
        pytest.skip(f'no TensorRT-RTX {version}: run "make rtx"')
    return folder / 'bin' / 'python'


def run_rtx(version: str, *arguments: str, timeout_s: float = 280) -> subprocess.CompletedProcess:
    """Run that interpreter with the sources of this repository."""
    environment = {**os.environ, 'PYTHONPATH': str(REPOSITORY)}
    command = [str(rtx_python(version)), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=timeout_s
    )


def gate(version: str, *targets: str | Path, timeout_s: float = 280) -> list[dict]:
    """Return the reports of the parser gate for files or model folders."""
    arguments = [str(target) for target in targets]
    module = ('-m', 'cigocc_ros.runtime.tensorrt.parser_gate')
    done = run_rtx(version, *module, '--json', *arguments, timeout_s=timeout_s)
    assert done.returncode in (0, 1), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
