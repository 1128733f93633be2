"""What a diagnosis needs to know of each connection: one row each, beside `helpers.connections`."""

from typing import Protocol

import numpy as np
import pandas as pd

from helpers.captures import ACK, FIN, RST, SYN, Capture, more_than_once, ttls
from helpers.connections import addresses, end_events, keepalive_probes
from helpers.flow import NONE, handshakes, highest, segment_flow
from helpers.states import lasting

# How a TLS record of an alert begins: its type in the clear (RFC 5246), or sealed, an alert's size (RFC 8446 section 5)
ALERTS = (b"\x15\x03", b"\x17\x03\x03\x00\x13")
# What the rules ask of all segments
FLOW = ("stream", "time", "flags", "length", "window", "direction", "has_ack", "seq", "ack", "valid", "fin_before")


def flow_of(capture: Capture) -> pd.DataFrame:
    """All segments as `helpers.flow.segment_flow` has them, with the columns `FLOW`."""
    return segment_flow(capture, columns=FLOW)


class Tables(Protocol):
    """What is diagnosed: an `Incident` of the report or an `Experiment` of the course."""

    capture: Capture
    connections: pd.DataFrame
    exchanges: pd.DataFrame
    states: pd.DataFrame


def per_connection(tables: Tables) -> pd.DataFrame:
    """One row per connection whose SYN was captured, index `stream`: the columns of `connections`, and

    `address` (of the client); `requests` (HTTP exchanges), `answered` (of them, those with a whole answer),
    `asked_last` (when the last request began), `answer_began` (when the server next sent data), `finished_before` (when
    the answer before it was whole), `finished_last` (when the last was);
    `syns` (of the client), `repeated_syns_for` (seconds from the first to the last), `only_syns` (neither end sent
    anything but those and RSTs); `client_fin`, `server_fin` (seconds); `reset_frame` (of the RST that ended it),
    `client_reset` (whether the client sent any); `tls`, `alert_after_fin` (the
    client's first data after it had got the server's FIN are a TLS alert); `close_wait`, `close_wait_host` (the longest
    stay there, in seconds, within the capture); `repeating`, `repeated`, `repeated_for`, `silent_since`, `idle`,
    `heard`: see `_unanswered`; `fin_repeating` and the like: see `_fin_unanswered`; `reset_ttl` and `own_ttl`
    (IPv4's TTL of that RST, and of all other segments of the end that it names; missing where it can't be told, or they
    have several); `probes_in_vain`, `probes_since`, `probes_for`: see `_in_vain`.
    """
    capture, table = tables.capture, tables.connections
    ends, flow = end_events(capture).droplevel("end"), flow_of(capture)
    facts = table.assign(address=addresses(table["client"]),
                         client_fin=ends["fin"].iloc[::2], server_fin=ends["fin"].iloc[1::2],
                         **_requests(tables.exchanges, flow, table.index), **_opening(flow, table.index),
                         **_resets(flow, table, ends), tls=table.index.isin(handshakes(capture).index),
                         **_unanswered(flow, table.index), **_fin_unanswered(flow, table.index),
                         **_close_wait(tables, flow), **_in_vain(capture, flow, table.index))
    facts = facts.assign(**_ttls(capture, facts))
    facts = facts.assign(alert_after_fin=_alert_after_fin(capture, flow, facts))
    return facts[(table["roles"] == "syn").fillna(False)]


def _requests(exchanges, flow, streams):
    by_stream = exchanges.groupby("stream")
    asked, finished = by_stream["requested"].max(), exchanges["finished"]
    data = flow.loc[(flow["end"] == "server") & (flow["length"] > 0), ["stream", "time"]]
    after = data[data["time"] > asked.reindex(data["stream"]).to_numpy(float, na_value=np.nan)]
    before = finished.where(exchanges["requested"] < exchanges["stream"].map(asked))
    return {"requests": by_stream.size().reindex(streams, fill_value=0),
            "answered": by_stream["finished"].count().reindex(streams, fill_value=0),
            "asked_last": asked.reindex(streams),
            "answer_began": after.groupby("stream")["time"].min().reindex(streams),
            "finished_before": before.groupby(exchanges["stream"]).max().reindex(streams),
            "finished_last": by_stream["finished"].max().reindex(streams)}


