"""TCP states from packets: what `netstat` would have said, at both ends, at any moment.

The states are those of RFC 9293 section 3.3.2. Both ends are taken to stand where the capture was made.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers.captures import ACK, RST, Capture
from helpers.connections import FIN_TIMEOUT, end_events, forgotten_at
from helpers.flow import directions

TIME_WAIT = 60.0    # Linux: TCP_TIMEWAIT_LEN
STATES = ("SYN_SENT", "SYN_RECEIVED", "ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2", "CLOSING", "TIME_WAIT",
          "CLOSE_WAIT", "LAST_ACK")
EVENTS = ("syn", "opens", "syn_acked", "peer_syn", "fin", "fin_next", "fin_acked", "peer_fin", "heard_fin", "active",
          "doubtful", "reset", "last", "first_heard", "last_heard", "sender")


class Stays(NamedTuple):
    """Times that ends spent in a state, as arrays: `end` (row in `end_events`), `state` (place in `STATES`), times."""

    end: np.ndarray
    state: np.ndarray
    since: np.ndarray
    until: np.ndarray

    def at(self, rows: np.ndarray) -> "Stays":
        """The stays at `rows`."""
        return Stays(*(column[rows] for column in self))


def states(capture: Capture, time_wait: float = TIME_WAIT, fin_timeout: float = FIN_TIMEOUT) -> pd.DataFrame:
    """One row per stay of one end in one state, in order of stream, host and time.

    Columns: `stream`, `host` (`client`, `server`, missing where no SYN was captured), `local`, `peer`
    (`address:port`), `state` (RFC 9293 name with underscores), `since`, `until` (seconds since the first frame;
    `<NA>` where the capture doesn't show it). `time_wait`: how long TIME_WAIT lasts (Linux: `TCP_TIMEWAIT_LEN`, 60 s;
    RFC 9293: 2 MSL = 240 s). `fin_timeout`: when an end in FIN_WAIT_2 is forgotten (Linux: `tcp_fin_timeout`, 60 s).
    An end is taken to close when it sends its FIN; behind data that could not be sent yet it had closed before.
    """
    table = end_events(capture)
    ends = {name: table[name].to_numpy() for name in EVENTS} | {"known": table["host"].notna().to_numpy()}
    ends["over"] = np.fmin(ends["reset"], _next_connection(ends))
    stays = _put_together([*_opening(ends), *_active_close(ends, time_wait, fin_timeout), *_passive_close(ends)])
    _prolong_time_wait(capture, ends, stays, time_wait)
    over = ends["over"][stays.end]
    np.fmin(stays.until, over, out=stays.until)
    stays = stays.at(np.flatnonzero(~(stays.since >= over) & ~(stays.since > stays.until)))
    stays = stays.at(_by_time(stays))
    return pd.DataFrame({"stream": stays.end // 2, **{
        name: table[name].array.take(stays.end) for name in ("host", "local", "peer")},
        "state": pd.array(STATES, "str").take(stays.state),
        "since": pd.array(stays.since, "Float64"), "until": pd.array(stays.until, "Float64")})


def netstat(states: pd.DataFrame, at: float, host: str | None = None) -> pd.DataFrame:
    """The sockets that exist `at` seconds, as `netstat` lists them: columns `host`, `local`, `peer`, `state`.

    `states`: a table of `states(...)` or the sampled `sockets` of an experiment. `host`: only this end's sockets.
    """
    since, until = _bounds(states)
    now = states[(since <= at) & (at < until)]
    now = now if host is None else now[now["host"] == host]
    return now[["host", "local", "peer", "state"]].reset_index(drop=True)


def count(states: pd.DataFrame, state: str, host: str | None = None, at: float | None = None) -> pd.Series | int:
    """How many ends are in `state`: a step function (Series, index `time` in seconds), or a number `at` a moment.

    `states`: a table of `states(...)` or of an experiment's `sockets`; `host`: `client` or `server` (None: both).
    Ends that were in `state` before the capture began are counted from its first frame.
    """
    stays = states[states["state"] == state]
    stays = stays if host is None else stays[stays["host"] == host]
    since, until = _bounds(stays)
    if at is not None:
        return int(((since <= at) & (at < until)).sum())
    since, until = np.where(np.isfinite(since), since, np.fmin(until, 0.0)), until[np.isfinite(until)]
    times, place = np.unique(np.concatenate([since, until]), return_inverse=True)
    steps = np.bincount(place, np.repeat([1, -1], [len(since), len(until)]), len(times)).astype(np.int64)
    return pd.Series(np.cumsum(steps), pd.Index(times, name="time"), name=state)


def lasting(states: pd.DataFrame, state: str | Sequence[str], end: float) -> pd.DataFrame:
    """The stays in `state` (a name, or several) with two columns more, `lasted` and `over`.

    `lasted`: seconds of the stay before `end`, the moment up to which one looks (a capture's `end`); `<NA>` where its
    beginning isn't shown. `over`: whether it ended by then, so that `lasted` is its whole length and not a part. That
    an end in FIN_WAIT_2 was forgotten is not seen, but told by `fin_timeout`. `states`: as for `netstat`; a stay of
    `sockets` is as long as it was seen, and over if it was not seen at `end` or later.
    """
    rows = states[states["state"].isin(np.atleast_1d(state))]
    since, until = _bounds(rows)
    lasted = np.where(np.isfinite(since), np.fmin(until, end) - since, np.nan)
    begun = since <= end
    return rows.assign(lasted=pd.array(lasted, "Float64"), over=until <= end)[begun]


def _bounds(stays: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Begin and end of each stay, two arrays of floats; -inf and inf where the capture doesn't show them."""
    if "since" in stays:
        return stays["since"].to_numpy(float, na_value=-np.inf), stays["until"].to_numpy(float, na_value=np.inf)
    return stays["first_seen"].to_numpy(float), np.nextafter(stays["last_seen"].to_numpy(float), np.inf)


# The states: for each its name, which ends were in it (a mask), since when, and until when

def _opening(ends: dict) -> tuple:
    """SYN_SENT, SYN_RECEIVED and ESTABLISHED (RFC 9293 section 3.5)."""
    known, syn, peer_syn = ends["known"], ends["syn"], ends["peer_syn"]
    both = np.maximum(ends["syn_acked"], peer_syn)
    leaves = np.where(ends["active"], ends["fin"], _or(ends["peer_fin"], ends["fin"]))
    first = np.arange(len(syn)) % 2 == 0
    sent = ends["opens"] | (np.isnan(syn) & ~np.isnan(peer_syn) & first)
    received = ~(np.isnan(syn) & np.isnan(both)) & (peer_syn < _or(both, np.inf))
    return (("SYN_SENT", known & sent, syn, np.fmin(peer_syn, leaves)),
            ("SYN_RECEIVED", known & received, peer_syn, np.fmin(both, leaves)),
            ("ESTABLISHED", known & ~np.isnan(both), both, leaves),
            ("ESTABLISHED", ~known & ~ends["doubtful"], np.full(len(syn), np.nan), leaves))


def _active_close(ends: dict, time_wait: float, fin_timeout: float) -> tuple:
    """FIN_WAIT_1, FIN_WAIT_2, CLOSING and TIME_WAIT: ends that closed first (RFC 9293 section 3.6, cases 1 and 3)."""
    active, acked = ends["active"] & ~ends["doubtful"], ends["fin_acked"]
    peer_fin = np.maximum(ends["peer_fin"], ends["fin"])
    begins = np.maximum(acked, peer_fin)
    return (("FIN_WAIT_1", active, ends["fin"], np.fmin(acked, peer_fin)),
            ("FIN_WAIT_2", active & (acked < _or(peer_fin, np.inf)), acked,
             _or(peer_fin, forgotten_at(ends, fin_timeout))),
            ("CLOSING", active & (peer_fin < _or(acked, np.inf)), peer_fin, acked),
            ("TIME_WAIT", active & ~np.isnan(begins), begins, begins + time_wait))


def _passive_close(ends: dict) -> tuple:
    """CLOSE_WAIT and LAST_ACK: ends that closed second (RFC 9293 section 3.6, case 2)."""
    passive = ~ends["active"] & ~ends["doubtful"] & ~np.isnan(ends["peer_fin"])
    return (("CLOSE_WAIT", passive, ends["peer_fin"], ends["fin"]),
            ("LAST_ACK", passive & ~np.isnan(ends["fin"]), ends["fin"], ends["fin_acked"]))


def _or(times: np.ndarray, others: np.ndarray | float) -> np.ndarray:
    """The `times`; where there is none, the `others`."""
    return np.where(np.isnan(times), others, times)


def _put_together(stays: list) -> Stays:
    """The stays of all states, in order of end."""
    names, where, since, until = zip(*stays)
    rows = np.flatnonzero(np.stack(where, axis=1))
    end, column = np.divmod(rows, len(stays))
    state = np.array([STATES.index(name) for name in names], np.int8)[column]
    return Stays(end, state, *(_each_from_its_own(times, column, end) for times in (since, until)))


def _each_from_its_own(times: Sequence[np.ndarray], which: np.ndarray, end: np.ndarray) -> np.ndarray:
    """For each stay the time of its `end`, in that array of `times` whose place `which` says."""
    found = np.empty(len(end))
    for number, its_times in enumerate(times):
        rows = which == number
        found[rows] = its_times[end[rows]]
    return found


def _by_time(stays: Stays) -> np.ndarray | slice:
    """The order of the stays, which are in order of end, by time too: those without a beginning first."""
    since = np.where(np.isnan(stays.since), -np.inf, stays.since)
    in_time = since[:-1] <= since[1:]
    in_order = (in_time | (np.diff(stays.end) > 0)).all()
    return slice(None) if in_order else np.lexsort((since, stays.end))


def _next_connection(ends: dict) -> np.ndarray:
    """When the next connection of the same 4-tuple begins at each end: then nothing is left of this one."""
    takes_part = ends["opens"] | ~(np.isnan(ends["syn"]) | np.isnan(ends["peer_syn"]))
    begins = pd.Series(np.where(takes_part, np.where(ends["opens"], ends["syn"], ends["peer_syn"]), np.nan))
    return begins.groupby(ends["sender"]).bfill().groupby(ends["sender"]).shift(-1).to_numpy()


# TIME_WAIT, disturbed: Linux `tcp_timewait_state_process`

def _prolong_time_wait(capture: Capture, ends: dict, stays: Stays, time_wait: float) -> None:
    """Change `until` of each TIME_WAIT that later segments of the peer restart or end.

    Every segment with an ACK restarts it. A RST at the sequence number that it expects ends it, also in a later
    stream of the same 4-tuple: a client whose SYN was answered by an ACK of the old connection resets that. (A RST in
    the connection itself has ended it already.)
    """
    waits = np.flatnonzero(stays.state == STATES.index("TIME_WAIT"))
    sender, over, fin_next = (ends[name] for name in ("sender", "over", "fin_next"))
    peer, heard_first = stays.end[waits] ^ 1, pd.Series(ends["first_heard"])
    later = heard_first[::-1].groupby(sender[::-1]).cummin()[::-1].groupby(sender).shift(-1, fill_value=np.inf)
    heard = (ends["last_heard"][peer] > stays.since[waits]) | (
        later.to_numpy()[peer] < np.fmin(stays.until, over[stays.end])[waits])
    segments = _by_sender(capture, sender, peer[heard]) if heard.any() else {}
    for wait in waits[heard]:
        own, other = stays.end[wait], stays.end[wait] ^ 1
        latest, columns = segments[sender[other]]
        after = latest.searchsorted(stays.since[wait], "right")
        stays.until[wait] = _time_wait_ends(
            zip(*(column[after:] for column in columns)), since=stays.since[wait], until=stays.until[wait],
            over=over[own], expected=fin_next[other], stream=own // 2, time_wait=time_wait)


def _by_sender(capture: Capture, sender: np.ndarray, wanted: np.ndarray) -> dict:
    """For each sender of the ends `wanted`, of its segments with ACK or RST: the latest time so far; their columns."""
    segments, flags, way = capture.segments, capture.headers["flags"], directions(capture)
    listened = np.isin(sender, sender[wanted])
    rows = np.flatnonzero((flags & (ACK | RST) > 0) & listened[way])
    columns = [column[rows] for column in (segments["time"].to_numpy(), flags, segments["seq"].to_numpy(), way // 2)]
    groups = pd.Series(columns[0]).groupby(sender[way[rows]]).indices
    parts = {name: [column[rows] for column in columns] for name, rows in groups.items()}
    return {name: (np.maximum.accumulate(part[0]), part) for name, part in parts.items()}


def _time_wait_ends(segments: zip, since: float, until: float, over: float, expected: float, stream: int,
                    time_wait: float) -> float:
    """When a TIME_WAIT of `stream` ends, given its peer's `segments`: (time, flags, sequence number, stream) of each.

    `until`: when it would end by itself; `over`: when something else ended it; `expected`: the peer's next sequence
    number.
    """
    for time, flags, seq, its_stream in segments:
        if time <= since:
            continue
        if time >= np.fmin(until, over):
            break
        if not flags & RST:
            until = time + time_wait
        elif its_stream != stream and seq == expected:
            return time
    return until
