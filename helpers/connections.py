"""TCP connections from segments: `connections(capture)` gives one row per connection.

Times are those at which the capture saw a segment: both ends are taken to stand where the capture was made.
"""

import numpy as np
import pandas as pd

from helpers.captures import ACK, FIN, RST, SYN
from helpers.flow import (
    HOSTS,
    NO_LIMIT,
    NOTHING,
    at,
    directions,
    first_row,
    flows,
    judge_unusual,
    last_row,
    segment_flow,
    swapped,
)

__all__ = ["FIN_TIMEOUT", "HOSTS", "connections", "end_events", "forgotten_at", "keepalive_probes", "segment_flow"]
FIN_TIMEOUT = 60.0
TIMER_SLACK = 2.0

def connections(capture, fin_timeout=FIN_TIMEOUT):
    """One row per TCP connection of `capture`, index `stream`.

    Columns: `client`, `server` (`address:port`), `opened` (first SYN), `established` (the handshake's ACK),
    `closed` (both FINs acknowledged, or the reset), all in seconds since the first frame; `client_bytes`,
    `server_bytes` (payload each end sent, every byte counted once), `keepalive_probes`,
    `ending` (`fin`, `reset`, `open`), `closer` and `time_wait` (`client`, `server`, `both`; `time_wait` also `none`).
    What the capture can't decide is `<NA>`. `fin_timeout`: seconds after which an end in FIN_WAIT_2 is forgotten.

    Source: RFC 9293 sections 3.5 and 3.6; the active closer is an end that sent its FIN before it had got the other end's:
    what it sent since then doesn't acknowledge that one.
    """
    ends = end_events(capture)
    client, server = (ends.iloc[place::2].droplevel("end") for place in range(2))
    known = client["host"].notna()
    probes = _probes(capture, len(client))
    reset = client["reset"]
    both_acked = np.maximum(client["fin_acked"], server["fin_acked"])
    fin = client["fin"].notna() & server["fin"].notna() & ~(reset < both_acked.fillna(np.inf))
    ending = _names(np.select([fin, reset.notna()], [0, 1], 2), ("fin", "reset", "open"))
    table = pd.DataFrame({
        "client": client["local"].where(known), "server": server["local"].where(known),
        "opened": client["syn"].where(known), "established": server["syn_acked"].where(known),
        "closed": both_acked.where(fin, reset), "client_bytes": client["bytes"].where(known),
        "server_bytes": server["bytes"].where(known), "keepalive_probes": probes, "ending": ending,
        "closer": pd.Series(_who(client["active"], server["active"], None)).mask(client["unsure"] | server["unsure"]).array,
        "time_wait": _time_wait(client, server, ending, capture.end, fin_timeout)})
    for name in ("closer", "time_wait"):
        table[name] = table[name].mask(~known & table[name].isin(HOSTS))
    return _nullable(table)


def _probes(capture, streams):
    """How many keep-alive probes each stream has; in what a piece knows, a row may stand for several, or none."""
    probes = keepalive_probes(capture).to_numpy() * capture._headers.get("weight", 1) + capture._headers.get("probes", 0)
    return np.bincount(capture.segments["stream"], probes, streams).astype(np.int64)


def keepalive_probes(capture):
    """True for each segment that is a TCP keep-alive probe, index `frame`.

    A probe has at most one byte, a sequence number one below the next expected, no SYN, FIN or RST; its sender has
    sent no FIN and has all its data acknowledged, and the peer's window is open (else it is a window probe).
    Source: RFC 9293 section 3.8.4.
    """
    end_events(capture)
    return pd.Series(capture._derived["probe"], capture.segments.index, name="probe")


def forgotten_at(ends, fin_timeout):
    """When each end in FIN_WAIT_2 is forgotten if no FIN comes; missing where it sent something after that time.

    Source: Linux `tcp_fin_timeout`; only an end whose program has closed it is forgotten, not one that still lives.
    """
    forgotten = ends["fin_acked"] + fin_timeout
    return forgotten.where(~(ends["last"] > forgotten + TIMER_SLACK))


