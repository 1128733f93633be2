"""Messages of HTTP/1.x: where one begins, how its end is known (RFC 9112 section 6.3), and what its first line says.

`MessageReader(stream)` reads a `ByteStream`. Nothing is trusted: the bytes may be any protocol's, and any of them may
be missing.
"""

import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from helpers.protocols.bytestream import LONGEST_LINE, ByteStream, Cursor

LONGEST_HEAD = 1 << 22
HEADS_KNOWN, LONGEST_KNOWN = 1 << 12, 1 << 11
SHORTEST_REQUEST = len(b"GET / HTTP/1.1\r\n\r\n")
METHODS = b"""GET POST HEAD PUT DELETE CONNECT OPTIONS TRACE PATCH QUERY PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK
    SEARCH REPORT VERSION-CONTROL CHECKOUT CHECKIN UNCHECKOUT MKWORKSPACE MKACTIVITY BASELINE-CONTROL UPDATE LABEL MERGE
    ACL BIND UNBIND REBIND LINK UNLINK ORDERPATCH SUBSCRIBE UNSUBSCRIBE NOTIFY POLL M-SEARCH BCOPY BDELETE BMOVE
    BPROPFIND BPROPPATCH CCM_POST RPC_CONNECT RPC_IN_DATA RPC_OUT_DATA SSTP_DUPLEX_POST""".split()
KNOWN_METHOD = b"|".join(METHODS)
PART_OF_METHOD = b"|".join(sorted({name[:end] for name in METHODS for end in range(1, len(name) + 1)}))
OTHER_METHOD = rb"[A-Z][0-9A-Z_-]{0,31}(?= (?:/|\* |[A-Za-z][0-9A-Za-z+.-]*://))"
TARGET_AND_VERSION = rb"(?: ([^\s]*)(?: [^\r\n]*)?)? HTTP/(1\.\d(?:\.\d+)*)[ \t]*\r?\n"
REQUEST_LINE = re.compile(rb"(" + KNOWN_METHOD + rb"|" + OTHER_METHOD + rb")" + TARGET_AND_VERSION)
SURE_REQUEST_LINE = re.compile(rb"(" + KNOWN_METHOD + rb")" + TARGET_AND_VERSION)
REQUEST_BEGINNING = re.compile(rb"[A-Z][0-9A-Z_-]{0,31}( |$)")
SURE_REQUEST_BEGINNING = re.compile(rb"(?:" + KNOWN_METHOD + rb") |(?:" + PART_OF_METHOD + rb")$")
CUT_REQUEST_LINE = re.compile(
    rb"(" + KNOWN_METHOD + rb") ((?:/|\*|https?://|(?<=CONNECT ))[^\s]*)"
    rb"(?: (?:|H|HT|HTT|HTTP/?|HTTP/1\.?|HTTP/1\.\d\.[.\d]*|HTTP/(1\.\d)[ \t]*\r?))?$")
STATUS_LINE = re.compile(rb"HTTP/1\.\d (\d\d\d)[^\n]*\n")
STATUS_BEGINNING = re.compile(rb"HTTP/1\.\d|(H|HT|HTT|HTTP/?|HTTP/1\.?)$")
CUT_STATUS_LINE = re.compile(rb"HTTP/1\.\d (\d\d\d)( [^\n]*)?$")
FRAMING_HEADER = re.compile(rb"(?mi)^(content-length|transfer-encoding)[ \t]*:[ \t]*([^\r\n]*)")
FOLDED_LINE = re.compile(rb"\r?\n[ \t]+")
EMPTY_LINES = re.compile(rb"[\r\n]*")
CHUNK_LINE = re.compile(rb"0*([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*|\r)?\n")
EMPTY_LINE, HEAD_END, LINE_ENDS = b"\r\n\r\n", re.compile(rb"\n\r?\n"), (b"\r\n", b"\n")
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
RESPONSE_BEGIN = np.frombuffer(b"HTTP/", np.uint8)
BEGINS_REQUEST = np.isin(np.arange(256), list(b"\r\n" + string.ascii_uppercase.encode()))
INVALID = -1


class Grammar(NamedTuple):
    """What requests look like, or responses: patterns of their first line, and what follows from it.

    `line`: a whole one. `beginning`: one of which a piece holds the beginning only. `cut`: what a frame that was cut
    has left of one. `sure_line`, `sure_beginning`: the first two for where no message is expected, so that any text
    may stand there. `parts`: what a line that matches says. `framing`: how the message ends, by the first part and
    the head. `whole_head`, `cut_head`: see `_whole_head`, `_cut_head`.
    """

    line: re.Pattern
    beginning: re.Pattern
    cut: re.Pattern
    sure_line: re.Pattern
    sure_beginning: re.Pattern
    parts: Callable
    framing: Callable
    whole_head: Callable
    cut_head: Callable


