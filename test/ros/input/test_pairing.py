"""Images and their priors by stamp."""

import pytest

pytest.importorskip('rclpy')

from sensor_msgs.msg import CameraInfo, Image

from cigocc_ros.core.prior import AUTO, DEPTH, NONE, STEREO
from cigocc_ros.ros.input.pairing import IMAGE, INFO_WAIT_S, Bundle, Pairing
from cigocc_ros.ros.stamps import stamp_from_ns

MS = 1_000_000


def image(stamp_ms: float) -> Image:
    message = Image()
    message.header.stamp = stamp_from_ns(round(stamp_ms * MS))
    return message


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


INFO, RIGHT_INFO = CameraInfo(width=1), CameraInfo(width=2)


def pairing(source: str, clock: Clock | None = None, infos: bool = True) -> Pairing:
    made = Pairing(source, 0.005, 0.02, clock or Clock())
    if infos:
        made.add_info(IMAGE, INFO)
        made.add_info(STEREO, RIGHT_INFO)
    return made


def test_without_priors_images_go_straight_through():
    for source in (NONE, AUTO):
        sent = image(100)
        assert pairing(source).add_image(sent) == [Bundle(sent, INFO)]


@pytest.mark.parametrize('prior_first', [False, True])
def test_a_pair_is_complete_in_either_order(prior_first):
    pairs, left, right = pairing(STEREO), image(100), image(103)
    steps = [lambda: pairs.add_image(left), lambda: pairs.add_prior(STEREO, right)]
    first, second = [step() for step in (steps[::-1] if prior_first else steps)]
    assert first == []
    assert [(b.image, b.prior, b.prior_kind) for b in second] == [(left, right, STEREO)]
    assert pairs.wait_s is None


def test_other_stamps_do_not_pair():
    pairs = pairing(DEPTH)
    assert pairs.add_prior(DEPTH, image(94)) == []
    assert pairs.add_image(image(100)) == []
    assert pairs.add_prior(DEPTH, image(106)) == []
    assert pairs.wait_s is not None
    (late,) = pairs.flush()
    assert late.prior is None and late.prior_kind == DEPTH


def test_the_nearest_stamp_is_taken():
    pairs = pairing(DEPTH)
    for stamp_ms in (96, 99, 104):
        pairs.add_prior(DEPTH, image(stamp_ms))
    (bundle,) = pairs.add_image(image(100))
    assert bundle.prior.header.stamp == image(99).header.stamp


def test_a_new_image_lets_the_old_one_go():
    pairs, first, second = pairing(STEREO), image(100), image(200)
    assert pairs.add_image(first) == []
    assert [b.image for b in pairs.add_image(second)] == [first]
    assert pairs.wait_s is not None


def test_auto_follows_what_is_published_and_prefers_depth():
    clock = Clock()
    pairs = pairing(AUTO, clock)
    far_ns = 5000 * MS
    assert pairs.expected(far_ns) == NONE
    pairs.add_prior(STEREO, image(0))
    assert pairs.expected(far_ns) == STEREO
    pairs.add_prior(DEPTH, image(0))
    assert pairs.expected(far_ns) == DEPTH
    clock.now_s += 2
    assert pairs.expected(far_ns) == NONE


def test_auto_keeps_a_source_whose_stamps_are_near_however_slow_the_replay():
    clock = Clock()
    pairs = pairing(AUTO, clock)
    pairs.add_prior(STEREO, image(100))
    clock.now_s += 30
    assert pairs.expected(200 * MS) == STEREO
    assert pairs.add_image(image(200)) == []
    (bundle,) = pairs.add_prior(STEREO, image(200))
    assert bundle.prior is not None


def test_the_other_kind_does_not_complete():
    pairs = pairing(DEPTH)
    pairs.add_image(image(100))
    assert pairs.add_prior(STEREO, image(100)) == []
    assert pairs.wait_s is not None


def test_the_first_image_waits_for_its_camera_info():
    """Drivers publish it after the image (image_transport, CameraPublisher)."""
    pairs, first = pairing(NONE, infos=False), image(100)
    assert pairs.add_image(first) == []
    assert pairs.wait_s == INFO_WAIT_S
    assert pairs.add_info(STEREO, RIGHT_INFO) == []
    assert pairs.add_info(IMAGE, INFO) == [Bundle(first, INFO)]
    assert pairs.add_image(image(200))[0].info is INFO


def test_an_image_whose_camera_info_does_not_come_goes_without():
    pairs = pairing(NONE, infos=False)
    pairs.add_image(image(100))
    assert [bundle.info for bundle in pairs.flush()] == [None]


def test_an_image_keeps_the_camera_info_of_its_arrival():
    pairs, later = pairing(DEPTH), CameraInfo(width=3)
    pairs.add_image(image(100))
    pairs.add_info(IMAGE, later)
    assert [bundle.info for bundle in pairs.add_prior(DEPTH, image(100))] == [INFO]


def test_a_pair_waits_for_the_camera_info_of_the_right_image():
    pairs, left, right = pairing(STEREO, infos=False), image(100), image(100)
    pairs.add_info(IMAGE, INFO)
    assert pairs.add_prior(STEREO, right) == []
    assert pairs.add_image(left) == []
    assert pairs.add_info(STEREO, RIGHT_INFO) == [Bundle(left, INFO, STEREO, right, RIGHT_INFO)]


def test_depth_does_not_wait_for_a_camera_info_that_few_publish():
    pairs, depth = pairing(DEPTH), image(100)
    pairs.add_image(image(100))
    (bundle,) = pairs.add_prior(DEPTH, depth)
    assert bundle.prior is depth and bundle.prior_info is None
