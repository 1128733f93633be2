"""Cases about how connections end: who closes, who is probed, and which state remains for how long."""

from collections.abc import Callable
from math import inf

from helpers.claims.data import BROWSERS, CLIENTS, HABITS, IDLE_PAGES, LONG, LONG_PAGES, Data, together
from helpers.claims.judging import Case

UNTIL_FIRST_REQUEST = 60  # s, nginx's client_header_timeout: how long it waits for a connection's first request
SOON = 1  # s: what is gone sooner is gone at once; a TIME_WAIT lasts 60 times as long
LATE = 2.5  # s: the kernel's timer for 60 s may be late by 2 (HZ=250), and `ss` was asked every 0.2
PAGES = {**LONG_PAGES, **IDLE_PAGES}
REPLAYS = {f"long-{images}-images-replay": "replay" for images in LONG}
CURLS = {"closers-patience": "curl"}


def _unused(data):
    """Recording, its client, stream and row of each connection that carried no request."""
    for name, client in PAGES.items():
        page = data.page(name)
        for stream, row in page[page["client_bytes"] == 0].iterrows():
            yield name, client, stream, row


def _used(data, name):
    """The connections of a recording that carried a request."""
    page = data.page(name)
    return page[page["client_bytes"] > 0]


def unused_closed_first(data: Data) -> list[Case]:
    """Each unused connection: whether the client closed it before any used connection was closed."""
    return [Case(f"{name}, connection {stream}",
                 row["closer"] == "client" and row["closed"] < _used(data, name)["closed"].min(),
                 {"client_closes_after": float(data.patience(name, HABITS[client], HABITS[client].unused)),
                  "server_closes_after": UNTIL_FIRST_REQUEST}, name)
            for name, client, stream, row in _unused(data)]


def unused_waits_at_client(data: Data) -> list[Case]:
    """Each unused connection that the client closed (browsers and replay): whether TIME_WAIT was at the client."""
    def case(name, stream, row):
        return Case(f"{name}, connection {stream}", row["time_wait"] == "client", recording=name)
    today = [case(name, stream, row) for name, _, stream, row in _unused(data) if row["closer"] == "client"]
    return today + [case(name, stream, row) for name in REPLAYS
                    for stream, row in data.page(name).query("client_bytes == 0 and closer == 'client'").iterrows()]


def unused_not_probed(data: Data) -> list[Case]:
    """Each unused connection: whether it was not probed. `lived`: from opening to closing, in seconds."""
    return [Case(f"{name}, connection {stream}", row["keepalive_probes"] == 0,
                 {"lived": round(float(row["closed"] - row["opened"]), 1), "probes_after": HABITS[client].probes_after},
                 name)
            for name, client, stream, row in _unused(data)]


def used_closed_by_server(data: Data) -> list[Case]:
    """Each browser's recording: whether the server closed every connection that had carried something."""
    return [Case(name, bool((_used(data, name)["closer"] == "server").all()),
                 {"server_closes_after": data.keepalive_timeout(name),
                  "client_closes_after": float(data.patience(name, HABITS[client], HABITS[client].idle))})
            for name, client in PAGES.items()]


def used_probed(data: Data) -> list[Case]:
    """Each recording: whether the client probed each connection that had carried something, and got an answer.

    `idle`: seconds from the last response to the client's FIN.
    """
    def case(name, client):
        used = _used(data, name)
        left = together(used["opened"], data.answered(name), data.fin(name, "client"))
        idle = float((left[2] - left[1]).fillna(inf).min())
        return Case(name, bool((used["keepalive_probes"] > 0).all()) and _probes_answered(data, name, used),
                    {"idle": round(idle, 1), "probes_after": HABITS[client].probes_after})
    return [case(name, client) for name, client in {**PAGES, **CURLS}.items()]


def _probes_answered(data, name, used):
    """Whether, on each connection, the server sent as many bare ACKs after its last response as it got probes."""
    segments, answered = data.load(name).segments, data.answered(name)
    late = segments["time"] > segments["stream"].map(answered)
    bare = segments[late & (segments["host"] == "server") & (segments["length"] == 0)].groupby("stream").size()
    return bool((bare.reindex(used.index, fill_value=0) >= used["keepalive_probes"]).all())


