"""Values in error messages: short, whatever was found."""

from __future__ import annotations

from typing import Any

EXCERPT_CHARACTERS = 200


def excerpt(value: Any) -> str:
    """Return the repr of a value for an error message, cut where it is long."""
    try:
        return cut(repr(value))
    except (ValueError, RecursionError):  # an integer of thousands of digits
        return f'a {type(value).__name__} that is too long to show'


def cut(text: str, characters: int = EXCERPT_CHARACTERS) -> str:
    """Return a text for an error message, cut where it is long."""
    left_out = len(text) - characters
    return text if left_out <= 0 else f'{text[:characters]}... ({left_out} more characters)'
