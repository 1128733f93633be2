"""Packets sent into real TIME_WAITs of the server, one for each connection, and the answers: `answers.csv`.

The connections are ordinary ones, opened, used and closed by the kernels. Then scapy builds the packets, and
they are sent below the client's TCP, which doesn't know of them. What comes back reaches the client's kernel,
which has no such connection any more: it answers as it always does, or a blackhole route keeps it silent.
"""

import socket
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from helpers.captures import read_capture
from helpers.testbed.experiments.lifetimes import Protection
from helpers.testbed.experiments.timers import ask, read_to_end
from helpers.testbed.hosts import network
from helpers.testbed.running import scenario

COLUMNS = ("case", "client", "kernel", "sent_at", "sent", "sent_seq", "answer", "answer_seq", "answer_ack",
           "reaction", "time_wait_after", "time_wait_until")
SETTLED, LOOK_AFTER = 2, 0.5
FAR = 100_000
ALL_PROTOCOLS = 0x0003
CLIENT = SimpleNamespace(program="scapy", flags=(), version=lambda: version("scapy"))


class Conversation:
    """The frames of one connection, from which packets are built that could be its own.

    `expects`: the sequence number that the server's TIME_WAIT expects; `next`: the server's own next.
    """

    def __init__(self, port, frames):
        mine = [frame for frame in frames if port in (frame[TCP].sport, frame[TCP].dport)]
        self.port, self.sent = port, [frame for frame in mine if frame[TCP].sport == port]
        self.fin = next(frame for frame in self.sent if "F" in frame[TCP].flags)
        self.data = next(frame for frame in self.sent if frame[TCP].payload)
        self.expects, self.next = self.fin[TCP].seq + 1, self.fin[TCP].ack

    def segment(self, flags: str, seq: int, options: Sequence = ()) -> Ether:
        """A frame of the client with `seq`, without data."""
        head, port = self.fin, self.fin[TCP]
        ends = IP(src=head[IP].src, dst=head[IP].dst) / TCP(sport=port.sport, dport=port.dport)
        ends[TCP].flags, ends[TCP].seq, ends[TCP].options = flags, seq % (1 << 32), list(options)
        return Ether(src=head.src, dst=head.dst) / ends

    def later(self, milliseconds: int = 10_000) -> tuple:
        """A time stamp option as a clock would give it `milliseconds` after the FIN's; negative: before."""
        value, _ = dict(self.fin[TCP].options)["Timestamp"]
        return "Timestamp", ((value + milliseconds) % (1 << 32), 0)

    def syn(self, distance: int, *milliseconds: int) -> Ether:
        """A SYN whose number is `distance` above the expected one; `milliseconds`: of its time stamp (see `later`)."""
        return self.segment("S", self.expects + distance, [self.later(each) for each in milliseconds])


PACKETS = {
    "old SYN": lambda it: it.segment("S", it.expects - FAR),
    "new SYN": lambda it: it.segment("S", it.expects + FAR),
    "old SYN, later timestamp": lambda it: it.segment("S", it.expects - FAR, [it.later()]),
    "old data": lambda it: it.data,
    "FIN again": lambda it: it.fin,
    "RST": lambda it: it.segment("R", it.expects),
    "RST, one below": lambda it: it.segment("R", it.expects - 1),
    "SYN, lower number, no time stamp": lambda it: it.syn(-FAR),
    "SYN, lower number, an older time stamp": lambda it: it.syn(-FAR, -10_000),
    "SYN, lower number, a newer time stamp": lambda it: it.syn(-FAR, 10_000),
    "SYN, higher number, no time stamp": lambda it: it.syn(FAR),
    "SYN, higher number, an older time stamp": lambda it: it.syn(FAR, -10_000),
    "SYN, higher number, a newer time stamp": lambda it: it.syn(FAR, 10_000)}


