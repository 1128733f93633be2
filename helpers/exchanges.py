"""HTTP/1.x exchanges from packets: `exchanges(capture)` gives one row per request with its response.

Bytes are put in order by sequence number, messages are read by h11, and answers are paired with requests first in,
first out, as RFC 9112 section 9.3 demands of every connection.
"""

import heapq
import re
from dataclasses import dataclass, field

import h11
import pandas as pd

from helpers.captures import FIN, RST, SYN
from helpers.connections import HOSTS, segment_flow

COLUMNS = {"stream": "int64", "nth": "Int64", "method": "string", "target": "string", "status": "Int64",
           "version": "string", "framing": "string", "requested": "Float64", "answered": "Float64",
           "finished": "Float64", "response_bytes": "Int64"}
REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} [^\s]+ HTTP/1\.\d\r?\n")
REQUEST_BEGIN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}( |$)")
STATUS_LINE = re.compile(rb"HTTP/1\.\d \d\d\d")
LARGEST_HEADER = 1 << 18
FILL = 1 << 16


def exchanges(capture):
    """One row per HTTP/1.x exchange of `capture`, in order of request.

    Columns: `stream`; `nth` (1: first on its connection; `<NA>` where the connection began before the capture); `method`,
    `target`, `version` (of the request); `status`; `framing`, how the end of the response is known (`content-length`,
    `chunked`, `until-close`, or `none` where there is no body to end); `requested`, `answered` (first byte of the
    request, of the response), `finished` (last byte, or the FIN that ends it), in seconds since the first frame;
    `response_bytes` (status line, header and body). What was not captured is `<NA>`.

    Source: RFC 9112 sections 6.3 (framing), 9.3 (order); an answer that was not captured doesn't shift the later ones.
    """
    flow = segment_flow(capture)
    flow["row"] = capture.segments.index.get_indexer(flow.index)
    talking = flow[(flow["length"] > 0) | (flow["flags"] & FIN > 0)]
    rows = [row for stream, segments in talking.groupby("stream")
            for row in _exchanges_of(capture, int(stream), segments)]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return table.sort_values(["requested", "stream", "nth"], kind="stable", ignore_index=True)


@dataclass
class _Piece:
    """Bytes in order: `seq` of the first, `time` when they (and all before them) had arrived; `gap` bytes missing before."""

    seq: int
    time: float
    data: bytes
    ack: int
    gap: int = 0


@dataclass
class _Message:
    """A request or response: where and when it began and ended; `end` is None while it isn't whole."""

    head: object
    seq: int
    ack: int
    begun: float
    ended: float | None = None
    end: int | None = None
    request: "_Message | None" = field(default=None, repr=False)


def _exchanges_of(capture, stream, segments):
    """Rows of one stream."""
    known = capture.segments["host"].notna().loc[segments.index[0]]
    directions = {host: segments[segments["end"] == host] for host in HOSTS}
    for asking, answering in ((HOSTS,) if known else (HOSTS, HOSTS[::-1])):
        first = 1 if known else None
        pieces = _pieces(capture, directions[asking], first)
        requests = list(_requests(pieces))
        if requests:
            answers = _responses(_pieces(capture, directions[answering], first), requests,
                                 _closing_time(directions[answering]))
            return _rows(stream, known, requests, list(answers))
    return []


def _rows(stream, known, requests, answers):
    """The table rows of one stream's requests, each with the answer that belongs to it, if one was captured."""
    by_request = {id(answer.request): answer for answer in answers}
    rows = []
    for number, request in enumerate(requests, 1):
        answer = by_request.get(id(request))
        row = [stream, number if known else None, request.head.method.decode("latin-1"),
               request.head.target.decode("latin-1")]
        row += [answer.head.status_code if answer else None, request.head.http_version.decode("latin-1"),
                _framing(request.head, answer.head) if answer else None, request.begun]
        row += [answer.begun, answer.ended, answer.end and answer.end - answer.seq] if answer else [None] * 3
        rows.append(row)
        if answer and _leaves_http(request.head, answer.head):
            break
    return rows


def _leaves_http(request, response):
    """Whether the connection speaks another protocol after this exchange (RFC 9110 sections 7.8 and 9.3.6)."""
    return response.status_code == 101 or request.method == b"CONNECT" and 200 <= response.status_code < 300


def _framing(request, response):
    """How the end of `response` is known: RFC 9112 section 6.3."""
    headers = {name: value.lower() for name, value in response.headers}
    if request.method == b"HEAD" or response.status_code in (204, 304):
        return "none"
    if request.method == b"CONNECT" and 200 <= response.status_code < 300:
        return "none"
    if headers.get(b"transfer-encoding", b"").endswith(b"chunked"):
        return "chunked"
    return "content-length" if b"content-length" in headers else "until-close"


# Bytes in order

def _pieces(capture, segments, expected):
    """The payload of one direction from sequence number `expected` on (None: wherever it begins), in order.

    Every byte comes once, with the time at which it and all before it had arrived.
    """
    held, pieces = [], []
    begins = (segments["seq"] + (segments["flags"] & SYN > 0)).to_numpy()
    ends = begins + segments["length"].to_numpy()
    columns = zip(begins, ends, segments["time"], segments["ack"], segments["row"])
    for begin, end, time, ack, row in columns:
        if begin == end:
            continue
        expected = begin if expected is None else expected
        heapq.heappush(held, (begin, end, row, ack, time))
        while held and held[0][0] <= expected:
            expected = _take(capture, pieces, heapq.heappop(held), expected, time)
    while held:
        expected = _take(capture, pieces, held[0], max(expected, held[0][0]), held[0][-1])
        heapq.heappop(held)
    return pieces


