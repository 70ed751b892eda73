"""What Linux knows of a process: processor time and peak memory."""

from __future__ import annotations

import os
import re
from pathlib import Path

TICKS_PER_S = os.sysconf('SC_CLK_TCK')


def peak_rss_mb(pid: int | str) -> float:
    """Return the most resident memory that a process has had since `forget_peak`, MiB."""
    status = Path(f'/proc/{pid}/status').read_text()
    found = re.search(r'^VmHWM:\s+(\d+) kB', status, re.MULTILINE)
    if found is None:
        raise ProcessLookupError(f'process {pid} has no memory any more')
    return round(int(found[1]) / 1024, 1)


def forget_peak(pid: int) -> None:
    """Let the peak start again from what is resident now."""
    Path(f'/proc/{pid}/clear_refs').write_text('5')


def cpu_s(pid: int) -> float:
    """Return the processor time of a process and its threads, seconds."""
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
