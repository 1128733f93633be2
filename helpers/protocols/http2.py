"""HTTP/2 (RFC 9113): frames, and the exchanges that both ends' frames are; `hpack` and `hyperframe` do the rest.

Nothing is trusted: the bytes may be any protocol's, and any of them may be missing. Behind a gap reading goes on at
the next frame that can be told for one; a header block that refers to what stood in the gap can't be read.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from helpers.protocols.bytestream import ByteStream, Run, runs

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED_OR_PRIORITY = 1, 4, 8 | 32
HEAD = 9
SIZES = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
LARGEST_TABLE, LARGEST_LIST = 1 << 20, 1 << 20     # of HPACK: what is kept, and what a block may unpack to
LARGEST_LIKELY = 1 << 14                            # a frame larger than this must have been agreed on
ERRORS = ("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
          "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
          "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED")


@dataclass(slots=True)
class Frame:
    """A frame: its type, flags, stream and payload (of all but DATA); its `size`, with the head.

    `whole`: whether all of it was captured; `gap`: whether bytes may be missing before it. `begun`, `ended`: when its
    first and last byte arrived.
    """

    kind: int
    flags: int
    stream: int
    payload: bytes
    size: int
    whole: bool
    gap: bool
    begun: float
    ended: float


@dataclass(slots=True)
class Exchange:
    """A stream of HTTP/2: a request and its answer; None: not known. `nth`: its place among the requests.

    `size`: bytes of the answer's frames. `lossy`: whether some of them may be missing.
    """

    line: tuple = (None, None)
    nth: int | None = None
    requested: float | None = None
    status: int | None = None
    answered: float | None = None
    finished: float | None = None
    size: int = 0
    lossy: bool = False


@dataclass
class Conversation:
    """The exchanges by stream; `signals`: (time, end, name, detail) of each GOAWAY and RST_STREAM; `end`: 0 or 1.

    `given_up`: when, by stream, of those that an end has reset. `gap_at`: when the server was last heard behind a gap.
    """

    exchanges: dict = field(default_factory=dict)
    given_up: dict = field(default_factory=dict)
    gap_at: float = -math.inf
    signals: list = field(default_factory=list)


# Frames

def begins(data: bytes) -> bool:
    """Whether `data`, the first that a client sends, are HTTP/2's."""
    return data.startswith(PREFACE[:max(len(data), 1)]) and len(data) >= 16


def begins_with_settings(data: bytes) -> bool:
    """Whether `data`, the first that a server sends, are HTTP/2's: a SETTINGS frame (RFC 9113 section 3.4)."""
    return len(data) >= HEAD and data[3] == SETTINGS and _likely(data, 0, ())


def frames(stream: ByteStream) -> Iterator[Frame]:
    """Yield the frames of what one end sent."""
    expected, gap = stream.first, stream.first is None
    for run in runs(stream):
        at, data = (expected - run.begin if expected is not None else -1), run.data
        if at < 0:
            gap, at = True, _find_frame(run, stream)
        if at is None:
            continue
        if not gap and at == 0 and run.begin == stream.first and data.startswith(PREFACE):
            at = len(PREFACE)
        while at + HEAD <= len(data):
            size = HEAD + int.from_bytes(data[at:at + 3], "big")
            end = min(at + size, len(data))
            yield _frame(run, at, end, size, gap)
            gap, at = False, at + size
        expected = run.begin + at
        gap |= at != len(data)


def _frame(run: Run, at: int, end: int, size: int, gap: bool) -> Frame:
    data, times = run.data, run.pieces.time
    begun = times[run.piece_of(at)]
    return Frame(data[at + 3], data[at + 4], int.from_bytes(data[at + 5:at + 9], "big") & 0x7FFFFFFF,
                 data[at + HEAD:end] if data[at + 3] else b"", size, end - at == size, gap, begun,
                 times[run.piece_of(end - 1)])


def _find_frame(run: Run, stream: ByteStream) -> int | None:
    """Where a frame begins at the beginning of a piece of `run`, as most frames do."""
    pieces = stream.pieces
    for place in range(run.start, run.stop):
        at = pieces.seq[place] - run.begin
        if _likely(run.data, at, range(1 << 16)):
            return at
    return None