def _opening(flow, streams):
    """The client's SYNs, and whether anything else was sent but RSTs."""
    syn = (flow["flags"] & (SYN | ACK | RST)) == SYN
    other = ~syn & (flow["flags"] & RST == 0)
    times = flow[syn].groupby("stream")["time"]
    return {"syns": syn.groupby(flow["stream"]).sum().reindex(streams, fill_value=0),
            "repeated_syns_for": (times.max() - times.min()).reindex(streams, fill_value=0.0),
            "only_syns": ~other.groupby(flow["stream"]).any().reindex(streams, fill_value=True)}


def _resets(flow, table, ends):
    """The RST that ended the connection, and whether the client sent any."""
    rows = flow.loc[(flow["flags"] & RST) > 0, ["stream", "end"]]
    frames = ends["reset_frame"].iloc[::2].astype("Int64").where(table["reset_by"].notna())
    return {"reset_frame": frames, "client_reset": table.index.isin(rows.loc[rows["end"] == "client", "stream"])}


def _ttls(capture, facts):
    """The TTL of the RST that ended the connection, and the one of all other segments of the end that it names."""
    by = facts["reset_by"].dropna()
    places = np.flatnonzero(capture.segments["stream"].isin(by.index))
    rows = capture.segments[["stream", "host", "flags"]].iloc[places].assign(ttl=ttls(capture, places))
    rows = rows[(rows["host"].astype("string") == rows["stream"].map(by)).fillna(False) & (rows["ttl"] > 0)]
    own = rows[~rows["flags"].str.contains("R")].groupby("stream")["ttl"].agg(["min", "max"])
    return {"reset_ttl": pd.Series(rows["ttl"].reindex(facts["reset_frame"]).to_numpy(float), facts.index),
            "own_ttl": own["min"].where(own["min"] == own["max"]).reindex(facts.index)}


def _in_vain(capture, flow, streams):
    """Keep-alive probes that are the last of a connection, but for RSTs: how many, the first's time, for how long."""
    probe = keepalive_probes(capture)
    if not probe.any():
        return {"probes_in_vain": 0, "probes_since": np.nan, "probes_for": 0.0}
    rows = flow[flow["flags"] & RST == 0]
    probe = probe.reindex(rows.index).to_numpy(bool)
    last = rows[~probe].groupby("stream")["time"].max()
    after = rows[probe & (rows["time"] > rows["stream"].map(last)).to_numpy()].groupby("stream")["time"]
    return {"probes_in_vain": after.size().reindex(streams, fill_value=0), "probes_since": after.min().reindex(streams),
            "probes_for": (after.max() - after.min()).reindex(streams, fill_value=0.0)}


def _alert_after_fin(capture, flow, facts):
    """Whether the first data that the client sent after the server's FIN are a TLS alert, as far as they were kept."""
    tls = facts[facts["tls"] & facts["server_fin"].notna()]
    if tls.empty:
        return False
    rows = flow[(flow["end"] == "client") & (flow["length"] > 0) & flow["stream"].isin(tls.index)]
    late = rows[rows["time"] > facts["server_fin"].reindex(rows["stream"]).to_numpy()].reset_index()
    first = late.drop_duplicates("stream").set_index("stream")["frame"]
    return facts.index.isin([stream for stream, frame in first.items() if capture.payload(frame).startswith(ALERTS)])


def _close_wait(tables, flow):
    """The longest stay of either end in CLOSE_WAIT, within the capture.

    Not of one that still sent data there, and not where the peer has not acknowledged all of its data: its FIN may
    wait behind them, unsent, while its program has long closed.
    """
    stays = lasting(tables.states, "CLOSE_WAIT", tables.capture.end)
    stays = stays.assign(close_wait=stays["lasted"], close_wait_host=stays["host"])
    way = _direction(stays["stream"], stays["host"])
    spoke = flow.loc[flow["length"] > 0, ["direction", "time"]].groupby("direction")["time"].max()
    busy = spoke.reindex(way).to_numpy() > stays["since"].to_numpy(float, na_value=np.nan)
    stays = stays[~busy & ~(_sent(flow, way) > _acknowledged(flow, way))]
    stays = stays.sort_values("close_wait", kind="stable").drop_duplicates("stream", keep="last").set_index("stream")
    return {name: stays[name].reindex(tables.connections.index) for name in ("close_wait", "close_wait_host")}


def _direction(streams, hosts):
    """The number of the direction in which an end sends: see `helpers.flow.groups`; -1 where the end is not known."""
    return np.where(hosts.isna(), -1, 2 * streams.to_numpy() + (hosts == "server").to_numpy(bool, na_value=False))