def end_events(capture):
    """When each end of each connection opened and closed: index `stream`, `end`; times in seconds.

    Columns: `host` (as `end`, but missing where no SYN was captured and `end` is arbitrary); `local`, `peer`
    (`address:port`); `sender` (a number for both, the same in each connection of a 4-tuple); `opens`
    (its SYN acknowledges none); `syn` (own first SYN), `peer_syn` (arrival of the other end's), `syn_acked`; `fin`
    (own first FIN), `peer_fin` (arrival of the other end's), `fin_acked`, `fin_next` (raw sequence number after it);
    `active` (what it sent from its FIN on didn't acknowledge the peer's at first), `unsure` (whether it alone was can't be told,
    since a FIN was not captured, or its first copy), `doubtful` (closing may have begun before the capture); `last`
    (last segment sent); `first_heard`, `last_heard` (of those with an ACK or a RST); `bytes` (payload bytes sent);
    `reset` (a RST ended the connection).
    """
    if "end_events" not in capture._derived:
        capture._derived["end_events"] = _end_events(capture)
    return capture._derived["end_events"]


def _end_events(capture):
    capture._derived["probe"] = probe = np.empty(len(capture.segments), bool)
    parts = []
    for flow in flows(capture):
        judge_unusual(flow)
        parts.append(_ends_of(flow))
        probe[flow.row] = flow.probe
    table = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
    known, (local, sockets) = table.pop("known"), _sockets(capture)
    peer, streams = swapped(local), len(known) // 2
    table = {"reset": table.pop("reset"), "host": _names(np.where(known, np.tile((0, 1), streams), -1), HOSTS),
             "local": sockets.take(local), "peer": sockets.take(peer), "sender": local * len(sockets) + peer, **table}
    return pd.DataFrame(table, pd.MultiIndex.from_product([pd.RangeIndex(streams), HOSTS], names=["stream", "end"]))


def _ends_of(flow):
    """The columns of `end_events` that the segments of a flow tell, by direction; `known`: whether a SYN was captured."""
    known, waits = np.repeat(flow.known[flow.begins], 2), _probes_in_close_wait(flow)
    speaks = last_row(flow.direction, flow.sound, flow.directions)
    telling = flow.sound & ((flow.length > 0) | (flow.flags & (SYN | FIN) > 0))
    talks = last_row(flow.direction, telling, flow.directions) >= 0
    told = talks & swapped(talks) | waits | swapped(waits)
    return {"known": known, "reset": np.repeat(_reset(flow), 2), **_opening(flow, known), **_closing(flow, waits),
            "doubtful": ~known & ~told, "last": at(flow.time, speaks), **_heard(flow),
            "bytes": np.where(speaks < 0, np.nan, _payload(flow))}


