"""Watch a running system for some seconds, as one more node of it; publish nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from cigocc_ros.core.errors import CigoccError
from cigocc_ros.doctor.graph_view import GraphView
from cigocc_ros.doctor.observation import (
    COMPRESSED_TYPE,
    Heard,
    Observation,
    Pose,
    Report,
    TopicView,
)
from cigocc_ros.ros.input.extrinsics import create_extrinsics
from cigocc_ros.ros.occ_parameters import OccParameters
from cigocc_ros.ros.parameters import from_values, specs

NAME = 'cigocc_doctor'
USE_SIM_TIME = 'use_sim_time'
OF_THE_NODES_MACHINE = 'semantic_classes'
"""May name a file that is not here."""
STEP_S = 0.05
REPORT_WITHIN_S = 4.0
"""Diagnostics come once a second; a node that is busy loading says less."""


@dataclass(frozen=True)
class Request:
    """What to look at. Topics and frame are those of a node that does not run yet."""

    node: str
    image: str
    camera_info: str
    output_frame: str
    seconds: float
    discovery_s: float = 3.0
    domain_id: int | None = None


class Observer:
    """A node, and the executor that spins it."""

    def __init__(self, request: Request) -> None:
        """Join the graph."""
        self._request = request
        self._context = Context()
        rclpy.init(context=self._context, domain_id=request.domain_id)
        self._node = Node(NAME, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._view = GraphView(self._node)
        self._reports: dict[str, Any] = {}
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def _spin(self, seconds: float, until: Callable[[], Any] = lambda: False) -> None:
        deadline = time.monotonic() + seconds
        while not until() and time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=STEP_S)

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            self._reports[status.name.partition(':')[0]] = status

    def observe(self) -> Observation:
        """Find the node, ask it, watch its inputs and outputs."""
        wanted = self._request.node
        self._spin(self._request.discovery_s, lambda: self._view.find(wanted))
        node, *namesakes = self._view.find(wanted) or ('',)
        report = self._report(node) if node else Report()
        image, info = self._topics(report)
        parameters = self._parameters(report)
        if report.parameters.get(USE_SIM_TIME):  # stamps are judged by the clock of the node
            self._node.set_parameters([Parameter(USE_SIM_TIME, value=True)])
        self._spin(self._request.discovery_s, lambda: self._view.published(image, info))
        images, infos, pose = self._watch(image, info, parameters)
        others = self._view.inputs(node, {image, info}) if node else ()
        return Observation(
            wanted=wanted,
            node=node,
            namesakes=tuple(namesakes),
            report=report,
            image=self._view.topic(image),
            info=self._view.topic(info),
            output_frame=parameters.output_frame,
            rectification=parameters.rectification,
            duration_s=self._request.seconds,
            optional_inputs=others,
            outputs=self._view.outputs(node) if node else (),
            all_topics=self._view.all_topics(),
            images=images,
            infos=infos,
            pose=pose,
            now_ns=self._node.get_clock().now().nanoseconds,
        )

    def _topics(self, report: Report) -> tuple[str, str]:
        """Return the topics of image and camera_info; the node knows them best."""
        resolve = self._node.resolve_topic_name
        image = report.values.get('image topic') or resolve(self._request.image)
        return image, report.values.get('camera_info topic') or resolve(self._request.camera_info)

    def _report(self, node: str) -> Report:
        parameters = self._ask_parameters(node)
        self._spin(REPORT_WITHIN_S, lambda: node in self._reports)
        status = self._reports.get(node)
        if status is None:
            return Report(parameters=parameters)
        values = {entry.key: entry.value for entry in status.values}
        return Report(status.level[0], status.message, values, parameters)

    def _ask_parameters(self, node: str) -> dict[str, Any]:
        """Return the parameters of the node; empty where it does not answer, as while loading."""
        client = self._node.create_client(GetParameters, f'{node}/get_parameters')
        try:
            self._spin(STEP_S * 20, client.service_is_ready)
            if not client.service_is_ready():
                return {}
            names = [USE_SIM_TIME, *(spec.name for spec in specs(OccParameters))]
            answer = client.call_async(GetParameters.Request(names=names))
            self._spin(REPORT_WITHIN_S, answer.done)
            if not answer.done() or len(answer.result().values) != len(names):
                return {}
            found = zip(names, answer.result().values, strict=True)
            messages = [ParameterMessage(name=name, value=value) for name, value in found]
            return {m.name: Parameter.from_parameter_msg(m).value for m in messages}
        finally:
            self._node.destroy_client(client)

    def _parameters(self, report: Report) -> OccParameters:
        """Return the parameters as the node has them; those that it did not tell are defaults."""
        told = {name: value for name, value in report.parameters.items() if value is not None}
        for name in (USE_SIM_TIME, OF_THE_NODES_MACHINE):
            told.pop(name, None)
        return from_values(OccParameters, {'output_frame': self._request.output_frame, **told})

    def _watch(
        self, image: str, info: str, parameters: OccParameters
    ) -> tuple[Heard, Heard, Pose]:
        """Subscribe to both topics, and to tf where the pose comes from there."""
        compressed = COMPRESSED_TYPE in self._view.all_topics().get(image, ())
        images = self._hear(CompressedImage if compressed else Image, self._view.topic(image))
        infos = self._hear(CameraInfo, self._view.topic(info))
        try:
            extrinsics = create_extrinsics(self._node, parameters)
        except CigoccError as error:
            self._spin(self._request.seconds)
            return images, infos, Pose(parameters.extrinsics_source, None, str(error))
        self._spin(self._request.seconds)
        frame = images.last.header.frame_id if images.last is not None else ''
        try:
            return images, infos, Pose(extrinsics.source, extrinsics.cam_from_velo(frame))
        except CigoccError as error:
            return images, infos, Pose(extrinsics.source, None, str(error))

    def _hear(self, kind: type[Any], topic: TopicView) -> Heard:
        """Count the messages of a topic; as reliable as its publishers allow."""
        heard = Heard()

        def note(message: Any) -> None:
            heard.last_s = time.monotonic()
            heard.first_s = heard.first_s or heard.last_s
            heard.count += 1
            heard.last = message

        offers = {endpoint.qos.reliability for endpoint in topic.publishers}
        best_effort = ReliabilityPolicy.BEST_EFFORT in offers
        reliability = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
        kept = [endpoint.qos.durability for endpoint in topic.publishers]
        latched = bool(kept) and set(kept) == {DurabilityPolicy.TRANSIENT_LOCAL}
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        qos = QoSProfile(depth=10, reliability=reliability, durability=durability)
        self._node.create_subscription(kind, topic.name, note, qos)
        return heard
