"""What the property tests share: the same examples every time, and a bound on memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from cigocc_ros.core.errors import CigoccError

EXAMPLES = 60
MOST_BYTES = 64 << 20
"""What a parser may allocate for the small inputs of these tests."""
MESSAGE_CHARACTERS = 3000


def examples(number: int = EXAMPLES) -> Callable[[Any], Any]:
    """Return a decorator: the same `number` examples in every run, however slow the machine."""
    return settings(
        max_examples=number,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def bounded_memory(limit: int = MOST_BYTES) -> Iterator[None]:
    """Fail where Python and numpy allocated more than `limit` bytes at a time."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= limit, f'{peak / 1e6:.0f} MB allocated at a time'


def result_or_error(act: Callable[[], Any]) -> Any:
    """Return what `act` returns, or None where it raises a CigoccError that is short enough.

    Any other exception goes on, and fails the test.
    """
    with bounded_memory():
        try:
            return act()
        except CigoccError as error:
            assert 0 < len(str(error)) < MESSAGE_CHARACTERS
            return None


# What YAML and JSON can hold, with the numbers that break naive code.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 2**31, 2**63, 10**30, 10**400])
    | st.floats()
    | st.text(max_size=8)
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
