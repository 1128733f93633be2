"""TCP connections: `connections(capture)` gives one row per connection.

An end is taken to close when it sends its FIN. Where it had closed over data that could not be sent yet, and the other
end's FIN came before them, it was first too and is in TIME_WAIT too: no packet tells that.
"""

import numpy as np
import pandas as pd

from helpers.captures import Capture
from helpers.connections.ends import FIN_TIMEOUT, TIMER_SLACK, end_events, forgotten_at, keepalive_probes, names_at
from helpers.connections.roles import evidence_names, roles
from helpers.flow import HOSTS, protocols

ENDINGS, NOT_CLOSED = ("fin", "refused", "reset", "unanswered", "open"), ("unanswered", "open")
NEED_ROLES = ("client", "server", "client_retransmissions", "server_retransmissions")
NEED_SYN = ("opened", "established", "client_bytes", "server_bytes")
COUNTS = ("client_bytes", "server_bytes", "retransmissions", "client_retransmissions", "server_retransmissions",
          "keepalive_probes")
IN_PIECES = ("retransmissions", "client_retransmissions", "server_retransmissions", "longest_silence")


def connections(capture: Capture, fin_timeout: float = FIN_TIMEOUT) -> pd.DataFrame:
    """One row per TCP connection of `capture`, index `stream`.

    - `client`, `server`: `address:port`; `roles`: what shows which end is the client (`syn`, `request`, `hello` of TLS,
      `shared port`, `known port`: see `helpers.connections.roles`).
    - `opened` (first SYN), `established` (the handshake's ACK), `closed` (both FINs acknowledged, or the RST): seconds
      since the first frame.
    - `client_bytes`, `server_bytes`: payload that each end sent, every byte counted once (needs the SYN).
    - `retransmissions`, `client_retransmissions`, `server_retransmissions`: segments sent again (see
      `helpers.connections.repeats`); a frame that was captured twice counts too. `longest_silence`: the longest time
      between two segments before the connection ended, in seconds. `keepalive_probes`: how many.
    - `ending`: `fin`; `reset`; `refused` (a RST answers the SYN); `unanswered` (a SYN or data were repeated, and
      nothing came back before the capture ended); `open`.
    - `closer`: the end that closed first, `client`, `server` or `both`. `time_wait`: the end that reached TIME_WAIT, or
      `none`. `reset_by`: the end whose address sent the RST (a box on the way may send it in its name).
    - `protocol`, `server_name`: see `helpers.flow.protocols`.

    What the capture can't decide is `<NA>`. Where it lost frames (`Capture.dropped`), nothing is concluded from a frame
    that is missing. `fin_timeout`: seconds after which the kernel drops an end in FIN_WAIT_2.

    Source: RFC 9293 sections 3.5 and 3.6. An active closer sent its FIN before it had got the other end's: what it sent
    from then on doesn't acknowledge that FIN at first.
    """
    ends, spoken, in_pieces = end_events(capture), protocols(capture), "weight" in capture.headers
    first, evidence = roles(ends, spoken, not in_pieces)
    client, server = (ends.iloc[2 * np.arange(len(first)) + end].droplevel("end") for end in (
        np.maximum(first, 0), 1 - np.maximum(first, 0)))
    table = pd.concat([_columns(capture, client, server, fin_timeout), spoken[["protocol", "server_name"]]], axis=1)
    table.insert(2, "roles", evidence_names(evidence))
    return _where_roles_are_known(table, pd.Series(first >= 0, table.index), client["host"].notna(), in_pieces)


def _columns(capture: Capture, client: pd.DataFrame, server: pd.DataFrame, fin_timeout: float) -> pd.DataFrame:
    """The columns of `connections` but the protocol, from the events of each `client` and each `server`."""
    (closed, ending), unsure = _ending(client, server), client["unsure"] | server["unsure"]
    reset_by = pd.Series(_who(client["resets"], server["resets"], None), client.index)
    return pd.DataFrame({
        "client": client["local"], "server": server["local"],
        "opened": client["syn"], "established": server["syn_acked"], "closed": closed,
        "client_bytes": client["bytes"], "server_bytes": server["bytes"],
        "retransmissions": client["repeats"] + server["repeats"], "client_retransmissions": client["repeats"],
        "server_retransmissions": server["repeats"], "longest_silence": client["silence"],
        "keepalive_probes": _count_probes(capture, len(client)),
        "ending": ending.mask(ending.isin(NOT_CLOSED) & bool(capture.dropped)),
        "closer": pd.Series(_who(client["active"], server["active"], None), client.index).mask(unsure),
        "reset_by": reset_by.where(ending.isin(("reset", "refused"))),
        "time_wait": _time_wait(client, server, ending, capture, fin_timeout)})


