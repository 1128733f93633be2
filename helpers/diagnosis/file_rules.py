"""Findings about the capture itself, and not about the network: what it can't tell, and why."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from helpers.captures import ACK, RST, SYN, Capture
from helpers.diagnosis.case import Case
from helpers.diagnosis.finding import Finding, examples
from helpers.diagnosis.per_connection import flow_of


def began_before(case: Case) -> Iterator[Finding]:
    """`began-before-the-capture`: connections without a SYN, of which little can be told."""
    table = case.tables.connections
    unknown = (table["roles"] != "syn").fillna(True) & ~table.index.isin(case.one_sided)
    if unknown.any():
        yield Finding(
            "began-before-the-capture", "cannot tell", int(unknown.sum()), "from the beginning",
            _streams(table.index[unknown]),
            "The opening of these connections is not in the capture: no rule speaks about them.",
            "Begin to record before the trouble does, or take the listening ports from `ss -tln`.")


def one_direction(case: Case) -> Iterator[Finding]:
    """`one-direction-only`: of most connections the capture has one end's segments, which acknowledge the other's."""
    table, one_sided = case.tables.connections, case.one_sided
    if len(one_sided) > case.limits.one_sided * len(table):
        yield Finding(
            "one-direction-only", "the capture", len(one_sided), "from the beginning", _streams(one_sided),
            "Of these connections one end's segments alone are in the file, and they acknowledge what is not: no rule "
            "speaks about them. The answers take another way, or the filter or mirror lets one direction pass.",
            "Record at one of the ends, or mirror both directions; a filter on `src` or `dst` should be one on `host`.")


def frames_twice(case: Case) -> Iterator[Finding]:
    """`frames-twice`: the same packets were captured more than once."""
    if case.copies:
        share = case.copies / (case.copies + len(case.tables.capture.segments))
        yield Finding(
            "frames-twice", "the capture", case.copies, "throughout", f"{share:.0%} of the file's TCP segments",
            "So many frames hold a packet that an earlier frame holds: it was captured at several interfaces (`-i any` "
            "on a bridge). Each counts once here; in the tables, frames and retransmissions count all.",
            "Record at one interface (-i eth0), or take the copies out with `editcap -I 20 -d` (20 bytes of header are "
            "those of tcpdump's `any`).")


def frames_dropped(case: Case) -> Iterator[Finding]:
    """`frames-dropped`: the capture missed frames, so that what is not in it may have been sent all the same."""
    if case.tables.capture.dropped:
        yield Finding(
            "frames-dropped", "the capture", case.tables.capture.dropped, "cannot tell", "the file's own statistics",
            "So many frames passed and are not in the file: the rules that rest on an answer that is not there say "
            "nothing about it.",
            "Record again with fewer bytes of each frame (-s), a narrower filter, or a larger buffer (-B).")


FILE_RULES = {"began-before-the-capture": began_before, "one-direction-only": one_direction,
              "frames-twice": frames_twice, "frames-dropped": frames_dropped}


def one_sided(capture: Capture) -> pd.Index:
    """The connections of which one end's segments are in the file, although the other end's must have passed.

    They must where this end acknowledges more than one number of the other, or acknowledges any after its own SYN.
    """
    flow = flow_of(capture)
    ends = flow.groupby("stream")["end"].nunique()
    rows = flow[flow["stream"].isin(ends.index[ends == 1])]
    acked = rows.loc[rows["has_ack"], ["stream", "ack"]].groupby("stream")["ack"].nunique()
    opened = rows.loc[(rows["flags"] & (SYN | ACK | RST)) == SYN, "stream"]
    return acked.index[(acked > np.where(acked.index.isin(opened), 0, 1)).to_numpy()]


def _streams(streams):
    return "streams " + examples(map(str, sorted(streams)))
