"""The payload of each direction in order: reordered, repeated, overlapping, missing."""

import heapq
from dataclasses import dataclass

import numpy as np

from helpers.captures import FIN, SYN, in_groups
from helpers.protocols.http1 import may_ask


@dataclass(slots=True)
class Pieces:
    """Bytes in order, as lists, a piece an entry: sequence numbers `seq` to `end` arrived, with all before them, by `time`.

    `at`, `size`: place and length in the file of what was captured of them; `ack`: the sender's acknowledgment.
    """

    seq: list
    end: list
    at: list
    size: list
    ack: list
    time: list


@dataclass(slots=True)
class Side:
    """What one direction of a stream sent: `pieces` from `start` to `stop`.

    `first`: sequence number at which its bytes begin, None if unknown. `close`: (time, sequence number) of the FIN, or None.
    `may_ask`: whether any piece may begin with a request.
    """

    pieces: Pieces
    start: int
    stop: int
    first: int | None
    close: tuple | None
    may_ask: bool


def sides_of(capture, flow):
    """The `Side` of each direction that sent any bytes; and the file's bytes.

    Where every segment continues the one before, the segments are the pieces.
    """
    buffer = capture._data.data
    closes = np.flatnonzero(flow.sound & (flow.flags & FIN > 0))[::-1]
    close = dict(zip(flow.direction[closes].tolist(), zip(flow.time[closes].tolist(), (flow.seq + flow.length)[closes].tolist())))
    talks = np.flatnonzero(flow.sound & (flow.length > 0))
    talks = talks[in_groups(flow.direction[talks])]
    direction, time, began, row = (column[talks] for column in (flow.direction, flow.time, flow.began, flow.row))
    seq = (flow.seq + (flow.flags & SYN > 0))[talks]
    end = seq + flow.length[talks]
    at, size = (capture._headers[name][row] for name in ("payload_at", "payload_captured"))
    segments = Pieces(*(column.tolist() for column in (seq, end, at, size, flow.ack[talks], time)))
    starts = np.flatnonzero(np.diff(direction, prepend=-1))
    continues = np.r_[True, (seq[1:] == end[:-1]) & (time[1:] >= time[:-1])][:len(seq)]
    continues[starts] = ~began[starts] | (seq[starts] == 1)
    asks = may_ask(capture._data, at, size)
    orderly, asking = (told.reduceat(rows, starts) if len(starts) else rows for told, rows in (
        (np.logical_and, continues), (np.logical_or, asks)))
    sides = {}
    for name, start, stop, known, in_order, may in zip(*(column.tolist() for column in (
            direction[starts], starts, np.r_[starts[1:], len(seq)][:len(starts)], began[starts], orderly, asking))):
        side = Side(segments, start, stop, 1 if known else None, close.get(name), may)
        sides[name] = side if in_order else _in_order(side)
    return sides, buffer


def _in_order(side):
    """The side with every byte once and in order, and the time at which it and all before it had arrived."""
    columns = [getattr(side.pieces, name)[side.start:side.stop] for name in Pieces.__slots__]
    held, pieces, expected, latest = [], Pieces([], [], [], [], [], []), side.first, -np.inf
    for segment in zip(*columns):
        begin, end, time = segment[0], segment[1], segment[-1]
        expected = begin if expected is None else expected
        if begin == expected and not held and time >= latest:
            _append(pieces, *segment)
            expected, latest = end, time
            continue
        heapq.heappush(held, segment)
        while held and held[0][0] <= expected:
            expected = _take(pieces, heapq.heappop(held), expected, time)
        latest = max(latest, time)
    while held:
        expected = _take(pieces, held[0], max(expected, held[0][0]), held[0][-1])
        heapq.heappop(held)
    return Side(pieces, 0, len(pieces.seq), side.first, side.close, True)


def _take(pieces, segment, expected, time):
    """Append what `segment` brings from `expected` on, and return the next sequence number expected."""
    begin, end, at, size, ack, _ = segment
    if end <= expected:
        return expected
    known = min(expected - begin, size)
    _append(pieces, expected, end, at + known, size - known, ack, max(time, pieces.time[-1]) if pieces.time else time)
    return end


def _append(pieces, *piece):
    for name, value in zip(Pieces.__slots__, piece):
        getattr(pieces, name).append(value)