def _take(capture, pieces, segment, expected, time):
    """Append what `segment` brings from `expected` on, and return the next sequence number expected."""
    begin, end, row, ack, _ = segment
    if end <= expected:
        return expected
    at, size = capture._headers["payload_at"][row], capture._headers["payload_captured"][row]
    data = capture._data[at + min(expected - begin, size):at + size].tobytes()
    before = pieces[-1].seq + len(pieces[-1].data) if pieces else expected
    if data:
        pieces.append(_Piece(int(expected), float(time), data, int(ack), int(expected - before)))
    return end


def _closing_time(segments):
    """Time of the first FIN of one direction, or None."""
    fins = segments[(segments["flags"] & FIN > 0) & (segments["flags"] & RST == 0)]
    return float(fins["time"].iloc[0]) if len(fins) else None


# Messages

def _requests(pieces):
    """The requests of one direction, in order."""
    reader = _Reader(pieces)
    while reader.seek(REQUEST_LINE, REQUEST_BEGIN):
        message = reader.message(h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEADER), h11.Request)
        if message is None:
            continue
        yield message


def _responses(pieces, requests, closed):
    """The final responses of one direction, each with the request it answers."""
    reader, waiting = _Reader(pieces, closed), list(requests)
    while waiting and reader.seek(STATUS_LINE, STATUS_LINE):
        while len(waiting) > 1 and waiting[1].ack > waiting[0].ack and reader.seq >= waiting[1].ack:
            waiting.pop(0)
        message = reader.message(_asked(waiting[0].head), h11.Response)
        if message is None:
            continue
        message.request = waiting.pop(0)
        yield message
        if _leaves_http(message.request.head, message.head):
            return


def _asked(request):
    """An h11 connection that has sent `request`'s like and awaits the response."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_HEADER)
    headers = [(b"host", b"x")] + [pair for pair in request.headers if pair[0] in (b"upgrade", b"connection")]
    connection.send(h11.Request(method=request.method, target=b"/", headers=headers))
    if connection.our_state is not h11.MIGHT_SWITCH_PROTOCOL:
        connection.send(h11.EndOfMessage())
    return connection


class _Reader:
    """Reads messages from pieces, one after the other; `closed` is when the sender's FIN came, if it came."""

    def __init__(self, pieces, closed=None):
        self.pieces, self.closed, self.position = pieces, closed, 0

    @property
    def seq(self):
        return self.pieces[self.position].seq

    def seek(self, line, begin):
        """Move to the next piece that begins a message, and say whether there is one."""
        while self.position < len(self.pieces):
            data = self.pieces[self.position].data
            if line.match(data) or (begin.match(data) and b"\n" not in data[:LARGEST_HEADER]):
                return True
            self.position += 1
        return False

    def message(self, connection, kind):
        """The message that begins here, read with `connection`; None where it is no message of this `kind`."""
        first, start, message = self.pieces[self.position], self.position, None
        try:
            while self.position < len(self.pieces):
                piece = self.pieces[self.position]
                if self.position > start and piece.gap:
                    if message is None:
                        return None
                    _fill(connection, piece.gap)
                connection.receive_data(piece.data)
                self.position += 1
                for event in _events(connection):
                    if isinstance(event, kind) or _switches(event):
                        message = _Message(event, first.seq, first.ack, first.time)
                    if isinstance(event, h11.EndOfMessage) or _switches(event):
                        return self._whole(message, connection, piece)
                    if isinstance(event, h11.InformationalResponse):
                        self._put_back(connection, piece)
                        return None
            if message is not None and self.closed is not None:
                self._until_close(message, connection)
        except h11.ProtocolError:
            self.position = max(self.position, start + 1)
        return message

    def _until_close(self, message, connection):
        """Note the end of `message` where the FIN is its end; a FIN inside a body of known length is none."""
        connection.receive_data(b"")
        if any(isinstance(event, h11.EndOfMessage) for event in _events(connection)):
            last = self.pieces[-1]
            message.ended, message.end = max(self.closed, last.time), last.seq + len(last.data)

    def _whole(self, message, connection, last):
        """`message` with its end noted; what follows it in the last piece is put back."""
        message.ended, message.end = last.time, self._put_back(connection, last)
        return message

    def _put_back(self, connection, last):
        """Let the next message begin with the bytes of `last` that `connection` has not used; their position."""
        rest = connection.trailing_data[0]
        end = last.seq + len(last.data) - len(rest)
        if rest:
            self.position -= 1
            self.pieces[self.position] = _Piece(end, last.time, rest, last.ack)
        return end


def _events(connection):
    """The events that `connection` can tell now."""
    while not isinstance(event := connection.next_event(), (type(h11.NEED_DATA), h11.ConnectionClosed)) \
            and event is not h11.PAUSED:
        yield event


def _fill(connection, gap):
    """Stand in for bytes that were not captured; right in a body of known length, an error anywhere else."""
    for size in [FILL] * (gap // FILL) + [gap % FILL] * (gap % FILL > 0):
        connection.receive_data(bytes(size))
        for _ in _events(connection):
            pass


def _switches(event):
    return isinstance(event, h11.InformationalResponse) and event.status_code == 101
