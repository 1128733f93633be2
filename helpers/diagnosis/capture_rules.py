"""Diagnosis of a capture: what the packets show, with whom, what it means, and what to do.

Each rule is a function of the facts of `per_connection` and the limits that yields findings. A rule that can't be sure
says nothing. Which end is which must be known: connections without a SYN are counted by `began_before` alone.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers.diagnosis.finding import Finding, examples, table
from helpers.diagnosis.per_connection import Tables, per_connection
from helpers.flow import segment_flow


class Limits(NamedTuple):
    """From where on a rule speaks, and why then."""

    close_wait: float = 1.0      # seconds; a program that closes after the peer's FIN does so within milliseconds
    wait: float = 1.0            # seconds to the first byte of an answer; what people notice (Nielsen 1993)
    slow: int = 3                # so many slow answers: one may be chance
    many: int = 20               # connections of one client to one server, before a missing reuse is worth a word
    single: float = 0.95         # share of connections with exactly one request that makes "no reuse"
    surplus: float = 1.5         # connections for each one that was ever busy at once
    repeats: int = 3             # Linux repeats after 0.2, 0.4, 0.8 s ...: the third time after more than a second
    zero_window: float = 0.5     # seconds; a reader that is merely busy opens its window sooner


LIMITS = Limits()
TICKETS = 4096      # bytes: what a TLS server sends unasked behind the handshake (session tickets) is less than this


class Case(NamedTuple):
    """What a rule is given: the tables, and the facts of `per_connection` by connection."""

    tables: Tables
    facts: pd.DataFrame
    limits: Limits


def diagnose(tables: Tables, limits: Limits = LIMITS) -> pd.DataFrame:
    """One row per finding in a capture, worst first; none where nothing wrong is found. Columns: those of `Finding`.

    `tables`: an `Incident` of `helpers.report`, or an `Experiment` of `helpers.experiments`.
    """
    case = Case(tables, per_connection(tables), limits)
    return table(finding for rule in RULES for finding in rule(case))


def refused(case: Case) -> Iterator[Finding]:
    """`refused`: a RST answers the SYN (RFC 9293 section 3.5.2): nobody listens on that port."""
    rows = case.facts[(case.facts["reset_by"] == "server").fillna(False) & ~case.facts["syn_answered"]]
    for server, group in rows.groupby("server"):
        yield Finding(
            "refused", server, len(group), _span(group["opened"]), _streams(group),
            "The host is there, and nothing listens on this port: the program is down, or listens elsewhere.",
            "Start the server, or ask the right port and address (`ss -tln` lists what listens).")


def syn_unanswered(case: Case) -> Iterator[Finding]:
    """`syn-unanswered`: a SYN was repeated and nothing ever came back."""
    facts = case.facts
    rows = facts[(facts["syns"] > 1) & ~facts["syn_answered"] & facts["reset_by"].isna()]
    for server, group in rows.groupby("server"):
        yield Finding(
            "syn-unanswered", server, len(group), _span(group["opened"]), _streams(group),
            "Not even a refusal came: the host is down, a filter drops the packets, or the accept queue is full.",
            "Look at the server with `ss -tln` (Recv-Q of the listening socket) and at the filters on the way.")


def path_silent(case: Case) -> Iterator[Finding]:
    """`path-silent`: data that were repeated on a connection that had worked, and nothing came back (RFC 6298)."""
    facts = case.facts
    rows = facts[(facts["repeated"] >= case.limits.repeats) & (facts["heard"] > 0) & facts["established"].notna()]
    for server, group in rows.groupby("server"):
        yield Finding(
            "path-silent", server, len(group), _span(group["silent_since"]), _streams(group),
            f"After {group['idle'].max():.1f} s of silence the {group['repeating'].iloc[0]}'s data were repeated "
            f"{int(group['repeated'].max())} times without any answer: the other host is gone, or a box on the way "
            "(NAT, firewall, balancer) has forgotten the connection.",
            "Let no connection idle longer than the shortest timeout on the way (keep-alive probes, HTTP/2 PING, or a "
            "shorter life in the pool), and set TCP_USER_TIMEOUT.")


def keepalive_race(case: Case) -> Iterator[Finding]:
    """`keep-alive-race`: a request on a connection that the server had closed or was closing (RFC 9112 section 9.5)."""
    facts = case.facts
    rows = facts[facts["server_fin"].notna() & (facts["reset_by"] == "server").fillna(False) & (facts["answered"] > 0)
                 & (facts["requests"] > facts["answered"]) & ~facts["tls"].fillna(False)]
    finished = case.tables.exchanges.groupby("stream")["finished"].max()
    for server, group in rows.groupby("server"):
        patience = (group["server_fin"] - finished.reindex(group.index)).median()
        yield Finding(
            "keep-alive-race", server, len(group), _span(group["closed"]), _streams(group),
            f"The server closes a connection that has been idle for {patience:.1f} s, and a request came at that "
            "moment or later: it was reset, unanswered. A proxy makes a 502 of it.",
            "The asked end should be the more patient one: a keep-alive timeout of the server above the client's; and "
            "repeat requests that may be repeated (RFC 9110 section 9.2.2).")


def gave_up(case: Case) -> Iterator[Finding]:
    """`client-gave-up`: the client closed or reset after its request and before any byte of the answer."""
    facts, last = case.facts, case.tables.exchanges.drop_duplicates("stream", keep="last").set_index("stream")
    asked = last["requested"].reindex(facts.index).astype("Float64")
    answered = last["answered"].reindex(facts.index).astype("Float64")
    left = facts["client_fin"].astype("Float64").fillna(facts["closed"].where(facts["reset_by"] == "client"))
    first = facts["server_fin"].isna() | (facts["server_fin"] > left)
    rows = facts.assign(waited=left - asked)[
        ((left > asked) & ~(answered <= left).fillna(False) & first & (facts["requests"] > 0)).fillna(False)]
    for server, group in rows.groupby("server"):
        yield Finding(
            "client-gave-up", _clients(group), len(group), _span(group["closed"]), _streams(group),
            f"The client ended the connection {group['waited'].median():.1f} s after its request, before any byte of "
            f"the answer of {server} (nginx logs 499).",
            "Find out why the answer takes so long; the client's timeout should be longer than the slowest answer.")


def unread_reset(case: Case) -> Iterator[Finding]:
    """`reset-with-unread-data`: the client reset while the answer was still coming (RFC 9293 section 3.6.1)."""
    facts = case.facts
    rows = facts[(facts["reset_by"] == "client").fillna(False) & (facts["in_flight"] > 0) & facts["client_fin"].isna()
                 & (facts["server_bytes"] > 0) & facts["server_fin"].isna()
                 & ((facts["requests"] > 0) | (facts["in_flight"] > TICKETS))]
    for server, group in rows.groupby("server"):
        once = " None was used for a second request." if (group["requests"] <= 1).all() else ""
        yield Finding(
            "reset-with-unread-data", _clients(group), len(group), _span(group["closed"]), _streams(group, True),
            f"The client reset the connection while {server} was still sending: its program closed it with the answer "
            f"unread.{once}",
            "Read each answer to its end, then close it or use the connection again.")


def reset_instead_of_close(case: Case) -> Iterator[Finding]:
    """`reset-instead-of-close`: a RST by an end that had sent no FIN, when everything was answered and acknowledged."""
    facts = case.facts
    rows = facts[(facts["ending"] == "reset").fillna(False) & facts["client_fin"].isna() & facts["server_fin"].isna()
                 & facts["established"].notna() & facts["reset_by"].notna() & (facts["in_flight"] == 0)
                 & (facts["requests"] == facts["answered"]) & (facts["server_bytes"] > 0)]
    for (by, server), group in rows.groupby(["reset_by", "server"]):
        yield Finding(
            "reset-instead-of-close", _clients(group) if by == "client" else server, len(group), _span(group["closed"]),
            _streams(group, True),
            f"The {by} reset an idle connection to end it: there is no TIME_WAIT, and what the other end had not read "
            "is lost. The program set SO_LINGER to 0, or closed with data unread.",
            "Close without SO_LINGER 0, after reading to the end.")


def tls_close(case: Case) -> Iterator[Finding]:
    """`tls-closed-before-close-notify`: TLS; the client's last record meets a socket that the server has closed."""
    facts = case.facts
    rows = facts[facts["tls"].fillna(False) & (facts["reset_by"] == "server").fillna(False)
                 & facts["server_fin"].notna() & (facts["client_after_fin"] > 0) & (facts["client_after_fin"] < 100)]
    for server, group in rows.groupby("server"):
        yield Finding(
            "tls-closed-before-close-notify", server, len(group), _span(group["closed"]), _streams(group, True),
            "The server closed first and at once; the client's short last record (by its size a close_notify) came "
            "after that, and was answered by a RST. Harmless for a client that had all it asked for; it is why there "
            "is no TIME_WAIT.",
            "Nothing to do; where the resets disturb, let the client close, or use connections again.")