@dataclass(slots=True)
class Message:
    """A request or a response.

    `line`: (method, target, version), or (status,). `framing`: how its end is known, as in `helpers.exchanges`.
    `seq`, `end`: its sequence numbers; `begun`, `ended`: when its first and last byte arrived; `end`, `ended`: None
    where not known. `ack`: what its sender acknowledged with its first byte. `gap`: whether bytes may be missing
    before it. `number`: its place among the messages of its direction, None where some before it may be missing.
    """

    line: tuple
    framing: str | None
    seq: int
    ack: int
    begun: float
    ended: float | None = None
    end: int | None = None
    number: int | None = None
    gap: bool = False


def may_begin_request(data: np.ndarray, at: np.ndarray, size: np.ndarray) -> np.ndarray:
    """In which of the payloads, `size` bytes at `at` in `data`, a request may begin, or an empty line before it.

    It sorts out encrypted data and responses before anything is read.
    """
    may = np.zeros(len(at), bool)
    rows = np.flatnonzero(size > 0)
    may[rows] = BEGINS_REQUEST[data[at[rows]]]
    rows = np.flatnonzero(size >= len(RESPONSE_BEGIN))
    places = at[rows][:, None] + np.arange(len(RESPONSE_BEGIN))
    may[rows] &= (data[places] != RESPONSE_BEGIN).any(axis=1)
    return may


def looks_like_http(data: bytes) -> bool:
    """Whether `data` begin as a request or a response does."""
    return any(pattern.match(data) for pattern in (STATUS_BEGINNING, REQUEST_LINE, SURE_REQUEST_BEGINNING))


def greets_socks(data: bytes) -> bool:
    """Whether `data` are a client's first words to a SOCKS proxy: version 5 (RFC 1928 section 3), or version 4."""
    five = len(data) > 2 and data[0] == 5 and len(data) == 2 + data[1]
    return five or (len(data) > 8 and data[0] == 4 and data[1] in (1, 2) and data[-1] == 0)


def leaves_http(request: Message, answer: Message) -> bool:
    """Whether the connection speaks another protocol after this exchange (RFC 9110 sections 7.8 and 9.3.6)."""
    return answer.line[0] == 101 or (request.line[0] == b"CONNECT" and 200 <= answer.line[0] < 300)


def shown(line: tuple) -> tuple:
    """The parts of a request's first line as texts: bytes as Latin-1, control characters as escapes such as `\\x1b`."""
    return _shown(line) if len(line[1] or b"") < LONGEST_KNOWN else _shown.__wrapped__(line)


@lru_cache(HEADS_KNOWN)
def _shown(line: tuple) -> tuple:
    return tuple(text and CONTROL.sub(_escaped, text.decode("latin-1")) for text in line)


def _escaped(control: re.Match) -> str:
    return f"\\x{ord(control[0]):02x}"


# How the end of a message is known: RFC 9112 section 6.3

def _request_framing(method: bytes, head: bytes) -> tuple[str | None, int]:
    """How the end of a request is known, and the length of its body if that is given."""
    codings, length = _framing_headers(head)
    if codings:
        return "chunked" if codings[-1] == b"chunked" else None, 0
    return ("none", 0) if length is None else _by_length(length)


def _response_framing(status: int, head: bytes) -> tuple[str | None, int]:
    """The same for a response. (One to HEAD, and one that opens a tunnel, have no body whatever the head says.)"""
    if status < 200 or status in (204, 304):
        return "none", 0
    codings, length = _framing_headers(head)
    if codings:
        return "chunked" if codings[-1] == b"chunked" else "until-close", 0
    return ("until-close", 0) if length is None else _by_length(length)


def _by_length(length: int) -> tuple[str | None, int]:
    return (None, 0) if length == INVALID else ("content-length", length)


