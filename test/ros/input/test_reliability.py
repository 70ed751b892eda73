"""The parameter image_reliability: what is asked of the camera, and what is taken instead."""

import pytest

pytest.importorskip('rclpy')

from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

BEST, RELIABLE = ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE


@pytest.mark.parametrize(
    ('wanted', 'offered', 'asked'),
    [
        ('auto', RELIABLE, RELIABLE),
        ('auto', BEST, BEST),
        ('best_effort', RELIABLE, BEST),
        ('best_effort', BEST, BEST),
        ('reliable', RELIABLE, RELIABLE),
        ('reliable', BEST, RELIABLE),
    ],
)
def test_what_is_asked_of_the_camera(graph, wanted, offered, asked, capfd):
    node = graph.start(image_reliability=wanted)
    camera = graph.publisher(Image, 'image', QoSProfile(depth=1, reliability=offered))
    matches = not (asked == RELIABLE and offered == BEST)
    if matches:
        graph.until(lambda: camera.get_subscription_count() == 1)
    else:
        graph.until(lambda: 'which image_reliability demands' in capfd.readouterr().err)

    def asks():
        found = node.get_subscriptions_info_by_topic('/image')
        return [info.qos_profile.reliability for info in found]

    graph.until(lambda: asks() == [asked])
