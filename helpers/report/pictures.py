"""The figures of the report's page."""

import base64
from collections.abc import Iterator
from types import SimpleNamespace

import pandas as pd

from helpers import figures
from helpers.connections import addresses
from helpers.report.facts import KINDS, Incident, endpoints, peaks, remarkable, visible
from helpers.report.terminal import many
from helpers.states import TIME_WAIT

MOST_DRAWN, MOST_BANDS = 15, 8


def pictures(incident: Incident) -> Iterator[dict]:
    """The figures of an incident, a dict each: `caption`, and, where there is a picture, `alt` and `png` (base64)."""
    kinds = remarkable(incident)
    streams = kinds.index[:MOST_DRAWN]
    chosen = "All connections" if len(streams) == len(kinds) else \
        f"{len(streams)} of {len(kinds):,} connections, taken from each kind in turn"
    counted = kinds[streams].value_counts(sort=False)
    tell = "; ".join(f"{number} {KINDS[kind]}" for kind, number in counted.items())
    yield _waterfall(incident, streams, f"{chosen}: {tell}.")
    yield _curve(incident)
    yield _bands(incident, streams[:MOST_BANDS])
    yield _ladder(incident, kinds)


def _waterfall(incident, streams, chosen):
    part = SimpleNamespace(capture=incident.capture, connections=incident.connections.loc[streams], **{
        name: table[table["stream"].isin(streams)] for name, table in (
            ("segments", incident.segments), ("states", incident.states), ("exchanges", incident.exchanges))})
    fig, ax = figures.figure(1.5 + 0.5 * len(streams))
    figures.waterfall(part, ax=ax)
    return _figure(fig, "One row a connection: requests, ends, and what is left", f"Waterfall. {chosen}",
                   f"{chosen} A row runs from the first segment over requests (bars) and keep-alive probes "
                   "(strokes) to FIN (dots) or RST (crosses), then shows the state left at each end.")


def _curve(incident):
    most = peaks(incident)
    if not len(most):
        return {"caption": "No curve of TIME_WAIT: no end was seen to reach it."}
    told = "; ".join(f"{row.peak:,} at {row.address} ({row.host})" for row in most.head(4).itertuples())
    states, sockets, asked = _kernel(incident)
    fig, ax = figures.figure(4)
    figures.time_wait_curve(states, sockets, ax=ax, asked=asked)
    marks = (f" Marks: what the kernel said at the {' and at the '.join(asked)}; the line there is of the machine that "
             "was asked.") if asked else ""
    return _figure(fig, "Sockets in TIME_WAIT, from the packets" + " and from the kernel" * bool(asked),
                   f"TIME_WAIT over time, at clients and at servers. Peaks: {told}.{marks}",
                   f"Sockets in TIME_WAIT at all clients and at all servers. Peaks by address: {told}. "
                   f"Each is taken to last {TIME_WAIT:.0f} s, also beyond the end of the capture "
                   f"({incident.capture.end:,.1f} s).{marks}")


def _kernel(incident):
    """The states to draw, what the kernel said (None: not asked), and when, by host.

    The kernel of one client knows its own sockets: where it was asked, the states are those of its ends alone.
    """
    states, rows, asked = incident.states, [], {}
    for one in incident.witnesses:
        for host, places in one.places.groupby("host"):
            if host not in asked:
                asked[host] = one.times
                rows.append(places)
                own = addresses(states["local"]).isin(one.addresses)
                states = states[own | (states["host"] != host).fillna(True)]
    if not rows:
        return states, None, None
    said = pd.concat(rows).rename(columns={"kernel": "state"})
    return states, said.assign(first_seen=said["time"], last_seen=said["time"]), asked


def _bands(incident, streams):
    stays = incident.states[incident.states["stream"].isin(streams)]
    if not len(stays):
        return {"caption": "No state bands: the capture doesn't show the state of any end of these connections."}
    number = many(stays["stream"].nunique(), "connection")
    fig, ax = figures.figure(1.4 + 0.36 * len(stays.drop_duplicates(["stream", "local"])))
    figures.state_bands(stays, ax=ax)
    seen = ", ".join(sorted(stays["state"].unique()))
    return _figure(fig, "The state of both ends", f"State bands of {number}, with the states {seen}.",
                   f"What netstat would have said at both ends of {number}, from those chosen above. "
                   "A band is a stay in one state.")


def _ladder(incident, kinds):
    odd = kinds[kinds.isin(["forgotten", "reset", "both"])].index[:1]
    stream = odd[0] if len(odd) else kinds.index.min()
    ends, kind = endpoints(incident).loc[stream], KINDS[kinds[stream]]
    rows = figures.ladder_rows(incident.capture, stream, exchanges=incident.exchanges)
    fig, ax = figures.figure(0.36 * (rows["y"].max() + 4.4))
    figures.ladder(incident.capture, stream, ax=ax, exchanges=incident.exchanges, states=incident.states)
    return _figure(fig, f"Connection {stream}: {kind}",
                   f"Ladder of connection {stream}, {kind}: {len(rows)} rows.",
                   f"The segments of connection {stream} ({ends['client']} to {ends['server']}), {kind}, and "
                   "the state of each end. Chosen: the first that was forgotten, or reset, or closed by both "
                   "ends at once; else the first of all.")


def _figure(fig, title, alt, caption):
    """`fig` as a picture with its alternative text and caption; closes it."""
    fig.axes[0].set_title(title)
    return {"alt": visible(alt, 1000), "caption": visible(caption, 1000),
            "png": base64.b64encode(figures.png_of(fig)).decode()}