def close_wait(case: Case) -> Iterator[Finding]:
    """`close-wait`: an end that had got the peer's FIN stood in CLOSE_WAIT (RFC 9293 section 3.6)."""
    rows = case.facts[(case.facts["close_wait"] >= case.limits.close_wait).fillna(False)]
    for (host, server), group in rows.groupby(["close_wait_host", "server"]):
        asked = host == "client"
        yield Finding(
            "close-wait", f"{_clients(group)} (client)" if asked else f"{server} (server)", len(group),
            _span(group["server_fin" if asked else "client_fin"]), _streams(group),
            f"The {'server' if asked else 'client'} had closed, and the {host}'s program did not for up to "
            f"{group['close_wait'].max():.1f} s: until it does, the socket and its descriptor stay.",
            "In the program: close each response and connection, also after an error; a pool should look at idle "
            "connections, and drop those that the peer has closed.")


def no_reuse(case: Case) -> Iterator[Finding]:
    """`no-reuse`: a connection for each request."""
    for client, server, group in _pairs(case):
        asked = group[group["requests"] > 0]
        if len(asked) >= case.limits.many and (asked["requests"] == 1).mean() >= case.limits.single:
            who = asked["closer"].value_counts()
            closes = f"; the {who.index[0]} closes first {who.iloc[0]:,} times" if len(who) else ""
            yield Finding(
                "no-reuse", f"{client} → {server}", len(asked), _span(asked["opened"]), _streams(asked),
                f"{len(asked):,} connections for {asked['requests'].sum():,} requests{closes}: each pays a handshake, "
                f"and leaves a TIME_WAIT at the end that closes first. At most {_at_once(asked)} were open at once.",
                f"Keep connections and use them again: a pool of {_at_once(asked)} would do.")


