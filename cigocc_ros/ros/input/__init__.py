"""From topics to camera frames: subscriptions, pairing, images, calibration, depth, pose."""