def _sockets(capture):
    """By direction, the sender's place in the texts of all endpoints; and these (`address:port`)."""
    segments, way = capture.segments, directions(capture)
    first = first_row(way // 2, np.arange(len(way)), int(way.max(initial=-1)) // 2 + 1)
    own, peer = ((segments[address].cat.codes.to_numpy()[first].astype(np.int64) << 16) + segments[port].to_numpy()[first]
                 for address, port in (("src", "sport"), ("dst", "dport")))
    swap = way[first] & 1
    local, sockets = pd.factorize(np.stack([np.where(swap, peer, own), np.where(swap, own, peer)], axis=1).ravel())
    bracketed = [f"[{text}]" if ":" in text else text for text in segments["src"].cat.categories]
    return local, pd.array([f"{bracketed[code >> 16]}:{code & 0xFFFF}" for code in sockets.tolist()], "string")


def _heard(flow):
    """By direction, the earliest and the latest segment with an ACK or a RST: `first_heard`, `last_heard`."""
    rows = np.flatnonzero(flow.flags & (ACK | RST))
    first, last = np.full(flow.directions, np.inf), np.full(flow.directions, -np.inf)
    np.minimum.at(first, flow.direction[rows], flow.time[rows])
    np.maximum.at(last, flow.direction[rows], flow.time[rows])
    return {"first_heard": first, "last_heard": last}


def _opening(flow, known):
    """The events of the handshake, by direction.

    Where a SYN was not captured, the other end's first ACK is the sign of it; an ACK alone says that one's own SYN was
    acknowledged too.
    """
    is_syn = flow.sound & (flow.flags & SYN > 0)
    syn = first_row(flow.direction, is_syn, flow.directions)
    unseen = np.where(known, NOTHING + 1, NO_LIMIT)
    answered = _first_ack(flow, np.where(syn < 0, unseen, flow.seq[syn] + 1)) if len(syn) else syn.astype(float)
    unheard = known & (swapped(syn) < 0)
    speaks = np.flatnonzero(unheard[flow.direction] & flow.sound & flow.has_ack & (flow.flags & SYN == 0))
    spoke = at(flow.time, first_row(flow.direction, speaks, flow.directions))
    seen = swapped(answered)
    arrived = _last_before(flow, is_syn, answered)
    return {"syn": at(flow.time, syn), "opens": (syn >= 0) & (at(flow.flags, syn, 0) & ACK == 0),
            "syn_acked": np.fmin(answered, spoke), "peer_syn": np.where(np.isnan(arrived), seen, arrived)}


def _closing(flow, waits):
    """The events of the FINs, by direction; `waits`: which directions were still in CLOSE_WAIT, as their probes show."""
    is_fin = flow.sound & (flow.flags & FIN > 0)
    fin = first_row(flow.direction, is_fin, flow.directions)
    end = at(flow.seq_end, fin, NO_LIMIT)
    answered, sent = _first_ack(flow, end), at(flow.time, fin)
    arrived = _last_before(flow, is_fin, answered)
    before, late = _since_fin(flow, is_fin, end)
    alone = (fin >= 0) & (swapped(fin) < 0)
    unseen, missed = _unseen_fin(flow, before, alone)
    active = (fin >= 0) & ((before < np.where(alone, unseen, swapped(end))) | swapped(waits))
    fin_next = (at(flow.raw_seq, fin, 0) + end - at(flow.seq, fin, 0)) % (1 << 32)
    return {"fin": sent, "fin_next": np.where(fin < 0, np.nan, fin_next), "fin_acked": np.maximum(answered, sent),
            "peer_fin": np.where(np.isnan(arrived), swapped(answered), arrived),
            "active": active, "unsure": (late | alone) & ~active | missed & ~swapped(waits)}


def _probes_in_close_wait(flow):
    """By direction, whether it sent a keep-alive probe that acknowledges the peer's FIN: it had sent none of its own then.

    An end that had would be in CLOSING, LAST_ACK or TIME_WAIT, where Linux probes nobody (`tcp_keepalive_timer`). A probe
    before the peer's FIN doesn't say so: an end that has shut down its sending side probes in FIN_WAIT_2.
    """
    fin = first_row(flow.direction, flow.sound & (flow.flags & FIN > 0), flow.directions)
    end = swapped(at(flow.seq_end, fin, NO_LIMIT))
    rows = np.flatnonzero(flow.probe & flow.sound)
    direction, waits = flow.direction[rows], np.zeros(flow.directions, bool)
    waits[direction[(flow.ack[rows] >= end[direction]) & (rows > fin[direction ^ 1])]] = True
    return waits


def _since_fin(flow, is_fin, end):
    """By direction, the lowest ack in what was sent from the FIN on, which ends at `end`; and whether that began without it."""
    rows = np.flatnonzero(flow.sound & (is_fin | flow.has_ack & (flow.seq_end >= end[flow.direction])))
    lowest = np.full(flow.directions, NO_LIMIT)
    np.minimum.at(lowest, flow.direction[rows], flow.ack[rows])
    return lowest, ~at(is_fin, first_row(flow.direction, rows, flow.directions), True).astype(bool)


def _unseen_fin(flow, acked, alone):
    """By direction, of those `alone` in having a captured FIN: where, at least, the peer's ends; and whether one was missed.

    It ends behind all that the peer was seen to send; where acks rose after the FIN (`acked`: the lowest), behind what that
    one acknowledged. That the peer was never seen to send, or not what was acknowledged, shows that something was missed.
    """
    rows = np.flatnonzero((alone | swapped(alone))[flow.direction] & flow.sound)
    told = rows[(flow.length[rows] > 0) | (flow.flags[rows] & SYN > 0)]
    reach, spoke, highest = np.full((3, flow.directions), NOTHING)
    np.maximum.at(reach, flow.direction[told], flow.seq_end[told])
    np.maximum.at(spoke, flow.direction[rows], flow.seq_end[rows])
    np.maximum.at(highest, flow.direction[rows], flow.ack[rows])
    silent = first_row(flow.direction, flow.flags & RST > 0, flow.directions) < 0
    missed = alone & (swapped(spoke) < highest) & ((swapped(spoke) > NOTHING) | swapped(silent))
    return np.where(highest > acked, NO_LIMIT, swapped(reach) + 1), missed


def _first_ack(flow, wanted):
    """By direction, the time of the peer's first segment whose ack reaches `wanted` (by direction)."""
    reaches = flow.has_ack & flow.sound & (flow.ack >= wanted[flow.direction ^ 1])
    return at(flow.time, swapped(first_row(flow.direction, reaches, flow.directions)))


def _last_before(flow, rows, moment):
    """By direction, the time of the last of the peer's `rows` (a mask) that is not after `moment` of the peer."""
    rows = np.flatnonzero(rows)
    rows = rows[flow.time[rows] <= moment[flow.direction[rows]]]
    return at(flow.time, swapped(last_row(flow.direction, rows, flow.directions)))


def _reset(flow):
    """By stream, the time of the first RST that its receiver accepts, and after which no SYN tries again."""
    streams, rows = flow.directions // 2, np.flatnonzero(flow.accepted)
    last_syn = last_row(flow.stream, flow.flags & (SYN | ACK | RST) == SYN, streams)
    rows = rows[rows > last_syn[flow.stream[rows]]]
    return at(flow.time, first_row(flow.stream, rows, streams))


def _payload(flow):
    """By direction, payload bytes sent, every sequence number counted once and keep-alive bytes not at all."""
    rows = np.flatnonzero(flow.sound & (flow.length > 0))
    direction, first, last = flow.direction[rows], np.full(flow.directions, NO_LIMIT), np.full(flow.directions, NOTHING)
    np.minimum.at(first, direction, np.where(flow.began[rows], 1, flow.seq[rows]))
    np.maximum.at(last, direction, flow.seq[rows] + flow.length[rows] + (flow.flags[rows] & SYN > 0))
    return np.where(first == NO_LIMIT, 0, np.maximum(last - first, 0)).astype(float)


def _who(client, server, neither):
    """`client`, `server` or `both` where these masks say so; elsewhere `neither`."""
    return _names(np.asarray(client) + 2 * np.asarray(server), (neither, *HOSTS, "both"))


def _names(places, names):
    """The names at `places`; `<NA>` for None, and where a place is -1."""
    return pd.array(names, "string").take(places, allow_fill=True)


def _time_wait(client, server, ending, capture_end, fin_timeout):
    """Which end reached TIME_WAIT (RFC 9293 section 3.6): `client`, `server`, `both`, `none`, or `<NA>`."""
    waits, open_question = [], client["doubtful"] | ((ending == "open") & ~(client["active"] | server["active"]))
    for end in (client, server):
        reached = end["active"] & end["fin_acked"].notna() & end["peer_fin"].notna()
        waits.append(reached & ~(end["reset"] < np.maximum(end["fin_acked"], end["peer_fin"])))
        forgotten = forgotten_at(end, fin_timeout) + TIMER_SLACK < capture_end
        open_question |= end["active"] & ~reached & end["reset"].isna() & ~forgotten
        open_question |= end["unsure"] | end["last"].isna() & (end["last_heard"] == -np.inf)
    return pd.Series(_who(*waits, "none"), client.index).mask(open_question).array


def _nullable(table):
    floats = table.columns[table.dtypes == float]
    table[floats] = table[floats].astype("Float64")
    counts = ["client_bytes", "server_bytes", "keepalive_probes"]
    return table.astype({name: "Int64" for name in counts})
