"""TCP connections from segments: `connections(capture)` gives one row per connection.

Times are those at which the capture saw a segment: both ends are taken to stand where the capture was made.
"""

import numpy as np
import pandas as pd

from helpers.captures import ACK, FIN, RST, SYN

HOSTS = ("client", "server")
FIN_TIMEOUT = 60.0
TIMER_SLACK = 2.0


def connections(capture, fin_timeout=FIN_TIMEOUT):
    """One row per TCP connection of `capture`, index `stream`.

    Columns: `client`, `server` (`address:port`), `opened` (first SYN), `established` (the handshake's ACK),
    `closed` (both FINs acknowledged, or the reset), all in seconds since the first frame; `client_bytes`,
    `server_bytes` (payload each end sent, every byte counted once), `keepalive_probes`,
    `ending` (`fin`, `reset`, `open`), `closer` and `time_wait` (`client`, `server`, `both`; `time_wait` also `none`).
    What the capture can't decide is `<NA>`. `fin_timeout`: seconds after which an end in FIN_WAIT_2 is forgotten.

    Source: RFC 9293 sections 3.5 and 3.6; the active closer is an end whose first FIN doesn't acknowledge the
    other end's FIN.
    """
    ends = end_events(capture)
    client, server = (ends.xs(host, level="end") for host in HOSTS)
    known = client["host"].notna()
    probes = keepalive_probes(capture).groupby(capture.segments["stream"]).sum()
    reset = client["reset"].fillna(server["reset"])
    both_acked = np.fmax(client["fin_acked"], server["fin_acked"]).where(
        client["fin_acked"].notna() & server["fin_acked"].notna())
    fin = client["fin"].notna() & server["fin"].notna() & ~(reset < both_acked.fillna(np.inf))
    ending = np.select([fin, reset.notna()], ["fin", "reset"], "open")
    table = pd.DataFrame({
        "client": client["local"].where(known), "server": server["local"].where(known),
        "opened": client["syn"].where(known), "established": server["syn_acked"].where(known),
        "closed": both_acked.where(fin, reset), "client_bytes": client["bytes"].where(known),
        "server_bytes": server["bytes"].where(known), "keepalive_probes": probes, "ending": pd.array(ending, "string"),
        "closer": _who(client["active"], server["active"], None),
        "time_wait": _time_wait(client, server, ending, capture.end, fin_timeout)})
    for name in ("closer", "time_wait"):
        table[name] = table[name].mask(~known & table[name].isin(HOSTS))
    return _nullable(table)


def keepalive_probes(capture):
    """True for each segment that is a TCP keep-alive probe, index `frame`.

    A probe has at most one byte, a sequence number one below the next expected, no SYN, FIN or RST; its sender has
    sent no FIN and has all its data acknowledged, and the peer's window is open (else it is a window probe).
    Source: RFC 9293 section 3.8.4.
    """
    flow = segment_flow(capture)
    probe = ((flow["length"] <= 1) & (flow["flags"] & (SYN | FIN | RST) == 0) & (flow["seq"] == flow["next"] - 1)
             & ~flow["fin_before"] & (flow["acked"] >= flow["next"]) & (flow["peer_window"] > 0))
    return probe.reindex(capture.segments.index).rename("probe")


def end_events(capture):
    """When each end of each connection opened and closed: index `stream`, `end`; times in seconds.

    Columns: `host` (as `end`, but missing where no SYN was captured and `end` is arbitrary); `local`, `peer`
    (`address:port`); `syn` (own first SYN), `peer_syn` (arrival of the other end's),
    `syn_acked`; `fin` (own first FIN), `peer_fin` (arrival of the other end's), `fin_acked`; `reset` (a RST
    ended this end, sent or received); `active` (first FIN doesn't acknowledge the peer's); `first`,
    `last` (first and last segment sent); `bytes` (payload bytes sent).
    """
    flow = segment_flow(capture)
    streams = pd.RangeIndex(int(flow["stream"].max()) + 1 if len(flow) else 0, name="stream")
    sent = [flow[flow["end"] == host] for host in HOSTS]
    tables = [_end(sent[number], sent[1 - number], streams) for number in (0, 1)]
    first = capture.segments.assign(end=flow["end"]).drop_duplicates("stream").set_index("stream").sort_index()
    src, dst = _socket(first["src"], first["sport"]), _socket(first["dst"], first["dport"])
    for host, table in zip(HOSTS, tables):
        table["host"] = pd.array(np.where(first["host"].notna(), host, None), "string")
        table["local"] = src.where(first["end"] == host, dst)
        table["peer"] = dst.where(first["end"] == host, src)
    return pd.concat(dict(zip(HOSTS, tables)), names=["end"]).swaplevel().sort_index()


