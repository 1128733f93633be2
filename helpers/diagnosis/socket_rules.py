"""Diagnosis of lists of sockets: what `ss` or `netstat` shows, what it means, and whether it matters.

Each rule is a function of the lists and the limits that yields findings. What only a capture can tell is left open.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers.diagnosis.finding import Finding, examples, table
from helpers.sockets import SocketLists

# Measured in notebook 09 on Linux 6.18: what a TIME_WAIT weighs at a server, and at a client with its bind buckets
SERVER_BYTES, CLIENT_BYTES = 256, 512
LINUX = ("ss", "netstat of Linux", "/proc/net/tcp")
SENDING = ("ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT_1", "LAST_ACK", "CLOSING")
BACKLOG_IN_QUEUES = "ss"       # whose queues of a listening socket are the connections that wait, and their limit


class SocketLimits(NamedTuple):
    """The thresholds of the rules, each with its reason."""

    close_wait: int = 5          # a program that closes does so within milliseconds: a list catches few in the act
    unanswered: int = 3          # connections that are being opened at this very moment are few, too
    ports: float = 0.8           # the share of a client's ports towards one peer above which the end is near
    repeats: int = 3             # so often has Linux sent a segment again after about 3 seconds without an answer
    fin_wait_2: int = 20         # ends whose peers have not closed yet: usual for a moment, and gone after a minute
    time_wait: int = 100         # fewer TIME_WAITs than this raise no question
    apart: float = 1.0           # seconds between two lists, before "still so" means anything


LIMITS = SocketLimits()


def diagnose_sockets(lists: SocketLists, limits: SocketLimits = LIMITS) -> pd.DataFrame:
    """One row per finding in `lists`, worst first; none where nothing wrong is seen. Columns: those of `Finding`.

    The last list of the file is judged; earlier ones tell how long a socket has been as it is.
    """
    return table(finding for rule in SOCKET_RULES.values() for finding in rule(lists, limits))


def accept_queue_full(lists: SocketLists, limits: SocketLimits) -> Iterator[Finding]:
    """`accept-queue-full`: more connections wait for accept() than the backlog allows (Linux: `sk_acceptq_is_full`)."""
    if lists.system != BACKLOG_IN_QUEUES:
        return
    rows = _last(lists)
    rows = rows[(rows["state"] == "LISTEN") & (rows["receive_queue"] > rows["send_queue"])]
    for row in rows.itertuples():
        yield Finding(
            "accept-queue-full", _program(row, f"the server at {row.local}"), int(row.receive_queue), _when(lists),
            f"{row.local}: {row.receive_queue:,} wait, the limit is {row.send_queue:,}",
            "The program accepts connections more slowly than they come; further SYNs are dropped, and clients wait.",
            "Make the program accept faster (more workers); then a larger backlog in listen() and net.core.somaxconn.")


def ports_running_out(lists: SocketLists, limits: SocketLimits) -> Iterator[Finding]:
    """`ports-running-out`: most of a client's ports towards one peer are taken (notebook 09)."""
    for local, peer, used, waiting, share in _ports(lists):
        if share >= limits.ports:
            yield Finding(
                "ports-running-out", f"the client {local}", used, _when(lists),
                f"{local} → {peer}: {used:,} ports, {share:.0%} of {_range(lists)}; {waiting:,} in TIME_WAIT",
                "When all are taken, connect() fails with EADDRNOTAVAIL (“Cannot assign requested address”).",
                "Keep connections and use them again; then a wider net.ipv4.ip_local_port_range, "
                "net.ipv4.tcp_tw_reuse=1 (time stamps needed), or more addresses of the peer.")


def close_wait_leak(lists: SocketLists, limits: SocketLimits) -> Iterator[Finding]:
    """`close-wait-leak`: the peer has closed, this program has not (RFC 9293 section 3.6)."""
    rows = _last(lists, "CLOSE_WAIT")
    for who, group in rows.groupby(_owner(rows), sort=False):
        if len(group) >= limits.close_wait:
            yield Finding(
                "close-wait-leak", who, len(group), _when(lists, group), _sockets(group),
                "The peers have closed their ends and this program has not closed its own: each socket keeps a "
                "descriptor until it does." + _once_only(lists),
                "In the program: close each response and each connection, also after an error, and take connections "
                "out of a pool when the peer has closed them.")


