"""Segments in order: what each sender had sent, and its peer had acknowledged, before each of them."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from helpers.captures import ACK, CHUNK, FIN, RST, SYN, in_groups

HOSTS = ("client", "server")
NOTHING, NO_LIMIT = np.iinfo(np.int64).min, 1 << 62
LARGEST_SCALE, LARGEST_WINDOW = 14, 1 << 30
FLOW = ("stream", "time", "flags", "length", "window", "raw_seq", "raw_ack", "row", "direction", "has_ack", "began",
        "seq", "seq_end", "ack", "edge", "sound")



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
        flow = next(flows(capture, NO_LIMIT))
        judge(flow)
        columns = {name: getattr(flow, name) for name in FLOW} | flow.before
        columns["end"] = pd.Categorical.from_codes(flow.direction & 1, HOSTS)
        capture._derived["segment_flow"] = pd.DataFrame(columns, capture.segments.index[flow.row], copy=False)
    return capture._derived["segment_flow"]


def directions(capture):
    """The direction of each segment: twice its stream, plus one where the server sends (or the second end; see `Capture`)."""
    host = capture.segments["host"].cat.codes.to_numpy()
    return 2 * capture.segments["stream"].to_numpy() + np.where(host < 0, capture._headers["side"], host)


def flows(capture, size=None):
    """Yield the segments in stream order, as arrays of what `segment_flow` tells of them: `size` (`CHUNK`) or so at a time.

    Each stretch holds whole streams, and counts them, and their directions, from its `first` on. `directions`: how many there
    are; `begins`: where each stream does; `known`: whether the segment's host is.
    """
    size = size or CHUNK
    segments, headers = capture.segments, capture._headers
    columns = {"direction": directions(capture), "known": segments["host"].cat.codes.to_numpy() >= 0,
               **{name: segments[name].to_numpy() for name in ("time", "length")},
               "flags": headers["flags"], "window": headers["window"], "scale": headers["scale"],
               **{f"raw_{name}": segments[name].to_numpy() for name in ("seq", "ack")}}
    order = in_groups(columns["direction"] >> 1)
    ends = np.cumsum(np.bincount(columns["direction"] >> 1))
    first, begin = 0, 0
    while first < len(ends) or not first:
        last = max(int(np.searchsorted(ends, begin + size, "right")), first + 1)
        stop = int(ends[last - 1]) if len(ends) else 0
        row, begins = order[begin:stop], np.r_[begin, ends[first:last - 1]][:len(ends[first:last])] - begin
        yield _make_flow({name: column[row] for name, column in columns.items()}, row, first, begins)
        first, begin = last, stop


def _make_flow(columns, row, first, begins):
    """The flow of the segments at `row`, whose first stream is `first`; `begins`: where each stream does."""
    flow = SimpleNamespace(row=row, first=first, begins=begins, directions=2 * len(begins), **columns)
    flow.direction = flow.direction - 2 * first
    flow.stream = flow.direction >> 1
    flow.raw_seq, flow.raw_ack = flow.raw_seq.astype(np.int64), flow.raw_ack.astype(np.int64)
    flow.has_ack = flow.flags & (ACK | RST) == ACK
    _count_from_initial(flow)
    _mark_sound(flow)
    return flow


def judge(flow):
    """Add to `flow` what was known `before` each segment: by it `probe` (of keep-alive), `accepted` (a RST, by its receiver)."""
    known = flow.before = _running(flow)
    flow.probe = ((flow.length <= 1) & (flow.flags & (SYN | FIN | RST) == 0) & (flow.seq == known["next"] - 1)
                  & ~known["fin_before"] & (known["acked"] >= known["next"]) & (known["peer_window"] > 0))
    flow.accepted = np.zeros(len(flow.seq), bool)
    rows = np.flatnonzero(flow.flags & RST)
    flow.accepted[rows] = _accepted(flow, rows)


def _accepted(flow, rows):
    """Whether the receivers of the RSTs at `rows` accept them (RFC 9293 sections 3.10.7.3 and 3.10.7.4).

    A RST counts at the next sequence number expected: between what was acknowledged and what was sent. One further on in the
    window may stand there too, where what was sent before it was not captured: unless its sender had sent a FIN, or its
    receiver speaks on. Before the sender's SYN, it must acknowledge the receiver's.
    """
    known, seq, direction = {name: column[rows] for name, column in flow.before.items()}, flow.seq[rows], flow.direction[rows]
    last = last_row(flow.direction, flow.sound, flow.directions)
    expected = (seq <= known["next"]) | (known["next"] == NOTHING) | ~known["fin_before"] & (last[direction ^ 1] < rows)
    syn = first_row(flow.direction, flow.sound & (flow.flags & (SYN | ACK) == SYN), flow.directions)[direction ^ 1]
    unopened = (syn >= 0) & (syn < rows) & (known["next"] == NOTHING)
    reach = (flow.raw_ack[rows] - flow.raw_seq[syn]) % (1 << 32)
    answers = (flow.flags[rows] & ACK > 0) & (reach > 0) & (reach <= flow.length[syn] + 1)
    return (seq >= known["acked"]) & (seq <= flow.edge[rows]) & expected & (~unopened | answers)


def judge_unusual(flow):
    """Add `probe` and `accepted` to `flow`, as `judge` does, but look only into the streams where there can be any."""
    unusual = _unusual(flow)
    rows, sizes = np.flatnonzero(unusual[flow.stream]), np.diff(np.r_[flow.begins, len(flow.row)])[unusual]
    part = SimpleNamespace(directions=flow.directions, begins=np.cumsum(sizes) - sizes, **{name: getattr(flow, name)[rows] for name in (
        "stream", "direction", "flags", "length", "window", "raw_seq", "raw_ack", "seq", "seq_end", "ack", "edge", "sound")})
    judge(part)
    for name in ("probe", "accepted"):
        setattr(flow, name, np.zeros(len(flow.row), bool))
        getattr(flow, name)[rows] = getattr(part, name)


def _unusual(flow):
    """By stream, whether anything but this happened: each end's segments follow one another, and it gets ACKs of no others."""
    here, first = np.arange(len(flow.row)), flow.direction & 1 == 0
    begin = flow.begins[flow.stream]
    last = [np.r_[-1, np.maximum.accumulate(np.where(mine, here, -1))][:-1] for mine in (first, ~first)]
    own, peer = np.where(first, *last), np.where(first, *reversed(last))
    unusual = ~flow.sound | (own >= begin) & (flow.seq != flow.seq_end[own])
    unusual |= flow.has_ack & ((peer < begin) | (flow.ack > flow.seq_end[peer]))
    streams = np.zeros(len(flow.begins), bool)
    streams[flow.stream[unusual]] = True
    return streams


