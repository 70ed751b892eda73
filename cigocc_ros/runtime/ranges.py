"""Named ranges that Nsight Systems shows, where the package `nvtx` is installed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

DOMAIN = 'cigocc'


def named_range(name: str) -> AbstractContextManager[Any]:
    """Return a context whose time is a range of that name; without nvtx it does nothing."""
    return _maker()(name)


@lru_cache(maxsize=1)
def _maker() -> Callable[[str], AbstractContextManager[Any]]:
    try:
        import nvtx
    except ImportError:
        return lambda name: nullcontext()

    def annotated(name: str) -> AbstractContextManager[Any]:
        made: AbstractContextManager[Any] = nvtx.annotate(name, domain=DOMAIN)
        return made

    return annotated
