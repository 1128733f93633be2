"""How each connection begins: which protocol it speaks, to which server by name, and how TLS was agreed on.

TLS is known by its records and HTTP by its first line, not by a port.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers.captures import SYN, Capture, structures
from helpers.flow.batches import ARRAYS, Flow, of_flows
from helpers.flow.groups import first_row, first_value
from helpers.flow.reassembly import byte_streams
from helpers.protocols import http1, http2, tls
from helpers.protocols.bytestream import ByteStream, Cursor
from helpers.protocols.tls_keys import cipher_name
from helpers.protocols.tls_session import Session, read_session

EARLY = 1 << 16     # bytes of each direction: more than any handshake takes
LINE = 128          # bytes in which a request line is looked for in all connections at once
BYTES_OF_LINE = np.dtype(f"V{LINE}")
SHORTEST_LINE = 16  # "GET / HTTP/1.1" and its end
SEARCHED = 16       # pieces of a direction whose beginning was not captured
HANDSHAKE_COLUMNS = {"server_name": "string", "version": "string", "cipher": "string", "offered": "string",
                     "chosen": "string", "resumed": "boolean", "early_data": "boolean", "round_trips": "Int64",
                     "unread": "string"}


class Beginning(NamedTuple):
    """How a connection begins: its `protocol` (`tls`, `h2c`, `http/1.1`, ...), and which end `asks`, 0 or 1.

    `shown`: what shows that it is this end: a `request` of HTTP, or the `hello` of TLS; None where nothing does.
    """

    protocol: str | None
    asks: int
    shown: str | None = None


def beginning(pair: tuple[ByteStream | None, ByteStream | None]) -> Beginning:
    """How a connection begins, given what its two ends sent."""
    for side, stream in enumerate(pair):
        for data, begins in _first_pieces(stream) if stream else ():
            if tls.looks_like_tls(data, begins):
                asks = _client_of(pair, side, data)
                return Beginning("tls", asks or 0, None if asks is None else "hello")
            if http2.begins(data):
                return Beginning("h2c", side, "request")
            if line := http1.REQUEST_LINE.match(data.lstrip(b"\r\n")):
                return Beginning(f"http/{line[3].decode()}", side, "request")
            if http1.STATUS_LINE.match(data):
                return Beginning(f"http/{data[5:8].decode()}", side ^ 1, "request")
    return Beginning(None, 0)


def _first_pieces(stream: ByteStream) -> Iterator[tuple[bytes, bool]]:
    """Yield (bytes, whether nothing stands before them) of what one end sent first, or what was captured first."""
    if stream.start == stream.stop:
        return
    cursor, begins = Cursor(stream), stream.first is not None and stream.first == stream.pieces.seq[stream.start]
    last = stream.start + 1 if begins else min(stream.start + SEARCHED, stream.stop)
    for index in range(stream.start, last):
        data = cursor.bytes_of(index)
        while begins and len(data) < 24 and cursor.continues(index):
            index += 1
            data += cursor.bytes_of(index)
        yield data, begins


def _client_of(pair, side: int, data: bytes) -> int | None:
    """Which end is the client of TLS: the one that says ClientHello; None where neither is seen to.

    `data`: what the end `side` sends first.
    """
    if data[0] == tls.HANDSHAKE and data[tls.HEAD:tls.HEAD + 1] in (b"\1", b"\2"):
        return side if data[tls.HEAD] == tls.CLIENT_HELLO else side ^ 1
    other = pair[side ^ 1]
    first, _ = next(_first_pieces(other), (b"", True)) if other else (b"", True)
    return side ^ 1 if first[:1] == b"\x16" and first[tls.HEAD:tls.HEAD + 1] == b"\1" else None


def pairs(streams: dict[int, ByteStream]) -> Iterator[tuple[int, tuple]]:
    """Yield the number of each connection, and what its two ends sent; `streams`: by direction."""
    for connection in dict.fromkeys(direction // 2 for direction in streams):
        yield connection, (streams.get(2 * connection), streams.get(2 * connection + 1))


def inside(session: Session) -> str | None:
    """What was spoken inside TLS: what was agreed on, or else what the plaintext looks like; None: cannot tell."""
    if session.alpn:
        return session.alpn
    plain = beginning((session.plain.get(0), session.plain.get(1))).protocol if session.plain else None
    return "h2" if plain == "h2c" else plain


def protocols(capture: Capture) -> pd.DataFrame:
    """What each connection speaks, index `stream`: `protocol`, `server_name` (SNI), `asks`, `shown`.

    `protocol`: `http/1.1`, `http/1.0`, `h2c` (HTTP/2 in the clear); what TLS agreed on (ALPN), such as `h2`, or what
    its plaintext is, where that can be read; else `tls`. `asks`: which end of `end_events` is the client by what it
    says, 0 or 1, and what shows it: a `request` of HTTP, the `hello` of TLS. `<NA>` where that can't be told.
    """
    kinds = {"protocol": "string", "server_name": "string", "asks": "Int64", "shown": "string"}
    index = pd.RangeIndex(int(capture.segments["stream"].max()) + 1 if len(capture.segments) else 0, name="stream")
    table = np.full((len(kinds), len(index)), None, object)
    if "spoken" not in capture.derived:
        capture.derived["spoken"] = [row for rows in of_flows(partial(spoken, capture), capture) for row in rows]
    for streams, values, _ in capture.derived["spoken"]:
        for column, value in zip(table, values):
            column[streams] = value
    return pd.DataFrame({name: pd.array(column, kind) for (name, kind), column in zip(kinds.items(), table)}, index)


def spoken(capture: Capture, flow: Flow) -> list[tuple]:
    """What the connections of `flow` speak: (stream or streams, columns in `protocols`, whether it is TLS)."""
    rows = []
    for streams, pair, begins in _beginnings_of(capture, flow):
        name, server = begins.protocol, None
        if name == "tls":
            session = _session(pair, begins, capture)
            name, server = inside(session) or "tls", session.hellos.client and session.hellos.client.server_name
        asks = begins.asks if begins.shown else None
        rows.append((streams, (name, server, asks, begins.shown), begins.protocol == "tls"))
    return rows


def handshakes(capture: Capture) -> pd.DataFrame:
    """How TLS was agreed on: one row per connection with TLS, index `stream`.

    `server_name` (SNI), `version` (`1.3`), `cipher`, `offered` (ALPN, with commas) and `chosen`; `resumed`: whether a
    session goes on that began before; `early_data`: whether the server took data with the first flight (0-RTT);
    `round_trips`: how often the client waited for the server before its first data; `unread`: why the plaintext can't
    be read, `<NA>` where it can. `<NA>`: cannot be told. From TLS 1.3 on `chosen` and `early_data` need the keys.

    Source: RFC 8446, RFC 5246.
    """
    if "handshakes" not in capture.derived:
        capture.derived["handshakes"] = _handshakes(capture)
    return capture.derived["handshakes"].copy()


def _handshakes(capture: Capture) -> pd.DataFrame:
    none = not any(over_tls for *_, over_tls in capture.derived.get("spoken", [(None, True)]))
    rows = {} if none else {
        stream: _handshake(pair[begins.asks], pair[begins.asks ^ 1], _session(pair, begins, capture))
        for stream, pair, begins in _beginnings(capture) if begins.protocol == "tls"}
    columns = zip(*rows.values()) if rows else [()] * len(HANDSHAKE_COLUMNS)
    return pd.DataFrame({name: pd.array(list(column), kind) for (name, kind), column in zip(
        HANDSHAKE_COLUMNS.items(), columns)}, pd.Index(list(rows), dtype="int64", name="stream"))


def _handshake(client: ByteStream | None, server: ByteStream | None, session: Session) -> tuple:
    """The row of one connection in `handshakes`."""
    hello, answer = session.hellos.client, session.hellos.server
    early = session.early_data if hello and hello.early_data else False if hello else None
    waited = tls.round_trips(client, server) if client and server else None
    if waited == 0:
        waited = None if early is None else 0 if early else 1
    return (hello and hello.server_name, answer and tls.VERSION_NAMES.get(answer.version, hex(answer.version)),
            answer and cipher_name(answer.cipher), ",".join(hello.alpn) if hello and hello.alpn else None,
            session.alpn, tls.resumed(session.hellos), early, waited, session.unread)


def _session(pair: tuple, begins: Beginning, capture: Capture) -> Session:
    return read_session(pair[begins.asks], pair[begins.asks ^ 1], capture.secrets)


def _beginnings(capture: Capture) -> Iterator[tuple]:
    """Yield (stream, what its two ends sent first, how it begins) of each connection whose payload says something.

    Where it begins with a line of HTTP/1.x: (array of such streams, None, how all of these begin).
    """
    for found in of_flows(partial(_beginnings_of, capture), capture):
        yield from found


def _beginnings_of(capture: Capture, flow: Flow) -> list[tuple]:
    """What `_beginnings` yields of `flow`."""
    early = _early(flow, capture)
    if not len(early.row):
        return []
    found, others = [], np.ones(flow.directions // 2, bool)
    for connections, begins in _first_lines(capture, early):
        found.append((flow.first + connections, None, begins))
        others[connections] = False
    rows = np.flatnonzero(others[early.stream])
    streams = byte_streams(capture, _rows_of(early, rows), http1.may_begin_request) if len(rows) else {}
    slow = ((flow.first + connection, pair, beginning(pair)) for connection, pair in pairs(streams))
    return found + [one for one in slow if one[2].protocol]


def _first_lines(capture: Capture, flow: Flow) -> Iterator[tuple[np.ndarray, Beginning]]:
    """Yield connections whose first end begins with the same request line, all in its first segment, and how they do.

    Most connections of a capture begin with one of a few lines. Each of those is read once, as `beginning` reads it.
    """
    row = first_row(flow.direction, flow.valid & (flow.length > 0), flow.directions)[::2]
    connections = np.flatnonzero(row >= 0)
    row = row[connections]
    at, size = (capture.headers[name][flow.row[row]] for name in ("payload_at", "payload_captured"))
    whole = flow.began[row] & (flow.seq[row] == 1) & (flow.flags[row] & SYN == 0) & (size >= SHORTEST_LINE)
    whole &= at + LINE <= len(capture.data)
    connections, at, size = connections[whole], at[whole], size[whole]
    texts = structures(capture.data, at, BYTES_OF_LINE)
    texts.view(np.uint8).reshape(-1, LINE)[np.arange(LINE) >= size[:, None]] = 0
    distinct, which = np.unique(texts, return_inverse=True)
    for number, text in enumerate(distinct.tolist()):
        line = http1.REQUEST_LINE.fullmatch(text[:text.find(b"\n") + 1])
        if line:
            yield connections[which == number], Beginning(f"http/{line[3].decode()}", 0, "request")


def _rows_of(flow: Flow, rows: np.ndarray) -> Flow:
    return replace(flow, **{name: getattr(flow, name)[rows] for name in ARRAYS})


def _early(flow: Flow, capture: Capture) -> Flow:
    """The segments of `flow` with what each direction sends first, as far as the file has it."""
    data = flow.valid & (flow.length > 0)
    if not len(flow.row) or not capture.headers["payload_captured"][flow.row[data]].any():
        rows = np.empty(0, np.int64)
    else:
        first = np.where(flow.began, 0, first_value(flow.seq, flow.direction, data, flow.directions)[flow.direction])
        rows = np.flatnonzero(data & (flow.seq < first + EARLY))
    return _rows_of(flow, rows)
