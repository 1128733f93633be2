"""Which connection, and which end: `stream` as Wireshark numbers it, and `host`."""

import numpy as np
import pandas as pd

from helpers.captures.numbers import ACK, SYN


def endpoints(columns: dict[str, np.ndarray], addresses: int) -> tuple:
    """A number below 2**32 for source and destination (address and port) of each segment.

    `addresses`: how many addresses there are.
    """
    src, dst = (columns[address].astype(np.int64) << 16 | columns[port] for address, port in (
        ("src", "sport"), ("dst", "dport")))
    return (src, dst) if addresses <= 1 << 16 else np.split(pd.factorize(np.concatenate([src, dst]))[0], 2)


def streams(src: np.ndarray, dst: np.ndarray, flags: np.ndarray, seq: np.ndarray,
            ack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The stream number of each segment, by Wireshark's `tcp.stream` rule, and its side in the stream: 0 or 1.

    Segments between the same two endpoints (numbers `src`, `dst`) are one stream, until a SYN without ACK comes whose
    sequence number differs from the initial one known for its direction. Side 0 sent the first segment between the two.
    """
    pair = pd.factorize(np.minimum(src, dst) << 32 | np.maximum(src, dst))[0]
    order, size = in_groups(pair), np.bincount(pair)
    begins = np.zeros(len(pair), bool)
    begins[np.cumsum(size) - size] = True
    side = (src != src[order[begins]][pair]).astype(np.int8)
    _mark_further_streams(begins, order, pair, side, flags, seq, ack)
    number = np.empty(np.count_nonzero(begins), np.int64)
    number[np.argsort(order[begins])] = np.arange(len(number))
    stream = np.empty(len(pair), np.int64)
    stream[order] = np.repeat(number, np.diff(np.flatnonzero(np.r_[begins, True])))
    return stream, side


def in_groups(group: np.ndarray) -> np.ndarray:
    """The order that brings the members of each group together and leaves them in order; `group`: 0, 1, ... each."""
    order = np.argsort(group.astype(np.uint16), kind="stable")
    high = group >> 16
    return order[np.argsort(high.astype(np.uint16)[order], kind="stable")] if high.any() else order


def _mark_further_streams(begins, order, pair, side, flags, seq, ack):
    """Mark in `begins` (a mask over `order`) the SYNs that open a further stream between the same two endpoints.

    Between most endpoints the first segment is a SYN, and its sender alone sends SYNs without ACK, the other end alone
    SYN-ACKs: a SYN opens a stream where its number is not that of the SYN before. All others are followed one by one.
    """
    firsts, places = np.flatnonzero(begins), np.flatnonzero((flags & SYN > 0)[order])
    syns = order[places]
    opens = flags[syns] & ACK == 0
    plain = flags[order[firsts]] & (SYN | ACK) == SYN
    plain[pair[syns[opens != (side[syns] == 0)]]] = False
    in_plain = plain[pair[syns]]
    further, number = places[opens & in_plain], seq[syns[opens & in_plain]]
    begins[further[1:][number[1:] != number[:-1]]] = True
    places, syns, opens = places[~in_plain], syns[~in_plain], opens[~in_plain]
    columns = places, firsts[pair[syns]], side[syns], seq[syns], opens
    _follow_syns(begins, zip(*map(np.ndarray.tolist, columns)), order, side, flags, seq, ack)


def _follow_syns(begins, syns, order, side, flags, seq, ack):
    """As `_mark_further_streams`, SYN by SYN.

    Of each SYN: its place in `order`, the first place of its pair, its side, its number, whether it has no ACK. The
    initial sequence number of a direction is that of its last SYN or SYN-ACK; before there was one, it follows from the
    first segment from which it can be computed: one of its own, or an ACK of the other direction.
    """
    current, begin, initial = None, 0, {}
    for place, first, own, number, opening in syns:
        if first != current:
            current, begin, initial = first, first, {}
        if place == first:
            continue
        if opening:
            known = initial[own] if own in initial else _initial(order[begin:place + 1], side, flags, seq, ack)
            if known != number:
                begins[place], begin, initial = True, place, {}
        initial[own] = number


def _initial(rows, side, flags, seq, ack):
    """The initial sequence number for the direction of the last of `rows`, a SYN, from the first that gives it."""
    for row in rows:
        if side[row] == side[rows[-1]]:
            return (int(seq[row]) - (not flags[row] & SYN)) % (1 << 32)
        if flags[row] & ACK:
            return (int(ack[row]) - 1) % (1 << 32)
    return None


def hosts(stream: np.ndarray, side: np.ndarray, flags: np.ndarray) -> pd.Categorical:
    """`client` or `server` for each segment: the first SYN without ACK decides, or else the first SYN-ACK."""
    client_side = np.full(int(stream.max(initial=-1)) + 1, -1, np.int8)
    for kind, other in ((SYN | ACK, 1), (SYN, 0)):
        rows = np.flatnonzero(flags & (SYN | ACK) == kind)[::-1]
        client_side[stream[rows]] = side[rows] ^ other
    known = client_side[stream]
    codes = np.where(known < 0, np.int8(-1), side != known)
    return pd.Categorical.from_codes(codes, ["client", "server"])
