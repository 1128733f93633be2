"""What was known just before each segment, and so which segments are keep-alive probes or accepted RSTs."""

from typing import NamedTuple

import numpy as np

from helpers.captures import ACK, FIN, RST, SYN
from helpers.flow.batches import Flow
from helpers.flow.groups import NONE, first_row, last_row, running_highest


class History(NamedTuple):
    """What was known before each segment: an array for each field.

    `acked`: the highest acknowledgment by its receiver. `next`: the next sequence number expected of its sender.
    `fin_before`: whether its sender had sent a FIN. `peer_window`: the last window that its receiver had announced.
    """

    acked: np.ndarray
    next: np.ndarray
    fin_before: np.ndarray
    peer_window: np.ndarray

    def at(self, rows: np.ndarray) -> "History":
        """What was known before the segments at `rows`."""
        return History(*(column[rows] for column in self))


def known_before(flow: Flow) -> History:
    """What was known before each segment of `flow`."""
    first, here, begins = flow.direction & 1 == 0, np.arange(len(flow.row)), flow.begins
    begin = np.repeat(begins, np.diff(np.r_[begins, len(here)]))
    sent, acked, windows = [], [], []
    for mine in (first & flow.valid, ~first & flow.valid):
        before = np.r_[NONE, running_highest(np.where(mine, flow.seq_end, NONE), flow.stream)][:len(here)]
        before[begins] = NONE
        sent.append(before)
        acked.append(running_highest(np.where(mine, flow.ack, NONE), flow.stream))
        last = np.maximum.accumulate(np.where(mine, here, -1))
        windows.append(np.where(last >= begin, flow.window[last], np.nan) if len(here) else np.empty(0))
    acked = np.where(first, *reversed(acked))
    following = np.maximum(np.where(first, *sent), acked)
    return History(acked, following, fin_before(flow), np.where(first, *reversed(windows)))


def fin_before(flow: Flow) -> np.ndarray:
    """Whether the sender of each segment had sent a FIN before it."""
    fin = first_row(flow.direction, flow.valid & (flow.flags & FIN > 0), flow.directions)[flow.direction]
    return (fin >= 0) & (fin < np.arange(len(flow.row)))


def probes(flow: Flow, known: History) -> np.ndarray:
    """Which segments are keep-alive probes (RFC 9293 section 3.8.4; rule 4 of the course).

    A probe repeats the number below the next one expected, with one byte at most, so that the peer must answer. Its
    sender has sent no FIN and has all its data acknowledged, else the segment is a late one; the peer's window is
    open, else it is a window probe.
    """
    return ((flow.length <= 1) & (flow.flags & (SYN | FIN | RST) == 0) & (flow.seq == known.next - 1)
            & ~known.fin_before & (known.acked >= known.next) & (known.peer_window > 0))


def accepted_resets(flow: Flow, known: History) -> np.ndarray:
    """Which segments are RSTs that their receiver accepts (RFC 9293 sections 3.10.7.3 and 3.10.7.4).

    A RST counts where its number is the next one expected: not below what was acknowledged, not above what was sent. A
    higher number inside the window counts too, as data before it may not have been captured; but not where its sender
    had sent a FIN, or where its receiver goes on to send. An end that has sent a SYN and heard nothing yet accepts it
    only if it acknowledges that SYN.
    """
    rows = np.flatnonzero(flow.flags & RST)
    before, seq, peer = known.at(rows), flow.seq[rows], flow.direction[rows] ^ 1
    silent_since = last_row(flow.direction, flow.valid, flow.directions)[peer] < rows
    expected = (seq <= before.next) | (before.next == NONE) | ~before.fin_before & silent_since
    syn = first_row(flow.direction, flow.valid & (flow.flags & (SYN | ACK) == SYN), flow.directions)[peer]
    in_syn_sent = (syn >= 0) & (syn < rows) & (before.next == NONE)
    reach = (flow.raw_ack[rows] - flow.raw_seq[syn]) % (1 << 32)
    answers = (flow.flags[rows] & ACK > 0) & (reach > 0) & (reach <= flow.length[syn] + 1)
    accepted = np.zeros(len(flow.row), bool)
    accepted[rows] = (seq >= before.acked) & (seq <= flow.edge[rows]) & expected & (~in_syn_sent | answers)
    return accepted


def probes_and_resets(flow: Flow) -> tuple[np.ndarray, np.ndarray]:
    """The same as `probes` and `accepted_resets`, found faster: only some connections can have any."""
    chosen = _with_surprises(flow)
    part = flow.of_connections(chosen)
    rows, known = np.flatnonzero(chosen[flow.stream]), known_before(part)
    probe, accepted = np.zeros((2, len(flow.row)), bool)
    probe[rows], accepted[rows] = probes(part, known), accepted_resets(part, known)
    return probe, accepted


def _with_surprises(flow: Flow) -> np.ndarray:
    """By connection, whether a segment does not continue its sender's last one, or acknowledges data not captured."""
    here, first = np.arange(len(flow.row)), flow.direction & 1 == 0
    begin = flow.begins[flow.stream]
    last = [np.r_[-1, np.maximum.accumulate(np.where(mine, here, -1))][:-1] for mine in (first, ~first)]
    own, peer = np.where(first, *last), np.where(first, *reversed(last))
    surprise = ~flow.valid | (own >= begin) & (flow.seq != flow.seq_end[own])
    surprise |= flow.has_ack & ((peer < begin) | (flow.ack > flow.seq_end[peer]))
    connections = np.zeros(len(flow.begins), bool)
    connections[flow.stream[surprise]] = True
    return connections
