"""Diagnosis of a capture: what the packets show, with whom, what it means, and what to do.

Each rule is a function of the facts of `per_connection` and the limits that yields findings. A rule that can't be sure
says nothing. Which end is which must be known: connections without a SYN are counted by `began_before` alone.
"""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pandas as pd

from helpers.captures import SYN, copies, without
from helpers.connections import connections
from helpers.diagnosis.case import LIMITS, Case, Limits
from helpers.diagnosis.encrypted_rules import goaway_race, one_dead_connection, tls_answer_cut
from helpers.diagnosis.file_rules import FILE_RULES, one_sided
from helpers.diagnosis.finding import Finding, clients, examples, of_groups, span, streams, table
from helpers.diagnosis.network_rules import (
    WHICH,
    by_others,
    ports_running_out,
    probes_unanswered,
    reset_by_a_box,
    spoke_elsewhere,
)
from helpers.diagnosis.per_connection import Tables, flow_of, per_connection
from helpers.diagnosis.port_rule import range_nearly_taken
from helpers.exchanges import exchanges
from helpers.states import states


def diagnose(tables: Tables, limits: Limits = LIMITS) -> pd.DataFrame:
    """One row per finding in a capture, worst first; none where nothing wrong is found. Columns: those of `Finding`.

    `tables`: an `Incident` of `helpers.report`, or an `Experiment` of `helpers.experiments`. Where the capture missed
    frames, the rules that rest on a frame that is not there say nothing, and a finding says so.
    """
    tables, again = _each_once(tables, limits)
    facts, half = per_connection(tables), one_sided(tables.capture)
    case = Case(tables, facts[~facts.index.isin(half)], limits, again, half)
    rules = [rule for rule in RULES.values() if not (tables.capture.dropped and rule in REST_ON_ABSENCE)]
    return table(finding for rule in rules for finding in rule(case))


def _each_once(tables, limits):
    """The tables without the frames that stand in the file once more, and how many these are; where they are few, 0."""
    again = copies(tables.capture)
    if not len(again) or again.mean() < limits.copies:
        return tables, 0
    capture = without(tables.capture, again)
    return SimpleNamespace(capture=capture, connections=connections(capture), exchanges=exchanges(capture),
                           states=states(capture)), int(again.sum())


def refused(case: Case) -> Iterator[Finding]:
    """`refused`: a RST answers the SYN (RFC 9293 section 3.5.2), and nothing else was sent."""
    rows = case.facts[(case.facts["ending"] == "refused").fillna(False) & case.facts["only_syns"]]
    for server, group in rows.groupby("server"):
        yield Finding(
            "refused", server, len(group), span(group["opened"]), streams(group),
            "A RST came back: nothing listens on this port, or a filter on the way refuses in its name.",
            "Start the server, or ask the right port and address (`ss -tln` lists what listens); then look at filters.")


def syn_unanswered(case: Case) -> Iterator[Finding]:
    """`syn-unanswered`: a SYN was repeated and no answer of TCP is in the capture."""
    facts = case.facts
    rows = facts[(facts["repeated_syns_for"] >= case.limits.syn_repeated) & facts["only_syns"]
                 & facts["reset_by"].isna()]
    for server, group in rows.groupby("server"):
        yield Finding(
            "syn-unanswered", server, len(group), span(group["opened"]), streams(group),
            "No TCP answered, not even with a refusal: the host is down, a filter drops the packets, or the accept "
            "queue is full.",
            "Look at the server with `ss -tln` (Recv-Q of the listening socket) and at the filters on the way.")


def path_silent(case: Case) -> Iterator[Finding]:
    """`path-silent`: data that were repeated on a connection that had worked, and never acknowledged (RFC 6298)."""
    for server, group in case.silent().groupby("server"):
        alive = spoke_elsewhere(case, server, group["silent_since"].min(), group.index)
        yield Finding(
            "path-silent", server, len(group), span(group["silent_since"]), streams(group),
            f"After {group['idle'].max():.1f} s of silence the {group['repeating'].iloc[0]}'s data were repeated "
            f"{int(group['repeated'].max())} times, and never acknowledged: the other host is gone, or a box on the "
            f"way (NAT, firewall, balancer) has forgotten the connection. {WHICH[alive]}",
            "Let no connection idle longer than the shortest timeout on the way (keep-alive probes, HTTP/2 PING, or a "
            "shorter life in the pool), and set TCP_USER_TIMEOUT.")


