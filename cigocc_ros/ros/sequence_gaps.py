"""Messages that were published but never arrived, by the numbers that DDS gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


class SequenceGaps:
    """Follow the numbers of one topic; used from one thread.

    Humble does not tell the numbers: nothing is counted there. Two publishers of one topic number
    their messages each for themselves: a gap counts only while there is one.
    """

    def __init__(self, publishers: Callable[[], int]) -> None:
        """Take what counts the publishers of the topic; it is asked only where a gap shows."""
        self._publishers = publishers
        self._last: int | None = None

    def missed(self, message_info: Mapping[str, Any]) -> int:
        """Return how many messages got lost between the last one and the one that arrived."""
        number = message_info.get('publication_sequence_number')
        if number is None:
            return 0
        last, self._last = self._last, int(number)
        if last is None or number <= last + 1:  # the first one, or of a publisher that restarted
            return 0
        return int(number) - last - 1 if self._publishers() == 1 else 0
