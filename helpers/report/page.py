"""The report as one HTML page that is complete in itself: no script, no other file, no host."""

from pathlib import Path

import pandas as pd

from helpers.report.diagnosed import HEALTHY, findings_of, looked_for, unseen
from helpers.report.facts import (
    CANNOT_TELL,
    LONGEST_TABLE,
    LONGEST_TEXT,
    Incident,
    by_server,
    endpoints,
    facts,
    visible,
)
from helpers.report.terminal import ASSUMED, MOST_SERVERS, NO_TCP, NO_TIME_WAIT, blocks, findings, outcome

FOLDER = Path(__file__).resolve().parent
CONNECTIONS = {"client": "client", "server": "server", "ending": "ending", "closer": "closed first by",
               "time_wait": "TIME_WAIT at", "requests": "requests", "keepalive_probes": "probes",
               "opened": "opened (s)", "closed": "closed (s)", "client_bytes": "client bytes",
               "server_bytes": "server bytes"}
EXCHANGES = {"nth": "nth on it", "method": "method", "target": "target", "status": "status",
             "framing": "end known by", "requested": "requested (s)", "answered": "answered (s)",
             "finished": "finished (s)", "response_bytes": "bytes"}


def page(incident: Incident) -> str:
    """The report as HTML. Text from the capture is escaped by the template, and unprintable characters before it."""
    from jinja2 import Environment, FileSystemLoader

    template = Environment(loader=FileSystemLoader(FOLDER), autoescape=True).get_template("page.html.j2")
    return template.render(
        name=visible(incident.capture.path, 80), css=(FOLDER / "page.css").read_text(encoding="utf-8"),
        read=table(facts(incident).rename("").to_frame(), "What was read", False, 1000), **_parts(incident)) + "\n"


def _parts(incident):
    """What the template shows where there are segments; `nothing` says why there is no more."""
    if not len(incident.segments):
        quic = _quic(incident)
        return {"nothing": NO_TIME_WAIT if quic else NO_TCP, "quic": quic, "http3": _http3(incident)}
    from helpers.report.pictures import pictures

    told = [visible(line, 1000) for line in findings(incident)]
    return {"diagnosis": _diagnosis(incident), "findings": told, "assumed": ASSUMED, "servers": _servers(incident),
            "figures": list(pictures(incident)), "connections": connections_table(incident),
            "exchanges": _exchanges(incident), "quic": _quic(incident), "http3": _http3(incident)}


def _quic(incident):
    """The table of QUIC connections; None where there are none."""
    rows = incident.quic
    if not len(rows):
        return None
    shown = rows.assign(closed_by=rows["closed_by"].fillna(CANNOT_TELL), server=rows["server"].fillna(CANNOT_TELL))
    return table(shown.rename(columns=lambda name: name.replace("_", " ")), "QUIC connections")


def _diagnosis(incident):
    """What is wrong, for the template: a dict of texts for each finding; or one text that says what was looked for."""
    found = findings_of(incident)
    if not len(found):
        return {"healthy": f"{HEALTHY} Looked for: {', '.join(looked_for(incident))}.", "unseen": unseen(incident)}
    texts = [{name: visible(value, 1000) for name, value in row.items()} for row in found.to_dict("records")]
    return {"rows": texts[:LONGEST_TABLE], "unseen": unseen(incident)}


def table(rows: pd.DataFrame, caption: str, header: bool = True, longest: int = LONGEST_TEXT) -> dict:
    """`rows` for the template: `caption`, `head` and `rows`, cut after `LONGEST_TABLE` of them."""
    if len(rows) > LONGEST_TABLE:
        caption += f". The first {LONGEST_TABLE} of {len(rows):,} rows"
    numeric = [pd.api.types.is_numeric_dtype(rows[name]) for name in rows]
    names = [rows.index.name or "", *rows.columns] if header else []
    return {"caption": visible(caption, 1000), "head": list(zip(map(visible, names), [False, *numeric])),
            "rows": [(visible(index, 1000), [_cell(value, right, longest) for value, right in zip(values, numeric)])
                     for index, *values in rows.head(LONGEST_TABLE).itertuples(name=None)]}


def _cell(value, right, longest):
    """The text of a cell, and its class: `number`, `long` or none."""
    text = "–" if pd.isna(value) else f"{value:,.3f}" if isinstance(value, float) else \
        f"{value:,}" if isinstance(value, int) else visible(value, longest)
    return text, "number" if right else "long" * (len(text) > 40)


def _servers(incident):
    rows = dict(blocks(by_server(incident), incident.server_names))
    return table(pd.DataFrame([outcome(row) for row in rows.values()], pd.Index(rows, name="server")),
                 f"Connections by server, at most the {MOST_SERVERS} servers with most of them")


def connections_table(incident: Incident) -> dict:
    """The table of connections for the template; the role of an end without a SYN has a question mark."""
    rows = endpoints(incident)
    asked = incident.exchanges.groupby("stream").size().reindex(rows.index, fill_value=0)
    rows = rows.assign(requests=asked, closer=rows["closer"].fillna(CANNOT_TELL),
                       time_wait=rows["time_wait"].fillna(CANNOT_TELL))
    return table(rows[list(CONNECTIONS)].rename(columns=CONNECTIONS), "Connections, in order of their first segment")


def _exchanges(incident):
    return _asked(incident.exchanges, "HTTP exchanges, each with its connection (stream)")


def _http3(incident):
    return _asked(incident.quic_exchanges, "HTTP/3 exchanges, each with its QUIC connection (stream)")


def _asked(exchanges, caption):
    """The table of exchanges for the template; None where there are none."""
    rows = exchanges.set_index("stream")[list(EXCHANGES)].rename(columns=EXCHANGES)
    return table(rows, caption) if len(rows) else None
