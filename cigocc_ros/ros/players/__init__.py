"""Recordings as topics: KITTI folders and bags, at one pace."""
