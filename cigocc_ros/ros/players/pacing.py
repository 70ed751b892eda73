"""When which frame is played, and what its stamp is."""

from __future__ import annotations

from collections.abc import Sequence

from cigocc_ros.core.errors import ConfigError, DataFileError

LONE_FRAME_PERIOD_NS = 100_000_000


class Playback:
    """The stamps of a recording, repeated for ever if looped; time never runs backwards."""

    def __init__(self, stamps_ns: Sequence[int], rate: float, loop: bool) -> None:
        """Take increasing stamps and the factor by which to play faster than recorded."""
        if not stamps_ns:
            raise DataFileError('the sequence has no frame between start and end')
        if any(later <= earlier for earlier, later in zip(stamps_ns, stamps_ns[1:], strict=False)):
            raise DataFileError('the stamps of the sequence (times.txt) must increase')
        if not rate > 0:
            raise ConfigError(f'parameter rate: expected more than 0, found {rate}')
        self._rate, self._loop = rate, loop
        self._first_ns = stamps_ns[0]
        self._offsets_ns = [stamp - stamps_ns[0] for stamp in stamps_ns]
        gaps = max(len(stamps_ns) - 1, 1)
        period_ns = self._offsets_ns[-1] // gaps or LONE_FRAME_PERIOD_NS
        self._round_ns = self._offsets_ns[-1] + period_ns
        self.played = 0

    @property
    def first_ns(self) -> int:
        """Stamp of the first frame."""
        return self._first_ns

    @property
    def finished(self) -> bool:
        """Whether every frame was played."""
        return not self._loop and self.played >= len(self._offsets_ns)

    @property
    def index(self) -> int:
        """Index of the next frame among the stamps."""
        return self.played % len(self._offsets_ns)

    @property
    def stamp_ns(self) -> int:
        """Stamp of the next frame."""
        rounds = self.played // len(self._offsets_ns)
        return self._first_ns + rounds * self._round_ns + self._offsets_ns[self.index]

    def time_ns(self, elapsed_s: float) -> int:
        """Return the recording's time, `elapsed_s` after the start of the playback."""
        return self._first_ns + round(elapsed_s * self._rate * 1e9)

    def due(self, time_ns: int) -> bool:
        """Say whether the next frame is to be played at this time of the recording."""
        return not self.finished and self.stamp_ns <= time_ns
