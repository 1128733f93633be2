"""What became of the connections of a capture: `python -m helpers.report CAPTURE [--out report.html]`.

The tables serve a notebook too: `incident = Incident(merge_captures(paths))`, then `facts(incident)`,
`by_server`, `left_behind`, `peaks`, `reuse`, `remarkable`.
"""

import argparse
import base64
import html
import io
import os
import sys
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from helpers.captures import CaptureError, merge_captures
from helpers.connections import FIN_TIMEOUT, HOSTS, connections, end_events, forgotten_at
from helpers.exchanges import exchanges
from helpers.states import TIME_WAIT, count, states

CANNOT_TELL = "cannot tell"
TALLIES = {"ending": ("", ("fin", "reset", "open")), "closer": ("first_", (*HOSTS, "both", "cannot_tell")),
           "time_wait": ("time_wait_", (*HOSTS, "both", "none", "cannot_tell"))}
HALF_CLOSED = ("CLOSE_WAIT", "FIN_WAIT_2")
LONGEST_TABLE, MOST_SERVERS, MOST_DRAWN, MOST_BANDS, LONGEST_TEXT = 200, 20, 15, 8, 120
KINDS = {"forgotten": "left in FIN_WAIT_2 until it was forgotten", "reset": "ended by a reset",
         "both": "closed by both ends at once", "waiting": "half closed when the capture ended",
         "no data": "without data", "probed": "kept alive by probes", "closed": "closed by FINs",
         "open": "no end seen"}
ASSUMED = (f"Assumed, as in Linux: TIME_WAIT lasts {TIME_WAIT:.0f} s, and an end in FIN_WAIT_2 is forgotten "
           f"after {FIN_TIMEOUT:.0f} s.\n“Cannot tell”: the capture doesn't show it; it began, or ended, "
           "in the middle of the connection.")
NO_TCP = "No TCP segments in this capture: nothing to say about connections."


class Incident:
    """The tables of a capture, each computed once when first asked for."""

    def __init__(self, capture):
        self.capture, self.segments = capture, capture.segments

    @cached_property
    def connections(self):
        return connections(self.capture)

    @cached_property
    def exchanges(self):
        return exchanges(self.capture)

    @cached_property
    def states(self):
        return states(self.capture)


# Tables

def facts(incident):
    """What was read, as texts: file, begin, duration, frames, segments, what was skipped, where cut, frames dropped."""
    capture = incident.capture
    skipped = pd.Series(capture.skipped, dtype="int64").sort_values(ascending=False)
    skipped = ", ".join(f"{number:,} {reason}" for reason, number in skipped.items())
    return pd.Series({
        "file": visible(capture.path, 1000),
        "begins": capture.start.strftime("%Y-%m-%d %H:%M:%S.%f UTC") if capture.frames else "no frames",
        "lasts": f"{capture.end:,.3f} s ({timedelta(seconds=round(capture.end))})",
        "frames": f"{capture.frames:,}", "TCP segments": f"{len(capture.segments):,}",
        "skipped": visible(skipped, 1000) if skipped else "nothing",
        "cut": f"{visible(capture.cut, 1000)}; what stands before was read" if capture.cut else "no",
        "dropped": _dropped(capture)})


def _dropped(capture):
    """What the file says of frames that the capture missed."""
    if capture.dropped is None:
        return "the file does not say"
    return f"{capture.dropped:,} frames: what is missing may have been among them" if capture.dropped else "none"


def by_server(incident):
    """How many connections each server (`address:port`) had, and what became of them; most connections first.

    Columns: `connections`; `fin`, `reset`, `open` (how they ended); `first_client`, `first_server`,
    `first_both`, `first_cannot_tell` (who closed first); `time_wait_client`, ... `_none`, `_cannot_tell`;
    `keepalive_probes`; `requests`; `asked` (connections with a request), `no_data`, `unread` (those with data
    that hold no request that can be read). Those without a captured SYN are in the row `cannot tell`.
    """
    table = incident.connections
    asked = incident.exchanges.groupby("stream").size().reindex(table.index, fill_value=0)
    data = end_events(incident.capture)["bytes"].groupby("stream").sum() > 0
    counted = pd.DataFrame({"connections": 1}, table.index)
    for column, (prefix, values) in TALLIES.items():
        for value in values:
            counted[prefix + value] = table[column].fillna("cannot_tell") == value
    counted = counted.assign(keepalive_probes=table["keepalive_probes"], requests=asked, asked=asked > 0,
                             no_data=~data & table["server"].notna(), unread=data & (asked == 0))
    counted = counted.astype("int64")
    servers = counted.groupby(table["server"].fillna(CANNOT_TELL)).sum()
    return servers.sort_values("connections", ascending=False, kind="stable")


