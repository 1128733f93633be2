"""Captures larger than memory, and many at once: `read_captures(paths)` gives the tables piece by piece.

What one piece knows of its connections is a `Partial`: of every connection the few segments that decide its rows.
`merge` joins two neighbours, and is associative: the same merge folds pieces on one machine and reduces them on many.
"""

import gzip
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.captures import (
    ACK,
    FIN,
    GZIP,
    LARGEST_FRAME,
    LARGEST_SCALE,
    RST,
    SYN,
    Capture,
    CaptureError,
    as_segments,
    capture_of,
)
from helpers.connections import connections, end_events, keepalive_probes, segment_flow
from helpers.exchanges import exchanges
from helpers.states import states

PIECE = 64 << 20
CLOSED_FOR, IDLE_FOR = 240.0, 7200.0
SPAN, STRIDE = 30.0, 29
NUMBERS = {"time_ns": "int64", "sport": "int64", "dport": "int64", "seq": "uint32", "ack": "uint32", "flags": "int16",
           "length": "int64", "window": "int32", "scale": "int8", "weight": "int64", "probes": "int64", "number": "int64"}


@dataclass(frozen=True, eq=False)
class Partial:
    """What a stretch of a capture knows: `rows`, the segments that decide (in order), and what it counted.

    `rows` has the columns `NUMBERS`, `src`, `dst` and `payload`. `weight`: how many segments a row stands for that may
    turn out to be keep-alive probes; `probes`: how many are known to be; `number`: its stream's, where that is given.
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
        carry, numbers = _numbered(carry, numbers)
        tables, carry = _finished(carry, payload, closed_for, idle_for)
        if len(tables.connections):
            yield tables
    if carry is not None:
        yield tables_of(carry, payload)


def read_folder(paths, payload=False):
    """The tables of all captures at `paths`, neighbours in time, read and merged by Dask; as `Tables`.

    Where a Dask client is active its cluster does the work; each file is one task. Needs the extra `cluster`.
    """
    import dask
    import dask.bag

    parts = dask.bag.from_sequence(_in_time(paths), partition_size=1).map(summarise_file, payload=payload)
    return tables_of(parts.fold(merge).compute(), payload)


def summarise_file(path, payload=False):
    """The `Partial` of one capture file, read piece by piece."""
    return reduce(merge, _partials([path], PIECE, payload))


def summarise(capture, payload=False) -> Partial:
    """The `Partial` of a `Capture`; with `payload` every segment that has any is kept."""
    segments, headers = capture.segments, capture._headers
    start = capture.start.value
    time_ns = start + np.rint(segments["time"].to_numpy() * 1e9).astype(np.int64)
    rows = pd.DataFrame({name: headers[name] if name in headers else segments[name].to_numpy() if name in segments else
                         time_ns for name in NUMBERS if name not in ("weight", "probes", "number")})
    rows = rows.assign(weight=1, probes=0, number=-1, src=segments["src"].array, dst=segments["dst"].array, payload=None)
    if payload:
        data = capture._data
        rows["payload"] = [data[at:at + size].tobytes() for at, size in zip(
            headers["payload_at"].tolist(), headers["payload_captured"].tolist())]
    partial = Partial(rows, capture.frames, Counter(capture.skipped), start if capture.frames else None,
                      start + round(capture.end * 1e9) if capture.frames else None,
                      (f"{capture.path}: {capture.cut}",) if capture.cut else ())
    return _thinned(partial)


def merge(left, right) -> Partial:
    """What two neighbouring stretches know together; associative, so any grouping of neighbours gives the same."""
    sources = pd.api.types.union_categoricals(
        [part.rows[name] for part in (left, right) for name in ("src", "dst")], sort_categories=True).categories
    rows = pd.concat([part.rows.assign(**{
        name: part.rows[name].cat.set_categories(sources) for name in ("src", "dst")}) for part in (left, right)],
        ignore_index=True)
    starts, ends = ([getattr(part, name) for part in (left, right) if getattr(part, name) is not None]
                    for name in ("start", "end"))
    return _thinned(Partial(rows, left.frames + right.frames, left.skipped + right.skipped, starts[0] if starts else None,
                            max(ends) if ends else None, left.cuts + right.cuts))
