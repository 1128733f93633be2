"""TCP connections from segments: `connections(capture)` gives one row per connection.

Times are those at which the capture saw a segment: both ends are taken to stand where the capture was made.
"""

import numpy as np
import pandas as pd

from helpers.captures import ACK, FIN, RST, SYN

HOSTS = ("client", "server")
FIN_TIMEOUT = 60.0
TIMER_SLACK = 2.0
NOTHING, NO_LIMIT = np.iinfo(np.int64).min, 1 << 62
WINDOW_SCALE, LARGEST_SCALE = 3, 14
LARGEST_WINDOW = 1 << 30


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
    client, server = (ends[ends.index.get_level_values("end") == host].droplevel("end") for host in HOSTS)
    known = client["host"].notna()
    probes = keepalive_probes(capture).groupby(capture.segments["stream"]).sum()
    reset = client["reset"]
    both_acked = np.maximum(client["fin_acked"], server["fin_acked"])
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


def forgotten_at(ends, fin_timeout):
    """When each end in FIN_WAIT_2 is forgotten if no FIN comes; missing where it sent something after that time.

    Source: Linux `tcp_fin_timeout`; only an end whose program has closed it is forgotten, not one that still lives.
    """
    forgotten = ends["fin_acked"] + fin_timeout
    return forgotten.where(~(ends["last"] > forgotten + TIMER_SLACK))


def end_events(capture):
    """When each end of each connection opened and closed: index `stream`, `end`; times in seconds.

    Columns: `host` (as `end`, but missing where no SYN was captured and `end` is arbitrary); `local`, `peer`
    (`address:port`); `opens` (its SYN acknowledges none); `syn` (own first SYN), `peer_syn` (arrival of the other end's),
    `syn_acked`; `fin` (own first FIN), `peer_fin` (arrival of the other end's), `fin_acked`, `fin_next` (raw sequence
    number after it); `active` (the first FIN doesn't acknowledge the peer's), `doubtful` (closing may have begun before
    the capture); `last` (last segment sent); `bytes` (payload bytes sent); `reset` (a RST ended the connection).
    """
    if "end_events" not in capture._derived:
        capture._derived["end_events"] = _end_events(capture)
    return capture._derived["end_events"]


def _end_events(capture):
    flow = segment_flow(capture)
    streams = pd.RangeIndex(int(flow["stream"].max()) + 1 if len(flow) else 0, name="stream")
    first = capture.segments.assign(end=flow["end"]).drop_duplicates("stream").set_index("stream").sort_index()
    src, dst = _socket(first["src"], first["sport"]), _socket(first["dst"], first["dport"])
    known, reset = first["host"].notna(), _reset(flow).reindex(streams)
    sent = [flow[(flow["end"] == host) & flow["sound"]] for host in HOSTS]
    tables = []
    for host, own, peer in zip(HOSTS, sent, reversed(sent)):
        table = pd.DataFrame(index=streams).assign(reset=reset)
        table["host"] = pd.array(np.where(known, host, None), "string")
        table["local"], table["peer"] = src.where(first["end"] == host, dst), dst.where(first["end"] == host, src)
        _opening(table, own, peer, known)
        _closing(table, own, peer)
        table["doubtful"] = ~known & ~(_talks(own).reindex(streams, fill_value=False)
                                       & _talks(peer).reindex(streams, fill_value=False))
        table["last"] = own.groupby("stream")["time"].last()
        table["bytes"] = _payload(own).reindex(streams)
        tables.append(table)
    return pd.concat(dict(zip(HOSTS, tables)), names=["end"]).swaplevel().sort_index()


def _opening(table, own, peer, known):
    """Add to `table` the events of the handshake.

    Where a SYN was not captured, the other end's first ACK is the sign of it; an ACK alone says that one's own SYN was
    acknowledged too.
    """
    syn, peer_syns = _first(own, SYN), peer[peer["flags"] & SYN > 0]
    table["syn"] = syn["time"]
    table["opens"] = (syn["flags"] & ACK == 0).reindex(table.index, fill_value=False)
    wanted = pd.Series(np.where(known, -np.inf, np.inf), table.index)
    table["syn_acked"] = _first_ack(peer, (syn["seq"] + 1).reindex(table.index).fillna(wanted))
    spoke = _first_ack(own[own["flags"] & SYN == 0], wanted).where(_first(peer, SYN)["time"].reindex(table.index).isna())
    table["syn_acked"] = np.fmin(table["syn_acked"], spoke)
    answered = _first_ack(own, (_first(peer, SYN)["seq"] + 1).reindex(table.index).fillna(wanted))
    table["peer_syn"] = _last_before(peer_syns, answered).reindex(table.index).fillna(answered)


