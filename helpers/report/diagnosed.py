"""The diagnosis at the beginning of the report: for a terminal of 80 columns, and for the page."""

from textwrap import wrap

import pandas as pd

from helpers.diagnosis import RULES, SOCKET_RULES, diagnose, diagnose_sockets
from helpers.report.facts import Incident, visible
from helpers.sockets import SocketLists

WIDTH, MOST = 80, 10
HEALTHY = "Nothing wrong found."


def findings_of(what: Incident | SocketLists) -> pd.DataFrame:
    """What `helpers.diagnosis` finds in a capture or in a list of sockets; one row a finding, worst first."""
    if isinstance(what, SocketLists):
        return diagnose_sockets(what)
    return what.diagnosis if isinstance(what, Incident) else diagnose(what)


def looked_for(what: object) -> list[str]:
    """The names of all findings that there can be."""
    return list(SOCKET_RULES if isinstance(what, SocketLists) else RULES)


def unseen(what: Incident | SocketLists) -> str:
    """What no rule about requests can judge, as a sentence; empty where there is nothing of the kind."""
    number = int(what.servers["unread"].sum()) if isinstance(what, Incident) else 0
    of = f"{number:,} connection{'' if number == 1 else 's'}"
    return (f"Of {of} with data no request can be read (encrypted, or no HTTP): the rules about requests say nothing "
            "of them.") if number else ""


def diagnosis(what: Incident | SocketLists) -> list[str]:
    """The findings as lines for a terminal; where there is none, what was looked for."""
    table = findings_of(what)
    if not len(table):
        lines = [HEALTHY, *_indented("Looked for: " + ", ".join(looked_for(what)) + ".", "  ")]
        return lines + _indented(unseen(what), "  ")
    lines = []
    for row in table.head(MOST).itertuples():
        lines += [*_indented(f"{row.finding}: {row.how_many:,} × {visible(row.who)}, {row.when}", ""),
                  *_indented(visible(row.means, 1000), "    "), *_indented("→ " + visible(row.cure, 1000), "    "),
                  *_indented("look at: " + visible(row.evidence, 300), "    ")]
    lines += [f"… and {len(table) - MOST:,} more findings"] if len(table) > MOST else []
    return lines + _indented(unseen(what), "")


def _indented(text, indent):
    return wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  " * (not indent),
                break_on_hyphens=False)