def _framing_headers(head: bytes) -> tuple[list, int | None]:
    """The transfer codings; and the Content-Length: None where there is none, INVALID where it is not one number.

    Source: RFC 9112 section 5.2 (what was folded is one line), RFC 9110 sections 5.3 and 5.6.1 (several lines are one
    list).
    """
    lists = {b"content-length": [], b"transfer-encoding": []}
    for name, value in FRAMING_HEADER.findall(FOLDED_LINE.sub(b" ", head) if FOLDED_LINE.search(head) else head):
        lists[name.lower()] += [item for part in value.lower().split(b",") if (item := part.strip())] or [b""]
    lengths = {_number(text) for text in lists[b"content-length"]}
    return lists[b"transfer-encoding"], (lengths.pop() if len(lengths) == 1 else INVALID if lengths else None)


def _number(text: bytes) -> int:
    return int(text[-18:]) if text.isdigit() and not text[:-18].strip(b"0") else INVALID


def _whole_head(line: re.Pattern, parts: Callable, framing: Callable) -> Callable:
    """A function of a text up to an empty line: the parts of its line, framing and length; None if it is no whole head.

    Heads are much the same again and again, so it remembers them.
    """
    @lru_cache(HEADS_KNOWN)
    def whole_head(text: bytes) -> tuple | None:
        first = line.match(text)
        end = first and HEAD_END.search(text, first.end() - 1)
        return (parts(first), *framing(parts(first)[0], text)) if end and end.end() == len(text) else None
    return whole_head


def _cut_head(line: re.Pattern, parts: Callable) -> Callable:
    """A function of what was captured of a frame: the parts of its line; None if that is cut, or the head is not.

    It remembers them too: of a head that is cut short, the beginning is the same even more often.
    """
    @lru_cache(HEADS_KNOWN)
    def cut_head(text: bytes) -> tuple | None:
        first = line.match(text)
        return parts(first) if first and not HEAD_END.search(text, first.end() - 1) else None
    return cut_head


def _status(line: re.Match) -> tuple:
    return (int(line[1]),)


def _request(line: re.Match) -> tuple:
    """Method, target and version; the target is None where the line has none."""
    return line[1], line[2] or None, line[3]


REQUEST = Grammar(
    REQUEST_LINE, REQUEST_BEGINNING, CUT_REQUEST_LINE, SURE_REQUEST_LINE, SURE_REQUEST_BEGINNING, _request,
    _request_framing, _whole_head(REQUEST_LINE, _request, _request_framing),
    _cut_head(REQUEST_LINE, _request))
RESPONSE = Grammar(
    STATUS_LINE, STATUS_BEGINNING, CUT_STATUS_LINE, STATUS_LINE, STATUS_BEGINNING, _status,
    _response_framing, _whole_head(STATUS_LINE, _status, _response_framing),
    _cut_head(STATUS_LINE, _status))


