"""The article's claims on trial: `judge()` gives one verdict each, computed from the recordings.

A claim is held against cases, each of which it gets right or wrong. Right in all: it *stands*. In some: it *stands only
if* (the condition is named). In none, but right by the 2018 rules: it *stood then*. In none at all: it *does not stand*.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from helpers import experiments
from helpers.states import count

VERDICTS = ("stands", "stood then", "stands only if", "does not stand")
LONG = (0, 1, 2, 4, 7)
BROWSERS = ("firefox", "chromium")
CLIENTS = ("replay", *BROWSERS)


class Data:
    """What the claims are held against: recordings, tables and their details."""

    load = staticmethod(experiments.load)
    table = staticmethod(experiments.table)

    def details(self, name):
        """What was recorded beside the table `name`, as a dict."""
        return json.loads((experiments.data_folder() / f"{name}.json").read_text(encoding="utf-8"))

    def page(self, name):
        """The connections to port 80 of a recording: the page, without later visits to another port."""
        connections = self.load(name).connections
        return connections[connections["server"].str.endswith(":80")]


@dataclass(frozen=True)
class Claim:
    """A claim of the article, in our words, with the cases that decide it and the condition under which it stands."""

    number: int
    says: str
    cases: Callable[[Data], dict]
    condition: str = ""
    then: Callable[[Data], bool] | None = None
    notebook: str = ""


def judge(data=None):
    """One row per claim, index `number`: `says`, `verdict`, `condition`, `right` and `of` (cases), `cases`, `notebook`."""
    data = data or Data()
    rows = [_row(claim, {name: bool(right) for name, right in claim.cases(data).items()}, data) for claim in CLAIMS]
    return pd.DataFrame(rows).set_index("number")


def _row(claim, cases, data):
    verdict = _verdict(cases.values(), claim.then is not None and bool(claim.then(data)))
    condition = claim.condition if verdict == "stands only if" else ""
    return {"number": claim.number, "says": claim.says, "verdict": verdict, "condition": condition,
            "right": sum(cases.values()), "of": len(cases), "cases": cases, "notebook": claim.notebook}


def _verdict(cases, then):
    if all(cases):
        return "stands"
    if any(cases):
        return "stands only if"
    return "stood then" if then else "does not stand"


# The cases

def _mostly(data, images, number):
    """Whether each browser and start opens `number` connections for each of `images` in at least half of its loads."""
    counts = data.table("browser-counts")
    counts = counts[counts["images"].isin(images)]
    hits = (counts["connections"] == number).groupby([counts["browser"], counts["start"], counts["images"]]).mean() >= 0.5
    return {f"{browser}, {start}": right for (browser, start), right in hits.groupby(level=[0, 1]).all().items()}


def _as_reported(data, images, client):
    """Whether a recording has as many connections and TIME_WAITs at each end as the article reports."""
    reported = data.table("article-2018").set_index("experiment").loc[f"long-{images}-images"]
    page = data.page(f"long-{images}-images-{client}")
    found = (len(page), (page["time_wait"] == "client").sum(), (page["time_wait"] == "server").sum())
    return found == tuple(reported[["connections", "time_wait_client", "time_wait_server"]])


def _reported(images):
    return {"cases": lambda data: {client: _as_reported(data, images, client) for client in BROWSERS},
            "then": lambda data: _as_reported(data, images, "replay")}


def _shared(data, client):
    """Whether page and first image shared a connection, and the second image had another."""
    stream = data.load(f"long-2-images-{client}").exchanges.drop_duplicates("target").set_index("target")["stream"]
    return stream["/"] == stream["/image-1.png"] != stream["/image-2.png"]


def _unused(data):
    """The connections that carried no request, in the browsers' long recordings, by recording."""
    pages = {f"long-{images}-images-{client}": data.page(f"long-{images}-images-{client}")
             for client in BROWSERS for images in LONG}
    return {name: page[page["client_bytes"] == 0] for name, page in pages.items() if (page["client_bytes"] == 0).any()}


def _used_closed_by_server(data):
    names = [f"long-{images}-images-{client}" for client in BROWSERS for images in LONG] + ["idle-close-patient"]
    pages = {name: data.page(name) for name in names}
    return {name: (page.loc[page["client_bytes"] > 0, "closer"] == "server").all() for name, page in pages.items()}


def _kept_open(data):
    """Whether nginx's FIN came later than its keepalive_timeout where the client had sent probes."""
    result = {}
    for client in CLIENTS:
        experiment = data.load(f"long-2-images-{client}")
        segments, last = experiment.segments, experiment.exchanges.groupby("stream")["finished"].max()
        probed = experiment.connections.index[experiment.connections["keepalive_probes"] > 0]
        fins = segments[(segments["sport"] == 80) & segments["flags"].str.contains("F") & segments["stream"].isin(probed)]
        first = fins.groupby("stream")["time"].first()
        result[client] = (first - last.reindex(first.index)).max() > 65 + 2
    return result


