"""Stereo depth: a plane at a known depth, the unknown, and real pairs against the lidar."""

import numpy as np
import pytest

from cigocc_ros.core.camera import stereo_focal_baseline, stereo_pair
from cigocc_ros.core.errors import CalibrationError, ConfigError, FrameError
from cigocc_ros.core.projection import project_points
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.stereo_config import StereoConfig, trained_stereo
from cigocc_ros.data.stereo_depth import stereo_depth_m


def textured_pair(width, shift):
    """Return a random texture and the same seen `shift` pixels to the left."""
    cv2 = pytest.importorskip('cv2')
    texture = np.random.default_rng(3).integers(0, 256, (120, width + shift, 3), np.uint8)
    texture = cv2.GaussianBlur(texture, (5, 5), 1.5)
    return texture[:, :width], texture[:, shift : width + shift]


@pytest.mark.parametrize(('width', 'shift'), [(320, 10), (1240, 24)])
def test_a_plane_has_the_computed_depth(width, shift):
    depth = stereo_depth_m(*textured_pair(width, shift), focal_baseline=100.0)
    assert depth.shape == (120, width)
    assert depth.dtype == np.float32
    known = depth[:, 2 * shift :]
    assert (known > 0).mean() > 0.9
    assert np.median(known[known > 0]) == pytest.approx(100 / shift, rel=0.02)


@pytest.mark.parametrize('cx_difference', [-30.0, -7.25, 0.5, 12.75, 20.0])
def test_principal_points_that_differ_are_subtracted(cx_difference):
    """The right camera of a pair whose cx is 20 px less sees infinity 20 px further left."""
    shift = 16
    seen_px = round(shift + cx_difference)
    texture = np.random.default_rng(3).integers(0, 256, (120, 420, 3), np.uint8)
    cv2 = pytest.importorskip('cv2')
    texture = cv2.GaussianBlur(texture, (5, 5), 1.5)
    left, right = texture[:, 50:370], texture[:, 50 + seen_px : 370 + seen_px]
    depth = stereo_depth_m(left, right, 100.0, cx_difference)
    known = depth[:, 60:-60]
    assert (known > 0).mean() > 0.9
    expected_m = 100.0 / (seen_px - cx_difference)
    assert np.median(known[known > 0]) == pytest.approx(expected_m, rel=0.02)


@pytest.mark.parametrize('width', [320, 1240])
@pytest.mark.parametrize('offset', [-1.0, 0.35, 2.0])
def test_an_offset_is_in_pixels_of_the_image_given(width, offset):
    """Also where the matcher works at half size."""
    shift = 24
    depth = stereo_depth_m(
        *textured_pair(width, shift), 100.0, config=StereoConfig(disparity_offset_px=offset)
    )
    known = depth[:, 2 * shift :]
    assert np.median(known[known > 0]) == pytest.approx(100 / (shift + offset), rel=0.02)


def test_an_offset_makes_nothing_known():
    flat = np.full((100, 200, 3), 90, np.uint8)
    assert not stereo_depth_m(
        flat, flat, 100.0, config=StereoConfig(disparity_offset_px=5.0)
    ).any()
    with pytest.raises(ConfigError, match='a wrong calibration'):
        StereoConfig(disparity_offset_px=5.1)


@pytest.mark.parametrize('name', ['00', '05'])
def test_full_size_and_an_offset_find_far_points_on_kitti(shared_dir, name):
    """Of the points at 20 to 30 m more lie within 0.4 m of the lidar."""
    sequence = KittiSequence(shared_dir / 'data/kitti_mini/sequences' / name)
    camera = sequence.camera_left
    pair = stereo_pair(camera, sequence.camera_right)
    points = sequence.velodyne(0)[:, :3]
    pixel_uv, truth, seen = project_points(points, camera, sequence.cam_from_velo)
    far = seen & (truth > 20) & (truth < 30)
    column, row = np.floor(pixel_uv[far]).astype(int).T
    near_share = []
    for config in (StereoConfig(), StereoConfig(max_width_px=1280, disparity_offset_px=0.35)):
        images = sequence.image(0), sequence.image(0, 'right')
        depth = stereo_depth_m(*images, *pair, config=config)
        assert depth.shape == (camera.height, camera.width)
        found = depth[row, column]
        near_share.append((np.abs(found - truth[far])[found > 0] < 0.4).mean())
    assert near_share[1] > near_share[0] + 0.05


