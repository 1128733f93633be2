"""TCP connections from segments: `connections(capture)` gives one row per connection.

Times are those at which the capture saw a segment: both ends are taken to stand where the capture was made.
"""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from helpers.captures import ACK, CHUNK, FIN, RST, SYN, in_groups

HOSTS = ("client", "server")
FIN_TIMEOUT = 60.0
TIMER_SLACK = 2.0
NOTHING, NO_LIMIT = np.iinfo(np.int64).min, 1 << 62
LARGEST_SCALE, LARGEST_WINDOW = 14, 1 << 30
FLOW = ("stream", "time", "flags", "length", "window", "raw_seq", "raw_ack", "row", "direction", "has_ack", "began",
        "seq", "seq_end", "ack", "edge", "sound")


def connections(capture, fin_timeout=FIN_TIMEOUT):
    """One row per TCP connection of `capture`, index `stream`.

    Columns: `client`, `server` (`address:port`), `opened` (first SYN), `established` (the handshake's ACK),
    `closed` (both FINs acknowledged, or the reset), all in seconds since the first frame; `client_bytes`,
    `server_bytes` (payload each end sent, every byte counted once), `keepalive_probes`,
    `ending` (`fin`, `reset`, `open`), `closer` and `time_wait` (`client`, `server`, `both`; `time_wait` also `none`).
    What the capture can't decide is `<NA>`. `fin_timeout`: seconds after which an end in FIN_WAIT_2 is forgotten.

    Source: RFC 9293 sections 3.5 and 3.6; the active closer is an end that sent its FIN before it had got the other end's:
    what it sent since then doesn't acknowledge that one.
    """
    ends = end_events(capture)
    client, server = (ends.iloc[place::2].droplevel("end") for place in range(2))
    known = client["host"].notna()
    probes = _probes(capture, len(client))
    reset = client["reset"]
    both_acked = np.maximum(client["fin_acked"], server["fin_acked"])
    fin = client["fin"].notna() & server["fin"].notna() & ~(reset < both_acked.fillna(np.inf))
    ending = _names(np.select([fin, reset.notna()], [0, 1], 2), ("fin", "reset", "open"))
    table = pd.DataFrame({
        "client": client["local"].where(known), "server": server["local"].where(known),
        "opened": client["syn"].where(known), "established": server["syn_acked"].where(known),
        "closed": both_acked.where(fin, reset), "client_bytes": client["bytes"].where(known),
        "server_bytes": server["bytes"].where(known), "keepalive_probes": probes, "ending": ending,
        "closer": pd.Series(_who(client["active"], server["active"], None)).mask(client["unsure"] | server["unsure"]).array,
        "time_wait": _time_wait(client, server, ending, capture.end, fin_timeout)})
    for name in ("closer", "time_wait"):
        table[name] = table[name].mask(~known & table[name].isin(HOSTS))
    return _nullable(table)


def _probes(capture, streams):
    """How many keep-alive probes each stream has; in what a piece knows, a row may stand for several, or none."""
    probes = keepalive_probes(capture).to_numpy() * capture._headers.get("weight", 1) + capture._headers.get("probes", 0)
    return np.bincount(capture.segments["stream"], probes, streams).astype(np.int64)


def keepalive_probes(capture):
    """True for each segment that is a TCP keep-alive probe, index `frame`.

    A probe has at most one byte, a sequence number one below the next expected, no SYN, FIN or RST; its sender has
    sent no FIN and has all its data acknowledged, and the peer's window is open (else it is a window probe).
    Source: RFC 9293 section 3.8.4.
    """
    end_events(capture)
    return pd.Series(capture._derived["probe"], capture.segments.index, name="probe")


def forgotten_at(ends, fin_timeout):
    """When each end in FIN_WAIT_2 is forgotten if no FIN comes; missing where it sent something after that time.

    Source: Linux `tcp_fin_timeout`; only an end whose program has closed it is forgotten, not one that still lives.
    """
    forgotten = ends["fin_acked"] + fin_timeout
    return forgotten.where(~(ends["last"] > forgotten + TIMER_SLACK))