def _likely(data: bytes, at: int, streams: range) -> bool:
    """Whether what stands at `at` is a frame, as far as its head and that of the next can tell."""
    for _ in range(3):
        head = data[at:at + HEAD]
        if len(head) < HEAD:
            return True
        size, kind, stream = int.from_bytes(head[:3], "big"), head[3], int.from_bytes(head[5:], "big")
        if kind > CONTINUATION or size > LARGEST_LIKELY or size != SIZES.get(kind, size) or (
                (stream == 0) != (kind in (SETTINGS, PING, GOAWAY)) and kind != WINDOW_UPDATE):
            return False
        if (kind == SETTINGS and size % 6) or (stream and stream not in streams):
            return False
        at += HEAD + size
    return True


# Header blocks

class Block(NamedTuple):
    """A header block: its stream; the one that is `promised`, or 0; `fields`, its pseudo-header fields.

    `fields` is None where they can't be unpacked. `size`: of its frames. `last`: whether the message ends with it.
    `begun`, `ended`: when its bytes arrived.
    """

    stream: int
    promised: int
    fields: dict | None
    size: int
    last: bool
    begun: float
    ended: float


@cache
def _hpack() -> tuple[type, type]:
    """The decoder of `hpack`, and what it raises; imported once, when the first block is unpacked."""
    from hpack import Decoder
    from hpack.exceptions import HPACKError
    return Decoder, HPACKError


class _Blocks:
    """Puts header blocks together, and unpacks them (RFC 7541).

    Indexes count from the latest entry, so that what is unpacked behind a gap is right, or can't be unpacked at all:
    then the table begins anew.
    """

    def __init__(self):
        self._decoder, self._open = None, None

    def lost(self) -> None:
        """Bytes are missing here."""
        self._decoder = self._open = None

    def take(self, frame: Frame) -> Block | None:
        """The block that ends with `frame`, None where it goes on; of a field's values the first counts."""
        if frame.kind == CONTINUATION:
            if self._open is None or self._open[0].stream != frame.stream:
                return None
            first, promised, block, size = self._open
            block += frame.payload
        else:
            first, size, (promised, block) = frame, 0, _block_of(frame)
        block, size = block if frame.whole else None, size + frame.size
        if not frame.flags & END_HEADERS and block is not None:
            self._open = first, promised, block, size
            return None
        self._open = None
        return Block(first.stream, promised, self._unpack(block), size, bool(first.flags & END_STREAM), first.begun,
                     frame.ended)

    def _unpack(self, block: bytearray | None) -> dict | None:
        if block is None:
            self._decoder = None
            return None
        decoder, failure = _hpack()
        if self._decoder is None:
            self._decoder = decoder(max_header_list_size=LARGEST_LIST)
            self._decoder.max_allowed_table_size = LARGEST_TABLE
        try:
            fields = self._decoder.decode(bytes(block), raw=True)
        except (failure, ValueError, IndexError):
            self._decoder = None
            return None
        return {bytes(name): bytes(value) for name, value in reversed(fields) if name[:1] == b":"}


def _block_of(frame: Frame) -> tuple[int, bytearray | None]:
    """(promised stream, the fragment of a header block) in HEADERS or PUSH_PROMISE; None where it is damaged."""
    if frame.kind == HEADERS and not frame.flags & PADDED_OR_PRIORITY:
        return 0, bytearray(frame.payload)
    parsed = _parsed(frame)
    return (0, None) if parsed is None else (getattr(parsed, "promised_stream_id", 0), bytearray(parsed.data))


def _parsed(frame: Frame):
    """The frame as `hyperframe` reads it; None where it can't."""
    from hyperframe.exceptions import HyperframeError
    from hyperframe.frame import Frame as Parsed
    head = len(frame.payload).to_bytes(3, "big") + bytes((frame.kind, frame.flags)) + frame.stream.to_bytes(4, "big")
    try:
        parsed, _ = Parsed.parse_frame_header(memoryview(head))
        parsed.parse_body(memoryview(frame.payload))
    except (HyperframeError, ValueError):
        return None
    return parsed


