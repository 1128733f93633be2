"""HTTP/1.x exchanges from packets: `exchanges(capture)` gives one row per request with its response.

Bytes are put in order by sequence number, messages are cut as RFC 9112 section 6.3 says, and answers are paired with
requests first in, first out, as its section 9.3 demands of every connection. To import this tells pandas to have notebooks
typeset no table: what stands between dollar signs in a target is no mathematics.
"""

import gc
import heapq
import math
import re
import string
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers.captures import FIN, SYN, in_groups
from helpers.connections import flows

pd.set_option("display.html.use_mathjax", False)


class _Grammar(NamedTuple):
    """How messages look: their `line`, how it may `begin` in a piece that ends inside it, what a `cut` frame leaves of it.

    `known_line`, `known_begin`: the same where no message is expected, so that other text may stand there. `parts` of a line
    that matches; `framing`: how the message ends, from the first part and the head; `plain`: see `_plain`.
    """

    line: re.Pattern
    begin: re.Pattern
    cut: re.Pattern
    known_line: re.Pattern
    known_begin: re.Pattern
    parts: Callable
    framing: Callable
    plain: Callable


COLUMNS = {"stream": "int64", "nth": "Int64", "method": "string", "target": "string", "status": "Int64",
           "version": "string", "framing": "string", "requested": "Float64", "answered": "Float64",
           "finished": "Float64", "response_bytes": "Int64"}
ROW = ("stream", "nth", "method", "target", "version", "requested", "status", "framing", "answered", "finished", "response_bytes")
UNANSWERED = (None,) * 5
METHODS = b"""GET POST HEAD PUT DELETE CONNECT OPTIONS TRACE PATCH QUERY PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK
    SEARCH REPORT VERSION-CONTROL CHECKOUT CHECKIN UNCHECKOUT MKWORKSPACE MKACTIVITY BASELINE-CONTROL UPDATE LABEL MERGE ACL
    BIND UNBIND REBIND LINK UNLINK ORDERPATCH SUBSCRIBE UNSUBSCRIBE NOTIFY POLL M-SEARCH BCOPY BDELETE BMOVE BPROPFIND
    BPROPPATCH CCM_POST RPC_CONNECT RPC_IN_DATA RPC_OUT_DATA SSTP_DUPLEX_POST""".split()
KNOWN = b"|".join(METHODS)
PARTS = b"|".join(sorted({name[:end] for name in METHODS for end in range(1, len(name) + 1)}))
OTHER = rb"[A-Z][0-9A-Z_-]{0,31}(?= (?:/|\* |[A-Za-z][0-9A-Za-z+.-]*://))"
REQUEST_LINE, KNOWN_LINE = (re.compile(rb"(" + method + rb") ([^\s]*)(?: [^\r\n]*)? HTTP/(1\.\d)[ \t]*\r?\n") for method in (
    KNOWN + rb"|" + OTHER, KNOWN))
KNOWN_BEGIN = re.compile(rb"(?:" + KNOWN + rb") |(?:" + PARTS + rb")$")
REQUEST_BEGIN = re.compile(rb"[A-Z][0-9A-Z_-]{0,31}( |$)")
REQUEST_CUT = re.compile(
    rb"(" + KNOWN + rb") ((?:/|\*|https?://|(?<=CONNECT ))[^\s]*)"
    rb"(?: (?:|H|HT|HTT|HTTP/?|HTTP/1\.?|HTTP/(1\.\d)[ \t]*\r?))?$")
REQUEST_BYTES = np.isin(np.arange(256), list(b"\r\n" + string.ascii_uppercase.encode()))
PROTOCOL, SHORTEST = b"HTTP/", b"GET / HTTP/1.1\r\n\r\n"
STATUS_LINE = re.compile(rb"HTTP/1\.\d (\d\d\d)[^\n]*\n")
STATUS_BEGIN = re.compile(rb"HTTP/1\.\d|(H|HT|HTT|HTTP/?|HTTP/1\.?)$")
STATUS_CUT = re.compile(rb"HTTP/1\.\d (\d\d\d)( [^\n]*)?$")
FRAMING = re.compile(rb"^(content-length|transfer-encoding)[ \t]*:[ \t]*([^\r\n]*)", re.MULTILINE | re.IGNORECASE)
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
BLANK = re.compile(rb"[\r\n]*")
FOLD = re.compile(rb"\r?\n[ \t]+")
EMPTY_LINE = b"\r\n\r\n"
HEAD_END = re.compile(rb"\n\r?\n")
LARGEST_LINE, LARGEST_HEAD = 1 << 20, 1 << 22
HEADS_KNOWN, LARGEST_KNOWN = 1 << 12, 1 << 11
CHUNK = re.compile(rb"0*([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*|\r)?\n")
LINE_ENDS, INVALID = (b"\r\n", b"\n"), -1