def end_events(capture):
    """When each end of each connection opened and closed: index `stream`, `end`; times in seconds.

    Columns: `host` (as `end`, but missing where no SYN was captured and `end` is arbitrary); `local`, `peer`
    (`address:port`); `sender` (a number for both, the same in each connection of a 4-tuple); `opens`
    (its SYN acknowledges none); `syn` (own first SYN), `peer_syn` (arrival of the other end's), `syn_acked`; `fin`
    (own first FIN), `peer_fin` (arrival of the other end's), `fin_acked`, `fin_next` (raw sequence number after it);
    `active` (what it sent from its FIN on didn't acknowledge the peer's at first), `unsure` (whether it alone was can't be told,
    since a FIN was not captured, or its first copy), `doubtful` (closing may have begun before the capture); `last`
    (last segment sent); `first_heard`, `last_heard` (of those with an ACK or a RST); `bytes` (payload bytes sent);
    `reset` (a RST ended the connection).
    """
    if "end_events" not in capture._derived:
        capture._derived["end_events"] = _end_events(capture)
    return capture._derived["end_events"]


def _end_events(capture):
    capture._derived["probe"] = probe = np.empty(len(capture.segments), bool)
    parts = []
    for flow in flows(capture):
        judge_unusual(flow)
        parts.append(_ends_of(flow))
        probe[flow.row] = flow.probe
    table = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
    known, (local, sockets) = table.pop("known"), _sockets(capture)
    peer, streams = _swapped(local), len(known) // 2
    table = {"reset": table.pop("reset"), "host": _names(np.where(known, np.tile((0, 1), streams), -1), HOSTS),
             "local": sockets.take(local), "peer": sockets.take(peer), "sender": local * len(sockets) + peer, **table}
    return pd.DataFrame(table, pd.MultiIndex.from_product([pd.RangeIndex(streams), HOSTS], names=["stream", "end"]))


def _ends_of(flow):
    """The columns of `end_events` that the segments of a flow tell, by direction; `known`: whether a SYN was captured."""
    known, waits = np.repeat(flow.known[flow.begins], 2), _probes_in_close_wait(flow)
    speaks = last_row(flow.direction, flow.sound, flow.directions)
    telling = flow.sound & ((flow.length > 0) | (flow.flags & (SYN | FIN) > 0))
    talks = last_row(flow.direction, telling, flow.directions) >= 0
    told = talks & _swapped(talks) | waits | _swapped(waits)
    return {"known": known, "reset": np.repeat(_reset(flow), 2), **_opening(flow, known), **_closing(flow, waits),
            "doubtful": ~known & ~told, "last": _at(flow.time, speaks), **_heard(flow),
            "bytes": np.where(speaks < 0, np.nan, _payload(flow))}


