"""TCP states from packets: what `netstat` would have said, at both ends, at any moment.

The states are those of RFC 9293 section 3.3.2. Both ends are taken to stand where the capture was made.
"""

import numpy as np
import pandas as pd

from helpers.captures import ACK, RST
from helpers.connections import FIN_TIMEOUT, TIMER_SLACK, end_events, segment_flow

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
    stays = pd.concat([_opening(ends), _active_close(ends, time_wait, fin_timeout), _passive_close(ends)])
    stays = _restarted(capture, stays.reset_index(drop=True), time_wait)
    stays = _next_incarnation(_until_reset(stays))
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
    """
    stays = states[states["state"] == state]
    stays = stays if host is None else stays[stays["host"] == host]
    since, until = _bounds(stays)
    if at is not None:
        return int(((since <= at) & (at < until)).sum())
    until = until[np.isfinite(until)]
    steps = pd.concat([pd.Series(1, since), pd.Series(-1, until)]).groupby(level=0).sum().cumsum()
    return steps.rename_axis("time").rename(state)


def _bounds(stays):
    """Begin and end of each stay as float arrays; what the capture doesn't show reaches to infinity."""
    first, last = ("since", "until") if "since" in stays else ("first_seen", "last_seen")
    return stays[first].to_numpy(float, na_value=-np.inf), stays[last].to_numpy(float, na_value=np.inf)


def _stays(ends, where, state, since, until):
    table = ends.loc[where, ["end", "host", "local", "peer", "reset"]].reset_index()
    return table.assign(state=state, since=since[where].to_numpy(), until=until[where].to_numpy())


def _opening(ends):
    """SYN_SENT, SYN_RECEIVED and ESTABLISHED of every end."""
    client, both = ends["end"] == "client", np.fmax(ends["syn_acked"], ends["peer_syn"])
    both = both.where(ends["syn_acked"].notna() & ends["peer_syn"].notna())
    leaves = np.fmin(ends["fin"], ends["peer_fin"])
    sent = client & ends["syn"].notna()
    received = ends["peer_syn"].notna() & ends["syn"].notna() & (ends["peer_syn"] < both.fillna(np.inf))
    begun_before = ends["syn"].isna() & ends["peer_syn"].isna() & ends["first"].notna()
    nothing = pd.Series(np.nan, ends.index)
    return pd.concat([
        _stays(ends, sent, "SYN_SENT", ends["syn"], ends["peer_syn"]),
        _stays(ends, received, "SYN_RECEIVED", ends["peer_syn"], both),
        _stays(ends, both.notna(), "ESTABLISHED", both, leaves),
        _stays(ends, begun_before & ends["host"].isna(), "ESTABLISHED", nothing, leaves)])


def _active_close(ends, time_wait, fin_timeout):
    """FIN_WAIT_1, FIN_WAIT_2, CLOSING and TIME_WAIT of the ends that closed first."""
    active, acked = ends["active"].astype(bool), ends["fin_acked"]
    peer_fin = np.maximum(ends["peer_fin"], ends["fin"])
    waits = active & acked.notna() & peer_fin.notna()
    begins = np.maximum(acked, peer_fin)
    forgotten = (acked + fin_timeout).where(~(ends["last"] > acked + fin_timeout + TIMER_SLACK))
    return pd.concat([
        _stays(ends, active, "FIN_WAIT_1", ends["fin"], np.fmin(acked, peer_fin)),
        _stays(ends, active & (acked < peer_fin.fillna(np.inf)), "FIN_WAIT_2", acked, peer_fin.fillna(forgotten)),
        _stays(ends, active & (peer_fin < acked.fillna(np.inf)), "CLOSING", peer_fin, acked),
        _stays(ends, waits, "TIME_WAIT", begins, begins + time_wait)])


def _passive_close(ends):
    """CLOSE_WAIT and LAST_ACK of the ends that closed second."""
    passive = ~ends["active"].astype(bool) & ends["peer_fin"].notna()
    return pd.concat([
        _stays(ends, passive, "CLOSE_WAIT", ends["peer_fin"], ends["fin"]),
        _stays(ends, passive & ends["fin"].notna(), "LAST_ACK", ends["fin"], ends["fin_acked"])])


def _until_reset(stays):
    """The same stays, ended by the reset where there was one."""
    stays = stays[~(stays["since"] >= stays["reset"])]
    return stays.assign(until=np.fmin(stays["until"], stays["reset"])).reset_index(drop=True)


def _restarted(capture, stays, time_wait):
    """The same stays, each TIME_WAIT restarted by what its end had to answer.

    Linux restarts it on every segment with an ACK that the peer sends (`tcp_timewait_state_process`).
    """
    flow = segment_flow(capture)
    flow = flow[flow["flags"] & (ACK | RST) == ACK]
    last = flow.groupby(["stream", "end"], observed=True)["time"].max()
    peer = stays["end"].map({"client": "server", "server": "client"})
    heard = last.reindex(pd.MultiIndex.from_arrays([stays["stream"], peer])).to_numpy()
    for row in np.flatnonzero((stays["state"] == "TIME_WAIT") & (heard > stays["since"].to_numpy())):
        sent = flow[(flow["stream"] == stays.at[row, "stream"]) & (flow["end"] == peer[row])]
        for time in sent["time"][sent["time"] > stays.at[row, "since"]]:
            if time < stays.at[row, "until"]:
                stays.at[row, "until"] = time + time_wait
    return stays


def _next_incarnation(stays):
    """The same stays, each TIME_WAIT ended where its end took part in a new connection of the same 4-tuple."""
    opened = stays[stays["state"].isin(["SYN_SENT", "SYN_RECEIVED"])]
    begins = opened.groupby(["local", "peer"])["since"].apply(lambda times: np.sort(times.to_numpy()))
    for row in np.flatnonzero(stays["state"] == "TIME_WAIT"):
        times = begins.get((stays.at[row, "local"], stays.at[row, "peer"]), np.empty(0))
        later = times[times > stays.at[row, "since"]]
        if len(later) and later[0] < stays.at[row, "until"]:
            stays.at[row, "until"] = later[0]
    return stays
