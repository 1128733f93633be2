"""Which end is the client, where no SYN says so: from what was sent, and from the ports.

Source: the ports that systems give to clients begin at 32768 (Linux, `ip_local_port_range`) or at 49152 (RFC 6335
section 6; Windows, macOS); a port that is bound as a "reserved" one, 512 to 1023, may be a client's (rcmd(3), NFS).
"""

import numpy as np
import pandas as pd

from helpers.connections.ends import names_at

EPHEMERAL = 32768       # from here on ports are given to clients
RESERVED = 512          # from here to 1023 programs with privileges take ports for clients too
FTP_DATA = 20           # an FTP server opens connections from this port (RFC 959 section 3.2)
KNOWN = (587, 636, 853, 989, 990, 993, 995, 3128, 3306, 5432, 5672, 6379, 8000, 8080, 8443, 9200)
MANY = 3                # peers that make a port a shared one; two may be one client's port, used towards two servers
EVIDENCE = ("syn", "request", "hello", "shared port", "known port")


def roles(ends: pd.DataFrame, spoken: pd.DataFrame, whole: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """By connection: which of its ends, 0 or 1, is the client, and what shows it (a place in `EVIDENCE`).

    Both are -1 where nothing shows it, or where two signs disagree. The evidence, the strongest first: the `syn`; a
    `request` of HTTP, or a `hello` of TLS; a `shared port`, which at least three peers use from ports for clients, or
    which is a server's in another connection of the capture; a `known port` of a service, where the other port is one
    for clients. `ends`: see `end_events`; `spoken`: see `helpers.flow.protocols`. `whole`: whether these are all
    connections of the capture; if not, `shared port` is not used.
    """
    client = np.where(ends["host"].iloc[::2].notna(), 0, -1)
    evidence = np.where(client < 0, -1, 0)
    asks = spoken["asks"].to_numpy(np.int64, na_value=-1)
    told = (client < 0) & (asks >= 0)
    client[told] = asks[told]
    evidence[told] = np.where(spoken["shown"][told] == "hello", 2, 1)
    unknown = np.flatnonzero(client < 0)
    if len(unknown):
        by_share = _shared(ends, client, unknown) if whole else np.full(len(unknown), -1)
        by_port = _known(_ports(ends)[unknown])
        agree = (by_share < 0) | (by_port < 0) | (by_share == by_port)
        client[unknown] = np.where(agree, np.maximum(by_share, by_port), -1)
        evidence[unknown] = np.where(agree, np.select([by_share >= 0, by_port >= 0], [3, 4], -1), -1)
    return client, evidence


def evidence_names(evidence: np.ndarray) -> pd.api.extensions.ExtensionArray:
    """The column `roles`: the names of what `roles` gives; `<NA>` where nothing shows it."""
    return names_at(evidence, EVIDENCE)


def _ports(ends: pd.DataFrame) -> np.ndarray:
    """The port of each end, a row for each connection."""
    return ends["local"].str.rpartition(":")[2].to_numpy(np.int64).reshape(-1, 2)


def _known(ports: np.ndarray) -> np.ndarray:
    """Which end is the client because its port is one for clients and the other one a service's; else -1."""
    service = (ports < RESERVED) & (ports != FTP_DATA) | np.isin(ports, KNOWN)
    client = ports >= EPHEMERAL
    return np.select([client[:, 0] & service[:, 1], client[:, 1] & service[:, 0]], [0, 1], -1)


def _shared(ends: pd.DataFrame, client: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Of the connections `unknown`: which end is the client because many peers share the other's port; else -1.

    `client`: what is known so far of all connections. An endpoint that was a client once is never taken for a server.
    """
    local = pd.factorize(ends["local"])[0].reshape(-1, 2)
    ports, size = _ports(ends), int(local.max()) + 1
    sure = np.flatnonzero(client >= 0)
    serves, asks = np.zeros(size, bool), np.zeros(size, bool)
    asks[local[sure, client[sure]]] = True
    serves[local[sure, client[sure] ^ 1]] = True
    pairs = np.unique(np.concatenate([local, local[:, ::-1]]), axis=0)
    peers = np.bincount(pairs[:, 0], minlength=size)
    low = np.zeros(size, bool)
    low[local[ports[:, ::-1] < EPHEMERAL]] = True               # a peer's port is not one for clients
    many = (peers >= MANY) & ~low
    servers = (serves | many) & ~asks
    one, other = servers[local[unknown]].T
    alone = peers[local[unknown]] == 1
    return np.select([other & ~one & (alone[:, 0] | serves[local[unknown, 1]]),
                      one & ~other & (alone[:, 1] | serves[local[unknown, 0]])], [0, 1], -1)