def test_without_texture_nothing_is_known():
    flat = np.full((100, 200, 3), 90, np.uint8)
    assert not stereo_depth_m(flat, flat, 100.0).any()


def test_noise_is_never_negative_or_nan():
    left, right = np.random.default_rng(0).integers(0, 256, (2, 64, 160, 3), np.uint8)
    depth = stereo_depth_m(left, right, 100.0)
    assert np.isfinite(depth).all()
    assert depth.min() >= 0
    assert (depth == 0).mean() > 0.5


def test_the_search_range_follows_the_width():
    config = StereoConfig()
    assert [config.num_disparities(width) for width in (64, 320, 620, 1241)] == [16, 32, 64, 128]


def test_what_does_not_fit_is_refused():
    image = np.zeros((20, 40, 3), np.uint8)
    with pytest.raises(FrameError, match='differ in size'):
        stereo_depth_m(image, image[:10], 100.0)
    with pytest.raises(FrameError, match=r'right image must be uint8 \(H, W, 3\)'):
        stereo_depth_m(image, image[..., 0], 100.0)
    with pytest.raises(CalibrationError, match='positive'):
        stereo_depth_m(image, image, -100.0)
    with pytest.raises(CalibrationError, match='half the width'):
        stereo_depth_m(image, image, 100.0, cx_difference=20.0)
    with pytest.raises(ConfigError, match='odd'):
        StereoConfig(block_size_px=4)


@pytest.mark.parametrize('name', ['00', '01', '02', '03', '04', '05'])
def test_real_pairs_agree_with_the_lidar(shared_dir, name):
    """Median relative error 1.4-2.1 % per frame was measured at half size."""
    sequence = KittiSequence(shared_dir / 'data/kitti_mini/sequences' / name)
    camera = sequence.camera_left
    focal_baseline = stereo_focal_baseline(camera, sequence.camera_right)
    depth = stereo_depth_m(sequence.image(4), sequence.image(4, 'right'), focal_baseline)
    scan = sequence.velodyne(4)[:, :3]
    pixel_uv, lidar_m, seen = project_points(scan, camera, sequence.cam_from_velo)
    column, row = np.floor(pixel_uv[seen]).astype(int).T
    stereo_m, lidar_m = depth[row, column], lidar_m[seen]
    known = stereo_m > 0
    error = np.abs(stereo_m - lidar_m)[known] / lidar_m[known]
    assert known.mean() > 0.85
    assert np.median(error) < 0.03


@pytest.mark.parametrize(
    ('training', 'given', 'expected'),
    [
        ({}, (), (640, 0.0)),
        ({'train': None}, (), (640, 0.0)),
        ({'train': {'stereo_width_px': 1280, 'stereo_offset_px': 0.35}}, (), (1280, 0.35)),
        ({'train': {'stereo_width_px': 1280, 'stereo_offset_px': 0.35}}, (640,), (640, 0.35)),
        ({'train': {'stereo_width_px': 1280, 'stereo_offset_px': 0.35}}, (None, 0), (1280, 0.0)),
    ],
)
def test_a_model_is_matched_as_it_was_trained_unless_told_otherwise(training, given, expected):
    config = trained_stereo(training, *given)
    assert (config.max_width_px, config.disparity_offset_px) == expected


@pytest.mark.parametrize('value', ['wide', True, None, [640]])
def test_a_manifest_whose_matcher_is_no_number_is_told(value):
    with pytest.raises(ConfigError, match='stereo_width_px: expected a number of pixels'):
        trained_stereo({'train': {'stereo_width_px': value}})
