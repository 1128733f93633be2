"""HTTP/1.x exchanges from packets: `exchanges(capture)` gives one row per request with its response.

Bytes are put in order by sequence number, messages are cut as RFC 9112 section 6.3 says, and answers are paired with
requests first in, first out, as its section 9.3 demands of every connection. To import this tells pandas to have notebooks
typeset no table: what stands between dollar signs in a target is no mathematics.
"""

import gc
import math
from bisect import bisect_left, bisect_right
from contextlib import contextmanager
from functools import cached_property
from itertools import accumulate

import pandas as pd

from helpers.flow import flows
from helpers.flow.reassembly import sides_of
from helpers.protocols.http1 import LARGEST_KNOWN, REQUEST, RESPONSE, SHORTEST, Reader, leaves_http, texts

pd.set_option("display.html.use_mathjax", False)

COLUMNS = {"stream": "int64", "nth": "Int64", "method": "string", "target": "string", "status": "Int64",
           "version": "string", "framing": "string", "requested": "Float64", "answered": "Float64",
           "finished": "Float64", "response_bytes": "Int64"}
ROW = ("stream", "nth", "method", "target", "version", "requested", "status", "framing", "answered", "finished", "response_bytes")
UNANSWERED = (None,) * 5


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
        rows = [row for flow in flows(capture) for row in _exchanges_of(*sides_of(capture, flow), flow.first)]
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


def _exchanges_of(sides, buffer, first):
    """Yield the row of each request with the answer that belongs to it, if one was captured; `first`: the first stream.

    Behind an answer that turns to another protocol, neither direction is HTTP.
    """
    found, over = {}, {}
    for asking, side in sides.items():
        peer = sides.get(asking ^ 1)
        if side.may_ask and not _greeted(side, peer, buffer) and (requests := list(_requests(Reader(buffer, side)))):
            answers = _answers(Reader(buffer, peer), requests) if peer else {}
            found[asking] = requests, answers
            if answers and leaves_http(requests[last := max(answers)], answers[last]):
                for direction, end in ((asking, requests[last].seq + 1), (asking ^ 1, answers[last].seq)):
                    over[direction] = min(end, over.get(direction, end))
    for asking, (requests, answers) in found.items():
        stream, end = first + asking // 2, over.get(asking, math.inf)
        for number, request in enumerate(requests):
            if request.seq >= end:
                break
            answer, shown = answers.get(number), texts if len(request.line[1]) < LARGEST_KNOWN else texts.__wrapped__
            size = None if answer is None or answer.end is None else answer.end - answer.seq
            yield (stream, request.number, *shown(request.line), request.begun, *(UNANSWERED if answer is None else (
                answer.line[0], answer.framing, answer.begun, answer.ended, size)))


def _greeted(side, peer, buffer):
    """Whether the peer is known to have spoken first, and no HTTP, as servers of mail, files and chat do."""
    if peer is None or peer.pieces.time[peer.start] >= side.pieces.time[side.start]:
        return False
    if side.first is None or peer.first != peer.pieces.seq[peer.start]:
        return False
    data = Reader(buffer, peer).bytes_of(peer.start)
    return bool(data) and not any(pattern.match(data) for pattern in (RESPONSE.begin, REQUEST.line, REQUEST.known_begin))


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
            if leaves_http(requests[asked], answer):
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
