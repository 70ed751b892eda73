"""docs/interface.md is what the code says, and the code is what the graph shows."""

from pathlib import Path

import pytest

pytest.importorskip('rclpy')

from fixtures_ros import fake_manifest
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from cigocc_ros.core.markdown import block, filled
from cigocc_ros.doctor.graph_view import GraphView
from cigocc_ros.ros.interface import INPUTS, LATCHED, OUTPUTS, SERVICES, TABLES, main

PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'interface.md'
OF_EVERY_NODE = ('/parameter_events', '/rosout', '/tf', '/clock')


def resolved(row):
    name = row.name.replace('~', '/occ')
    return name if name.startswith('/') else f'/{name}'


def named(pairs):
    return {name: kinds[0] for name, kinds in pairs if not name.startswith(OF_EVERY_NODE)}


def test_the_page_is_current():
    """python -m cigocc_ros.ros.interface docs/interface.md"""
    text = PAGE.read_text()
    assert filled(text, {name: table() for name, table in TABLES.items()}) == text
    for name, table in TABLES.items():
        assert block(name, table()) in text, name


def test_a_stale_page_is_written_anew(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('a\n<!-- generated: services -->\nold\n<!-- end -->\nb\n')
    assert main([str(page)]) == 0
    text = page.read_text()
    assert 'old' not in text and '`~/enable`' in text and text.endswith('<!-- end -->\nb\n')


def start_with_everything(graph):
    graph.predictor.manifest = fake_manifest(semantic_prior=True)
    graph.start(semantic_classes='cityscapes')


def test_the_rows_are_the_topics_and_services_of_a_running_node(graph):
    start_with_everything(graph)
    watching = graph.observer

    def topics():
        return (
            named(watching.get_subscriber_names_and_types_by_node('occ', '/')),
            named(watching.get_publisher_names_and_types_by_node('occ', '/')),
        )

    graph.until(lambda: all(topics()))
    inputs, outputs = topics()
    assert inputs == {resolved(row): row.kind for row in INPUTS}
    grid = outputs.pop('/occ/grid')
    assert grid in ('sensor_msgs/msg/Image', 'foxglove_msgs/msg/VoxelGrid')
    assert outputs == {resolved(row): row.kind for row in OUTPUTS if row.name != '~/grid'}
    services = {
        name: kinds[0]
        for name, kinds in watching.get_service_names_and_types_by_node('occ', '/')
        if 'rcl_interfaces' not in kinds[0] and 'type_description' not in kinds[0]
    }
    assert services == {resolved(row): row.kind for row in SERVICES}


def test_the_rows_state_the_quality_of_service(graph):
    start_with_everything(graph)
    view = GraphView(graph.observer)
    graph.until(lambda: view.published('/occ/occupancy'))
    for row in OUTPUTS:
        (mine,) = (e for e in view.topic(resolved(row)).publishers if e.node == '/occ')
        latched = mine.qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
        assert latched == (row.qos == LATCHED), row.name
        assert mine.qos.reliability == ReliabilityPolicy.RELIABLE
    for row in INPUTS:
        (mine,) = (e for e in view.topic(resolved(row)).subscriptions if e.node == '/occ')
        assert mine.qos.reliability == ReliabilityPolicy.RELIABLE, row.name
