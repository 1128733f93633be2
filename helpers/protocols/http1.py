"""Messages of HTTP/1.x: where one begins, how its end is told (RFC 9112 section 6.3)."""

import re
import string
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np


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


def may_ask(data, at, size):
    """Which of the payloads may begin with a request, or an empty line before it: not encrypted data, nor a response."""
    may = np.zeros(len(at), bool)
    rows = np.flatnonzero(size > 0)
    may[rows] = REQUEST_BYTES[data[at[rows]]]
    rows = np.flatnonzero(size >= len(PROTOCOL))
    places = at[rows][:, None] + np.arange(len(PROTOCOL))
    may[rows] &= (data[places] != np.frombuffer(PROTOCOL, np.uint8)).any(axis=1)
    return may


@dataclass(slots=True)
class Message:
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


@lru_cache(HEADS_KNOWN)
def texts(line):
    """The parts of a request line as texts that command no terminal; None where one was not captured."""
    return tuple(text and CONTROL.sub(_escaped, text.decode("latin-1")) for text in line)


def _escaped(control):
    return f"\\x{ord(control[0]):02x}"


def leaves_http(request, answer):
    """Whether the connection speaks another protocol after this exchange (RFC 9110 sections 7.8 and 9.3.6)."""
    return answer.line[0] == 101 or request.line[0] == b"CONNECT" and 200 <= answer.line[0] < 300


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


class Reader:
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
                return Message(line, None, seq, ack, begun)
            (kind, length), size = grammar.framing(line[0], head), len(head)
        if asked == b"HEAD" or asked == b"CONNECT" and 200 <= line[0] < 300:
            kind, length = "none", 0
        end, ended = self._skip(seq + size + length)
        if kind in ("chunked", "until-close"):
            end, ended = (self._chunked if kind == "chunked" else self._until_close)(end)
        elif kind is None:
            end = ended = None
        self.next = end
        return Message(line, kind, seq, ack, begun, ended, end)

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
