"""HTTP/1.x exchanges from packets: `exchanges(capture)` gives one row per request with its response.

Bytes are put in order by sequence number, messages are cut as RFC 9112 section 6.3 says (h11 reads chunked bodies), and
answers are paired with requests first in, first out, as its section 9.3 demands of every connection.
"""

import gc
import heapq
import re
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import h11
import numpy as np
import pandas as pd

from helpers.captures import FIN, SYN
from helpers.connections import segment_flow

COLUMNS = {"stream": "int64", "nth": "Int64", "method": "string", "target": "string", "status": "Int64",
           "version": "string", "framing": "string", "requested": "Float64", "answered": "Float64",
           "finished": "Float64", "response_bytes": "Int64"}
REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([^\s]*)(?: [^\r\n]*)? HTTP/(1\.\d)\r?\n")
REQUEST_BEGIN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}( |$)")
REQUEST_CUT = re.compile(
    rb"(GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PROPFIND) ((?:/|\*|https?://|(?<=CONNECT ))[^\s]*)"
    rb"(?: (?:|H|HT|HTT|HTTP/?|HTTP/1\.?|HTTP/(1\.\d)\r?))?$")
STATUS_LINE = re.compile(rb"HTTP/1\.\d (\d\d\d)[^\n]*\n")
STATUS_BEGIN = re.compile(rb"HTTP/1\.\d|(H|HT|HTT|HTTP/?|HTTP/1\.?)$")
STATUS_CUT = re.compile(rb"HTTP/1\.\d (\d\d\d)( [^\n]*)?$")
FRAMING = re.compile(rb"^(content-length|transfer-encoding)[ \t]*:[ \t]*([^\r\n]*)", re.MULTILINE | re.IGNORECASE)
BLANK = re.compile(rb"[\r\n]*")
HEAD_END = re.compile(rb"\n\r?\n")
LARGEST_LINE, LARGEST_HEAD = 1 << 16, 1 << 18
HEADS_KNOWN, LARGEST_KNOWN = 1 << 12, 1 << 11
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def exchanges(capture):
    """One row per HTTP/1.x exchange of `capture`, in order of request.

    Columns: `stream`; `nth` (1: first on its connection; `<NA>` where bytes before it were not captured); `method`,
    `target`, `version` (of the request); `status`; `framing`, how the end of the response is known (`content-length`,
    `chunked`, `until-close`, or `none` where there is no body to end); `requested`, `answered` (first byte of the
    request, of the response), `finished` (last byte, or the FIN that ends it), in seconds since the first frame;
    `response_bytes` (status line, header and body). What was not captured is `<NA>`. Where frames were cut, a head counts
    by its first line; where that was cut, `version` is `<NA>`, and `target` what was captured of it. A line whose target
    has spaces gives the part before the first, as Wireshark does.

    Source: RFC 9112 sections 6.3 (framing), 9.3 (order); an answer that was not captured doesn't shift the later ones.
    """
    with _uncollected():
        sides = _sides(capture)
        rows = [row for asking in sorted(sides) for row in _exchanges_of(capture, asking, sides)]
    columns = dict(zip(COLUMNS, zip(*rows))) if rows else {name: [] for name in COLUMNS}
    table = pd.DataFrame({name: pd.array(columns[name], dtype=kind) for name, kind in COLUMNS.items()})
    return table.sort_values(["requested", "stream", "nth"], kind="stable", ignore_index=True)