def left_behind(incident):
    """The ends in CLOSE_WAIT or FIN_WAIT_2 when the capture ended, by `state`, `host` and `address`.

    Columns: `sockets`, `longest` (seconds that the oldest has been there).
    """
    end, stays = incident.capture.end, incident.states
    over = (stays["until"] <= end).fillna(False)
    now = stays[stays["state"].isin(HALF_CLOSED) & (stays["since"] <= end) & ~over]
    now = now.assign(address=_address(now["local"]), host=now["host"].fillna(CANNOT_TELL),
                     longest=end - now["since"])
    groups = now.groupby(["state", "host", "address"])["longest"]
    return groups.agg(sockets="size", longest="max").reset_index()


def peaks(incident):
    """The most sockets in TIME_WAIT at once, by `address` and `host`: `peak`, `time` (s, first reached).

    Only the `LONGEST_TABLE` ends with most TIME_WAITs in all are counted.
    """
    waits = incident.states[incident.states["state"] == "TIME_WAIT"]
    waits = waits.assign(address=_address(waits["local"]), host=waits["host"].fillna(CANNOT_TELL))
    rows = []
    for address, host in waits.value_counts(["address", "host"]).head(LONGEST_TABLE).index:
        curve = count(waits[waits["address"] == address], "TIME_WAIT", host)
        rows.append((address, host, int(curve.max()), float(curve.idxmax())))
    table = pd.DataFrame(rows, columns=["address", "host", "peak", "time"])
    return table.sort_values("peak", ascending=False, kind="stable", ignore_index=True)


def reuse(incident):
    """The pairs of endpoints with more than one connection: `one`, `other`, `connections`, `soonest`.

    `soonest`: seconds from the end of a connection to the next SYN, the least; `<NA>` where there is no end.
    """
    table, local = incident.connections, end_events(incident.capture)["local"].unstack("end").astype(object)
    pair = [local.min(axis=1), local.max(axis=1)]
    gap = (table["opened"] - table["closed"].groupby(pair).shift()).astype("Float64")
    again = gap.groupby(pair).agg(connections="size", soonest="min").rename_axis(["one", "other"])
    again = again[again["connections"] > 1].sort_values("connections", ascending=False, kind="stable")
    return again.reset_index()


def forgotten(incident):
    """The streams an end of which waited in FIN_WAIT_2 for a FIN, in vain, until its kernel forgot it."""
    ends = end_events(incident.capture)
    moment = forgotten_at(ends, FIN_TIMEOUT)
    given_up = ends["active"] & ~ends["doubtful"] & ends["peer_fin"].isna() & (moment <= incident.capture.end)
    given_up &= ~(ends["reset"] <= moment)
    return ends.index.get_level_values("stream")[given_up].unique()


def remarkable(incident):
    """What is most worth a look in each connection (the first of `KINDS` that fits), each kind in turn."""
    table, stays, end = incident.connections, incident.states, incident.capture.end
    last = stays.drop_duplicates(["stream", "local"], keep="last")
    left = last[last["state"].isin(HALF_CLOSED) & ~(last["until"] <= end).fillna(False)]
    is_kind = [table.index.isin(forgotten(incident)), table["ending"] == "reset", table["closer"] == "both",
               table.index.isin(left["stream"]), table["client_bytes"] + table["server_bytes"] == 0,
               table["keepalive_probes"] > 0, table["ending"] == "fin"]
    is_kind = [np.asarray(pd.array(rows, "boolean").fillna(False), bool) for rows in is_kind]
    kinds = pd.Series(np.select(is_kind, list(KINDS)[:-1], "open"), table.index, dtype="str", name="kind")
    order = pd.DataFrame({"turn": kinds.groupby(kinds).cumcount(), "rank": kinds.map(list(KINDS).index)})
    return kinds[order.sort_values(["turn", "rank"], kind="stable").index]


