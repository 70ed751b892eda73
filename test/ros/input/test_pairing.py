"""Images and their priors by stamp."""

import pytest

pytest.importorskip('rclpy')

from sensor_msgs.msg import CameraInfo, Image

from cigocc_ros.core.prior import AUTO, DEPTH, NONE, STEREO
from cigocc_ros.ros.input.pairing import (
    IMAGE,
    INFO_WAIT_S,
    MOST_WAITING,
    Bundle,
    Pairing,
    Patience,
)
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


def pairing(
    source: str, clock: Clock | None = None, infos: bool = True, labels: bool = False
) -> Pairing:
    wanted = Patience(0.005, 0.3) if labels else None
    made = Pairing(source, Patience(0.005, 0.02), wanted, clock or Clock())
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


def test_a_new_image_does_not_end_the_wait_of_an_older_one():
    """What another network makes of an image comes when newer images are there already."""
    clock = Clock()
    pairs, images = pairing(DEPTH, clock), [image(100 + 33 * k) for k in range(3)]
    for each in images:
        assert pairs.add_image(each) == []
        clock.now_s += 0.005
    assert pairs.wait_s == pytest.approx(0.02 - 0.015)
    (first,) = pairs.add_prior(DEPTH, image(100))
    assert first.image is images[0] and first.prior is not None
    assert pairs.wait_s == pytest.approx(0.02 - 0.01)
    older, newest = pairs.add_prior(DEPTH, image(166))
    assert (older.image, older.prior) == (images[1], None)
    assert newest.image is images[2] and newest.prior is not None


def test_an_image_waits_no_longer_than_told():
    clock = Clock()
    pairs, first = pairing(STEREO, clock), image(100)
    pairs.add_image(first)
    clock.now_s += 0.019
    assert pairs.released() == [] and pairs.add_image(image(119)) == []
    clock.now_s += 0.002
    assert [b.image for b in pairs.released()] == [first]
    assert pairs.wait_s == pytest.approx(0.018)


def test_no_more_images_wait_than_there_is_room_for():
    pairs = pairing(STEREO)
    gone = [pairs.add_image(image(100 + k)) for k in range(MOST_WAITING + 2)]
    assert [len(bundles) for bundles in gone] == MOST_WAITING * [0] + [1, 1]


@pytest.mark.parametrize('labels_first', [False, True])
def test_labels_come_with_their_image(labels_first):
    pairs, sent, labels = pairing(NONE, labels=True), image(100), image(102)
    steps = [lambda: pairs.add_image(sent), lambda: pairs.add_labels(labels)]
    first, second = [step() for step in (steps[::-1] if labels_first else steps)]
    assert first == [] and second == [Bundle(sent, INFO, wants_labels=True, labels=labels)]


def test_labels_of_another_stamp_are_of_another_image():
    clock = Clock()
    pairs = pairing(NONE, clock, labels=True)
    pairs.add_labels(image(94))
    assert pairs.add_image(image(100)) == []
    assert pairs.add_labels(image(106)) == []
    assert pairs.wait_s == pytest.approx(0.3)
    clock.now_s += 0.31
    (late,) = pairs.released()
    assert late.lacks_labels and late.labels is None


def test_depth_is_kept_while_labels_are_waited_for():
    """Also when more depth images come meanwhile than are kept."""
    clock = Clock()
    pairs, depth = pairing(DEPTH, clock, labels=True), image(100)
    pairs.add_image(image(100))
    for stamp_ms in (100, *range(133, 700, 33)):
        pairs.add_prior(DEPTH, depth if stamp_ms == 100 else image(stamp_ms))
    (bundle,) = pairs.add_labels(image(100))
    assert bundle.prior is depth and bundle.complete


def test_labels_do_not_make_an_image_wait_longer_for_depth():
    clock = Clock()
    pairs = pairing(DEPTH, clock, labels=True)
    pairs.add_image(image(100))
    clock.now_s += 0.1
    (bundle,) = pairs.add_labels(image(100))
    assert bundle.labels is not None and bundle.prior is None


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
    assert pairs.wait_s == pytest.approx(INFO_WAIT_S)
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
