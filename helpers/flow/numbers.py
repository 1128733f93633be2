"""Sequence numbers counted from the beginning of their direction, without wrap-around (RFC 9293 section 3.4)."""

from typing import NamedTuple

import numpy as np

from helpers.captures import ACK, RST, SYN
from helpers.flow.groups import NONE, first_value

LARGEST_WINDOW = 1 << 30   # RFC 7323 section 2.3


class Counted(NamedTuple):
    """Of each segment: `began` (its direction's SYN, or the answer to it, was captured); `seq`; `ack`, or NONE."""

    began: np.ndarray
    seq: np.ndarray
    ack: np.ndarray


def count_from_initial(direction: np.ndarray, flags: np.ndarray, raw_seq: np.ndarray, raw_ack: np.ndarray,
                       size: int) -> Counted:
    """The numbers of segments, counted from the initial sequence number (ISN) of their direction.

    The ISN is that of the SYN, or one below what the SYN-ACK acknowledges. Where neither was captured, the first
    number that was seen takes its place. A RST without ACK may carry any number, so it tells the ISN only if nothing
    else does.
    """
    is_reset, has_ack = flags & RST > 0, flags & (ACK | RST) == ACK
    of_syn = first_value(raw_seq, direction, (flags & SYN > 0) & ~is_reset, size)
    of_answer = first_value(raw_ack - 1, direction ^ 1, flags & (SYN | ACK | RST) == SYN | ACK, size)
    initial = np.where(of_syn == NONE, of_answer, of_syn)
    began = (initial != NONE)[direction]
    for rows in (~is_reset, is_reset):
        initial = _else_first(initial, raw_seq, direction, rows)
    seq = _unwrap(raw_seq, direction, ~is_reset, initial)
    initial = _else_first(initial, raw_ack, direction ^ 1, has_ack)
    acked = np.where(has_ack, raw_ack, initial[direction ^ 1])
    return Counted(began, seq, np.where(has_ack, _unwrap(acked, direction ^ 1, has_ack, initial), NONE))


def _else_first(known: np.ndarray, values: np.ndarray, group: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`known` of each group; where that is NONE, the first of `values` among `rows` of the group."""
    missing = known == NONE
    return np.where(missing, first_value(values, group, rows, len(known)), known) if missing.any() else known


def _unwrap(raw: np.ndarray, group: np.ndarray, steady: np.ndarray, initial: np.ndarray) -> np.ndarray:
    """`raw` (modulo 2**32) counted from the `initial` of its group, without wrap-around.

    In a group whose numbers stay near the initial one, that is the distance from it. In a longer group each number is
    counted from the one before it, so it may wrap around any number of times. Only `steady` rows count for that, and
    only those not further from the one before than the largest window.
    """
    counted = _distance(raw, initial[group])
    long = np.zeros(len(initial), bool)
    long[group[np.abs(counted) >= LARGEST_WINDOW]] = True
    if long.any():
        rows = np.flatnonzero(long[group])
        counted[rows] = _unwrap_long(raw[rows], group[rows], steady[rows], initial)
    return counted


def _unwrap_long(raw: np.ndarray, group: np.ndarray, steady: np.ndarray, initial: np.ndarray) -> np.ndarray:
    """The same as `_unwrap`, from step to step."""
    order = np.argsort(group, kind="stable")
    raw, group, steady = raw[order], group[order], steady[order]
    new = np.diff(group, prepend=-1) > 0
    steady = steady & (new | (np.abs(_distance(raw, _before(raw))) <= LARGEST_WINDOW))
    kept = np.where(new & ~steady, initial[group], raw)
    last = np.maximum.accumulate(np.where(steady | new, np.arange(len(raw)), 0))
    before = _before(last)
    reference = np.where(new, initial[group], kept[before])
    step = np.where(steady | new, _distance(kept, reference), 0)
    total = np.cumsum(step)
    total -= np.repeat((total - step)[new], np.diff(np.r_[np.flatnonzero(new), len(raw)]))
    counted = np.empty(len(raw), np.int64)
    counted[order] = np.where(steady, total, np.where(new, 0, total[before]) + _distance(raw, reference))
    return counted


def _before(values: np.ndarray) -> np.ndarray:
    """For each row what `values` hold in the row before; 0 for the first."""
    return np.r_[0, values[:-1]][:len(values)]


def _distance(value: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """How far `value` is from `reference` on the circle of sequence numbers: -2**31 to 2**31 - 1."""
    return (value - reference + (1 << 31) & (1 << 32) - 1) - (1 << 31)
