"""HTTP/1.x exchanges from packets: `exchanges(capture)` gives one row per request with its response.

The bytes are put in order (`helpers.flow`), messages are cut as RFC 9112 section 6.3 says
(`helpers.protocols.http1`), and answers are paired with requests here: first in, first out, as its section 9.3
demands of every connection.

Importing this module switches off MathJax in pandas' tables: notebooks would show a target with two dollar signs as a
formula.
"""

import gc
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import accumulate, chain

import numpy as np
import pandas as pd

from helpers.captures import Capture
from helpers.flow import HOSTS, Flow, beginning, byte_streams, flows, in_turns, inside, pairs
from helpers.protocols import http1, http2
from helpers.protocols.bytestream import ByteStream, Cursor
from helpers.protocols.http1 import REQUEST, RESPONSE, Message, MessageReader
from helpers.protocols.tls_session import read_session

pd.set_option("display.html.use_mathjax", False)

COLUMNS = {"stream": "int64", "nth": "Int64", "method": "string", "target": "string", "status": "Int64",
           "version": "string", "framing": "string", "requested": "Float64", "answered": "Float64",
           "finished": "Float64", "response_bytes": "Int64"}
ROW = ("stream", "nth", "method", "target", "version", "requested", "status", "framing", "answered", "finished",
       "response_bytes")
UNANSWERED = (None,) * 5


def exchanges(capture: Capture) -> pd.DataFrame:
    """One row per HTTP exchange of `capture`, in order of request: HTTP/1.x, HTTP/2, and both over TLS with its keys.

    Columns: `stream`; `nth` (1: first on its connection; `<NA>` where bytes before it were not captured); `method`,
    `target`, `version` (of the request); `status`; `framing`, how the end of the response is known (`content-length`,
    `chunked`, `until-close`, or `none` where there is no body to end; `frames` in HTTP/2); `requested`, `answered`
    (first byte of the request, of the response), `finished` (last byte, or the FIN that ends it), in seconds since the
    first frame; `response_bytes` (status line, header and body; in HTTP/2 the answer's frames). What was not captured
    is `<NA>`. Where frames were cut, a head counts by its first line; where that was cut, `version` is `<NA>`, and
    `target` what was captured of it. A line whose target has spaces gives the part before the first, as Wireshark does.
    A line without a target has `<NA>` there; `version` is as it was sent, maybe `1.0.8`.
    A method that isn't well known counts in upper case, with a target that is a path, `*` or a URL. Bytes of a target
    are shown as Latin-1, control characters as escapes: `\\x1b`.

    Over TLS a byte arrives when its whole record has. In HTTP/2 a stream that was cancelled is never `finished`, a
    header block that can't be unpacked is `<NA>`, and what a server pushed has no `nth`.

    Source: RFC 9112 sections 6.3 (framing), 9.3 (order). An answer that was not captured doesn't shift the later
    ones; where it can't be told whose the next one is, the answers are `<NA>` until it can be told again.
    """
    with _no_garbage_collection():
        parts, signs = [], []
        for flow in flows(capture):         # one thread: this is Python's work, and two take turns, no less time
            parts += _columns_of(capture, flow, signs)
    capture.derived["signals"] = signs
    table = pd.DataFrame({name: _column([part[name] for part in parts], kind) for name, kind in COLUMNS.items()})
    return table.sort_values(["requested", "stream", "nth"], kind="stable", ignore_index=True)


def _columns_of(capture: Capture, flow: Flow, signs: list) -> list[dict]:
    """The columns of the exchanges in `flow`, in some parts; `signs` gets the signals."""
    simple, columns = in_turns(capture, flow)
    streams = byte_streams(capture, flow.of_connections(~simple), http1.may_begin_request)
    rows = [*_rows_of_http2(streams, flow.first, capture.secrets, signs), *_rows(streams, flow.first)]
    return [part for part in (columns, dict(zip(ROW, zip(*rows)))) if part]


def _column(parts: list[Sequence], kind: str) -> pd.api.extensions.ExtensionArray | np.ndarray:
    """The `parts` of a column, one behind the other; a number that isn't known is None or NaN in them."""
    if kind == "string":
        return pd.array(list(chain.from_iterable(parts)), kind)
    numbers = np.concatenate([np.empty(0), *(np.asarray(part, float) for part in parts)])
    return numbers.astype(kind) if kind == "int64" else pd.array(numbers, kind)


