"""Which segments decide the rows of their connection, whatever the pieces before and after theirs hold."""

import numpy as np
import pandas as pd

from helpers.captures import FIN, LARGEST_SCALE, RST, SYN
from helpers.flow import NONE, Flow, History, first_row, first_value, highest, known_before, last_row, of_peer, probes

SPAN = 30.0     # seconds; less than TIME_WAIT, so that a chain of segments that prolong it stays whole
STRIDE = 29     # of 2**29 bytes, half the largest window: so numbers that wrap around can be followed


def decide(flow: Flow, weight: np.ndarray, probe_count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which segments of `flow` decide; and the new `weight` and count of probes of each (see `Partial`).

    The probes that are known are counted at the first segment of each connection. Those in doubt are counted at one
    of them.
    """
    known, first = known_before(flow), flow.begins
    is_probe = probes(flow, known)
    counts = np.zeros_like(probe_count)
    counts[first] = np.bincount(flow.stream, probe_count + np.where(is_probe, weight, 0), len(first))
    weight, undecided = _gather_undecided(flow, known, np.where(is_probe, 0, weight))
    kept = _decisive(flow, is_probe) | undecided
    kept[first] = True
    return kept, weight, counts


def _gather_undecided(flow: Flow, known: History, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The weights; and a mask of the first and the last segment in each group of possible keep-alive probes.

    Where no SYN was captured, a segment that looks like a probe, or that is the first of its direction, may be one:
    only the piece before knows what was sent and acknowledged. The last one has the highest acknowledgment, so it may
    show that its sender was in CLOSE_WAIT.
    """
    first = first_value(flow.seq, flow.direction, flow.valid, flow.directions)[flow.direction]
    may_be = (flow.length <= 1) & (flow.flags & (SYN | FIN | RST) == 0) & ~flow.began & (weight > 0)
    may_be &= (flow.seq == first) | (flow.seq == known.next - 1)
    rows, marked = np.flatnonzero(may_be), np.zeros(len(flow.row), bool)
    result = np.zeros_like(weight)
    if len(rows):
        before = known.at(rows)
        together = pd.DataFrame({
            "direction": flow.direction[rows], "seq": flow.seq[rows], "reached": before.acked > flow.seq[rows],
            "open": np.where(np.isnan(before.peer_window), -1, np.sign(before.peer_window))})
        group = together.groupby(list(together), sort=False).ngroup().to_numpy()
        first, last = (rows[row(group, np.arange(len(rows)), group.max() + 1)] for row in (first_row, last_row))
        total = np.bincount(group, weight[rows]).astype(np.int64)
        result[last] = 1
        result[first] = np.where(first < last, total - 1, total)
        marked[first] = marked[last] = True
    return result, marked


def _decisive(flow: Flow, is_probe: np.ndarray) -> np.ndarray:
    """Which segments decide.

    SYN, FIN, RST; the first and the last of each direction; those with the highest sequence number,
    acknowledgment or window; the first to acknowledge SYN or FIN; and all that follow both FINs, or a RST.
    """
    direction, has_ack = flow.direction, flow.has_ack & flow.valid
    kept = (flow.flags & (SYN | FIN | RST) > 0) | (np.arange(len(direction)) > _over(flow)[flow.stream])
    acks, data, steady = has_ack & ~kept, flow.valid & (flow.length > 0) & ~kept, flow.valid & ~kept
    for rows in (~kept, steady, acks, data):
        _keep_ends(kept, direction, rows)
    fin = first_value(flow.seq_end, direction, flow.valid & (flow.flags & FIN > 0), flow.directions)[direction]
    since_fin = acks & (fin != NONE) & (flow.length == 0) & (flow.seq >= fin)
    for rows, reach in ((steady, flow.seq_end), (data, -flow.seq), (data, flow.seq_end), (acks, flow.ack),
                        (since_fin, -flow.ack)):
        _keep_furthest(kept, flow, rows, reach)
    _keep_answers(kept, flow, acks)
    _keep_probe(kept, flow, is_probe & flow.valid)
    for shift in range(LARGEST_SCALE + 1):
        _keep_furthest(kept, flow, acks, flow.ack + np.left_shift(flow.window.astype(np.int64), shift))
    for numbers, rows in ((flow.seq_end, flow.valid), (flow.ack, has_ack)):
        _keep_ends(kept, direction * (1 << 34) + np.where(rows, numbers >> STRIDE, 0), rows)
    spans = (flow.time // SPAN).astype(np.int64)
    _keep_ends(kept, direction * (1 << 34) + spans - spans.min(), ~flow.began)
    return kept


def _over(flow: Flow) -> np.ndarray:
    """By connection, the row after which every segment is kept: that of the second end's FIN, or of the first RST."""
    never = len(flow.row)
    fin, reset = (first_row(group, flow.flags & flag > 0, size) for group, flag, size in (
        (flow.direction, FIN, flow.directions), (flow.stream, RST, flow.directions // 2)))
    fin, reset = (np.where(place < 0, never, place) for place in (fin, reset))
    return np.minimum(fin.reshape(-1, 2).max(axis=1), reset)


def _keep_ends(kept: np.ndarray, group: np.ndarray, rows: np.ndarray) -> None:
    """Keep the first and the last of the `rows` (a mask) of each group."""
    rows = np.flatnonzero(rows)
    codes = pd.factorize(group[rows])[0]
    for some in (slice(None), slice(None, None, -1)):
        place = np.full(codes.max(initial=-1) + 1, -1)
        place[codes[some]] = rows[some]
        kept[place] = True


def _keep_furthest(kept: np.ndarray, flow: Flow, rows: np.ndarray, reach: np.ndarray) -> None:
    """Keep the first of the `rows` (a mask) of each direction at which `reach` is highest."""
    rows = np.flatnonzero(rows)
    most = highest(reach, flow.direction, rows, flow.directions)[flow.direction[rows]]
    _keep(kept, first_row(flow.direction, rows[reach[rows] == most], flow.directions))


def _keep_answers(kept: np.ndarray, flow: Flow, acks: np.ndarray) -> None:
    """Keep the first segment of each direction that acknowledges the other's SYN, and its FIN."""
    for flag, end in ((SYN, flow.seq + 1), (FIN, flow.seq_end)):
        is_it = flow.valid & (flow.flags & flag > 0)
        wanted = first_value(end, flow.direction ^ 1, is_it, flow.directions)[flow.direction]
        _keep(kept, first_row(flow.direction, acks & (wanted != NONE) & (flow.ack >= wanted), flow.directions))


def _keep_probe(kept: np.ndarray, flow: Flow, is_probe: np.ndarray) -> None:
    """Keep the probe of each direction that acknowledges most, and the peer's segments that show that it is one.

    See `flow.history.probes`: the peer had acknowledged the number after the probe's, and its window was open.
    """
    rows = np.flatnonzero(is_probe)
    most = highest(flow.ack, flow.direction, rows, flow.directions)[flow.direction[rows]]
    place = last_row(flow.direction, rows[flow.ack[rows] == most], flow.directions)
    _keep(kept, place)
    peer = of_peer(place)[flow.direction]
    before = flow.valid & (np.arange(len(flow.row)) < peer)
    _keep(kept, last_row(flow.direction, before, flow.directions))
    _keep(kept, first_row(flow.direction, before & flow.has_ack & (flow.ack > flow.seq[peer]), flow.directions))


def _keep(kept: np.ndarray, rows: np.ndarray) -> None:
    """Keep the positions `rows`; -1 stands for none."""
    kept[rows[rows >= 0]] = True
