"""A table of two columns for terminals."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

WIDTH = 88


def text_table(title: str, rows: Sequence[tuple[str, str]], width: int = WIDTH) -> str:
    """Return lines of names and values between rules; long values go on below themselves."""
    names = max(len(name) for name, _ in rows) + 2
    lines = []
    for name, value in rows:
        parts = textwrap.wrap(value, max(width - names, 20), break_on_hyphens=False) or ['']
        lines.append(f'{name:<{names}}{parts[0]}')
        lines += [' ' * names + part for part in parts[1:]]
    rule = '-' * width
    return '\n'.join([rule, title, rule, *lines, rule])