def record(task: Protection, folder: Path, say: Callable[[str], None]) -> None:
    """Record `task` (a `Protection`) into `folder`."""
    account = []
    say("started")
    scenario.play(task, folder, lambda timeline: account.extend(_scene(task, timeline)), client=CLIENT)
    table = pd.DataFrame(account).join(_answers(folder, account)).reindex(columns=COLUMNS)
    table.convert_dtypes().to_csv(folder / "answers.csv", index=False, lineterminator="\n")


def _scene(task, timeline):
    """Send one packet of `task` into the TIME_WAIT of each connection; yield a dict about each."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS)) as tap:
        tap.bind((network.INTERFACE, ALL_PROTOCOLS))
        conversations = _converse(tap, len(task.packets) + 1)
        timeline.note("every connection is closed")
        time.sleep(SETTLED)
        yield {"case": "nothing", "it": conversations.pop(0), "kernel": "answers"}
        for (name, answers), conversation in zip(task.packets, conversations):
            if not answers:
                network.run("client", "ip", "route", "replace", "blackhole", network.ADDRESSES["server"])
            yield _send(tap, name, conversation, timeline) | {"kernel": "answers" if answers else "silent"}
            time.sleep(task.spacing - LOOK_AFTER)


def _converse(tap, number):
    """`number` connections, opened one after the other, closed by the server and then by the client."""
    connections = [ask() for _ in range(number)]
    ports = [connection.getsockname()[1] for connection in connections]
    for connection in connections:
        read_to_end(connection)
        connection.close()
    time.sleep(SETTLED)
    frames = [Ether(frame) for frame in _waiting(tap)]
    return [Conversation(port, [frame for frame in frames if TCP in frame]) for port in ports]


def _waiting(tap):
    """The frames that `tap` has seen and nobody has read."""
    tap.setblocking(False)
    while True:
        try:
            yield tap.recv(65536)
        except BlockingIOError:
            return


def _send(tap, name, conversation, timeline):
    packet = Ether(bytes(PACKETS[name](conversation)))
    timeline.note(f"port {conversation.port}: {name}")
    sent_at = time.time()
    tap.send(bytes(packet))
    time.sleep(LOOK_AFTER)
    there = any(peer.endswith(f":{conversation.port}") and state == "TIME_WAIT"
                for _, peer, state in network.sockets("server"))
    return {"case": name, "it": conversation, "sent_at": f"{sent_at:.6f}", "sent": str(packet[TCP].flags),
            "sent_seq": _signed(packet[TCP].seq - conversation.expects), "time_wait_after": there}


def _answers(folder, account):
    """What came back, a row per row of `account`: numbers counted from those of the TIME_WAIT."""
    capture, sockets = read_capture(folder / "capture.pcapng"), pd.read_csv(folder / "sockets.csv")
    rows = []
    for done in account:
        it, segments = done.pop("it"), capture.segments
        client = f"{network.ADDRESSES['client']}:{it.port}"
        waits = sockets[(sockets["peer"] == client) & (sockets["state"] == "TIME_WAIT")]
        row = {"client": client, "time_wait_until": waits["last_seen"].max()}
        if "sent_at" in done:
            since = float(done["sent_at"]) - capture.start.value / 1e9
            mine = (segments["sport"] == it.port) | (segments["dport"] == it.port)
            row |= _answer(segments[mine & (segments["time"] >= since)].iloc[1:], it)
        rows.append(row)
    return pd.DataFrame(rows)


def _answer(segments, it):
    """The server's first segment of `segments`, and the client's kernel's."""
    theirs, ours = segments[segments["dport"] == it.port], segments[segments["sport"] == it.port]
    row = {"reaction": ours["flags"].iloc[0]} if len(ours) else {}
    if len(theirs):
        first = theirs.iloc[0]
        row |= {"answer": first["flags"], "answer_seq": _signed(int(first["seq"]) - it.next),
                "answer_ack": _signed(int(first["ack"]) - it.expects)}
    return row


def _signed(distance):
    """A distance between sequence numbers, the short way round the circle."""
    return (distance + (1 << 31)) % (1 << 32) - (1 << 31)