def fin_unanswered(case: Case) -> Iterator[Finding]:
    """`fin-unanswered`: a FIN that was repeated and never acknowledged, while nothing came (RFC 6298)."""
    facts = case.facts
    rows = facts[(facts["fin_repeated"] >= case.limits.repeats) & (facts["fin_repeated_for"] >= case.limits.silent)]
    for (end, server), group in rows.groupby(["fin_repeating", "server"]):
        yield Finding(
            "fin-unanswered", f"{clients(group)} (client)" if end == "client" else f"{server} (server)", len(group),
            span(group["fin_since"]), streams(group),
            f"The {end} closed, repeated its FIN up to {int(group['fin_repeated'].max())} times, and nothing came "
            "back: the other host is gone, or a box on the way has forgotten the connection. The socket stands in "
            "FIN_WAIT_1 or LAST_ACK until the kernel gives up (Linux: tcp_orphan_retries).",
            "Look whether the other host lives, and what stands between; let no connection idle longer than its "
            "timeout.")


def keepalive_race(case: Case) -> Iterator[Finding]:
    """`keep-alive-race`: a request on a connection that the server had closed or was closing (RFC 9112 section 9.5).

    It left the client no earlier than a round trip before the server's FIN passed, after a pause.
    """
    facts = case.facts
    finished = facts["finished_before"].astype("Float64")
    patience = (facts["server_fin"] - finished).astype("Float64")
    crossing = facts["asked_last"] >= facts["server_fin"] - (facts["established"] - facts["opened"])
    late = crossing & (patience >= case.limits.pause) & facts["answer_began"].isna()
    rows = facts.assign(patience=patience)[(late & (facts["reset_by"] == "server") & ~facts["tls"]).fillna(False)]
    for server, group in rows.groupby("server"):
        yield Finding(
            "keep-alive-race", server, len(group), span(group["closed"]), streams(group),
            f"The server closes a connection that has been idle for {group['patience'].median():.1f} s, and a request "
            "came at that moment or later: it was reset, unanswered. A proxy may make a 502 of it.",
            "The asked end should be the more patient one: a keep-alive timeout of the server above the client's; and "
            "repeat requests that may be repeated (RFC 9110 section 9.2.2).")


def gave_up(case: Case) -> Iterator[Finding]:
    """`client-gave-up`: the client closed or reset after its request and before any byte of the server.

    A client that only closes its sending side, and still takes the answer, has not given up.
    """
    facts = case.facts
    left = facts["client_fin"].astype("Float64").fillna(facts["closed"].where(facts["reset_by"] == "client"))
    began, waited = facts["answer_began"].astype("Float64"), left - facts["asked_last"]
    refused_it = began.isna() | (facts["client_reset"] & (began > left))
    first = facts["server_fin"].isna() | (facts["server_fin"] > left)
    rows = facts.assign(waited=waited)[((waited > 0) & refused_it & first & (facts["requests"] > 0)).fillna(False)]
    for server, group in rows.groupby("server"):
        yield Finding(
            "client-gave-up", clients(group), len(group), span(group["asked_last"] + group["waited"]),
            streams(group),
            f"The client ended the connection {group['waited'].median():.1f} s after its request, before any byte of "
            f"the answer of {server} (nginx logs 499).",
            "Find out why the answer takes so long; the client's timeout should be longer than the slowest answer.")


def unread_reset(case: Case) -> Iterator[Finding]:
    """`reset-with-unread-data`: the client reset in the middle of an answer (RFC 9293 section 3.6.1)."""
    facts = case.facts
    rows = facts[(facts["reset_by"] == "client").fillna(False) & (facts["requests"] > facts["answered"])
                 & facts["client_fin"].isna() & facts["server_fin"].isna() & facts["answer_began"].notna()]
    for server, group in rows.groupby("server"):
        once = " None was used for a second request." if (group["requests"] <= 1).all() else ""
        yield Finding(
            "reset-with-unread-data", clients(group), len(group), span(group["closed"]), streams(group, True),
            f"The client reset the connection before the answer of {server} was whole: its program closed it with "
            f"data unread, or was ended.{once}",
            "Read each answer to its end, then close it or use the connection again.")