def _count_from_initial(flow):
    """Add `began`, `seq`, `seq_end` and `ack` to `flow`."""
    direction, size = flow.direction, flow.directions
    steady, kind = flow.flags & RST == 0, flow.flags & (SYN | ACK | RST)
    is_syn = flow.flags & SYN > 0
    from_syn = first_by(direction, is_syn & steady, flow.raw_seq, size)
    from_answer = first_by(direction ^ 1, kind == SYN | ACK, flow.raw_ack - 1, size)
    initial = np.where(from_syn == NOTHING, from_answer, from_syn)
    flow.began = (initial != NOTHING)[direction]
    for rows in (steady, ~steady):
        initial = _else_first(initial, direction, rows, flow.raw_seq)
    flow.seq = _unwrap(flow.raw_seq, direction, steady, initial)
    flow.seq_end = flow.seq + flow.length + is_syn + (flow.flags & FIN > 0)
    initial = _else_first(initial, direction ^ 1, flow.has_ack, flow.raw_ack)
    acked = np.where(flow.has_ack, flow.raw_ack, initial[direction ^ 1])
    flow.ack = np.where(flow.has_ack, _unwrap(acked, direction ^ 1, flow.has_ack, initial), NOTHING)


def _else_first(known, group, rows, values):
    """What is `known` of each group, or where that is NOTHING the first of `values` among `rows`, as in `first_by`."""
    missing = known == NOTHING
    return np.where(missing, first_by(group, rows, values, len(known)), known) if missing.any() else known


def first_row(group, rows, size):
    """The first of the `rows` (a mask, or positions) of each of `size` groups; -1 where there is none."""
    return last_row(group, (np.flatnonzero(rows) if rows.dtype == bool else rows)[::-1], size)


def last_row(group, rows, size):
    """The last of the `rows` (a mask, or positions) of each of `size` groups; -1 where there is none."""
    result, rows = np.full(size, -1), np.flatnonzero(rows) if rows.dtype == bool else rows
    result[group[rows]] = rows
    return result