def _closing(table, own, peer):
    """Add to `table` the events of the FINs."""
    fin, peer_fin = _first(own, FIN), _first(peer, FIN)
    table["fin"], table["fin_next"] = fin["time"], (fin["raw_seq"] + fin["seq_end"] - fin["seq"]) % (1 << 32)
    table["fin_acked"] = np.maximum(_first_ack(peer, fin["seq_end"]).reindex(table.index), table["fin"])
    answered = _first_ack(own, peer_fin["seq_end"])
    arrived = _last_before(peer[peer["flags"] & FIN > 0], answered).reindex(table.index)
    table["peer_fin"] = arrived.fillna(answered)
    active = ~(fin["ack"] >= peer_fin["seq_end"].reindex(fin.index).fillna(np.inf))
    table["active"] = active.reindex(table.index, fill_value=False)


def segment_flow(capture):
    """Segments in stream order with what each sender had sent, and its peer had acknowledged, before.

    `end`: the sender, `client` or `server` (arbitrary, but the same throughout, in a stream of which no SYN was
    captured). `seq`, `seq_end`, `ack`: counted from the initial sequence number of their direction where `began` (its
    SYN or SYN-ACK was captured), else from the first one seen; never wrapping. `has_ack`: ACK and no RST. `sound`: no RST,
    inside the window of the connection and not before its sender's SYN; the rest is stray. `next`: next sequence number
    expected of this sender before the segment; `acked`: highest ack by the peer so far; `fin_before`, `peer_window`: as
    the names say. `row`: its position in `capture.segments`.
    """
    if "segment_flow" not in capture._derived:
        capture._derived["segment_flow"] = _segment_flow(capture)
    return capture._derived["segment_flow"]


def _segment_flow(capture):
    segments, headers = capture.segments, capture._headers
    order = np.argsort(segments["stream"].to_numpy(), kind="stable")
    end = np.where(segments["host"].isna(), headers["side"], segments["host"].cat.codes)
    flow = pd.DataFrame({
        "stream": segments["stream"].to_numpy(), "time": segments["time"].to_numpy(), "flags": headers["flags"],
        "length": segments["length"].to_numpy(), "window": headers["window"],
        "raw_seq": segments["seq"].to_numpy().astype(np.int64), "raw_ack": segments["ack"].to_numpy().astype(np.int64),
        "row": np.arange(len(segments)), "number": end}, index=segments.index).iloc[order]
    flow["end"] = pd.Categorical.from_codes(flow["number"], HOSTS)
    flow["direction"] = flow["stream"] * 2 + flow["number"]
    flow["has_ack"] = flow["flags"] & (ACK | RST) == ACK
    _count_from_initial(flow)
    _mark_sound(flow, _shifts(capture, flow))
    return _running(flow)


def _count_from_initial(flow):
    """Add `began`, `seq`, `seq_end` and `ack` to `flow`."""
    direction, flags, raw_seq, raw_ack, has_ack = (
        flow[name].to_numpy() for name in ("direction", "flags", "raw_seq", "raw_ack", "has_ack"))
    size = (int(direction.max(initial=-1)) | 1) + 1
    steady, kind = flags & RST == 0, flags & (SYN | ACK | RST)
    from_syn = _first_by(direction, (flags & SYN > 0) & steady, raw_seq, size)
    from_answer = _first_by(direction ^ 1, kind == SYN | ACK, raw_ack - 1, size)
    initial = np.where(from_syn == NOTHING, from_answer, from_syn)
    flow["began"] = initial[direction] != NOTHING
    for rows in (steady, ~steady):
        initial = np.where(initial == NOTHING, _first_by(direction, rows, raw_seq, size), initial)
    flow["seq"] = _unwrap(raw_seq, direction, steady, initial)
    control = (flags & SYN > 0).astype(int) + (flags & FIN > 0)
    flow["seq_end"] = flow["seq"] + flow["length"] + control
    initial = np.where(initial == NOTHING, _first_by(direction ^ 1, has_ack, raw_ack, size), initial)
    flow["ack"] = np.where(has_ack, _unwrap(raw_ack, direction ^ 1, has_ack, initial), NOTHING)


