"""The whole idea in plain Python: read a capture, follow its connections, name the states of both ends.

Loops and dictionaries, in the order in which one would explain it: read it from the top. The fast modules give the same
answers in columns, and are tested against this one. Numbers such as 3.10.7.4 are sections of RFC 9293.
"""

import struct
from collections import namedtuple
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10  # section 3.1
TIME_WAIT = FIN_TIMEOUT = 60.0  # seconds, on Linux: TCP_TIMEWAIT_LEN and tcp_fin_timeout; a timer may be late by SLACK
SLACK, COPIES, NOTHING, EVER, NEVER = 2.0, 0.1, float("-inf"), (float("-inf"),) * 2, (float("inf"),) * 2
Segment = namedtuple("Segment", "frame time src dst seq ack flags length window")
Stay = namedtuple("Stay", "stream host local peer state since until")


# 1. From a file to segments: the frames, then header by header to TCP
def read(path: str | Path) -> tuple[list[Segment], float]:
    """The TCP segments of a pcap or pcapng file, and when it ends; times are seconds since its first frame."""
    data = Path(path).read_bytes()
    frames = list(pcapng_frames(data) if data[:4] == b"\x0a\x0d\x0d\x0a" else pcap_frames(data))
    times = [(time - frames[0][0]) / 1e9 for time, _, _ in frames]
    found = (segment(number, times[number - 1], link, frame) for number, (_, link, frame) in enumerate(frames, 1))
    return [one for one in found if one], max(times, default=0.0)


def pcap_frames(data: bytes) -> Iterator[tuple]:
    """Time in ns, link type and bytes of each frame of a pcap file (draft-ietf-opsawg-pcap)."""
    order, unit = ("<" if data[0] in (0xD4, 0x4D) else ">"), (1 if 0x4D in (data[0], data[3]) else 1000)
    link, at = struct.unpack_from(order + "I", data, 20)[0] & 0xFFFF, 24
    while at + 16 <= len(data):
        seconds, fraction, size = struct.unpack_from(order + "III", data, at)
        if at + 16 + size <= len(data):
            yield seconds * 10**9 + fraction * unit, link, data[at + 16:at + 16 + size]
        at += 16 + size


def pcapng_frames(data: bytes) -> Iterator[tuple]:
    """The same of a pcapng file (draft-ietf-opsawg-pcapng): block 1 describes an interface, block 6 holds a packet."""
    at, order, interfaces = 0, "<", []
    while at + 12 <= len(data):
        if data[at:at + 4] == b"\x0a\x0d\x0d\x0a":
            order, interfaces = "<" if data[at + 8] == 0x4D else ">", []
        kind, size = struct.unpack_from(order + "II", data, at)
        if size < 12 or at + size > len(data):
            return
        if kind == 1:
            unit = 1 if struct.pack(order + "HHB", 9, 1, 9) in data[at + 16:at + size] else 1000  # option 9: the clock
            interfaces.append((struct.unpack_from(order + "H", data, at + 8)[0], unit))
        elif kind == 6:
            number, high, low, captured = struct.unpack_from(order + "IIII", data, at + 8)
            link, unit = interfaces[number]
            yield (high << 32 | low) * unit, link, data[at + 28:at + 28 + captured]
        at += size


def segment(number: int, time: float, link: int, frame: bytes) -> Segment | None:
    """The TCP segment in a frame, or None: Ethernet (also with a VLAN tag), Linux cooked or raw IP; IPv4 or IPv6."""
    at = {1: 14, 113: 16, 276: 20}.get(link, 0)
    at += 4 if link == 1 and frame[12:14] == b"\x81\x00" else 0
    ip, version = frame[at:], frame[at] >> 4 if at < len(frame) else 0
    if version == 4 and len(ip) >= 40 and ip[9] == 6 and not int.from_bytes(ip[6:8]) & 0x1FFF:
        tcp, end, addresses = 4 * (ip[0] & 15), int.from_bytes(ip[2:4]), (ip[12:16], ip[16:20])
    elif version == 6 and len(ip) >= 60 and ip[6] == 6:
        tcp, end, addresses = 40, 40 + int.from_bytes(ip[4:6]), (ip[8:24], ip[24:40])
    else:
        return None
    sport, dport, seq, ack, offset_flags, window = struct.unpack_from("!HHIIHH", ip, tcp)
    src, dst = (f"[{text}]" if ":" in text else text for text in map(str, map(ip_address, addresses)))
    length = end - tcp - 4 * (offset_flags >> 12)
    return Segment(number, time, f"{src}:{sport}", f"{dst}:{dport}", seq, ack, offset_flags & 0x1FF, length, window)


