"""Capture files as tables: `read_capture(path)` gives one row per TCP segment."""

from helpers.captures.layers import (
    ACK,
    CHUNK,
    FIN,
    LARGEST_SCALE,
    RST,
    SYN,
    Capture,
    CaptureError,
    as_segments,
    in_groups,
    merge_captures,
    read_capture,
    read_pieces,
    toy_capture,
)

__all__ = ["ACK", "CHUNK", "FIN", "LARGEST_SCALE", "RST", "SYN", "Capture", "CaptureError", "as_segments", "in_groups",
           "merge_captures", "read_capture", "read_pieces", "toy_capture"]
