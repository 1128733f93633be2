"""HTTP/3: frames of its streams, and their headers (RFC 9114; QPACK: RFC 9204, by pylsqpack)."""

from collections.abc import Iterator
from typing import Any

from helpers.protocols import http1
from helpers.protocols.quic.numbers import varint
from helpers.protocols.quic.received import Received

CLIENT, SERVER = 0, 1
DATA, HEADERS, SETTINGS, GOAWAY = 0, 1, 4, 7
CONTROL, ENCODER = 0, 2                 # types of unidirectional streams
TABLE_CAPACITY = 1                      # a setting
LARGEST_TABLE = 1 << 24                 # bytes of QPACK's table that a peer may ask us to keep
LARGEST_EXPANSION = 1 << 27             # bytes to which a block of headers may unfold
Streams = dict[tuple[int, int], Received]


def frames(data: bytes, at: int = 0) -> Iterator[tuple[int, int, int, int]]:
    """(type, begin, where its payload begins, end) of each frame of a stream; the last may end behind `data`."""
    while at < len(data):
        begin = at
        try:
            kind, at = varint(data, at)
            size, at = varint(data, at)
        except ValueError:
            return
        yield kind, begin, at, at + size
        at += size


def exchanges_of(streams: Streams) -> Iterator[tuple]:
    """Yield (nth, method, target, status, requested, answered, finished, response bytes) of each request.

    `streams`: what each side sent on each stream; None stands for what did not come, or can't be read.
    """
    blocks = {side: _header_blocks(streams, side) for side in (CLIENT, SERVER)}
    for (side, number), stream in sorted(streams.items()):
        if side != CLIENT or number % 4 or not stream.data:
            continue
        request = next(iter(blocks[CLIENT].get(number, ())), (None, {}))[1]
        answer, answered = streams.get((SERVER, number)), (None, None)
        for begun, fields in blocks[SERVER].get(number, ()):
            status = _status(fields)
            if status is None or status >= 200:
                answered = status, begun
                break
        finished = answer.finished if answer and answered[1] is not None else None
        yield (number // 4 + 1, _shown(request.get(b":method")), _target(request), answered[0], stream.time(0),
               answered[1], finished, None if finished is None else answer.size)


def goaways(streams: Streams) -> list[tuple[float, int]]:
    """(time, side) of each GOAWAY."""
    return [(stream.time(end - 1), side) for side in (CLIENT, SERVER) for stream, at in _of_type(streams, side, CONTROL)
            for kind, _, _, end in frames(stream.data, at) if kind == GOAWAY and end <= len(stream.data)]


def _of_type(streams, side, kind):
    """The unidirectional streams of this type that `side` sent, and where what follows the type begins."""
    for (sender, number), stream in sorted(streams.items()):
        if sender == side and number % 4 == 2 + side and stream.data:
            try:
                found, at = varint(stream.data, 0)
            except ValueError:
                continue
            if found == kind:
                yield stream, at


def _table_capacity(streams, side):
    """The table that `side` keeps for what its peer encodes, in bytes; 0 where it doesn't say."""
    for stream, at in _of_type(streams, side, CONTROL):
        for kind, _, begin, end in frames(stream.data, at):
            if kind == SETTINGS and end <= len(stream.data):
                return _setting(bytes(stream.data[begin:end]), TABLE_CAPACITY)
    return 0


def _setting(data, wanted):
    at = 0
    try:
        while at < len(data):
            name, at = varint(data, at)
            value, at = varint(data, at)
            if name == wanted:
                return value
    except ValueError:
        pass
    return 0


def _header_blocks(streams, side):
    """The headers that `side` sent, by request stream: lists of (when they began, fields), fields empty if unreadable.

    The table of QPACK changes while the connection lasts: encoder stream and headers are read in order of arrival.
    """
    events, found = [], {}
    for stream, at in _of_type(streams, side, ENCODER):
        events += [(time, 0, None, part) for time, part in _parts_from(stream, at)]
        break
    for (sender, number), stream in sorted(streams.items()):
        if sender == side and number % 4 == 0:
            for kind, begin, at, end in frames(stream.data):
                if kind == HEADERS and at < end <= len(stream.data):
                    place = found.setdefault(number, [])
                    place.append([stream.time(begin), {}])
                    events.append((stream.time(end - 1), 1, place[-1], bytes(stream.data[at:end])))
    events.sort(key=lambda event: event[:2])
    _decode(events, _table_capacity(streams, 1 - side))
    return found


def _parts_from(stream, at):
    for time, part in stream.parts():
        if len(part) > at:
            yield time, part[at:]
        at = max(at - len(part), 0)


def _decode(events, capacity):
    """Fill in the fields of each block in `events`: (time, 0, None, instructions), (time, 1, place, block)."""
    import pylsqpack

    if capacity > LARGEST_TABLE:
        return
    decoder: Any = pylsqpack.Decoder(capacity, 1 << 15)
    blocked, fed = {}, 0
    for number, (_, _, place, data) in enumerate(events):
        try:
            if place is None:
                fed += len(data)
                for ready in decoder.feed_encoder(data):
                    blocked.pop(ready)[1] = _fields(decoder.resume_header(ready)[1])
            elif len(data) * min(capacity, 2 * fed) < LARGEST_EXPANSION:
                blocked[number] = place
                place[1] = _fields(decoder.feed_header(number, data)[1])
                del blocked[number]
        except pylsqpack.StreamBlocked:
            continue
        except pylsqpack.DecompressionFailed:
            blocked.pop(number, None)
        except (pylsqpack.EncoderStreamError, ValueError):
            return


def _fields(headers):
    """The pseudo-header fields, the first of each name."""
    return {name: value for name, value in reversed(headers) if name.startswith(b":")}


def _status(fields):
    text = fields.get(b":status", b"")
    return int(text) if len(text) == 3 and text.isdigit() else None


def _target(fields):
    return _shown(fields.get(b":path", fields.get(b":authority")))


def _shown(value):
    """A field's value as Latin-1, control characters as escapes; None where there is none."""
    if value is None:
        return None
    return http1.shown((value, b"", None))[0]
