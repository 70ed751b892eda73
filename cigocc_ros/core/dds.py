"""Facts of DDS, the middleware below ROS 2, that more than one room needs."""

from __future__ import annotations

from pathlib import Path

DDS_PROFILE = 'fastdds_large_messages.xml'
"""In config/: shared memory wide enough for images."""
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
"""Fast DDS before 3.0 (Humble, Jazzy) reads the first, later ones the second."""
SHARED_MEMORY = Path('/dev/shm')
HIGHEST_DOMAIN = 101
"""Above it the DDS ports reach into the ephemeral ones of Linux."""