def segment_flow(capture):
    """Segments in stream order with what each sender had sent, and its peer had acknowledged, before.

    `seq`, `ack`: relative to the first sequence number of their direction, never wrapping. `next`: next sequence
    number expected of this sender before the segment; `acked`: highest ack by the peer so far; `end`: the sender,
    `client` or `server` (arbitrary, but the same throughout, in a stream of which no SYN was captured).
    """
    segments, headers = capture.segments, capture._headers
    flow = pd.DataFrame({
        "stream": segments["stream"].to_numpy(), "side": headers["side"],
        "end": pd.Categorical.from_codes(
            np.where(segments["host"].isna(), headers["side"], segments["host"].cat.codes), HOSTS), "time": segments["time"].to_numpy(), "flags": headers["flags"],
        "length": segments["length"].to_numpy(), "window": headers["window"]}, index=segments.index)
    direction = (flow["stream"] * 2 + flow["side"]).to_numpy()
    raw_seq, raw_ack = segments["seq"].to_numpy(), segments["ack"].to_numpy()
    has_ack = (headers["flags"] & ACK > 0) & (headers["flags"] & RST == 0)
    seq, base = _unwrap(raw_seq, direction, np.ones(len(flow), bool))
    ack, first_ack = _unwrap(raw_ack, direction, has_ack)
    opposite = base[direction ^ 1] if len(flow) else base
    anchor = (first_ack[direction] - opposite + (1 << 31)) % (1 << 32) - (1 << 31) if len(flow) else 0
    flow["seq"], flow["has_ack"] = seq, has_ack
    flow["ack"] = np.where(has_ack, ack + anchor, np.iinfo(np.int64).min)
    control = (headers["flags"] & SYN > 0).astype(int) + (headers["flags"] & FIN > 0)
    flow["seq_end"] = flow["seq"] + flow["length"] + control
    return _running(flow.sort_values("stream", kind="stable"))


def _unwrap(raw, direction, valid):
    """`raw` (uint32) as int64 counted from each direction's first valid value; and those first values."""
    order = np.flatnonzero(valid)[np.argsort(direction[valid], kind="stable")]
    first = np.zeros((int(direction.max()) | 1) + 1 if len(direction) else 0, np.int64)
    result = np.zeros(len(raw), np.int64)
    if not len(order):
        return result, first
    value, group = raw[order].astype(np.int64), direction[order]
    step = (np.diff(value, prepend=value[0]) + (1 << 31)) % (1 << 32) - (1 << 31)
    new = np.r_[True, group[1:] != group[:-1]]
    step[new] = 0
    total = np.cumsum(step)
    result[order] = total - np.repeat(total[new], np.diff(np.r_[np.flatnonzero(new), len(group)]))
    first[group[new]] = value[new]
    return result, first


def _running(flow):
    """Add to `flow` (in stream order) what was known just before each segment: next, acked, fin_before, peer_window."""
    lowest = np.iinfo(np.int64).min
    group, side = flow["stream"], flow["side"]
    ends, acks, fins, windows = {}, {}, {}, {}
    usable = flow["flags"] & RST == 0
    for number in (0, 1):
        mine = (side == number) & usable
        ends[number] = flow["seq_end"].where(mine, lowest).groupby(group).cummax().groupby(group).shift(fill_value=lowest)
        acks[number] = flow["ack"].where(mine & flow["has_ack"], lowest).groupby(group).cummax()
        fins[number] = ((flow["flags"] & FIN > 0) & mine).groupby(group).cummax().groupby(group).shift(fill_value=False)
        windows[number] = flow["window"].where(mine).groupby(group).ffill()
    own = side == 0
    flow["next"] = ends[0].where(own, ends[1])
    flow["acked"] = acks[1].where(own, acks[0])
    flow["fin_before"] = fins[0].where(own, fins[1])
    flow["peer_window"] = windows[1].where(own, windows[0])
    return flow


