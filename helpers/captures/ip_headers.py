"""What the IPv4 header of a segment says that the tables leave out: its identification, and its TTL."""

import numpy as np

from helpers.captures.capture import Capture
from helpers.captures.headers import IPV4, TCP, TCP_LENGTH
from helpers.captures.records import structures

LONGEST_HEADER = 60
AT_ONCE = 100_000   # rows, so that their headers take some 20 MB
PLAIN = 0x45        # version 4, and a header of 20 bytes: without options


def ipv4_headers(capture: Capture, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For the segments at `rows`: the TCP header's length, 0 where it is not found; and the IPv4 header before it.

    All fields of the latter are 0 where there is none (IPv6), or one with options.
    """
    at, table = capture.headers["payload_at"][rows], capture.segments
    size, left = np.zeros(len(rows), np.int64), np.arange(len(rows))
    expected = {name: table[name].to_numpy()[rows] for name in ("sport", "dport", "seq", "ack")}
    for length in range(TCP_LENGTH, LONGEST_HEADER + 1, 4):
        header = _read(capture.data, at[left] - length, TCP)
        fits = (header["offset_flags"] >> 12) * 4 == length
        for name, values in expected.items():
            fits &= header[name] == values[left]
        size[left[fits]] = length
        left = left[~fits]
    ip = _read(capture.data, at - size - IPV4.itemsize, IPV4)
    ip[(ip["version_ihl"] != PLAIN) | (size == 0)] = np.zeros(1, IPV4)
    return size, ip


def ttls(capture: Capture, rows: np.ndarray) -> np.ndarray:
    """IPv4's TTL of the segments at `rows`, as they were captured; 0 where it can't be told, as over IPv6."""
    parts = [ipv4_headers(capture, rows[at:at + AT_ONCE])[1]["ttl"] for at in range(0, len(rows), AT_ONCE)]
    return np.concatenate([np.zeros(0, np.uint8), *parts])


def _read(data, at, kind):
    """The header of `kind` at each place; where the file has none, as many zeros."""
    found, there = np.zeros(len(at), kind), (at >= 0) & (at + kind.itemsize <= len(data))
    found[there] = structures(data, at[there], kind)
    return found
