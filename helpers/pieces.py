"""Captures larger than memory, and many at once: `read_captures(paths)` gives the tables piece by piece.

What one piece knows of its connections is a `Partial`: of every connection the few segments that decide its rows.
`merge` joins neighbours, and is associative: the same merge folds pieces on one machine and reduces them on many.
"""

from collections import Counter
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.captures import FIN, LARGEST_SCALE, RST, SYN, Capture, as_segments, read_pieces
from helpers.connections import connections, end_events
from helpers.exchanges import exchanges
from helpers.flow import NOTHING, first_by, first_row, flows, judge, last_row
from helpers.states import states

PIECE, FIRST, ABREAST = 64 << 20, 1 << 16, 8
SHARES, SPREAD = 8, np.uint64(0x9E3779B97F4A7C15)
CLOSED_FOR, IDLE_FOR = 240.0, 7200.0
SPAN, STRIDE = 30.0, 29
NUMBERS = ("time_ns", "sport", "dport", "seq", "ack", "flags", "length", "window", "scale", "weight", "probes", "number")


@dataclass(frozen=True, eq=False)
class Partial:
    """What a stretch of a capture knows: `rows`, the segments that decide (in order), and what it counted.

    `rows` has the columns `NUMBERS`, `src`, `dst`, and `payload` where that was asked for. `weight`: how many segments a
    row stands for that may turn out to be keep-alive probes; `probes`: how many are known to be; `number`: its stream's,
    where that is given.
    `start`, `end`: time of the first frame and of the latest one, in ns since 1970; None where there is none.
    """

    rows: pd.DataFrame
    frames: int
    skipped: Counter
    start: int | None
    end: int | None
    cuts: tuple = ()


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of whole connections: `connections`, `states`, and `exchanges` (None where they weren't asked for).

    Their times are seconds since `start`, the first frame of all.
    """

    connections: pd.DataFrame
    states: pd.DataFrame
    exchanges: pd.DataFrame | None
    start: pd.Timestamp


def read_captures(paths, piece=PIECE, payload=False, closed_for=CLOSED_FOR, idle_for=IDLE_FOR):
    """Yield the tables of the captures at `paths` piece by piece, as `Tables`, each connection whole and once.

    `paths`: one capture, or several whose frames follow one another (a ring buffer's: sorted by their first frame).
    `piece`: bytes read at a time. `payload`: read the exchanges too, which keeps the payload of open connections in
    memory. A connection is given out once it was closed for `closed_for` seconds (2 MSL of RFC 9293), or silent for
    `idle_for`, or followed by the next one of its 4-tuple; what comes after begins a new one. Streams are numbered as in
    one piece. Memory is bounded by a piece and what is open, not by the file.

    Raises `CaptureError` where a file can't be opened or is no capture.
    """
    waiting, numbers = [], 0
    for partial in _partials(paths, piece, payload):
        waiting.append(partial)
        if len(waiting) > 1 and sum(len(partial.rows) for partial in waiting[1:]) >= len(waiting[0].rows):
            tables, carry, numbers = _give_out(merge(*waiting), numbers, payload, closed_for, idle_for)
            waiting = [carry]
            if len(tables.connections):
                yield tables
    if waiting:
        yield _all_tables(joined(waiting), numbers, payload)


def read_folder(paths, payload=False):
    """The tables of all captures at `paths`, neighbours in time, read and merged by Dask; as `Tables`.

    Where a Dask client is active its cluster does the work: each file is one task, and then each of `SHARES` shares of the
    connections, by their endpoints. Needs the extra `cluster`. Dask's workers hand memory back to the system at once, which
    makes these tasks take three times as long: set its `distributed.nanny.pre-spawn-environ` without `MALLOC_TRIM_THRESHOLD_`.

    Raises `CaptureError` where a file can't be opened or is no capture, ValueError where there are no paths.
    """
    from dask import compute, delayed

    parts = [delayed(summarise_file)(path, payload) for path in _in_time(paths)]
    if not parts:
        raise ValueError("read_folder: no paths given; is the folder empty, or the pattern wrong?")
    while len(parts) > ABREAST:
        parts = [delayed(merge)(*parts[begin:begin + ABREAST]) for begin in range(0, len(parts), ABREAST)]
    shared = [delayed(_share_out, nout=SHARES)(part, number) for number, part in enumerate(parts)]
    return _put_together(compute(*(delayed(_tables_of_share)(share, payload) for share in zip(*shared))))


def _share_out(partial, number):
    """The `SHARES` shares of what part `number` of a capture knows; each row with its `place` among those of all parts."""
    rows, ends = partial.rows, np.uint64(0)
    for address, port in (("src", "sport"), ("dst", "dport")):
        texts = pd.util.hash_array(rows[address].cat.categories.to_numpy(object))
        ends = ends + texts[rows[address].cat.codes] + rows[port].to_numpy().astype(np.uint64) * SPREAD
    share = (ends * SPREAD >> np.uint64(32)) % np.uint64(SHARES)
    rows = rows.assign(place=(number << 40) + np.arange(len(rows)))
    return [replace(partial, rows=rows[share == own].reset_index(drop=True)) for own in range(SHARES)]


def _tables_of_share(partials, payload):
    """The tables of a share of the connections, of all parts; their streams are numbered by the places of their first rows."""
    partial = joined(partials)
    capture = _capture_of(partial)
    stream = capture.segments["stream"].to_numpy()
    place = partial.rows["place"].to_numpy()[first_row(stream, np.arange(len(stream)), int(stream.max(initial=-1)) + 1)]
    return _tables(capture, connections(capture), place, np.ones(len(place), bool), payload)


def _put_together(shares):
    """The `Tables` of all shares, with streams numbered in order of their first frames."""
    places = np.sort(np.concatenate([tables.connections.index for tables in shares]))
    connected = pd.concat([tables.connections for tables in shares]).sort_index()
    connected.index = pd.RangeIndex(len(connected), name="stream")
    others = []
    for name, order in (("states", ["stream"]), ("exchanges", ["requested", "stream", "nth"])):
        parts = [getattr(tables, name) for tables in shares if getattr(tables, name) is not None]
        table = pd.concat(parts) if parts else None
        others.append(None if table is None else table.assign(stream=np.searchsorted(places, table["stream"])).sort_values(
            order, kind="stable", ignore_index=True))
    return Tables(connected, *others, shares[0].start)


def summarise_file(path, payload=False):
    """The `Partial` of one capture file, read piece by piece."""
    return reduce(merge, _partials([path], PIECE, payload))


def summarise(capture, payload=False) -> Partial:
    """The `Partial` of a `Capture`; with `payload` every segment that has any is kept."""
    segments, headers = capture.segments, capture._headers
    start = capture.start.value
    rows = segments[["src", "sport", "dst", "dport", "seq", "ack", "length"]].reset_index(drop=True)
    rows = rows.assign(**{name: headers[name] for name in ("flags", "window", "scale")}, weight=1, probes=0, number=-1,
                       time_ns=start + np.rint(segments["time"].to_numpy() * 1e9).astype(np.int64))
    if payload:
        data = capture._data
        rows["payload"] = [data[at:at + size].tobytes() for at, size in zip(
            headers["payload_at"].tolist(), headers["payload_captured"].tolist())]
    partial = Partial(rows, capture.frames, Counter(capture.skipped), start if capture.frames else None,
                      start + round(capture.end * 1e9) if capture.frames else None,
                      (f"{capture.path}: {capture.cut}",) if capture.cut else ())
    return _thinned(partial, capture)


def merge(*partials) -> Partial:
    """What neighbouring stretches know together; associative, so any grouping of neighbours gives the same."""
    partial = joined(partials)
    return _thinned(partial, _capture_of(partial))


def joined(partials) -> Partial:
    """The same as `merge`, with every row of every part."""
    columns = [part.rows[name] for part in partials for name in ("src", "dst")]
    addresses = pd.api.types.union_categoricals(columns, ignore_order=True, sort_categories=True).categories
    rows = pd.concat([part.rows.assign(**{
        name: part.rows[name].cat.set_categories(addresses) for name in ("src", "dst")}) for part in partials],
        ignore_index=True)
    starts, ends = ([getattr(part, name) for part in partials if getattr(part, name) is not None] for name in ("start", "end"))
    return Partial(
        rows, sum(part.frames for part in partials), sum((part.skipped for part in partials), Counter()),
        starts[0] if starts else None, max(ends) if ends else None, sum((part.cuts for part in partials), ()))


def tables_of(partial, payload=False) -> Tables:
    """The tables of what a `Partial` knows."""
    return _all_tables(partial, 0, payload)


def _all_tables(partial, numbers, payload):
    capture = _capture_of(partial)
    number, _ = _stream_numbers(partial, capture, numbers)
    return _tables(capture, connections(capture), number, np.ones(len(number), bool), payload)


def _tables(capture, table, number, wanted, payload):
    """The tables of the `wanted` streams (a mask), with the `number` of each; `table`: the connections of all."""
    tables = [table, states(capture), *([exchanges(capture)] if payload else [])]
    for place, whole in enumerate(tables):
        streams = whole["stream"].to_numpy() if "stream" in whole else whole.index.to_numpy()
        part, streams = whole[wanted[streams]], number[streams[wanted[streams]]]
        tables[place] = part.assign(stream=streams).reset_index(drop=True) if "stream" in part \
            else part.set_axis(pd.Index(streams, name="stream"))
    return Tables(*tables[:2], tables[2] if payload else None, capture.start)


def _partials(paths, piece, payload):
    """The `Partial` of each piece of each capture, in order of time."""
    for path in _in_time(paths):
        for capture in read_pieces(path, piece):
            yield summarise(capture, payload)


def _in_time(paths):
    """The captures in the order of their first frames; one without a frame stands at the end."""
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if len(paths) < 2:
        return paths
    first = {path: next(read_pieces(path, FIRST)) for path in paths}
    return sorted(paths, key=lambda path: (not first[path].frames, first[path].start))


def _capture_of(partial):
    """A `Capture` of the rows, with the clock of the whole; `weight` and `probes` tell what they stand for."""
    rows, start = partial.rows, partial.start or 0
    columns = {name: rows[name].to_numpy() for name in NUMBERS}
    columns |= {name: rows[name].cat.codes.to_numpy().astype(np.int64) for name in ("src", "dst")}
    columns["frame"] = np.arange(1, len(rows) + 1)
    segments = as_segments(columns, rows["src"].cat.categories, (columns["time_ns"] - start) / 1e9)
    texts = rows["payload"].tolist() if "payload" in rows else []
    sizes = np.array([len(text) for text in texts], np.int64) if texts else np.zeros(len(rows), np.int64)
    headers = {name: columns[name] for name in ("flags", "window", "scale", "weight", "probes")}
    headers |= {"side": segments.pop("side").to_numpy(), "payload_captured": sizes,
                "payload_at": np.cumsum(sizes) - sizes}
    end = ((partial.end or 0) - start) / 1e9
    return Capture("pieces", segments, len(rows), dict(partial.skipped), pd.Timestamp(start, unit="ns", tz="UTC"), end,
                   "; ".join(partial.cuts) or None, np.frombuffer(b"".join(texts), np.uint8), headers)


# What decides

def _thinned(partial, capture):
    """The same knowledge in fewer rows: those that no table needs, whatever comes before or after, are left out.

    `capture`: the `Capture` of the rows.
    """
    if not len(partial.rows):
        return partial
    weight, probes = (partial.rows[name].to_numpy().copy() for name in ("weight", "probes"))
    kept = np.zeros(len(weight), bool)
    for flow in flows(capture):
        judge(flow)
        flow.weight, flow.probes = weight[flow.row], probes[flow.row]
        kept[flow.row] = _decide(flow)
        weight[flow.row], probes[flow.row] = flow.weight, flow.probes
    if "payload" in partial.rows:
        kept |= partial.rows["length"].to_numpy() > 0
    return replace(partial, rows=partial.rows.assign(weight=weight, probes=probes)[kept].reset_index(drop=True))


def _decide(flow):
    """Which segments of `flow` decide. The probes known go to the first of each stream, those in doubt to one for all."""
    first = np.flatnonzero(np.diff(flow.stream, prepend=-1))
    known = np.bincount(flow.stream, flow.probes + np.where(flow.probe, flow.weight, 0), len(first))
    flow.probes = np.zeros_like(flow.probes)
    flow.probes[first] = known
    flow.weight[flow.probe] = 0
    undecided = _gather_undecided(flow)
    flow.weight[~undecided] = 0
    kept = _decisive(flow) | undecided
    kept[first] = True
    return kept


def _gather_undecided(flow):
    """Mark two segments for all those that may turn out to be probes with the same verdict; gather their `weight` there.

    The last one acknowledges most, and may show that its sender was in CLOSE_WAIT.

    Where no SYN was captured, a segment that looks like one, or like its direction's first, may be one: what was sent, and
    acknowledged, before, the piece before knows.
    """
    first = first_by(flow.direction, flow.sound, flow.seq, flow.directions)[flow.direction]
    may_be = (flow.length <= 1) & (flow.flags & (SYN | FIN | RST) == 0) & ~flow.began & ~flow.probe & (flow.weight > 0)
    may_be &= (flow.seq == first) | (flow.seq == flow.before["next"] - 1)
    rows, marked = np.flatnonzero(may_be), np.zeros(len(flow.row), bool)
    if len(rows):
        window, acked = flow.before["peer_window"][rows], flow.before["acked"][rows]
        alike = pd.DataFrame({"direction": flow.direction[rows], "seq": flow.seq[rows], "reached": acked > flow.seq[rows],
                              "open": np.where(np.isnan(window), -1, np.sign(window))})
        group = alike.groupby(list(alike), sort=False).ngroup().to_numpy()
        first, last = (rows[choose(group, np.arange(len(rows)), group.max() + 1)] for choose in (first_row, last_row))
        total = np.bincount(group, flow.weight[rows]).astype(np.int64)
        flow.weight[rows] = 0
        flow.weight[last] = 1
        flow.weight[first] = np.where(first < last, total - 1, total)
        marked[first] = marked[last] = True
    return marked


def _decisive(flow):
    """Which segments decide: SYN, FIN, RST; the first and the last of each direction; those that reach furthest, in number,
    acknowledgement or window; the first to acknowledge SYN or FIN; and all that follow both FINs, or a RST."""
    direction, has_ack = flow.direction, flow.has_ack & flow.sound
    kept = (flow.flags & (SYN | FIN | RST) > 0) | (np.arange(len(direction)) > _over(flow)[flow.stream])
    acks, data, steady = has_ack & ~kept, flow.sound & (flow.length > 0) & ~kept, flow.sound & ~kept
    for rows in (~kept, steady, acks, data):
        _keep_ends(kept, direction, rows)
    fin = first_by(direction, flow.sound & (flow.flags & FIN > 0), flow.seq_end, flow.directions)[direction]
    since_fin = acks & (fin != NOTHING) & (flow.seq_end >= fin)
    for rows, reach in ((steady, flow.seq_end), (data, -flow.seq), (data, flow.seq_end), (acks, flow.ack), (since_fin, -flow.ack)):
        _keep_furthest(kept, flow, rows, reach)
    _keep_answers(kept, flow, acks)
    _keep_probe(kept, flow)
    for shift in range(LARGEST_SCALE + 1):
        _keep_furthest(kept, flow, acks, flow.ack + np.left_shift(flow.window.astype(np.int64), shift))
    for numbers, rows in ((flow.seq_end, flow.sound), (flow.ack, has_ack)):
        _keep_ends(kept, direction * (1 << 34) + np.where(rows, numbers >> STRIDE, 0), rows)
    spans = (flow.time // SPAN).astype(np.int64)
    _keep_ends(kept, direction * (1 << 34) + spans - spans.min(), ~flow.began)
    return kept


def _over(flow):
    """By stream, the row after which every segment is kept: that of the second end's FIN, or of the first RST."""
    never = len(flow.row)
    fin, reset = (first_row(group, flow.flags & flag > 0, size) for group, flag, size in (
        (flow.direction, FIN, flow.directions), (flow.stream, RST, flow.directions // 2)))
    fin, reset = (np.where(place < 0, never, place) for place in (fin, reset))
    return np.minimum(fin.reshape(-1, 2).max(axis=1), reset)


def _keep_ends(kept, group, rows):
    """Keep the first and the last of the `rows` (a mask) of each group."""
    rows = np.flatnonzero(rows)
    codes = pd.factorize(group[rows])[0]
    for some in (slice(None), slice(None, None, -1)):
        place = np.full(codes.max(initial=-1) + 1, -1)
        place[codes[some]] = rows[some]
        kept[place] = True


def _keep_furthest(kept, flow, rows, reach):
    """Keep the first of the `rows` (a mask) of each direction at which `reach` is highest."""
    rows = np.flatnonzero(rows)
    direction, reach = flow.direction[rows], reach[rows]
    highest = np.full(flow.directions, NOTHING)
    np.maximum.at(highest, direction, reach)
    _keep(kept, first_row(flow.direction, rows[reach == highest[direction]], flow.directions))


def _keep_answers(kept, flow, acks):
    """Keep the first segment of each direction that acknowledges the other's SYN, and its FIN."""
    for flag, end in ((SYN, flow.seq + 1), (FIN, flow.seq_end)):
        wanted = first_by(flow.direction ^ 1, flow.sound & (flow.flags & flag > 0), end, flow.directions)[flow.direction]
        _keep(kept, first_row(flow.direction, acks & (wanted != NOTHING) & (flow.ack >= wanted), flow.directions))


def _keep_probe(kept, flow):
    """Keep the probe of each direction that acknowledges most, and what shows that it is one: see `connections.judge`."""
    probe = flow.probe & flow.sound
    rows = np.flatnonzero(probe)
    highest = np.full(flow.directions, NOTHING)
    np.maximum.at(highest, flow.direction[rows], flow.ack[rows])
    place = last_row(flow.direction, rows[flow.ack[rows] == highest[flow.direction[rows]]], flow.directions)
    _keep(kept, place)
    peer = place.reshape(-1, 2)[:, ::-1].ravel()[flow.direction]
    before = flow.sound & (np.arange(len(flow.row)) < peer)
    _keep(kept, last_row(flow.direction, before, flow.directions))
    _keep(kept, first_row(flow.direction, before & flow.has_ack & (flow.ack > flow.seq[peer]), flow.directions))


def _keep(kept, rows):
    kept[rows[rows >= 0]] = True


# The fold

def _stream_numbers(partial, capture, numbers):
    """The number of each stream, those that have none counted on from `numbers`; and the next number."""
    if not len(partial.rows):
        return np.empty(0, np.int64), numbers
    stream = capture.segments["stream"].to_numpy()
    number = partial.rows["number"].to_numpy()[first_row(stream, np.arange(len(stream)), stream.max() + 1)]
    new = number < 0
    number[new] = numbers + np.arange(new.sum())
    return number, numbers + int(new.sum())


def _give_out(partial, numbers, payload, closed_for, idle_for):
    """The tables of the streams that are over; the `Partial` without them; and the next stream's number."""
    capture = _capture_of(partial)
    number, numbers = _stream_numbers(partial, capture, numbers)
    table = connections(capture)
    over = _over_and_done(capture, table, closed_for, idle_for) if len(number) else np.empty(0, bool)
    stream = capture.segments["stream"].to_numpy()
    rows = partial.rows.assign(number=number[stream])[~over[stream]].reset_index(drop=True)
    return _tables(capture, table, number, over, payload), replace(partial, rows=rows), numbers


def _over_and_done(capture, table, closed_for, idle_for):
    """Which streams nothing can change any more: long closed, long silent, or followed by the next of their 4-tuple.

    How long is told by the last segment's time, not the latest: captures may have been appended to one another.
    """
    ends = end_events(capture)
    stream, time = (capture.segments[name].to_numpy() for name in ("stream", "time"))
    last = np.full(len(table), -np.inf)
    np.maximum.at(last, stream, time)
    begun = (ends["syn"].notna() & ends["peer_syn"].notna()).to_numpy().reshape(-1, 2).all(axis=1)
    pair = ends["sender"].to_numpy().reshape(-1, 2).min(axis=1)
    order = np.lexsort((np.arange(len(pair)), pair))
    followed = np.zeros(len(pair), bool)
    followed[order[:-1]] = (pair[order[:-1]] == pair[order[1:]]) & begun[order[1:]]
    patience = np.where(table["closed"].notna(), closed_for, idle_for)
    return (time[-1] - last > patience) | followed