@contextmanager
def _uncollected():
    """Spare the garbage collector the many small objects made here, none of which is part of a cycle."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@dataclass(slots=True)
class _Side:
    """What one direction of a stream sent, as lists, a segment an entry; `first`: where its bytes begin, None if unknown.

    `begins`, `ends`: sequence numbers of the payload; `at`, `size`: the place and length of what the file has of it.
    `close`: (time, sequence number) of the FIN, or None.
    """

    first: int | None
    begins: list
    ends: list
    at: list
    size: list
    ack: list
    time: list
    close: tuple | None


def _sides(capture):
    """The `_Side` of each direction that sent anything."""
    flow = {name: column.to_numpy() for name, column in segment_flow(capture).items()}
    talks = np.flatnonzero(flow["sound"] & ((flow["length"] > 0) | (flow["flags"] & FIN > 0)))
    direction = flow["direction"][talks]
    order = np.argsort(direction, kind="stable")
    seq, length, flags, row, ack, time, began = (flow[name][talks[order]] for name in (
        "seq", "length", "flags", "row", "ack", "time", "began"))
    begins = seq + (flags & SYN > 0)
    at, size = (capture._headers[name][row] for name in ("payload_at", "payload_captured"))
    columns = [column.tolist() for column in (begins, begins + length, at, size, ack, time)]
    fins = np.flatnonzero(flags & FIN)[::-1]
    close = dict(zip(direction[order][fins].tolist(), zip(time[fins].tolist(), (seq + length)[fins].tolist())))
    starts = np.flatnonzero(np.diff(direction[order], prepend=-1))
    names, stops = direction[order][starts].tolist(), [*starts[1:].tolist(), len(order)]
    return {name: _Side(1 if first else None, *(column[start:stop] for column in columns), close.get(name))
            for name, first, start, stop in zip(names, began[starts].tolist(), starts.tolist(), stops)}


@dataclass(slots=True)
class _Piece:
    """Bytes `seq` to `end` of one direction; `time` when they (and all before them) had arrived; `data` may be cut short."""

    seq: int
    end: int
    time: float
    data: bytes
    ack: int


@dataclass(slots=True)
class _Message:
    """A request or response: where and when it began and ended; `end` and `ended` are None where that isn't known."""

    line: tuple
    framing: str
    seq: int
    ack: int
    begun: float
    number: int | None = None
    ended: float | None = None
    end: int | None = None

    @property
    def method(self):
        return self.line[0]

    @property
    def status(self):
        return int(self.line[0])


def _exchanges_of(capture, asking, sides):
    """Rows of the requests sent in the direction `asking`, each with the answer that belongs to it, if one was captured."""
    requests = list(_requests(_pieces(capture, sides[asking]), sides[asking].first))
    answers = {}
    if requests and asking ^ 1 in sides:
        answering = sides[asking ^ 1]
        answers = _answers(_pieces(capture, answering), answering.first, requests, answering.close)
    rows = []
    for number, request in enumerate(requests):
        method, target, version = [text and text.decode("latin-1") for text in request.line]
        status = framing = answered = finished = size = None
        if answer := answers.get(number):
            status, framing, answered, finished = answer.status, answer.framing, answer.begun, answer.ended
            size = None if answer.end is None else answer.end - answer.seq
        rows.append((asking // 2, request.number, method, target, status, version, framing, request.begun,
                     answered, finished, size))
        if answer and _leaves_http(request.method, status):
            break
    return rows


def _leaves_http(method, status):
    """Whether the connection speaks another protocol after this exchange (RFC 9110 sections 7.8 and 9.3.6)."""
    return status == 101 or method == b"CONNECT" and 200 <= status < 300


# Bytes in order

def _pieces(capture, side):
    """The payload of one direction in order: every byte once, with the time at which it and all before it had arrived."""
    buffer, held, pieces, expected, latest = capture._data.data, [], [], side.first, -np.inf
    for segment in zip(side.begins, side.ends, side.at, side.size, side.ack, side.time):
        begin, end, at, size, ack, time = segment
        if begin == end:
            continue
        expected = begin if expected is None else expected
        if begin == expected and not held and time >= latest:
            pieces.append(_Piece(begin, end, time, bytes(buffer[at:at + size]), ack))
            expected, latest = end, time
            continue
        heapq.heappush(held, segment)
        while held and held[0][0] <= expected:
            expected = _take(buffer, pieces, heapq.heappop(held), expected, time)
        latest = max(latest, time)
    while held:
        expected = _take(buffer, pieces, held[0], max(expected, held[0][0]), held[0][-1])
        heapq.heappop(held)
    return pieces