def syn_unanswered(lists: SocketLists, limits: SocketLimits) -> Iterator[Finding]:
    """`syn-unanswered`: SYNs that were sent again, or that are still without an answer in a second list."""
    rows = _last(lists, "SYN_SENT")
    rows = rows[(rows["repeats"] > 0).fillna(False) | _seen_before(lists, rows, limits.apart)]
    for peer, group in rows.groupby("peer", sort=False):
        if len(group) >= limits.unanswered:
            yield Finding(
                "syn-unanswered", peer, len(group), _when(lists, group), _sockets(group),
                "The server, or a firewall before it, does not answer the SYN: not even with a refusal.",
                "Look whether the address is right, the host is up, and a filter drops the packets; a full accept "
                "queue at the server looks the same.")


def not_acknowledged(lists: SocketLists, limits: SocketLimits) -> Iterator[Finding]:
    """`peer-silent`: data or a FIN that was sent again and again (RFC 6298) and is not acknowledged."""
    rows = _last(lists)
    stuck = (rows["timer"] == "on") & (rows["repeats"] >= limits.repeats)
    rows = rows[stuck.fillna(False) & rows["state"].isin(SENDING)]
    for peer, group in rows.groupby(_address(rows["peer"]), sort=False):
        yield Finding(
            "peer-silent", peer, len(group), _when(lists, group), _sockets(group),
            f"What was sent has been repeated {int(group['repeats'].max())} times without an acknowledgement: the "
            "peer is gone, or something on the way has forgotten the connection.",
            "Set a timeout in the program (TCP_USER_TIMEOUT, or its library's), and keep idle connections shorter than "
            "the timeouts of what stands between.")


def slow_reader(lists: SocketLists, limits: SocketLimits) -> Iterator[Finding]:
    """`slow-reader`: the peer's window is zero, and a timer here asks when it opens (RFC 9293 section 3.8.6.1)."""
    rows = _last(lists)
    rows = rows[(rows["timer"] == "persist").fillna(False)]
    for peer, group in rows.groupby(_address(rows["peer"]), sort=False):
        yield Finding(
            "slow-reader", peer, len(group), _when(lists, group), _sockets(group),
            "The peer's program does not read what has come: its window is zero, and data wait here.",
            "Look at the peer's program; here, limit how much and how long one may wait.")


def unread_here(lists: SocketLists, limits: SocketLimits) -> Iterator[Finding]:
    """`unread-data`: the same number of bytes lies unread in an established socket's receive queue, in two lists."""
    rows = _last(lists, "ESTABLISHED")
    before = lists.listed[lists.listed["snapshot"] == len(lists.times) - 2].set_index(["local", "peer"])
    earlier = before["receive_queue"].reindex(pd.MultiIndex.from_frame(rows[["local", "peer"]]))
    earlier = earlier.to_numpy(dtype="float64", na_value=0)
    same = (rows["receive_queue"] == earlier) & (earlier > 0) & (_apart(lists) >= limits.apart)
    rows = rows[same.fillna(False)]
    for who, group in rows.groupby(_owner(rows), sort=False):
        yield Finding(
            "unread-data", who, len(group), _when(lists, group), _sockets(group),
            f"Data have come and have not been read: {int(group['receive_queue'].sum()):,} bytes wait, in both lists.",
            "Look what the program is busy with; a close now would be a reset, since data are unread.")


def peers_keep_open(lists: SocketLists, limits: SocketLimits) -> Iterator[Finding]:
    """`peers-do-not-close`: this machine has closed, its peers have not (RFC 9293 section 3.6)."""
    rows = _last(lists, "FIN_WAIT_2")
    if len(rows) >= limits.fin_wait_2:
        yield Finding(
            "peers-do-not-close", _most_common(_address(rows["peer"])), len(rows), _when(lists),
            _sockets(rows),
            "This end has closed, and its peers have not: they stand in CLOSE_WAIT, or are gone. Linux forgets an end "
            "whose program has closed it after tcp_fin_timeout (60 s), and then there is no TIME_WAIT.",
            "Nothing to do here; look at the peers' programs for CLOSE_WAIT.")


def time_wait_harmless(lists: SocketLists, limits: SocketLimits) -> Iterator[Finding]:
    """`time-wait-harmless`: many TIME_WAITs that cost some memory, and at a client a port each (notebook 09)."""
    rows = _last(lists, "TIME_WAIT")
    server = rows[(rows["host"] == "server").fillna(False)]
    if len(server) >= limits.time_wait:
        yield Finding(
            "time-wait-harmless", "this server", len(server), _when(lists), examples(sorted(set(server["local"]))),
            f"Harmless: {_weight(lists, len(server) * SERVER_BYTES)}no port, since all share the port that listens. "
            "Only a restart needs SO_REUSEADDR while they last.",
            "Nothing to do. Long connections, or a client that closes first, make fewer of them here.")
    for local, peer, used, waiting, share in _ports(lists):
        if share < limits.ports and waiting >= limits.time_wait:
            yield Finding(
                "time-wait-harmless", f"the client {local}", waiting, _when(lists), f"{local} → {peer}",
                f"Harmless so far: {_weight(lists, waiting * CLIENT_BYTES)}{used:,} ports towards this peer, "
                f"{share:.0%} of {_range(lists)}.",
                "Keep connections and use them again if the number grows.")