def _sent(flow, ways):
    """For each direction in `ways`, the number behind the last byte of data that was sent; missing where none was."""
    rows = (flow["valid"] & (flow["length"] > 0)).to_numpy()
    return _highest(flow["seq"].to_numpy() + flow["length"].to_numpy(), flow["direction"].to_numpy(), rows, ways)


def _acknowledged(flow, ways):
    """For each direction in `ways`, the highest number of its data that the peer acknowledged; missing: none."""
    rows = (flow["valid"] & flow["has_ack"]).to_numpy()
    return _highest(flow["ack"].to_numpy(), flow["direction"].to_numpy() ^ 1, rows, ways)


def _highest(values, direction, rows, ways):
    """The highest of `values` among `rows` of each of `ways`, which are directions; missing: none, or way -1."""
    by_direction = highest(values, direction, rows, int(max(direction.max(initial=-1), ways.max(initial=-1))) + 2)
    found = np.where(ways < 0, NONE, by_direction[ways])
    return np.where(found == NONE, np.nan, found)


def _unanswered(flow, streams):
    """The data that an end sent again and again, while its peer sent nothing and never acknowledged them.

    `repeating`: which end; `repeated`: how often after the first time; `repeated_for`: seconds from the first to the
    last of them; `silent_since`: when it first sent them; `idle`: how long nothing had been sent before; `heard`: how
    many segments of the peer had come before. A single byte may be a keep-alive or window probe, and does not count.
    """
    worst = _repeated(flow, flow["length"] > 1, flow["flags"] & RST == 0, streams)
    earlier = flow[flow["time"] < worst["silent_since"].reindex(flow["stream"]).to_numpy()]
    worst["idle"] = worst["silent_since"] - earlier.groupby("stream")["time"].max().reindex(streams)
    return {name: worst[name] for name in worst}


def _fin_unanswered(flow, streams):
    """The FIN without data that an end sent again and again, and after which its peer sent nothing, not even a RST.

    `fin_repeating`, `fin_repeated`, `fin_repeated_for`, `fin_since`: as `_unanswered` has them of data.
    """
    anything = pd.Series(True, flow.index)
    worst = _repeated(flow, (flow["flags"] & FIN > 0) & (flow["length"] == 0), anything, streams)
    latest = flow.groupby("direction")["time"].max().reindex(_direction(streams, worst["repeating"]) ^ 1).to_numpy()
    worst = worst[~(latest > worst["silent_since"].to_numpy())].reindex(streams)
    return {"fin_repeating": worst["repeating"], "fin_repeated": worst["repeated"],
            "fin_repeated_for": worst["repeated_for"], "fin_since": worst["silent_since"]}


def _repeated(flow, sent, answers, streams):
    """Of the segments `sent`, the one that an end sent most often between two `answers`, and that none acknowledged.

    `sent`, `answers`: which rows of `flow`. Columns: see `_unanswered`; `repeated` is 0 where nothing was sent again,
    and the others are `<NA>` there.
    """
    what = flow.loc[sent & flow["valid"], ["direction", "seq"]]      # as one number first, which is looked up fast
    repeated = what[more_than_once(what["seq"].to_numpy() * (1 << 20) + what["direction"].to_numpy())]
    again = flow["stream"].isin(repeated.loc[repeated.duplicated(), "direction"] // 2)  # few connections have any
    if not again.any():
        return pd.DataFrame({"repeating": pd.Series(pd.NA, streams, "str"), "repeated": 0.0} | dict.fromkeys(
            ("silent_since", "repeated_for", "heard"), np.nan), streams)
    flow, sent, answers = flow[again], sent[again], answers[again]
    parts = []
    for end in ("client", "server"):
        heard = ((flow["end"] != end) & answers).groupby(flow["stream"]).cumsum()
        mine = flow.assign(heard=heard)[(flow["end"] == end) & sent & flow["valid"]]
        times = mine.groupby(["stream", "seq", "heard"])["time"].agg(["size", "min", "max"]).reset_index()
        reached = _acknowledged(flow, (2 * times["stream"] + (end == "server")).to_numpy())
        times = times[~(times["seq"].to_numpy() < reached)]
        most = times.sort_values("size", kind="stable").drop_duplicates("stream", keep="last").set_index("stream")
        parts.append(pd.DataFrame({"repeating": end, "repeated": most["size"] - 1, "silent_since": most["min"],
                                   "repeated_for": most["max"] - most["min"], "heard": most["heard"]}))
    worst = pd.concat(parts).sort_values("repeated", kind="stable")
    worst = worst[~worst.index.duplicated(keep="last")].reindex(streams)
    return worst.assign(repeated=worst["repeated"].fillna(0))