def _take(buffer, pieces, segment, expected, time):
    """Append what `segment` brings from `expected` on, and return the next sequence number expected."""
    begin, end, at, size, ack, _ = segment
    if end <= expected:
        return expected
    data = bytes(buffer[at + min(expected - begin, size):at + size])
    pieces.append(_Piece(expected, end, max(time, pieces[-1].time) if pieces else time, data, ack))
    return end


# Messages

def _requests(pieces, first):
    """The requests of one direction, in order."""
    reader, number = _Reader(pieces, first), 0
    while reader.seek(REQUEST_LINE, REQUEST_BEGIN):
        request = reader.message(REQUEST_LINE, REQUEST_CUT, _request_framing)
        if request is not None:
            number += 1
            request.number = None if reader.lost else number
            yield request


def _answers(pieces, first, requests, close):
    """The final responses of one direction, by the position in `requests` of the request that each answers."""
    reader, answers, asked = _Reader(pieces, first, close), {}, 0
    while asked < len(requests) and reader.seek(STATUS_LINE, STATUS_BEGIN):
        seq = reader.seq
        while asked + 1 < len(requests) and requests[asked].ack < requests[asked + 1].ack <= seq:
            asked += 1
        answers_it = seq >= requests[asked].ack
        method = requests[asked].method if answers_it else b""
        answer = reader.message(STATUS_LINE, STATUS_CUT, _response_framing, method)
        if answer is None or answer.status < 200 and answer.status != 101 or not answers_it:
            continue
        answers[asked] = answer
        asked += 1
    return answers


@lru_cache(HEADS_KNOWN)
def _request_framing(method, head):
    """How the end of a request is known, and the length of its body if that is given: RFC 9112 section 6.3."""
    headers = _framing_headers(head)
    if headers.get(b"transfer-encoding", b"").endswith(b"chunked"):
        return "chunked", 0
    length = _length(headers)
    return ("none", 0) if length is None else ("content-length", length)


@lru_cache(HEADS_KNOWN)
def _response_framing(status, head, method=b""):
    """How the end of a response to a request with `method` is known, and its body's length: RFC 9112 section 6.3."""
    headers, status = _framing_headers(head), int(status)
    if method == b"HEAD" or status < 200 or status in (204, 304) or _leaves_http(method, status):
        return "none", 0
    if b"transfer-encoding" in headers:
        return "chunked" if headers[b"transfer-encoding"].endswith(b"chunked") else "until-close", 0
    length = _length(headers)
    return ("until-close", 0) if length is None else ("content-length", length)


def _framing_headers(head):
    return {name.lower(): value.strip().lower() for name, value in FRAMING.findall(head)}


def _length(headers):
    """The Content-Length, or None where there is no valid one."""
    text = headers.get(b"content-length", b"").split(b",")[0].strip()
    return int(text[:18]) if text.isdigit() else None


