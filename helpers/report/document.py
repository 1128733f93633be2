"""The report for machines: the facts and the tables as JSON."""

import json

import pandas as pd

from helpers.report.diagnosed import findings_of
from helpers.report.facts import Incident, by_server, forgotten, left_behind, peaks, reuse, stayed


def document(incident: Incident) -> str:
    """The report as one JSON object: what was read, what stands out, and the tables with all their rows.

    `capture`: file, begins (UTC, ISO 8601), lasts (s), frames, segments, skipped (by reason), cut, dropped.
    `findings`, `servers`, `left_behind`, `stayed`, `peaks`, `reuse`, `forgotten` (streams): as `helpers.report` gives
    them.
    `sockets`: of each file of lists, `file`, `trouble`, `lists`, `strangers`, `places` (as `Witness` has them).
    `connections`, `exchanges`, `states`, `quic`: the course's tables, an object for each row. What the capture doesn't
    tell is null; times are seconds since the first frame.
    """
    capture = incident.capture
    begins = capture.start.isoformat() if capture.frames else None
    read = {"file": capture.path, "begins": begins, "lasts": capture.end, "frames": capture.frames,
            "segments": len(capture.segments), "skipped": capture.skipped, "cut": capture.cut,
            "dropped": capture.dropped}
    parts = {"capture": json.dumps(read)}
    if len(capture.segments):
        tables = {"servers": by_server(incident).rename_axis("server").reset_index(),
                  "left_behind": left_behind(incident), "stayed": stayed(incident), "peaks": peaks(incident),
                  "reuse": reuse(incident)}
        parts["findings"] = _rows(findings_of(incident))
        parts |= {name: _rows(table) for name, table in tables.items()}
        parts["forgotten"] = json.dumps(forgotten(incident).tolist())
        parts |= {"connections": _rows(incident.connections.reset_index()), "exchanges": _rows(incident.exchanges),
                  "states": _rows(incident.states)}
    if incident.witnesses:
        parts["sockets"] = "[" + ",\n".join(map(_beside, incident.witnesses)) + "]"
    if len(incident.quic):
        parts["quic"] = _rows(incident.quic.reset_index())
    return "{" + ",\n".join(f"{json.dumps(name)}: {text}" for name, text in parts.items()) + "}"


def _beside(one):
    told = {"file": one.path, "trouble": one.trouble or None, "lists": len(one.times), "strangers": one.strangers}
    return json.dumps(told)[:-1] + f', "places": {_rows(one.places)}}}'


def _rows(table: pd.DataFrame) -> str:
    return table.to_json(orient="records", double_precision=9)