def _endpoints(incident):
    """The connections, with ` ?` behind `client` and `server` where no SYN says which is which."""
    local = end_events(incident.capture)["local"].unstack("end")
    return incident.connections.assign(**{
        host: incident.connections[host].fillna(local[host] + " ?") for host in HOSTS})


def _address(sockets):
    return sockets.str.rpartition(":")[0] if len(sockets) else sockets


# Words

def visible(text, longest=LONGEST_TEXT):
    """`text` fit for a terminal: what can't be printed, or turns the writing round, escaped; cut if long."""
    text = str(text)
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:longest])
    return shown + "…" * (len(text) > longest)


def outcome(row):
    """What became of the connections that a row of `by_server` counts: texts by what they tell."""
    each = row["requests"] / max(row["asked"], 1)
    asked = f"{row['requests']:,} on {_many(row['asked'], 'connection')}, {each:.1f} each"
    idle = {"without data": row["no_data"], "with data but no HTTP/1 request that can be read": row["unread"],
            CANNOT_TELL: row["connections"] - row[["asked", "no_data", "unread"]].sum()}
    return {"connections": f"{row['connections']:,}", "ended by": _tally(row, "ending"),
            "closed first by": _tally(row, "closer"), "TIME_WAIT at": _tally(row, "time_wait"),
            "requests": asked if row["requests"] else "none",
            "no request": ", ".join(f"{text} {many:,}" for text, many in idle.items() if many) or "none",
            "keep-alive probes": f"{row['keepalive_probes']:,}"}


def _tally(row, column):
    prefix, values = TALLIES[column]
    counted = {value.replace("_", " "): row[prefix + value] for value in values}
    return ", ".join(f"{value} {number:,}" for value, number in counted.items() if number)


def findings(incident):
    """What stands out, as sentences: ends half closed or forgotten, peaks of TIME_WAIT, reuse."""
    left, most, again = left_behind(incident), peaks(incident), reuse(incident)
    told = [f"Still in {row.state} at the end: {_many(row.sockets, 'socket')} at {row.address} ({row.host}), "
            f"the longest for {row.longest:,.1f} s" for row in left.head(MOST_SERVERS).itertuples()]
    told = told or ["Still in CLOSE_WAIT or FIN_WAIT_2 at the end: no socket seen"]
    told += [f"In FIN_WAIT_2 until forgotten, in vain: {_many(len(forgotten(incident)), 'connection')}"]
    told += [f"Most in TIME_WAIT at {row.address} ({row.host}): {row.peak:,}, first at {row.time:,.3f} s "
             f"({_clock(incident, row.time)})" for row in most.head(MOST_SERVERS).itertuples()]
    told += [] if len(most) else ["Most in TIME_WAIT: no socket was seen to reach it"]
    soonest = again["soonest"].min()
    by = f", by {again['connections'].sum():,} connections" if len(again) else ""
    after = f", the soonest {soonest:.3f} s after the end of the one before" if pd.notna(soonest) else ""
    return [*told, f"4-tuples used again: {len(again):,}{by}{after}"]


def summary(incident):
    """The whole report as text for a terminal."""
    lines = [f"{name:<14}{text}" for name, text in facts(incident).items()]
    servers = by_server(incident)
    if not len(servers):
        return "\n".join([*lines, "", NO_TCP])
    for name, row in _blocks(servers):
        lines += ["", name] + [f"  {what:<18}{text}" for what, text in outcome(row).items()]
    if len(servers) > MOST_SERVERS:
        lines += ["", f"… and {len(servers) - MOST_SERVERS:,} more servers"]
    return "\n".join([*lines, "", *findings(incident), "", ASSUMED])


def _blocks(servers):
    """(heading, counts) of all servers together, where there are several, and of each of the first."""
    if len(servers) > 1:
        yield "All connections", servers.sum()
    for name, row in servers.head(MOST_SERVERS).iterrows():
        yield "Server: cannot tell (no SYN captured)" if name == CANNOT_TELL else f"Server {name}", row


