"""Conversations between two TCPs that keep RFC 9293, over a wire with faults: what was captured, and what was true.

`converse(plan)` plays them event by event. A `Plan` says who does what and when, and what becomes of each frame.
"""

import heapq
import struct
from dataclasses import dataclass, field
from itertools import count

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
ADDRESS = {"C": (0x0A000001, 50000), "S": (0x0A000002, 80)}
TO_TAP, FROM_TAP, TIMER, RETRIES = 0.004, 0.006, 0.25, 4   # s from the client to the capture, from there to the server
OTHER = {"C": "S", "S": "C"}


@dataclass
class Plan:
    """What happens: `deeds` are (wait in s, who, what), `what` being `send`, `close`, `shutdown`, `abort` or `probe`.

    By number of the frame sent: `lost` never arrives, `slow` arrives late, `twice` arrives again, `unseen` is not
    captured. `both_open`: a simultaneous open. `isn`: both initial sequence numbers.
    """

    deeds: list
    lost: frozenset = frozenset()
    slow: frozenset = frozenset()
    twice: frozenset = frozenset()
    unseen: frozenset = frozenset()
    both_open: bool = False
    isn: dict = field(default_factory=lambda: {"C": 1000, "S": 5000})


class Host:
    """One end: what it has sent (`next`), what of it is acknowledged (`una`), what it has got (`got`)."""

    def __init__(self, name, isn):
        self.name, self.isn, self.una, self.next, self.got = name, isn, 0, 0, None
        self.fin = self.peer_fin = None
        self.syn_sent = self.dead = self.closes_first = False
        self.early, self.tries = {}, 0


class Wire:
    """Plays a plan: a heap of events, what the capture saw, and the two hosts."""

    def __init__(self, plan, start=0.0):
        self.plan, self.events, self.order, self.number, self.seen = plan, [], count(), 0, []
        self.hosts = {name: Host(name, plan.isn[name]) for name in "CS"}
        self.at(start, self.open, "C")
        if plan.both_open:
            self.at(start + 0.001, self.open, "S")
        moment = start + 0.1
        for wait, name, what in plan.deeds:
            moment += wait
            self.at(moment, getattr(self, what), name)

    def at(self, moment, function, *arguments):
        heapq.heappush(self.events, (moment, next(self.order), function, arguments))

    def run(self):
        while self.events:
            self.now, _, function, arguments = heapq.heappop(self.events)
            function(*arguments)
        return self

    # What programs do

    def open(self, name):
        host = self.hosts[name]
        if host.got is None:
            host.syn_sent, host.next = True, 1
            self.emit(host, SYN, 0)
            self.at(self.now + TIMER, self.repeat, name, 0)

    def established(self, host):
        return host.got is not None and host.una >= 1 and not host.dead

    def send(self, name, size=20):
        host = self.hosts[name]
        if self.established(host) and host.fin is None:
            self.emit(host, PSH | ACK, host.next, size)
            host.next += size
            self.at(self.now + TIMER, self.repeat, name, host.next)

    def shutdown(self, name):
        host = self.hosts[name]
        if self.established(host) and host.fin is None:
            host.fin, host.closes_first = host.next, host.peer_fin is None
            self.emit(host, FIN | ACK, host.next)
            host.next += 1
            self.at(self.now + TIMER, self.repeat, name, host.next)

    def abort(self, name):
        host = self.hosts[name]
        if self.established(host):
            self.emit(host, RST | ACK, host.next)
            host.dead = True

    def probe(self, name):
        host = self.hosts[name]
        if self.established(host) and host.fin is None and host.una == host.next:
            self.emit(host, ACK, host.next - 1)

    # What TCP does

    def emit(self, host, flags, seq, size=0):
        number, self.number, ack = self.number, self.number + 1, host.got
        if number not in self.plan.unseen:
            passed = self.now + (TO_TAP if host.name == "C" else FROM_TAP)
            self.seen.append((passed, next(self.order), self.packet(host, flags, seq, ack, size)))
        if number not in self.plan.lost:
            arrives = self.now + TO_TAP + FROM_TAP + 0.05 * (number in self.plan.slow)
            for again in range(1 + (number in self.plan.twice)):
                self.at(arrives + 0.02 * again, self.receive, OTHER[host.name], flags, seq, ack, size)

    def packet(self, host, flags, seq, ack, size):
        peer = self.hosts[OTHER[host.name]]
        (src, sport), (dst, dport) = ADDRESS[host.name], ADDRESS[peer.name]
        acked = (peer.isn + ack) % 2**32 if flags & ACK and ack is not None else 0
        return struct.pack(">BBHHHBBHII", 0x45, 0, 40 + size, 0, 0, 64, 6, 0, src, dst) + struct.pack(
            ">HHIIHHHH", sport, dport, (host.isn + seq) % 2**32, acked, 0x5000 | flags, 64240, 0, 0) + bytes(size)

    def repeat(self, name, wanted, tries=1):
        """The retransmission timer: send again from what is not acknowledged, a few times."""
        host = self.hosts[name]
        if host.dead or host.una >= max(wanted, 1) or tries > RETRIES:
            return
        if host.una == 0:
            self.emit(host, SYN if host.got is None else SYN | ACK, 0)
        else:
            end = host.next if host.fin is None else host.fin
            flags = PSH | ACK if end > host.una else FIN | ACK
            self.emit(host, flags, host.una, max(end - host.una, 0))
            if end > host.una and host.fin is not None:
                self.emit(host, FIN | ACK, host.fin)
        self.at(self.now + TIMER * 2**tries, self.repeat, name, wanted, tries + 1)

    def receive(self, name, flags, seq, ack, size):
        host = self.hosts[name]
        if host.dead:
            if not flags & RST:
                self.emit(host, RST, ack or 0)
            return
        if flags & RST:
            host.dead = host.got is None or seq == host.got
            return
        if flags & ACK and ack is not None:
            host.una = max(host.una, min(ack, host.next))
        if flags & SYN:
            self.take_syn(host, flags)
            return
        if host.got is None:
            return
        self.take(host, flags, seq, size)

    def take_syn(self, host, flags):
        first, host.got = host.got is None, max(host.got or 0, 1)
        if not first or (flags & ACK and host.syn_sent):
            self.emit(host, ACK if host.una else SYN | ACK, host.next if host.una else 0)
            return
        host.next = 1
        self.emit(host, SYN | ACK, 0)
        self.at(self.now + TIMER, self.repeat, host.name, 0)

    def take(self, host, flags, seq, size):
        end = seq + size + bool(flags & FIN)
        if flags & FIN:
            host.early[seq + size] = None
        if size or seq < host.got:
            host.early.setdefault((seq, end - bool(flags & FIN)), None)
        before = host.got
        for piece in sorted(one for one in host.early if isinstance(one, tuple)):
            if piece[0] <= host.got < piece[1]:
                host.got = piece[1]
        if host.got in host.early and host.peer_fin is None:
            host.peer_fin = host.got
            host.got += 1
        if end > seq or seq != before or host.got != before:
            self.emit(host, ACK, host.next)


def converse(plan, start=0.0):
    """The wire after `plan` was played: `seen` are (time in s, order, IPv4 packet), `hosts` know what was true."""
    return Wire(plan, start).run()