def reset_instead_of_close(case: Case) -> Iterator[Finding]:
    """`reset-instead-of-close`: a RST of an end that had sent no FIN, when each request had its whole answer."""
    facts = case.facts
    rows = facts[(facts["ending"] == "reset").fillna(False) & facts["client_fin"].isna() & facts["server_fin"].isna()
                 & facts["reset_by"].notna() & (facts["requests"] > 0) & (facts["requests"] == facts["answered"])
                 & ~facts.index.isin(by_others(case))]
    for (by, server), group in rows.groupby(["reset_by", "server"]):
        yield Finding(
            "reset-instead-of-close", clients(group) if by == "client" else server, len(group), span(group["closed"]),
            streams(group, True),
            f"A RST in the {by}'s name ended a connection on which each request had its answer: its program set "
            "SO_LINGER to 0 or closed with data unread, or a box on the way spoke in its name (the TTL does not show "
            "it). There is no TIME_WAIT, and what the other end had not read is lost.",
            "Close without SO_LINGER 0, after reading to the end; let no connection idle longer than boxes on the way "
            "allow.")


def tls_close(case: Case) -> Iterator[Finding]:
    """`tls-closed-before-close-notify`: TLS; the client's alert meets a socket that the server has closed."""
    rows = case.facts[case.facts["alert_after_fin"] & (case.facts["reset_by"] == "server").fillna(False)]
    for server, group in rows.groupby("server"):
        yield Finding(
            "tls-closed-before-close-notify", server, len(group), span(group["closed"]), streams(group, True),
            "The server closed first; the client's alert (as a rule its close_notify) came after that, and was "
            "answered by a RST. Harmless for a client that had all it asked for; it is why there is no TIME_WAIT.",
            "Nothing to do; where the resets disturb, let the client close, or use connections again.")


def close_wait(case: Case) -> Iterator[Finding]:
    """`close-wait`: an end that had got the peer's FIN stood in CLOSE_WAIT (RFC 9293 section 3.6)."""
    rows = case.facts[(case.facts["close_wait"] >= case.limits.close_wait).fillna(False)]
    for (host, server), group in rows.groupby(["close_wait_host", "server"]):
        asked = host == "client"
        yield Finding(
            "close-wait", f"{clients(group)} (client)" if asked else f"{server} (server)", len(group),
            span(group["server_fin" if asked else "client_fin"]), streams(group),
            f"The {'server' if asked else 'client'} had closed, and the {host}'s program did not for up to "
            f"{group['close_wait'].max():.1f} s: until it does, the socket and its descriptor stay.",
            "In the program: close each response and connection, also after an error; a pool should look at idle "
            "connections, and drop those that the peer has closed.")


def no_reuse(case: Case) -> Iterator[Finding]:
    """`no-reuse`: a connection for each request."""
    for client, server, group in _pairs(case, case.limits.many):
        asked = group[group["requests"] > 0]
        if len(asked) >= case.limits.many and (asked["requests"] == 1).mean() >= case.limits.single:
            counted = asked["time_wait"].fillna("cannot tell").value_counts()
            ends = ", ".join(f"{end} {number:,}" for end, number in counted.items())
            yield Finding(
                "no-reuse", f"{client} → {server}", len(asked), span(asked["opened"]), streams(asked),
                f"{len(asked):,} connections for {asked['requests'].sum():,} requests, and each pays a handshake. "
                f"TIME_WAIT at: {ends}. At most {_at_once(asked)} were open at once.",
                f"Where one program asks, let it keep connections and use them again: {_at_once(asked)} would do. Many "
                "programs behind one address cannot share them.")


def pool_too_small(case: Case) -> Iterator[Finding]:
    """`pool-too-small`: connections are used again, yet the client closes many while it goes on asking."""
    for client, server, group in _pairs(case, 10):
        last, busy = group["asked_last"].max(), _busy_at_once(case.tables.exchanges, group.index)
        idle = group["client_fin"] - group["finished_last"].fillna(group["established"]).astype("Float64")
        closed = group[((group["closer"] == "client") & (group["client_fin"] < last)
                        & (idle <= case.limits.at_once)).fillna(False)]
        anew = int((group["opened"] > closed["client_fin"].min()).sum())
        if busy > 1 and len(group) >= case.limits.surplus * busy and anew >= len(group) / 4 \
                and group["requests"].sum() >= 2 * len(group):
            unused = int((group["client_bytes"] == 0).sum())
            yield Finding(
                "pool-too-small", f"{client} → {server}", len(group), span(group["opened"]), streams(closed),
                f"{len(group):,} connections for {group['requests'].sum():,} requests, of which at most {busy} were "
                f"answered at once; {unused} were never used. The client closed {len(closed):,} while it went on "
                f"asking, and opened {anew:,} anew after the first of these.",
                f"Let one pool keep as many idle connections as there are requests at once (here {busy}); a new pool, "
                "or a new process, for each piece of work looks the same.")


