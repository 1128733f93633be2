"""What became of the connections of a capture: `python -m helpers.report CAPTURE [--out report.html] [--json]`.

The tables serve a notebook too: `incident = Incident(merge_captures(paths))`, then `facts(incident)`,
`by_server`, `left_behind`, `stayed`, `peaks`, `reuse`, `remarkable`.
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

__all__ = ["Incident", "ReportError", "by_server", "connections_table", "diagnosis", "document", "facts", "findings",
           "forgotten", "left_behind", "main", "outcome", "page", "peaks", "remarkable", "reuse", "stayed",
           "summary", "visible"]