def exchanges(capture):
    """One row per HTTP/1.x exchange of `capture`, in order of request.

    Columns: `stream`; `nth` (1: first on its connection; `<NA>` where bytes before it were not captured); `method`,
    `target`, `version` (of the request); `status`; `framing`, how the end of the response is known (`content-length`,
    `chunked`, `until-close`, or `none` where there is no body to end); `requested`, `answered` (first byte of the
    request, of the response), `finished` (last byte, or the FIN that ends it), in seconds since the first frame;
    `response_bytes` (status line, header and body). What was not captured is `<NA>`. Where frames were cut, a head counts
    by its first line; where that was cut, `version` is `<NA>`, and `target` what was captured of it. A line whose target
    has spaces gives the part before the first, as Wireshark does. A method that isn't well known counts in upper case, with
    a target that is a path, `*` or a URL. Bytes of a target are shown as Latin-1, control characters as escapes: `\\x1b`.

    Source: RFC 9112 sections 6.3 (framing), 9.3 (order). An answer that was not captured doesn't shift the later ones; where
    it can't be told whose the next one is, the answers are `<NA>` until it can be told again.
    """
    with _uncollected():
        rows = [row for flow in flows(capture) for row in _exchanges_of(*_sides(capture, flow), flow.first)]
    columns = dict(zip(ROW, zip(*rows))) if rows else {name: [] for name in COLUMNS}
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
class _Pieces:
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
class _Side:
    """What one direction of a stream sent: `pieces` from `start` to `stop`.

    `first`: sequence number at which its bytes begin, None if unknown. `close`: (time, sequence number) of the FIN, or None.
    `may_ask`: whether any piece may begin with a request.
    """

    pieces: _Pieces
    start: int
    stop: int
    first: int | None
    close: tuple | None
    may_ask: bool


