"""`cigocc doctor`: what is wrong here, and which command mends it."""

from __future__ import annotations

import argparse
import json
from collections import Counter

from cigocc_ros.core.frames import LIDAR_FRAME
from cigocc_ros.core.installed import DEFAULT_MODEL
from cigocc_ros.doctor.examination import (
    CAMERA_INFO,
    IMAGE,
    NODE,
    OBSERVED_S,
    Question,
    examine,
)
from cigocc_ros.doctor.finding import FAIL, OK, WARN, as_mappings, failed
from cigocc_ros.runtime.devices import AUTO_DEVICE
from cigocc_ros.runtime.engine import AUTO, BACKENDS

HELP = 'check installation, model, and a running system; say what mends each finding'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        '--model', default=DEFAULT_MODEL, help='shipped name or folder (default %(default)s)'
    )
    parser.add_argument(
        '--backend', choices=BACKENDS, default=AUTO, help='what the node will use (%(default)s)'
    )
    parser.add_argument(
        '--device', default=AUTO_DEVICE, help='as device of the node (default %(default)s)'
    )
    parser.add_argument('--engine-dir', default='', help='as tensorrt.engine_dir of the node')
    parser.add_argument(
        '--node',
        default=NODE,
        help='name of the node, /NAMESPACE/NAME where there are several (default %(default)s)',
    )
    parser.add_argument('--image', default=IMAGE, help='topic, for a node that does not run yet')
    parser.add_argument('--camera-info', default=CAMERA_INFO, help='likewise')
    parser.add_argument('--output-frame', default=LIDAR_FRAME, help='likewise (%(default)s)')
    parser.add_argument(
        '--seconds', type=float, default=OBSERVED_S, help='how long to watch (%(default)s)'
    )
    parser.add_argument(
        '--no-live', action='store_true', help='leave the running system and the graph alone'
    )
    parser.add_argument('--json', action='store_true', help='print a list of findings as JSON')


def run(args: argparse.Namespace) -> int:
    """Print one line for each finding; return 1 where any says FAIL, else 0."""
    question = Question(
        model=args.model,
        backend=args.backend,
        device=args.device,
        engine_dir=args.engine_dir,
        node=args.node,
        image=args.image,
        camera_info=args.camera_info,
        output_frame=args.output_frame,
        seconds=args.seconds,
        live=not args.no_live,
    )
    findings = examine(question)
    if args.json:
        print(json.dumps(as_mappings(findings), indent=2))
    else:
        for finding in findings:
            print(finding)
        counts = Counter(finding.status for finding in findings)
        print(', '.join(f'{counts[status]} {status}' for status in (OK, WARN, FAIL)))
    return int(failed(findings))