def _server_waits(data):
    names = ("idle-close-quiet", "idle-close-visit", "idle-close-firefox")
    pages = {name: data.page(name) for name in names}
    return {name: (page.loc[page["closer"] == "server", "time_wait"] == "server").all() for name, page in pages.items()}


def _long_has_more(data):
    """Whether the server held more TIME_WAITs with long connections than with short ones."""
    peaks = {}
    for client in CLIENTS:
        both = [data.load(f"{kind}-7-images-{client}").states for kind in ("long", "short")]
        long, short = (count(stays[stays["local"].str.endswith(":80")], "TIME_WAIT", "server").max() for stays in both)
        peaks[client] = long > short
    bills = pd.DataFrame(data.details("load")["bills"])
    left = bills[bills["buckets"].isna()].groupby("connections")["new_time_wait_server"].median()
    return peaks | {"20,000 requests": left["long"] > left["short"]}


def _short(data):
    pages = {client: data.page(f"short-7-images-{client}") for client in CLIENTS}
    single = {client: (data.load(f"short-7-images-{client}").exchanges["nth"] == 1).all() for client in CLIENTS}
    return {client: single[client] and (page["closer"] == "server").all() for client, page in pages.items()}


def _at_once(data):
    """Whether all six connections were opened before the page had arrived."""
    result = {}
    for client in CLIENTS:
        page = data.load(f"long-7-images-{client}").exchanges.query("target == '/'")["finished"].iloc[0]
        result[client] = (data.page(f"long-7-images-{client}")["opened"] < page).sum() >= 6
    return result


def _odd_and_even(data):
    ports = pd.concat(data.page(f"long-{images}-images-{client}")["client"] for client in BROWSERS for images in LONG)
    return {"the browsers' ports": (ports.str.rsplit(":", n=1).str[1].astype(int) % 2).nunique() == 2}


def _refused(data, *settings):
    failed = data.table("ports").groupby("setting")["failed"].sum()
    return {setting: failed[setting] for setting in settings}


def _blocked_for_a_minute(data):
    """Whether a client that closed first got no further connection between the 10th and the 55th second."""
    ports = data.table("ports")
    quiet = ports[ports["time"].between(10, 55)].groupby("setting")["succeeded"].sum() == 0
    early = ports[ports["time"].between(2, 10)].groupby("setting")["succeeded"].sum() == 0
    return {name: quiet[name] and early[name] for name in ("plain", "another port", "another address", "tcp_tw_reuse 1")}


def _memory(data, state):
    """What the server took with and without many sockets in `state`."""
    return next(memory for memory in data.details("load")["memory"] if memory["state"] == state)


def _took(data, state, *kinds):
    """What sockets in `state` took from the server's process: whether more of each of `kinds`."""
    memory = _memory(data, state)
    return {kind: memory["with"][kind] > memory["without"][kind] for kind in kinds}


def _balanced(data):
    few = data.table("proxy").query("ports == 100")
    return {name: failed == 0 for name, failed in few.groupby("upstream", sort=False)["failed"].max().items()}


def _closer_waits(data):
    closers = data.table("closers")
    named = {"client": (True, False), "server": (False, True), "both": (True, True)}
    seen = list(zip(closers["time_wait_client"], closers["time_wait_server"]))
    return {"5,400 connections": [named[closer] for closer in closers["closer"]] == seen,
            "no FIN in answer": (data.page("idle-close-quiet")["time_wait"] == "server").all(),
            "closed with RST": data.table("ports").query("setting == 'SO_LINGER 0'")["time_wait_client"].max() > 0}


def _rule(version, framing, closer):
    """Cases of a rule: who closed first, by server, over servers that close, with curl."""
    def cases(data):
        closers = data.table("closers")
        spoken = closers[closers["version"].str.startswith(version) & (closers["framing"] == framing)
                         & (closers["client"] == "curl") & (closers["server"] != "raw")]
        right = (spoken["closer"] == closer).groupby([spoken["server"], spoken["version"]]).all()
        return {", ".join(cell): kept for cell, kept in right.items()}
    return cases


def _lasts(data):
    """Whether the server's TIME_WAITs, by `ss`, lasted 2 MSL as RFC 9293 has it, that is 240 s."""
    lasted = []
    for seconds in (5, 10, 60):
        stays = data.load(f"timers-{seconds}").sockets.query("host == 'server' and state == 'TIME_WAIT'")
        lasted += list(stays["last_seen"] - stays["first_seen"])
    return {"240 s, as in RFC 9293": min(lasted) > 200}


