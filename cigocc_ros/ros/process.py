"""Run one node as a process: exit codes, shutdown, and shared memory that dead ones left.

Fast DDS keeps segments in /dev/shm: a node that is killed leaves 70 MB. A process holds the lock
of `fastrtps_ID_el` as long as it owns the segment `fastrtps_ID`; the kernel takes it back.
Removing those nobody owns is what `fastdds shm clean` does, for machines without that tool.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import rclpy
import rclpy.logging
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions, install_signal_handlers
from rclpy.utilities import ok, remove_ros_args

from cigocc_ros.core.dds import SHARED_MEMORY
from cigocc_ros.core.errors import CigoccError, ConfigError, system_error
from cigocc_ros.core.ros_environment import (
    domain_trouble,
    explained,
    rmw_trouble,
    security_trouble,
)

LOCK_NAME = re.compile(r'((?:fastrtps|fastdds)_[0-9a-f]{16})_el')  # Fast DDS 2, 3
MIN_AGE_S = 60.0
"""A younger one may belong to a process that has not locked it yet."""


def remove_orphans(folder: Path = SHARED_MEMORY, min_age_s: float = MIN_AGE_S) -> int:
    """Remove segments of this user that nobody owns any more; return their bytes."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return 0  # no shared memory here: nothing to remove
    found = [match for match in map(LOCK_NAME.fullmatch, names) if match is not None]
    return sum(_removed(folder / match[1], folder / match[0], min_age_s) for match in found)


def _removed(segment: Path, lock: Path, min_age_s: float) -> int:
    """Remove a segment and its lock where it is an orphan; return its bytes, else 0."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return 0  # gone, or of another user
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or time.time() - status.st_mtime < min_age_s:
            return 0
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        size = segment.lstat().st_size if segment.exists() else 0
        segment.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)
        return size
    except OSError:
        return 0  # BlockingIOError: its process lives
    finally:
        os.close(descriptor)


AnyNode = TypeVar('AnyNode', bound=Node)


def run_node(
    name: str,
    args: list[str] | None,
    make: Callable[[], AnyNode],
    spin: Callable[[AnyNode, SingleThreadedExecutor], int],
) -> int:
    """Make a node and spin it until SIGINT or SIGTERM (0) or until `spin` returns its code.

    What a user can mend ends with one line and 1, without a traceback.
    """
    executor: SingleThreadedExecutor | None = None
    node: AnyNode | None = None
    try:
        _initialise(args)
        executor = SingleThreadedExecutor()
        # rclpy's handler ends the context, and with it the spinning. A KeyboardInterrupt on top
        # would strike anywhere: launch sends a second SIGINT while the first is being obeyed.
        signal.signal(signal.SIGINT, _no_interrupt)
        install_signal_handlers(SignalHandlerOptions.ALL)
        node = make()
        executor.add_node(node)
        return spin(node, executor)
    except ExternalShutdownException:
        return 0
    except (CigoccError, ParameterException, ImportError, OSError) as error:
        said = system_error(error) if isinstance(error, OSError) else str(error)
        rclpy.logging.get_logger(name).fatal(said)
        return 1
    except Exception as error:
        if not ok():
            return 0  # the context ended while the node was being made
        if not _is_of_the_middleware(error):
            raise
        rclpy.logging.get_logger(name).fatal(explained(str(error)))
        return 1
    finally:
        if node is not None:
            node.destroy_node()
        if executor is not None:
            executor.shutdown()
        if ok():
            rclpy.shutdown()
        # rclpy gave the handlers back, and Python resets its own ones before it is gone
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def wants_help(args: list[str] | None) -> bool:
    """Say whether the command line, without what is ROS's, asks for help instead of a node."""
    try:
        given = remove_ros_args(sys.argv if args is None else args)
    except RuntimeError:  # arguments that ROS cannot read: rclpy.init will say so, with the cure
        return False
    return bool({'-h', '--help'} & set(given))


def _initialise(args: list[str] | None) -> None:
    """Start rclpy; raise ConfigError, with the cure, for what it cannot start with."""
    for look in (domain_trouble, rmw_trouble, security_trouble):  # rcl would say less, or nothing
        trouble = look(os.environ)
        if trouble is not None:
            raise ConfigError(str(trouble))
    try:
        # an executor that a signal interrupts while it is made complains at the end of Python
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:
        raise ConfigError(f'ROS does not start: {explained(str(error))}') from error


def _is_of_the_middleware(error: Exception) -> bool:
    """Say whether rclpy's C part raised it, as for a security enclave that is missing."""
    return isinstance(error, RuntimeError) and type(error).__module__.startswith('rclpy')


def without_hung_threads(code: int) -> int:
    """Return `code`, or end the process at once with 1 where a thread hangs in native code.

    Such a thread would wake up among libraries that the ending interpreter takes down.
    """
    if all(thread is threading.main_thread() for thread in threading.enumerate()):
        return code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 1)


def _no_interrupt(_signal: int, _frame: Any) -> None:
    """Do nothing."""
