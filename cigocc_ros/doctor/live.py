"""All checks of a running system."""

from __future__ import annotations

from contextlib import closing

from cigocc_ros.doctor.camera_checks import check_camera, check_pose, check_stream
from cigocc_ros.doctor.dds import DEFAULT_SEGMENT_BYTES
from cigocc_ros.doctor.finding import Finding, ok
from cigocc_ros.doctor.graph_checks import (
    check_input,
    check_node,
    check_optional,
    check_outputs,
    check_reliability,
    check_report,
    image_kinds,
)
from cigocc_ros.doctor.observation import (
    COMPRESSED_TYPE,
    IMAGE_TYPE,
    INFO_TYPE,
    Observation,
)
from cigocc_ros.doctor.observer import Observer, Request


def check_live(request: Request) -> list[Finding]:
    """Watch the system for `request.seconds` and return what is to be said of it."""
    with closing(Observer(request)) as observer:
        seen = observer.observe()
    if not seen.node and not request.named and not _cameras(seen):
        return [check_node(seen), ok('running system', 'nor any camera: nothing to look at')]
    return judge(seen)


def _cameras(seen: Observation) -> list[str]:
    """Return every topic with images."""
    kinds = {IMAGE_TYPE, COMPRESSED_TYPE}
    return [name for name, found in seen.all_topics.items() if kinds & set(found)]


def judge(seen: Observation) -> list[Finding]:
    """Return the findings of an observation, in the order in which to mend them."""
    findings = [check_node(seen), *check_report(seen)]
    findings += check_input(seen.image, image_kinds(seen), seen)
    findings += check_input(seen.info, (INFO_TYPE,), seen)
    findings += check_optional(seen)
    for view, heard in ((seen.image, seen.images), (seen.info, seen.infos)):
        if view.publishers:
            findings.append(check_stream(view, heard, seen.duration_s))
    if seen.images.last is not None:
        size_bytes = len(seen.images.last.data)
        findings += check_reliability(seen.image, size_bytes, DEFAULT_SEGMENT_BYTES)
    findings += check_camera(seen)
    findings += [check_pose(seen), *check_outputs(seen)]
    return findings
