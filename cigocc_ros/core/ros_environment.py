"""What the environment of a shell asks of ROS that ROS cannot give, and the cure.

The middleware ends with a traceback, or with the process, where a variable cannot be right. What
can be known before is told here, for the nodes and for `cigocc doctor`; needs no ROS.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cigocc_ros.core.dds import HIGHEST_DOMAIN

LAST_DOMAIN = 232
"""Above it DDS has no ports."""
DOMAIN_CURE = 'export ROS_DOMAIN_ID=42, the same in every shell'
LOG_CURE = 'export ROS_LOG_DIR=/tmp/ros_log, or another folder that can be written'
SECURITY_CURE = (
    'export ROS_SECURITY_KEYSTORE=FOLDER (ros2 security create_keystore FOLDER), or '
    'unset ROS_SECURITY_ENABLE'
)
RMW_CURE = 'unset RMW_IMPLEMENTATION, or sudo apt install ros-$ROS_DISTRO-PACKAGE with - for _'

# What rcl says -> what to do; the sentences are those of rcl and rcl_yaml_param_parser, Humble on.
_CURES = (
    ('log director|logging director', LOG_CURE),
    ('ROS_DOMAIN_ID|domain id', DOMAIN_CURE),
    ('SECURITY|[Ss]ecurity|keystore|enclave', SECURITY_CURE),
    ('Sequence should be of same type', 'write all numbers of the list alike: 0.0, not 0'),
    ('Error parsing a event', 'mend the YAML: spaces and no tabs in front, a blank behind each :'),
    ('ros__parameters', 'begin the file as config/occ.param.yaml does: /**: and ros__parameters:'),
    ('Error opening YAML', 'name a parameter file that is there'),
    ('parameter override rule', 'write -p NAME:=VALUE'),
    ('remap rule', 'write -r OLD:=NEW; names are letters, digits and _, topics also / and ~'),
    ('log level', 'write --log-level debug, info, warn, error or fatal'),
    (r"^\['-", 'it is no argument of ROS: behind --ros-args are -p, -r, --params-file, ...'),
    ('params file', 'compare with config/occ.param.yaml, which has every parameter'),
)
_SOURCE = re.compile(r', at [^,]*\.(?:c|cpp|h|hpp):\d+')


@dataclass(frozen=True)
class Trouble:
    """One variable that cannot be right."""

    check: str
    found: str
    expected: str
    cure: str

    def __str__(self) -> str:
        """Return it as one line."""
        return f'{self.found}: expected {self.expected}; {self.cure}'


def troubles(environment: Mapping[str, str] | None = None) -> Iterator[Trouble]:
    """Yield what no ROS program could start with, the worst first."""
    variables = os.environ if environment is None else environment
    for find in (domain_trouble, rmw_trouble, security_trouble, log_trouble):
        found = find(variables)
        if found is not None:
            yield found


def domain_trouble(variables: Mapping[str, str]) -> Trouble | None:
    """Look at ROS_DOMAIN_ID."""
    text = variables.get('ROS_DOMAIN_ID') or '0'
    if text.isascii() and text.isdigit() and int(text) <= LAST_DOMAIN:
        return None
    expected = f'a number from 0 to {HIGHEST_DOMAIN}'
    return Trouble('ros domain', f'ROS_DOMAIN_ID={text}', expected, DOMAIN_CURE)


def rmw_trouble(variables: Mapping[str, str]) -> Trouble | None:
    """Look at RMW_IMPLEMENTATION: without that library ROS ends the process."""
    wanted, installed = variables.get('RMW_IMPLEMENTATION', ''), _installed_rmws(variables)
    if not wanted or not installed or wanted in installed:
        return None
    expected = f'one of {", ".join(sorted(installed))}'
    return Trouble('rmw', f'RMW_IMPLEMENTATION={wanted} is not installed', expected, RMW_CURE)


def _installed_rmws(variables: Mapping[str, str]) -> set[str]:
    """Return the middlewares of the ament index; of this Python where no ROS is sourced."""
    prefixes = variables.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    folders = [Path(prefix) for prefix in prefixes if prefix] + [Path(sys.prefix)]
    index = 'share/ament_index/resource_index/rmw_typesupport'
    found = {one.name for folder in folders for one in (folder / index).glob('*')}
    return found - {'rmw_implementation'}  # what loads one of the others


def security_trouble(variables: Mapping[str, str]) -> Trouble | None:
    """Look at ROS_SECURITY_*: Enforce needs a keystore; Permissive starts without."""
    enforced = variables.get('ROS_SECURITY_STRATEGY', '') == 'Enforce'
    if variables.get('ROS_SECURITY_ENABLE', '').lower() != 'true' or not enforced:
        return None
    keystore = variables.get('ROS_SECURITY_KEYSTORE', '')
    if keystore and (Path(keystore) / 'enclaves').is_dir():
        return None
    found = f'ROS_SECURITY_KEYSTORE={keystore} has no enclaves' if keystore else 'no keystore'
    return Trouble('ros security', found, 'a keystore, for security is enforced', SECURITY_CURE)


def log_trouble(variables: Mapping[str, str]) -> Trouble | None:
    """Look at where rcl_logging_spdlog writes: ROS_LOG_DIR, ROS_HOME/log, HOME/.ros/log."""
    folder = variables.get('ROS_LOG_DIR', '')
    if not folder and variables.get('ROS_HOME'):
        folder = f'{variables["ROS_HOME"]}/log'
    if not folder and variables.get('HOME'):
        folder = f'{variables["HOME"]}/.ros/log'
    if not folder:
        return Trouble('ros log', 'HOME is not set', 'a folder for logs', LOG_CURE)
    if folder.startswith('~/') and variables.get('HOME'):
        folder = f'{variables["HOME"]}{folder[1:]}'
    if _takes_files(Path(os.path.abspath(folder))):
        return None
    return Trouble('ros log', f'{folder} cannot be written', 'a folder for logs', LOG_CURE)


def _takes_files(folder: Path) -> bool:
    """Try it: root may write everywhere but on what is read-only."""
    present = next(one for one in (folder, *folder.parents) if one.exists())
    try:
        with tempfile.TemporaryDirectory(prefix='cigocc_', dir=present):
            return True
    except OSError:
        return False


def explained(error: str) -> str:
    """Return what the middleware said as one line, with the cure where it is known."""
    line = _SOURCE.sub('', ' '.join(error.split()))
    cure = next((cure for pattern, cure in _CURES if re.search(pattern, error)), '')
    return f'{line}; {cure}' if cure else line
