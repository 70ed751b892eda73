"""Graphs for the tests with rclpy; where rclpy is absent every file here skips itself."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def domain() -> None:
    try:
        from fixtures_ros import enter_domain
    except ModuleNotFoundError:
        return  # no rclpy: the files that need it skip themselves
    enter_domain()


@pytest.fixture
def make_graph() -> Iterator[Callable[..., Any]]:
    from fixtures_ros import Graph

    made: list[Any] = []

    def make(**options: Any) -> Any:
        made.append(Graph(**options))
        return made[-1]

    yield make
    for graph in made:
        graph.close()


@pytest.fixture
def graph(make_graph) -> Any:
    return make_graph()


@pytest.fixture
def prefix(tmp_path) -> Path:
    """Return a prefix laid out as an installation (test_install shows that it looks so)."""
    for place, target in {'lib': 'scripts', 'share': '.'}.items():
        (tmp_path / place).mkdir()
        (tmp_path / place / 'cigocc_ros').symlink_to((REPOSITORY / target).resolve())
    return tmp_path


@pytest.fixture
def full_disk(tmp_path) -> Iterator[Path]:
    """Mount a file system of 1 MB and fill it but for pages; skip where that is forbidden."""
    folder = tmp_path / 'full'
    folder.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=1m,mode=755', 'tmpfs', str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f'may not mount here: {done.stderr.strip()}')
    try:
        (folder / 'other').write_bytes(b'x' * (1008 * 1024))
        yield folder
    finally:
        subprocess.run(['umount', '-l', str(folder)], check=True)
