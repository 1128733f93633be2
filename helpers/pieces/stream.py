"""One capture after the other, piece by piece, on one machine: each connection is yielded once it is over."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from os import PathLike

import numpy as np
import pandas as pd

from helpers.captures import Capture
from helpers.connections import connections, end_events
from helpers.pieces.partial import PIECE, Partial, capture_of, joined, merge, partials
from helpers.pieces.tables import Tables, stream_numbers, tables_of, tables_of_streams

CLOSED_FOR, IDLE_FOR = 240.0, 7200.0


def read_captures(paths: Sequence | str | PathLike, piece: int = PIECE, payload: bool = False,
                  closed_for: float = CLOSED_FOR, idle_for: float = IDLE_FOR) -> Iterator[Tables]:
    """Yield the tables of the captures at `paths` piece by piece, as `Tables`, each connection whole and once.

    `paths`: one capture, or several whose frames follow one another (a ring buffer's: sorted by their first frame).
    `piece`: bytes read at a time. `payload`: read the exchanges too, and what each connection speaks (`protocol`,
    `server_name`, else `<NA>`), which keeps the payload of open connections in memory. A connection is yielded once
    it was closed for `closed_for` seconds (2 MSL of RFC 9293), or silent for `idle_for`, or followed by the next one of
    its 4-tuple; what comes after begins a new one. Streams are numbered as in one piece. Memory is bounded by a piece
    and what is open, not by the file. IP fragments are put together where all of a packet are in one piece.

    Raises `CaptureError` where a file can't be opened or is no capture, ValueError where there are no paths, or
    `piece` is below one byte.
    """
    if piece < 1:
        raise ValueError(f"read_captures: piece is {piece}; it must be at least 1 byte")
    waiting, numbers = [], 0
    for partial in partials(paths, piece, payload):
        waiting.append(partial)
        if len(waiting) > 1 and sum(len(partial.rows) for partial in waiting[1:]) >= len(waiting[0].rows):
            tables, carry, numbers = _give_out(merge(*waiting), numbers, payload, closed_for, idle_for)
            waiting = [carry]
            if len(tables.connections):
                yield tables
    if not waiting:
        raise ValueError("read_captures: no paths given; is the folder empty, or the pattern wrong?")
    yield tables_of(joined(waiting), payload, numbers)


def _give_out(partial: Partial, numbers: int, payload: bool, closed_for: float,
              idle_for: float) -> tuple[Tables, Partial, int]:
    """The tables of the streams that are over; the `Partial` without them; and the next stream's number."""
    capture = capture_of(partial)
    number, numbers = stream_numbers(partial, capture, numbers)
    table = connections(capture)
    over = _over_and_done(capture, table, closed_for, idle_for) if len(number) else np.empty(0, bool)
    stream = capture.segments["stream"].to_numpy()
    rows = partial.rows.assign(number=number[stream])[~over[stream]].reset_index(drop=True)
    return tables_of_streams(capture, table, number, over, payload), replace(partial, rows=rows), numbers


def _over_and_done(capture: Capture, table: pd.DataFrame, closed_for: float, idle_for: float) -> np.ndarray:
    """Which streams can't change any more: long closed, long silent, or followed by the next of their 4-tuple.

    They are old or not at the time of the last segment; that may not be the latest time, where captures were joined.
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
