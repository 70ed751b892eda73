"""`cigocc doctor`: what is wrong here, and which command mends it."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from cigocc_ros.core.frames import LIDAR_FRAME
from cigocc_ros.core.installed import DEFAULT_MODEL
from cigocc_ros.doctor.dds import check_segment, check_shared_memory
from cigocc_ros.doctor.finding import FAIL, OK, WARN, Finding, as_mappings, failed, ok
from cigocc_ros.doctor.gpu import (
    Accelerator,
    check_gpu,
    check_gpu_without_tensorrt,
    check_tensorrt,
)
from cigocc_ros.doctor.installation import check_cv_bridge, check_rclpy, check_tf2
from cigocc_ros.doctor.machine import (
    check_backend,
    check_disk,
    check_opencv,
    check_python,
    check_writable,
)
from cigocc_ros.doctor.models import check_engine_cache, check_model
from cigocc_ros.runtime.devices import AUTO_DEVICE
from cigocc_ros.runtime.engine import AUTO, BACKENDS
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions, engine_folder

HELP = 'check installation, model, and a running system; say what mends each finding'
NODE, IMAGE, CAMERA_INFO = 'occ', 'image', 'camera_info'
OBSERVED_S = 3.0


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
    findings = [*machine_findings(args), *ros_findings(args)]
    if args.json:
        print(json.dumps(as_mappings(findings), indent=2))
    else:
        for finding in findings:
            print(finding)
        counts = Counter(finding.status for finding in findings)
        print(', '.join(f'{counts[status]} {status}' for status in (OK, WARN, FAIL)))
    return int(failed(findings))


def machine_findings(args: argparse.Namespace) -> list[Finding]:
    """Check everything that needs no ROS."""
    backend = check_backend(args.backend)
    findings = [check_python(), *([backend] if backend else []), check_opencv()]
    gpu_finding, gpu = check_gpu(args.backend, device=args.device)
    tensorrt_finding, library = check_tensorrt(args.backend)
    model_finding, model = check_model(args.model)
    findings += [gpu_finding, tensorrt_finding, model_finding]
    if gpu is not None and library is None:
        findings.append(check_gpu_without_tensorrt(args.device))
    options = TensorRtOptions(engine_dir=args.engine_dir)
    place = Path.cwd()
    if model is not None:
        place = engine_folder(options, model[0])
        findings.append(check_engine_cache(*model, options, Accelerator(library, gpu)))
    if library is not None:
        findings.append(check_writable(place))
    return [*findings, check_disk(place)]


def ros_findings(args: argparse.Namespace) -> list[Finding]:
    """Check the ROS installation and, where there is one, the running system."""
    findings, rmw = check_rclpy()
    if not rmw:
        return [*findings, ok('running system', 'neither it nor DDS was looked at: no ROS')]
    findings += [check_segment(rmw), check_shared_memory(), check_tf2(), check_cv_bridge()]
    if args.no_live:
        return [*findings, ok('running system', 'not looked at, as asked')]
    from cigocc_ros.doctor.live import check_live
    from cigocc_ros.doctor.observer import Request

    request = Request(
        node=args.node,
        image=args.image,
        camera_info=args.camera_info,
        output_frame=args.output_frame,
        seconds=args.seconds,
        named=(args.node, args.image, args.camera_info) != (NODE, IMAGE, CAMERA_INFO),
    )
    return [*findings, *check_live(request)]