CLAIMS = (
    Claim(1, "With few images the browser opens three connections", lambda data: _mostly(data, (0, 1, 2), 3),
          "the browser has just started", lambda data: _as_reported(data, 2, "replay"), "04"),
    Claim(2, "A connection is opened by a three-way handshake", lambda data: {
        client: data.page(f"long-7-images-{client}")["established"].notna().all() for client in CLIENTS}, notebook="02"),
    Claim(3, "Page and first image share a connection, the second image has another",
          lambda data: {client: _shared(data, client) for client in BROWSERS}, "a second connection stands ready",
          lambda data: _shared(data, "replay"), "03"),
    Claim(4, "An unused connection is closed by the client, which then waits", lambda data: {
        name: (rows["time_wait"] == "client").all() for name, rows in _unused(data).items()},
        "the client's patience is the shorter", notebook="04"),
    Claim(5, "An unused connection is not probed", lambda data: {
        name: (rows["keepalive_probes"] == 0).all() for name, rows in _unused(data).items()},
        "it is closed before the first probe is due", notebook="06"),
    Claim(6, "Used connections are closed by the server", _used_closed_by_server, "its patience is the shorter",
          notebook="06"),
    Claim(7, "The client's Keep-Alive packets keep the HTTP connection open", _kept_open, notebook="06"),
    Claim(8, "When keepalive_timeout ends, the server has TIME_WAIT", _server_waits,
          "the client answers the FIN in time", notebook="06"),
    Claim(9, "Long connections pile up TIME_WAIT: avoid them", _long_has_more, notebook="05"),
    Claim(10, "More servers mean more ports and so fewer TIME_WAITs", lambda data: {
        "server's TIME_WAIT takes ports": _refused(data, "server closes first")["server closes first"] > 0}, notebook="09"),
    Claim(11, "1 image: three connections, TIME_WAIT 2 at the client, 1 at the server", **_reported(1), notebook="04"),
    Claim(12, "A page so small is served over one connection", lambda data: {
        client: data.load(f"long-7-images-{client}").exchanges["stream"].nunique() == 1 for client in CLIENTS},
        notebook="04"),
    Claim(13, "No image: three connections, TIME_WAIT 2 at the client, 1 at the server", **_reported(0), notebook="04"),
    Claim(14, "4 images: a fourth connection when three are busy", lambda data: _mostly(data, (4,), 4),
          "so many images are wanted at once", lambda data: _as_reported(data, 4, "replay"), "04"),
    Claim(15, "7 images: six connections from the beginning", _at_once, notebook="04"),
    Claim(16, "Use a load balancer", _balanced, "it keeps its connections to the upstream", notebook="10"),
    Claim(17, "Short connections: one for each request, and the server closes it", _short,
          "the server wins the race", notebook="05"),
    Claim(18, "Any port of the range is as likely for the client as another", _odd_and_even, notebook="09"),
    Claim(19, "The client's TIME_WAIT blocks its port until it is over", _blocked_for_a_minute,
          "it goes to the same address and port, without tcp_tw_reuse", notebook="09"),
    Claim(20, "If the server closes, the client can use its port again", lambda data: {
        "100 ports, 68 s": _refused(data, "server closes first")["server closes first"] == 0}, notebook="09"),
    Claim(21, "Accepted connections take no port of the server", lambda data: {
        "5,000 at once on one port": _memory(data, "ESTABLISHED")["with"]["established"] == 5000}, notebook="09"),
    Claim(22, "Each connection takes a thread or child process of the server (nginx)",
          lambda data: _took(data, "ESTABLISHED", "threads"), notebook="09"),
    Claim(23, "TIME_WAIT at the server costs threads or processes (nginx)",
          lambda data: _took(data, "TIME_WAIT", "threads", "descriptors"), notebook="09"),
    Claim(24, "TIME_WAIT uses up the server, until it returns errors", lambda data: {
        "tcp_max_tw_buckets 2000": max(bill["failed"] for bill in data.details("load")["bills"] if bill["buckets"]) > 0},
        notebook="09"),
    Claim(25, "The harmful TIME_WAIT is that of a server acting as a client", lambda data: {
        "HTTP/1.1 without a pool, 100 ports": data.table("proxy").query(
            "upstream == 'http-1.1' and ports == 100")["failed"].min() > 0,
        "a server's own refuses nobody": _refused(data, "server closes first")["server closes first"] == 0}, notebook="10"),
    Claim(26, "The end that closes first has TIME_WAIT", _closer_waits, "its FIN is answered by a FIN", notebook="07"),
    Claim(27, "HTTP/1.0 with Content-Length: the client closes first", _rule("1.0", "content-length", "client"),
          "the connection was to persist", notebook="07"),
    Claim(28, "HTTP/1.0 without Content-Length: the server closes first", _rule("1.0", "until-close", "server"), notebook="07"),
    Claim(29, "HTTP/1.1 with Content-Length: the client closes first", _rule("1.1", "content-length", "client"),
          "it was to persist, and the client is done first", notebook="07"),
    Claim(30, "HTTP/1.1 chunked: the client closes first", _rule("1.1", "chunked", "client"),
          "it was to persist, and the client is done first", notebook="07"),
    Claim(31, "HTTP/1.1 with neither: the server closes first", _rule("1.1", "until-close", "server"), notebook="07"),
    Claim(32, "TIME_WAIT lasts 2 MSL", _lasts, notebook="08"))
