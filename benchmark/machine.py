"""On what a measurement was made."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from cigocc_ros.core.installed import code_commit

PACKAGES = ('numpy', 'onnxruntime', 'openvino', 'torch', 'opencv-python-headless')
ROS_PACKAGES = ('ros-jazzy-rclpy', 'ros-rmw-fastrtps-cpp')
MEASURED = 'measurements'
"""Block of a page that a measurement writes, see core.markdown."""
QUIET_LOAD = 0.5
"""Processes that may run beside a measurement before it says so."""


def machine() -> dict[str, Any]:
    """Return hardware, versions, commit, and how busy others keep the machine, before the work."""
    return {
        'processor': _processor(),
        'cores': len(os.sched_getaffinity(0)),
        'memory_gb': round(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30, 1),
        'system': f'{platform.system()} {platform.machine()}',
        'python': platform.python_version(),
        'packages': _versions((*PACKAGES, *ROS_PACKAGES)),
        'commit': code_commit(),
        'date': datetime.now(timezone.utc).strftime('%Y-%m-%d'),
        'load_before': round(os.getloadavg()[0], 2),
    }


def machine_lines(found: dict[str, Any]) -> list[str]:
    """Return one Markdown paragraph."""
    packages = ', '.join(f'{name} {version}' for name, version in found['packages'].items())
    commit = (found['commit'] or 'not recorded')[:12]
    lines = [
        f'{found["processor"]}, {found["cores"]} cores, {found["memory_gb"]:g} GB; '
        f'{found["system"]}; Python {found["python"]}; {packages}; commit {commit}, '
        f'{found["date"]}; load average before: {found["load_before"]:g}.',
    ]
    if found['load_before'] > QUIET_LOAD:
        lines += ['', '**Other programs ran beside: times are longer than on a quiet machine.**']
    return lines


def _processor() -> str:
    lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.machine()


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of those that are installed."""
    installed = {}
    for name in names:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed
