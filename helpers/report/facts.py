"""What is said of a capture: its tables, counted by server, by end and by pair of endpoints.

They serve a notebook too: `incident = Incident(merge_captures(paths))`, then `facts(incident)`, `by_server`, and so on.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cached_property

import numpy as np
import pandas as pd

from helpers.captures import Capture
from helpers.connections import FIN_TIMEOUT, HOSTS, addresses, connections, end_events, forgotten_at, handshakes
from helpers.diagnosis import LIMITS, Limits, diagnose
from helpers.exchanges import exchanges
from helpers.quic import quic_connections, quic_exchanges, quic_unread
from helpers.report.witness import Witness, witness
from helpers.sockets import SocketLists
from helpers.states import count, lasting, states

CANNOT_TELL, LEFT_OUT = "cannot tell", "(left out)"
TALLIES = {"ending": ("", ("fin", "reset", "refused", "unanswered", "open", "cannot_tell")),
           "closer": ("first_", (*HOSTS, "both", "cannot_tell")),
           "time_wait": ("time_wait_", (*HOSTS, "both", "none", "cannot_tell"))}
HALF_CLOSED = ("CLOSE_WAIT", "FIN_WAIT_2")
LONG = 1.0          # seconds; programs that answer a FIN do so within milliseconds
LONGEST_TABLE, LONGEST_TEXT = 200, 120
NOT_ITS_KEYS = ("no keys", "the keys don't fit")      # the reasons that other keys would mend
ADVICE = "a browser writes its keys where SSLKEYLOGFILE says: give that file with --keys"
KINDS = {"forgotten": "left in FIN_WAIT_2 until it was forgotten", "reset": "ended by a reset",
         "both": "closed by both ends at once", "waiting": "half closed when the capture ended",
         "no data": "without data", "probed": "kept alive by probes", "closed": "closed by FINs",
         "open": "no end seen"}


class Incident:
    """The tables of a capture, each computed once when first asked for.

    `private`: without what may identify people: addresses are numbered (`host-1`, in order of their first segment), and
    the targets of requests and the names of servers are left out. `lists`: what a kernel said meanwhile, of each
    machine that was asked. `limits`: the thresholds of the diagnosis.
    """

    def __init__(self, capture: Capture, private: bool = False, lists: Sequence[SocketLists] = (),
                 limits: Limits = LIMITS) -> None:
        self.private, self.limits, self._lists = private, limits, lists
        self.capture, self._names = _without_addresses(capture) if private else (capture, None)
        self.segments = self.capture.segments

    @cached_property
    def connections(self) -> pd.DataFrame:
        table = connections(self.capture)
        return table.assign(server_name=_nothing(table)) if self.private else table

    @cached_property
    def exchanges(self) -> pd.DataFrame:
        table = exchanges(self.capture)
        return table.assign(target=table["target"].where(table["target"].isna(), LEFT_OUT)) if self.private else table

    @cached_property
    def quic(self) -> pd.DataFrame:
        """The QUIC connections, with `requests`: how many HTTP/3 requests could be read on each."""
        table, asked = quic_connections(self.capture), self.quic_exchanges["stream"].value_counts()
        table = table.assign(requests=asked.reindex(table.index, fill_value=0))
        return table.assign(server_name=_nothing(table)) if self.private else table

    @cached_property
    def quic_exchanges(self) -> pd.DataFrame:
        """The HTTP/3 exchanges that could be read."""
        table = quic_exchanges(self.capture)
        return table.assign(target=table["target"].where(table["target"].isna(), LEFT_OUT)) if self.private else table

    @cached_property
    def server_names(self) -> dict[str, list[str]]:
        """The names that clients asked for in TLS (SNI), by `address:port` of the server; none where it is private."""
        named = self.connections.dropna(subset=["server", "server_name"])
        return {server: list(names.unique()) for server, names in named.groupby("server")["server_name"]}

    @cached_property
    def states(self) -> pd.DataFrame:
        return states(self.capture)

    @cached_property
    def diagnosis(self) -> pd.DataFrame:
        """What is wrong: the findings of `helpers.diagnosis.diagnose`."""
        return diagnose(self, self.limits)

    @cached_property
    def witnesses(self) -> list[Witness]:
        """The lists beside the packets, in their order."""
        named = (lambda sockets: _renamed(sockets, self._names)) if self.private else None
        told = [witness(self.capture, self.states, lists, named) for lists in self._lists]
        return [one._replace(path=_bare(one.path)) for one in told] if self.private else told

    @cached_property
    def servers(self) -> pd.DataFrame:
        return _by_server(self)

    @cached_property
    def peaks(self) -> pd.DataFrame:
        return _peaks(self)


def _nothing(table):
    """A column of texts for `table`, all of them `<NA>`."""
    return pd.Series(pd.NA, table.index, dtype="string")


def _renamed(sockets, names):
    """`address:port` with the name of each address, where it has one."""
    parts = sockets.str.rpartition(":")
    return parts[0].str.strip("[]").map(names).fillna(parts[0]) + ":" + parts[2]


def _without_addresses(capture):
    """The capture with `host-1`, `host-2`, ... in place of addresses, and the bare names of its files; these names."""
    tables, names = (capture.segments, capture.datagrams), {}
    for table in tables:
        texts, codes = table["src"].cat.categories, [table[name].cat.codes for name in ("src", "dst")]
        for code in pd.unique(np.stack(codes, axis=1).ravel()):
            names.setdefault(texts[code], f"host-{len(names) + 1}")
    segments, datagrams = (table.assign(**{
        name: table[name].cat.remove_unused_categories().cat.rename_categories(names) for name in ("src", "dst")})
        for table in tables)
    segments = _same_categories(segments)
    return replace(capture, segments=segments, derived={"datagrams": (datagrams, capture.datagram_payloads)},
                   path=_bare(capture.path), cut=capture.cut and _bare(capture.cut)), names


def _same_categories(segments):
    """The table whose two address columns have the same categories, as the functions that make tables need."""
    both = segments["src"].cat.categories.union(segments["dst"].cat.categories)
    return segments.assign(**{name: segments[name].cat.set_categories(both) for name in ("src", "dst")})


def _bare(text):
    """`text` without the folders in it."""
    return re.sub(r"[^\s,;]*[/\\]", "", text)


def visible(text: object, longest: int = LONGEST_TEXT) -> str:
    """`text` fit for a terminal: what can't be printed, or changes the writing direction, is escaped; cut if long."""
    text = str(text)
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:longest])
    return shown + "…" * (len(text) > longest)


def facts(incident: Incident) -> pd.Series:
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
        "dropped": _dropped(capture), **_encrypted(incident)})


def _encrypted(incident):
    """What the capture has of TLS and QUIC: how many connections, to whom, which could not be read and why; and keys.

    A key log that opens nothing for want of the right keys is named: those of another capture look like none at all.
    """
    over_tcp, over_udp, private = handshakes(incident.capture), incident.quic, incident.private
    reasons = over_tcp["unread"], quic_unread(incident.capture)
    told = {"TLS": _readable(over_tcp, reasons[0], private), "QUIC": _readable(over_udp, reasons[1], private)}
    told = {name: text for name, text in told.items() if text}
    unread = pd.concat(reasons)
    if told and len(incident.capture.secrets) and unread.notna().all() and unread.isin(NOT_ITS_KEYS).any():
        told["keys"] = (f"given are those of {len(incident.capture.secrets):,} connections; they open none of this "
                        "capture: were they written while it was recorded?")
    return told


def _readable(table, reasons, private):
    """How many connections there are, to whom, and for what `reasons` some can't be read; empty where there is none."""
    names = LEFT_OUT if private else ", ".join(table["server_name"].dropna().unique()) or "servers without a name"
    text = f"{len(table):,} connection{'' if len(table) == 1 else 's'}, to {names}; "
    counted = ", ".join(f"{reason} ({number:,})" for reason, number in reasons.value_counts().items())
    advice = f"; {ADVICE}" if reasons.str.contains("keys").fillna(False).any() else ""
    text += f"not readable: {counted}{advice}" if counted else "all read"
    return visible(text, 1000) if len(table) else ""


def _dropped(capture):
    """What the file says of frames that the capture missed."""
    if capture.dropped is None:
        return "the file does not say"
    return f"{capture.dropped:,} frames: what is missing may have been among them" if capture.dropped else "none"


def by_server(incident: Incident) -> pd.DataFrame:
    """How many connections each server (`address:port`) had, and what became of them; most connections first.

    Columns: `connections`; `fin`, `reset`, `refused`, `unanswered`, `open`, `cannot_tell` (how they ended);
    `first_client`, `first_server`,
    `first_both`, `first_cannot_tell` (who closed first); `time_wait_client`, ... `_none`, `_cannot_tell`;
    `keepalive_probes`; `requests`; `asked` (connections with a request), `no_data`, `unread` (those with data
    that hold no request that can be read). Those without a captured SYN are in the row `cannot tell`.
    """
    return incident.servers


def _by_server(incident):
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


def left_behind(incident: Incident) -> pd.DataFrame:
    """The ends in CLOSE_WAIT or FIN_WAIT_2 when the capture ended, by `state`, `host` and `address`.

    Columns: `sockets`, `longest` (seconds that the oldest has been there).
    """
    return _by_end(lasting(incident.states, HALF_CLOSED, incident.capture.end).query("~over"))


