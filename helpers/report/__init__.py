"""What became of the connections of a capture: `python -m helpers.report CAPTURE [--out report.html] [--json]`.

The tables serve a notebook too: `incident = Incident(merge_captures(paths))`, then `facts(incident)`,
`by_server`, `left_behind`, `stayed`, `peaks`, `reuse`, `remarkable`. What a kernel said meanwhile is
`incident.witnesses` of `Incident(..., lists=[read_sockets(path)])`; the command takes such lists with
`--sockets LIST`, and the ports that clients get with `--port-range LOW-HIGH`.
"""

from helpers.report.command import ReportError, main
from helpers.report.diagnosed import diagnosis
from helpers.report.document import document
from helpers.report.facts import (
    Incident,
    by_server,
    facts,
    forgotten,
    left_behind,
    peaks,
    remarkable,
    reuse,
    stayed,
    visible,
)
from helpers.report.page import connections_table, page
from helpers.report.terminal import findings, outcome, summary
from helpers.report.witness import Witness, witness

__all__ = ["Incident", "ReportError", "Witness", "by_server", "connections_table", "diagnosis", "document", "facts",
           "findings", "forgotten", "left_behind", "main", "outcome", "page", "peaks", "remarkable", "reuse", "stayed",
           "summary", "visible", "witness"]