def signals(capture: Capture) -> pd.DataFrame:
    """What the ends said to end their work, as far as it can be read: one row each, in order of time.

    Columns: `stream`, `time`, `host`, `signal`: an alert of TLS by its name (`close_notify`), `GOAWAY` or `RST_STREAM`
    of HTTP/2; `detail`. Source: RFC 8446 section 6, RFC 9113 sections 6.4 and 6.8.
    """
    if "signals" not in capture.derived:
        exchanges(capture)
    rows = sorted(capture.derived["signals"], key=lambda row: row[1])
    table = pd.DataFrame(rows, columns=["stream", "time", "host", "signal", "detail"])
    return table.astype({"stream": "int64", "time": "float64"} | dict.fromkeys(("host", "signal", "detail"), "string"))


def _rows_of_http2(streams: dict[int, ByteStream], first: int, secrets: Mapping, signs: list) -> list[tuple]:
    """The rows of HTTP/2; `signs` gets the signals. `streams` keep what may be HTTP/1.x: of TLS, its plaintext."""
    rows = []
    for connection, pair in list(pairs(streams)):
        begins = beginning(pair)
        if begins.protocol not in ("tls", "h2c") or (begins.protocol == "tls" and not secrets):
            continue
        sides = [2 * connection + begins.asks, 2 * connection + (begins.asks ^ 1)]
        client, server = (streams.pop(side, None) for side in sides)
        protocol, stream, said = begins.protocol, first + connection, []
        if protocol == "tls":
            session = read_session(client, server, secrets)
            client, server = (session.plain.get(side) for side in range(2))
            protocol, said = inside(session), [(*alert, None) for alert in session.alerts]
        if protocol in ("h2", "h2c"):
            talk = http2.read_conversation(client, server)
            rows += [_row_of_http2(stream, exchange) for exchange in talk.exchanges.values()]
            said += talk.signals
        else:
            streams |= {side: plain for side, plain in zip(sides, (client, server)) if plain}
        signs += [(stream, time, HOSTS[side ^ begins.asks], *rest) for time, side, *rest in said]
    return rows


def _row_of_http2(stream: int, exchange: http2.Exchange) -> tuple:
    """The row of one exchange of HTTP/2."""
    method, target, _ = http1.shown((*exchange.line, None)) if None not in exchange.line else (None, None, None)
    whole = exchange.finished is not None and exchange.status is not None and not exchange.lossy
    return (stream, exchange.nth, method, target, "2", exchange.requested, exchange.status,
            None if exchange.status is None else "frames", exchange.answered, exchange.finished,
            exchange.size if whole else None)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Switch the garbage collector off for a while: the many small objects made here are in no cycle."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _rows(streams: dict[int, ByteStream], first: int) -> Iterator[tuple]:
    """Yield the row of each request with its answer, if one was captured; `first`: the number of the first connection.

    Behind an answer that changes to another protocol, neither direction is HTTP.
    """
    found, ends = {}, {}
    for asking, stream in streams.items():
        peer = streams.get(asking ^ 1)
        if stream.interesting and not _peer_spoke_first(stream, peer) and (requests := list(_requests(stream))):
            answers = _answers(peer, requests) if peer else {}
            found[asking] = requests, answers
            if answers and http1.leaves_http(requests[last := max(answers)], answers[last]):
                for direction, end in ((asking, requests[last].seq + 1), (asking ^ 1, answers[last].seq)):
                    ends[direction] = min(end, ends.get(direction, end))
    for asking, (requests, answers) in found.items():
        end = ends.get(asking, math.inf)
        for place, request in enumerate(requests):
            if request.seq >= end:
                break
            answer = answers.get(place)
            yield (first + asking // 2, request.number, *http1.shown(request.line), request.begun,
                   *(UNANSWERED if answer is None else _answer_columns(answer)))


def _answer_columns(answer: Message) -> tuple:
    """`status`, `framing`, `answered`, `finished` and `response_bytes` of one exchange."""
    return (answer.line[0], answer.framing, answer.begun, answer.ended,
            None if answer.end is None else answer.end - answer.seq)


