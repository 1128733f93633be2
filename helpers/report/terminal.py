"""The report as text for a terminal."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from textwrap import wrap

import pandas as pd

from helpers.connections import FIN_TIMEOUT
from helpers.report.diagnosed import WIDTH, diagnosis
from helpers.report.facts import (
    CANNOT_TELL,
    TALLIES,
    Incident,
    by_server,
    facts,
    forgotten,
    left_behind,
    peaks,
    reuse,
    stayed,
    visible,
)
from helpers.states import TIME_WAIT

MOST_SERVERS, MOST_NAMES, MOST_DIFFERENT = 20, 3, 3
ASSUMED = (f"Assumed, as in Linux: TIME_WAIT lasts {TIME_WAIT:.0f} s, and an end in FIN_WAIT_2 is forgotten "
           f"after {FIN_TIMEOUT:.0f} s. “Cannot tell”: the capture doesn't show it; it began or ended "
           "in the middle of the connection, or it missed frames.")
NO_HTTP_3 = "none that can be read"
NO_TIME_WAIT = "QUIC runs over UDP: its connections leave no TIME_WAIT at either end."
NO_TCP = "No TCP segments in this capture: nothing to say about connections."


def outcome(row: pd.Series) -> dict[str, str]:
    """What became of the connections that a row of `by_server` counts: texts by what they tell."""
    each = row["requests"] / max(row["asked"], 1)
    asked = f"{row['requests']:,} on {many(row['asked'], 'connection')}, {each:.1f} each"
    idle = {"without data": row["no_data"], "with data but no HTTP request that can be read": row["unread"],
            CANNOT_TELL: row["connections"] - row[["asked", "no_data", "unread"]].sum()}
    return {"connections": f"{row['connections']:,}", "ended by": _tally(row, "ending"),
            "closed first by": _tally(row, "closer"), "TIME_WAIT at": _tally(row, "time_wait"),
            "requests": asked if row["requests"] else "none that can be read" if row["unread"] else "none",
            "no request": ", ".join(f"{text} {many:,}" for text, many in idle.items() if many) or "none",
            "keep-alive probes": f"{row['keepalive_probes']:,}"}


def _tally(row, column):
    prefix, values = TALLIES[column]
    counted = {value.replace("_", " "): row[prefix + value] for value in values}
    return ", ".join(f"{value} {number:,}" for value, number in counted.items() if number)


def findings(incident: Incident) -> list[str]:
    """What stands out, as sentences: ends half closed or forgotten, peaks of TIME_WAIT, reuse."""
    left, most, again = left_behind(incident), peaks(incident), reuse(incident)
    told = [f"Still in {row.state} at the end: {many(row.sockets, 'socket')} at {row.address} ({row.host}), "
            f"the longest for {row.longest:,.1f} s" for row in left.head(MOST_SERVERS).itertuples()]
    told = told or ["Still in CLOSE_WAIT or FIN_WAIT_2 at the end: no socket seen"]
    told += [f"For a while in {row.state}: {many(row.sockets, 'socket')} at {row.address} ({row.host}), "
             f"up to {row.longest:,.1f} s" for row in stayed(incident).head(MOST_SERVERS).itertuples()]
    told += [f"In FIN_WAIT_2 until forgotten, in vain: {many(len(forgotten(incident)), 'connection')}"]
    told += [f"Most in TIME_WAIT at {row.address} ({row.host}): {row.peak:,}, first at {row.time:,.3f} s "
             f"({_clock(incident, row.time)})" for row in most.head(MOST_SERVERS).itertuples()]
    told += [] if len(most) else ["Most in TIME_WAIT: no socket was seen to reach it"]
    soonest = again["soonest"].min()
    by = f", by {again['connections'].sum():,} connections" if len(again) else ""
    after = f", the soonest {soonest:.3f} s after the end of the one before" if pd.notna(soonest) else ""
    told += [f"4-tuples used again: {len(again):,}{by}{after}"]
    return told + [line for one in incident.witnesses for line in _beside(one)]


def _beside(one):
    """What the lists of one machine say of the packets, as sentences."""
    name, places = visible(one.path, 300), one.places
    if one.trouble:
        return [f"{name} is not compared: {one.trouble}"]
    agree, differ = int(places["agree"].sum()), places[~places["agree"].astype(bool)]
    told = [f"{name}: {many(len(one.times), 'list')} made meanwhile; the kernel and the packets agree in {agree:,} of "
            f"{many(len(places), 'place')} (a socket in a list, with its state)"]
    told += [f"Not so at {row.time:,.3f} s: {visible(row.local)} → {visible(row.peer)}, the kernel: {row.kernel}, the "
             f"packets: {row.packets}" for row in differ.head(MOST_DIFFERENT).itertuples()]
    more = len(differ) - MOST_DIFFERENT
    told += [f"… and in {more:,} more places"] if more > 0 else []
    return told + ([f"{many(one.strangers, 'socket')} of these lists: of no connection in this capture"]
                   if one.strangers else [])


def summary(incident: Incident) -> str:
    """The whole report as text for a terminal."""
    lines = [line for name, text in facts(incident).items() for line in _in_column(name, text, 14)]
    servers = by_server(incident)
    if not len(servers):
        return "\n".join([*lines, "", *(quic_lines(incident) or [NO_TCP])])
    lines = [*diagnosis(incident), "", *lines]
    for name, row in blocks(servers, incident.server_names):
        lines += ["", name] + [
            line for what, text in outcome(row).items() for line in _in_column(f"  {what}", text, 20)]
    if len(servers) > MOST_SERVERS:
        lines += ["", f"… and {len(servers) - MOST_SERVERS:,} more servers"]
    quic = quic_lines(incident)
    found = [line for text in findings(incident) for line in _wrapped(text, "", "  ")]
    return "\n".join([*lines, "", *found, *(["", *quic] if quic else []), "", *_wrapped(ASSUMED, "", "")])


def _in_column(name: str, text: str, width: int) -> list[str]:
    """`name`, and beside it from column `width` on `text`, in as many lines as it takes."""
    return _wrapped(text, f"{name:<{width}}", " " * width)


def _wrapped(text, first, others):
    """The lines of `text`. A long word, such as a path, stays whole, so that it can be copied."""
    return wrap(text, WIDTH, initial_indent=first, subsequent_indent=others, break_long_words=False,
                break_on_hyphens=False) or [first]


def quic_lines(incident: Incident) -> list[str]:
    """What became of the QUIC connections, as lines; none where there are none."""
    table = incident.quic.fillna({"server": CANNOT_TELL})
    lines = []
    for server, rows in list(table.groupby("server"))[:MOST_SERVERS]:
        names = ", ".join(rows["server_name"].dropna().unique()[:5])
        ended = rows["closed_by"].value_counts()
        told = ", ".join(f"{host} {number:,}" for host, number in ended.items())
        unseen = len(rows) - ended.sum()
        closed = ", ".join(filter(None, [told, f"{CANNOT_TELL} {unseen:,}" if unseen else ""]))
        asked = rows["requests"].sum()
        lines += [visible(f"QUIC server {server}" + (f" ({names})" if names else ""), 1000),
                  *_in_column("  connections", f"{len(rows):,}", 20),
                  *_in_column("  datagrams", f"{rows['datagrams'].sum():,}", 20),
                  *_in_column("  closed by", closed, 20),
                  *_in_column("  requests", f"{asked:,}" if asked else NO_HTTP_3, 20)]
    return [*lines, NO_TIME_WAIT] if lines else []


def blocks(servers: pd.DataFrame, names: Mapping[str, list[str]]) -> Iterator[tuple[str, pd.Series]]:
    """(heading, counts) of all servers together, where there are several, and of the first; `names`: of each server."""
    if len(servers) > 1:
        yield "All connections", servers.sum()
    for name, row in servers.head(MOST_SERVERS).iterrows():
        known = names.get(name, [])
        called = f" ({', '.join(known[:MOST_NAMES])}{', …' * (len(known) > MOST_NAMES)})" if known else ""
        unknown = name == CANNOT_TELL
        yield "Server: cannot tell" if unknown else visible(f"Server {name}{called}", 1000), row


def many(number: int, noun: str) -> str:
    """`number` and `noun`, in the plural where it needs one."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _clock(incident, seconds):
    return (incident.capture.start.to_pydatetime(warn=False) + timedelta(seconds=seconds)).strftime("%H:%M:%S UTC")
