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
from helpers.connections import connections, end_events, keepalive_probes, segment_flow
from helpers.exchanges import exchanges
from helpers.states import states

PIECE, FIRST, ABREAST = 64 << 20, 1 << 16, 8
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
    carry, numbers = None, 0
    for partial in _partials(paths, piece, payload):
        carry = partial if carry is None else merge(carry, partial)
        tables, carry, numbers = _give_out(carry, numbers, payload, closed_for, idle_for)
        if len(tables.connections):
            yield tables
    if carry is not None:
        yield tables_of(carry, payload)


def read_folder(paths, payload=False):
    """The tables of all captures at `paths`, neighbours in time, read and merged by Dask; as `Tables`.

    Where a Dask client is active its cluster does the work; each file is one task. Needs the extra `cluster`.
    """
    import dask.bag

    parts = dask.bag.from_sequence(_in_time(paths), partition_size=1).map(summarise_file, payload=payload)
    return tables_of(parts.reduction(_all_merged, _all_merged, split_every=ABREAST).compute(), payload)


def _all_merged(partials):
    partials = list(partials)
    return partials[0] if len(partials) == 1 else merge(*partials)


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
    return _thinned(partial)


def merge(*partials) -> Partial:
    """What neighbouring stretches know together; associative, so any grouping of neighbours gives the same."""
    columns = [part.rows[name] for part in partials for name in ("src", "dst")]
    addresses = pd.api.types.union_categoricals(columns, ignore_order=True, sort_categories=True).categories
    rows = pd.concat([part.rows.assign(**{
        name: part.rows[name].cat.set_categories(addresses) for name in ("src", "dst")}) for part in partials],
        ignore_index=True)
    starts, ends = ([getattr(part, name) for part in partials if getattr(part, name) is not None] for name in ("start", "end"))
    return _thinned(Partial(
        rows, sum(part.frames for part in partials), sum((part.skipped for part in partials), Counter()),
        starts[0] if starts else None, max(ends) if ends else None, sum((part.cuts for part in partials), ())))


def tables_of(partial, payload=False) -> Tables:
    """The tables of what a `Partial` knows."""
    capture = _capture_of(partial)
    number, _ = _stream_numbers(partial, capture, 0)
    return _tables(capture, number, np.ones(len(number), bool), payload)


def _tables(capture, number, wanted, payload):
    """The tables of the `wanted` streams (a mask), with the `number` of each."""
    tables = [connections(capture), states(capture), *([exchanges(capture)] if payload else [])]
    for place, table in enumerate(tables):
        streams = table["stream"].to_numpy() if "stream" in table else table.index.to_numpy()
        table, streams = table[wanted[streams]], number[streams[wanted[streams]]]
        tables[place] = table.assign(stream=streams).reset_index(drop=True) if "stream" in table \
            else table.set_axis(pd.Index(streams, name="stream"))
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

def _thinned(partial):
    """The same knowledge in fewer rows: those that no table needs, whatever comes before or after, are left out."""
    if not len(partial.rows):
        return partial
    capture = _capture_of(partial)
    flow = segment_flow(capture).sort_values("row", ignore_index=True)
    probe = keepalive_probes(capture).to_numpy()
    weight, probes = (partial.rows[name].to_numpy().copy() for name in ("weight", "probes"))
    first = _firsts(flow["stream"])[flow["stream"]]
    np.add.at(probes, first[probe], weight[probe])
    weight[probe] = 0
    undecided = _gather_undecided(flow, probe, weight)
    kept = _decisive(flow) | undecided
    if "payload" in partial.rows:
        kept |= flow["length"].to_numpy() > 0
    kept[first] = True
    weight[~undecided] = 0
    moved = np.zeros_like(probes)
    np.add.at(moved, first, probes)
    rows = partial.rows.assign(weight=weight, probes=moved)[kept].reset_index(drop=True)
    return replace(partial, rows=rows)


def _gather_undecided(flow, probe, weight):
    """Mark one segment for all those that may turn out to be probes with the same verdict; gather their `weight` there.

    Where no SYN was captured, a segment that looks like one, or like its direction's first, may be one: what was sent, and
    acknowledged, before, the piece before knows.
    """
    first = flow[flow["sound"]].drop_duplicates("direction").set_index("direction")["seq"]
    may_be = (flow["length"] <= 1) & (flow["flags"] & (SYN | FIN | RST) == 0) & ~flow["began"] & ~probe
    may_be &= ((flow["seq"] == flow["direction"].map(first)) | (flow["seq"] == flow["next"] - 1)) & (weight > 0)
    rows = np.flatnonzero(may_be)
    alike = flow.loc[rows, ["direction", "seq", "peer_window", "acked"]]
    alike = alike.assign(open=np.sign(alike["peer_window"]).fillna(-1), reached=alike["acked"] > flow.loc[rows, "seq"])
    group = alike.groupby(["direction", "seq", "open", "reached"], sort=False).ngroup().to_numpy()
    marked = np.zeros(len(flow), bool)
    if len(rows):
        places = np.full(group.max() + 1, -1)
        places[group[::-1]] = rows[::-1]
        total = np.bincount(group, weights=weight[rows]).astype(np.int64)
        weight[rows] = 0
        weight[places] = total
        marked[places] = True
    return marked