def _first_by(group, rows, values, size):
    """The first of `values` among `rows` for each of `size` groups; NOTHING where there is none."""
    result = np.full(size, NOTHING)
    found, where = np.unique(group[rows], return_index=True)
    result[found] = values[rows][where]
    return result


def _unwrap(raw, group, steady, initial):
    """`raw` (modulo 2**32) counted from the `initial` of its group, without wrapping.

    Each value is measured from the last `steady` one before it in its group that doesn't leap further than any window.
    """
    order = np.argsort(group, kind="stable")
    raw, group, steady = raw[order], group[order], steady[order]
    new = np.diff(group, prepend=-1) > 0
    steady = steady & (new | (np.abs(_distance(raw, np.r_[0, raw[:-1]][:len(raw)])) <= LARGEST_WINDOW))
    kept = np.where(new & ~steady, initial[group], raw)
    last = np.maximum.accumulate(np.where(steady | new, np.arange(len(raw)), 0))
    before = np.r_[0, last[:-1]][:len(raw)]
    reference = np.where(new, initial[group], kept[before])
    step = np.where(steady | new, _distance(kept, reference), 0)
    total = np.cumsum(step)
    total -= np.repeat((total - step)[new], np.diff(np.r_[np.flatnonzero(new), len(raw)]))
    counted = np.empty(len(raw), np.int64)
    counted[order] = np.where(steady, total, np.where(new, 0, total[before]) + _distance(raw, reference))
    return counted


def _distance(value, reference):
    """How far `value` is from `reference` on the circle of sequence numbers: -2**31 to 2**31 - 1."""
    return (value - reference + (1 << 31)) % (1 << 32) - (1 << 31)


def _mark_sound(flow, shifts):
    """Add `edge` (the highest sequence number that the peer ever allowed) and `sound` to `flow`."""
    direction, has_ack = flow["direction"].to_numpy(), flow["has_ack"].to_numpy()
    edge = np.full(len(shifts), NOTHING)
    allowed = flow["ack"] + np.left_shift(flow["window"], shifts[direction])
    np.maximum.at(edge, direction[has_ack] ^ 1, allowed[has_ack])
    flow["edge"] = np.where(edge == NOTHING, NO_LIMIT, edge)[direction]
    syn = _first_by(direction, (flow["flags"] & (SYN | RST) == SYN).to_numpy(), flow["row"].to_numpy(), len(shifts))
    flow["sound"] = (flow["flags"] & RST == 0) & (flow["seq_end"] <= flow["edge"] + 1) \
        & (~flow["began"] | (flow["seq"] >= -1)) & (flow["row"] >= syn[direction])


def _shifts(capture, flow):
    """The window scale (RFC 7323) of each direction; the largest there can be where its SYN was not captured."""
    headers = capture._headers
    shifts = np.full((int(flow["direction"].max()) | 1) + 1 if len(flow) else 0, LARGEST_SCALE)
    syns = flow[flow["flags"] & (SYN | RST) == SYN]
    for frame, row, direction in zip(syns.index, syns["row"], syns["direction"]):
        end = min(headers["payload_at"][row], headers["frame_at"][frame - 1] + headers["frame_captured"][frame - 1])
        shifts[direction] = _scale(capture._data[headers["tcp_at"][row] + 20:end].tobytes())
    return shifts


def _scale(options):
    """The shift that the TCP options in these bytes ask for, or 0."""
    at = 0
    while at + 1 < len(options) and options[at]:
        if options[at] == WINDOW_SCALE and at + 2 < len(options):
            return min(options[at + 2], LARGEST_SCALE)
        at += 1 if options[at] == 1 else max(options[at + 1], 2)
    return 0


