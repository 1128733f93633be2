"""Cases about how the end of a response is known, and which end closes first: every cell of `closers`.

A cell is a server, a client, what the request says of persistence, and how the response's body ends; it holds 100
connections. A claim about "always" is right in a cell where it is right in all of them.
"""

from collections.abc import Callable
from math import inf

from helpers.claims.data import LONG_PAGES, Data
from helpers.claims.judging import Case

# The version in the server's answer. It is the server's own, whatever the request says (RFC 9110 section 2.5).
ANSWERS = {"nginx": "1.1", "http.server": "1.1", "http.server/1.0": "1.0", "raw": "1.1"}
AGREES = ("nginx", "raw")  # these say "Connection: keep-alive" to an HTTP/1.0 client that asked for it


def server_closes(server: str, asked: str) -> bool:
    """Whether `server` means to close after its answer to a request that says `asked` (RFC 9112 section 9.3)."""
    if server == "raw":
        return False
    return ANSWERS[server] == "1.0" or asked in ("1.0", "1.1 close")


def client_waits(client: str, server: str, asked: str) -> bool:
    """Whether `client` waits for the server to close: ab does, unless headers agreed on keep-alive."""
    return client == "ab" and not (asked == "1.0 keep-alive" and server in AGREES)


def cells(data: Data, framing: str | None = None, answered: str | None = None) -> list[tuple[str, dict, object]]:
    """Name, facts and connections of each cell, of those with this `framing` and HTTP version of the answer."""
    table = data.table("closers")
    groups = table.groupby(["server", "client", "version", "framing"])
    return [(f"{server}, {client}, {asked}, {how}",
             {"server_closes": server_closes(server, asked), "client_waits": client_waits(client, server, asked)}, rows)
            for (server, client, asked, how), rows in groups
            if framing in (None, how) and answered in (None, ANSWERS[server])]


def closes_first(closer: str, answered: str, framing: str) -> Callable[[Data], list[Case]]:
    """Each cell with this version of the answer and `framing`: whether `closer` was first in all its connections."""
    return lambda data: [Case(name, bool((rows["closer"] == closer).all()), facts)
                         for name, facts, rows in cells(data, framing, answered)]


def closer_waits(data: Data) -> list[Case]:
    """Each cell, an unanswered FIN, a full kernel, three ways of resetting: was TIME_WAIT where it was closed first?

    `reset`: whether a RST ended it. `answered_after`: seconds until the other end's FIN, inf where none came. `room`:
    whether the kernel could keep them all (`tcp_max_tw_buckets`).
    """
    named = {"client": (True, False), "server": (False, True), "both": (True, True)}
    def agree(rows):
        expected = [named[closer] for closer in rows["closer"]]
        return all(expected == list(zip(rows[f"{witness}_client"], rows[f"{witness}_server"]))
                   for witness in ("time_wait", "ss"))
    quiet, name = data.page("idle-close-quiet"), "idle-close-quiet"
    late = (data.fin(name, "client").reindex(quiet.index) - data.fin(name, "server")).fillna(inf).max()
    lingered = data.table("ports").query("setting == 'SO_LINGER 0'")["time_wait_client"]
    answered = {"reset": False, "answered_after": 0.0, "room": True}
    made = data.table("buckets").query("setting == 'tcp_max_tw_buckets 50'")
    return [*(Case(name, agree(rows), answered) for name, _, rows in cells(data)),
            Case(name, bool((quiet["time_wait"] == "server").all()), answered | {"answered_after": float(late)}),
            Case("ports, SO_LINGER 0", bool(lingered.max() > 0), answered | {"reset": True}),
            Case("buckets: room for 50", bool(made["time_wait_client"].max() >= made["succeeded"].sum()),
                 answered | {"room": False}, "buckets"),
            *_unread(data)]


def _unread(data):
    """Each server of `unread-close`, which closed before it had read all: whether it had the TIME_WAITs."""
    for server, rows in data.table("unread-close").groupby("server"):
        yield Case(f"unread-close: {server}", bool(rows["time_wait_server"].all()),
                   {"reset": bool((rows["ending"] == "reset").all()), "answered_after": 0.0, "room": True})


def length_tells(data: Data) -> list[Case]:
    """Each browser's recording: whether, after a body with Content-Length, the client asked again before a FIN."""
    def so(name):
        sent = data.load(name).exchanges
        counted = sent[(sent["framing"] == "content-length") & (sent["nth"].shift(-1) == sent["nth"] + 1)]
        fin = data.fin(name, "server").reindex(counted["stream"])
        return len(counted) > 0 and bool((counted["finished"].to_numpy() < fin.to_numpy()).all())
    return [Case(name, so(name)) for name in LONG_PAGES]


def close_tells(data: Data) -> list[Case]:
    """A recording and each cell with neither: whether responses were complete with the server's FIN, and not before.

    In a cell: whether no client closed first, since a client that knows the end does.
    """
    name = "closers-end-of-file"
    complete = data.load(name).exchanges.set_index("stream")["finished"]
    return [Case(name, bool((complete == data.fin(name, "server")).all())),
            *(Case(cell, not (rows["closer"] == "client").any()) for cell, _, rows in cells(data, "until-close"))]


def chunks_tell(data: Data) -> list[Case]:
    """Each cell with chunks: whether a client closed before the server had, and so knew the end from the chunks."""
    return [Case(name, bool((rows["closer"] == "client").any())) for name, _, rows in cells(data, "chunked")]
