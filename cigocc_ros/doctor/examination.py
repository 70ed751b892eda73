"""Every check in the order in which to fix what it finds; importable without rclpy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cigocc_ros.core.frames import LIDAR_FRAME
from cigocc_ros.core.installed import DEFAULT_MODEL
from cigocc_ros.core.ros_environment import troubles
from cigocc_ros.doctor.dds import DEFAULT_SEGMENT_BYTES, check_segment, check_shared_memory
from cigocc_ros.doctor.finding import Finding, fail, ok
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
from cigocc_ros.runtime.engine import AUTO
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions, engine_folder

if TYPE_CHECKING:
    from cigocc_ros.doctor.observation import Observation

NODE, IMAGE, CAMERA_INFO = 'occ', 'image', 'camera_info'
OBSERVED_S = 3.0


@dataclass(frozen=True)
class Question:
    """What to look at. Topics and frame are those of a node that does not run yet.

    seconds: how long to watch; live: whether to look at the running system at all.
    """

    model: str = DEFAULT_MODEL
    backend: str = AUTO
    device: str = AUTO_DEVICE
    engine_dir: str = ''
    node: str = NODE
    image: str = IMAGE
    camera_info: str = CAMERA_INFO
    output_frame: str = LIDAR_FRAME
    seconds: float = OBSERVED_S
    live: bool = True

    @property
    def is_named(self) -> bool:
        """Whether the user named node or topics, so that they must be there."""
        return (self.node, self.image, self.camera_info) != (NODE, IMAGE, CAMERA_INFO)


def examine(question: Question) -> list[Finding]:
    """Return what there is to say of this machine and, where it is wanted, of what runs."""
    return [*machine_findings(question), *ros_findings(question)]


def machine_findings(question: Question) -> list[Finding]:
    """Check everything that needs no ROS."""
    backend = check_backend(question.backend)
    findings = [check_python(), *([backend] if backend else []), check_opencv()]
    gpu_finding, gpu = check_gpu(question.backend, device=question.device)
    tensorrt_finding, library = check_tensorrt(question.backend)
    model_finding, model = check_model(question.model)
    findings += [gpu_finding, tensorrt_finding, model_finding]
    if gpu is not None and library is None:
        findings.append(check_gpu_without_tensorrt(question.device))
    options = TensorRtOptions(engine_dir=question.engine_dir)
    place = Path.cwd()
    if model is not None:
        place = engine_folder(options, model[0])
        findings.append(check_engine_cache(*model, options, Accelerator(library, gpu)))
    if library is not None:
        findings.append(check_writable(place))
    return [*findings, check_disk(place)]


def ros_findings(question: Question) -> list[Finding]:
    """Check the ROS installation and, where there is one, the running system."""
    broken = list(check_environment())
    if broken:
        return [*broken, ok('running system', 'not looked at: ROS does not start so')]
    findings, rmw = check_rclpy()
    if not rmw:
        return [*findings, ok('running system', 'neither it nor DDS was looked at: no ROS')]
    findings += [check_segment(rmw), check_shared_memory(), check_tf2(), check_cv_bridge()]
    if not question.live:
        return [*findings, ok('running system', 'not looked at, as asked')]
    return [*findings, *check_live(question)]


def check_environment() -> Iterator[Finding]:
    """Yield what a node could not start with in this shell."""
    for trouble in troubles():
        yield fail(trouble.check, trouble.found, trouble.expected, trouble.cure)


def check_live(question: Question, **more: object) -> list[Finding]:
    """Watch the system and return what is to be said of it; `more` goes to Request."""
    from cigocc_ros.doctor.graph_checks import check_node
    from cigocc_ros.doctor.observation import COMPRESSED_TYPE, IMAGE_TYPE
    from cigocc_ros.doctor.observer import Observer, Request

    request = Request(
        node=question.node,
        image=question.image,
        camera_info=question.camera_info,
        output_frame=question.output_frame,
        seconds=question.seconds,
        **more,  # type: ignore[arg-type]
    )
    with closing(Observer(request)) as observer:
        seen = observer.observe()
    kinds = {IMAGE_TYPE, COMPRESSED_TYPE}
    cameras = [name for name, found in seen.all_topics.items() if kinds & set(found)]
    if not (seen.node or question.is_named or cameras):
        return [check_node(seen), ok('running system', 'nor any camera: nothing to look at')]
    return judge(seen)


def judge(seen: Observation) -> list[Finding]:
    """Return the findings of an observation."""
    from cigocc_ros.doctor import camera_checks, graph_checks
    from cigocc_ros.doctor.observation import INFO_TYPE

    findings = [graph_checks.check_node(seen), *graph_checks.check_report(seen)]
    findings += graph_checks.check_input(seen.image, graph_checks.image_kinds(seen), seen)
    findings += graph_checks.check_input(seen.info, (INFO_TYPE,), seen)
    findings += graph_checks.check_optional(seen)
    for view, heard in ((seen.image, seen.images), (seen.info, seen.infos)):
        if view.publishers:
            findings.append(camera_checks.check_stream(view, heard, seen.duration_s))
    if seen.images.last is not None:
        size_bytes = len(seen.images.last.data)
        findings += graph_checks.check_reliability(seen.image, size_bytes, DEFAULT_SEGMENT_BYTES)
    findings += camera_checks.check_camera(seen)
    findings += [camera_checks.check_pose(seen), *graph_checks.check_outputs(seen)]
    return findings
