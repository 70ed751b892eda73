"""The generated part of a Markdown page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.files import write_atomically

BEGIN, END = '<!-- generated: begin -->', '<!-- generated: end -->'


def write_into(page: Path, text: str) -> None:
    """Replace what stands between the marks of a page; raise DataFileError without marks."""
    content = page.read_text(encoding='utf-8')
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DataFileError(f'{page}: expected the marks {BEGIN} and {END}')
    write_atomically(page, f'{before}{BEGIN}\n{text.rstrip()}\n{END}{after}')


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Return the lines of a Markdown table; all columns but the first `left` align right."""
    ruler = ['---'] * left + ['---:'] * (len(heads) - left)
    return [f'| {" | ".join(row)} |' for row in (heads, ruler, *rows)]
