"""Markdown that programs write: tables, and the marked blocks of a page that they replace.

A block lies between `<!-- generated: NAME -->` and `<!-- end -->`, each on a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.files import write_atomically

_BLOCK = re.compile(
    r'^<!-- generated: (?P<name>[^\n]+?) -->\n(?P<old>.*?)^<!-- end -->$', re.DOTALL | re.MULTILINE
)
_BEGIN = re.compile(r'^<!-- generated: ', re.MULTILINE)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """Return the lines of a table; all columns but the first `left` align right.

    Bars and line breaks in cells are made harmless. Raises ValueError where a row has more or
    fewer cells than there are heads.
    """
    ruler = '|'.join(['---'] * left + ['---:'] * (len(heads) - left))
    lines = [_line(heads), f'|{ruler}|']
    for row in rows:
        if len(row) != len(heads):
            raise ValueError(f'expected {len(heads)} cells, found {len(row)}: {row}')
        lines.append(_line(row))
    return lines


def facts(rows: Mapping[str, str]) -> list[str]:
    """Return the lines of a table of names and values, without heads."""
    return table(('', ''), list(rows.items()), left=2)


def filled(page: str, blocks: Mapping[str, str], where: str = 'the page') -> str:
    """Return the text of a page with its blocks replaced, each by name.

    Raises DataFileError where the page has no block, one of another name, or one without an end.
    """
    found = [match['name'] for match in _BLOCK.finditer(page)]
    if not found or len(found) != len(_BEGIN.findall(page)):
        raise DataFileError(
            f'{where}: expected the marks {" ... ".join(marks(next(iter(blocks))))}, each on a '
            f'line of its own, found {len(_BEGIN.findall(page))} beginnings and {len(found)} '
            'whole blocks'
        )
    unknown = sorted(set(found) - set(blocks))
    if unknown:
        raise DataFileError(f'{where}: no block {unknown[0]!r}, there are {sorted(blocks)}')
    return _BLOCK.sub(lambda match: block(match['name'], blocks[match['name']]), page)


def write_into(page: Path, blocks: Mapping[str, str]) -> None:
    """Replace the blocks of a page on disk, or leave it as it is and raise DataFileError."""
    content = filled(page.read_text(encoding='utf-8'), blocks, str(page))
    write_atomically(page, content)


def block(name: str, text: str) -> str:
    """Return a block with its marks."""
    begin, end = marks(name)
    return f'{begin}\n{text.rstrip()}\n{end}'


def marks(name: str) -> tuple[str, str]:
    """Return the lines that begin and end a block."""
    return f'<!-- generated: {name} -->', '<!-- end -->'


def _line(cells: Sequence[str]) -> str:
    texts = (re.sub(r'(?<!\\)\|', r'\\|', cell.replace('\n', ' ')) for cell in cells)
    return f'|{"|".join(f" {text} " if text else " " for text in texts)}|'
