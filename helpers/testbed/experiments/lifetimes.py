"""Experiments on TIME_WAIT: how long it lasts, what it answers, and what it keeps out."""

from dataclasses import dataclass, field
from typing import ClassVar

TWO_MSL = "Which end has TIME_WAIT: it lasts 2 MSL"


@dataclass(frozen=True)
class Lifetime:
    """What the experiments here have in common. The client is the testbed itself, through ordinary sockets.

    `kernel`: the settings that are changed, by host. `witnesses`: the hosts whose packets were all made by
    their kernel and captured as it saw them. `seen_at`: the host where the capture is made. `limit`: seconds after
    the last action when a socket that is still there is an error; 0 for a recording that doesn't wait for that.
    """

    name: str
    title: str
    about: str
    kernel: dict = field(default_factory=dict)
    witnesses: tuple[str, ...] = ("client", "server")
    article: str = TWO_MSL
    seen_at: str = "client"
    limit: float = 150
    programs: ClassVar = frozenset()


@dataclass(frozen=True)
class Timers(Lifetime):
    """The server closes; each client answers some seconds later (`answers`), or too late (`late` of them)."""

    answers: tuple[float, ...] = ()
    late: int = 3
    recorder: ClassVar = "helpers.testbed.experiments.timers"


@dataclass(frozen=True)
class Protection(Lifetime):
    """Into the TIME_WAIT of each of some connections, one of `packets`.

    A packet is its name, and whether the client's kernel may answer what it brings about. `spacing`: seconds
    from one to the next.
    """

    packets: tuple[tuple[str, bool], ...] = ()
    spacing: float = 3
    recorder: ClassVar = "helpers.testbed.experiments.protection"


@dataclass(frozen=True)
class LostAck(Lifetime):
    """Connections that the client closes first; each loses so many of its last ACKs.

    `delay`: of the wire, seconds each way.
    """

    losses: tuple[int, ...] = ()
    delay: float = 0.02
    recorder: ClassVar = "helpers.testbed.experiments.lost_ack"


@dataclass(frozen=True)
class Case:
    """A visit A from `port`, with one segment that is delivered late, and then (if `visit_b`) a visit B.

    `closer`: who ends visit A: `client`, `server`, or `client, with a reset`. `into`: what that segment
    meets: `TIME_WAIT`, `visit B` or `nothing`. `overlap`: whether the first sequence number of B is chosen so that
    its second line has the numbers of the old segment.
    """

    port: int
    closer: str
    into: str
    visit_b: bool = True
    overlap: bool = False


@dataclass(frozen=True)
class OldDuplicate(Lifetime):
    """Visits; the wire, of `delay` seconds each way, holds one segment of each and delivers it too late."""

    cases: tuple[Case, ...] = ()
    delay: float = 0.02
    recorder: ClassVar = "helpers.testbed.experiments.old_duplicate"


def _timers(seconds):
    answers = tuple(round(share * seconds, 1) for share in (0.2, 0.5, 0.8))
    return Timers(
        f"timers-{seconds}", f"tcp_fin_timeout {seconds}: what it changes and what not",
        f"nginx closes an idle connection after 1 s; its kernel has tcp_fin_timeout {seconds}. Three clients "
        f"answer {', '.join(map(str, answers))} s later and three too late, when the server has forgotten "
        "them.",
        {"server": {"tcp_fin_timeout": seconds}}, answers=answers)


PROTECTION = Protection(
    "protection", "What TIME_WAIT answers: packets sent into a real one",
    "The server closes ten connections, whose clients answer at once. Into nine of its TIME_WAITs scapy then "
    "sends one packet each, below the client's TCP. The client's kernel, which has no such connection any "
    "more, may reset what the first six bring about; for the last three a blackhole route silences it. Old "
    "data and the FIN again are the connection's own frames; the others are built, and have a timestamp only "
    "where it is named.",
    witnesses=("server",), packets=(
        ("new SYN", True), ("old SYN, later timestamp", True), ("old SYN", True), ("old data", True),
        ("RST", True), ("RST, one below", True),
        ("old SYN", False), ("old data", False), ("FIN again", False)))