class MessageReader(Cursor):
    """Reads the messages of a `ByteStream`, one after the other: `find` moves to the next one, `read` reads it.

    `next`: where the next message should begin, None where that is not known. `follows`: whether the one that was
    found begins there; `lost` turns true where it doesn't. `gap`: whether bytes may be missing before it. `seq`:
    where it begins.
    """

    def __init__(self, stream: ByteStream):
        super().__init__(stream)
        self.next, self.follows, self.lost, self.gap, self.seq = stream.first, True, False, False, None
        self._known, self._cut, self._size, self._data, self._line, self._whole = None, None, 0, b"", None, True

    def find(self, grammar: Grammar) -> bool:
        """Move to the next bytes that begin a message, and say whether there are any."""
        gap, pieces = None, self.pieces
        while self.index < self.stop:
            index, offset = self.index, self.offset
            data = self._data = self.bytes_of(index)
            self.seq = pieces.seq[index] + offset
            captured = len(data)
            cut = not offset and captured < pieces.end[index] - pieces.seq[index] and captured < LONGEST_KNOWN
            self._cut = grammar.cut_head(data) if cut else None
            if self._cut is None:
                end = data.find(EMPTY_LINE, offset, offset + LONGEST_KNOWN) + len(EMPTY_LINE)
                self._size = end - offset
                self._known = grammar.whole_head(data[offset:end]) if end >= len(EMPTY_LINE) else None
            if self._cut or self._known or self._begins(data, grammar):
                self.follows = self.next == self.seq
                self.lost = self.lost or not self.follows
                self.gap = not self.follows if gap is None else gap
                return True
            gap = (self.next != self.seq if gap is None else gap) or not self.continues(index)
            self.index, self.offset = index + 1, 0
        return False

    def _begins(self, data: bytes, grammar: Grammar) -> bool:
        """Whether a message begins here, behind empty lines or in a piece that ends inside its first line."""
        if data[self.offset:self.offset + 1] in (b"\r", b"\n"):
            empty = EMPTY_LINES.match(data, self.offset).end() - self.offset
            self.next = self.next + empty if self.next == self.seq else self.next
            self.offset, self.seq = self.offset + empty, self.seq + empty
        self._line = grammar.line.match(data, self.offset)
        beginning = grammar.beginning if self.next == self.seq else grammar.sure_beginning
        return bool(self._line or (data.find(b"\n", self.offset) < 0 and beginning.match(data, self.offset)))

    def read(self, grammar: Grammar, method: bytes | None = None) -> Message | None:
        """The message that was found, or None where it has no head after all; `method`: of the request that it answers.

        Of a head that was cut with its frame only the first line counts, or what was captured of it.
        """
        seq, ack, begun, size = self.seq, self.pieces.ack[self.index], self.pieces.time[self.index], self._size
        if self._cut:
            self.index, self.next = self.index + 1, None
            return Message(self._cut, None, seq, ack, begun, gap=self.gap)
        if self._known:
            line, framing, length = self._known
        else:
            head = self._head(grammar)
            match = self._line or grammar.line.match(head) or (None if self._whole else grammar.cut.match(head))
            if match is None:
                return None
            line = grammar.parts(match)
            if not self._whole:
                self.next = None
                return Message(line, None, seq, ack, begun, gap=self.gap)
            (framing, length), size = grammar.framing(line[0], head), len(head)
        if method == b"HEAD" or (method == b"CONNECT" and 200 <= line[0] < 300):
            framing, length = "none", 0
        end, ended = self.skip_to(seq + size + length)
        if framing not in ("content-length", "none"):
            end, ended = self._body_without_length(framing, end)
        self.next = end
        return Message(line, framing, seq, ack, begun, ended, end, gap=self.gap)

    def _body_without_length(self, framing: str | None, begin: int) -> tuple[int | None, float | None]:
        """Move behind the body that begins at `begin`; (its end, time), None where that isn't known."""
        if framing == "chunked":
            return _skip_chunked(self, begin)
        return self.skip_to_fin(begin) if framing else (None, None)

    def _head(self, grammar: Grammar) -> bytes:
        """The bytes of the head that begins here; moves on where it is not `_whole`: none, where not for a cut frame.

        Where no message was expected, a piece that is sure to begin one belongs to none that began before it.
        """
        if self._line and (end := HEAD_END.search(self._data, self._line.end() - 1)):
            self._whole = True
            return self._data[self.offset:end.end()]
        self._line = None
        head, index, seen, right = bytearray(self._data[self.offset:]), self.index, 0, None
        line = grammar.line if self.follows else grammar.sure_line
        while True:
            end = HEAD_END.search(head, max(seen - 2, 0))
            if right is None and head.find(b"\n", seen) >= 0:
                right = bool(line.match(head))
            limit = LONGEST_HEAD if right else LONGEST_LINE
            if end or right is False or len(head) > limit or not self.continues(index):
                break
            index, seen, piece = index + 1, len(head), self.bytes_of(index + 1)
            if right is None and not self.follows and grammar.sure_line.match(piece):
                head.clear()
                break
            head += piece
        self._whole = bool(end and right)
        if self._whole:
            return bytes(head[:end.end()])
        self.index, self.offset = max(index, self.index + 1), 0
        return bytes(head) if not end and self.captured_end(index) < self.pieces.end[index] else b""


def _skip_chunked(cursor: Cursor, begin: int) -> tuple[int | None, float | None]:
    """Move behind the chunked body that begins at `begin`; (its end, time), None where that was not captured.

    Source: RFC 9112 section 7.1; lines may end in a bare LF, as section 2.2 lets heads do.
    """
    end = begin
    while chunk := CHUNK_LINE.fullmatch(cursor.take_line(end)):
        size, end = int(chunk[1], 16), end + len(chunk[0])
        if not size:
            return _skip_trailers(cursor, end)
        if cursor.index < cursor.stop and cursor.place < end + size:
            cursor.skip_to(end + size)
        line = cursor.take_line(end + size)
        if line not in LINE_ENDS:
            break
        end += size + len(line)
    return None, None


def _skip_trailers(cursor: Cursor, end: int) -> tuple[int | None, float | None]:
    """Move behind the trailers at `end` and the empty line after them; as `_skip_chunked`."""
    while line := cursor.take_line(end):
        end += len(line)
        if line in LINE_ENDS:
            return end, cursor.line_ended
    return None, None
