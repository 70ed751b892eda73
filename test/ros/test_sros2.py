"""The SROS2 policy: valid by its schema, and neither more nor less than what the nodes create."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytest.importorskip('rclpy')

from fixtures_ros import EXTRINSICS, enter_domain, fake_manifest
from fixtures_sequence import build_label_images, build_sequence
from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node
from rclpy.parameter import Parameter

from cigocc_ros.core.installed import config_dir
from cigocc_ros.ros.players.kitti_player import KittiPlayer

POLICY = config_dir() / 'sros2' / 'occ.policy.xml'
SCHEMA = Path(__file__).parent / 'data' / 'sros2_policy.xsd'
# Created only with tf2_ros and tf2_msgs, which are not on PyPI.
ONLY_WITH_TF = {('subscribe', '/tf'), ('subscribe', '/tf_static'), ('publish', '/tf_static')}
# Humble's nodes have no such service.
SINCE_IRON = {
    ('reply', '/occ/get_type_description'),
    ('reply', '/kitti_player/get_type_description'),
}
PARTS = (('topics', 'topic', 'publish'), ('topics', 'topic', 'subscribe')) + (
    ('services', 'service', 'reply'),
    ('services', 'service', 'request'),
)


def allowed(node: str) -> set[tuple[str, str]]:
    """Return what the policy allows a node in the root namespace, as (right, full name)."""
    root = ElementTree.parse(POLICY).getroot()
    (profile,) = root.findall(f'.//profile[@ns="/"][@node="{node}"]')
    return {
        (right, expand_topic_name(entry.text, node, '/'))
        for group, kind, right in PARTS
        for rules in profile.findall(group)
        if rules.get(right) == 'ALLOW'
        for entry in rules.findall(kind)
    }


def created(node: Node) -> set[tuple[str, str]]:
    """Return what a node of this process has created."""
    name, namespace = node.get_name(), node.get_namespace()
    by_right = {
        'publish': node.get_publisher_names_and_types_by_node(name, namespace),
        'subscribe': node.get_subscriber_names_and_types_by_node(name, namespace),
        'reply': node.get_service_names_and_types_by_node(name, namespace),
        'request': node.get_client_names_and_types_by_node(name, namespace),
    }
    return {(right, topic) for right, found in by_right.items() for topic, _ in found}


def require_same(node: str, found: set[tuple[str, str]], optional: set[tuple[str, str]]) -> None:
    policy = allowed(node)
    assert found <= policy, f'{POLICY.name} lacks {sorted(found - policy)} of {node}'
    unused = policy - found - optional
    assert not unused, f'{POLICY.name} allows {node} what it never does: {sorted(unused)}'


def seen(graph, node: Node, names: set[str]) -> set[tuple[str, str]]:
    """Return what the node created, once the graph knows of all `names`."""
    graph.until(lambda: names <= {topic for _, topic in created(node)})
    return created(node)


def test_the_policy_is_valid_by_the_schema_of_sros2():
    xmlschema = pytest.importorskip('xmlschema')
    schema = xmlschema.XMLSchema(SCHEMA, allow='local')
    schema.validate(POLICY)
    broken = POLICY.read_text().replace('publish="ALLOW"', 'publish="MAYBE"', 1)
    assert not schema.is_valid(broken)


def test_every_node_has_an_enclave_of_its_own():
    root = ElementTree.parse(POLICY).getroot()
    found = {
        (enclave.get('path'), profile.get('ns'), profile.get('node'))
        for enclave in root.iter('enclave')
        for profile in enclave.iter('profile')
    }
    assert found == {
        ('/cigocc_ros/occ', '/', 'occ'),
        ('/cigocc_ros/kitti_player', '/', 'kitti_player'),
    }


def test_nothing_is_allowed_by_pattern():
    """A wildcard would let a node that was taken over publish what it likes."""
    for node in ('occ', 'kitti_player'):
        assert not [name for _, name in allowed(node) if set(name) & set('*?[')]


def test_the_policy_of_the_node_is_what_it_creates(make_graph):
    found = set()
    for parameters, image in (
        ({'use_sim_time': True, 'semantic_classes': 'ade20k'}, '/image'),
        ({'image_transport': 'compressed'}, '/image/compressed'),
    ):
        enter_domain()  # two nodes of one name cannot be told apart in one domain
        graph = make_graph()
        graph.predictor.manifest = fake_manifest(semantic_prior=True)
        node = graph.start(**EXTRINSICS, **parameters)
        found |= seen(graph, node, {image, '/occ/occupancy', '/occ/enable', '/diagnostics'})
    require_same('occ', found, ONLY_WITH_TF | SINCE_IRON)


def test_the_policy_of_the_player_is_what_it_creates(graph, tmp_path):
    sequence = build_sequence(tmp_path / '07')
    labels = build_label_images(tmp_path / 'labels', '07')
    overrides = {'sequence': str(sequence), 'depth': True, 'semantic_prior': str(labels)}
    player = KittiPlayer(
        context=graph.context,
        parameter_overrides=[Parameter(name, value=value) for name, value in overrides.items()],
    )
    try:
        names = {'/image', '/depth', '/semantic_prior', '/clock', '/ground_truth', '/rosout'}
        found = seen(graph, player, names)
    finally:
        player.destroy_node()
    require_same('kitti_player', found, ONLY_WITH_TF | SINCE_IRON)
