"""The tables of QUIC connections, of what ends them, and of HTTP/3 exchanges."""

import pandas as pd

from helpers.captures import Capture
from helpers.protocols.http3 import exchanges_of, goaways
from helpers.protocols.quic import version_name
from helpers.quic.tracking import tracked

HOSTS = ("client", "server")
CONNECTIONS = {
    "client": "string", "server": "string", "opened": "Float64", "closed": "Float64", "datagrams": "Int64",
    "client_bytes": "Int64", "server_bytes": "Int64", "version": "string", "protocol": "string", "offered": "string",
    "server_name": "string", "ending": "string", "closed_by": "string", "error_code": "Int64"}
EXCHANGES = {
    "stream": "int64", "nth": "Int64", "method": "string", "target": "string", "status": "Int64",
    "version": "string", "framing": "string", "requested": "Float64", "answered": "Float64", "finished": "Float64",
    "response_bytes": "Int64"}
MARKS = {"time": "Float64", "frame": "int64", "stream": "int64", "host": "string", "mark": "string"}


def quic_connections(capture: Capture) -> pd.DataFrame:
    """One row per QUIC connection of `capture`, in order of their first datagram; index `stream`, numbers of their own.

    Columns: `client`, `server` (`address:port`, where each was first seen); `opened` (first datagram of the client),
    `closed` (CONNECTION_CLOSE or stateless reset), in seconds since the first frame; `datagrams`; `client_bytes`,
    `server_bytes` (payload of UDP that each end sent); `version` (`1`, `2`, `draft-29`); `protocol`, `offered` (ALPN:
    chosen; offered, with blanks between); `server_name` (SNI); `ending` (`close`, `reset`: stateless), `closed_by`
    (`client`, `server`), `error_code` (of the CONNECTION_CLOSE). What the capture doesn't show is `<NA>`: without keys
    all that comes after the Initial packets, which anybody can read, as a CONNECTION_CLOSE mostly does.

    A connection is known by its connection IDs, also when a client's port changes. Only what has a long header of
    version 1, 2 or draft 29 to 34 begins one. Source: RFC 9000 sections 5.1, 10, 17; RFC 9001 section 5.2; RFC 9369.
    """
    return _table([_row(connection) for connection in tracked(capture)], CONNECTIONS).rename_axis("stream")


def quic_exchanges(capture: Capture) -> pd.DataFrame:
    """One row per HTTP/3 exchange that can be decrypted, in order of request; the columns of `exchanges`.

    `stream` is the number of the connection in `quic_connections`, which has nothing to do with that of a TCP
    connection: so this is a table of its own. `nth` counts the client's request streams from 1; `framing` is `frames`.
    `finished`: the last byte of the answer's stream and its FIN; `response_bytes`: all frames of that stream.
    Source: RFC 9114 section 4, RFC 9204.
    """
    rows = [(stream, *row[:4], "3", None if row[3] is None else "frames", *row[4:])
            for stream, connection in enumerate(tracked(capture))
            if connection.streams and (connection.protocol or "h3").startswith("h3")
            for row in exchanges_of(connection.streams)]
    return _table(rows, EXCHANGES).sort_values(["requested", "stream", "nth"], kind="stable", ignore_index=True)


def quic_marks(capture: Capture) -> pd.DataFrame:
    """Retries, version negotiations, and what ends connections: one row each, in order of time.

    Columns: `time` (s), `frame`, `stream` (as in `quic_connections`), `host`, `mark` (`Retry`, `Version Negotiation`,
    `CONNECTION_CLOSE`, `stateless reset`; `GOAWAY`, with the frame `-1`: a stream's bytes have a time alone).
    """
    rows = []
    for stream, connection in enumerate(tracked(capture)):
        marks = connection.marks + [(time, -1, side, "GOAWAY") for time, side in goaways(connection.streams)]
        rows += [(time, frame, stream, HOSTS[side] if connection.roles else None, mark)
                 for time, frame, side, mark in marks]
    return _table(rows, MARKS).sort_values(["time", "stream"], kind="stable", ignore_index=True)


def _table(rows, kinds):
    columns = dict(zip(kinds, zip(*rows))) if rows else {name: [] for name in kinds}
    return pd.DataFrame({name: pd.array(columns[name], dtype=kind) for name, kind in kinds.items()})


def _row(connection):
    known, hello, by = connection.roles, connection.hello, connection.closed_by
    client, server = (_text(end) if known else None for end in connection.ends)
    sizes = connection.sizes if known else (None, None)
    return (client, server, connection.first if hello else None, connection.closed, connection.datagrams, *sizes,
            None if connection.version is None else version_name(connection.version), connection.protocol,
            " ".join(hello.alpn) or None if hello else None, hello.server_name if hello else None, connection.ending,
            HOSTS[by] if known and by is not None else None, connection.error)


def _text(end):
    """`address:port`, as `connections` has it."""
    return f"{end[0]}:{end[1]}"
