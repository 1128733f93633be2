"""Toy exchanges, built by hand with scapy: no such packets were ever sent."""

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

from helpers.captures import read_capture

CLIENT, SERVER = ("10.0.0.1", 50000), ("10.0.0.2", 80)
ISN = {"C": 1000, "S": 5000}


def segment(who, time, flags, seq, ack=0, payload=b"", client=CLIENT, server=SERVER, window=64240, isn=None):
    """One frame sent by `who` (`C` or `S`); `seq`, `ack`: relative to the initial sequence numbers, as in Wireshark."""
    isn = isn or ISN
    (src, sport), (dst, dport) = (client, server) if who == "C" else (server, client)
    own, other = isn[who], isn["S" if who == "C" else "C"]
    packet = Ether() / IP(src=src, dst=dst) / TCP(
        sport=sport, dport=dport, flags=flags, seq=(own + seq) % 2**32,
        ack=(other + ack) % 2**32 if "A" in flags else 0, window=window) / payload
    packet.time = time
    return packet


def toy(path, *segments):
    """The capture of a file at `path` that holds these segments, each the arguments of `segment`, or a packet."""
    wrpcap(str(path), [item if hasattr(item, "time") else segment(*item) for item in segments])
    return read_capture(path)


HANDSHAKE = [("C", 0.0, "S", 0), ("S", 0.1, "SA", 0, 1), ("C", 0.2, "A", 1, 1)]
EXCHANGE = [("C", 0.3, "PA", 1, 1, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("S", 0.4, "PA", 1, 28, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
            ("C", 0.5, "A", 28, 44)]
SERVER_CLOSES = [("S", 1.0, "FA", 44, 28), ("C", 1.1, "A", 28, 45), ("C", 1.5, "FA", 28, 45), ("S", 1.6, "A", 45, 29)]