def _closed_by_server(data, names):
    """By recording: `used` connections that the server closed first, as columns 1 (last answer), 2, 3 (the FINs)."""
    for name in names:
        used = _used(data, name).query("closer == 'server'")
        if len(used):
            yield name, together(used["opened"], data.answered(name), data.fin(name, "server"),
                                 data.fin(name, "client"))


def kept_open(data: Data) -> list[Case]:
    """Each recording with probes: whether the server's FIN came as late as if a probe restarted keepalive_timeout."""
    clients = {**PAGES, **REPLAYS}
    def case(name, times):
        restarted = HABITS[clients[name]].probes_after + data.keepalive_timeout(name)
        return Case(name, bool((times[2] - times[1] >= restarted).any()))
    return [case(name, times) for name, times in _closed_by_server(data, clients)
            if HABITS[clients[name]].probes_after < data.keepalive_timeout(name)]


def timeout_closes(data: Data) -> list[Case]:
    """Each recording: whether nginx's FIN came keepalive_timeout after the last response, within a second."""
    def so(name, times):
        return bool((times[2] - times[1] - data.keepalive_timeout(name)).abs().le(SOON).all())
    return [Case(name, so(name, times)) for name, times in _closed_by_server(data, {**PAGES, **REPLAYS, **CURLS})]


def server_waits(data: Data) -> list[Case]:
    """Each recording whose server closed: whether it had the TIME_WAITs.

    `answered_after`: seconds until the client's FIN, inf where none came. `room`: whether the kernel could keep them
    all; in the run with 2,000 `tcp_max_tw_buckets` each FIN was answered at once.
    """
    def case(name, times):
        waits = data.page(name).loc[times.index, "time_wait"] == "server"
        answered = float((times[3] - times[2]).fillna(inf).max())
        return Case(name, bool(waits.all()), {"answered_after": round(answered, 1), "room": True,
                                              "tcp_fin_timeout": data.load(name).fin_timeout})
    full = next(bill for bill in data.details("load")["bills"] if bill["buckets"])
    return [*(case(name, times) for name, times in _closed_by_server(data, {**PAGES, **REPLAYS, **CURLS})),
            Case("load: room for 2,000", full["overflow_server"] == 0,
                 {"answered_after": 0.0, "room": False, "tcp_fin_timeout": 60.0}, "load")]


def _gone_after(data, name, closer, other):
    """Seconds from the FIN of `closer`, where it closed first, until the end `other` is closed, by stream."""
    states, page = data.load(name).states, data.page(name)
    closed = states[states["host"] == other].groupby("stream")["until"].max()
    fin = data.fin(name, closer).reindex(page.index[page["closer"] == closer])
    return (closed.reindex(fin.index) - fin).fillna(inf)


def gone_at_once(closer: str, other: str) -> Callable[[Data], list[Case]]:
    """Cases: recordings in which `closer` closed first: whether the end `other` was gone within a second.

    `idle`: whether the connections were idle, `watched`: whether the client watches idle ones.
    """
    def cases(data):
        names = {**PAGES, **REPLAYS, **CURLS, **{f"short-7-images-{client}": client for client in CLIENTS}}
        gone = {name: _gone_after(data, name, closer, other) for name in names}
        return [Case(name, bool((after < SOON).all()), {"idle": not name.startswith("short"),
                                                        "watched": HABITS[names[name]].watches})
                for name, after in gone.items() if len(after)]
    return cases


def lasts_2_msl(data: Data) -> list[Case]:
    """Each recording with TIME_WAITs, by `ss`: whether all lasted 60 s, and no longer than the timer may be late."""
    def case(name):
        stays = data.load(name).sockets.query("state == 'TIME_WAIT'")
        lasted = stays["last_seen"] - stays["first_seen"]
        return Case(name, bool(lasted.between(60 - 2 * 0.2 - 0.1, 60 + LATE).all()))
    names = [*(f"timers-{seconds}" for seconds in (5, 10, 60)),
             *(f"long-{images}-images-{client}" for images in LONG for client in BROWSERS)]
    return [case(name) for name in names]
