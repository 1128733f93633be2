"""Many captures at once, on the workers of Dask."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from helpers.connections import connections
from helpers.flow import first_row
from helpers.pieces.partial import Partial, capture_of, in_time, joined, merge, summarise_file
from helpers.pieces.tables import Tables, tables_of_streams

MERGED_AT_ONCE, SHARES = 8, 8
SPREAD = np.uint64(0x9E3779B97F4A7C15)    # 2**64 over the golden ratio: spreads numbers evenly when multiplied


def read_folder(paths: Sequence, payload: bool = False) -> Tables:
    """The tables of all captures at `paths`, neighbours in time, read and merged by Dask; as `Tables`.

    Where a Dask client is active its cluster does the work: each file is one task, and then each of `SHARES` shares
    of the connections, by their endpoints. Needs the extra `cluster`. Dask's workers hand memory back to the system
    at once, which makes these tasks take three times as long: set its `distributed.nanny.pre-spawn-environ` without
    `MALLOC_TRIM_THRESHOLD_`.

    Raises `CaptureError` where a file can't be opened or is no capture, ValueError where there are no paths.
    """
    from dask import compute, delayed

    parts = [delayed(summarise_file)(path, payload) for path in in_time(paths)]
    if not parts:
        raise ValueError("read_folder: no paths given; is the folder empty, or the pattern wrong?")
    while len(parts) > MERGED_AT_ONCE:
        parts = [delayed(merge)(*parts[begin:begin + MERGED_AT_ONCE]) for begin in range(0, len(parts), MERGED_AT_ONCE)]
    shared = [delayed(_share_out, nout=SHARES)(part, number) for number, part in enumerate(parts)]
    return _put_together(compute(*(delayed(_tables_of_share)(share, payload) for share in zip(*shared))))


def _share_out(partial: Partial, number: int) -> list[Partial]:
    """The shares of part `number` of a capture; each row has its `place` among those of all parts."""
    rows, ends = partial.rows, np.uint64(0)
    for address, port in (("src", "sport"), ("dst", "dport")):
        texts = pd.util.hash_array(rows[address].cat.categories.to_numpy(object))
        ends = ends + texts[rows[address].cat.codes] + rows[port].to_numpy().astype(np.uint64) * SPREAD
    share = (ends * SPREAD >> np.uint64(32)) % np.uint64(SHARES)
    rows = rows.assign(place=(number << 40) + np.arange(len(rows)))
    return [replace(partial, rows=rows[share == own].reset_index(drop=True)) for own in range(SHARES)]


def _tables_of_share(parts: Sequence[Partial], payload: bool) -> Tables:
    """The tables of a share of the connections; their streams are numbered by the places of their first rows."""
    partial = joined(parts)
    capture = capture_of(partial)
    stream = capture.segments["stream"].to_numpy()
    first = first_row(stream, np.arange(len(stream)), int(stream.max(initial=-1)) + 1)
    place = partial.rows["place"].to_numpy()[first]
    return tables_of_streams(capture, connections(capture), place, np.ones(len(place), bool), payload)


def _put_together(shares: Sequence[Tables]) -> Tables:
    """The `Tables` of all shares, with streams numbered in order of their first frames."""
    places = np.sort(np.concatenate([tables.connections.index for tables in shares]))
    connected = pd.concat([tables.connections for tables in shares]).sort_index()
    connected.index = pd.RangeIndex(len(connected), name="stream")
    others = []
    for name, order in (("states", ["stream"]), ("exchanges", ["requested", "stream", "nth"])):
        parts = [getattr(tables, name) for tables in shares if getattr(tables, name) is not None]
        table = pd.concat(parts) if parts else None
        if table is not None:
            table = table.assign(stream=np.searchsorted(places, table["stream"]))
            table = table.sort_values(order, kind="stable", ignore_index=True)
        others.append(table)
    return Tables(connected, *others, shares[0].start, shares[0].cut)
