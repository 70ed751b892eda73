"""What a check of the installation found: one line each, with what mends it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal['OK', 'WARN', 'FAIL']
OK: Status = 'OK'
WARN: Status = 'WARN'
FAIL: Status = 'FAIL'


@dataclass(frozen=True)
class Finding:
    """One result of a check. WARN and FAIL say what is expected and what to do."""

    check: str
    status: Status
    found: str
    expected: str = ''
    fix: str = ''

    def __post_init__(self) -> None:
        """Raise ValueError for bad news without advice."""
        if self.status != OK and not (self.expected and self.fix):
            raise ValueError(f'{self.check}: a {self.status} needs `expected` and `fix`')

    def __str__(self) -> str:
        """Return the finding as one line."""
        line = f'{self.status:<4}  {self.check}: {self.found}'
        advice = f'; expected: {self.expected}; do: {self.fix}' if self.fix else ''
        return ' '.join(f'{line}{advice}'.split('\n'))


def ok(check: str, found: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(check, OK, found)


def warn(check: str, found: str, expected: str, fix: str) -> Finding:
    """Return a finding that leaves the node usable, if less so."""
    return Finding(check, WARN, found, expected, fix)


def fail(check: str, found: str, expected: str, fix: str) -> Finding:
    """Return a finding that keeps the node from working."""
    return Finding(check, FAIL, found, expected, fix)


def as_mappings(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Return findings as JSON takes them."""
    return [asdict(finding) for finding in findings]


def failed(findings: Iterable[Finding]) -> bool:
    """Say whether any finding keeps the node from working."""
    return any(finding.status == FAIL for finding in findings)
