"""TCP states from packets: what `netstat` would have said, at both ends, at any moment.

The states are those of RFC 9293 section 3.3.2. Both ends are taken to stand where the capture was made.
"""

import numpy as np
import pandas as pd

from helpers.captures import ACK, RST
from helpers.connections import FIN_TIMEOUT, end_events, forgotten_at, segment_flow

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
    ends = end_events(capture).reset_index(level="end")
    ends["expects"] = ends["fin_next"].to_numpy().reshape(-1, 2)[:, ::-1].ravel()
    ends["over"] = np.fmin(ends["reset"], _next_incarnation(ends))
    stays = pd.concat([_opening(ends), _active_close(ends, time_wait, fin_timeout), _passive_close(ends)])
    stays = stays.reset_index(drop=True)
    _restart(capture, ends, stays, time_wait)
    stays["until"] = np.fmin(stays["until"], stays["over"])
    stays = stays[~(stays["since"] >= stays["over"]) & ~(stays["since"] > stays["until"])]
    stays = stays.sort_values(["stream", "end", "since"], kind="stable", na_position="first", ignore_index=True)
    stays[["since", "until"]] = stays[["since", "until"]].astype("Float64")
    return stays[["stream", "host", "local", "peer", "state", "since", "until"]]


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
    steps = pd.concat([pd.Series(1, since), pd.Series(-1, until)]).groupby(level=0).sum().cumsum()
    return steps.rename_axis("time").rename(state)


def _bounds(stays):
    """Begin and end of each stay as float arrays; what the capture doesn't show reaches to infinity."""
    if "since" in stays:
        return stays["since"].to_numpy(float, na_value=-np.inf), stays["until"].to_numpy(float, na_value=np.inf)
    return stays["first_seen"].to_numpy(float), np.nextafter(stays["last_seen"].to_numpy(float), np.inf)


def _stays(ends, where, state, since, until):
    table = ends.loc[where, ["end", "host", "local", "peer", "over", "expects"]].reset_index()
    return table.assign(state=state, since=since[where].to_numpy(), until=until[where].to_numpy())


def _opening(ends):
    """SYN_SENT, SYN_RECEIVED and ESTABLISHED of every end."""
    known, both = ends["host"].notna(), np.maximum(ends["syn_acked"], ends["peer_syn"])
    leaves = ends["fin"].where(ends["active"], ends["peer_fin"])
    sent = ends["opens"] | (ends["syn"].isna() & ends["peer_syn"].notna() & (ends["end"] == "client"))
    received = (ends["syn"].notna() | both.notna()) & (ends["peer_syn"] < both.fillna(np.inf))
    nothing = pd.Series(np.nan, ends.index)
    return pd.concat([
        _stays(ends, known & sent, "SYN_SENT", ends["syn"], np.fmin(ends["peer_syn"], leaves)),
        _stays(ends, known & received, "SYN_RECEIVED", ends["peer_syn"], np.fmin(both, leaves)),
        _stays(ends, known & both.notna(), "ESTABLISHED", both, leaves),
        _stays(ends, ~known & ~ends["doubtful"], "ESTABLISHED", nothing, leaves)])


def _active_close(ends, time_wait, fin_timeout):
    """FIN_WAIT_1, FIN_WAIT_2, CLOSING and TIME_WAIT of the ends that closed first."""
    active, acked = ends["active"] & ~ends["doubtful"], ends["fin_acked"]
    peer_fin = np.maximum(ends["peer_fin"], ends["fin"])
    begins = np.maximum(acked, peer_fin)
    two = active & (acked < peer_fin.fillna(np.inf))
    return pd.concat([
        _stays(ends, active, "FIN_WAIT_1", ends["fin"], np.fmin(acked, peer_fin)),
        _stays(ends, two, "FIN_WAIT_2", acked, peer_fin.fillna(forgotten_at(ends, fin_timeout))),
        _stays(ends, active & (peer_fin < acked.fillna(np.inf)), "CLOSING", peer_fin, acked),
        _stays(ends, active & begins.notna(), "TIME_WAIT", begins, begins + time_wait)])


def _passive_close(ends):
    """CLOSE_WAIT and LAST_ACK of the ends that closed second."""
    passive = ~ends["active"] & ~ends["doubtful"] & ends["peer_fin"].notna()
    return pd.concat([
        _stays(ends, passive, "CLOSE_WAIT", ends["peer_fin"], ends["fin"]),
        _stays(ends, passive & ends["fin"].notna(), "LAST_ACK", ends["fin"], ends["fin_acked"])])


def _next_incarnation(ends):
    """When each end takes part in a further connection of the same 4-tuple, which ends whatever is left of this one."""
    takes_part = ends["opens"] | (ends["syn"].notna() & ends["peer_syn"].notna())
    begins = ends["syn"].where(ends["opens"], ends["peer_syn"]).where(takes_part)
    group = [ends["local"], ends["peer"]]
    return begins.groupby(group).bfill().groupby(group).shift(-1)


def _restart(capture, ends, stays, time_wait):
    """Change `until` of each TIME_WAIT that later segments of its peer prolong, or end.

    Every segment with an ACK restarts it; a RST at the sequence number that it expects ends it, also in a later stream of
    the same 4-tuple: a client whose SYN was answered by an ACK of the old connection resets that. (A RST in the connection
    itself has ended it already.) Source: Linux `tcp_timewait_state_process`.
    """
    flow = segment_flow(capture).sort_values("row")
    heard = flow[flow["flags"] & (ACK | RST) > 0]
    sender = (ends["local"] + " " + ends["peer"]).to_numpy()[heard["direction"]]
    waits = stays[stays["state"] == "TIME_WAIT"]
    peer = waits["peer"] + " " + waits["local"]
    waits = waits[peer.map(heard["time"].groupby(sender).max()) > waits["since"]]
    wanted = pd.Index(sender).isin(peer[waits.index])
    later, until = _by_sender(heard[wanted], sender[wanted]), []
    for wait, name in zip(waits.itertuples(), peer[waits.index]):
        latest, columns = later[name]
        begin = latest.searchsorted(wait.since, "right")
        until.append(_time_wait_ends(wait, zip(*(column[begin:] for column in columns)), time_wait))
    stays.loc[waits.index, "until"] = until


def _by_sender(heard, sender):
    """For each sender: the latest time so far at each of its segments, and their times, flags, numbers and streams."""
    columns = [heard[name].to_numpy() for name in ("time", "flags", "raw_seq", "stream")]
    parts = {name: [column[rows] for column in columns] for name, rows in heard.groupby(sender).indices.items()}
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