def time_wait_unknown(lists: SocketLists, limits: SocketLimits) -> Iterator[Finding]:
    """`time-wait-unknown-end`: many TIME_WAITs, and the list does not tell at which end."""
    rows = _last(lists, "TIME_WAIT")
    unknown = rows[rows["host"].isna()]
    if len(unknown) >= limits.time_wait:
        yield Finding(
            "time-wait-unknown-end", "cannot tell which end", len(unknown), _when(lists), _sockets(unknown),
            "Whether they matter depends on the end: at a server they cost no port, at a client one each.",
            "List with -a: what listens tells which end this machine is.")


SOCKET_RULES = {"accept-queue-full": accept_queue_full, "ports-running-out": ports_running_out,
                "close-wait-leak": close_wait_leak, "syn-unanswered": syn_unanswered, "peer-silent": not_acknowledged,
                "slow-reader": slow_reader, "unread-data": unread_here, "peers-do-not-close": peers_keep_open,
                "time-wait-harmless": time_wait_harmless, "time-wait-unknown-end": time_wait_unknown}


def _last(lists, state=None):
    rows = lists.listed[lists.listed["snapshot"] == len(lists.times) - 1]
    return rows if state is None else rows[rows["state"] == state]


def _ports(lists):
    """(address, peer, ports in use, of them in TIME_WAIT, share of the range) of a client towards each peer."""
    rows = _last(lists)
    rows = rows[(rows["host"] == "client").fillna(False)]
    size = lists.ephemeral[1] - lists.ephemeral[0] + 1
    for (local, peer), group in rows.groupby([_address(rows["local"]), "peer"]):
        yield local, peer, len(group), int((group["state"] == "TIME_WAIT").sum()), len(group) / size


def _owner(rows):
    """Whose socket it is, as well as the list tells: the program, else the server here, or the client here."""
    server = (rows["host"] == "server").fillna(False)
    who = ("the client here that talks to " + rows["peer"]).where(~server, "the server at " + rows["local"])
    named = rows["program"] + " (pid " + rows["pid"].astype("string") + ")"
    return named.fillna("pid " + rows["pid"].astype("string")).fillna(who)


def _program(row, otherwise):
    return f"{row.program} (pid {row.pid})" if pd.notna(row.program) else otherwise


def _address(sockets):
    return sockets.str.replace(r":[^:]*$", "", regex=True)


def _sockets(rows):
    return examples(f"{row.local} → {row.peer}" for row in rows.itertuples())


def _most_common(values):
    counted = values.value_counts()
    return counted.index[0] + (f" and {len(counted) - 1:,} more" if len(counted) > 1 else "")


def _range(lists):
    """The ports that clients get, which the list does not tell."""
    return f"{lists.ephemeral[0]} to {lists.ephemeral[1]} (taken for the range)"


def _weight(lists, size):
    """What the records weigh, where the kernel is the one that was measured."""
    return f"about {size / 1000:,.0f} kB of kernel memory, and " if lists.system in LINUX else ""


def _apart(lists):
    """Seconds between the last two lists; 0 where the file does not say, or holds one."""
    passed = lists.seconds.diff().iloc[-1]
    return 0.0 if pd.isna(passed) else float(passed)


def _seen_before(lists, rows, apart):
    """Which of `rows` the list before the last one, so many seconds earlier, has in the same state."""
    if _apart(lists) < apart:
        return np.zeros(len(rows), bool)
    before = lists.listed[lists.listed["snapshot"] == len(lists.times) - 2]
    same = ["local", "peer", "state"]
    return pd.MultiIndex.from_frame(rows[same]).isin(pd.MultiIndex.from_frame(before[same]))


def _when(lists, rows=None):
    """Which list it was, and how long its sockets have been seen so."""
    if len(lists.times) == 1:
        return "in the list"
    told = f"in the last of {len(lists.times):,} lists"
    if rows is None:
        return told
    same = ["local", "peer", "state"]
    stays = lists.sockets.drop_duplicates(same, keep="last").set_index(same)
    seen = (stays["last_seen"] - stays["first_seen"]).reindex(pd.MultiIndex.from_frame(rows[same])).max()
    return f"{told}; the longest seen so for {seen:.1f} s" if pd.notna(seen) else told


def _once_only(lists):
    return " Whether they stay, a second list a few seconds later tells." if len(lists.times) == 1 else ""
