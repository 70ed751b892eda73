"""The node as a process with an engine that fails: `fault_node.py hang|slow --ros-args ...`.

hang: the third frame never ends; slow: half a second a frame, 2 Hz.
"""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
from fixtures_tiny_model import TINY_CONFIG

from cigocc_ros.core.frames import CameraFrame, Occupancy
from cigocc_ros.ros import worker
from cigocc_ros.ros.node import NODE_NAME, OccNode, _spin
from cigocc_ros.ros.process import run_node, without_hung_threads
from cigocc_ros.runtime.contract import manifest_for

FRAME_S = 0.5
HANGS_AT = 3


class FaultyPredictor:
    """Answer one voxel, in the way that the fault wants."""

    def __init__(self, fault: str) -> None:
        self.engine = self
        self.name = f'faulty, {fault}'
        self.manifest = manifest_for(
            TINY_CONFIG, 'fake', license='Apache-2.0', files={}, training={}
        )
        self.grid = self.manifest.voxel_grid
        self._fault, self._frames = fault, 0

    def warm_up(self) -> None:
        pass

    def __call__(self, frame: CameraFrame) -> Occupancy:
        self._frames += 1
        if self._fault == 'hang' and self._frames == HANGS_AT:
            print('hanging', flush=True)
            threading.Event().wait()
        if self._fault == 'slow':
            time.sleep(FRAME_S)
        labels = np.zeros(self.grid.shape, np.uint8)
        labels[1, 2, 3] = 9
        return Occupancy(labels, labels, self.grid, frame.stamp_ns, frame.grid_frame_id)

    def close(self) -> None:
        pass


def main() -> int:
    """Run the node like scripts/occ_node."""
    fault = sys.argv.pop(1)
    worker.STOPS_WITHIN_S = 1.0  # the wait is the same, shorter

    def make() -> OccNode:
        return OccNode(lambda *_: FaultyPredictor(fault))

    return without_hung_threads(run_node(NODE_NAME, None, make, _spin))


if __name__ == '__main__':
    sys.exit(main())