def _decisive(flow):
    """Which segments decide: SYN, FIN, RST; the first and the last of each direction; those that reach furthest, in number,
    acknowledgement or window; the first to acknowledge SYN or FIN; and all that follow both FINs, or a RST."""
    direction, here = flow["direction"].to_numpy(), np.arange(len(flow))
    flags, sound = flow["flags"].to_numpy(), flow["sound"].to_numpy()
    kept = flags & (SYN | FIN | RST) > 0
    kept |= here > _over(flow)[flow["stream"].to_numpy()]
    has_ack = flow["has_ack"].to_numpy() & sound & ~kept
    data = sound & (flow["length"].to_numpy() > 0) & ~kept
    seq, end, ack = (flow[name].to_numpy() for name in ("seq", "seq_end", "ack"))
    for rows in (~kept, sound & ~kept, has_ack, data):
        _keep_ends(kept, direction, rows)
    for rows, reach in ((sound & ~kept, end), (data, -seq), (has_ack, ack)):
        _keep_furthest(kept, direction, rows, reach)
    _keep_answers(kept, flow, has_ack)
    for shift in range(LARGEST_SCALE + 1):
        _keep_furthest(kept, direction, has_ack, ack + np.left_shift(flow["window"].to_numpy().astype(np.int64), shift))
    for numbers, rows in ((end, sound), (ack, has_ack)):
        _keep_ends(kept, direction * (1 << 34) + np.where(rows, numbers >> STRIDE, 0), rows)
    spans = (flow["time"].to_numpy() // SPAN).astype(np.int64)
    _keep_ends(kept, direction * (1 << 34) + spans - spans.min(), ~flow["began"].to_numpy())
    return kept


def _firsts(group):
    """By group (0, 1, ...), the place of its first member."""
    group = group.to_numpy()
    first = np.empty(int(group.max(initial=-1)) + 1, np.int64)
    first[group[::-1]] = np.arange(len(group))[::-1]
    return first


def _over(flow):
    """By stream, the row after which every segment is kept: that of the second end's FIN, or of the first RST."""
    flags, stream = flow["flags"].to_numpy(), flow["stream"].to_numpy()
    streams, never = int(stream.max()) + 1, len(flow)
    fin, reset = np.full(2 * streams, never), np.full(streams, never)
    for place, group, flag in ((fin, flow["direction"].to_numpy(), FIN), (reset, stream, RST)):
        rows = np.flatnonzero(flags & flag)[::-1]
        place[group[rows]] = rows
    return np.minimum(fin.reshape(-1, 2).max(axis=1), reset)


def _keep_ends(kept, group, rows):
    """Keep the first and the last of the `rows` (a mask) of each group."""
    rows = np.flatnonzero(rows)
    codes = pd.factorize(group[rows])[0]
    for some in (slice(None), slice(None, None, -1)):
        place = np.full(codes.max(initial=-1) + 1, -1)
        place[codes[some]] = rows[some]
        kept[place] = True


def _keep_furthest(kept, direction, rows, reach):
    """Keep the first of the `rows` (a mask) of each direction at which `reach` is highest."""
    rows = np.flatnonzero(rows)
    highest = np.full(int(direction.max()) + 1, np.iinfo(np.int64).min)
    np.maximum.at(highest, direction[rows], reach[rows])
    rows = rows[reach[rows] == highest[direction[rows]]][::-1]
    place = np.full(len(highest), -1)
    place[direction[rows]] = rows
    kept[place[place >= 0]] = True


def _keep_answers(kept, flow, has_ack):
    """Keep the first segment of each direction that acknowledges the other's SYN, and its FIN."""
    direction, ack, end = (flow[name].to_numpy() for name in ("direction", "ack", "seq_end"))
    for flag in (SYN, FIN):
        rows = np.flatnonzero(flow["sound"].to_numpy() & (flow["flags"].to_numpy() & flag > 0))[::-1]
        wanted = np.full(int(direction.max() | 1) + 1, np.iinfo(np.int64).max)
        wanted[direction[rows] ^ 1] = flow["seq"].to_numpy()[rows] + 1 if flag == SYN else end[rows]
        answers = np.flatnonzero(has_ack & (ack >= wanted[direction]))[::-1]
        place = np.full(len(wanted), -1)
        place[direction[answers]] = answers
        kept[place[place >= 0]] = True


# The fold

def _stream_numbers(partial, capture, numbers):
    """The number of each stream, those that have none counted on from `numbers`; and the next number."""
    if not len(partial.rows):
        return np.empty(0, np.int64), numbers
    number = partial.rows["number"].to_numpy()[_firsts(capture.segments["stream"])].copy()
    new = number < 0
    number[new] = numbers + np.arange(new.sum())
    return number, numbers + int(new.sum())


def _give_out(partial, numbers, payload, closed_for, idle_for):
    """The tables of the streams that are over; the `Partial` without them; and the next stream's number."""
    capture = _capture_of(partial)
    number, numbers = _stream_numbers(partial, capture, numbers)
    over = _over_and_done(capture, closed_for, idle_for) if len(number) else np.empty(0, bool)
    stream = capture.segments["stream"].to_numpy()
    rows = partial.rows.assign(number=number[stream])[~over[stream]].reset_index(drop=True)
    return _tables(capture, number, over, payload), replace(partial, rows=rows), numbers


def _over_and_done(capture, closed_for, idle_for):
    """Which streams nothing can change any more: long closed, long silent, or followed by the next of their 4-tuple."""
    ends, table = end_events(capture), connections(capture)
    stream, time = (capture.segments[name].to_numpy() for name in ("stream", "time"))
    last = np.full(len(table), -np.inf)
    np.maximum.at(last, stream, time)
    begun = (ends["syn"].notna() & ends["peer_syn"].notna()).to_numpy().reshape(-1, 2).all(axis=1)
    pair = ends["sender"].to_numpy().reshape(-1, 2).min(axis=1)
    order = np.lexsort((np.arange(len(pair)), pair))
    followed = np.zeros(len(pair), bool)
    followed[order[:-1]] = (pair[order[:-1]] == pair[order[1:]]) & begun[order[1:]]
    patience = np.where(table["closed"].notna(), closed_for, idle_for)
    return (capture.end - last > patience) | followed
