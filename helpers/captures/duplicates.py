"""Frames that stand in a file twice: the same packet, captured at two interfaces, such as a bridge and its port."""

from dataclasses import replace

import numpy as np
import pandas as pd

from helpers.captures.capture import Capture
from helpers.captures.ip_headers import ipv4_headers
from helpers.captures.numbers import RST

# Seconds within which two such frames are one packet: with a number of its own in the IPv4 header (RFC 791; Linux gives
# each segment of a connection the next one, repeated ones too), and without
NUMBERED, UNNUMBERED = 0.1, 0.01
SAME = ("stream", "seq", "ack", "length", "flags", "window", "side")
ROWS_OF_SEGMENTS = ("flags", "window", "scale", "side", "payload_at", "payload_captured")


def copies(capture: Capture) -> np.ndarray:
    """Which rows of `capture.segments` are the same packet once more: an array of bool.

    The same in all of the TCP header, with its options and its checksum over the data, and in the IPv4 header's
    identification, and soon after the one before. The link, TTL and the IP header's checksum may differ. RSTs without
    such a number are not told apart, so none is a copy.
    """
    table, headers = capture.segments, capture.headers
    again = np.zeros(len(table), bool)
    keys = np.zeros(len(table), np.uint64)
    for name in SAME:
        column = np.asarray(headers[name] if name in headers else table[name]).astype(np.uint64)
        keys = (keys ^ column) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    rows = np.flatnonzero(more_than_once(keys))
    if not len(rows):
        return again
    known, number, text = _of_packets(capture, rows)
    time = pd.Series(table["time"].to_numpy()[rows])
    passed = time.groupby([keys[rows], number, text]).diff().abs().to_numpy()
    several = (number == 0) & (headers["flags"][rows] & RST > 0)      # one for each segment that was refused
    again[rows] = known & ~several & (passed <= np.where(number > 0, NUMBERED, UNNUMBERED))
    return again


def more_than_once(numbers: np.ndarray) -> np.ndarray:
    """Which of `numbers` occur more than once: an array of bool. Fast where few do."""
    ordered = np.sort(numbers)
    return pd.Series(numbers).isin(ordered[1:][ordered[1:] == ordered[:-1]]).to_numpy()


def without(capture: Capture, rows: np.ndarray) -> Capture:
    """The capture without the segments at `rows` (an array of bool); its frames keep their numbers."""
    headers = {name: capture.headers[name][~rows] for name in ROWS_OF_SEGMENTS}
    derived = {name: capture.derived[name] for name in ("datagrams",) if name in capture.derived}
    return replace(capture, segments=capture.segments[~rows], headers=capture.headers | headers, derived=derived)


def _of_packets(capture, rows):
    """Of the segments at `rows`: whether their header is found, IPv4's identification (0: none), the TCP header."""
    size, ip = ipv4_headers(capture, rows)
    ends = capture.headers["payload_at"][rows].tolist()
    text = np.array([capture.data[end - long:end].tobytes() for end, long in zip(ends, size.tolist())], object)
    return size > 0, ip["identification"].astype(np.int64), text
