"""Shared memory of the middleware: images must fit. Importable without rclpy."""

from __future__ import annotations

import os
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

from cigocc_ros.core.dds import DDS_PROFILE, PROFILE_VARIABLES, SHARED_MEMORY
from cigocc_ros.core.installed import config_dir
from cigocc_ros.doctor.finding import Finding, fail, ok, warn

FAST_DDS = 'rmw_fastrtps'
DEFAULT_SEGMENT_BYTES = 549_408
"""What Fast DDS makes without a profile; best-effort messages above it get lost."""
MAX_PROFILE_BYTES = 1_000_000
SEGMENTS_NEEDED = 3
"""The camera's, the node's, and one more."""


def shipped_profile() -> Path:
    """Return the profile that the launch files set."""
    return config_dir() / DDS_PROFILE


def check_segment(rmw: str, environment: Mapping[str, str] | None = None) -> Finding:
    """Check the shared-memory segment of the Fast DDS profile in use.

    The segment of the publisher counts: what is found here holds for what this shell starts.
    """
    if rmw and not rmw.startswith(FAST_DDS):
        return ok('dds segment', f'{rmw} has none of Fast DDS')
    expected_bytes = segment_bytes(shipped_profile())
    fix = f'export {PROFILE_VARIABLES[0]}={shipped_profile()} (launch files do)'
    expected = f'{_megabytes(expected_bytes)} or more, in the shell of the camera too'
    variables = os.environ if environment is None else environment
    named = next((variables[name] for name in PROFILE_VARIABLES if variables.get(name)), '')
    if not named:
        found = f'no profile in use: {_megabytes(DEFAULT_SEGMENT_BYTES)}, Fast DDS default'
        return warn('dds segment', found, expected, fix)
    try:
        size = segment_bytes(Path(named))
    except (OSError, ValueError) as error:
        return fail('dds segment', f'{named}: {error}', 'a Fast DDS profile in XML', fix)
    if size < expected_bytes:
        return warn('dds segment', f'{_megabytes(size)} in {named}', expected, fix)
    return ok('dds segment', f'{_megabytes(size)} in {named}')


def segment_bytes(profile: Path) -> int:
    """Return the largest segment_size of a profile, the default where it has none.

    Raises OSError, ValueError where the file is not XML.
    """
    if profile.stat().st_size > MAX_PROFILE_BYTES:
        raise ValueError(f'larger than {MAX_PROFILE_BYTES} bytes: no profile')
    try:
        root = ElementTree.parse(profile).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f'not XML ({error})') from error
    found = [node.text for node in root.iter() if node.tag.endswith('segment_size')]
    return max([int(text) for text in found if text], default=DEFAULT_SEGMENT_BYTES)


def check_shared_memory(folder: Path = SHARED_MEMORY, free_bytes: int | None = None) -> Finding:
    """Check that the segments fit; containers start with 64 MB."""
    if not folder.is_dir():
        return ok('shared memory', f'no {folder} on this system')
    free = shutil.disk_usage(folder).free if free_bytes is None else free_bytes
    needed = SEGMENTS_NEEDED * segment_bytes(shipped_profile())
    found = f'{_megabytes(free)} free in {folder}'
    if free >= needed:
        return ok('shared memory', found)
    fix = 'docker run --shm-size=1g ..., or `fastdds shm clean` after crashes'
    return warn('shared memory', found, f'{_megabytes(needed)} for {SEGMENTS_NEEDED}', fix)


def _megabytes(size: int) -> str:
    return f'{size / 1e6:.1f} MB'