def _sockets(capture):
    """By direction, the sender's place in the texts of all endpoints; and these (`address:port`)."""
    segments, way = capture.segments, directions(capture)
    first = first_row(way // 2, np.arange(len(way)), int(way.max(initial=-1)) // 2 + 1)
    own, peer = ((segments[address].cat.codes.to_numpy()[first].astype(np.int64) << 16) + segments[port].to_numpy()[first]
                 for address, port in (("src", "sport"), ("dst", "dport")))
    swap = way[first] & 1
    local, sockets = pd.factorize(np.stack([np.where(swap, peer, own), np.where(swap, own, peer)], axis=1).ravel())
    bracketed = [f"[{text}]" if ":" in text else text for text in segments["src"].cat.categories]
    return local, pd.array([f"{bracketed[code >> 16]}:{code & 0xFFFF}" for code in sockets.tolist()], "string")


def _heard(flow):
    """By direction, the earliest and the latest segment with an ACK or a RST: `first_heard`, `last_heard`."""
    rows = np.flatnonzero(flow.flags & (ACK | RST))
    first, last = np.full(flow.directions, np.inf), np.full(flow.directions, -np.inf)
    np.minimum.at(first, flow.direction[rows], flow.time[rows])
    np.maximum.at(last, flow.direction[rows], flow.time[rows])
    return {"first_heard": first, "last_heard": last}


def _opening(flow, known):
    """The events of the handshake, by direction.

    Where a SYN was not captured, the other end's first ACK is the sign of it; an ACK alone says that one's own SYN was
    acknowledged too.
    """
    is_syn = flow.sound & (flow.flags & SYN > 0)
    syn = first_row(flow.direction, is_syn, flow.directions)
    unseen = np.where(known, NOTHING + 1, NO_LIMIT)
    answered = _first_ack(flow, np.where(syn < 0, unseen, flow.seq[syn] + 1)) if len(syn) else syn.astype(float)
    unheard = known & (_swapped(syn) < 0)
    speaks = np.flatnonzero(unheard[flow.direction] & flow.sound & flow.has_ack & (flow.flags & SYN == 0))
    spoke = _at(flow.time, first_row(flow.direction, speaks, flow.directions))
    seen = _swapped(answered)
    arrived = _last_before(flow, is_syn, answered)
    return {"syn": _at(flow.time, syn), "opens": (syn >= 0) & (_at(flow.flags, syn, 0) & ACK == 0),
            "syn_acked": np.fmin(answered, spoke), "peer_syn": np.where(np.isnan(arrived), seen, arrived)}


def _closing(flow, waits):
    """The events of the FINs, by direction; `waits`: which directions were still in CLOSE_WAIT, as their probes show."""
    is_fin = flow.sound & (flow.flags & FIN > 0)
    fin = first_row(flow.direction, is_fin, flow.directions)
    end = _at(flow.seq_end, fin, NO_LIMIT)
    answered, sent = _first_ack(flow, end), _at(flow.time, fin)
    arrived = _last_before(flow, is_fin, answered)
    before, late = _since_fin(flow, is_fin, end)
    alone = (fin >= 0) & (_swapped(fin) < 0)
    unseen, missed = _unseen_fin(flow, before, alone)
    active = (fin >= 0) & ((before < np.where(alone, unseen, _swapped(end))) | _swapped(waits))
    fin_next = (_at(flow.raw_seq, fin, 0) + end - _at(flow.seq, fin, 0)) % (1 << 32)
    return {"fin": sent, "fin_next": np.where(fin < 0, np.nan, fin_next), "fin_acked": np.maximum(answered, sent),
            "peer_fin": np.where(np.isnan(arrived), _swapped(answered), arrived),
            "active": active, "unsure": (late | alone) & ~active | missed & ~_swapped(waits)}


def _probes_in_close_wait(flow):
    """By direction, whether it sent a keep-alive probe that acknowledges the peer's FIN: it had sent none of its own then.

    An end that had would be in CLOSING, LAST_ACK or TIME_WAIT, where Linux probes nobody (`tcp_keepalive_timer`). A probe
    before the peer's FIN doesn't say so: an end that has shut down its sending side probes in FIN_WAIT_2.
    """
    fin = first_row(flow.direction, flow.sound & (flow.flags & FIN > 0), flow.directions)
    end = _swapped(_at(flow.seq_end, fin, NO_LIMIT))
    rows = np.flatnonzero(flow.probe & flow.sound)
    direction, waits = flow.direction[rows], np.zeros(flow.directions, bool)
    waits[direction[(flow.ack[rows] >= end[direction]) & (rows > fin[direction ^ 1])]] = True
    return waits


def _since_fin(flow, is_fin, end):
    """By direction, the lowest ack in what was sent from the FIN on, which ends at `end`; and whether that began without it."""
    rows = np.flatnonzero(flow.sound & (is_fin | flow.has_ack & (flow.seq_end >= end[flow.direction])))
    lowest = np.full(flow.directions, NO_LIMIT)
    np.minimum.at(lowest, flow.direction[rows], flow.ack[rows])
    return lowest, ~_at(is_fin, first_row(flow.direction, rows, flow.directions), True).astype(bool)


def _unseen_fin(flow, acked, alone):
    """By direction, of those `alone` in having a captured FIN: where, at least, the peer's ends; and whether one was missed.

    It ends behind all that the peer was seen to send; where acks rose after the FIN (`acked`: the lowest), behind what that
    one acknowledged. That the peer was never seen to send, or not what was acknowledged, shows that something was missed.
    """
    rows = np.flatnonzero((alone | _swapped(alone))[flow.direction] & flow.sound)
    told = rows[(flow.length[rows] > 0) | (flow.flags[rows] & SYN > 0)]
    reach, spoke, highest = np.full((3, flow.directions), NOTHING)
    np.maximum.at(reach, flow.direction[told], flow.seq_end[told])
    np.maximum.at(spoke, flow.direction[rows], flow.seq_end[rows])
    np.maximum.at(highest, flow.direction[rows], flow.ack[rows])
    silent = first_row(flow.direction, flow.flags & RST > 0, flow.directions) < 0
    missed = alone & (_swapped(spoke) < highest) & ((_swapped(spoke) > NOTHING) | _swapped(silent))
    return np.where(highest > acked, NO_LIMIT, _swapped(reach) + 1), missed


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
    return _at(values, first_row(group, rows, size), NOTHING)


def _at(values, rows, missing=np.nan):
    """The `values` at `rows`; `missing` where a row is -1."""
    return np.where(rows < 0, missing, values[rows]) if len(values) else np.full(len(rows), missing)


def _swapped(by_direction):
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


def _first_ack(flow, wanted):
    """By direction, the time of the peer's first segment whose ack reaches `wanted` (by direction)."""
    reaches = flow.has_ack & flow.sound & (flow.ack >= wanted[flow.direction ^ 1])
    return _at(flow.time, _swapped(first_row(flow.direction, reaches, flow.directions)))


def _last_before(flow, rows, moment):
    """By direction, the time of the last of the peer's `rows` (a mask) that is not after `moment` of the peer."""
    rows = np.flatnonzero(rows)
    rows = rows[flow.time[rows] <= moment[flow.direction[rows]]]
    return _at(flow.time, _swapped(last_row(flow.direction, rows, flow.directions)))


def _reset(flow):
    """By stream, the time of the first RST that its receiver accepts, and after which no SYN tries again."""
    streams, rows = flow.directions // 2, np.flatnonzero(flow.accepted)
    last_syn = last_row(flow.stream, flow.flags & (SYN | ACK | RST) == SYN, streams)
    rows = rows[rows > last_syn[flow.stream[rows]]]
    return _at(flow.time, first_row(flow.stream, rows, streams))


def _payload(flow):
    """By direction, payload bytes sent, every sequence number counted once and keep-alive bytes not at all."""
    rows = np.flatnonzero(flow.sound & (flow.length > 0))
    direction, first, last = flow.direction[rows], np.full(flow.directions, NO_LIMIT), np.full(flow.directions, NOTHING)
    np.minimum.at(first, direction, np.where(flow.began[rows], 1, flow.seq[rows]))
    np.maximum.at(last, direction, flow.seq[rows] + flow.length[rows] + (flow.flags[rows] & SYN > 0))
    return np.where(first == NO_LIMIT, 0, np.maximum(last - first, 0)).astype(float)


def _who(client, server, neither):
    """`client`, `server` or `both` where these masks say so; elsewhere `neither`."""
    return _names(np.asarray(client) + 2 * np.asarray(server), (neither, *HOSTS, "both"))


def _names(places, names):
    """The names at `places`; `<NA>` for None, and where a place is -1."""
    return pd.array(names, "string").take(places, allow_fill=True)


def _time_wait(client, server, ending, capture_end, fin_timeout):
    """Which end reached TIME_WAIT (RFC 9293 section 3.6): `client`, `server`, `both`, `none`, or `<NA>`."""
    waits, open_question = [], client["doubtful"] | ((ending == "open") & ~(client["active"] | server["active"]))
    for end in (client, server):
        reached = end["active"] & end["fin_acked"].notna() & end["peer_fin"].notna()
        waits.append(reached & ~(end["reset"] < np.maximum(end["fin_acked"], end["peer_fin"])))
        forgotten = forgotten_at(end, fin_timeout) + TIMER_SLACK < capture_end
        open_question |= end["active"] & ~reached & end["reset"].isna() & ~forgotten
        open_question |= end["unsure"] | end["last"].isna() & (end["last_heard"] == -np.inf)
    return pd.Series(_who(*waits, "none"), client.index).mask(open_question).array


def _nullable(table):
    floats = table.columns[table.dtypes == float]
    table[floats] = table[floats].astype("Float64")
    counts = ["client_bytes", "server_bytes", "keepalive_probes"]
    return table.astype({name: "Int64" for name in counts})
