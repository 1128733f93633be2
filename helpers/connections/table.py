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

ENDINGS = ("fin", "refused", "reset", "unanswered", "open")
RESET, NOT_CLOSED = (1, 2), (3, 4)      # places of these names
WHO = (*HOSTS, "both", "none")
EVENTS = ("syn", "syn_acked", "opens", "fin", "fin_acked", "peer_fin", "active", "unsure", "doubtful",
          "unanswered", "reset", "resets", "reset_before_acked", "reset_before_fin", "last", "last_heard", "bytes",
          "repeats", "silence", "heard_fin")


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
    ends, spoken, whole = end_events(capture), protocols(capture), "weight" not in capture.headers
    first, evidence = roles(ends, spoken, whole)
    client, server = _by_role(ends, first, fin_timeout)
    columns = _columns(capture, client, server, first >= 0, evidence == 0, whole)
    table = pd.DataFrame(columns | {name: spoken[name] for name in ("protocol", "server_name")}, spoken.index)
    table.insert(2, "roles", evidence_names(evidence))
    return table


def _by_role(ends: pd.DataFrame, first: np.ndarray, fin_timeout: float) -> tuple[dict, dict]:
    """The events of each client and of each server, arrays by name; as if the `first` end asked where none is known."""
    events = {name: ends[name].to_numpy() for name in EVENTS} | {"local": ends["local"].array}
    events["forgotten"] = forgotten_at(events, fin_timeout)
    client = 2 * np.arange(len(first)) + np.maximum(first, 0)
    return tuple({name: column[rows] for name, column in events.items()} for rows in (client, client ^ 1))


def _columns(capture: Capture, client: dict, server: dict, known: np.ndarray, syn: np.ndarray, whole: bool) -> dict:
    """The columns but for `roles` and what was spoken, from the events of each `client` and each `server`.

    `known`: whether the roles are known; `syn`: whether a SYN was captured. `whole`: whether all segments are here; of
    a capture that is read in pieces, what needs those that were left out is `<NA>`.
    """
    closed, ending = _ending(client, server)
    nobody = np.where(known, np.arange(len(known)), -1)
    return {
        "client": client["local"].take(nobody, allow_fill=True),
        "server": server["local"].take(nobody, allow_fill=True),
        "opened": _times(client["syn"], syn), "established": _times(server["syn_acked"], syn), "closed": _times(closed),
        "client_bytes": _counts(client["bytes"], syn), "server_bytes": _counts(server["bytes"], syn),
        "retransmissions": _counts(client["repeats"] + server["repeats"], whole),
        "client_retransmissions": _counts(client["repeats"], whole & known),
        "server_retransmissions": _counts(server["repeats"], whole & known),
        "longest_silence": _times(client["silence"], whole),
        "keepalive_probes": _counts(_count_probes(capture, len(ending))),
        "ending": names_at(np.where(np.isin(ending, NOT_CLOSED) & bool(capture.dropped), -1, ending), ENDINGS),
        "closer": _names(_who(client["active"], server["active"]), ~(client["unsure"] | server["unsure"]), known),
        "reset_by": _names(_who(client["resets"], server["resets"]), np.isin(ending, RESET), known),
        "time_wait": _names(*_time_wait(client, server, ending, capture), known)}


def _times(values: np.ndarray, known: np.ndarray | bool = True) -> pd.arrays.FloatingArray:
    """A column of times, `<NA>` where they aren't `known`, and where there is none."""
    values = np.where(known, values, np.nan)
    return pd.arrays.FloatingArray(values, np.isnan(values))


def _counts(values: np.ndarray, known: np.ndarray | bool = True) -> pd.arrays.IntegerArray:
    """A column of counts, `<NA>` where they aren't `known`, and where there is none."""
    unknown = np.logical_not(known) | np.isnan(values)
    return pd.arrays.IntegerArray(np.where(unknown, 0, values).astype(np.int64), unknown)


def _names(who: np.ndarray, sure: np.ndarray, known: np.ndarray) -> pd.api.extensions.ExtensionArray:
    """The names at the places `who` of `WHO`; `<NA>` for -1, where not `sure`, and for one of two unknown roles."""
    return names_at(np.where(sure & (known | (who > 1)), who, -1), WHO)


def _who(client: np.ndarray, server: np.ndarray) -> np.ndarray:
    """The place in `WHO` of the end, or of both, for which these masks are true; -1 where neither is."""
    return client + 2 * server - 1


def _count_probes(capture: Capture, streams: int) -> np.ndarray:
    """How many keep-alive probes each stream has; in a capture made of pieces, a row may stand for several."""
    headers, stream = capture.headers, capture.segments["stream"].to_numpy()
    probe = keepalive_probes(capture).to_numpy()
    if "weight" not in headers:
        return np.bincount(stream[probe], minlength=streams)
    return np.bincount(stream, probe * headers["weight"] + headers["probes"], streams)


# How it ended, and who is left with TIME_WAIT

def _ending(client: dict, server: dict) -> tuple[np.ndarray, np.ndarray]:
    """When each connection was closed, and its place among `ENDINGS`.

    `fin`: both FINs were captured, and no RST before their ACKs. `refused`: a RST was the only answer to the SYN.
    """
    there = {name: ~np.isnan(client[name]) for name in ("fin", "reset", "syn_acked")}
    fin = there["fin"] & ~np.isnan(server["fin"]) & ~(client["reset_before_acked"] | server["reset_before_acked"])
    refused = client["opens"] & ~there["syn_acked"] & np.isnan(server["last"]) & server["resets"]
    ending = np.select([fin, there["reset"] & refused, there["reset"], client["unanswered"] | server["unanswered"]],
                       range(4), 4)
    return np.where(fin, np.maximum(client["fin_acked"], server["fin_acked"]), client["reset"]), ending


def _time_wait(client: dict, server: dict, ending: np.ndarray, capture: Capture) -> tuple[np.ndarray, np.ndarray]:
    """The place in `WHO` of the end that reached TIME_WAIT (RFC 9293 section 3.6), and where that can be told.

    An active closer whose FIN was acknowledged and that got the peer's FIN, with no RST before (rule 3).
    """
    waits, cannot_tell = [], client["doubtful"] | (np.isin(ending, NOT_CLOSED) & ~(client["active"] | server["active"]))
    for end in (client, server):
        reached = end["active"] & ~np.isnan(end["fin_acked"]) & ~np.isnan(end["peer_fin"])
        waits.append(reached & ~(end["reset_before_acked"] | end["reset_before_fin"]))
        forgotten = end["forgotten"] + TIMER_SLACK < capture.end
        cannot_tell |= end["active"] & ~reached & (np.isnan(end["reset"]) & ~forgotten | bool(capture.dropped))
        cannot_tell |= end["unsure"] | np.isnan(end["last"]) & (end["last_heard"] == -np.inf)
    who = _who(*waits)
    return np.where(who < 0, WHO.index("none"), who), ~cannot_tell
