"""Judge who talks to whom: the node, its topics, their types and QoS."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible

from cigocc_ros.doctor.finding import Finding, fail, ok, warn
from cigocc_ros.doctor.observation import (
    COMPRESSED_TYPE,
    IMAGE_TYPE,
    INFO_TYPE,
    Endpoint,
    Observation,
    Report,
    TopicView,
)

LAUNCH = 'ros2 launch cigocc_ros occ.launch.py'
PRIORS = {
    'depth prior': 'depth that fits its image',
    'semantic prior': 'class ids of the pixels of its image',
}
"""What diagnostics call what is fed beside the image, and what it should be."""


def check_node(seen: Observation) -> Finding:
    """Check that the node runs."""
    if seen.namesakes:
        found = f'{seen.node} is looked at, {", ".join(seen.namesakes)} not'
        return warn('node', found, f'one node {seen.wanted}', f'cigocc doctor --node {seen.node}')
    if seen.node:
        return ok('node', f'{seen.node} runs')
    fix = f'{LAUNCH} image:={seen.image.name} camera_info:={seen.info.name}'
    found = f'no node {seen.wanted} in this domain: its topics are looked at without it'
    return warn('node', found, 'the node, on the same ROS_DOMAIN_ID', fix)


def check_report(seen: Observation) -> list[Finding]:
    """Repeat what the running node says on /diagnostics."""
    report = seen.report
    if not seen.node:
        return []
    if report.level is None:
        found = 'no /diagnostics from the node: it loads its model, or hangs'
        return [warn('node state', found, 'a report every second', f'look at its log; {LAUNCH}')]
    if report.level == DiagnosticStatus.OK[0]:
        return [ok('node state', report.message), *_unused_priors(report)]
    judge = warn if report.level == DiagnosticStatus.WARN[0] else fail
    last = report.values.get('last error', 'none')
    found = report.message if last == 'none' else f'{report.message} (last error: {last})'
    state = judge('node state', found, 'running', 'docs/troubleshooting.md')
    return [state, *_doubts(report), *_unused_priors(report)]


def _doubts(report: Report) -> Iterator[Finding]:
    """Repeat what the node uses though it may be wrong."""
    for key, text in report.values.items():
        name = key.removeprefix('doubt: ')
        if name != key:
            yield warn(f'doubt {name}', text, 'inputs that agree', 'docs/trust.md')


def _unused_priors(report: Report) -> Iterator[Finding]:
    """Say why depth or label images that are published are not used."""
    for key, count in report.values.items():
        for prior, expected in PRIORS.items():
            reason = key.removeprefix(f'{prior}: ')
            if reason != key:
                last = report.values.get('last error', '')
                found = f'{count} not used, {reason}'
                found += f' ({last})' if f'prior, {reason}:' in last else ''
                yield warn(prior, found, expected, 'docs/trust.md')


def check_input(view: TopicView, kinds: tuple[str, ...], seen: Observation) -> Iterator[Finding]:
    """Check that a needed input is published, in a type and QoS that the node takes."""
    check = f'topic {view.name}'
    publishers = [endpoint for endpoint in view.publishers if endpoint.kind in kinds]
    if not publishers:
        yield _unpublished(check, view, kinds, seen)
        return
    nodes = ', '.join(sorted({endpoint.node for endpoint in publishers}))
    yield ok(check, f'{kinds[0]} from {nodes}')
    if len(publishers) > 1:
        fix = f'give each its topic: {LAUNCH} image:=... camera_info:=...'
        yield warn(check, f'{len(publishers)} publishers: {nodes}', 'one', fix)
    mine = [endpoint for endpoint in view.subscriptions if endpoint.node == seen.node]
    yield from _incompatible(publishers, mine, check)


def _unpublished(
    check: str, view: TopicView, kinds: tuple[str, ...], seen: Observation
) -> Finding:
    """Say that nobody publishes, and which topics of that type there are."""
    others = sorted(name for name, found in seen.all_topics.items() if set(kinds) & set(found))
    there = f'{kinds[0]} is on {", ".join(others)}' if others else f'no {kinds[0]} anywhere'
    wrong = sorted({endpoint.kind for endpoint in view.publishers})
    found = f'published as {", ".join(wrong)}' if wrong else 'no publisher'
    if COMPRESSED_TYPE in wrong:
        fix = f'{LAUNCH} image_transport:=compressed image:=BASE_TOPIC'
    elif others:
        name = 'camera_info' if kinds[0] == INFO_TYPE else 'image'
        fix = f'{LAUNCH} {name}:={others[0]}'
    else:
        fix = 'start the camera driver; compare ROS_DOMAIN_ID and ROS_LOCALHOST_ONLY'
    return fail(check, f'{found}; {there}', f'a publisher of {kinds[0]}', fix)


def check_optional(seen: Observation) -> Iterator[Finding]:
    """Check type and QoS of right camera, depth and label images where they are published."""
    for view in seen.optional_inputs:
        check = f'topic {view.name}'
        if not view.publishers:
            other = f'{view.name}/compressedDepth'
            there = f', but {other} is' if other in seen.all_topics else ''
            yield ok(check, f'not published{there}; optional')
            continue
        yield ok(check, f'from {", ".join(sorted({e.node for e in view.publishers}))}')
        mine = [endpoint for endpoint in view.subscriptions if endpoint.node == seen.node]
        yield from _of_another_type(view, mine, check)
        yield from _incompatible(list(view.publishers), mine, check)


def _of_another_type(view: TopicView, mine: list[Endpoint], check: str) -> Iterator[Finding]:
    """Say that no publisher sends the type that the node listens to."""
    asked, sent = ({endpoint.kind for endpoint in each} for each in (mine, view.publishers))
    if asked and not asked & sent:
        found = f'published as {", ".join(sorted(sent))}: nothing arrives'
        fix = 'remap to the topic that carries it; docs/interface.md lists types'
        yield fail(check, found, ', '.join(sorted(asked)), fix)


def check_outputs(seen: Observation) -> Iterator[Finding]:
    """Check that whoever listens to the node can hear it."""
    heard = 0
    for view in seen.outputs:
        mine = [endpoint for endpoint in view.publishers if endpoint.node == seen.node]
        problems = list(_incompatible(mine, list(view.subscriptions), f'topic {view.name}'))
        heard += bool(view.subscriptions)
        yield from problems
    if seen.node:
        yield ok('outputs', f'{heard} of {len(seen.outputs)} topics have subscribers')


def _incompatible(
    publishers: list[Endpoint], subscriptions: list[Endpoint], check: str
) -> Iterator[Finding]:
    for publisher in publishers:
        for subscription in subscriptions:
            verdict, reason = qos_check_compatible(publisher.qos, subscription.qos)
            if verdict == QoSCompatibility.ERROR:
                found = (
                    f'{publisher.node} offers {qos_text(publisher.qos)}, {subscription.node} '
                    f'asks for {qos_text(subscription.qos)}: nothing arrives ({reason.strip()})'
                )
                fix = f'set the QoS of {subscription.node} to {qos_text(publisher.qos)}'
                yield fail(check, found, 'compatible QoS', fix)


def check_reliability(view: TopicView, message_bytes: int, limit_bytes: int) -> list[Finding]:
    """Warn of large best-effort messages, which get lost in a small segment."""
    best_effort = [
        endpoint.node
        for endpoint in view.publishers
        if endpoint.qos.reliability == ReliabilityPolicy.BEST_EFFORT
    ]
    if not best_effort or message_bytes <= limit_bytes:
        return []
    found = f'{best_effort[0]} sends {message_bytes / 1e6:.1f} MB as BEST_EFFORT'
    expected = f'RELIABLE above {limit_bytes / 1e6:.1f} MB, or the profile for large messages'
    fix = 'start the camera with FASTRTPS_DEFAULT_PROFILES_FILE=.../fastdds_large_messages.xml'
    return [warn(f'topic {view.name}', found, expected, fix)]


def image_kinds(seen: Observation) -> tuple[str, ...]:
    """Return the type that the image topic must have."""
    compressed = seen.image.name.endswith('/compressed')
    return (COMPRESSED_TYPE,) if compressed else (IMAGE_TYPE,)


def qos_text(qos: QoSProfile) -> str:
    """Return the two policies that matter, e.g. RELIABLE/VOLATILE."""
    return f'{qos.reliability.name}/{qos.durability.name}'
