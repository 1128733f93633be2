"""How many of a client's ports towards one server are taken at once, TIME_WAIT included."""

from collections.abc import Iterator

import pandas as pd

from helpers.diagnosis.case import Case
from helpers.diagnosis.finding import Finding, of_groups, streams
from helpers.states import count


def range_nearly_taken(case: Case) -> Iterator[Finding]:
    """`port-range-nearly-taken`: sockets of one client to one server hold most of the ports that it can get.

    A port is taken from the SYN to the end of TIME_WAIT. Source: `__inet_hash_connect` of Linux, notebook 09.
    """
    (low, high), stays = case.limits.port_range, case.tables.states
    enough = case.limits.ports * (high - low + 1)
    stays = stays[(stays["host"] == "client").fillna(False) & stays["stream"].isin(case.facts.index)]
    if not len(stays) or stays["local"].nunique() < enough:
        return
    parts = stays["local"].str.rpartition(":")
    stays = stays.assign(client=parts[0])[pd.to_numeric(parts[2]).between(low, high)]
    stays = of_groups(stays, ["client", "peer"], "nunique", "local", enough)
    for (client, server), group in stays.groupby(["client", "peer"]):
        taken = count(group.assign(state="any"), "any")
        waiting = count(group, "TIME_WAIT").to_numpy().max(initial=0)
        most = int(taken.max())
        if most >= enough:
            yield Finding(
                "port-range-nearly-taken", f"{client} → {server}", most, f"most at {taken.idxmax():.3f} s",
                streams(group.set_index("stream")),
                f"So many ports were taken at once, {most / (high - low + 1):.0%} of {low} to {high} (taken for the "
                f"client's range); up to {waiting:,} in TIME_WAIT. When all are, "
                "connect() fails with EADDRNOTAVAIL (“Cannot assign requested address”).",
                "Keep connections and use them again; then a wider net.ipv4.ip_local_port_range, "
                "net.ipv4.tcp_tw_reuse=1 (time stamps needed), or more addresses of the server.")
