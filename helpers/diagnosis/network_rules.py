"""Findings about ports and the way between the ends, from what addresses, ports and TTLs show."""

from collections.abc import Iterator

import pandas as pd

from helpers.diagnosis.case import Case
from helpers.diagnosis.finding import Finding, clients, of_groups, span, streams
from helpers.states import TIME_WAIT

WHICH = {True: "Its address answered on other connections meanwhile, so it is rather the way.",
         False: "Nothing else came from its address meanwhile, so that this capture can't tell which."}


def ports_running_out(case: Case) -> Iterator[Finding]:
    """`ports-running-out`: a client takes ports towards one server again as soon as their TIME_WAIT ends, or sooner.

    A client with ports to spare seldom meets a port that it has just closed (RFC 6056). Attempts that fail for want of
    a port send nothing, and are in no capture (connect(2): EADDRNOTAVAIL).
    """
    limits = case.limits
    if len(case.facts) < limits.many:
        return
    facts = _taken_again(case.facts.sort_values("opened", kind="stable"))
    facts["soon"] = (facts["pause"] <= TIME_WAIT + limits.port_back).fillna(False)
    pair = ["address", "server"]
    facts = of_groups(of_groups(facts, pair, "nunique", "client", limits.many), pair, "sum", "soon", limits.ports_again)
    for (address, server), group in facts.groupby(pair):
        again = group[group["soon"]]
        since = group[group["opened"] >= again["opened"].min()]
        ports = group["client"].nunique()
        if len(again) >= limits.scarce * len(since):
            yield Finding(
                "ports-running-out", f"{address} → {server}", len(again), span(again["opened"]), streams(again),
                f"Ports that the client had closed were taken again {again['pause'].min():.1f} s later at the soonest, "
                f"for {len(again):,} of {len(since):,} new connections; it has used {ports:,} ports for this server. "
                "When none is free, connect() fails with EADDRNOTAVAIL (“Cannot assign requested address”) and "
                "sends nothing: failed attempts are not in the capture.",
                "Keep connections and use them again; then a wider net.ipv4.ip_local_port_range, "
                "net.ipv4.tcp_tw_reuse=1 (time stamps needed), or more addresses of the server.")


def reset_by_a_box(case: Case) -> Iterator[Finding]:
    """`reset-by-a-box`: the RST that ended a connection has another TTL than all other segments of its end.

    A router takes one from the TTL of what it forwards (RFC 791), so that an end's segments arrive with one TTL where
    they go one way. Where they have several, or the capture was taken at several places, the rule is silent.
    """
    for (by, server), group in _strangely_reset(case).groupby(["reset_by", "server"]):
        yield Finding(
            "reset-by-a-box", f"the way between {clients(group)} and {server}", len(group), span(group["closed"]),
            streams(group, True),
            f"A RST in the {by}'s name came with TTL {int(group['reset_ttl'].iloc[0])}, all else of the {by} with "
            f"{int(group['own_ttl'].iloc[0])}: as a rule another machine sent it, a NAT, firewall or balancer that has "
            "forgotten the connection or forbids it.",
            "Look at that machine's idle timeout and log; let no connection idle longer (keep-alive probes, HTTP/2 "
            "PING, or a shorter life in the pool).")


def probes_unanswered(case: Case) -> Iterator[Finding]:
    """`probes-unanswered`: keep-alive probes, one after the other, and nothing comes back (RFC 9293 section 3.8.4)."""
    for server, group in _probing_in_vain(case).groupby("server"):
        alive = spoke_elsewhere(case, server, group["probes_since"].min(), group.index)
        yield Finding(
            "probes-unanswered", server, len(group), span(group["probes_since"]), streams(group),
            f"{int(group['probes_in_vain'].max())} keep-alive probes in a row had no answer: the other host is gone, "
            f"or a box on the way (NAT, firewall, balancer) has forgotten the connection. {WHICH[alive]}",
            "The probes did their work: the program is told (ETIMEDOUT). Shorter tcp_keepalive_time and _intvl tell it "
            "sooner.")


def by_others(case: Case) -> pd.Index:
    """The connections whose RST no program wished for: a box sent it, or the kernel after probes in vain."""
    return _strangely_reset(case).index.union(_probing_in_vain(case).index)


def _strangely_reset(case):
    facts = case.facts
    return facts[facts["reset_ttl"].notna() & facts["own_ttl"].notna() & (facts["reset_ttl"] != facts["own_ttl"])]


def _probing_in_vain(case):
    facts, limits = case.facts, case.limits
    return facts[(facts["probes_in_vain"] >= limits.repeats) & (facts["probes_for"] >= limits.silent)]


def spoke_elsewhere(case: Case, server: str, since: float, silent: pd.Index) -> bool:
    """Whether the server's address sent anything after `since`, on other connections than the `silent` ones."""
    segments = case.tables.capture.segments
    address = server.rpartition(":")[0].strip("[]")
    late = segments[(segments["time"] > since) & ~segments["stream"].isin(silent)]
    return bool((late["src"].astype("string") == address).any())


def _taken_again(facts):
    """`facts` with `pause`: seconds since the client, as the first, closed the last connection of the same ends."""
    ends = facts.assign(left=facts["closed"].where(facts["time_wait"].isin(["client", "both"])))
    left = ends.groupby(["client", "server"])["left"].shift().astype("Float64")
    return facts.assign(pause=facts["opened"] - left)