def _many(number, noun):
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _clock(incident, seconds):
    return (incident.capture.start.to_pydatetime(warn=False) + timedelta(seconds=seconds)).strftime("%H:%M:%S UTC")


# The page

STYLE = """
:root { color-scheme: light dark;
  --ink: #1d2228; --soft: #5a636e; --paper: #fff; --line: #d5dae0; --band: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --soft: #a4adb8; --paper: #15181c; --line: #39414a; --band: #1f242a; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 66rem;
  margin: 0 auto; padding: 1.5rem; }
h1 { line-height: 1.2; margin: 0 0 1rem; }
h2 { margin: 2.5rem 0 .6rem; border-bottom: 1px solid var(--line); }
.scroll { overflow-x: auto; margin: 1rem 0; } .scroll:focus { outline: 2px solid var(--soft); }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; }
caption, figcaption, .note { color: var(--soft); text-align: left; font-size: .9rem; padding: .2rem 0; }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } thead th { background: var(--band); }
.number { text-align: right; white-space: nowrap; }
td.long { overflow-wrap: anywhere; min-width: 10rem; }
figure { margin: 1.5rem 0; } img { max-width: 100%; height: auto; background: #fff; padding: .5rem;
  box-sizing: border-box; border: 1px solid var(--line); border-radius: 6px; }
@media print { body { max-width: none; padding: 0; font-size: 11pt; } .scroll { overflow: visible; }
  table { font-size: 7pt; } th, td { padding: .1rem .3rem; }
  tr, figure { break-inside: avoid; } h2 { break-after: avoid; } img { max-height: 23cm; } }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(incident):
    """The report as one HTML page that needs nothing but itself: no script, no other file, no host."""
    parts = ["<h1>What became of the TCP connections</h1>",
             _table(facts(incident).rename("").to_frame(), "What was read", False, 1000)]
    if not len(incident.segments):
        parts.append(f"<p>{NO_TCP}</p>")
    else:
        told = "".join(f"<li>{_text(line)}</li>" for line in findings(incident))
        parts += ["<h2>What stands out</h2>", f"<ul>{told}</ul>", f'<p class="note">{ASSUMED}</p>',
                  "<h2>By server</h2>", _servers(incident),
                  "<h2>Figures</h2>", *_figures(incident),
                  "<h2>Connections</h2>", _connections(incident),
                  "<h2>HTTP exchanges</h2>", _exchanges(incident)]
    return "\n".join(["<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
                      f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
                      '<meta name="viewport" content="width=device-width, initial-scale=1">',
                      f"<title>TCP connections: {_text(incident.capture.path, 80)}</title>",
                      f"<style>{STYLE}</style>", "</head>", "<body>", "<main>",
                      *parts, "</main>", "</body>", "</html>", ""])


def _text(value, longest=1000):
    return html.escape(visible(value, longest))


def _table(table, caption, header=True, longest=LONGEST_TEXT):
    """`table` as HTML, its index as row headings, cut after `LONGEST_TABLE` rows."""
    if len(table) > LONGEST_TABLE:
        caption += f". The first {LONGEST_TABLE} of {len(table):,} rows"
    numeric = [pd.api.types.is_numeric_dtype(table[name]) for name in table]
    names = [table.index.name or "", *table.columns] if header else []
    head = [f'<th scope="col"{_side(right)}>{_text(name)}</th>'
            for name, right in zip(names, [False, *numeric])]
    rows = []
    for index, *values in table.head(LONGEST_TABLE).itertuples(name=None):
        cells = [_cell(value, right, longest) for value, right in zip(values, numeric)]
        rows.append(f'<tr><th scope="row">{_text(index)}</th>{"".join(cells)}</tr>')
    head = f"<thead><tr>{''.join(head)}</tr></thead>" if header else ""
    return "\n".join([f'<div class="scroll" role="region" tabindex="0" aria-label="{_text(caption)}">',
                      "<table>", f"<caption>{_text(caption)}</caption>", head,
                      "<tbody>", *rows, "</tbody>", "</table>", "</div>"])


def _side(right):
    return ' class="number"' if right else ""


def _cell(value, right, longest):
    text = "–" if pd.isna(value) else f"{value:,.3f}" if isinstance(value, float) else \
        f"{value:,}" if isinstance(value, int) else visible(value, longest)
    side = _side(right) or ' class="long"' * (len(text) > 40)
    return f"<td{side}>{_text(text)}</td>"


def _servers(incident):
    rows = dict(_blocks(by_server(incident)))
    return _table(pd.DataFrame([outcome(row) for row in rows.values()], pd.Index(rows, name="server")),
                  f"Connections by server, at most the {MOST_SERVERS} servers with most of them")


def _connections(incident):
    table = _endpoints(incident)
    asked = incident.exchanges.groupby("stream").size().reindex(table.index, fill_value=0)
    table = table.assign(requests=asked, closer=table["closer"].fillna(CANNOT_TELL),
                         time_wait=table["time_wait"].fillna(CANNOT_TELL))
    names = {"client": "client", "server": "server", "ending": "ending", "closer": "closed first by",
             "time_wait": "TIME_WAIT at", "requests": "requests", "keepalive_probes": "probes",
             "opened": "opened (s)", "closed": "closed (s)", "client_bytes": "client bytes",
             "server_bytes": "server bytes"}
    note = '<p class="note">Times are seconds since the first frame. –: not in the capture. ? behind an ' \
        "address: no SYN was captured; which end is the client, cannot tell.</p>"
    table = table[list(names)].rename(columns=names)
    return note + _table(table, "Connections, in order of their first segment")


def _exchanges(incident):
    if not len(incident.exchanges):
        return "<p>No HTTP/1 request can be read: none was sent, or it is encrypted, or cut off.</p>"
    names = {"nth": "nth on it", "method": "method", "target": "target", "status": "status",
             "framing": "end known by", "requested": "requested (s)", "answered": "answered (s)",
             "finished": "finished (s)", "response_bytes": "bytes"}
    table = incident.exchanges.set_index("stream")[list(names)].rename(columns=names)
    return _table(table, "HTTP exchanges, each with its connection (stream)")


# Figures

def _figures(incident):
    """The figures as HTML, each with its alternative text and a caption."""
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
    from helpers import plots
    part = SimpleNamespace(capture=incident.capture, connections=incident.connections.loc[streams], **{
        name: table[table["stream"].isin(streams)] for name, table in (
            ("segments", incident.segments), ("states", incident.states), ("exchanges", incident.exchanges))})
    fig, ax = plots.figure(1.5 + 0.5 * len(streams))
    plots.waterfall(part, ax=ax)
    return _figure(fig, "One row a connection: requests, ends, and what is left", f"Waterfall. {chosen}",
                   f"{chosen} A row runs from the first segment over requests (bars) and keep-alive probes "
                   "(strokes) to FIN (dots) or RST (crosses), then shows the state left at each end.")


def _curve(incident):
    from helpers import plots
    most = peaks(incident)
    if not len(most):
        return "<p>No curve of TIME_WAIT: no end was seen to reach it.</p>"
    told = "; ".join(f"{row.peak:,} at {row.address} ({row.host})" for row in most.head(4).itertuples())
    fig, ax = plots.figure(4)
    plots.time_wait_curve(incident.states, ax=ax)
    return _figure(fig, "Sockets in TIME_WAIT, from the packets",
                   f"TIME_WAIT over time, at clients and at servers. Peaks: {told}.",
                   f"Sockets in TIME_WAIT at all clients and at all servers. Peaks by address: {told}. "
                   f"Each is taken to last {TIME_WAIT:.0f} s, also beyond the end of the capture "
                   f"({incident.capture.end:,.1f} s).")


def _bands(incident, streams):
    from helpers import plots
    stays = incident.states[incident.states["stream"].isin(streams)]
    if not len(stays):
        return "<p>No state bands: the capture doesn't show the state of any end of these connections.</p>"
    number = _many(stays["stream"].nunique(), "connection")
    fig, ax = plots.figure(1.4 + 0.36 * len(stays.drop_duplicates(["stream", "local"])))
    plots.state_bands(stays, ax=ax)
    seen = ", ".join(sorted(stays["state"].unique()))
    return _figure(fig, "The state of both ends", f"State bands of {number}, with the states {seen}.",
                   f"What netstat would have said at both ends of {number}, from those chosen above. "
                   "A band is a stay in one state.")


def _ladder(incident, kinds):
    from helpers import plots
    odd = kinds[kinds.isin(["forgotten", "reset", "both"])].index[:1]
    stream = odd[0] if len(odd) else kinds.index.min()
    ends, kind = _endpoints(incident).loc[stream], KINDS[kinds[stream]]
    rows = plots.ladder_rows(incident.capture, stream, exchanges=incident.exchanges)
    fig, ax = plots.figure(0.36 * (rows["y"].max() + 4.4))
    plots.ladder(incident.capture, stream, ax=ax, exchanges=incident.exchanges, states=incident.states)
    return _figure(fig, f"Connection {stream}: {kind}",
                   f"Ladder of connection {stream}, {kind}: {len(rows)} rows.",
                   f"The segments of connection {stream} ({ends['client']} to {ends['server']}), {kind}, and "
                   "the state of each end. Chosen: the first that was forgotten, or reset, or closed by both "
                   "ends at once; else the first of all.")


def _figure(fig, title, alt, caption):
    """`fig` as an HTML figure with its PNG inside; closes it."""
    from helpers import plots
    fig.axes[0].set_title(title)
    png = io.BytesIO()
    with plots.plt.rc_context(plots.STYLE):
        fig.savefig(png, format="png", bbox_inches="tight", metadata={"Software": None})
    plots.plt.close(fig)
    data = base64.b64encode(png.getvalue()).decode()
    return f'<figure><img alt="{_text(alt)}" src="data:image/png;base64,{data}">' \
        f"<figcaption>{_text(caption)}</figcaption></figure>"


# The command

class ReportError(Exception):
    """The report can't be written; the message says where, and what to do."""


