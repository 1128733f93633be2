"""Findings about HTTP/2 and TLS: what the ends said to end their work. Without the secrets these rules are silent."""

from collections.abc import Iterator

from helpers.captures import RST
from helpers.diagnosis.case import Case
from helpers.diagnosis.finding import Finding, span, streams
from helpers.exchanges import signals
from helpers.flow import segment_flow


def goaway_race(case: Case) -> Iterator[Finding]:
    """`goaway-race`: requests that crossed the server's GOAWAY, behind its last stream, and were not asked again.

    The server has not seen to them and never will, so that each may be asked again, also a POST (RFC 9113 section 6.8).
    """
    signs = signals(case.tables.capture)
    signs = signs[(signs["signal"] == "GOAWAY") & (signs["host"] == "server")].drop_duplicates("stream", keep="last")
    if signs.empty:
        return
    behind = signs.set_index("stream")["detail"].str.extract(r"(\d+) requests behind")[0].dropna().astype(int)
    lost = [row for stream, number in behind.items() for row in _behind(case, stream, number)]
    rows = case.tables.exchanges.loc[lost].join(case.facts["server"], on="stream")
    for server, group in rows.groupby("server"):
        yield Finding(
            "goaway-race", server, len(group), span(group["requested"]), streams(group.set_index("stream")),
            "The server had said GOAWAY and sees to no more streams, when these requests were on their way: they have "
            f"no answer, and this capture does not show that the client asked them again within "
            f"{case.limits.asked_again:g} s. nginx says GOAWAY after so many requests on a "
            "connection (keepalive_requests: 1,000).",
            "Let the client repeat what is behind GOAWAY's last stream, on a new connection, POSTs too (RFC 9113 "
            "section 6.8); a larger keepalive_requests makes it rarer.")


def _behind(case, stream, number):
    """Rows of exchanges: the last so many of the connection that have no answer, and were not soon asked elsewhere."""
    table = case.tables.exchanges
    rows = table[(table["stream"] == stream) & table["answered"].isna()].nlargest(number, "nth")
    others = table[(table["stream"] != stream)].set_index(["method", "target"])["requested"]
    for row in rows.itertuples():
        again = others[(others.index == (row.method, row.target)) & (others > row.requested).to_numpy()]
        if not (again <= row.requested + case.limits.asked_again).any():
            yield row.Index


def one_dead_connection(case: Case) -> Iterator[Finding]:
    """`one-dead-connection`: several requests of HTTP/2 on a connection that has fallen silent (see `path-silent`).

    What a client asks later waits in its kernel behind the data that are repeated, and is in no capture.
    """
    silent = case.silent()
    silent = silent[silent["protocol"].isin(["h2", "h2c"]) & (silent["repeating"] == "client")]
    if silent.empty:
        return
    table = case.tables.exchanges.join(silent[["server", "silent_since"]], on="stream", how="inner")
    lost = table[table["answered"].isna() & (table["requested"] >= table["silent_since"])]
    for server, group in lost.groupby("server"):
        if len(group) >= case.limits.for_all:
            yield Finding(
                "one-dead-connection", server, len(group), span(group["requested"]),
                streams(group.set_index("stream")),
                f"{len(group):,} requests went out over HTTP/2 on {_connections(group)} after it had fallen silent, "
                "and none was answered: one connection carries all, so all fail until the client gives it up. Later "
                "ones wait in its kernel, and are not in the capture.",
                "Let the client send PING while it waits or idles, and dial anew when no answer comes (Go: "
                "ReadIdleTimeout; gRPC: keepalive_time; OkHttp: pingInterval).")


def tls_answer_cut(case: Case) -> Iterator[Finding]:
    """`tls-answer-cut`: the server's FIN without its `close_notify`, where only the close ends the answer.

    Many programs leave out close_notify, which harms nobody as long as each answer tells its own end (RFC 9112 section
    9.8); then this rule is silent, and so it is where not all that the server sent was captured.
    """
    signs, facts = signals(case.tables.capture), case.facts
    if not facts["tls"].any():
        return
    said = signs.loc[(signs["signal"] == "close_notify") & (signs["host"] == "server"), "stream"]
    last = case.tables.exchanges.drop_duplicates("stream", keep="last").set_index("stream")
    open_ended = last.index[(last["framing"] == "until-close") & last["status"].notna()]
    cut = facts[facts["tls"] & facts["server_fin"].notna() & ~facts.index.isin(said) & facts.index.isin(open_ended)]
    cut = cut.loc[[stream for stream in cut.index if _is_whole(case, stream)]]
    for server, group in cut.groupby("server"):
        yield Finding(
            "tls-answer-cut", server, len(group), span(group["server_fin"]), streams(group),
            "The server closed without close_notify after an answer whose end only the close tells: the client can't "
            "know whether it is whole or was cut off, by a program that died or by somebody on the way.",
            "At the server: send Content-Length or chunked, and close_notify before the close (in Python: unwrap()); "
            "at the client: take such an answer for incomplete (RFC 8446 section 6.1).")


def _is_whole(case, stream):
    """Whether all that the server sent on this connection, from its SYN to its FIN, is in the file, byte for byte."""
    capture, flow = case.tables.capture, segment_flow(case.tables.capture, stream)
    sent = flow[(flow["end"] == "server") & (flow["flags"] & RST == 0)].sort_values("seq")
    gaps = sent["seq"].to_numpy()[1:] > sent["seq_end"].cummax().to_numpy()[:-1]
    cut = capture.headers["payload_captured"][capture.segments.index.get_indexer(sent.index)] < sent["length"]
    return not gaps.any() and not cut.any()


def _connections(group):
    number = group["stream"].nunique()
    return f"{number:,} connection{'s' * (number > 1)}"