def _where_roles_are_known(table: pd.DataFrame, known: pd.Series, syn: pd.Series, in_pieces: bool) -> pd.DataFrame:
    """The table in nullable types, with `<NA>` for what can't be known of a connection.

    That is: what is about client or server where the roles are not `known`; what needs the SYN where there is no
    `syn`; and, of a capture read in pieces, what needs segments that were left out.
    """
    whole = pd.Series(not in_pieces, table.index)
    for names, there in ((NEED_ROLES, known), (NEED_SYN, syn), (IN_PIECES, whole)):
        for name in names:
            table[name] = table[name].where(there)
    for name in ("closer", "reset_by", "time_wait"):
        table[name] = table[name].mask(~known & table[name].isin(HOSTS))
    floats = table.select_dtypes("float64").columns.difference(COUNTS)
    table[floats] = table[floats].astype("Float64")
    return table.astype(dict.fromkeys(COUNTS, "Int64"))


def _count_probes(capture: Capture, streams: int) -> np.ndarray:
    """How many keep-alive probes each stream has; in a capture made of pieces, a row may stand for several."""
    headers = capture.headers
    probes = keepalive_probes(capture).to_numpy() * headers.get("weight", 1) + headers.get("probes", 0)
    return np.bincount(capture.segments["stream"], probes, streams).astype(np.int64)


# How it ended, and who is left with TIME_WAIT

def _ending(client: pd.DataFrame, server: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """When each connection was closed, and its place among `ENDINGS`.

    `fin`: both FINs were captured, and no RST before their ACKs. `refused`: a RST was the only answer to the SYN.
    """
    both_acked, reset = np.maximum(client["fin_acked"], server["fin_acked"]), client["reset"]
    fin = client["fin"].notna() & server["fin"].notna() & ~(client["reset_before_acked"] | server["reset_before_acked"])
    unanswered = client["unanswered"] | server["unanswered"]
    refused = client["opens"] & client["syn_acked"].isna() & server["last"].isna() & server["resets"]
    kind = np.select([fin, reset.notna() & refused, reset.notna(), unanswered], [0, 1, 2, 3], 4)
    return both_acked.where(fin, reset), pd.Series(names_at(kind, ENDINGS), client.index)


def _time_wait(client: pd.DataFrame, server: pd.DataFrame, ending: pd.Series, capture: Capture,
               fin_timeout: float) -> pd.api.extensions.ExtensionArray:
    """Which end reached TIME_WAIT (RFC 9293 section 3.6): `client`, `server`, `both`, `none`, or `<NA>`.

    An active closer whose FIN was acknowledged and that got the peer's FIN, with no RST before (rule 3).
    """
    waits, cannot_tell = [], client["doubtful"] | (ending.isin(NOT_CLOSED) & ~(client["active"] | server["active"]))
    for end in (client, server):
        reached = end["active"] & end["fin_acked"].notna() & end["peer_fin"].notna()
        waits.append(reached & ~(end["reset_before_acked"] | end["reset_before_fin"]))
        forgotten = forgotten_at(end, fin_timeout) + TIMER_SLACK < capture.end
        cannot_tell |= end["active"] & ~reached & (end["reset"].isna() & ~forgotten | bool(capture.dropped))
        cannot_tell |= end["unsure"] | end["last"].isna() & (end["last_heard"] == -np.inf)
    return pd.Series(_who(*waits, "none"), client.index).mask(cannot_tell).array


def _who(client: pd.Series, server: pd.Series, neither: str | None) -> pd.api.extensions.ExtensionArray:
    """`client`, `server` or `both` where these masks say so; elsewhere `neither`."""
    return names_at(np.asarray(client) + 2 * np.asarray(server), (neither, *HOSTS, "both"))