def _writable(out, captures):
    """The place `out` names. Raises `ReportError` where something stands that must not be lost."""
    try:
        place = Path(out).resolve()
        if any(place == Path(path).resolve() for path in captures):
            raise ReportError(f"{out}: this is the capture itself; give --out another name")
        if place.exists() and not place.is_file():
            raise ReportError(f"{out}: not a regular file; give --out the name of an .html file")
        if place.exists() and not _begin(place).startswith((b"<!doctype html", b"<html")):
            raise ReportError(f"{out}: exists and is no HTML page, so it stays; give --out another name")
        if not (place.parent.is_dir() and os.access(place.parent, os.W_OK)):
            raise ReportError(f"{out}: can't write into {place.parent}; give --out another place")
    except (OSError, ValueError) as error:
        raise ReportError(f"{out}: {error}; give --out another name") from error
    return place


def _begin(place):
    with place.open("rb") as file:
        return file.read(200).lstrip().lower()


def _write(place, text):
    """Write `text` to a temporary file beside `place`, then rename it."""
    temporary = place.with_name(f".{place.name[:80]}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(place)
    except OSError as error:
        raise ReportError(f"{place}: {error.strerror}; give --out another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def main(arguments=None):
    """The exit status (0, or 2 after an error) of printing the summary and writing the page."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.report",
        description="What became of the TCP connections of a pcap or pcapng file (gzipped or not).")
    parser.add_argument("captures", metavar="CAPTURE", nargs="+", help="several are merged by time")
    parser.add_argument("--out", metavar="FILE.html", help="also write one self-contained HTML page")
    options = parser.parse_args(arguments)
    try:
        place = _writable(options.out, options.captures) if options.out else None
        incident = Incident(merge_captures(options.captures))
        _say(summary(incident))
        if place:
            os.environ.setdefault("MPLBACKEND", "Agg")
            _write(place, page(incident))
            _say(f"\nThe page with tables and figures: {visible(place, 1000)}")
    except CaptureError as error:
        where = f"{error.path}: byte {error.offset}" if error.offset else error.path
        return _failed(f"{where}: {error.reason}; give a pcap or pcapng file (gzipped or not)")
    except ReportError as error:
        return _failed(error)
    return 0


def _say(text):
    """Print `text`, also to a reader such as `head` who has left."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failed(message):
    print(f"helpers.report: {visible(message, 2000)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main())
