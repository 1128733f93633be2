"""What a diagnosis needs to know of each connection: one row each, beside `helpers.connections`."""

from typing import Protocol

import numpy as np
import pandas as pd

from helpers.captures import ACK, RST, SYN, Capture
from helpers.connections import end_events
from helpers.flow import segment_flow

TLS_HANDSHAKE = b"\x16\x03"      # RFC 8446 section 5.1: content type and legacy version of the first record


class Tables(Protocol):
    """What is diagnosed: an `Incident` of the report or an `Experiment` of the course."""

    capture: Capture
    connections: pd.DataFrame
    exchanges: pd.DataFrame
    states: pd.DataFrame


def per_connection(tables: Tables) -> pd.DataFrame:
    """One row per connection with a known client, index `stream`: the columns of `connections`, and

    `requests` (HTTP exchanges), `answered` (of them, those with a whole answer), `reset_by` (`client`, `server`: who
    sent the RST that ended it), `reset_frame`, `syns` (of the client), `syn_answered`, `server_fin` and `client_fin`
    (seconds), `client_after_fin` (bytes that the client sent after it had got the server's FIN), `in_flight` (bytes of
    the server not yet acknowledged when it ended by a reset), `tls` (whether the client's first bytes are a TLS
    handshake), `repeating`, `repeated`, `silent_since`, `idle`, `heard` (see `_unanswered`), `close_wait` and
    `close_wait_host` (the longest stay there, in seconds, within the capture).
    """
    capture, table = tables.capture, tables.connections
    ends = end_events(capture).droplevel("end")
    client, server = ends.iloc[::2], ends.iloc[1::2]
    flow = segment_flow(capture)
    facts = table.assign(**_requests(tables.exchanges, table.index), client_fin=client["fin"], server_fin=server["fin"],
                         **_opening(flow, table.index), **_resets(flow, table), **_last_bytes(flow, server, table),
                         tls=_is_tls(capture, table), **_unanswered(flow, table.index),
                         **_close_wait(tables, flow))
    return facts[table["client"].notna()]


def _requests(exchanges, streams):
    by_stream = exchanges.groupby("stream")
    return {"requests": by_stream.size().reindex(streams, fill_value=0),
            "answered": by_stream["finished"].count().reindex(streams, fill_value=0)}


def _opening(flow, streams):
    """How many SYNs the client sent, and whether anything but a RST came back."""
    syn = (flow["flags"] & (SYN | ACK | RST)) == SYN
    answer = (flow["end"] == "server") & (flow["flags"] & RST == 0)
    return {"syns": syn.groupby(flow["stream"]).sum().reindex(streams, fill_value=0),
            "syn_answered": answer.groupby(flow["stream"]).any().reindex(streams, fill_value=False)}


def _resets(flow, table):
    """Who sent the RST at the time the connection ended by one; a tie is the first of them in the file."""
    rows = flow[(flow["flags"] & RST) > 0]
    ended = table["closed"].where(table["ending"] == "reset").reindex(rows["stream"])
    ended = ended.to_numpy(dtype=float, na_value=np.nan)
    rows = rows[rows["time"].to_numpy() == ended].sort_values("row", kind="stable").reset_index()
    first = rows.drop_duplicates("stream").set_index("stream")
    return {"reset_by": first["end"].astype("string").reindex(table.index),
            "reset_frame": first["frame"].astype("Int64").reindex(table.index)}


def _last_bytes(flow, server, table):
    """What the client sent after the server's FIN had come; what of the server's was in flight at the reset."""
    got_fin = server["fin"].reindex(flow["stream"]).to_numpy()
    is_client = (flow["end"] == "client").to_numpy()
    late = is_client & (flow["length"] > 0) & (flow["time"] > got_fin)
    closed = table["closed"].reindex(flow["stream"]).to_numpy(dtype=float, na_value=np.inf)
    before = ((flow["time"] <= closed) & flow["valid"]).to_numpy()
    sent = flow["seq_end"].where(before & ~is_client).groupby(flow["stream"]).max()
    acked = flow["ack"].where(before & is_client).groupby(flow["stream"]).max()     # `valid`: no RST
    after = flow["length"].where(late, 0).groupby(flow["stream"]).sum()
    return {"client_after_fin": after.reindex(table.index, fill_value=0),
            "in_flight": (sent - acked).clip(lower=0).reindex(table.index)}


def _is_tls(capture, table):
    """Whether the first payload of the client begins as a TLS handshake does, whatever the port."""
    segments = capture.segments
    data = segments[(segments["host"] == "client") & (segments["length"] > 0)]
    first = data.reset_index().drop_duplicates("stream").set_index("stream")["frame"]
    found = {stream: capture.payload(frame)[:2] == TLS_HANDSHAKE for stream, frame in first.items()}
    return pd.Series(found, dtype="boolean").reindex(table.index)


def _close_wait(tables, flow):
    """The longest stay of either end in CLOSE_WAIT, within the capture; not of one that still sent data there."""
    stays = tables.states[tables.states["state"] == "CLOSE_WAIT"]
    until = stays["until"].fillna(tables.capture.end).clip(upper=tables.capture.end)
    stays = stays.assign(close_wait=until - stays["since"], close_wait_host=stays["host"])
    spoke = flow[flow["length"] > 0].groupby(["stream", "end"], observed=True)["time"].max()
    last = spoke.reindex(pd.MultiIndex.from_frame(stays[["stream", "host"]])).to_numpy()
    stays = stays[~(last > stays["since"].to_numpy(float, na_value=np.nan))]
    stays = stays.sort_values("close_wait", kind="stable").drop_duplicates("stream", keep="last").set_index("stream")
    return {name: stays[name].reindex(tables.connections.index) for name in ("close_wait", "close_wait_host")}


def _unanswered(flow, streams):
    """The data that an end sent again and again while nothing at all came from its peer.

    `repeating`: which end; `repeated`: how often after the first time; `silent_since`: when it first sent them;
    `idle`: how long nothing had been sent before; `heard`: how many segments of the peer had come before.
    """
    parts = []
    for end in ("client", "server"):
        here, heard = flow["end"] == end, (flow["end"] != end) & (flow["flags"] & RST == 0)
        flow_heard = heard.groupby(flow["stream"]).cumsum()         # the same for copies between which nothing came
        mine = flow.assign(heard=flow_heard)[here & (flow["length"] > 0)]
        times = mine.groupby(["stream", "seq", "heard"])["time"].agg(["size", "min"]).reset_index()
        most = times.sort_values("size", kind="stable").drop_duplicates("stream", keep="last").set_index("stream")
        parts.append(pd.DataFrame({"repeating": end, "repeated": most["size"] - 1, "silent_since": most["min"],
                                   "heard": most["heard"]}))
    worst = pd.concat(parts).sort_values("repeated", kind="stable")
    worst = worst[~worst.index.duplicated(keep="last")].reindex(streams)
    earlier = flow[flow["time"] < worst["silent_since"].reindex(flow["stream"]).to_numpy()]
    worst["idle"] = worst["silent_since"] - earlier.groupby("stream")["time"].max().reindex(streams)
    return {name: worst[name] for name in worst} | {"repeated": worst["repeated"].fillna(0)}