def _peer_spoke_first(stream: ByteStream, peer: ByteStream | None) -> bool:
    """Whether the peer is known to have spoken first, and no HTTP, as servers of mail, files and chat do.

    A greeting of SOCKS is none of these: behind it either end may be the one that asks.
    """
    if peer is None or peer.begun >= stream.begun:
        return False
    if stream.first is None or peer.first != peer.pieces.seq[peer.start]:
        return False
    data = Cursor(peer).bytes_of(peer.start)
    return bool(data) and not http1.looks_like_http(data) and not http1.greets_socks(data)


# Which answer belongs to which request: RFC 9112 sections 9.3 and 9.3.2

def _requests(stream: ByteStream) -> Iterator[Message]:
    """The requests of one direction, in order."""
    reader, number = MessageReader(stream), 0
    while reader.find(REQUEST):
        request = reader.read(REQUEST)
        if request is not None:
            number += 1
            request.number = None if reader.lost else number
            yield request


def _answers(stream: ByteStream, requests: list[Message]) -> dict[int, Message]:
    """The final responses of one direction, by the place in `requests` of the request that each answers.

    Responses come in the order of their requests, and interim ones (100 to 199, but for 101) answer none. Where
    messages are missing, so that the order alone doesn't tell, `_AfterGap` does.
    """
    reader, answers, asked = MessageReader(stream), {}, 0
    after_gap = _AfterGap(requests, reader.next)
    while asked < len(requests) and reader.find(RESPONSE):
        seq = reader.seq
        if after_gap.in_doubt or not reader.follows or (requests[asked].gap and asked > after_gap.settled):
            asked, answers_it = after_gap.answered(asked, seq, reader.ack)
        else:
            answers_it = seq >= requests[asked].ack
        answer = reader.read(RESPONSE, requests[asked].line[0] if seq >= requests[asked].ack else None)
        after_gap.read = seq if answer is None or answer.end is None else answer.end
        if answer is not None and answers_it and (answer.line[0] >= 200 or answer.line[0] == 101):
            answers[asked] = answer
            if http1.leaves_http(requests[asked], answer):
                break
            asked += 1
    return answers


class _AfterGap:
    """Says which request a response answers where messages are missing before it: by acknowledgments, or not at all.

    A request acknowledges what its sender had received. If it acknowledges more than the request before it, the
    answers in between had arrived, as long as the client waits for them: one that pipelines tells nothing. And a
    response answers no request that it doesn't acknowledge.

    `read`: the responses were read up to this sequence number. `since`: a request that acknowledges more than this
    settles what is in doubt; None where nothing is in doubt. `settled`: the last request that was settled so.
    """

    def __init__(self, requests: list[Message], read: int | None):
        self.requests, self.read, self.since, self.settled = requests, -math.inf if read is None else read, None, -1

    @property
    def in_doubt(self) -> bool:
        return self.since is not None

    @cached_property
    def acks(self) -> list:
        """The highest acknowledgment of each request and those before it."""
        return list(accumulate((request.ack for request in self.requests), max))

    @cached_property
    def seqs(self) -> list:
        return [request.seq for request in self.requests]

    def answered(self, asked: int, seq: int, ack: int) -> tuple[int, bool]:
        """The next request to be answered, and whether the response at `seq` that acknowledges `ack` is its answer.

        `asked`: the first request without an answer so far.
        """
        if not self.in_doubt and self.requests[asked].gap and asked > self.settled:
            before = self.requests[asked - 1] if asked else None
            self.since = before.ack if before and before.end is None else self.read
        last = min(bisect_right(self.acks, seq), bisect_left(self.seqs, ack)) - 1
        known = self.since if self.in_doubt else max(self.read, self.acks[asked])
        if last >= asked and self.acks[last] > known:
            asked = self.settled = bisect_left(self.acks, self.acks[last], asked)
            self.since = None
        elif self.in_doubt:
            return asked, False
        known = max(self.read, self.acks[asked])
        if known < seq and (last > asked or self._may_have_missed_one(asked, ack)):
            waits = self.acks[bisect_right(self.acks, known) - 1] == self.acks[asked]
            self.since = seq if waits else math.inf
        return asked, not self.in_doubt and last >= asked

    def _may_have_missed_one(self, asked: int, ack: int) -> bool:
        """Whether `ack` leaves room for a request that was not captured, behind the one that is `asked`."""
        end, following = self.requests[asked].end, self.requests[asked + 1:asked + 2]
        return (end is None or ack >= end + http1.SHORTEST_REQUEST) and all(request.gap for request in following)
