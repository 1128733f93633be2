"""The first, last and highest value of each group, with which the rules treat all connections at once.

A group is a connection, or a *direction*: what one end sent in one connection. Connection n has the directions 2n
(sent by the client, where it is known) and 2n + 1. `group` holds the number of each segment's group, and `size` says
how many there are. `rows` chooses segments: by a mask, or by their positions in ascending order.
"""

import numpy as np
import pandas as pd

NONE = int(np.iinfo(np.int64).min)   # in place of a number that is not known: lower than any
NO_LIMIT = 1 << 62                   # higher than any sequence number


def first_row(group: np.ndarray, rows: np.ndarray, size: int) -> np.ndarray:
    """The position of the first of `rows` in each group; -1 where there is none."""
    return last_row(group, positions(rows)[::-1], size)


def last_row(group: np.ndarray, rows: np.ndarray, size: int) -> np.ndarray:
    """The position of the last of `rows` in each group; -1 where there is none."""
    result, rows = np.full(size, -1), positions(rows)
    result[group[rows]] = rows
    return result


def first_value(values: np.ndarray, group: np.ndarray, rows: np.ndarray, size: int) -> np.ndarray:
    """The value of the first of `rows` in each group; NONE where there is none."""
    return values_at(values, first_row(group, rows, size), NONE)


def lowest(values: np.ndarray, group: np.ndarray, rows: np.ndarray, size: int) -> np.ndarray:
    """The lowest of `values` among `rows` in each group; NO_LIMIT where there is none."""
    result, rows = np.full(size, NO_LIMIT), positions(rows)
    np.minimum.at(result, group[rows], values[rows])
    return result


def highest(values: np.ndarray, group: np.ndarray, rows: np.ndarray, size: int) -> np.ndarray:
    """The highest of `values` among `rows` in each group; NONE where there is none."""
    result, rows = np.full(size, NONE), positions(rows)
    np.maximum.at(result, group[rows], values[rows])
    return result


def positions(rows: np.ndarray) -> np.ndarray:
    """The positions that a mask chooses; positions stay what they are."""
    return np.flatnonzero(rows) if rows.dtype == bool else rows


def values_at(values: np.ndarray, rows: np.ndarray, missing: float = np.nan) -> np.ndarray:
    """The `values` at the positions `rows`; `missing` where a position is -1."""
    return np.where(rows < 0, missing, values[rows]) if len(values) else np.full(len(rows), missing)


def of_peer(by_direction: np.ndarray) -> np.ndarray:
    """The same array with the two directions of each connection exchanged: each end gets the value of its peer."""
    return by_direction.reshape(-1, 2)[:, ::-1].ravel()


def running_highest(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The highest of `values` so far in each group; NONE is ignored. Groups are in order: 0, 1, ...

    Each group is lifted above the ones before it, so that one running maximum serves all.
    """
    none = values == NONE
    if none.all():
        return values
    low = int(values.min(where=~none, initial=NO_LIMIT)) - 1
    span = int(values.max()) - low + 1
    if span * (int(group[-1]) + 1) >= NO_LIMIT:
        return pd.Series(values).groupby(group).cummax().to_numpy()
    floor = group * span
    result = values - low
    result[none] = 0
    result += floor
    np.maximum.accumulate(result, out=result)
    result -= floor
    none = result == 0
    result += low
    result[none] = NONE
    return result