# Exchanges

def read_conversation(client: ByteStream | None, server: ByteStream | None) -> Conversation:
    """The exchanges of a connection whose client and server sent these, and the signals that end them."""
    talk = Conversation()
    if client:
        _read_client(client, talk)
    if server:
        _read_server(server, talk)
    talk.signals.sort(key=lambda signal: signal[0])
    return talk


def _read_client(stream: ByteStream, talk: Conversation) -> None:
    blocks, number = _Blocks(), 0
    for frame in frames(stream):
        if frame.gap:
            blocks.lost()
            number = None
        block = blocks.take(frame) if frame.kind in (HEADERS, CONTINUATION) else None
        if block and block.stream % 2 and block.stream not in talk.exchanges:
            number = None if number is None else number + 1
            talk.exchanges[block.stream] = Exchange(_request_line(block.fields), number, block.begun)
        _signal(frame, 0, talk)


def _read_server(stream: ByteStream, talk: Conversation) -> None:
    blocks = _Blocks()
    for frame in frames(stream):
        if frame.gap:
            blocks.lost()
            talk.gap_at = frame.begun
        if frame.kind in (HEADERS, CONTINUATION, PUSH_PROMISE) and (block := blocks.take(frame)):
            if block.promised:
                talk.exchanges.setdefault(block.promised, Exchange(_request_line(block.fields), None, block.begun))
            elif exchange := talk.exchanges.get(block.stream):
                _answer(exchange, block)
                _go_on(exchange, block.size, block.ended, block.last, block.fields is not None, talk, block.stream)
        elif frame.kind == DATA and (exchange := talk.exchanges.get(frame.stream)):
            _go_on(exchange, frame.size, frame.ended, frame.flags & END_STREAM, frame.whole, talk, frame.stream)
        _signal(frame, 1, talk)


def _answer(exchange: Exchange, block: Block) -> None:
    """Note the head of an answer; interim ones (100 to 199) answer nothing (RFC 9113 section 8.1)."""
    status = _status(block.fields or {})
    if status is not None and status >= 200 and exchange.status is None:
        exchange.status, exchange.answered, exchange.size = status, block.begun, 0


def _go_on(exchange: Exchange, size: int, ended: float, last: int, whole: bool, talk: Conversation,
           stream: int) -> None:
    """Count what a frame, or a header block, brings to the answer, and note where the answer ends.

    What comes after the stream was given up counts for nothing.
    """
    if exchange.finished is None and not ended > talk.given_up.get(stream, ended):
        exchange.size += size
        exchange.lossy |= not whole or exchange.requested <= talk.gap_at
        if last:
            exchange.finished = ended


def _request_line(fields: dict | None) -> tuple:
    """(method, target): the path, or what CONNECT names; None where not known."""
    fields = fields or {}
    return fields.get(b":method"), fields.get(b":path", fields.get(b":authority"))


def _status(fields: dict) -> int | None:
    text = fields.get(b":status", b"")
    return int(text) if len(text) == 3 and text.isdigit() and text >= b"100" else None


def _signal(frame: Frame, end: int, talk: Conversation) -> None:
    """Note a GOAWAY or a RST_STREAM, and that a stream was given up (sections 6.4 and 6.8)."""
    if frame.kind not in (GOAWAY, RST_STREAM) or not frame.whole or (parsed := _parsed(frame)) is None:
        return
    error = ERRORS[parsed.error_code] if parsed.error_code < len(ERRORS) else f"error {parsed.error_code}"
    if frame.kind == GOAWAY:
        behind = sum(stream % 2 and stream > parsed.last_stream_id for stream in talk.exchanges) if end else 0
        more = f", {behind} requests behind it" if behind else ""
        talk.signals.append((frame.ended, end, "GOAWAY", f"last stream {parsed.last_stream_id}, {error}{more}"))
    else:
        talk.signals.append((frame.ended, end, "RST_STREAM", f"stream {frame.stream}, {error}"))
        talk.given_up.setdefault(frame.stream, frame.ended)