def stayed(incident: Incident) -> pd.DataFrame:
    """The ends that were in CLOSE_WAIT or FIN_WAIT_2 for `LONG` seconds or more, and no more when the capture ended.

    Columns: as `left_behind`; `longest` is how long the longest stay was.
    """
    stays = lasting(incident.states, HALF_CLOSED, incident.capture.end)
    return _by_end(stays[stays["over"] & (stays["lasted"] >= LONG).fillna(False)])


def _by_end(stays):
    """How many `stays` there are, and how long the longest lasted, by state, host and address."""
    stays = stays.assign(address=addresses(stays["local"]), host=stays["host"].fillna(CANNOT_TELL))
    groups = stays.groupby(["state", "host", "address"])["lasted"]
    return groups.agg(sockets="size", longest="max").reset_index()


def peaks(incident: Incident) -> pd.DataFrame:
    """The most sockets in TIME_WAIT at once, by `address` and `host`: `peak`, `time` (s, first reached).

    Only the `LONGEST_TABLE` ends with most TIME_WAITs in all are counted.
    """
    return incident.peaks


def _peaks(incident):
    waits = incident.states[incident.states["state"] == "TIME_WAIT"]
    waits = waits.assign(address=addresses(waits["local"]), host=waits["host"].fillna(CANNOT_TELL))
    rows = []
    for address, host in waits.value_counts(["address", "host"]).head(LONGEST_TABLE).index:
        curve = count(waits[waits["address"] == address], "TIME_WAIT", host)
        rows.append((address, host, int(curve.max()), float(curve.idxmax())))
    table = pd.DataFrame(rows, columns=["address", "host", "peak", "time"])
    return table.sort_values("peak", ascending=False, kind="stable", ignore_index=True)


def reuse(incident: Incident) -> pd.DataFrame:
    """The pairs of endpoints with more than one connection: `one`, `other`, `connections`, `soonest`.

    `soonest`: seconds from the end of a connection to the next SYN, the least; `<NA>` where there is no end.
    """
    table, local = incident.connections, end_events(incident.capture)["local"].unstack("end").astype(object)
    pair = [local.min(axis=1), local.max(axis=1)]
    gap = (table["opened"] - table["closed"].groupby(pair).shift()).astype("Float64")
    again = gap.groupby(pair).agg(connections="size", soonest="min").rename_axis(["one", "other"])
    again = again[again["connections"] > 1].sort_values("connections", ascending=False, kind="stable")
    return again.reset_index()


def forgotten(incident: Incident) -> pd.Index:
    """The streams with an end that waited in FIN_WAIT_2 for a FIN until its kernel forgot it."""
    ends = end_events(incident.capture)
    moment = forgotten_at(ends, FIN_TIMEOUT)
    given_up = ends["active"] & ~ends["doubtful"] & ends["peer_fin"].isna() & (moment <= incident.capture.end)
    given_up &= ~(ends["reset"] <= moment)
    return ends.index.get_level_values("stream")[given_up].unique()


def remarkable(incident: Incident) -> pd.Series:
    """The connections that are worth a look, with the first of `KINDS` that fits; each kind in turn."""
    table, stays, end = incident.connections, incident.states, incident.capture.end
    last = stays.drop_duplicates(["stream", "local"], keep="last")
    left = last[last["state"].isin(HALF_CLOSED) & ~(last["until"] <= end).fillna(False)]
    is_kind = [table.index.isin(forgotten(incident)), table["ending"].isin(("reset", "refused")),
               table["closer"] == "both", table.index.isin(left["stream"]),
               table["client_bytes"] + table["server_bytes"] == 0,
               table["keepalive_probes"] > 0, table["ending"] == "fin"]
    is_kind = [np.asarray(pd.array(rows, "boolean").fillna(False), bool) for rows in is_kind]
    kinds = pd.Series(np.select(is_kind, list(KINDS)[:-1], "open"), table.index, dtype="str", name="kind")
    order = pd.DataFrame({"turn": kinds.groupby(kinds).cumcount(), "rank": kinds.map(list(KINDS).index)})
    return kinds[order.sort_values(["turn", "rank"], kind="stable").index]


def endpoints(incident: Incident) -> pd.DataFrame:
    """The connections, with ` ?` behind `client` and `server` where no SYN says which is which."""
    local = end_events(incident.capture)["local"].unstack("end")
    return incident.connections.assign(**{
        host: incident.connections[host].fillna(local[host] + " ?") for host in HOSTS})
