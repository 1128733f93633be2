"""Segments in order, with what each end had sent and its peer had acknowledged before; and the payload in order.

`segment_flow(capture)` is the table for people. The rules of `helpers.connections` use the same data as arrays,
which `flows(capture)` yields.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from helpers.captures import Capture
from helpers.flow.batches import Flow, directions, flows, of_flows
from helpers.flow.first_bytes import Beginning, beginning, handshakes, inside, pairs, protocols, spoken
from helpers.flow.groups import (
    NO_LIMIT,
    NONE,
    first_row,
    first_value,
    highest,
    last_row,
    lowest,
    of_peer,
    positions,
    values_at,
)
from helpers.flow.history import History, accepted_resets, fin_before, known_before, probes, probes_and_resets
from helpers.flow.reassembly import byte_streams
from helpers.flow.turns import in_turns

__all__ = ["HOSTS", "NONE", "NO_LIMIT", "Beginning", "Flow", "History", "accepted_resets", "beginning", "byte_streams",
           "directions", "first_row",
           "first_value", "flows", "handshakes", "highest", "in_turns", "inside", "known_before", "last_row",
           "lowest", "of_flows", "of_peer", "pairs", "positions", "probes",
           "probes_and_resets", "protocols", "segment_flow", "spoken", "values_at"]
HOSTS = ("client", "server")
SEGMENT_HEADERS = ("flags", "window", "scale", "side", "payload_at", "payload_captured")
COLUMNS = ("stream", "time", "flags", "length", "window", "raw_seq", "raw_ack", "direction", "has_ack", "began",
           "seq", "seq_end", "ack", "edge", "valid", *History._fields)


def segment_flow(capture: Capture, stream: int | None = None, columns: tuple[str, ...] = COLUMNS) -> pd.DataFrame:
    """The segments of `capture`, sorted by stream, each with what was known before it; index `frame`.

    `stream`: of this one alone, which takes little time and memory in a large capture. So do fewer `columns`; `end` is
    always there.

    `end`: the sender, `client` or `server` (arbitrary, but the same throughout, in a stream of which no SYN was
    captured). `seq`, `seq_end`, `ack`, `began`, `has_ack`, `edge`, `valid`, `direction`: see `Flow`. `next`, `acked`,
    `fin_before`, `peer_window`: see `History`.
    """
    if stream is not None:
        return segment_flow(_only(capture, stream), None, columns).assign(stream=stream)
    if ("segment_flow", columns) not in capture.derived:
        capture.derived["segment_flow", columns] = _put_together(capture, columns)
    return capture.derived["segment_flow", columns]


def _put_together(capture: Capture, names: tuple[str, ...]) -> pd.DataFrame:
    """The whole table of `segment_flow`, filled batch by batch."""
    columns, begin, size = {}, 0, len(capture.segments)
    for part in of_flows(partial(_columns, (*names, "row", "direction")), capture):
        columns = columns or {name: np.empty(size, column.dtype) for name, column in part.items()}
        end = begin + len(part["row"])
        for name, column in part.items():
            columns[name][begin:end] = column
        begin = end
    frames, direction = capture.segments.index[columns.pop("row")], columns["direction"]
    end = pd.Categorical.from_codes(direction & 1, HOSTS)
    return pd.DataFrame({name: columns[name] for name in names} | {"end": end}, frames, copy=False)


def _columns(names: tuple[str, ...], flow: Flow) -> dict[str, np.ndarray]:
    """The columns `names` of `segment_flow` for a batch."""
    of_capture = {"stream": flow.stream + flow.first, "direction": flow.direction + 2 * flow.first}
    if of_history := set(names) & set(History._fields):
        of_capture |= {"fin_before": fin_before(flow)} if of_history == {"fin_before"} else known_before(flow)._asdict()
    return {name: of_capture[name] if name in of_capture else getattr(flow, name) for name in names}


def _only(capture: Capture, stream: int) -> Capture:
    """The segments of one stream of `capture`, as stream 0."""
    rows = (capture.segments["stream"] == stream).to_numpy()
    headers = {name: capture.headers[name][rows] for name in SEGMENT_HEADERS}
    return replace(capture, segments=capture.segments[rows].assign(stream=0), headers=headers, derived={})
