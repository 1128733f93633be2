"""IPv4 and IPv6 fragments, cut by scapy: put together where all are there, as tshark does; else counted."""

import random
import subprocess

import pytest
from conftest import require
from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import GRE, Dot1Q, Ether
from scapy.packet import Raw
from scapy.utils import wrpcap

from helpers.captures import read_capture, read_pieces
from helpers.captures.fragments import OVERLAPS, PART
from helpers.exchanges import exchanges

LATER = "IP fragment after the first"
TEXT = b"GET /" + b"x" * 300 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
HELLO = TCP(sport=50000, dport=80, flags="PA", seq=7, ack=9) / Raw(TEXT)
FOUR = IP(src="10.0.0.1", dst="10.0.0.2", id=7)
SIX = IPv6(src="2001:db8::1", dst="2001:db8::2")


def four(size=120, ip=FOUR, payload=HELLO):
    return [Ether() / part for part in fragment(ip / payload, size)]


def six(size=200, number=5):
    return [Ether() / part for part in fragment6(SIX / IPv6ExtHdrFragment(id=number) / HELLO, size)]


def piece(at, data, more, number=7):
    """One IPv4 fragment: `data` at byte `at` of the packet."""
    return Ether() / IP(src="10.0.0.1", dst="10.0.0.2", id=number, proto=6, frag=at // 8, flags="MF" if more else 0) / data


BYTES = bytes(HELLO)
MIXED = [part for pair in zip(four(), four(ip=IP(src="10.0.0.1", dst="10.0.0.2", id=8))) for part in pair]
WHOLE = {
    "IPv4": four(),
    "backwards": four()[::-1],
    "shuffled": random.Random(1).sample(four(48), len(four(48))),
    "the TCP header in three": four(8),
    "two at once": MIXED,
    "a copy of each": [part for part in four() for _ in range(2)],
    "the same packet twice": four() + four(),
    "IPv6": six(),
    "IPv6 backwards": six()[::-1],
    "IPv6 options behind the fragment header": [
        Ether() / SIX / IPv6ExtHdrFragment(id=3, nh=60, m=1) / Raw((bytes(IPv6ExtHdrDestOpt(nh=6)) + BYTES)[:64]),
        Ether() / SIX / IPv6ExtHdrFragment(id=3, nh=60, offset=8) / Raw((bytes(IPv6ExtHdrDestOpt(nh=6)) + BYTES)[64:])],
    "behind a VLAN tag": [Ether() / Dot1Q(vlan=3) / part.payload for part in four()],
    "GRE, cut outside": four(ip=IP(src="1.1.1.1", dst="2.2.2.2"), payload=GRE() / FOUR / HELLO),
    "GRE, cut inside": [Ether() / IP(src="1.1.1.1", dst="2.2.2.2") / GRE() / part.payload for part in four()]}
NOT_WHOLE = {
    "one missing": (four()[:1] + four()[2:], {LATER: len(four()) - 2}),
    "the first missing": (four()[1:], {LATER: len(four()) - 1}),
    "from byte 8 to the end": ([piece(8, BYTES[8:], False)], {LATER: 1}),
    "other identification": ([piece(0, BYTES[:64], True), piece(64, BYTES[64:], False, 8)], {LATER: 1}),
    "longer than a packet may be": ([piece(0, BYTES[:64], True), piece(65528, bytes(64), False)], {OVERLAPS: 2}),
    "overlap": ([piece(0, BYTES[:64], True), piece(56, BYTES[56:128], True), piece(128, BYTES[128:], False)],
                {OVERLAPS: 2, LATER: 1}),
    "other bytes at the same place": ([piece(0, BYTES[:64], True), piece(64, bytes(64), True),
                                       piece(64, b"x" * 64, True)], {OVERLAPS: 3}),
    "another end": ([piece(0, BYTES[:64], True), piece(128, BYTES[128:136], False), piece(136, bytes(8), False)],
                    {OVERLAPS: 3})}


def of_tshark(path):
    """Frame, ports, number and length of each segment, as tshark says, which puts fragments together."""
    fields = [word for field in ("frame.number", "tcp.srcport", "tcp.dstport", "tcp.seq_raw", "tcp.len")
              for word in ("-e", field)]
    said = subprocess.run(["tshark", "-r", path, "-Y", "tcp", "-T", "fields", *fields], capture_output=True, text=True,
                          check=True).stdout
    return [tuple(map(int, line.split())) for line in said.splitlines()]


def rows_of(capture):
    table = capture.segments.reset_index()
    return list(table[["frame", "sport", "dport", "seq", "length"]].itertuples(index=False, name=None))


@pytest.mark.parametrize("name", WHOLE)
def test_whole_packets_are_put_together_as_by_tshark(name, tmp_path):
    require("tshark")
    path = tmp_path / "cut.pcap"
    wrpcap(str(path), WHOLE[name])
    capture = read_capture(path)
    assert rows_of(capture) == of_tshark(path) != []
    assert {capture.payload(frame) for frame in capture.segments.index} == {TEXT}
    assert len(capture.segments) + sum(capture.skipped.values()) == capture.frames == len(WHOLE[name])
    assert exchanges(capture)["target"].tolist() == ["/" + "x" * 300]
    assert capture.frame_bytes(1) == bytes(WHOLE[name][0])


@pytest.mark.parametrize("name", NOT_WHOLE)
def test_what_is_not_whole_or_overlaps_is_counted(name, tmp_path):
    packets, skipped = NOT_WHOLE[name]
    path = tmp_path / "part.pcap"
    wrpcap(str(path), packets)
    capture = read_capture(path)
    assert capture.skipped == skipped and len(capture.segments) == len(packets) - sum(skipped.values())
    assert (capture.segments["length"] < len(TEXT)).all()


def test_ipv6_fragments_that_overlap_are_dropped(tmp_path):
    """RFC 5722 section 4; and the same for what Linux drops in IPv4."""
    cut = [(0, 64, 1), (56, 128, 1), (128, None, 0)]
    path = tmp_path / "overlap.pcap"
    wrpcap(str(path), [Ether() / SIX / IPv6ExtHdrFragment(id=1, nh=6, offset=at // 8, m=more) / Raw(BYTES[at:end])
                       for at, end, more in cut])
    assert read_capture(path).skipped == {OVERLAPS: 2, LATER: 1}


def test_the_rest_is_waited_for_as_long_as_linux_does(tmp_path):
    for gap, reason in ((29.0, PART), (31.0, LATER)):
        first, second = piece(0, BYTES[:64], True), piece(64, BYTES[64:], False)
        first.time, second.time = 1000.0, 1000.0 + gap
        path = tmp_path / "late.pcap"
        wrpcap(str(path), [first, second])
        assert read_capture(path).skipped == {reason: 1}


def test_udp_and_other_frames_beside_fragments(tmp_path):
    """Frames keep their order and numbers; a datagram of UDP is put together too."""
    plain = Ether() / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=1, dport=2, flags="A", seq=1)
    parts = four()
    datagram = four(payload=UDP(sport=5, dport=6) / Raw(bytes(range(250))))
    path = tmp_path / "beside.pcap"
    wrpcap(str(path), [plain, *parts[:-1], plain, datagram[0], parts[-1], *datagram[1:], plain])
    capture = read_capture(path)
    number = len(parts) + 3
    assert capture.segments.index.tolist() == [1, len(parts) + 1, number, capture.frames]
    assert capture.payload(number) == TEXT
    assert capture.skipped == {PART: len(parts) + len(datagram) - 2, "UDP": 1}
    assert capture.datagrams.index.tolist() == [capture.frames - 1] and capture.payload(capture.frames - 1) == bytes(
        range(250))


def test_pieces_put_together_what_lies_in_one_of_them(tmp_path):
    path = tmp_path / "pieces.pcap"
    wrpcap(str(path), [part for number in range(40) for part in four(ip=IP(src="10.0.0.1", dst="10.0.0.2", id=number))])
    pieces = list(read_pieces(path, 5000))
    assert len(pieces) > 2 and sum(piece.frames for piece in pieces) == read_capture(path).frames
    lengths = [length for piece in pieces for length in piece.segments["length"]]
    assert 40 - len(pieces) <= lengths.count(len(TEXT)) <= 40