# 2. From segments to connections
def follow(segments: list[Segment]) -> "list[Connection]":
    """The connections. Rule 1, Wireshark's `tcp.stream`: a SYN without ACK opens a further one of the same endpoints,
    unless its number is the initial one of its direction already: then it is the same SYN again."""
    found, current, initial = [], {}, {}
    for one in segments:
        way, back = (one.src, one.dst), (one.dst, one.src)
        if way not in current or (one.flags & (SYN | ACK) == SYN and initial.get(way, one.seq) != one.seq):
            found.append([])
            current[way] = current[back] = found[-1]
            initial.pop(way, None), initial.pop(back, None)
        current[way].append(one)
        initial.setdefault(way, (one.seq - 1) % (1 << 32))
        if one.flags & SYN:
            initial[way] = one.seq
        if one.flags & ACK:
            initial.setdefault(back, (one.ack - 1) % (1 << 32))
    return [Connection(number, members) for number, members in enumerate(found)]


def steps(segments: list[Segment]) -> list[SimpleNamespace]:
    """The segments of a connection; `seq`, `ack` and the number behind, `end`, are counted from the initial ones (3.4).
    `sound`: no RST, and no leap wider than any window. `missed`: something before it is not in the capture. Known by
    then: its sender's `next` number, what was `acked` of it, whether it had `closed` (sent a FIN); its peer's `window`.
    """
    found, ends = [], {}
    new = {"sent": NOTHING, "acked": NOTHING, "closed": False, "window": 0, "syn": 0}
    for one in sorted(segments, key=lambda one: not one.flags & SYN):  # a SYN's number counts as 0, else the first seen
        ends.setdefault(one.src, SimpleNamespace(last=(one.seq, 0), **new | {"syn": one.frame * bool(one.flags & SYN)}))
        if one.flags & ACK:
            ends.setdefault(one.dst, SimpleNamespace(last=(one.ack - bool(one.flags & SYN), 0), **new))
    for one in segments:
        me, peer = ends[one.src], ends.get(one.dst, SimpleNamespace(last=(0, 0), **new))
        seq, near = counted(one.seq, me.last)
        ack = counted(one.ack, peer.last)[0] if one.flags & ACK else NOTHING
        size = one.length + bool(one.flags & SYN) + bool(one.flags & FIN)
        missed = ack > max(peer.sent, 0) or seq > me.sent > NOTHING
        sound = near and not one.flags & RST and not (missed and one.frame < me.syn)  # else of an older connection
        found.append(SimpleNamespace(moment=one[:2], raw=one.seq, **one._asdict() | {
            "seq": seq, "end": seq + size, "ack": ack, "sound": sound, "missed": missed, "closed": me.closed,
            "next": max(me.acked, me.sent), "acked": me.acked, "window": peer.window}))
        if sound:
            me.last, me.window, me.closed = (one.seq, seq), one.window, me.closed or bool(one.flags & FIN)
            me.sent, peer.acked = max(me.sent, seq + size), max(peer.acked, ack)
    return found


def counted(raw: int, last: tuple) -> tuple[int, bool]:
    """The number `raw` (modulo 2**32) counted on from the last one; and whether that is no leap."""
    distance = (raw - last[0] + (1 << 31)) % (1 << 32) - (1 << 31)
    return last[1] + distance, abs(distance) <= 1 << 30