def pool_too_small(case: Case) -> Iterator[Finding]:
    """`pool-too-small`: connections are used again, yet the client closes many while it goes on asking."""
    for client, server, group in _pairs(case):
        last, busy = group["last_request"].max(), _busy_at_once(case.tables.exchanges, group.index)
        closed = group[(group["closer"] == "client").fillna(False) & (group["client_fin"] < last).fillna(False)]
        anew = int((group["opened"] > closed["client_fin"].min()).sum())
        if len(group) >= max(10, case.limits.surplus * busy) and anew >= len(group) / 4 \
                and group["requests"].sum() >= 2 * len(group):
            unused = int((group["client_bytes"] == 0).sum())
            yield Finding(
                "pool-too-small", f"{client} → {server}", len(group), _span(group["opened"]), _streams(closed),
                f"{len(group):,} connections for {group['requests'].sum():,} requests, of which at most {busy} were "
                f"answered at once; {unused} were never used. The client closed {len(closed):,} while it went on "
                f"asking, and opened {anew:,} anew after the first of these.",
                f"Let the pool keep as many idle connections as there are requests at once (here {busy}).")


def slow_server(case: Case) -> Iterator[Finding]:
    """`slow-server`: the first byte of the answer comes late."""
    asked = case.tables.exchanges.join(case.facts["server"], on="stream")
    late = asked.assign(waited=asked["answered"] - asked["requested"])
    late = late[(late["waited"] >= case.limits.wait).fillna(False)]
    for server, group in late.groupby("server"):
        if len(group) >= case.limits.slow:
            yield Finding(
                "slow-server", server, len(group), _span(group["requested"]), _streams(group.set_index("stream")),
                f"The first byte of the answer came after {group['waited'].median():.1f} s in the median, "
                f"{group['waited'].max():.1f} s at most.",
                "Look at what the server does meanwhile; the network had carried the request before.")


