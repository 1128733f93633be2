"""The model against the recordings: what it foretells of each page, and what was measured."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd

from helpers.experiments import Experiment, load, names, table
from helpers.model.playing import Played, play
from helpers.model.rules import (
    CHROMIUM,
    FIREFOX,
    HTTP2,
    HTTP2_FIREFOX,
    HTTP3,
    HTTPS_CHROMIUM,
    HTTPS_FIREFOX,
    RULES_2018,
    Client,
    Page,
    Server,
)
from helpers.quic import quic_connections, quic_exchanges
from helpers.states import count

PLAYED_BY = {
    ("replay", "http"): RULES_2018, ("firefox-esr", "http"): FIREFOX, ("chromium", "http"): CHROMIUM,
    ("firefox-esr", "https"): HTTPS_FIREFOX, ("chromium", "https"): HTTPS_CHROMIUM,
    ("firefox-esr", "h2"): HTTP2_FIREFOX, ("chromium", "h2"): HTTP2,
    ("firefox-esr", "h3"): HTTP3, ("chromium", "h3"): HTTP3}
PAGES = ("long-", "short-", "https-", "h2-", "h3-", "idle-close-")
ASPECTS = ("connections", "requests", "closed first", "TIME_WAIT", "over time")
EVERY = 1.0     # s between two looks at the curves of TIME_WAIT


def held_against_recordings() -> pd.DataFrame:
    """One row per recording of a page, index `recording`: what the model foretells, and whether that was measured.

    `client`; then for each aspect the pair (foretold, measured): `connections`; `requests` (on each connection, the
    most first); `closed first` (how many connections by which end); `TIME_WAIT` (at client and server). `over time`:
    the share of seconds at which the TIME_WAITs at both ends are as many as foretold. A column `<aspect> agrees` says
    whether the two are the same, or the share is above 95 %.
    """
    return pd.DataFrame([_row(load(name)) for name in recordings()]).set_index("recording")


def recordings() -> list[str]:
    """The recordings of a page by a client that the model knows."""
    return [name for name in names() if name.startswith(PAGES) and "images" in load(name).about["page"]
            and _client(load(name).about) is not None]


def foretold_counts() -> pd.DataFrame:
    """How many connections the model foretells for each page of `browser-counts`, and in how many loads that was so.

    Index `browser`, `start`, `images`; columns `foretold`, `loads`, `agree`. What a cold Chromium throws away itself is
    not counted.
    """
    loads = table("browser-counts")
    sizes = [image["bytes"] for image in load("long-7-images-chromium").about["page"]["images"]]
    rows = []
    for (browser, start, images), group in loads.groupby(["browser", "start", "images"]):
        page = Page(tuple(np.resize(sizes, images).tolist()))
        client = _windowed({"chromium": CHROMIUM, "firefox": FIREFOX}[browser], start == "incognito")
        made = len(play(page, client).made)
        seen = group["connections"] - group["flushed"].fillna(0)
        rows.append((browser, start, images, made, len(group), int((seen == made).sum())))
    return pd.DataFrame(rows, columns=["browser", "start", "images", "foretold", "loads", "agree"]).set_index(
        ["browser", "start", "images"])


def _client(about) -> Client | None:
    server, client = about.get("server", {}), about.get("client", {})
    program = client.get("program", "").rpartition(".")[2]
    incognito = "--incognito" in client.get("flags", ())
    client = _windowed(PLAYED_BY.get((program, server.get("protocol", "http"))), incognito)
    return client if len(server.get("settings", {})) == 1 else None     # with more settings it is another experiment


def _windowed(client, incognito):
    """An incognito window of Chromium opens one connection in advance, an ordinary one two."""
    return replace(client, in_advance=1) if client and incognito else client


def foretold(experiment: Experiment) -> Played:
    """The play of a recorded page: its images and icon, nginx's timeout, and the later requests of its time line."""
    about, first = experiment.about, experiment.timeline["action"].str.match("visit").idxmax()
    page = Page(tuple(image["bytes"] for image in about["page"]["images"]), about["page"]["html_bytes"],
                about["page"]["favicon_bytes"])
    began = experiment.timeline.loc[first, "time"]
    later = experiment.timeline.loc[first + 1:]
    wakes = later.loc[later["action"].str.match("visit|fetch"), "time"] - began
    settings = about["server"]["settings"]
    timeout = float(settings.get("keepalive_timeout", settings.get("idle")))
    return play(page, _client(about), Server(timeout, fin_timeout=experiment.fin_timeout), wakes=tuple(wakes))


def _row(experiment):
    told, seen = _facts(foretold(experiment)), _facts_measured(experiment)
    row = {"recording": experiment.name, "client": _client(experiment.about).name}
    for aspect in ASPECTS[:-1]:
        row |= {aspect: (told[aspect], seen[aspect]), f"{aspect} agrees": told[aspect] == seen[aspect]}
    share = _share_over_time(told["states"], seen["states"])
    return row | {"over time": share, "over time agrees": share > 0.95}


def _facts(played):
    return _facts_of(played.connections, played.exchanges, played.states, len(played.made))


def _facts_measured(experiment):
    quic = quic_connections(experiment.capture)
    if len(quic):
        return _facts_of(experiment.connections, quic_exchanges(experiment.capture), experiment.states, len(quic))
    server = "" if experiment.connections.empty else experiment.connections["server"].iloc[0]
    page = experiment.connections[experiment.connections["server"] == server]
    asked = experiment.exchanges[experiment.exchanges["stream"].isin(page.index)]
    stays = experiment.states[experiment.states["stream"].isin(page.index)]
    return _facts_of(page, asked, stays, len(page))


def _facts_of(page, asked, stays, made):
    closers = Counter(page.loc[page["ending"] != "open", "closer"].fillna("cannot tell"))
    waits = page["time_wait"].value_counts()
    ends = tuple(int(waits.get(end, 0) + waits.get("both", 0)) for end in ("client", "server"))
    carried = asked.groupby("stream").size().sort_values(ascending=False).tolist()
    return {"connections": made, "requests": carried, "closed first": dict(sorted(closers.items())),
            "TIME_WAIT": ends, "states": stays}


def _share_over_time(told, seen):
    """At which share of whole seconds the TIME_WAITs at both ends are as many as foretold."""
    until = max(_last(told), _last(seen), 60.0)
    moments = np.arange(0.5, until + 2, EVERY)
    same = [_waiting(told, host, moments) == _waiting(seen, host, moments) for host in ("client", "server")]
    return float(np.mean(np.all(same, axis=0)))


def _waiting(stays, host, moments):
    """How many ends of `host` are in TIME_WAIT at each of the moments."""
    steps = count(stays, "TIME_WAIT", host=host)
    place = np.searchsorted(steps.index.to_numpy(float), moments, "right")
    return np.r_[0, steps.to_numpy()][place]


def _last(stays):
    """When the last TIME_WAIT ends."""
    ends = stays.loc[stays["state"] == "TIME_WAIT", "until"].astype(float)
    return float(ends[np.isfinite(ends)].max()) if np.isfinite(ends).any() else 0.0
