"""Start a node of this package with the Python that it was installed for.

`ros2 run` and launch start the scripts beside this file with the first python3 on the PATH, which
is not that of a virtual environment in a shell that did not activate it. `cigocc`, which the
installer wrote, names the right one in its first line.
"""

import importlib
import os
import signal
import sys
from pathlib import Path

MARK = '_CIGOCC_PYTHON'


def installed_python(script: Path) -> str:
    """Return the Python that an installed `cigocc` names; empty where there is none."""
    # colcon: lib/cigocc_ros/cigocc beside the script; pip: bin/cigocc of the same prefix
    for place in (script.parent / 'cigocc', script.parents[2] / 'bin' / 'cigocc'):
        try:
            line = place.open('rb').readline(500)
        except OSError:
            continue
        python = line[2:].decode('utf-8', 'replace').strip()
        named = line.startswith(b'#!/') and 'python' in os.path.basename(python)
        if named and ' ' not in python and os.access(python, os.X_OK):
            return python
    return ''


def start(script: str, module: str) -> None:
    """Run `main` of a module of cigocc_ros.ros and end the process with what it returns."""
    path = Path(os.path.abspath(script))
    python = installed_python(path)
    elsewhere = os.path.dirname(python) != os.path.dirname(sys.executable)
    if python and elsewhere and os.environ.get(MARK) != python:
        os.environ[MARK] = python
        # ROS from wheels finds its libraries once for each Python
        os.environ.pop('_ROS_WHEELS_BOOTSTRAP_COMPLETE', None)
        os.execv(python, [python, str(path), *sys.argv[1:]])
    os.environ.pop(MARK, None)
    # While modules load there is nothing to clean up yet; the node then takes SIGINT over.
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    from cigocc_ros.core.ros_environment import rmw_trouble

    trouble = rmw_trouble(os.environ)
    if trouble is not None:  # to import rclpy would end the process
        sys.exit(f'[FATAL] {path.name}: {trouble}')
    sys.exit(importlib.import_module(f'cigocc_ros.ros.{module}').main())
