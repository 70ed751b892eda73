"""Whether the bytes of a JPEG are the whole picture (ITU T.81, annexes B, C and F).

Decoders fill what is missing with grey and say nothing, each release in its own way. Here a
picture that was cut, has a hole of zeros, lost parts between restart markers, or was cut and then
closed with an end marker is refused. Bytes replaced by as many others are noticed only by chance.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import DataFileError

Bytes = NDArray[np.uint8]
SOI, EOI, SOS, DHT, DQT, DRI = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD
# SOF0..SOF15 without DHT, JPG and DAC, which lie between them
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {DHT, 0xC8, 0xCC}
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
RESTARTS = frozenset(range(0xD0, 0xD8))
BARE = frozenset({0x01, SOI}) | RESTARTS
BETWEEN_SCANS = frozenset({SOS, DHT, DQT, DRI, 0xDC, 0xFE, *range(0xE0, 0xF0)})
HOLE_BYTES = 32
"""So many zero bytes in a row: 256 zero bits are no picture, unless they code flat blocks."""
MISSING, MISSING_WITHIN = 128, 2
"""What decoders put where no data came: coefficients of zero, a middle grey."""
NOISE_BYTES = 2048
STANDARD_FIRST = {(0, 0): b'\x00', (0, 1): b'\x00', (1, 0): b'\x01', (1, 1): b'\x00'}
"""First symbols of the tables of annex K, which cameras of motion JPEG leave out."""
END_OF_BLOCK = SAME_LEVEL = 0
BLOCK_PX = 8


@dataclass(frozen=True)
class Component:
    """A colour plane: its sampling in blocks of a minimum coded unit (MCU)."""

    identity: int
    across: int
    down: int


@dataclass
class Scan:
    """Entropy-coded data, `start` to `end` in the file.

    first: of each plane, the symbols whose code is all zeros, of levels (DC) and details (AC).
    """

    start: int
    components: list[int]
    first: list[tuple[int, int]]
    spectrum: tuple[int, int]
    approximation: tuple[int, int]
    interval: int
    end: int = 0
    restarts: list[int] = field(default_factory=list)


@dataclass
class Jpeg:
    """The structure of a file that is whole as far as its markers tell."""

    width: int
    height: int
    progressive: bool
    components: list[Component]
    scans: list[Scan] = field(default_factory=list)

    @property
    def mcu_px(self) -> tuple[int, int]:
        """Width and height of a minimum coded unit, pixels."""
        if len(self.components) == 1:
            return BLOCK_PX, BLOCK_PX
        across = max(component.across for component in self.components)
        down = max(component.down for component in self.components)
        return BLOCK_PX * across, BLOCK_PX * down

    @property
    def mcus(self) -> tuple[int, int]:
        """Number of MCUs in a row, and of rows."""
        across, down = self.mcu_px
        return math.ceil(self.width / across), math.ceil(self.height / down)


def read_whole_jpeg(content: bytes | memoryview, what: str) -> Jpeg:
    """Return the structure of a JPEG; raise DataFileError where part of it is missing."""
    try:
        jpeg = _Reader(content, what).read()
    except (struct.error, IndexError, ValueError) as error:
        raise DataFileError(f'{what}: no whole JPEG: it ends in the middle') from error
    _check_planes(jpeg, what)
    return jpeg


def ends_in_grey(jpeg: Jpeg, pixels: NDArray[np.uint8]) -> bool:
    """Say whether the last unit is as dark as decoders make what is missing: it may be.

    pixels: (H, W, 3) or (H, W), as they lie in the file, red and blue in either order. Colour is
    not looked at, for it is interpolated across units.
    """
    (wide, high), (across, down) = jpeg.mcu_px, jpeg.mcus
    last = pixels[(down - 1) * high :, (across - 1) * wide :]
    level = last if last.ndim == 2 else last[..., [0, 2]].mean(-1) * 0.413 + last[..., 1] * 0.587
    return bool(np.abs(level.astype(np.float64) - MISSING).max(initial=0) <= MISSING_WITHIN)


def with_more_data(jpeg: Jpeg, content: bytes | memoryview) -> tuple[bytes, bytes]:
    """Return the file without what follows its picture, and with noise put behind its data.

    A decoder that had all it needs gives the same pixels for both.
    """
    data = bytes(content[: jpeg.scans[-1].end])
    noise = np.random.default_rng(0).integers(0, 255, NOISE_BYTES, np.uint8).tobytes()
    end = bytes([0xFF, EOI])
    return data + end, data + noise + end


class _Reader:
    """Walks through the segments of a file."""

    def __init__(self, content: bytes | memoryview, what: str) -> None:
        self._content, self._what = content, what
        self._bytes: Bytes = np.frombuffer(content, np.uint8)
        # where a marker stands: 0xFF before something that is neither 0x00 (stuffed) nor fill
        after = self._bytes[1:]
        prefix = np.flatnonzero(self._bytes[:-1] == 0xFF)
        self._markers = prefix[(after[prefix] != 0) & (after[prefix] != 0xFF)]
        self._symbols = dict(STANDARD_FIRST)
        self._interval = 0
        self._jpeg: Jpeg | None = None

    def read(self) -> Jpeg:
        at = 2
        while True:
            marker, at = self._marker(at)
            if marker == EOI:
                break
            if marker in BARE:
                continue
            (length,) = struct.unpack_from('>H', self._content, at)
            body = bytes(self._content[at + 2 : at + length])
            if length < 2 or len(body) != length - 2:
                raise IndexError
            at = self._segment(marker, body, at + length)
        if self._jpeg is None or not self._jpeg.scans:
            raise self._error('it has an end but no picture')
        return self._jpeg

    def _marker(self, at: int) -> tuple[int, int]:
        if self._content[at] != 0xFF:
            raise self._error(f'no marker at byte {at}')
        while self._content[at] == 0xFF:
            at += 1
        return self._content[at], at + 1

    def _segment(self, marker: int, body: bytes, after: int) -> int:
        """Take a segment; return where the next one begins."""
        if marker in FRAME_MARKERS:
            self._frame(marker, body)
        elif marker == DHT:
            self._huffman(body)
        elif marker == DRI:
            (self._interval,) = struct.unpack('>H', body)
        elif marker == DQT:
            self._quantisation(body)
        elif marker == SOS:
            return self._scan(body, after)
        return after

    def _frame(self, marker: int, body: bytes) -> None:
        height, width, count = struct.unpack_from('>xHHB', body)
        parts = [struct.unpack_from('BB', body, 6 + 3 * i) for i in range(count)]
        planes = [Component(identity, hv >> 4, hv & 15) for identity, hv in parts]
        if not planes or any(not 0 < n <= 4 for p in planes for n in (p.across, p.down)):
            raise self._error('its colour planes make no sense')
        self._jpeg = Jpeg(width, height, marker in PROGRESSIVE, planes)

    def _huffman(self, body: bytes) -> None:
        at = 0
        while at < len(body):
            counts = list(body[at + 1 : at + 17])
            symbols = body[at + 17 : at + 17 + sum(counts)]
            if len(symbols) != sum(counts):
                raise IndexError
            self._symbols[body[at] >> 4, body[at] & 15] = symbols
            at += 17 + len(symbols)

    def _quantisation(self, body: bytes) -> None:
        at = 0
        while at < len(body):
            size = 2 if body[at] >> 4 else 1
            steps = np.frombuffer(body[at + 1 : at + 1 + 64 * size], '>u2' if size == 2 else 'u1')
            if steps.size != 64 or not steps.all():
                raise self._error('a table of its steps has zeros in it')
            at += 1 + 64 * size

    def _scan(self, body: bytes, start: int) -> int:
        if self._jpeg is None:
            raise self._error('a picture before its size')
        count = body[0]
        pairs = [(body[1 + 2 * i], body[2 + 2 * i]) for i in range(count)]
        low, high, approximation = body[1 + 2 * count : 4 + 2 * count]
        scan = Scan(
            start=start,
            components=[identity for identity, _ in pairs],
            first=[(self._first(0, t >> 4), self._first(1, t & 15)) for _, t in pairs],
            spectrum=(low, high),
            approximation=(approximation >> 4, approximation & 15),
            interval=self._interval,
        )
        self._end_scan(scan)
        self._check_hole(scan)
        self._jpeg.scans.append(scan)
        return scan.end

    def _end_scan(self, scan: Scan) -> None:
        """Find the end of a scan, and the restart markers in it."""
        for at in self._markers[np.searchsorted(self._markers, scan.start) :]:
            marker = int(self._bytes[at + 1])
            if marker not in RESTARTS:
                scan.end = int(at)
                break
            if marker != 0xD0 + len(scan.restarts) % 8:
                raise self._error('parts of it are missing between its restart markers')
            scan.restarts.append(int(at))
        else:
            raise self._error('it has no end marker: the last bytes were lost')
        if marker != EOI and marker not in BETWEEN_SCANS:
            raise self._error(f'0x{marker:02x} is no marker within a picture')
        self._check_restarts(scan)

    def _check_restarts(self, scan: Scan) -> None:
        """Compare the number of restarts with the size of the picture, where it is known."""
        jpeg = self._jpeg
        if jpeg is None or (not scan.interval and not scan.restarts):
            return
        if len(scan.components) != len(jpeg.components):
            return  # a plane alone: its blocks are counted in another way
        across, down = jpeg.mcus
        expected = math.ceil(across * down / scan.interval) - 1 if scan.interval else 0
        if len(scan.restarts) != expected:
            found = f'{len(scan.restarts)} restart markers found, {expected} expected'
            raise self._error(f'parts of it are missing: {found}')

    def _check_hole(self, scan: Scan) -> None:
        if scan.approximation[0] or self._zeros_are_flat(scan):
            return
        data = bytes(self._content[scan.start : scan.end])
        if bytes(HOLE_BYTES) in data:
            at = scan.start + data.find(bytes(HOLE_BYTES))
            raise self._error(f'a hole of zeros at byte {at}: part of it was lost')

    def _zeros_are_flat(self, scan: Scan) -> bool:
        """Say whether zero bits code blocks without detail, as tables made for a picture may."""
        low, high = scan.spectrum
        levels = low == 0
        details = high > 0
        return all(
            (not levels or level == SAME_LEVEL) and (not details or detail & 15 == END_OF_BLOCK)
            for level, detail in scan.first
        )

    def _first(self, kind: int, table: int) -> int:
        return self._symbols.get((kind, table), b'\x00')[0]

    def _error(self, reason: str) -> DataFileError:
        return DataFileError(f'{self._what}: no whole JPEG: {reason}')


def _check_planes(jpeg: Jpeg, what: str) -> None:
    """Raise DataFileError unless every plane is there; a progressive one to its last bit."""
    for plane in jpeg.components:
        scans = [scan for scan in jpeg.scans if plane.identity in scan.components]
        if not jpeg.progressive:
            complete = bool(scans)
        else:
            bits = np.full(64, 16)
            for scan in scans:
                low, high = scan.spectrum
                bits[low : high + 1] = np.minimum(bits[low : high + 1], scan.approximation[1])
            complete = not bits.any()
        if not complete:
            raise DataFileError(f'{what}: no whole JPEG: scans are missing at its end')