# 3. What each end did, and when: a moment is a frame's number and its time, so that the order in the file decides
class Connection:
    """A connection: its `steps`, and both `ends`: client and server, or without a SYN one and the other."""

    def __init__(self, stream: int, segments: list[Segment]) -> None:
        self.stream, self.steps, self.pair = stream, steps(segments), frozenset(segments[0][2:4])
        syns = [one for kind in (SYN, SYN | ACK) for one in segments if one.flags & (SYN | ACK) == kind]
        first, hosts = (syns[0], ("client", "server")) if syns else (segments[0], (None, None))
        sides = (first.dst, first.src) if syns and first.flags & ACK else (first.src, first.dst)
        self.ends = [SimpleNamespace(host=host, local=local) for host, local in zip(hosts, sides)]
        for me in self.ends:
            me.sent = [one for one in self.steps if one.sound and one.src == me.local]
            me.syn, me.fin = (next((one for one in me.sent if one.flags & flag), None) for flag in (SYN, FIN))
            me.opens = me.syn.moment if me.syn and not me.syn.flags & ACK else NEVER
            me.closes = me.fin.moment if me.fin else NEVER
        for me, peer in (self.ends, self.ends[::-1]):
            me.syn_acked, me.fin_acked = self.receipt(me.syn, peer), max(me.closes, self.receipt(me.fin, peer))
            me.peer_syn, me.peer_fin = (self.arrival(one, peer, me) for one in (peer.syn, peer.fin))
            # Rule 2, an active closer: what it sent from its FIN on does not acknowledge the other FIN at first (3.6).
            since = [one.ack for one in me.sent if me.fin and (one.flags & FIN or one.end == one.seq >= me.fin.end)]
            me.active = bool(since) and (not peer.fin or min(since) < peer.fin.end)
        tried = max((one.moment for one in self.steps if one.flags & (SYN | ACK | RST) == SYN), default=EVER)
        self.reset = next((one.moment for one in self.steps if one.moment > tried and self.accepts(one)), NEVER)

    def receipt(self, one, peer) -> tuple:
        """The moment at which the `peer` first acknowledges a SYN or a FIN, or NEVER."""
        wanted = one and one.end - one.length * bool(one.flags & SYN)
        return next((its.moment for its in peer.sent if one and its.ack >= wanted), NEVER)

    def arrival(self, one, peer, me) -> tuple:
        """When a SYN or FIN of the `peer` had reached this end: its last copy before the receipt for it; or NEVER."""
        receipt = self.receipt(one, me)
        same = [its.moment for its in peer.sent if one and its.flags & one.flags & (SYN | FIN) and its.moment < receipt]
        return same[-1] if same and receipt < NEVER else receipt

    def accepts(self, rst: SimpleNamespace) -> bool:
        """Whether it is a RST at the number that its receiver expects (3.10.7.4), or answers its SYN (3.10.7.3)."""
        syn = self.ends[rst.src == self.ends[0].local].syn
        expected = rst.acked <= rst.seq <= rst.next if rst.next > NOTHING else not syn or rst.ack == syn.end
        return bool(rst.flags & RST) and expected

    def complete(self) -> bool:
        """Whether the capture holds all that both ends sent, as far as it shows; else it can't tell who closed."""
        opened = all(me.syn for me in self.ends) or all(one.flags & (SYN | RST) for one in self.steps)
        told = {one.src for one in self.steps if self.ends[0].host or one.length or one.flags & FIN or is_probe(one)}
        missed = any(one.missed for one in self.steps if one.sound or one.flags & RST)
        return len(told) == 2 and not missed and (opened or not self.ends[0].host)

    def stays(self, time_wait: float = TIME_WAIT, fin_timeout: float = FIN_TIMEOUT) -> list[Stay]:
        """The stays of both ends in the states of 3.3.2, as if no other connection of theirs came after."""
        found = []
        for me, peer in (self.ends, self.ends[::-1]):
            opened, leaves = max(me.syn_acked, me.peer_syn), me.closes if me.active else min(me.peer_fin, me.closes)
            peer_fin = max(me.closes, me.peer_fin) if me.active else me.peer_fin
            rows = [("SYN_SENT", me.opens, min(me.peer_syn, leaves)),
                    ("SYN_RECEIVED", me.peer_syn if me.syn else NEVER, min(opened, leaves)),
                    ("ESTABLISHED", opened if me.host else EVER, leaves)]
            if me.active:
                forgotten, waits = (NEVER[0], me.fin_acked[1] + fin_timeout), max(me.fin_acked, peer_fin)
                again = any(one.flags & FIN and one.time > peer.closes[1] + COPIES for one in peer.sent)
                lives = me.sent[-1].time > forgotten[1] + SLACK or (peer.closes[1] <= forgotten[1] and not again)
                rows += [("FIN_WAIT_1", me.closes, min(me.fin_acked, peer_fin)), ("CLOSING", peer_fin, me.fin_acked),
                         ("FIN_WAIT_2", me.fin_acked, peer_fin if lives else min(peer_fin, forgotten)),
                         ("TIME_WAIT", waits, (NEVER[0], waits[1] + time_wait))]
            elif me.peer_fin < NEVER:
                rows += [("CLOSE_WAIT", peer_fin, me.closes), ("LAST_ACK", me.closes, me.fin_acked)]
            found += [Stay(self.stream, me.host, me.local, peer.local, state, since[1], min(until[1], self.reset[1]))
                      for state, since, until in sorted(rows, key=lambda row: row[1]) if since < min(until, self.reset)]
        return found

    def verdict(self, capture_end: float, fin_timeout: float = FIN_TIMEOUT) -> dict:
        """`ending`, `closer`, `time_wait` and `keepalive_probes`; None where the capture can't tell."""
        stays, complete = self.stays(fin_timeout=fin_timeout), self.complete()
        fins = all(me.fin for me in self.ends) and self.reset >= max(me.fin_acked for me in self.ends)
        last = {stay.local: stay for stay in stays if stay.until >= capture_end - SLACK and self.reset == NEVER}
        going_on = any(stay.state not in ("CLOSE_WAIT", "LAST_ACK", "TIME_WAIT") for stay in last.values())
        closers = [me.host for me in self.ends if me.active and complete]
        waiting = [stay.host for stay in stays if stay.state == "TIME_WAIT"] or ["none"]
        refused = not self.ends[1].sent and self.ends[0].opens < NEVER
        return {"ending": "fin" if fins else "open" if self.reset == NEVER else "refused" if refused else "reset",
                "closer": "both" if len(closers) > 1 else (*closers, None)[0],
                "time_wait": None if going_on or not complete else "both" if len(waiting) > 1 else waiting[0],
                "keepalive_probes": sum(map(is_probe, self.steps))}


