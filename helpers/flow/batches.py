"""The segments of a capture, sorted by connection, as arrays: `flows(capture)` yields them in batches.

A batch fits into a processor's cache, which makes the work on it several times as fast as on the whole file.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from helpers.captures import ACK, CHUNK, FIN, LARGEST_SCALE, RST, SYN, Capture, in_groups, in_threads
from helpers.flow.groups import NO_LIMIT, NONE, first_row, highest, running_highest
from helpers.flow.numbers import count_from_initial

ARRAYS = ("row", "direction", "stream", "time", "flags", "length", "window", "scale", "raw_seq", "raw_ack", "known",
          "has_ack", "began", "seq", "seq_end", "ack", "edge", "valid")


@dataclass
class Flow:
    """The segments of some whole connections, sorted by connection and then as in the file; an array for each property.

    `first`: the number of the first connection; `begins`: where each connection begins. `stream` and `direction` (see
    `groups`) count from `first` on, and there are so many `directions`. `row`: position in `capture.segments`.
    `known`: whether the SYN says which end is the client. `raw_seq`, `raw_ack`: as in the header. `seq`, `ack`:
    counted from the initial number of their direction if its SYN or SYN-ACK was captured (`began`), or else from the
    first number that was seen; `seq_end`: the next number after the segment. `has_ack`: ACK and no RST. `edge`: the
    highest number that the receiver ever allowed (its ACK and window). `valid`: no RST, inside that window and not
    before the sender's SYN. (Where a SYN stands in the file behind what it opened, the numbers decide.) Segments that
    are not valid are old duplicates, or damaged.
    """

    first: int
    begins: np.ndarray
    directions: int
    row: np.ndarray
    direction: np.ndarray
    stream: np.ndarray
    time: np.ndarray
    flags: np.ndarray
    length: np.ndarray
    window: np.ndarray
    scale: np.ndarray
    raw_seq: np.ndarray
    raw_ack: np.ndarray
    known: np.ndarray
    has_ack: np.ndarray
    began: np.ndarray
    seq: np.ndarray
    seq_end: np.ndarray
    ack: np.ndarray
    edge: np.ndarray
    valid: np.ndarray

    def of_connections(self, chosen: np.ndarray) -> "Flow":
        """The segments of the connections `chosen` (a mask) alone, which keep their numbers."""
        rows, sizes = np.flatnonzero(chosen[self.stream]), np.diff(np.r_[self.begins, len(self.row)])[chosen]
        return replace(self, begins=np.cumsum(sizes) - sizes, **{name: getattr(self, name)[rows] for name in ARRAYS})


def directions(capture: Capture) -> np.ndarray:
    """The direction of each segment: twice its stream, plus one where the server sends, or the second end."""
    host = capture.segments["host"].cat.codes.to_numpy()
    return 2 * capture.segments["stream"].to_numpy() + np.where(host < 0, capture.headers["side"], host)


def flows(capture: Capture) -> Iterator[Flow]:
    """Yield the segments of `capture`, in batches of whole connections of about `CHUNK` segments."""
    return (_flow(*batch) for batch in _batches(capture))


def of_flows(work: Callable, capture: Capture) -> Iterator:
    """Yield `work(flow)` for each of `flows(capture)`, in their order, made in the threads of `capture`."""
    return in_threads(lambda batch: work(_flow(*batch)), _batches(capture), capture.threads)


def _batches(capture: Capture) -> Iterator[tuple]:
    """Yield what `_flow` needs for each of `flows(capture)`."""
    segments, headers, direction = capture.segments, capture.headers, directions(capture)
    columns = {"direction": direction, "known": segments["host"].cat.codes.to_numpy() >= 0,
               **{name: segments[name].to_numpy() for name in ("time", "length")},
               **{name: headers[name] for name in ("flags", "window", "scale")},
               **{f"raw_{name}": segments[name].to_numpy() for name in ("seq", "ack")}}
    order, ends = in_groups(direction >> 1), np.cumsum(np.bincount(direction >> 1))
    first, begin = 0, 0
    while first < len(ends) or not first:
        last = max(int(np.searchsorted(ends, begin + CHUNK, "right")), first + 1)
        stop = int(ends[last - 1]) if len(ends) else 0
        row, begins = order[begin:stop], np.r_[begin, ends[first:last - 1]][:len(ends[first:last])] - begin
        yield columns, row, first, begins
        first, begin = last, stop


def _flow(columns: dict, row: np.ndarray, first: int, begins: np.ndarray) -> Flow:
    """The `Flow` of the segments at `row` of `columns`; `first` and `begins` as there."""
    columns = {name: column[row] for name, column in columns.items()}
    size, flags, direction = 2 * len(begins), columns["flags"], columns["direction"] - 2 * first
    columns |= {"direction": direction, **{name: columns[name].astype(np.int64) for name in ("raw_seq", "raw_ack")}}
    began, seq, ack = count_from_initial(direction, flags, columns["raw_seq"], columns["raw_ack"], size)
    seq_end = seq + columns["length"] + (flags & SYN > 0) + (flags & FIN > 0)
    syn = first_row(direction, flags & (SYN | RST) == SYN, size)
    edge = _edge(direction, ack, columns, size)[direction]
    valid = (flags & RST == 0) & (seq_end <= edge + 1) & (~began | (seq >= -1))
    early = np.arange(len(row)) < syn[direction]
    if early.any():
        valid &= ~early | _follows_a_late_syn(direction, seq, np.where(flags & RST, NONE, seq_end), ack)
    return Flow(first=first, begins=begins, directions=size, row=row, stream=direction >> 1, began=began, seq=seq,
                seq_end=seq_end, ack=ack, has_ack=flags & (ACK | RST) == ACK, edge=edge, valid=valid, **columns)


def _follows_a_late_syn(direction: np.ndarray, seq: np.ndarray, sent: np.ndarray, ack: np.ndarray) -> np.ndarray:
    """Which segments have numbers above both SYNs, so that they belong to these, wherever the SYNs are in the file.

    `sent`: the number up to which each sends. What an older connection left between the same endpoints lies below the
    SYNs, as initial numbers grow (RFC 9293 section 3.4.1), or acknowledges what has not been sent yet.
    """
    first, begins = direction & 1 == 0, np.diff(direction >> 1, prepend=-1) > 0
    before = []
    for mine in (first, ~first):
        highest_yet = np.r_[NONE, running_highest(np.where(mine, sent, NONE), direction >> 1)][:len(sent)]
        highest_yet[begins] = NONE
        before.append(highest_yet)
    return (seq >= 1) & (ack >= 1) & (ack <= np.where(first, *reversed(before)))


def _edge(direction: np.ndarray, ack: np.ndarray, columns: dict, size: int) -> np.ndarray:
    """By direction, the highest sequence number that any segment of the peer allowed; NO_LIMIT where none did.

    The window counts in units of 2**scale, as the SYN says; the largest scale there is, where the SYN was not captured.
    Source: RFC 7323 section 2.2.
    """
    flags, scale = columns["flags"], np.full(size, LARGEST_SCALE)
    syns = np.flatnonzero(flags & (SYN | RST) == SYN)
    scale[direction[syns]] = columns["scale"][syns]
    rows = np.flatnonzero(flags & (ACK | RST) == ACK)
    allowed = ack.copy()
    allowed[rows] += np.left_shift(columns["window"][rows].astype(np.int64), scale[direction[rows]])
    edge = highest(allowed, direction ^ 1, rows, size)
    return np.where(edge == NONE, NO_LIMIT, edge)
