"""The payload of each direction in order: its segments may be reordered, repeated or overlapping; gaps stay gaps."""

import heapq
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from helpers.captures import FIN, SYN, Capture, in_groups
from helpers.flow.batches import Flow
from helpers.protocols.bytestream import ByteStream, Pieces

PSH, PADDING = 0x08, 6


class Payload(NamedTuple):
    """The segments of a `Flow` that carry payload, direction by direction, each in order of arrival: arrays.

    `direction`; `began`: whether its SYN was captured; `seq`, `end`: its first sequence number, and the one behind its
    last; `at`, `size`: what the file has of its bytes; `ack`: what it acknowledges; `time`, in seconds.
    """

    direction: np.ndarray
    began: np.ndarray
    seq: np.ndarray
    end: np.ndarray
    at: np.ndarray
    size: np.ndarray
    ack: np.ndarray
    time: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """The place of the first segment of each direction."""
        return np.flatnonzero(np.diff(self.direction, prepend=-1))

    @property
    def in_order(self) -> np.ndarray:
        """By direction, as `starts`: whether each of its segments continues the one before, and arrived after it."""
        continues = np.r_[True, (self.seq[1:] == self.end[:-1]) & (self.time[1:] >= self.time[:-1])][:len(self.seq)]
        starts = self.starts
        continues[starts] = ~self.began[starts] | (self.seq[starts] == 1)
        return all_of(continues, starts)


def payload(capture: Capture, flow: Flow) -> Payload:
    """The segments of `flow` that carry payload, without Ethernet's padding."""
    rows = np.flatnonzero(flow.valid & (flow.length > 0))
    rows = rows[in_groups(flow.direction[rows])]
    rows = _without_padding(capture, flow, rows)
    seq = (flow.seq + (flow.flags & SYN > 0))[rows]
    at, size = (capture.headers[name][flow.row[rows]] for name in ("payload_at", "payload_captured"))
    return Payload(flow.direction[rows], flow.began[rows], seq, seq + flow.length[rows], at, size, flow.ack[rows],
                   flow.time[rows])


def byte_streams(capture: Capture, flow: Flow, interesting: Callable) -> dict[int, ByteStream]:
    """The `ByteStream` of each direction of `flow` that sent any payload.

    `interesting`: says of many payloads (data, their places, their sizes) in which ones a message of the wanted
    protocol may begin; a stream without any is marked so. Where each segment continues the one before, the segments
    are the pieces.
    """
    sent = payload(capture, flow)
    pieces = Pieces(*(getattr(sent, name).tolist() for name in Pieces.__slots__))
    wanted, fins, streams = interesting(capture.data, sent.at, sent.size), _fins(flow), {}
    starts = sent.starts
    for name, start, stop, known, in_order, any_wanted in zip(*(column.tolist() for column in (
            sent.direction[starts], starts, np.r_[starts[1:], len(sent.seq)][:len(starts)], sent.began[starts],
            sent.in_order, any_of(wanted, starts)))):
        stream = ByteStream(capture.data.data, pieces, start, stop, 1 if known else None, fins.get(name), any_wanted)
        streams[name] = stream if in_order else _in_order(stream)
    return streams


def _without_padding(capture: Capture, flow: Flow, rows: np.ndarray) -> np.ndarray:
    """The `rows` without those whose payload is Ethernet's padding: IP counted it, but its sender did not.

    It is up to 6 zeros behind the headers of an ACK (IEEE 802.3's smallest frame), and the data that its sender sends
    next have the same number and begin with something else.
    """
    seq, length, direction = flow.seq[rows], flow.length[rows], flow.direction[rows]
    short = (length[:-1] <= PADDING) & (seq[:-1] == seq[1:]) & (direction[:-1] == direction[1:])
    short &= (length[1:] > length[:-1]) & (flow.flags[rows[:-1]] & (SYN | FIN | PSH) == 0)
    if not short.any():
        return rows
    places = np.flatnonzero(short)
    at, size = (capture.headers[name][flow.row[rows]] for name in ("payload_at", "payload_captured"))
    padded = [place for place in places.tolist() if size[place] and size[place + 1] and capture.data[at[place + 1]]
              and not capture.data[at[place]:at[place] + size[place]].any()]
    return np.delete(rows, padded)


def all_of(mask: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Whether `mask` is true of all rows from each start to the next."""
    return np.logical_and.reduceat(mask, starts) if len(starts) else np.zeros(0, bool)


def any_of(mask: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Whether `mask` is true of any row from each start to the next."""
    return ~all_of(~mask, starts)


def _fins(flow: Flow) -> dict[int, tuple]:
    """(time, sequence number) of the first FIN of each direction that sent one."""
    rows = np.flatnonzero(flow.valid & (flow.flags & FIN > 0))[::-1]
    columns = (flow.direction[rows], flow.time[rows], (flow.seq + flow.length)[rows])
    return {direction: (time, seq) for direction, time, seq in zip(*(column.tolist() for column in columns))}


def _in_order(stream: ByteStream) -> ByteStream:
    """The stream with every byte once and in order, and the time at which it and all before it had arrived."""
    held, pieces, expected, latest = [], Pieces([], [], [], [], [], []), stream.first, -np.inf
    for segment in _segments(stream):
        begin, end, time = segment[0], segment[1], segment[-1]
        expected = begin if expected is None else expected
        if begin == expected and not held and time >= latest:
            _append(pieces, segment)
            expected, latest = end, time
            continue
        heapq.heappush(held, segment)
        while held and held[0][0] <= expected:
            expected = _take(pieces, heapq.heappop(held), expected, time)
        latest = max(latest, time)
    while held:
        expected = _take(pieces, held[0], max(expected, held[0][0]), held[0][-1])
        heapq.heappop(held)
    return ByteStream(stream.buffer, pieces, 0, len(pieces.seq), stream.first, stream.fin)


def _segments(stream: ByteStream) -> Iterator[tuple]:
    """The entries of all lists of the stream's pieces, a tuple for each piece."""
    return zip(*(getattr(stream.pieces, name)[stream.start:stream.stop] for name in Pieces.__slots__))


def _take(pieces: Pieces, segment: tuple, expected: int, time: float) -> int:
    """Append what `segment` brings from the number `expected` on, and return the next number expected."""
    begin, end, at, size, ack, _ = segment
    if end <= expected:
        return expected
    known = min(expected - begin, size)
    latest = max(time, pieces.time[-1]) if pieces.time else time
    _append(pieces, (expected, end, at + known, size - known, ack, latest))
    return end


def _append(pieces: Pieces, piece: tuple) -> None:
    """Add one entry to each list of `pieces`."""
    for name, value in zip(Pieces.__slots__, piece):
        getattr(pieces, name).append(value)
