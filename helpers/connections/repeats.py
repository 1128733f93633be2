"""Retransmissions, segments that were never answered, and silences: from one batch of segments.

Arrays have an entry for each direction, as in `helpers.connections.ends`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import numpy as np

from helpers.captures import ACK, SYN, in_groups
from helpers.flow import NONE, Flow, first_row, highest, last_row, of_peer, values_at

COPIES = 0.1          # seconds within which copies of a frame are one segment seen twice; Linux repeats none sooner


def retransmissions(flow: Flow, is_probe: np.ndarray) -> np.ndarray:
    """By direction, how many segments with data, SYN or FIN hold a sequence number that it had sent before.

    A segment that only fills a gap does not count: it may have come late, or repeat one that was not captured. Nor do
    keep-alive probes. Source: RFC 9293 section 3.8.1.
    """
    rows = np.flatnonzero(flow.valid & (flow.seq_end > flow.seq) & ~is_probe)
    counts = np.zeros(flow.directions, np.int64)
    if not len(rows):
        return counts
    rows = rows[in_groups(flow.direction[rows])]
    direction, seq, end = flow.direction[rows], flow.seq[rows], flow.seq_end[rows]
    falls = np.zeros(flow.directions, bool)
    falls[direction[1:][(seq[1:] < end[:-1]) & (direction[1:] == direction[:-1])]] = True
    for one in np.flatnonzero(falls):
        place = slice(*np.searchsorted(direction, (one, one + 1)))
        counts[one] = repeated(zip(seq[place].tolist(), end[place].tolist()))
    return counts


def repeated(segments: Iterable[tuple[int, int]]) -> int:
    """How many of `segments` (first number, number behind the last one) hold a number that an earlier one holds."""
    number, top = 0, None
    firsts, lasts = [], []      # of the gaps, in order: the first number of each, and the one behind its last
    for begin, end in segments:
        if top is None or begin >= top:
            if top is not None and begin > top:
                firsts.append(top), lasts.append(begin)
            top = end
            continue
        touched = slice(bisect_right(lasts, begin), bisect_left(firsts, end))
        gaps = list(zip(firsts[touched], lasts[touched]))
        missing = sum(min(end, last) - max(begin, first) for first, last in gaps) + max(0, end - top)
        number += missing < end - begin
        left = [part for first, last in gaps for part in ((first, begin), (end, last)) if part[0] < part[1]]
        firsts[touched], lasts[touched] = [first for first, _ in left], [last for _, last in left]
        top = max(top, end)
    return number


def unanswered(flow: Flow) -> np.ndarray:
    """By direction, whether its last SYN or data was sent several times, and nothing came back until the end.

    Nothing came back: since the first time the file has no segment of the peer, and this end acknowledges nothing new.
    Where the peer was never seen to send, the capture may hear one direction only: then only a SYN counts. A single
    byte does not count, as it may be a probe. Frames within `COPIES` seconds are copies of one.
    """
    sends = np.flatnonzero(flow.valid & ((flow.length > 0) | (flow.flags & SYN > 0)))
    most = highest(flow.seq_end, flow.direction, sends, flow.directions)[flow.direction[sends]]
    first = first_row(flow.direction, sends[flow.seq_end[sends] == most], flow.directions)
    last = last_row(flow.direction, sends, flow.directions)
    again = (last > first) & (values_at(flow.time, last) - values_at(flow.time, first) > COPIES)
    again &= (values_at(flow.length, last, 0) > 1) | (values_at(flow.flags, last, 0).astype(np.int64) & SYN > 0)
    peer = of_peer(last_row(flow.direction, np.arange(len(flow.row)), flow.directions))
    opens = values_at(flow.flags, first, 0).astype(np.int64) & (SYN | ACK) == SYN
    acked = of_peer(highest(flow.ack, flow.direction, np.flatnonzero(flow.valid & flow.has_ack), flow.directions))
    own = highest(flow.ack, flow.direction, np.flatnonzero(flow.valid & flow.has_ack), flow.directions)
    silent = (peer < first) & ((peer >= 0) | opens) & (own <= values_at(flow.ack, first, NONE))
    return again & silent & (acked < values_at(flow.seq_end, last, NONE))


def longest_silence(flow: Flow, over: np.ndarray) -> np.ndarray:
    """By connection, the longest time in seconds between two of its segments, none of them later than `over`."""
    longest = np.zeros(len(flow.begins))
    until = np.where(np.isnan(over), np.inf, over)[flow.stream]
    pause = np.diff(flow.time, prepend=0.0)
    pause[flow.begins] = 0.0
    inside = flow.time <= until
    np.maximum.at(longest, flow.stream[inside], pause[inside])
    return longest