def _running(flow):
    """Add to `flow` what was known just before each segment: `next`, `acked`, `fin_before`, `peer_window`."""
    stream, sound = flow["stream"], flow["sound"]
    sent, acked, fins, windows = {}, {}, {}, {}
    for number in (0, 1):
        mine = sound & (flow["number"] == number)
        sent[number] = flow["seq_end"].where(mine, NOTHING).groupby(stream).cummax().groupby(stream).shift(fill_value=NOTHING)
        acked[number] = flow["ack"].where(mine, NOTHING).groupby(stream).cummax()
        fins[number] = (mine & (flow["flags"] & FIN > 0)).groupby(stream).cummax().groupby(stream).shift(fill_value=False)
        windows[number] = flow["window"].where(mine).groupby(stream).ffill()
    first = flow["number"] == 0
    flow["acked"] = acked[1].where(first, acked[0])
    flow["next"] = np.maximum(sent[0].where(first, sent[1]), flow["acked"])
    flow["fin_before"] = fins[0].where(first, fins[1])
    flow["peer_window"] = windows[1].where(first, windows[0])
    return flow


def _first(segments, flag):
    """The first of `segments` with `flag` in each stream, index `stream`."""
    return segments[segments["flags"] & flag > 0].drop_duplicates("stream").set_index("stream")


def _first_ack(segments, wanted):
    """Time of the first of `segments` in each stream whose ack reaches `wanted` (by stream)."""
    reaches = segments["has_ack"] & (segments["ack"] >= segments["stream"].map(wanted).fillna(np.inf))
    return segments[reaches].drop_duplicates("stream").set_index("stream")["time"]


def _last_before(segments, moment):
    """Time of the last of `segments` in each stream that is not after `moment` (by stream)."""
    in_time = segments["time"] <= segments["stream"].map(moment)
    return segments[in_time].drop_duplicates("stream", keep="last").set_index("stream")["time"]


def _reset(flow):
    """Time of the first RST in each stream that its receiver accepts, and after which no SYN tries again."""
    last_syn = flow[flow["flags"] & (SYN | ACK | RST) == SYN].groupby("stream")["row"].max()
    resets = flow[flow["flags"] & RST > 0]
    accepted = (resets["seq"] >= resets["acked"]) & (resets["seq"] <= resets["edge"])
    accepted &= resets["row"] > resets["stream"].map(last_syn).fillna(-1)
    return resets[accepted].drop_duplicates("stream").set_index("stream")["time"]


def _talks(segments):
    """Whether each stream has a SYN, a FIN or data among `segments`."""
    telling = (segments["length"] > 0) | (segments["flags"] & (SYN | FIN) > 0)
    return telling.groupby(segments["stream"]).any()


def _payload(segments):
    """Payload bytes sent in each stream, every sequence number counted once and keep-alive bytes not at all."""
    data = segments[segments["length"] > 0]
    first = data["seq"].where(~data["began"], 1).groupby(data["stream"]).min()
    last = (data["seq"] + data["length"] + (data["flags"] & SYN > 0)).groupby(data["stream"]).max()
    return (last - first).clip(lower=0).reindex(segments["stream"].unique()).fillna(0)


def _socket(address, port):
    address = address.astype(object)
    bracketed = address.where(~address.str.contains(":", regex=False), "[" + address + "]")
    return (bracketed + ":" + port.astype(str).astype(object)).astype("string")


def _who(client, server, neither):
    return pd.array(np.select([client & server, client, server], ["both", "client", "server"], neither), "string")


def _time_wait(client, server, ending, capture_end, fin_timeout):
    """Which end reached TIME_WAIT (RFC 9293 section 3.6): `client`, `server`, `both`, `none`, or `<NA>`."""
    waits, open_question = [], client["doubtful"] | ((ending == "open") & ~(client["active"] | server["active"]))
    for end in (client, server):
        reached = end["active"] & end["fin_acked"].notna() & end["peer_fin"].notna()
        waits.append(reached & ~(end["reset"] < np.maximum(end["fin_acked"], end["peer_fin"])))
        forgotten = forgotten_at(end, fin_timeout) + TIMER_SLACK < capture_end
        open_question |= end["active"] & ~reached & end["reset"].isna() & ~forgotten
    return pd.Series(_who(*waits, "none"), client.index).mask(open_question).array


def _nullable(table):
    floats = table.columns[table.dtypes == float]
    table[floats] = table[floats].astype("Float64")
    counts = ["client_bytes", "server_bytes", "keepalive_probes"]
    return table.astype({name: "Int64" for name in counts})
