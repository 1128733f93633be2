"""TCP states from packets: what `netstat` would have said, at both ends, at any moment.

The states are those of RFC 9293 section 3.3.2. Both ends are taken to stand where the capture was made.
"""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from helpers.captures import ACK, RST
from helpers.connections import FIN_TIMEOUT, end_events, forgotten_at
from helpers.flow import directions

TIME_WAIT = 60.0
STATES = ("SYN_SENT", "SYN_RECEIVED", "ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2", "CLOSING", "TIME_WAIT",
          "CLOSE_WAIT", "LAST_ACK")


def states(capture, time_wait=TIME_WAIT, fin_timeout=FIN_TIMEOUT):
    """One row per stay of one end in one state, in order of stream, host and time.

    Columns: `stream`, `host` (`client`, `server`, missing where no SYN was captured), `local`, `peer`
    (`address:port`), `state` (RFC 9293 name with underscores), `since`, `until` (seconds since the first frame; `<NA>`
    where the capture doesn't show it). `time_wait`: how long TIME_WAIT lasts (Linux: `TCP_TIMEWAIT_LEN`, 60 s; RFC 9293:
    2 MSL = 240 s). `fin_timeout`: when an end in FIN_WAIT_2 is forgotten (Linux: `tcp_fin_timeout`, 60 s).
    """
    ends = end_events(capture).reset_index(level="end").reset_index()
    ends["over"] = np.fmin(ends["reset"], _next_incarnation(ends))
    end, state, since, until = _joined([*_opening(ends), *_active_close(ends, time_wait, fin_timeout), *_passive_close(ends)])
    _restart(capture, ends, end, state, since, until, time_wait)
    over = ends["over"].to_numpy()[end]
    np.fmin(until, over, out=until)
    lasts = np.flatnonzero(~(since >= over) & ~(since > until))
    order = lasts[_by_time(end[lasts], since[lasts])]
    end, since, until = end[order], since[order], until[order]
    names = pd.array(STATES, "str").take(state[order])
    return pd.DataFrame({"stream": ends["stream"].to_numpy()[end], **{
        name: ends[name].array.take(end) for name in ("host", "local", "peer")}, "state": names,
        "since": pd.array(since, "Float64"), "until": pd.array(until, "Float64")})


def _by_time(end, since):
    """The order of the stays, which are in order of `end`, by time too: those without a beginning first."""
    since = np.where(np.isnan(since), -np.inf, since)
    in_time = since[:-1] <= since[1:]
    return slice(None) if (in_time | (np.diff(end) > 0)).all() else np.lexsort((since, end))


def netstat(states, at, host=None):
    """The sockets that exist `at` seconds, as `netstat` lists them: columns `host`, `local`, `peer`, `state`.

    `states`: a table of `states(...)` or the sampled `sockets` of an experiment. `host`: only this end's sockets.
    """
    since, until = _bounds(states)
    now = states[(since <= at) & (at < until)]
    now = now if host is None else now[now["host"] == host]
    return now[["host", "local", "peer", "state"]].reset_index(drop=True)


def count(states, state, host=None, at=None):
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


def _bounds(stays):
    """Begin and end of each stay as float arrays; what the capture doesn't show reaches to infinity."""
    if "since" in stays:
        return stays["since"].to_numpy(float, na_value=-np.inf), stays["until"].to_numpy(float, na_value=np.inf)
    return stays["first_seen"].to_numpy(float), np.nextafter(stays["last_seen"].to_numpy(float), np.inf)


def _joined(stays):
    """The end (its place), the state (its place in `STATES`), since when and until when, as arrays, in order of end.

    `stays`: for each state, which ends were in it (a mask), and since and until when, by end.
    """
    names, where, since, until = zip(*stays)
    rows = np.flatnonzero(np.stack(where, axis=1))
    end, column = np.divmod(rows, len(stays))
    state = np.array([STATES.index(name) for name in names], np.int8)[column]
    return end, state, *(np.stack(times, axis=1).ravel()[rows] for times in (since, until))


def _opening(ends):
    """SYN_SENT, SYN_RECEIVED and ESTABLISHED of every end."""
    known, both = ends["host"].notna(), np.maximum(ends["syn_acked"], ends["peer_syn"])
    leaves = ends["fin"].where(ends["active"], ends["peer_fin"].fillna(ends["fin"]))
    sent = ends["opens"] | (ends["syn"].isna() & ends["peer_syn"].notna() & (ends["end"] == "client"))
    received = (ends["syn"].notna() | both.notna()) & (ends["peer_syn"] < both.fillna(np.inf))
    nothing = pd.Series(np.nan, ends.index)
    return (("SYN_SENT", known & sent, ends["syn"], np.fmin(ends["peer_syn"], leaves)),
            ("SYN_RECEIVED", known & received, ends["peer_syn"], np.fmin(both, leaves)),
            ("ESTABLISHED", known & both.notna(), both, leaves),
            ("ESTABLISHED", ~known & ~ends["doubtful"], nothing, leaves))


