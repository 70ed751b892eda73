"""Start the nodes as processes, the way launch would, and never leave one behind."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType

from cigocc_ros.core.dds import DDS_PROFILE, HIGHEST_DOMAIN, PROFILE_VARIABLES
from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.installed import PACKAGE, config_dir, share_dir

FIRST_PORT, PORTS_PER_DOMAIN = 7400, 250
"""Ports of a DDS domain: PB and DG of the RTPS 2.5 specification, 9.6.2.3."""
UDP_TABLES = (Path('/proc/net/udp'), Path('/proc/net/udp6'))
ROS_PREFIXES = (
    'ROS_',
    'RMW_',
    'RCL_',
    'RCUTILS_',
    'FASTDDS_',
    'FASTRTPS_',
    'CYCLONEDDS_',
    'ZENOH_',
    'CONNEXT',
    'NDDS',
)
"""Of the variables that rcl, rmw_* and their libraries read."""
WHICH_ROS = (
    'ROS_DISTRO',
    'ROS_VERSION',
    'ROS_PYTHON_VERSION',
    'ROS_LOG_DIR',
    'ROS_HOME',
    'ROS_PYTHON_CHECK_FIELDS',
)
STOPS_WITHIN_S = 10.0
LOG_LINES_SHOWN = 15
LOG_LEVEL = 'info'
PR_SET_PDEATHSIG = 1
# loaded before the fork: a child between fork and exec should load nothing
_LIBC = ctypes.CDLL(None) if sys.platform == 'linux' else None


def executable(name: str) -> Path:
    """Return an executable of the package: scripts/NAME of a source tree, lib/cigocc_ros/NAME."""
    share = share_dir()
    places = [share / 'scripts' / name, share.parents[1] / 'lib' / PACKAGE / name]
    for place in places:
        if place.is_file():
            return place
    raise EngineError(f'no executable {name} in {[str(place) for place in places]}: reinstall')


def node_command(
    name: str,
    node: str,
    parameters: Sequence[Mapping[str, object] | Path],
    remappings: Mapping[str, str],
) -> list[str]:
    """Return the command line that launch starts for Node(executable=name, name=node, ...)."""
    words = [str(executable(name)), '--ros-args', '--log-level', LOG_LEVEL]
    words += ['--ros-args', '-r', f'__node:={node}', '-r', '__ns:=/']
    for given in parameters:
        if isinstance(given, Path):
            words += ['--params-file', str(given)]
        else:
            words += [word for item in given.items() for word in ('-p', _assigned(*item))]
    for old, new in remappings.items():
        words += ['-r', f'{old}:={new}']
    return words


def _assigned(name: str, value: object) -> str:
    if isinstance(value, bool):
        return f'{name}:={str(value).lower()}'
    return f'{name}:={value}' if value != '' else f"{name}:=''"  # ROS takes no empty word


def ros_environment(domain_id: int | None = None, log_dir: Path | None = None) -> dict[str, str]:
    """Return the environment of children: this Python, this package, this host, a free domain.

    Nothing that a shell says about ROS is kept but which one it is: a discovery server, static
    peers, another middleware or security would keep the children from each other. log_dir: where
    they write ROS logs, for a home may be read-only.
    """
    domain = free_domain() if domain_id is None else domain_id
    profile = str(config_dir() / DDS_PROFILE)
    kept = {name: value for name, value in os.environ.items() if not _is_of_ros(name)}
    logs = {} if log_dir is None else {'ROS_LOG_DIR': str(log_dir)}
    # Humble knows only the first; later ones warn of it
    alone = 'ROS_LOCALHOST_ONLY' if os.environ.get('ROS_DISTRO') == 'humble' else ''
    return {
        **kept,
        **logs,
        'PATH': _joined(Path(sys.executable).parent, 'PATH'),
        'PYTHONPATH': _joined(Path(__file__).resolve().parents[2], 'PYTHONPATH'),
        'PYTHONUNBUFFERED': '1',
        'AMENT_PREFIX_PATH': _joined(Path(sys.prefix), 'AMENT_PREFIX_PATH'),
        **dict.fromkeys(PROFILE_VARIABLES, profile),
        **({alone: '1'} if alone else {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}),
        'ROS_DOMAIN_ID': str(domain),
    }


def _is_of_ros(name: str) -> bool:
    """Say whether a variable tells ROS or its middleware how to speak."""
    return name.startswith(ROS_PREFIXES) and name not in WHICH_ROS


def free_domain(tables: Sequence[Path] = UDP_TABLES) -> int:
    """Return a domain, at random, in which nobody on this host listens; never 0, the default.

    Where Linux does not list the sockets, or every domain is taken, it is any of them.
    """
    ports = {port for table in tables if table.exists() for port in _local_ports(table)}
    taken = {(port - FIRST_PORT) // PORTS_PER_DOMAIN for port in ports}
    domains = range(1, HIGHEST_DOMAIN + 1)
    return random.choice([one for one in domains if one not in taken] or domains)


def _local_ports(table: Path) -> list[int]:
    """Return the local ports of a table of sockets as Linux writes it: `n: ADDRESS:PORT ...`."""
    lines = table.read_text().splitlines()[1:]
    return [int(line.split()[1].rpartition(':')[2], 16) for line in lines]


def _joined(first: Path, variable: str) -> str:
    return os.pathsep.join(filter(None, [str(first), os.environ.get(variable)]))


class Processes:
    """Children in sessions of their own; all of them end with the `with` block."""

    def __init__(self, log_dir: Path, environment: Mapping[str, str]) -> None:
        """Take the folder of their logs, NAME.log each, and their environment."""
        log_dir.mkdir(parents=True, exist_ok=True)
        self._log_dir, self._environment = log_dir, dict(environment)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Processes:
        """Return self."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop whatever still runs, the latest first; a second Ctrl-C kills at once."""
        try:
            for name in reversed(list(self._running)):
                self.stop(name)
        finally:
            for child in self._running.values():
                _signal_group(child, signal.SIGKILL)

    def start(self, name: str, words: Sequence[str]) -> None:
        """Start a process under a name that is free; it ends with this one, however that ends.

        From the main thread: Linux takes the end of the thread that forked for that of the parent.
        """
        with self.log(name).open('ab') as stream, _signals_later():
            self._running[name] = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
                preexec_fn=partial(_become_child, os.getpid()),
            )

    def log(self, name: str) -> Path:
        """Return the file with the output of a process."""
        return self._log_dir / f'{name}.log'

    def pid(self, name: str) -> int:
        """Return the id of a running process, to look at it with the tools of the system."""
        return self._running[name].pid

    def ended(self, name: str) -> bool:
        """Say whether a process is over with 0; raise EngineError where it failed."""
        code = self._running[name].poll()
        if code:
            raise EngineError(f'{name} ended with {code}; the end of {self._tail(name)}')
        return code is not None

    def check(self, *names: str) -> None:
        """Raise EngineError unless these processes are alive."""
        for name in names:
            if self.ended(name):
                raise EngineError(f'{name} ended too early; the end of {self._tail(name)}')

    def stop(self, name: str) -> int:
        """End a process group by SIGINT, by SIGKILL where that does not help; return its code."""
        child = self._running[name]
        if child.poll() is None:
            _signal_group(child, signal.SIGINT)
            deadline = time.monotonic() + STOPS_WITHIN_S
            while child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
        _signal_group(child, signal.SIGKILL)
        del self._running[name]
        return child.wait()

    def _tail(self, name: str) -> str:
        lines = self.log(name).read_text(errors='replace').splitlines()[-LOG_LINES_SHOWN:]
        return '\n  '.join([f'{self.log(name)}:', *lines])


@contextmanager
def _signals_later() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back: within Popen they would lose a child that has begun."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda which, _: came.append(which))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for which in came:
            signal.raise_signal(which)


def _become_child(parent: int) -> None:
    """Hear SIGINT, which a shell ignores for what it runs in the background; die with the parent.

    SIGTERM, for the nodes end well by it.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        return  # the whole group is gone
