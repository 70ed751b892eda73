"""The ROS graph as discovery tells it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from typing import Any

from rclpy.node import Node, NodeNameNonExistentError

from cigocc_ros.doctor.observation import (
    COMPRESSED_TYPE,
    IMAGE_TYPE,
    INFO_TYPE,
    Endpoint,
    TopicView,
)

INPUT_TYPES = {IMAGE_TYPE, COMPRESSED_TYPE, INFO_TYPE}


class GraphView:
    """Ask an observing node about the others; itself is left out."""

    def __init__(self, node: Node) -> None:
        """Take the node that asks."""
        self._node = node

    def find(self, wanted: str) -> tuple[str, ...]:
        """Return the fully qualified names of the nodes called `wanted`.

        A name without slash is looked for in every namespace.
        """
        names = {
            _qualified(name, namespace)
            for name, namespace in self._node.get_node_names_and_namespaces()
        }
        return tuple(sorted(n for n in names if wanted in (n, n.rpartition('/')[2])))

    def published(self, *topics: str) -> bool:
        """Say whether every topic has a publisher."""
        return all(self._node.count_publishers(topic) for topic in topics)

    def all_topics(self) -> dict[str, tuple[str, ...]]:
        """Return topic -> types of whatever is published."""
        return {
            name: tuple(kinds)
            for name, kinds in self._node.get_topic_names_and_types()
            if self._node.count_publishers(name)
        }

    def topic(self, name: str) -> TopicView:
        """Return who publishes and who subscribes."""
        return TopicView(
            name,
            self._endpoints(self._node.get_publishers_info_by_topic(name)),
            self._endpoints(self._node.get_subscriptions_info_by_topic(name)),
        )

    def inputs(self, node: str, known: Set[str]) -> tuple[TopicView, ...]:
        """Return what the node subscribes to besides the topics in `known`."""
        found = self._asked(self._node.get_subscriber_names_and_types_by_node, node)
        wanted = [name for name, kinds in found if INPUT_TYPES & set(kinds) and name not in known]
        return tuple(self.topic(name) for name in sorted(wanted))

    def outputs(self, node: str) -> tuple[TopicView, ...]:
        """Return what the node publishes under its own name."""
        found = self._asked(self._node.get_publisher_names_and_types_by_node, node)
        names = sorted(name for name, _ in found if name.startswith(f'{node}/'))
        return tuple(self.topic(name) for name in names)

    def _asked(self, ask: Callable[[str, str], Any], node: str) -> list[tuple[str, list[str]]]:
        """Return what a node has; nothing of one that has left meanwhile."""
        try:
            found: list[tuple[str, list[str]]] = ask(*_split(node))
        except NodeNameNonExistentError:
            return []
        return found

    def _endpoints(self, infos: Iterable[Any]) -> tuple[Endpoint, ...]:
        mine = self._node.get_fully_qualified_name()
        endpoints = (
            Endpoint(_qualified(i.node_name, i.node_namespace), i.topic_type, i.qos_profile)
            for i in infos
        )
        return tuple(endpoint for endpoint in endpoints if endpoint.node != mine)


def _qualified(name: str, namespace: str) -> str:
    return f'{namespace.rstrip("/")}/{name}'


def _split(node: str) -> tuple[str, str]:
    """Return name and namespace of a fully qualified name."""
    namespace, _, name = node.rpartition('/')
    return name, namespace or '/'
