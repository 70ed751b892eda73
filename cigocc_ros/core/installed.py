"""What is installed: where configs and models lie, and which code runs.

The folder is the source tree, or share/cigocc_ros once installed.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sysconfig
from pathlib import Path

from cigocc_ros.core.errors import ConfigError

PACKAGE = 'cigocc_ros'
DEFAULT_MODEL = 'mid'
"""Name of a shipped model and of its config: what runs, or is trained, unless told otherwise."""


def _candidates() -> list[Path]:
    """Return the places to look, first match wins."""
    package = Path(__file__).resolve().parents[1]
    ament = os.environ.get('AMENT_PREFIX_PATH', '')
    prefixes = [Path(prefix) for prefix in ament.split(os.pathsep) if prefix]
    # <prefix>/lib/pythonX.Y/site-packages/cigocc_ros (pip, colcon) -> <prefix>
    prefixes += [Path(sysconfig.get_path('data')), *package.parents[2:6]]
    return [package.parent, *(prefix / 'share' / PACKAGE for prefix in prefixes)]


def share_dir() -> Path:
    """Return the folder that holds config/ and models/; raise ConfigError where there is none."""
    candidates = _candidates()
    for candidate in candidates:
        if (candidate / 'package.xml').is_file() and (candidate / 'config').is_dir():
            return candidate
    looked = ', '.join(str(candidate) for candidate in candidates)
    raise ConfigError(f'no share folder of {PACKAGE} (package.xml, config/) found in: {looked}')


def config_dir() -> Path:
    """Return the folder of the configs."""
    return share_dir() / 'config'


def config_file(kind: str, name_or_path: str | Path) -> Path:
    """Return config/<kind>/<name>.yaml or a YAML file by its path; ConfigError without it."""
    path, folder = Path(name_or_path), config_dir() / kind
    if path.suffix != '.yaml':
        path = folder / f'{name_or_path}.yaml'
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob('*.yaml'))
        raise ConfigError(
            f'no {kind} config {str(name_or_path)!r}; known: {known}, or give a path'
        )
    return path


def models_dir() -> Path:
    """Return the folder of the shipped models."""
    return share_dir() / 'models'


@functools.cache
def code_commit() -> str | None:
    """Return the git commit of the source tree, '+' where it has changes; None without git.

    What is found first is kept: it is what the process has loaded.
    """
    package = Path(__file__).resolve().parents[1]
    try:
        commit, changes = (
            subprocess.run(
                ['git', '-C', str(package), *arguments],
                capture_output=True,
                check=True,
                text=True,
                timeout=10,
            ).stdout.strip()
            for arguments in (['rev-parse', 'HEAD'], ['status', '--porcelain', '-uno', '.'])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ('+' if changes else '')
