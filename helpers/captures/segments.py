"""The `segments` table, made of what the layers found."""

import numpy as np
import pandas as pd

from helpers.captures.ip import address_texts
from helpers.captures.layers import DOUBTFUL_SHIFT
from helpers.captures.numbers import ALL_FLAGS, FLAG_LETTERS
from helpers.captures.streams import endpoints, hosts, streams

FRAME = np.dtype([("at", "i8"), ("captured", "u4"), ("time_ns", "i8"), ("timeless", "?")])
SEGMENT = np.dtype([
    ("frame", "i8"), ("src", "i4"), ("sport", "i8"), ("dst", "i4"), ("dport", "i8"), ("seq", "u4"), ("ack", "u4"),
    ("flags", "i2"), ("length", "i8"), ("payload_at", "i8"), ("payload_captured", "u4"), ("window", "i4"),
    ("scale", "i1")])


class Columns:
    """Columns that are filled part by part, of the types `kinds` (a structured dtype)."""

    def __init__(self, kinds):
        self._rows, self._arrays = 0, {name: np.empty(0, kinds[name]) for name in kinds.names}

    def __len__(self):
        return self._rows

    def put(self, part, expected: int) -> None:
        """Add the rows of `part`, and make room for all that are `expected` where there is none."""
        begin, self._rows = self._rows, self._rows + len(next(iter(part.values())))
        for name, array in self._arrays.items():
            if self._rows > len(array):
                self._arrays[name] = np.empty(max(expected, self._rows, 2 * begin), array.dtype)
                self._arrays[name][:begin] = array[:begin]
            self._arrays[name][begin:self._rows] = part[name]

    def whole(self) -> dict[str, np.ndarray]:
        """All rows, by column."""
        return {name: array[:self._rows] for name, array in self._arrays.items()}


def filled(time_ns: np.ndarray, timeless: np.ndarray, before: int | None = None) -> np.ndarray:
    """The times, with that of the frame before in place of a missing one.

    `before`: the time before the first frame; None: the first time that there is.
    """
    if not timeless.any():
        return time_ns
    last = np.maximum.accumulate(np.where(timeless, -1, np.arange(len(time_ns))))
    first = before if before is not None else time_ns[np.argmin(timeless)]
    return np.where(last < 0, first, time_ns[last])


def seconds_since_first(time_ns: np.ndarray) -> tuple[int, np.ndarray]:
    """The first of the times, and the seconds since then of each."""
    start = int(time_ns[0]) if len(time_ns) else 0
    seconds = (time_ns - start).astype(float)
    seconds /= 1e9
    return start, seconds


def number_addresses(columns: dict[str, np.ndarray], parts: list[tuple]) -> pd.Index:
    """The texts of all addresses; changes `src` and `dst` to places in them.

    `parts`: of each part of the columns the row where it ends, and its addresses: IPv4's, IPv6's.
    """
    fours, sixes = (np.unique(np.concatenate(addresses)) for addresses in list(zip(*parts))[1:])
    begin = 0
    for end, four, six in parts:
        place = np.concatenate([np.searchsorted(fours, four), len(fours) + np.searchsorted(sixes, six)])
        for name in ("src", "dst"):
            columns[name][begin:end] = place[columns[name][begin:end]]
        begin = end
    return address_texts(fours, sixes)


def as_segments(columns: dict[str, np.ndarray], addresses: pd.Index, time: np.ndarray) -> pd.DataFrame:
    """The table of `Capture.segments` from arrays, with one column more: `side`, 0 or 1 for the two ends of a stream.

    `columns`: as `layers.decode` gives them, but `src` and `dst` are places in `addresses`; `time`: seconds.
    The SYN and ACK of a header that can't be believed count for its stream alone.
    """
    frame, flags = pd.Index(columns["frame"], name="frame"), columns["flags"] & ALL_FLAGS
    for_streams = columns["flags"] | columns["flags"] >> DOUBTFUL_SHIFT
    stream, side = streams(*endpoints(columns, len(addresses)), for_streams, columns["seq"], columns["ack"])
    return pd.DataFrame({
        "time": time, "stream": stream, "host": hosts(stream, side, flags),
        "src": pd.Categorical.from_codes(columns["src"], addresses), "sport": columns["sport"],
        "dst": pd.Categorical.from_codes(columns["dst"], addresses), "dport": columns["dport"],
        "seq": columns["seq"], "ack": columns["ack"], "flags": _as_letters(flags), "length": columns["length"],
        "side": side}, frame, copy=False)


def _as_letters(flags):
    """The flags as letters of `FLAG_LETTERS`, each combination that occurs a category."""
    occurs = np.bincount(flags, minlength=1 << len(FLAG_LETTERS)) > 0
    codes, place = np.flatnonzero(occurs), (np.cumsum(occurs) - 1).astype(np.int16)
    names = ["".join(letter for bit, letter in enumerate(FLAG_LETTERS) if code >> bit & 1) for code in codes]
    return pd.Categorical.from_codes(place[flags], names)
