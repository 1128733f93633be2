"""What one end sent, as a protocol reads it: bytes in order, with gaps where some were not captured."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from operator import add

LONGEST_LINE = 1 << 20


@dataclass(slots=True)
class Pieces:
    """Bytes in order, piece by piece: lists with an entry for each piece.

    A piece has the sequence numbers from `seq` to before `end`; at `time` it and all before it had arrived. What was
    captured of it are the `size` bytes at `at` of a buffer. `ack`: what its sender acknowledged with it.
    """

    seq: list
    end: list
    at: list
    size: list
    ack: list
    time: list


@dataclass(slots=True)
class ByteStream:
    """What one end of a connection sent: the `pieces` from number `start` to before `stop`. Their bytes: in `buffer`.

    `first`: the sequence number at which its bytes begin, None where the beginning was not captured. `fin`: (time,
    sequence number) of its FIN, or None. `interesting`: whether a reader should look at it at all.
    """

    buffer: memoryview
    pieces: Pieces
    start: int
    stop: int
    first: int | None
    fin: tuple | None
    interesting: bool = True

    @property
    def begun(self) -> float:
        """When the first byte that was captured arrived."""
        return self.pieces.time[self.start]


@dataclass(slots=True)
class Run:
    """Bytes of a stream without a gap: `data`, from the sequence number `begin` on, of the pieces from `start` on.

    Places in it are asked for in ascending order.
    """

    pieces: Pieces
    start: int
    stop: int
    begin: int
    data: bytes

    def piece_of(self, at: int) -> int:
        """The number of the piece that holds the byte `at`."""
        self.start = bisect_right(self.pieces.seq, self.begin + at, self.start, self.stop) - 1
        return self.start

    def record(self, kind: Callable, head: bytes, at: int, end: int, missed: tuple):
        """A `kind` (as `tls.Record`) of what stands between the places `at` and `end`."""
        pieces, first = self.pieces, self.piece_of(at)
        last = first if pieces.end[first] >= self.begin + end else self.piece_of(end - 1)
        return kind(head[0], head, self.data[at + len(head):end], self.begin + at, self.begin + end,
                    pieces.time[last], pieces.ack[first], missed)


def runs(stream: ByteStream) -> Iterator[Run]:
    """Yield each `Run` of what was captured of a stream."""
    buffer, pieces, start, end = stream.buffer, stream.pieces, stream.start, stream.stop
    seqs, places, sizes = pieces.seq, pieces.at, pieces.size
    while start < end:
        stop = start + 1
        while stop < end and seqs[stop] == seqs[stop - 1] + sizes[stop - 1]:
            stop += 1
        whole = places[stop - 1] + sizes[stop - 1]
        if whole - places[start] == seqs[stop - 1] + sizes[stop - 1] - seqs[start]:     # the pieces lie side by side
            data = bytes(buffer[places[start]:whole])
        else:
            begins = places[start:stop]
            data = b"".join(map(buffer.__getitem__, map(slice, begins, map(add, begins, sizes[start:stop]))))
        yield Run(pieces, start, stop, seqs[start], data)
        start = stop


def first_part(stream: ByteStream, length: int) -> ByteStream:
    """The pieces of a stream that begin in its first `length` bytes."""
    limit = stream.pieces.seq[stream.start] + length if stream.start < stream.stop else 0
    return replace(stream, stop=bisect_left(stream.pieces.seq, limit, stream.start, stream.stop))


class Cursor:
    """A place in a `ByteStream`: the byte `offset` of the piece number `index`. It only moves forward."""

    def __init__(self, stream: ByteStream):
        self.buffer, self.pieces, self.fin = stream.buffer, stream.pieces, stream.fin
        self.index, self.stop, self.offset = stream.start, stream.stop, 0
        self.line_ended, self._held = None, (None, b"")

    @property
    def place(self) -> int:
        """The sequence number here."""
        return self.pieces.seq[self.index] + self.offset

    @property
    def ack(self) -> int:
        """What the sender acknowledged here."""
        return self.pieces.ack[self.index]

    def bytes_of(self, index: int) -> bytes:
        """What was captured of a piece."""
        at = self.pieces.at[index]
        return self.buffer[at:at + self.pieces.size[index]].tobytes()

    def captured_end(self, index: int) -> int:
        """The sequence number behind what was captured of a piece."""
        return self.pieces.seq[index] + self.pieces.size[index]

    def continues(self, index: int) -> bool:
        """Whether the next piece follows without a gap."""
        return index + 1 < self.stop and self.captured_end(index) == self.pieces.seq[index + 1]

    def skip_to(self, end: int) -> tuple[int | None, float | None]:
        """Move to the sequence number `end`; (`end`, when the byte before it had arrived), None where not captured."""
        pieces, last = self.pieces, self.index
        if end > pieces.end[last]:
            last = bisect_left(pieces.seq, end, last, self.stop) - 1
        self.index, self.offset = last, end - pieces.seq[last]
        if self.offset >= pieces.size[last]:
            self.index, self.offset = last + 1, 0
        if pieces.end[last] >= end:
            return end, pieces.time[last]
        return (end if self.index < self.stop else None), None

    def skip_to_fin(self, begin: int) -> tuple[int | None, float | None]:
        """Move behind all pieces; (sequence number, time) of the FIN, None if none was captured from `begin` on."""
        self.index = self.stop
        if self.fin is None or self.fin[1] < begin:
            return None, None
        return self.fin[1], max(self.fin[0], self.pieces.time[self.stop - 1])

    def take_line(self, begin: int) -> bytes:
        """The line that begins at the sequence number `begin`, and move behind it; b"" if it was not captured.

        `line_ended` then says when its last byte had arrived.
        """
        line, there = bytearray(), self.index < self.stop and self.place == begin
        while there and len(line) <= LONGEST_LINE:
            index, piece = self.index, self._held_piece()
            end = piece.find(b"\n", self.offset) + 1
            line += piece[self.offset:end or None]
            there = not end and self.continues(index)
            self.index, self.offset = (index, end) if 0 < end < len(piece) else (index + 1, 0)
            if end:
                self.line_ended = self.pieces.time[index]
                return line
        return b""

    def _held_piece(self) -> bytes:
        """The bytes of the piece here, which are kept while lines of it are asked for."""
        if self._held[0] != self.index:
            self._held = self.index, self.bytes_of(self.index)
        return self._held[1]
