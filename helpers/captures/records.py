"""Records of a file, found and read many at once; and how far the file has been read."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from helpers.captures.secrets import Secrets

CHUNK = 1 << 16     # frames decoded at a time: their columns fit a processor's cache
SLAB = 1 << 22      # bytes of the file searched at a time
LARGEST_FRAME = 1 << 18     # bytes; what claims more is damaged, as in Wireshark (WTAP_MAX_PACKET_SIZE_STANDARD)


@dataclass
class Progress:
    """How far the frames of some bytes have been read: as far as byte `end`; `cuts`: where and why no further.

    `found`: how many frames there are, at most, as far as has been seen. `before`: how many frames the file has before
    these bytes. `head`: the bytes that the rest of the file needs before it to be read: the file's header, or the
    header of the section and its interfaces. `drops`: how many frames were dropped in all, by interface of the last
    section. `statistics`: (byte, how many more were dropped) of each block of statistics. `time_ns`: of the last frame,
    in ns since 1970; None as long as no frame had a time. `secrets`: those that the file holds so far. `threads`: how
    many search these bytes.
    """

    found: int = 0
    before: int = 0
    end: int = 0
    cuts: list = field(default_factory=list)
    head: bytes = b""
    drops: dict = field(default_factory=dict)
    statistics: list = field(default_factory=list)
    time_ns: int | None = None
    secrets: Secrets = field(default_factory=Secrets)
    threads: int = 1

    @property
    def dropped(self) -> int | None:
        """How many frames were dropped, as these bytes say: more than those before them said. None: they don't say."""
        end = self.cuts[0][0] if self.cuts else self.end
        grown = [more for at, more in self.statistics if at < end]
        return sum(grown) if grown else None

    def goes_on(self) -> "Progress":
        """What is known before the bytes that follow."""
        return Progress(before=self.before + self.found, head=self.head, drops=dict(self.drops), time_ns=self.time_ns,
                        secrets=self.secrets)

    def cut(self, at: int, reason: str) -> None:
        """Say that reading stops at byte `at`, and why."""
        self.cuts.append((at, reason))


def structures(data: np.ndarray, at: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The structures of type `dtype` that begin at each of the positions `at`."""
    if not len(at):
        return np.empty(0, dtype)
    everywhere = np.ndarray(len(data) - dtype.itemsize + 1, f"V{dtype.itemsize}", data, strides=(1,))
    return everywhere[at].view(dtype)


def distinct(values: np.ndarray) -> np.ndarray:
    """The values that occur, each once."""
    return values[:1] if (values == values[:1]).all() else np.unique(values)


def chunks(offsets: np.ndarray) -> Iterator[np.ndarray]:
    """`offsets` in parts of `CHUNK`; at least one part, maybe empty."""
    return (offsets[begin:begin + CHUNK] for begin in range(0, max(len(offsets), 1), CHUNK))


class Runs:
    """Runs of records, each of which begins where the one before ends, found in the whole file at once.

    `begins`, `ends`: where a record may begin, in order, and where it would end. It is a guess: where it is wrong, runs
    are short. A run is taken only from where a record is known to begin.
    """

    def __init__(self, begins, ends):
        followed = np.ones(len(begins), bool)
        loose = np.flatnonzero(ends[:-1] != begins[1:])
        followed[loose] = begins[np.minimum(np.searchsorted(begins, ends[loose]), len(begins) - 1)] == ends[loose]
        self.begins, self.ends = (begins, ends) if followed.all() else (begins[followed], ends[followed])
        self.breaks = np.flatnonzero(self.ends[:-1] != self.begins[1:])

    def take(self, at: int, offsets) -> int:
        """Add to `offsets` the run that begins at `at`, and return where it ends: `at` where there is none."""
        row = int(np.searchsorted(self.begins, at))
        if row == len(self.begins) or self.begins[row] != at:
            return at
        place = np.searchsorted(self.breaks, row)
        last = int(self.breaks[place]) if place < len(self.breaks) else len(self.begins) - 1
        offsets.frombytes(self.begins[row:last + 1].view(np.uint8))
        return int(self.ends[last])