class _Reader:
    """Reads messages from pieces, one after the other.

    `first`: sequence number at which the first message must begin (None: not known). `close`: time and sequence number of the
    sender's FIN, or None. `lost` turns true where a message doesn't begin at the end of the one before.
    """

    def __init__(self, pieces, first, close=None):
        self.pieces, self.close, self.index, self.offset = pieces, close, 0, 0
        self.lost, self.next, self.whole, self.first = False, first, True, None

    @property
    def seq(self):
        return self.pieces[self.index].seq + self.offset

    def seek(self, line, begin):
        """Move to the next bytes that begin a message, and say whether there are any."""
        while self.index < len(self.pieces):
            piece = self.pieces[self.index]
            if piece.data[self.offset:self.offset + 1] in (b"\r", b"\n"):
                blank = BLANK.match(piece.data, self.offset).end() - self.offset
                self.next = self.next + blank if self.next == self.seq else self.next
                self.offset += blank
            whole = piece.data.find(b"\n", self.offset) >= 0
            self.first = line.match(piece.data, self.offset) if whole else None
            if self.first or not whole and begin.match(piece.data, self.offset):
                self.lost |= self.next != piece.seq + self.offset
                return True
            self.index, self.offset = self.index + 1, 0
        return False

    def message(self, line, cut, framing, *asked):
        """The message that begins here, or None where no head does; `framing(method or status, head)` names its end.

        Of a head that was cut with its frame only the first line counts, or what matches `cut` of it.
        """
        piece, seq, head = self.pieces[self.index], self.seq, self._head(line)
        first = self.first or line.match(head) or (None if self.whole else cut.match(head))
        if first is None:
            return None
        first = first.groups()
        if not self.whole:
            self.next = None
            return _Message(first, None, seq, piece.ack, piece.time)
        kind, length = (framing if len(head) <= LARGEST_KNOWN else framing.__wrapped__)(first[0], head, *asked)
        end, ended = self._skip(seq + len(head) + length)
        if kind in ("chunked", "until-close"):
            end, ended = (self._chunked if kind == "chunked" else self._until_close)(end)
        self.next = end
        return _Message(first, kind, seq, piece.ack, piece.time, None, ended, end)

    def _head(self, line):
        """The bytes of the head that begins here; moves on where it is not `whole`: none, where not for a cut frame."""
        data = self.pieces[self.index].data
        if self.first and (end := HEAD_END.search(data, self.offset)):
            self.whole = True
            return data[self.offset:end.end()]
        self.first = None
        head, index, seen, right = bytearray(data[self.offset:]), self.index, 0, None
        while True:
            end = HEAD_END.search(head, max(seen - 2, 0))
            if right is None and head.find(b"\n", seen) >= 0:
                right = bool(line.match(head))
            limit = LARGEST_HEAD if right else LARGEST_LINE
            if end or right is False or len(head) > limit or not self._joined(index):
                break
            index, seen = index + 1, len(head)
            head += self.pieces[index].data
        self.whole = bool(end and right)
        if self.whole:
            return bytes(head[:end.end()])
        last = self.pieces[index]
        self.index, self.offset = max(index, self.index + 1), 0
        return bytes(head) if not end and last.seq + len(last.data) < last.end else b""

    def _joined(self, index):
        """Whether there is a piece after `index`, and no gap between them."""
        piece = self.pieces[index]
        return index + 1 < len(self.pieces) and piece.seq + len(piece.data) == self.pieces[index + 1].seq

    def _skip(self, end):
        """Move to sequence number `end`; (`end`, time when the byte before it had arrived), None where not captured."""
        while self.index + 1 < len(self.pieces) and self.pieces[self.index + 1].seq < end:
            self.index += 1
        last = self.pieces[self.index]
        self.offset = end - last.seq
        if self.offset >= len(last.data):
            self.index, self.offset = self.index + 1, 0
        if last.end >= end:
            return end, last.time
        return (end if self.index < len(self.pieces) else None), None

    def _chunked(self, begin):
        """Move behind the chunked body that begins at `begin`; (its end, time), None where that was not captured."""
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        connection.receive_data(CHUNKED)
        joined = self.index < len(self.pieces) and self.seq == begin
        while joined:
            piece, joined = self.pieces[self.index], self._joined(self.index)
            connection.receive_data(piece.data[self.offset:])
            self.index, self.offset = self.index + 1, 0
            try:
                event = h11.Data
                while event not in (h11.NEED_DATA, h11.PAUSED):
                    event = connection.next_event()
                    if isinstance(event, h11.EndOfMessage):
                        return self._skip_back(piece, len(connection.trailing_data[0]))
            except h11.ProtocolError:
                break
        return None, None

    def _skip_back(self, piece, rest):
        """Move to the last `rest` bytes of `piece`, the one just read; (sequence number, time)."""
        if rest:
            self.index, self.offset = self.index - 1, len(piece.data) - rest
        return piece.seq + len(piece.data) - rest, piece.time

    def _until_close(self, begin):
        """Move behind all pieces; (sequence number, time) of the FIN, where there was one behind `begin`."""
        self.index = len(self.pieces)
        if self.close is None or self.close[1] < begin:
            return None, None
        return self.close[1], max(self.close[0], self.pieces[-1].time)
