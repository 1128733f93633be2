"""The tables of whole connections from what is known of them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.captures import Capture
from helpers.connections import connections
from helpers.exchanges import exchanges
from helpers.flow import first_row
from helpers.pieces.partial import Partial, capture_of
from helpers.states import states


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of whole connections: `connections`, `states`, and `exchanges` (None where they weren't asked for).

    Their times are seconds since `start`, the first frame of all. `cut`: where and why reading stopped before the end
    of a file, as far as has been read; None where it did not.
    """

    connections: pd.DataFrame
    states: pd.DataFrame
    exchanges: pd.DataFrame | None
    start: pd.Timestamp
    cut: str | None = None


def tables_of(partial: Partial, payload: bool = False, numbers: int = 0) -> Tables:
    """The tables of a `Partial`; streams that have no number yet are numbered from `numbers` on."""
    capture = capture_of(partial)
    number, _ = stream_numbers(partial, capture, numbers)
    return tables_of_streams(capture, connections(capture), number, np.ones(len(number), bool), payload)


def tables_of_streams(capture: Capture, connected: pd.DataFrame, number: np.ndarray, wanted: np.ndarray,
                      payload: bool) -> Tables:
    """The tables of the `wanted` streams of `capture` (a mask), with the `number` of each.

    `connected`: the connections of all streams.
    """
    tables = [connected, states(capture), *([exchanges(capture)] if payload else [])]
    for place, whole in enumerate(tables):
        streams = whole["stream"].to_numpy() if "stream" in whole else whole.index.to_numpy()
        part, streams = whole[wanted[streams]], number[streams[wanted[streams]]]
        tables[place] = part.assign(stream=streams).reset_index(drop=True) if "stream" in part \
            else part.set_axis(pd.Index(streams, name="stream"))
    return Tables(*tables[:2], tables[2] if payload else None, capture.start, capture.cut)


def stream_numbers(partial: Partial, capture: Capture, numbers: int) -> tuple[np.ndarray, int]:
    """The number of each stream; those that have none are numbered from `numbers` on. And the next number."""
    if not len(partial.rows):
        return np.empty(0, np.int64), numbers
    stream = capture.segments["stream"].to_numpy()
    number = partial.rows["number"].to_numpy()[first_row(stream, np.arange(len(stream)), stream.max() + 1)]
    new = number < 0
    number[new] = numbers + np.arange(new.sum())
    return number, numbers + int(new.sum())
