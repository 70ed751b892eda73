"""The shell lines of the documents, and how each kind of line is checked."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SHELLS = ('bash', 'console', 'sh', 'shell')
MARKER = re.compile(r'<!-- not run here: (?P<reason>\S[^>]*?) -->\s*\Z')
FENCE = re.compile(r'^```(?P<language>\w*)\n(?P<body>.*?)^```$', re.S | re.M)
PLACEHOLDER = '...'


@dataclass(frozen=True)
class Line:
    """One command of a document; `reason` says why it is not run, '' where it must be."""

    document: str
    text: str
    reason: str

    @property
    def words(self) -> list[str]:
        """The words of the command, without variables set in front of it."""
        words = shlex.split(self.text, comments=True)
        while words and re.fullmatch(r'\w+=\S*', words[0]):
            words.pop(0)
        return words


def documents() -> list[Path]:
    """Return every page that people read."""
    pages = [*REPOSITORY.glob('*.md'), *REPOSITORY.glob('docs/**/*.md')]
    pages += [*REPOSITORY.glob('models/*.md'), *REPOSITORY.glob('benchmark/**/*.md')]
    return sorted([*pages, *REPOSITORY.glob('fuzz/**/*.md')])


def document_lines(path: Path) -> list[Line]:
    """Return the commands of one page."""
    return lines_of(path.read_text(encoding='utf-8'), path.relative_to(REPOSITORY).as_posix())


def lines_of(text: str, name: str) -> list[Line]:
    """Return the commands in Markdown; continued lines are one, `a && b` are two."""
    found = []
    for block in FENCE.finditer(text):
        if block['language'] not in SHELLS:
            continue
        marker = MARKER.search(text, 0, block.start())
        reason = marker['reason'] if marker else ''
        for command in _commands(block['body'], console=block['language'] == 'console'):
            found.append(Line(name, command, reason))
    return found


def _commands(body: str, console: bool) -> list[str]:
    lines = re.sub(r'\\\n\s*', ' ', body).splitlines()
    if console:  # what is not after a prompt is output
        lines = [line[2:] for line in lines if line.startswith('$ ')]
    parts = [part for line in lines for part in re.split(r' && ', _without_comment(line))]
    return [part.strip() for part in parts if part.strip()]


def _without_comment(line: str) -> str:
    return re.sub(r'(^|\s)#.*$', '', line)
