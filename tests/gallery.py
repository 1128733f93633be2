"""Captures such as other people's: one conversation of each kind, and one frame of each link and tunnel."""

from capture_files import EPOCH, interface, packet, section
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw
from test_exchanges import CHUNKED, FIVE, OK, get, talk
from toys import CLIENT, HANDSHAKE, SERVER, SERVER_CLOSES, segment
from wrapped_frames import LINKS, TUNNELS

POST = b"POST /form HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\na=1&b=2"
TURNS = {
    "simple": [("C", get(b"/one")), ("S", FIVE)],
    "pipelined": [("C", get(b"/1") + get(b"/2") + get(b"/3")), ("S", FIVE + FIVE + FIVE)],
    "interim": [("C", POST), ("S", b"HTTP/1.1 100 Continue\r\n\r\n"), ("S", FIVE)],
    "no body": [("C", get(b"/h", b"HEAD")), ("S", OK + b"Content-Length: 99\r\n\r\n"),
                ("C", get(b"/304")), ("S", b"HTTP/1.1 304 No\r\n\r\n"),
                ("C", get(b"/204")), ("S", b"HTTP/1.1 204 No\r\n\r\n"), ("C", get(b"/last")), ("S", FIVE)],
    "chunked": [("C", get(b"/chunks")), ("S", CHUNKED + b"\r\n"), ("C", get(b"/more")), ("S", FIVE)],
    "until close": [("C", get(b"/all", version=b"1.0")), ("S", b"HTTP/1.0 200 OK\r\n\r\nall of it")],
    "spaces": [("C", b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n"), ("S", FIVE)],
    "proxied": [("C", get(b"http://example.org/")), ("S", FIVE)],
    "web socket": [("C", get(b"/ws", headers=b"Upgrade: websocket\r\nConnection: Upgrade\r\n")),
                   ("S", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
                   ("C", b"\x81\x05hello")],
    "mail": [("S", b"220 mail ESMTP\r\n"), ("C", b"EHLO x\r\n"), ("S", b"250 x\r\n")],
    "rubbish": [("C", bytes(range(256)) * 9), ("S", bytes(range(256)))]}
SEGMENTS = {
    "closed by the server": [*HANDSHAKE, *SERVER_CLOSES],
    "reused port": [*HANDSHAKE, *SERVER_CLOSES,
                    ("C", 70.0, "S", 9999), ("S", 70.1, "SA", 7777, 10000), ("C", 70.2, "A", 10000, 7778)],
    "SYN again, answer again": [("C", 0, "S", 0), ("C", 1, "S", 0), ("S", 1.1, "SA", 0, 1), ("S", 2.1, "SA", 0, 1),
                                ("C", 2.2, "A", 1, 1)],
    "two tries": [("C", 0, "S", 0), ("C", 1, "S", 500), ("S", 1.1, "SA", 0, 501)],
    "from the middle": [("S", 0, "PA", 900, 300, b"middle"), ("C", 1, "A", 300, 906), ("C", 2, "S", 4000)],
    "answer first": [("S", 0, "SA", 0, 1), ("C", 0.1, "S", 0), ("C", 0.2, "A", 1, 1)],
    "simultaneous open": [("C", 0, "S", 0), ("S", 0, "S", 0), ("C", 0.1, "SA", 0, 1), ("S", 0.1, "SA", 0, 1)],
    "simultaneous close": [*HANDSHAKE, ("C", 1, "FA", 1, 1), ("S", 1, "FA", 1, 1),
                           ("C", 1.1, "A", 2, 2), ("S", 1.1, "A", 2, 2)],
    "FIN again": [*HANDSHAKE, ("C", 1, "FA", 1, 1), ("C", 2, "FA", 1, 1), ("S", 2.1, "A", 1, 2),
                  ("S", 3, "FPA", 1, 2, b"bye")],
    "refused": [("C", 0, "S", 0), ("S", 0.1, "RA", 0, 1)],
    "reset": [*HANDSHAKE, ("C", 1, "R", 1), ("C", 1.1, "RA", 1, 1), ("S", 1.2, "R", 1)],
    "fast open": [("C", 0, "S", 0, 0, b"early"), ("S", 0.1, "SA", 0, 6), ("C", 0.2, "A", 6, 1)],
    "challenge": [*HANDSHAKE, ("C", 5, "S", 77), ("S", 5.1, "A", 1, 1), ("C", 5.2, "R", 1)],
    "probes": [*HANDSHAKE, ("C", 45, "A", 0, 1), ("S", 45.1, "A", 1, 1),
               ("C", 90, "A", 0, 1, b"\0"), ("S", 90.1, "A", 1, 1)],
    "closed window": [*HANDSHAKE, ("S", 1, "A", 1, 1, b"", CLIENT, SERVER, 0), ("C", 2, "A", 0, 1),
                      ("C", 3, "A", 1, 1, b"x")],
    "odd flags": [("C", 0, "", 0), ("C", 1, "FPU", 0), ("C", 2, "SF", 0), ("C", 3, "FSRPAUECN", 0), ("S", 4, "SR", 0)],
    "at the wrap": [("C", 0, "S", 2**32 - 1005), ("S", 0.1, "SA", 2**32 - 5002, 2**32 - 1004),
                    ("C", 0.2, "PA", 2**32 - 1004, 2**32 - 5001, bytes(99))]}


def conversations():
    """Ethernet frames of all conversations, each from a port of its own, one after the other."""
    talks = [[*HANDSHAKE, *talk(*turns, piece=piece)] for turns in TURNS.values() for piece in (10**6, 600)]
    return [bytes(segment(*row[:6], window=row[8] if len(row) > 8 else 64240, client=("10.0.0.1", 40000 + number)))
            for number, rows in enumerate([*SEGMENTS.values(), *talks]) for row in rows]


def strange_frames():
    """Ethernet frames that lie, and frames that hold no TCP or only a part of it."""
    tcp, bare = IP(src="10.9.0.1", dst="10.9.0.2") / TCP(sport=1, dport=2, flags="PA", seq=5), Ether() / ARP()
    whole = bytes(tcp / b"payload")
    inner = [
        *[whole[:2] + length + whole[4:] for length in (b"\0\0", b"\xff\xff", b"\0\x12")],
        whole + b"trailer",
        whole[:32] + b"\x40" + whole[33:], whole[:32] + b"\xf0" + whole[33:],                # lengths of the TCP header
        b"\x4f" + whole[1:], b"\x44" + whole[1:],                                           # ... of the IP header
        b"\x65" + whole[1:],
        bytes(IP(frag=2, proto=6) / Raw(whole)), bytes(IP() / UDP() / Raw(whole)),
        bytes(IP() / ICMP(type=3, code=3) / Raw(whole[:28]))]
    return [bytes(bare), *[bytes(Ether(dst="00:00:00:00:00:02", type=0x0800) / Raw(data)) for data in inner]]


def capture_of(frames):
    """A pcapng file of these Ethernet frames, a millisecond apart."""
    return section() + interface() + b"".join(
        packet(data, EPOCH * 10**6 + 1000 * number) for number, data in enumerate(frames))


def capture_of_links():
    """A pcapng file with a frame of each link and tunnel that Wireshark knows, each on an interface of its own.

    It doesn't know Linux's own family in a BSD header, nor OpenBSD's header in another order than the network's.
    """
    known = {0: lambda frame: b"\n" not in frame[:4], 108: lambda frame: not frame[0] and b"\n" not in frame[:4]}
    frames = [*[(link, frame) for link, frame in LINKS if known.get(link, bool)(frame)],
              *[(101, bytes(outer / Raw(between + inner))) for outer, between, inner in TUNNELS]]
    return section() + b"".join(interface(link=link) for link, _ in frames) + b"".join(
        packet(data, EPOCH * 10**6 + number, number=number) for number, (_, data) in enumerate(frames))