def slow_reader(case: Case) -> Iterator[Finding]:
    """`slow-reader`: an end whose window is zero for long (RFC 9293 section 3.8.6.1)."""
    flow = segment_flow(case.tables.capture)
    rows = flow[flow["has_ack"] & flow["valid"] & flow["stream"].isin(case.facts.index)]
    rows = rows[rows["stream"].isin(rows.loc[rows["window"] == 0, "stream"])].set_index("stream")
    for end in ("client", "server"):
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
                "slow-reader", _clients(group) if end == "client" else examples(sorted(set(group["server"]))),
                len(group), _span(group["opened"]), _streams(group),
                f"The {end}'s program did not read what had come: its window was zero for up to {shut.max():.1f} s.",
                f"Look at the {end}'s program: what keeps it from reading?")


def began_before(case: Case) -> Iterator[Finding]:
    """`began-before-the-capture`: connections without a SYN, of which little can be told."""
    unknown = case.tables.connections["client"].isna()
    if unknown.any():
        yield Finding(
            "began-before-the-capture", "cannot tell", int(unknown.sum()), "from the beginning",
            f"{_streams(case.tables.connections[unknown])}",
            "The opening of these connections is not in the capture: no rule speaks about them.",
            "Begin to record before the trouble does, or take the listening ports from `ss -tln`.")


RULES = (refused, syn_unanswered, path_silent, keepalive_race, gave_up, unread_reset, reset_instead_of_close,
         close_wait, slow_reader, slow_server, pool_too_small, no_reuse, tls_close, began_before)


def _pairs(case):
    """(client address, server, facts of their connections, with `last_request`) of each pair with many connections."""
    facts = case.facts.assign(last_request=case.tables.exchanges.groupby("stream")["requested"].max())
    for (client, server), group in facts.groupby([facts["client"].str.replace(r":\d+$", "", regex=True), "server"]):
        if group["requests"].sum():
            yield client, server, group


def _at_once(group):
    """The most connections of `group` that were open at once."""
    begin, end = group["opened"].to_numpy(float), group["closed"].to_numpy(float, na_value=np.inf)
    return int((np.searchsorted(np.sort(begin), begin, "right") - np.searchsorted(np.sort(end), begin, "right")).max())


def _busy_at_once(exchanges, streams):
    rows = exchanges[exchanges["stream"].isin(streams)]
    return _at_once(rows.rename(columns={"requested": "opened", "finished": "closed"}))


def _clients(group):
    return examples(sorted(set(group["client"].str.replace(r":\d+$", "", regex=True))))


def _streams(group, frames=False):
    """Where to look: `tcp.stream` numbers, and the frames of the resets."""
    told = "streams " + examples(map(str, sorted(set(group.index))))
    return told + ("; frames " + examples(group["reset_frame"].dropna().astype(str)) if frames else "")


def _span(times):
    times = times.dropna()
    if not len(times):
        return "cannot tell"
    first, last = float(times.min()), float(times.max())
    return f"at {first:.3f} s" if first == last else f"{first:.3f} to {last:.3f} s"