def slow_server(case: Case) -> Iterator[Finding]:
    """`slow-server`: the first byte of the answer comes late."""
    asked = case.tables.exchanges.join(case.facts["server"], on="stream")
    late = asked.assign(waited=asked["answered"] - asked["requested"])
    late = late[(late["waited"] >= case.limits.wait).fillna(False)]
    for server, group in late.groupby("server"):
        if len(group) >= case.limits.slow:
            yield Finding(
                "slow-server", server, len(group), span(group["requested"]), streams(group.set_index("stream")),
                f"The first byte of the answer came after {group['waited'].median():.1f} s in the median, "
                f"{group['waited'].max():.1f} s at most.",
                "Look at what the server does meanwhile (a long poll waits on purpose), whether the request took so "
                "long to send, and at losses on the way.")


def slow_reader(case: Case) -> Iterator[Finding]:
    """`slow-reader`: an end whose window is zero for long (RFC 9293 section 3.8.6.1)."""
    flow = flow_of(case.tables.capture)
    # Not a SYN: proxies hold a new connection by a zero window. Not after a FIN: who has closed reads nothing.
    counts = flow["has_ack"] & flow["valid"] & (flow["flags"] & SYN == 0) & ~flow["fin_before"]
    shut = case.facts.index.intersection(flow.loc[counts & (flow["window"] == 0), "stream"])
    rows = flow.loc[counts & flow["stream"].isin(shut), ["stream", "end", "window", "time"]].set_index("stream")
    for end in ("client", "server") if len(rows) else ():
        own = rows[rows["end"] == end]
        closed = (own["window"] == 0).to_numpy()
        begins = closed & ~np.r_[False, closed[:-1] & (own.index[1:] == own.index[:-1])]
        spell = pd.Series(begins.cumsum(), own.index).where(closed | np.r_[False, closed[:-1]])
        spells = own.assign(spell=spell).dropna(subset="spell").reset_index().groupby(["stream", "spell"])["time"]
        shut = (spells.max() - spells.min()).groupby("stream").max()
        shut = shut[shut >= case.limits.zero_window]
        group = case.facts.loc[shut.index]
        if len(group):
            yield Finding(
                "slow-reader", clients(group) if end == "client" else examples(sorted(set(group["server"]))),
                len(group), span(group["opened"]), streams(group),
                f"The {end}'s program did not read what had come: its window was zero for up to {shut.max():.1f} s.",
                f"Look at the {end}'s program: what keeps it from reading?")


RULES = {"refused": refused, "syn-unanswered": syn_unanswered, "one-dead-connection": one_dead_connection,
         "path-silent": path_silent, "probes-unanswered": probes_unanswered, "reset-by-a-box": reset_by_a_box,
         "fin-unanswered": fin_unanswered, "ports-running-out": ports_running_out,
         "port-range-nearly-taken": range_nearly_taken, "keep-alive-race": keepalive_race,
         "goaway-race": goaway_race, "client-gave-up": gave_up, "reset-with-unread-data": unread_reset,
         "reset-instead-of-close": reset_instead_of_close, "close-wait": close_wait, "slow-reader": slow_reader,
         "slow-server": slow_server, "pool-too-small": pool_too_small, "no-reuse": no_reuse,
         "tls-answer-cut": tls_answer_cut, "tls-closed-before-close-notify": tls_close, **FILE_RULES}
REST_ON_ABSENCE = (refused, syn_unanswered, path_silent, fin_unanswered, keepalive_race, gave_up, unread_reset,
                   close_wait, one_dead_connection, probes_unanswered, goaway_race, tls_answer_cut)


def _pairs(case, least):
    """(client's address, server, facts of their connections) of pairs with `least` connections, or more."""
    pair = ["address", "server"]
    for (client, server), group in of_groups(case.facts, pair, "size", "client", least).groupby(pair):
        if group["requests"].sum():
            yield client, server, group


def _at_once(group):
    """The most connections of `group` that were open at once."""
    begin, end = group["opened"].to_numpy(float), group["closed"].to_numpy(float, na_value=np.inf)
    return int((np.searchsorted(np.sort(begin), begin, "right") - np.searchsorted(np.sort(end), begin, "right")).max())


def _busy_at_once(exchanges, streams):
    rows = exchanges[exchanges["stream"].isin(streams)]
    return _at_once(rows.rename(columns={"requested": "opened", "finished": "closed"}))
