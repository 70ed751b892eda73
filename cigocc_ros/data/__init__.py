"""Reading and writing recordings: KITTI folders, synthetic scenes, bags."""