NUMBERS, STAMPS = ("lower", "higher"), ("no time stamp", "an older time stamp", "a newer time stamp")
NEW_SYN = Protection(
    "new-syn", "A new SYN into a server's TIME_WAIT, as from another host behind the same NAT",
    "The server closes seven connections, whose clients answer at once. Into six of its TIME_WAITs scapy then sends a "
    "SYN from the same address and port, below the client's TCP: its sequence number lower or higher than the old "
    "connection's, without a time stamp, with an older or with a newer one. The client's kernel, which has no such "
    "connection, may reset what the SYN brings about, as the other host would.",
    witnesses=("server",), packets=tuple(
        (f"SYN, {number} number, {stamp}", True) for number in NUMBERS for stamp in STAMPS))
LOST_ACKS = (
    LostAck(
        "lost-last-ack", "The last ACK is lost: TIME_WAIT answers the FIN that comes again",
        "Three clients close first, over a wire of 20 ms each way that loses none, one and three of their "
        "last ACKs. Captured at the client, which has TIME_WAIT; capture-server.pcapng is the other end's "
        "view.",
        witnesses=("client",), losses=(0, 1, 3)),
    LostAck(
        "lost-last-ack-no-time-wait", "The last ACK is lost, and nobody waits: a RST answers the FIN",
        "A client closes first, over a wire of 20 ms each way that loses its last ACK; its kernel has "
        "tcp_max_tw_buckets 0, so there is no TIME_WAIT. Captured at the server, which is reset; "
        "capture-client.pcapng is the other end's view, with the lost ACK.",
        {"client": {"tcp_max_tw_buckets": 0}}, ("server",), seen_at="server", losses=(1,)))

GUARDS_DOWN = {"client": {"tcp_timestamps": 0}, "server": {"tcp_timestamps": 0, "tcp_syncookies": 2}}
OLD_DUPLICATE = (
    "A wire of 20 ms each way holds back the third line of visit A, which TCP then sends again, and delivers "
    "it when A is over. Real: both kernels' TCP, both programs and what they read. Arranged: what the wire "
    "holds and when it lets go; no timestamps, by which the kernel would know an old segment; SYN cookies "
    "always, so that the server's first sequence number follows from the client's and not from a clock; and, "
    "where said, the client's first number in visit B, 16 above that in A, through TCP_REPAIR, so that B's "
    "second line has the old segment's numbers. Captured at the server, where the old segment arrives. ")
OLD_DUPLICATES = (
    OldDuplicate(
        "old-duplicate-refused", "A segment of an earlier connection, refused: TIME_WAIT stands",
        OLD_DUPLICATE +
        "Port 40001: the client has TIME_WAIT, so a visit B with the arranged number can't begin. Port "
        "40002: the old segment meets the server's TIME_WAIT. Port 40003: over the server's TIME_WAIT visit "
        "B begins with the kernel's own number, which must be above those of A; the old segment meets B.",
        GUARDS_DOWN, ("server",), seen_at="server",
        cases=(Case(40001, "client", "nothing", overlap=True),
               Case(40002, "server", "TIME_WAIT", visit_b=False),
               Case(40003, "server", "visit B"))),
    OldDuplicate(
        "old-duplicate-accepted", "A segment of an earlier connection, accepted: TIME_WAIT is defeated",
        OLD_DUPLICATE +
        "Visit B has the arranged number. Port 40001: the client ended visit A with a reset (SO_LINGER 0), "
        "so nobody has TIME_WAIT. Port 40002: the server has it, answers B's SYN with the old numbers, and "
        "the client's RST to that ends it (RFC 1337); the SYN that is sent again finds nobody.",
        GUARDS_DOWN, ("server",), seen_at="server",
        cases=(Case(40001, "client, with a reset", "visit B", overlap=True),
               Case(40002, "server", "visit B", overlap=True))))

LIFETIMES = (*map(_timers, (5, 10, 60)), PROTECTION, NEW_SYN, *LOST_ACKS, *OLD_DUPLICATES)