def _active_close(ends, time_wait, fin_timeout):
    """FIN_WAIT_1, FIN_WAIT_2, CLOSING and TIME_WAIT of the ends that closed first."""
    active, acked = ends["active"] & ~ends["doubtful"], ends["fin_acked"]
    peer_fin = np.maximum(ends["peer_fin"], ends["fin"])
    begins = np.maximum(acked, peer_fin)
    two = active & (acked < peer_fin.fillna(np.inf))
    return (("FIN_WAIT_1", active, ends["fin"], np.fmin(acked, peer_fin)),
            ("FIN_WAIT_2", two, acked, peer_fin.fillna(forgotten_at(ends, fin_timeout))),
            ("CLOSING", active & (peer_fin < acked.fillna(np.inf)), peer_fin, acked),
            ("TIME_WAIT", active & begins.notna(), begins, begins + time_wait))


def _passive_close(ends):
    """CLOSE_WAIT and LAST_ACK of the ends that closed second."""
    passive = ~ends["active"] & ~ends["doubtful"] & ends["peer_fin"].notna()
    return (("CLOSE_WAIT", passive, ends["peer_fin"], ends["fin"]),
            ("LAST_ACK", passive & ends["fin"].notna(), ends["fin"], ends["fin_acked"]))


def _next_incarnation(ends):
    """When each end takes part in a further connection of the same 4-tuple, which ends whatever is left of this one."""
    takes_part = ends["opens"] | (ends["syn"].notna() & ends["peer_syn"].notna())
    begins = ends["syn"].where(ends["opens"], ends["peer_syn"]).where(takes_part)
    return begins.groupby(ends["sender"]).bfill().groupby(ends["sender"]).shift(-1)


def _restart(capture, ends, end, state, since, until, time_wait):
    """Change `until` of each TIME_WAIT that later segments of its peer prolong, or end.

    Every segment with an ACK restarts it; a RST at the sequence number that it expects ends it, also in a later stream of
    the same 4-tuple: a client whose SYN was answered by an ACK of the old connection resets that. (A RST in the connection
    itself has ended it already.) Source: Linux `tcp_timewait_state_process`.
    """
    waits = np.flatnonzero(state == STATES.index("TIME_WAIT"))
    sender, over, expects = (ends[name].to_numpy() for name in ("sender", "over", "fin_next"))
    last = ends["last_heard"].to_numpy()
    later = ends["first_heard"][::-1].groupby(sender[::-1]).cummin()[::-1].groupby(sender).shift(-1, fill_value=np.inf)
    peer = end[waits] ^ 1
    heard = (last[peer] > since[waits]) | (later.to_numpy()[peer] < np.fmin(until, over[end])[waits])
    segments = _by_sender(capture, sender, peer[heard]) if heard.any() else {}
    for wait in waits[heard]:
        own, other = end[wait], end[wait] ^ 1
        told = SimpleNamespace(since=since[wait], until=until[wait], over=over[own], expects=expects[other], stream=own // 2)
        latest, columns = segments[sender[other]]
        begin = latest.searchsorted(told.since, "right")
        until[wait] = _time_wait_ends(told, zip(*(column[begin:] for column in columns)), time_wait)


def _by_sender(capture, sender, wanted):
    """By sender, of the ends `wanted`: the latest time so far at each segment with an ACK or a RST, and their columns."""
    segments, flags, way = capture.segments, capture._headers["flags"], directions(capture)
    listened = np.isin(sender, sender[wanted])
    rows = np.flatnonzero((flags & (ACK | RST) > 0) & listened[way])
    columns = [column[rows] for column in (segments["time"].to_numpy(), flags, segments["seq"].to_numpy(), way // 2)]
    groups = pd.Series(columns[0]).groupby(sender[way[rows]]).indices
    parts = {name: [column[rows] for column in columns] for name, rows in groups.items()}
    return {name: (np.maximum.accumulate(part[0]), part) for name, part in parts.items()}


def _time_wait_ends(wait, segments, time_wait):
    """When the TIME_WAIT `wait` ends, given its peer's `segments`: (time, flags, sequence number, stream) of each."""
    until = wait.until
    for time, flags, seq, stream in segments:
        if time <= wait.since:
            continue
        if time >= np.fmin(until, wait.over):
            break
        if not flags & RST:
            until = time + time_wait
        elif stream != wait.stream and seq == wait.expects:
            return time
    return until
