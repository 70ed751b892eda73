"""Run one node as a process: exit codes and shutdown."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TypeVar

import rclpy
import rclpy.logging
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.utilities import ok

from cigocc_ros.core.errors import CigoccError

AnyNode = TypeVar('AnyNode', bound=Node)


def run_node(
    name: str,
    args: list[str] | None,
    make: Callable[[], AnyNode],
    spin: Callable[[AnyNode], int],
) -> int:
    """Make a node and spin it until SIGINT or SIGTERM (0) or until `spin` returns its code.

    What a user can mend ends with one line and 1, without a traceback.
    """
    rclpy.init(args=args)
    node: AnyNode | None = None
    try:
        node = make()
        return spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    except (CigoccError, ParameterException, ImportError, OSError) as error:
        rclpy.logging.get_logger(name).fatal(str(error))
        return 1
    finally:
        # a launch system may send a second SIGINT while the first is being obeyed
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            node.destroy_node()
        if ok():
            rclpy.shutdown()