def first_by(group, rows, values, size):
    """The first of `values` among `rows` for each of `size` groups; NOTHING where there is none."""
    return at(values, first_row(group, rows, size), NOTHING)


def at(values, rows, missing=np.nan):
    """The `values` at `rows`; `missing` where a row is -1."""
    return np.where(rows < 0, missing, values[rows]) if len(values) else np.full(len(rows), missing)


def swapped(by_direction):
    """For each direction, what belongs to the other direction of its stream."""
    return by_direction.reshape(-1, 2)[:, ::-1].ravel()


def _unwrap(raw, group, steady, initial):
    """`raw` (modulo 2**32) counted from the `initial` of its group, without wrapping.

    Each value is measured from the last `steady` one before it in its group that doesn't leap further than any window;
    where none is far from the initial one, that is the same as from there.
    """
    counted = _distance(raw, initial[group])
    long = np.zeros(len(initial), bool)
    long[group[np.abs(counted) >= 1 << 30]] = True
    if long.any():
        rows = np.flatnonzero(long[group])
        counted[rows] = _unwrap_long(raw[rows], group[rows], steady[rows], initial)
    return counted


def _unwrap_long(raw, group, steady, initial):
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
    return (value - reference + (1 << 31) & (1 << 32) - 1) - (1 << 31)


def _mark_sound(flow):
    """Add `edge` (the highest sequence number that the peer ever allowed) and `sound` to `flow`."""
    edge, shifts = np.full(flow.directions, NOTHING), _shifts(flow)
    rows = np.flatnonzero(flow.has_ack)
    sender = flow.direction[rows]
    np.maximum.at(edge, sender ^ 1, flow.ack[rows] + np.left_shift(flow.window[rows].astype(np.int64), shifts[sender]))
    flow.edge = np.where(edge == NOTHING, NO_LIMIT, edge)[flow.direction]
    syn = first_row(flow.direction, flow.flags & (SYN | RST) == SYN, flow.directions)
    flow.sound = (flow.flags & RST == 0) & (flow.seq_end <= flow.edge + 1) \
        & (~flow.began | (flow.seq >= -1)) & (np.arange(len(flow.row)) >= syn[flow.direction])


def _shifts(flow):
    """The window scale (RFC 7323) of each direction; the largest there can be where its SYN was not captured."""
    shifts = np.full(flow.directions, LARGEST_SCALE)
    syns = np.flatnonzero(flow.flags & (SYN | RST) == SYN)
    shifts[flow.direction[syns]] = flow.scale[syns]
    return shifts


def _running(flow):
    """What was known just before each segment: `next`, `acked`, `fin_before`, `peer_window`."""
    first, here, begins = flow.direction & 1 == 0, np.arange(len(flow.stream)), flow.begins
    begin = np.repeat(begins, np.diff(np.r_[begins, len(here)]))
    sent, acked, windows = [], [], []
    for mine in (first & flow.sound, ~first & flow.sound):
        before = np.r_[NOTHING, _running_max(np.where(mine, flow.seq_end, NOTHING), flow.stream)][:len(here)]
        before[begins] = NOTHING
        sent.append(before)
        acked.append(_running_max(np.where(mine, flow.ack, NOTHING), flow.stream))
        last = np.maximum.accumulate(np.where(mine, here, -1))
        windows.append(np.where(last >= begin, flow.window[last], np.nan) if len(here) else np.empty(0))
    acked = np.where(first, *reversed(acked))
    fin = first_row(flow.direction, flow.sound & (flow.flags & FIN > 0), flow.directions)[flow.direction]
    return {"acked": acked, "next": np.maximum(np.where(first, *sent), acked),
            "fin_before": (fin >= 0) & (fin < here), "peer_window": np.where(first, *reversed(windows))}


def _running_max(values, group):
    """The highest of `values` so far in each group (groups follow one another: 0, 1, ...); NOTHING counts for none.

    Each group is lifted above the ones before it, so that one running maximum serves all.
    """
    none = values == NOTHING
    if none.all():
        return values
    low = int(values.min(where=~none, initial=NO_LIMIT)) - 1
    span = int(values.max()) - low + 1
    if span * (int(group[-1]) + 1) >= NO_LIMIT:
        return pd.Series(values).groupby(group).cummax().to_numpy()
    floor = group * span
    highest = values - low
    highest[none] = 0
    highest += floor
    np.maximum.accumulate(highest, out=highest)
    highest -= floor
    none = highest == 0
    highest += low
    highest[none] = NOTHING
    return highest
