"""Run one node as a process: exit codes and shutdown."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import rclpy
import rclpy.logging
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions, install_signal_handlers
from rclpy.utilities import ok

from cigocc_ros.core.errors import CigoccError

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
    # an executor that a signal interrupts while it is made complains of it at the end of Python
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor()
    # rclpy's handler ends the context, and with it the spinning. A KeyboardInterrupt on top would
    # strike anywhere, for a launch system sends a second SIGINT while the first is being obeyed.
    signal.signal(signal.SIGINT, _no_interrupt)
    install_signal_handlers(SignalHandlerOptions.ALL)
    node: AnyNode | None = None
    try:
        node = make()
        executor.add_node(node)
        return spin(node, executor)
    except ExternalShutdownException:
        return 0
    except (CigoccError, ParameterException, ImportError, OSError) as error:
        rclpy.logging.get_logger(name).fatal(str(error))
        return 1
    except Exception:
        if ok():
            raise
        return 0  # the context ended while the node was being made
    finally:
        if node is not None:
            node.destroy_node()
        executor.shutdown()
        if ok():
            rclpy.shutdown()
        # rclpy gave the handlers back, and Python resets its own ones before it is gone
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


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