def _sides(capture, flow):
    """The `_Side` of each direction that sent any bytes; and the file's bytes.

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
    segments = _Pieces(*(column.tolist() for column in (seq, end, at, size, flow.ack[talks], time)))
    starts = np.flatnonzero(np.diff(direction, prepend=-1))
    continues = np.r_[True, (seq[1:] == end[:-1]) & (time[1:] >= time[:-1])][:len(seq)]
    continues[starts] = ~began[starts] | (seq[starts] == 1)
    asks = _may_ask(capture._data, at, size)
    orderly, may_ask = (told.reduceat(rows, starts) if len(starts) else rows for told, rows in (
        (np.logical_and, continues), (np.logical_or, asks)))
    sides = {}
    for name, start, stop, known, in_order, may in zip(*(column.tolist() for column in (
            direction[starts], starts, np.r_[starts[1:], len(seq)][:len(starts)], began[starts], orderly, may_ask))):
        side = _Side(segments, start, stop, 1 if known else None, close.get(name), may)
        sides[name] = side if in_order else _in_order(side)
    return sides, buffer


def _may_ask(data, at, size):
    """Which of the payloads may begin with a request, or an empty line before it: not encrypted data, nor a response."""
    may_ask = np.zeros(len(at), bool)
    rows = np.flatnonzero(size > 0)
    may_ask[rows] = REQUEST_BYTES[data[at[rows]]]
    rows = np.flatnonzero(size >= len(PROTOCOL))
    places = at[rows][:, None] + np.arange(len(PROTOCOL))
    may_ask[rows] &= (data[places] != np.frombuffer(PROTOCOL, np.uint8)).any(axis=1)
    return may_ask


@dataclass(slots=True)
class _Message:
    """A request or response: where and when it began and ended; `end` and `ended` are None where that isn't known.

    `gap`: whether bytes may be missing between it and the one before.
    """

    line: tuple
    framing: str
    seq: int
    ack: int
    begun: float
    ended: float | None = None
    end: int | None = None
    number: int | None = None
    gap: bool = False


def _exchanges_of(sides, buffer, first):
    """Yield the row of each request with the answer that belongs to it, if one was captured; `first`: the first stream.

    Behind an answer that turns to another protocol, neither direction is HTTP.
    """
    found, over = {}, {}
    for asking, side in sides.items():
        peer = sides.get(asking ^ 1)
        if side.may_ask and not _greeted(side, peer, buffer) and (requests := list(_requests(_Reader(buffer, side)))):
            answers = _answers(_Reader(buffer, peer), requests) if peer else {}
            found[asking] = requests, answers
            if answers and _leaves_http(requests[last := max(answers)], answers[last]):
                for direction, end in ((asking, requests[last].seq + 1), (asking ^ 1, answers[last].seq)):
                    over[direction] = min(end, over.get(direction, end))
    for asking, (requests, answers) in found.items():
        stream, end = first + asking // 2, over.get(asking, math.inf)
        for number, request in enumerate(requests):
            if request.seq >= end:
                break
            answer, texts = answers.get(number), _texts if len(request.line[1]) < LARGEST_KNOWN else _texts.__wrapped__
            size = None if answer is None or answer.end is None else answer.end - answer.seq
            yield (stream, request.number, *texts(request.line), request.begun, *(UNANSWERED if answer is None else (
                answer.line[0], answer.framing, answer.begun, answer.ended, size)))


def _greeted(side, peer, buffer):
    """Whether the peer is known to have spoken first, and no HTTP, as servers of mail, files and chat do."""
    if peer is None or peer.pieces.time[peer.start] >= side.pieces.time[side.start]:
        return False
    if side.first is None or peer.first != peer.pieces.seq[peer.start]:
        return False
    data = _Reader(buffer, peer).bytes_of(peer.start)
    return bool(data) and not any(pattern.match(data) for pattern in (RESPONSE.begin, REQUEST.line, REQUEST.known_begin))


@lru_cache(HEADS_KNOWN)
def _texts(line):
    """The parts of a request line as texts that command no terminal; None where one was not captured."""
    return tuple(text and CONTROL.sub(_escaped, text.decode("latin-1")) for text in line)


def _escaped(control):
    return f"\\x{ord(control[0]):02x}"


def _leaves_http(request, answer):
    """Whether the connection speaks another protocol after this exchange (RFC 9110 sections 7.8 and 9.3.6)."""
    return answer.line[0] == 101 or request.line[0] == b"CONNECT" and 200 <= answer.line[0] < 300


# Bytes in order

def _in_order(side):
    """The side with every byte once and in order, and the time at which it and all before it had arrived."""
    columns = [getattr(side.pieces, name)[side.start:side.stop] for name in _Pieces.__slots__]
    held, pieces, expected, latest = [], _Pieces([], [], [], [], [], []), side.first, -np.inf
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
    return _Side(pieces, 0, len(pieces.seq), side.first, side.close, True)


def _take(pieces, segment, expected, time):
    """Append what `segment` brings from `expected` on, and return the next sequence number expected."""
    begin, end, at, size, ack, _ = segment
    if end <= expected:
        return expected
    known = min(expected - begin, size)
    _append(pieces, expected, end, at + known, size - known, ack, max(time, pieces.time[-1]) if pieces.time else time)
    return end


def _append(pieces, *piece):
    for name, value in zip(_Pieces.__slots__, piece):
        getattr(pieces, name).append(value)


# Messages

def _requests(reader):
    """The requests of one direction, in order."""
    number = 0
    while reader.seek(REQUEST):
        gap = reader.gap
        request = reader.message(REQUEST)
        if request is not None:
            number += 1
            request.number, request.gap = None if reader.lost else number, gap
            yield request


def _answers(reader, requests):
    """The final responses of one direction, by the position in `requests` of the request that each answers.

    RFC 9112 section 9.3.2: responses come in the order of their requests. Where that doesn't tell, `_Doubt` does.
    """
    answers, asked, doubt = {}, 0, _Doubt(requests, reader.next)
    while asked < len(requests) and reader.seek(RESPONSE):
        seq = reader.seq
        if doubt.since is not None or not reader.follows or requests[asked].gap and asked > doubt.settled:
            asked, answers_it = doubt.told(asked, seq, reader.ack)
        else:
            answers_it = seq >= requests[asked].ack
        answer = reader.message(RESPONSE, requests[asked].line[0] if seq >= requests[asked].ack else None)
        doubt.read = seq if answer is None or answer.end is None else answer.end
        if answer is not None and answers_it and (answer.line[0] >= 200 or answer.line[0] == 101):
            answers[asked] = answer
            if _leaves_http(requests[asked], answer):
                break
            asked += 1
    return answers


class _Doubt:
    """Tells which request a response answers where messages are missing before it: by the acknowledgments, or not at all.

    A client that acknowledges more with its next request has got the answers before, as long as it is not seen to ask on
    without waiting. `read`: the responses were read up to this sequence number. `since`: an acknowledgment of more than
    this settles what is in doubt, None where nothing is. `settled`: the last request of which it was said.
    """

    def __init__(self, requests, read):
        self.requests, self.read, self.since, self.settled = requests, -math.inf if read is None else read, None, -1

    @cached_property
    def acks(self):
        return list(accumulate((request.ack for request in self.requests), max))

    @cached_property
    def seqs(self):
        return [request.seq for request in self.requests]

    def told(self, asked, seq, ack):
        """The next request to be answered, and whether the response at `seq` that acknowledges `ack` is its answer.

        `asked`: the first request without an answer so far.
        """
        if self.since is None and self.requests[asked].gap and asked > self.settled:
            before = self.requests[asked - 1] if asked else None
            self.since = before.ack if before and before.end is None else self.read
        last = min(bisect_right(self.acks, seq), bisect_left(self.seqs, ack)) - 1
        known = max(self.read, self.acks[asked]) if self.since is None else self.since
        if last >= asked and self.acks[last] > known:
            asked = self.settled = bisect_left(self.acks, self.acks[last], asked)
            self.since = None
        elif self.since is not None:
            return asked, False
        known = max(self.read, self.acks[asked])
        if known < seq and (last > asked or self._unseen(asked, ack)):
            patient = self.acks[bisect_right(self.acks, known) - 1] == self.acks[asked]
            self.since = seq if patient else math.inf
        return asked, self.since is None and last >= asked

    def _unseen(self, asked, ack):
        """Whether `ack` leaves room for a request that was not captured, behind the one that is `asked`."""
        end, following = self.requests[asked].end, self.requests[asked + 1:asked + 2]
        return (end is None or ack >= end + len(SHORTEST)) and all(request.gap for request in following)


def _request_framing(method, head):
    """How the end of a request is known, and the length of its body if that is given: RFC 9112 section 6.3."""
    codings, length = _framing_headers(head)
    if codings:
        return "chunked" if codings[-1] == b"chunked" else None, 0
    return ("none", 0) if length is None else _told_by(length)


def _response_framing(status, head):
    """How the end of a response is known, and the length of its body if that is given: RFC 9112 section 6.3.

    A response to HEAD, and one that opens a tunnel, have no body whatever the head says.
    """
    if status < 200 or status in (204, 304):
        return "none", 0
    codings, length = _framing_headers(head)
    if codings:
        return "chunked" if codings[-1] == b"chunked" else "until-close", 0
    return ("until-close", 0) if length is None else _told_by(length)


def _told_by(length):
    return (None, 0) if length == INVALID else ("content-length", length)


def _framing_headers(head):
    """The transfer codings, and the Content-Length, None where there is none, INVALID where there are several or no number.

    Source: RFC 9112 section 5.2 (what was folded is one line), RFC 9110 sections 5.3 and 5.6.1 (several lines are one list).
    """
    lists = {b"content-length": [], b"transfer-encoding": []}
    for name, value in FRAMING.findall(FOLD.sub(b" ", head) if FOLD.search(head) else head):
        lists[name.lower()] += [item for part in value.lower().split(b",") if (item := part.strip())] or [b""]
    lengths = {_number(text) for text in lists[b"content-length"]}
    return lists[b"transfer-encoding"], (lengths.pop() if len(lengths) == 1 else INVALID if lengths else None)


def _number(text):
    return int(text[-18:]) if text.isdigit() and not text[:-18].strip(b"0") else INVALID


def _plain(line, parts, framing):
    """What a text up to an empty line says as a whole head: the parts of its line, framing, length; None if it is none.

    Heads are much the same again and again, so this remembers them.
    """
    @lru_cache(HEADS_KNOWN)
    def plain(head):
        first = line.match(head)
        end = first and HEAD_END.search(head, first.end() - 1)
        return (parts(first), *framing(parts(first)[0], head)) if end and end.end() == len(head) else None
    return plain


def _status(line):
    return (int(line[1]),)


def _grammar(line, begin, cut, known_line, known_begin, parts, framing):
    return _Grammar(line, begin, cut, known_line, known_begin, parts, framing, _plain(line, parts, framing))


REQUEST = _grammar(REQUEST_LINE, REQUEST_BEGIN, REQUEST_CUT, KNOWN_LINE, KNOWN_BEGIN, re.Match.groups, _request_framing)
RESPONSE = _grammar(STATUS_LINE, STATUS_BEGIN, STATUS_CUT, STATUS_LINE, STATUS_BEGIN, _status, _response_framing)


class _Reader:
    """Reads the messages of a `_Side`, one after the other.

    `next`: where the next message should begin, if known; `follows`: whether it does; `lost` turns true where it doesn't.
    `gap`: whether bytes may be missing before it. `seq`: where the one that was sought begins; `plain`: what its head says,
    if that is whole in its piece and not long, `size`: how many bytes it has.
    """

    def __init__(self, buffer, side):
        self.buffer, self.pieces, self.index, self.stop, self.close = buffer, side.pieces, side.start, side.stop, side.close
        self.offset, self.next, self.follows, self.lost, self.gap = 0, side.first, True, False, False
        self.seq, self.plain, self.size, self.data, self.first, self.whole = None, None, 0, b"", None, True
        self.held, self.told = (None, b""), None

    @property
    def place(self):
        return self.pieces.seq[self.index] + self.offset

    @property
    def ack(self):
        return self.pieces.ack[self.index]

    def bytes_of(self, index):
        at = self.pieces.at[index]
        return self.buffer[at:at + self.pieces.size[index]].tobytes()

    def seek(self, grammar):
        """Move to the next bytes that begin a message, and say whether there are any."""
        gap = None
        while self.index < self.stop:
            index, offset = self.index, self.offset
            data = self.data = self.bytes_of(index)
            self.seq = self.pieces.seq[index] + offset
            end = data.find(EMPTY_LINE, offset, offset + LARGEST_KNOWN) + len(EMPTY_LINE)
            self.size = end - offset
            self.plain = grammar.plain(data[offset:end]) if end >= len(EMPTY_LINE) else None
            if self.plain or self._begins(data, grammar):
                self.follows = self.next == self.seq
                self.lost = self.lost or not self.follows
                self.gap = not self.follows if gap is None else gap
                return True
            gap = (self.next != self.seq if gap is None else gap) or not self._joined(index)
            self.index, self.offset = index + 1, 0
        return False

    def _begins(self, data, grammar):
        """Whether a message begins here, behind empty lines or in a piece that ends inside its first line."""
        if data[self.offset:self.offset + 1] in (b"\r", b"\n"):
            blank = BLANK.match(data, self.offset).end() - self.offset
            self.next = self.next + blank if self.next == self.seq else self.next
            self.offset, self.seq = self.offset + blank, self.seq + blank
        self.first = grammar.line.match(data, self.offset)
        begin = grammar.begin if self.next == self.seq else grammar.known_begin
        return self.first or data.find(b"\n", self.offset) < 0 and begin.match(data, self.offset)

    def message(self, grammar, asked=None):
        """The message that begins here, or None where no head does; `asked`: the method that it answers.

        Of a head that was cut with its frame only the first line counts, or what was captured of it.
        """
        seq, ack, begun, size = self.seq, self.pieces.ack[self.index], self.pieces.time[self.index], self.size
        if self.plain:
            line, kind, length = self.plain
        else:
            head = self._head(grammar)
            first = self.first or grammar.line.match(head) or (None if self.whole else grammar.cut.match(head))
            if first is None:
                return None
            line = grammar.parts(first)
            if not self.whole:
                self.next = None
                return _Message(line, None, seq, ack, begun)
            (kind, length), size = grammar.framing(line[0], head), len(head)
        if asked == b"HEAD" or asked == b"CONNECT" and 200 <= line[0] < 300:
            kind, length = "none", 0
        end, ended = self._skip(seq + size + length)
        if kind in ("chunked", "until-close"):
            end, ended = (self._chunked if kind == "chunked" else self._until_close)(end)
        elif kind is None:
            end = ended = None
        self.next = end
        return _Message(line, kind, seq, ack, begun, ended, end)

    def _head(self, grammar):
        """The bytes of the head that begins here; moves on where it is not `whole`: none, where not for a cut frame.

        Where no message was expected, a piece that is known to begin one belongs to none that began before it.
        """
        if self.first and (end := HEAD_END.search(self.data, self.first.end() - 1)):
            self.whole = True
            return self.data[self.offset:end.end()]
        self.first = None
        head, index, seen, right = bytearray(self.data[self.offset:]), self.index, 0, None
        line = grammar.line if self.follows else grammar.known_line
        while True:
            end = HEAD_END.search(head, max(seen - 2, 0))
            if right is None and head.find(b"\n", seen) >= 0:
                right = bool(line.match(head))
            limit = LARGEST_HEAD if right else LARGEST_LINE
            if end or right is False or len(head) > limit or not self._joined(index):
                break
            index, seen, piece = index + 1, len(head), self.bytes_of(index + 1)
            if right is None and not self.follows and grammar.known_line.match(piece):
                head.clear()
                break
            head += piece
        self.whole = bool(end and right)
        if self.whole:
            return bytes(head[:end.end()])
        self.index, self.offset = max(index, self.index + 1), 0
        return bytes(head) if not end and self._behind(index) < self.pieces.end[index] else b""

    def _behind(self, index):
        """The sequence number behind what was captured of the piece."""
        return self.pieces.seq[index] + self.pieces.size[index]

    def _joined(self, index):
        """Whether there is a piece after `index`, and no gap between them."""
        return index + 1 < self.stop and self._behind(index) == self.pieces.seq[index + 1]

    def _skip(self, end):
        """Move to sequence number `end`; (`end`, time when the byte before it had arrived), None where not captured."""
        pieces, last = self.pieces, self.index
        if end > pieces.end[last]:
            last = bisect_left(pieces.seq, end, last, self.stop) - 1
        self.index, self.offset = last, end - pieces.seq[last]
        if self.offset >= pieces.size[last]:
            self.index, self.offset = last + 1, 0
        if pieces.end[last] >= end:
            return end, pieces.time[last]
        return (end if self.index < self.stop else None), None

    def _chunked(self, begin):
        """Move behind the chunked body that begins at `begin`; (its end, time), None where that was not captured.

        Source: RFC 9112 section 7.1; lines may end in a bare LF, as section 2.2 lets heads do.
        """
        end = begin
        while chunk := CHUNK.fullmatch(self._line(end)):
            size, end = int(chunk[1], 16), end + len(chunk[0])
            if not size:
                return self._trailers(end)
            if self.index < self.stop and self.place < end + size:
                self._skip(end + size)
            line = self._line(end + size)
            if line not in LINE_ENDS:
                break
            end += size + len(line)
        return None, None

    def _trailers(self, end):
        """Move behind the trailers at `end` and the empty line after them; as `_chunked`."""
        while line := self._line(end):
            end += len(line)
            if line in LINE_ENDS:
                return end, self.told
        return None, None

    def _line(self, begin):
        """Move behind the line that begins at `begin`, and return it; b"" if it was not captured. `told`: when it ended."""
        line, joined = bytearray(), self.index < self.stop and self.place == begin
        while joined and len(line) <= LARGEST_LINE:
            index, piece = self.index, self._held_piece()
            end = piece.find(b"\n", self.offset) + 1
            line += piece[self.offset:end or None]
            joined = not end and self._joined(index)
            self.index, self.offset = (index, end) if 0 < end < len(piece) else (index + 1, 0)
            if end:
                self.told = self.pieces.time[index]
                return line
        return b""

    def _held_piece(self):
        """The bytes of the piece at `index`, kept while lines of it are asked for."""
        if self.held[0] != self.index:
            self.held = self.index, self.bytes_of(self.index)
        return self.held[1]

    def _until_close(self, begin):
        """Move behind all pieces; (sequence number, time) of the FIN, where there was one behind `begin`."""
        self.index = self.stop
        if self.close is None or self.close[1] < begin:
            return None, None
        return self.close[1], max(self.close[0], self.pieces.time[self.stop - 1])