def is_probe(one: SimpleNamespace) -> bool:
    """Rule 4, a keep-alive probe: one number back, when all was acknowledged and no FIN sent (3.8.4)."""
    return (one.length <= 1 and not one.flags & (SYN | FIN | RST) and one.seq + 1 == one.acked == one.next
            and not one.closed and one.window > 0)


# 4. All connections over time
def states(connections: list[Connection], time_wait: float = TIME_WAIT, fin_timeout: float = FIN_TIMEOUT) -> list[Stay]:
    """The stays of both ends of all connections: the next one of the same endpoints ends what is left of one before."""
    found, after = [], {}
    for one in reversed(connections):
        same = after[one.pair] = [one, *after.get(one.pair, [])]
        for stay in reversed(one.stays(time_wait, fin_timeout)):
            again = [me for other in same[1:] for me in other.ends if me.local == stay.local and me.syn]
            over = min([one.reset] + [min(me.opens, me.peer_syn) for me in again])[1]
            until = time_wait_ends(stay, same, over, time_wait) if stay.state == "TIME_WAIT" else stay.until
            found += [stay._replace(until=min(until, over))] if stay.since < over else []
    return found[::-1]


def time_wait_ends(stay: Stay, connections: list[Connection], over: float, time_wait: float) -> float:
    """Rule 3: TIME_WAIT begins anew with each ACK of the peer; a RST at the number expected ends it (3.6.1; Linux)."""
    until, fin = stay.until, next(me.fin for me in connections[0].ends if me.local == stay.peer)
    for one in (step for connection in connections for step in connection.steps if step.src == stay.peer):
        if stay.since < one.time < min(until, over) and one.flags & (ACK | RST):
            if not one.flags & RST:
                until = one.time + time_wait
            elif one not in connections[0].steps and (one.raw - fin.raw) % (1 << 32) == fin.end - fin.seq:
                return one.time
    return until


def netstat(found: list[Stay], at: float) -> list[Stay]:
    """The sockets that there are `at` seconds, as `netstat` would list them."""
    return [stay for stay in found if stay.since <= at < stay.until]