def _end(sent, received, streams):
    """Events of one end of each stream, from the segments it sent and those it received."""
    table = pd.DataFrame(index=streams)
    sound, peer_sound = sent[sent["flags"] & RST == 0], received[received["flags"] & RST == 0]
    for name, flag in (("syn", SYN), ("fin", FIN)):
        own, other = sound[sound["flags"] & flag > 0], peer_sound[peer_sound["flags"] & flag > 0]
        first = own.groupby("stream").first()
        table[name] = first["time"]
        table[f"{name}_acked"] = _first_ack(peer_sound, first["seq_end"])
        answered = _first_ack(sound, other.groupby("stream")["seq_end"].first())
        table[f"peer_{name}"] = _last_before(other, answered)
    first_fin = sound[sound["flags"] & FIN > 0].groupby("stream").first()
    peer_fin_end = peer_sound[peer_sound["flags"] & FIN > 0].groupby("stream")["seq_end"].first()
    active = ~(first_fin["ack"] >= peer_fin_end.reindex(first_fin.index).fillna(np.inf))
    table["active"] = active.reindex(streams).astype("boolean").fillna(False)
    table["reset"] = _reset(sent, received).reindex(streams)
    table["first"], table["last"] = sound.groupby("stream")["time"].first(), sound.groupby("stream")["time"].last()
    table["bytes"] = _payload(sound).reindex(streams)
    return table


def _first_ack(segments, wanted):
    """Time of the first of `segments` in each stream whose ack reaches `wanted` (by stream)."""
    reaches = segments["has_ack"] & (segments["ack"] >= segments["stream"].map(wanted).fillna(np.inf))
    return segments[reaches].groupby("stream")["time"].first()


def _last_before(segments, moment):
    """Time of the last of `segments` in each stream that is not after `moment` (by stream)."""
    in_time = segments["time"] <= segments["stream"].map(moment)
    return segments[in_time].groupby("stream")["time"].last()


def _reset(sent, received):
    """Time of the first RST that ends this end, sent by it or received in its window, by stream."""
    resets = pd.concat([sent, received])
    resets = resets[resets["flags"] & RST > 0]
    expected = resets["acked"].where(resets["acked"] > np.iinfo(np.int64).min, 0)
    acceptable = resets[resets["seq"] >= expected]
    return acceptable.groupby("stream")["time"].min()


def _payload(segments):
    """Payload bytes sent in each stream, every sequence number counted once and keep-alive bytes not at all."""
    data = segments[segments["length"] > 0]
    first = segments.groupby("stream")["seq"].min() + 1
    first = first.where(segments.groupby("stream")["flags"].first() & SYN > 0, data.groupby("stream")["seq"].min())
    last = (data["seq"] + data["length"] + (data["flags"] & SYN > 0)).groupby(data["stream"]).max()
    return (last - first).reindex(first.index).fillna(0).clip(lower=0)


def _socket(address, port):
    address = address.astype(object)
    bracketed = address.where(~address.str.contains(":", regex=False), "[" + address + "]")
    return (bracketed + ":" + port.astype(str).astype(object)).astype("string")


def _who(client, server, neither):
    return pd.array(np.select([client & server, client, server], ["both", "client", "server"], neither), "string")


def _time_wait(client, server, ending, capture_end, fin_timeout):
    """Which end reached TIME_WAIT (RFC 9293 section 3.6): `client`, `server`, `both`, `none`, or `<NA>`."""
    waits, open_question = [], pd.Series(False, client.index)
    for end in (client, server):
        reached = end["active"] & end["fin_acked"].notna() & end["peer_fin"].notna()
        begins = np.fmax(end["fin_acked"], end["peer_fin"])
        waits.append((reached & ~(end["reset"] < begins)).astype(bool))
        forgotten = end["fin_acked"] + fin_timeout + TIMER_SLACK < capture_end
        open_question |= end["active"] & ~reached & end["reset"].isna() & ~forgotten
    who = pd.Series(_who(*waits, "none"), client.index)
    undecided = open_question | ((ending == "open") & ~(client["active"] | server["active"]))
    return who.mask(undecided).array


def _nullable(table):
    floats = table.columns[table.dtypes == float]
    table[floats] = table[floats].astype("Float64")
    counts = ["client_bytes", "server_bytes", "keepalive_probes"]
    return table.astype({name: "Int64" for name in counts})
