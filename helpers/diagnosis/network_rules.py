"""Findings about ports and the way between the ends, from what addresses, ports and TTLs show."""

from collections.abc import Iterator

from helpers.diagnosis.case import Case
from helpers.diagnosis.finding import Finding, span, streams
from helpers.states import TIME_WAIT


def ports_running_out(case: Case) -> Iterator[Finding]:
    """`ports-running-out`: a client takes ports towards one server again as soon as their TIME_WAIT ends, or sooner.

    A client with ports to spare seldom meets a port that it has just closed (RFC 6056). Attempts that fail for want of
    a port send nothing, and are in no capture (connect(2): EADDRNOTAVAIL).
    """
    facts, limits = _taken_again(case.facts.sort_values("opened", kind="stable")), case.limits
    facts["soon"] = (facts["pause"] <= TIME_WAIT + limits.port_back).fillna(False)
    for (address, server), group in facts.groupby(["address", "server"]):
        again = group[group["soon"]]
        since = group[group["opened"] >= again["opened"].min()]
        ports = group["client"].nunique()
        if ports >= limits.many and len(again) >= max(limits.ports_again, limits.scarce * len(since)):
            yield Finding(
                "ports-running-out", f"{address} → {server}", len(again), span(again["opened"]), streams(again),
                f"Ports that the client had closed were taken again {again['pause'].min():.1f} s later at the soonest, "
                f"for {len(again):,} of {len(since):,} new connections; it has used {ports:,} ports for this server. "
                "When none is free, connect() fails with EADDRNOTAVAIL (“Cannot assign requested address”) and "
                "sends nothing: failed attempts are not in the capture.",
                "Keep connections and use them again; then a wider net.ipv4.ip_local_port_range, "
                "net.ipv4.tcp_tw_reuse=1 (time stamps needed), or more addresses of the server.")


def _taken_again(facts):
    """`facts` with `pause`: seconds since the client, as the first, closed the last connection of the same ends."""
    ends = facts.assign(left=facts["closed"].where(facts["time_wait"].isin(["client", "both"])))
    left = ends.groupby(["client", "server"])["left"].shift().astype("Float64")
    return facts.assign(pause=facts["opened"] - left, address=facts["client"].str.replace(r":\d+$", "", regex=True))
