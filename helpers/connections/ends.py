"""When each end of each connection opened and closed, from segments: `end_events(capture)`.

Every rule stands beside its section of RFC 9293, and works on all connections at once. Most arrays below have an
entry for each *direction*, that is, for what one end sent in one connection: 2n for the client of connection n, 2n +
1 for its server. `of_peer(...)` gives each end what is known of the other one. `valid` segments are those inside the
connection's window.

Times are those at which the capture saw a segment: both ends are taken to stand where the capture was made.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from helpers.captures import ACK, FIN, RST, SYN, Capture
from helpers.connections.repeats import COPIES, longest_silence, retransmissions, unanswered
from helpers.flow import (
    HOSTS,
    NO_LIMIT,
    NONE,
    Flow,
    directions,
    first_row,
    highest,
    last_row,
    lowest,
    of_flows,
    of_peer,
    probes_and_resets,
    spoken,
    values_at,
)

FIN_TIMEOUT = 60.0    # Linux: tcp_fin_timeout
TIMER_SLACK = 2.0     # so many seconds late a timer of Linux may be, at most


def keepalive_probes(capture: Capture) -> pd.Series:
    """True for each segment that is a TCP keep-alive probe, index `frame`.

    A probe has at most one byte, a sequence number one below the next expected, no SYN, FIN or RST; its sender has
    sent no FIN and has all its data acknowledged, and the peer's window is open (else it is a window probe).
    Source: RFC 9293 section 3.8.4.
    """
    end_events(capture)
    return pd.Series(capture.derived["probe"], capture.segments.index, name="probe")


def forgotten_at(ends: Mapping[str, np.ndarray], fin_timeout: float) -> np.ndarray:
    """When the kernel drops each end that is in FIN_WAIT_2 and gets no FIN, in seconds; `ends`: see `end_events`.

    NaN where that did not happen: the end sent something later; or a FIN may have reached it before (one that was
    captured and not sent again, or one that the capture lost).
    Source: Linux `tcp_fin_timeout`. It is about ends that their program has closed. While a program keeps its socket,
    and has shut down sending only, the kernel keeps it too.
    """
    forgotten = ends["fin_acked"] + fin_timeout
    return np.where((ends["last"] > forgotten + TIMER_SLACK) | (ends["heard_fin"] <= forgotten), np.nan, forgotten)


def end_events(capture: Capture) -> pd.DataFrame:
    """When each end of each connection opened and closed: index `stream`, `end`; times in seconds.

    `reset`: when a RST ended the connection; `reset_frame`: that RST; `resets`: this end sent it. `host`: as `end`, but
    missing where no SYN was captured: then `end` is arbitrary. `local`, `peer`: `address:port`. `sender`: a number for
    the two together, the same in all connections of one 4-tuple.

    Opening: `syn` (its first SYN; not later than the answer to it), `opens` (its SYN acknowledges none), `syn_acked`,
    `peer_syn` (when the peer's SYN arrived).

    Closing: `fin` (its first FIN), `fin_next` (raw sequence number behind it), `fin_acked`, `peer_fin` (when the peer's
    FIN arrived); `heard_fin` (when the peer's FIN may have arrived, though no captured segment acknowledges it: it was
    sent only once; -inf where the capture lost frames). `active`: it is an active closer. `alone`: its FIN is the only
    one in the capture. `unsure`: a FIN, or its first copy, was not captured, so nobody can tell whether this end alone
    closed first. `doubtful`: an end may have closed before the capture began, or in frames that it lost.
    `reset_before_acked`, `reset_before_fin`: the RST came before its FIN was acknowledged; before the peer's FIN.

    Other: `last` (last segment it sent), `first_heard`, `last_heard` (first and last segment that it sent with an ACK
    or a RST), `bytes` (payload); `repeats`, `unanswered`, `silence`: see `helpers.connections.repeats`.
    """
    if "end_events" not in capture.derived:
        capture.derived["end_events"], capture.derived["probe"] = _end_events(capture)
    return capture.derived["end_events"]


def _end_events(capture: Capture) -> tuple[pd.DataFrame, np.ndarray]:
    """The table of `end_events`; and which segments are keep-alive probes."""
    parts, probe, said = [], np.empty(len(capture.segments), bool), []
    for (row, is_probe, part), of_flow in of_flows(lambda flow: (_events_of(capture, flow), spoken(capture, flow)),
                                                   capture):
        probe[row] = is_probe
        parts.append(part)
        said += of_flow
    capture.derived["spoken"] = said            # `protocols` needs it, and to sort the segments once more takes time
    events = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
    return _with_addresses(capture, events), probe


def _events_of(capture: Capture, flow: Flow) -> tuple[np.ndarray, np.ndarray, dict]:
    """The rows of `flow`, which of them are keep-alive probes, and the events of its ends."""
    is_probe, is_reset = probes_and_resets(flow)
    known = np.repeat(flow.known[flow.begins], 2)
    in_close_wait = _probed_in_close_wait(flow, is_probe)
    reset, closing = np.repeat(_reset(flow, is_reset), 2), _closing(flow, in_close_wait)
    ended = values_at(flow.time, reset)
    over = np.fmin(ended, np.maximum(closing["fin_acked"], of_peer(closing["fin_acked"])))[::2]
    before = {f"reset_before_{name}": _comes_before(flow, reset, closing.pop(f"{name}_row"))
              for name in ("acked", "fin")}
    closing |= {"doubtful": ~known & ~_seen_open(flow, in_close_wait)}
    if capture.dropped:
        closing |= _known_despite_drops(flow, closing)
    return flow.row, is_probe, {
        "known": known, "reset": ended, "reset_frame": _frames(capture, flow, reset),
        "resets": values_at(flow.direction, reset, -1) == np.arange(flow.directions),
        **_opening(flow, known), **before, **closing, **_last_words(flow), "bytes": _payload(flow),
        "repeats": retransmissions(flow, is_probe), "unanswered": unanswered(flow),
        "silence": np.repeat(longest_silence(flow, over), 2)}


def _frames(capture: Capture, flow: Flow, rows: np.ndarray) -> np.ndarray:
    """The frames at the positions `rows` of `flow`; missing where a position is -1."""
    return values_at(capture.segments.index.to_numpy(), values_at(flow.row, rows, -1).astype(np.int64))


def _with_addresses(capture: Capture, events: dict) -> pd.DataFrame:
    """The table of `events`, arrays with an entry for each end, with its host and its addresses."""
    known, (local, sockets) = events.pop("known"), _endpoints(capture)
    peer, streams = of_peer(local), len(known) // 2
    host = names_at(np.where(known, np.tile((0, 1), streams), -1), HOSTS)
    index = pd.MultiIndex.from_product([pd.RangeIndex(streams), HOSTS], names=["stream", "end"])
    return pd.DataFrame({"reset": events.pop("reset"), "host": host, "local": sockets.take(local),
                         "peer": sockets.take(peer), "sender": local * len(sockets) + peer, **events}, index)


def _endpoints(capture: Capture) -> tuple[np.ndarray, pd.api.extensions.ExtensionArray]:
    """By direction, the sender's place among all endpoints; and these, as texts (`address:port`)."""
    segments, way = capture.segments, directions(capture)
    first = first_row(way // 2, np.arange(len(way)), int(way.max(initial=-1)) // 2 + 1)
    own, peer = ((segments[address].cat.codes.to_numpy()[first].astype(np.int64) << 16)
                 + segments[port].to_numpy()[first] for address, port in (("src", "sport"), ("dst", "dport")))
    by_server = way[first] & 1
    ends = np.stack([np.where(by_server, peer, own), np.where(by_server, own, peer)], axis=1)
    local, endpoints = pd.factorize(ends.ravel())
    addresses = [f"[{text}]" if ":" in text else text for text in segments["src"].cat.categories]
    return local, pd.array([f"{addresses[code >> 16]}:{code & 0xFFFF}" for code in endpoints.tolist()], "string")


def addresses(endpoints: pd.Series) -> pd.Series:
    """The address of each of `endpoints` (`address:port`), which is missing where that is."""
    return endpoints.map(lambda text: text.rpartition(":")[0], na_action="ignore").astype(endpoints.dtype)


# Opening: RFC 9293 section 3.5

def _opening(flow: Flow, known: np.ndarray) -> dict:
    """The events of the handshake, by direction; `known`: whether a SYN was captured.

    Where an end's own SYN was not captured, the other end's first ACK stands for its acknowledgment; where the other
    end's was not, an end that acknowledges anything has seen it.
    """
    is_syn = flow.valid & (flow.flags & SYN > 0)
    syn = first_row(flow.direction, is_syn, flow.directions)
    unseen = np.where(known, NONE + 1, NO_LIMIT)
    answer = _first_ack(flow, np.where(syn < 0, unseen, values_at(flow.seq, syn, 0) + 1))
    answered = values_at(flow.time, answer)
    peer_unseen = known & (of_peer(syn) < 0)
    speaks = np.flatnonzero(peer_unseen[flow.direction] & flow.valid & flow.has_ack & (flow.flags & SYN == 0))
    spoke = values_at(flow.time, first_row(flow.direction, speaks, flow.directions))
    arrived = values_at(flow.time, _last_before(flow, is_syn, answered))
    sent = np.where(syn < 0, np.nan, np.fmin(values_at(flow.time, syn), answered))
    return {"syn": sent, "opens": (syn >= 0) & (values_at(flow.flags, syn, 0) & ACK == 0),
            "syn_acked": np.fmin(answered, spoke), "peer_syn": np.where(np.isnan(arrived), of_peer(answered), arrived)}


def _first_ack(flow: Flow, wanted: np.ndarray) -> np.ndarray:
    """By direction, the row of the peer's first segment whose acknowledgment reaches `wanted` (by direction), or -1."""
    reaches = flow.has_ack & flow.valid & (flow.ack >= wanted[flow.direction ^ 1])
    return of_peer(first_row(flow.direction, reaches, flow.directions))


def _last_before(flow: Flow, rows: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """By direction, the last of the peer's `rows` (a mask) that is not after `moment` of the peer; -1 if none is."""
    rows = np.flatnonzero(rows)
    rows = rows[flow.time[rows] <= moment[flow.direction[rows]]]
    return of_peer(last_row(flow.direction, rows, flow.directions))


# Closing: RFC 9293 section 3.6

def _closing(flow: Flow, in_close_wait: np.ndarray) -> dict:
    """The events of the FINs, by direction; `in_close_wait`: see `_probed_in_close_wait`.

    An end is an active closer if what it sent from its FIN on doesn't acknowledge the peer's FIN at first (rule 2),
    or if the peer, having got its FIN, was seen to be in CLOSE_WAIT.
    """
    is_fin = flow.valid & (flow.flags & FIN > 0)
    fin = first_row(flow.direction, is_fin, flow.directions)
    end = values_at(flow.seq_end, fin, NO_LIMIT)
    answer = _first_ack(flow, end)
    answered, sent = values_at(flow.time, answer), values_at(flow.time, fin)
    arrival = _last_before(flow, is_fin, answered)
    arrival = np.where(arrival < 0, of_peer(answer), arrival)
    acked, late = _acked_since_fin(flow, is_fin, end)
    alone = (fin >= 0) & (of_peer(fin) < 0)
    peer_end, missed = _peer_fin_not_captured(flow, acked, alone)
    active = (fin >= 0) & ((acked < np.where(alone, peer_end, of_peer(end))) | of_peer(in_close_wait))
    fin_next = (values_at(flow.raw_seq, fin, 0) + end - values_at(flow.seq, fin, 0)) % (1 << 32)
    return {"fin": sent, "fin_next": np.where(fin < 0, np.nan, fin_next), "fin_acked": np.maximum(answered, sent),
            "peer_fin": values_at(flow.time, arrival), "heard_fin": of_peer(_not_repeated(flow, is_fin)),
            "active": active, "alone": alone, "unsure": (late | alone) & ~active | missed & ~of_peer(in_close_wait),
            "acked_row": np.where(answer < 0, -1, np.maximum(answer, fin)), "fin_row": arrival}


def _not_repeated(flow: Flow, is_fin: np.ndarray) -> np.ndarray:
    """By direction, the time of its FIN where it was sent only once, so that it may have arrived; else missing."""
    first, last = (values_at(flow.time, row(flow.direction, is_fin, flow.directions)) for row in (first_row, last_row))
    return np.where(last - first <= COPIES, first, np.nan)


def _acked_since_fin(flow: Flow, is_fin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By direction, the lowest acknowledgment among the FIN and all that was sent after it; `end`: its number + 1.

    Sent after it: segments without data at the number `end`; behind its FIN an end sends at no other. Second result:
    whether one of those stands in the file before any FIN of this direction; then its first copy was not captured.
    """
    behind = flow.has_ack & (flow.length == 0) & (flow.seq == end[flow.direction])
    rows = np.flatnonzero(flow.valid & (is_fin | behind))
    begins_with_fin = values_at(is_fin, first_row(flow.direction, rows, flow.directions), True).astype(bool)
    return lowest(flow.ack, flow.direction, rows, flow.directions), ~begins_with_fin


def _peer_fin_not_captured(flow: Flow, acked: np.ndarray, alone: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By direction whose FIN is `alone` in the capture: the lowest number at which the peer's FIN may end.

    It lies behind all that the peer was seen to send. Where this end's acknowledgments rose after its FIN (`acked`: the
    lowest of them), no limit is known. Second result: whether the capture missed something of the peer: all of it, or
    something that this end acknowledged.
    """
    rows = np.flatnonzero((alone | of_peer(alone))[flow.direction] & flow.valid)
    sent = rows[(flow.length[rows] > 0) | (flow.flags[rows] & SYN > 0)]
    reach, spoke = (highest(flow.seq_end, flow.direction, some, flow.directions) for some in (sent, rows))
    most_acked = highest(flow.ack, flow.direction, rows, flow.directions)
    no_reset = first_row(flow.direction, flow.flags & RST > 0, flow.directions) < 0
    missed = alone & (of_peer(spoke) < most_acked) & ((of_peer(spoke) > NONE) | of_peer(no_reset))
    return np.where(most_acked > acked, NO_LIMIT, of_peer(reach) + 1), missed


def _probed_in_close_wait(flow: Flow, is_probe: np.ndarray) -> np.ndarray:
    """By direction, whether a keep-alive probe acknowledged the peer's FIN: its sender had sent no FIN of its own then.

    An end that had would be in CLOSING, LAST_ACK or TIME_WAIT, where Linux probes nobody (`tcp_keepalive_timer`). A
    probe before the peer's FIN doesn't say so: an end that has shut down its sending side probes in FIN_WAIT_2.
    """
    fin = first_row(flow.direction, flow.valid & (flow.flags & FIN > 0), flow.directions)
    end = of_peer(values_at(flow.seq_end, fin, NO_LIMIT))
    rows = np.flatnonzero(is_probe & flow.valid)
    direction, in_close_wait = flow.direction[rows], np.zeros(flow.directions, bool)
    in_close_wait[direction[(flow.ack[rows] >= end[direction]) & (rows > fin[direction ^ 1])]] = True
    return in_close_wait


def _known_despite_drops(flow: Flow, closing: dict) -> dict:
    """What changes in `closing` where the capture lost frames: a missing FIN may have been among them.

    Then a FIN that is alone was the first only where the peer shows that it had sent none: it acknowledged the FIN with
    an empty segment whose number is not beyond what it was seen to send. Behind a FIN of its own it would be.
    """
    sent = flow.valid & ((flow.length > 0) | (flow.flags & SYN > 0))
    reach = highest(flow.seq_end, flow.direction, sent, flow.directions)
    fin = first_row(flow.direction, flow.valid & (flow.flags & FIN > 0), flow.directions)
    end = of_peer(values_at(flow.seq_end, fin, NO_LIMIT))
    empty = flow.valid & flow.has_ack & (flow.length == 0) & (flow.flags & (SYN | FIN) == 0)
    shows = empty & (flow.ack >= end[flow.direction]) & (flow.seq <= reach[flow.direction])
    in_close_wait = first_row(flow.direction, shows, flow.directions) >= 0
    unsure = closing["alone"] & ~of_peer(in_close_wait)
    return {"unsure": closing["unsure"] | unsure, "doubtful": closing["doubtful"] | unsure | of_peer(unsure),
            "heard_fin": np.full(flow.directions, -np.inf)}


def _seen_open(flow: Flow, in_close_wait: np.ndarray) -> np.ndarray:
    """By direction, whether the capture shows that neither end had closed before it began.

    It does where both sent data, a SYN or a FIN; or where one was in CLOSE_WAIT and the other's FIN was captured.
    """
    sent = flow.valid & ((flow.length > 0) | (flow.flags & (SYN | FIN) > 0))
    sends = first_row(flow.direction, sent, flow.directions) >= 0
    return sends & of_peer(sends) | in_close_wait | of_peer(in_close_wait)


# Resets: RFC 9293 sections 3.5.2 and 3.5.3

def _reset(flow: Flow, accepted: np.ndarray) -> np.ndarray:
    """By connection, the row of the first RST that its receiver accepts and that no new SYN follows; -1: none.

    A SYN that stands in the file behind what it opened is no new one.
    """
    streams, rows = flow.directions // 2, np.flatnonzero(accepted)
    follows = first_row(flow.direction, flow.valid & (flow.flags & SYN == 0) & (flow.seq >= 1), flow.directions)
    syns = np.flatnonzero(flow.flags & (SYN | ACK | RST) == SYN)
    before = follows[flow.direction[syns]]
    last_syn = last_row(flow.stream, syns[(before < 0) | (syns < before)], streams)
    rows = rows[rows > last_syn[flow.stream[rows]]]
    return first_row(flow.stream, rows, streams)


def _comes_before(flow: Flow, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether each row of `one` is earlier than that of `other`; of equal times the order in the file decides.

    A missing row (-1) is later than all others.
    """
    times = [np.where(row < 0, np.inf, values_at(flow.time, row)) for row in (one, other)]
    return (times[0] < times[1]) | (times[0] == times[1]) & (one >= 0) & (one < other)


# What each end sent

def _last_words(flow: Flow) -> dict:
    """By direction, when it sent its last valid segment, and its first and last segment with an ACK or a RST."""
    rows = np.flatnonzero(flow.flags & (ACK | RST))
    first, last = np.full(flow.directions, np.inf), np.full(flow.directions, -np.inf)
    np.minimum.at(first, flow.direction[rows], flow.time[rows])
    np.maximum.at(last, flow.direction[rows], flow.time[rows])
    return {"last": values_at(flow.time, last_row(flow.direction, flow.valid, flow.directions)),
            "first_heard": first, "last_heard": last}


def _payload(flow: Flow) -> np.ndarray:
    """By direction, payload bytes sent, every sequence number counted once and keep-alive bytes not at all."""
    rows = np.flatnonzero(flow.valid & (flow.length > 0))
    begin = np.where(flow.began, 1, flow.seq)
    end = flow.seq + flow.length + (flow.flags & SYN > 0)
    first = lowest(begin, flow.direction, rows, flow.directions)
    last = highest(end, flow.direction, rows, flow.directions)
    spoke = first_row(flow.direction, flow.valid, flow.directions) >= 0
    return np.where(spoke, np.where(first == NO_LIMIT, 0, np.maximum(last - first, 0)), np.nan)


def names_at(places: np.ndarray, names: tuple) -> pd.api.extensions.ExtensionArray:
    """The names at `places`; `<NA>` for None, and where a place is -1."""
    return pd.array(names, "string").take(places, allow_fill=True)
