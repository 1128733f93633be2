"""Links, tunnels, IP and TCP headers: on single frames whose bytes are known."""

import struct

import pytest
from capture_files import ETHERNET, TIMES, one, pcap, read
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw
from wrapped_frames import BOTTOM, IP4, IP6, LINKS, MACS, SNAP, TUNNELS, TYPE_6, TYPE_MPLS, ethernet

from helpers.captures import layers
from helpers.connections import connections


@pytest.mark.parametrize("link, frame", LINKS)
def test_links(tmp_path, link, frame):
    capture = one(tmp_path, frame, link)
    assert capture.skipped == {}
    row = capture.segments.loc[1]
    addresses = ["10.0.0.1", "10.0.0.2"] if frame.endswith(IP4) else ["2001:db8::1", "2001:db8::100"]
    assert [row["src"], row["dst"]] == addresses
    assert row[["sport", "dport", "seq", "ack", "flags", "length"]].tolist() == [50000, 80, 7, 9, "PA", 5]
    assert capture.payload(1) == b"hello"


@pytest.mark.parametrize("outer, between, inner", TUNNELS)
def test_tunnels(tmp_path, outer, between, inner):
    """The innermost packet counts, and among other frames every one keeps its place."""
    row = one(tmp_path, bytes(outer / Raw(between + inner)), 101).segments.loc[1]
    assert row["src"] == ("10.0.0.1" if inner == IP4 else "2001:db8::1")
    assert row[["sport", "dport", "length"]].tolist() == [50000, 80, 5]
    between = [IP6, bytes(outer / Raw(between + inner)), bytes(IP() / UDP()), IP4]
    capture = read(tmp_path, pcap(between, TIMES, link=101))
    assert capture.segments.index.tolist() == [1, 2, 4] and capture.skipped == {"UDP": 1}
    assert capture.segments["src"].tolist() == ["2001:db8::1", row["src"], "10.0.0.1"]
    assert capture.payload(2) == b"hello"


NOT_DECODED = [                 # (link type, frame, reason)
    (147, IP4, "link type 147"),
    (105, b"\xd4\0" + bytes(8), "not IP (IEEE 802.11)"),                # an acknowledgement
    (105, b"\x08\x41" + bytes(60), "not IP (IEEE 802.11)"),            # encrypted
    (105, b"\x48\1" + bytes(22), "not IP (IEEE 802.11)"),              # without data
    (127, b"\0\0\x08\0\0\0\0\0\x80", "cut inside the link header"),
    (105, b"\x08\1" + bytes(22) + SNAP + b"\x08\x06" + bytes(28), "ARP"),
    (1, bytes(ethernet() / ARP()), "ARP"),
    (1, MACS + b"\x00\x26" + bytes(40), "not IP (IEEE 802.3)"),
    (1, MACS + b"\x88\xe5" + IP4, "not IP (type 0x88e5)"),
    (1, MACS + TYPE_MPLS + BOTTOM + b"\0" + IP4, "not IP"),
    (1, MACS + TYPE_MPLS + BOTTOM, "cut inside the MPLS label"),
    (9, b"\xff\x03\xc0\x21" + bytes(8), "not IP (PPP protocol 0xc021)"),
    (51, b"\x11\0\0\1\0\x0a\xc0\x21" + bytes(8), "not IP (PPP protocol 0xc021)"),
    (101, bytes(IP(proto=47) / Raw(b"\x20\0\x08\0\0")), "cut inside the IP header"),
    (101, bytes(IP(proto=47) / Raw(b"\x20\0")), "cut inside the GRE header"),
    (101, bytes(IP(proto=41) / Raw(IP4)), "malformed IP header"),
    (101, bytes(IP(proto=4) / IP(proto=4) / IP() / UDP()), "UDP"),
    (101, bytes(IP() / UDP()), "UDP"),
    (101, bytes(IP() / ICMP()), "ICMP"),
    (101, b"\x90" + IP4[1:], "not IP"),
    (101, bytes(IP() / ICMP(type=3) / IP(IP4)), "ICMP"),
    (0, struct.pack("<I", 7) + IP4, "not IP"),
    (101, bytes(IP(proto=89) / b"x"), "IP protocol 89"),
    (1, bytes(10), "cut inside the link header"),
    (1, MACS + b"\x81\x00\x00", "cut inside the VLAN tag"),
    (101, b"", "cut inside the link header"),
    (101, IP4[:19], "cut inside the IP header"),
    (101, IP6[:39], "cut inside the IP header"),
    (1, MACS + TYPE_MPLS + bytes(4 * 64) + BOTTOM + IP4, "more than 64 headers before TCP"),
    (1, MACS + TYPE_MPLS + bytes(4 * 9999) + BOTTOM + IP4, "more than 64 headers before TCP"),
    (239, b"\2\0\0\5" + bytes(4000), "more than 64 headers before TCP"),
    (239, b"\2\0\0\5\6\0\1\0\0\0", "cut inside the link header"),
    (6, b"\x10\0" + bytes(40), "not IP"),
    (0, b"\1\0\0\1" + IP4, "not IP"),
    (101, bytes(IP() / UDP(dport=1701) / Raw(b"\xc8\2" + bytes(10))), "not IP"),            # control
    (101, bytes(IP() / UDP(dport=3544) / Raw(b"\0\0" + bytes(5))), "cut inside the Teredo header"),
    (101, bytes(IP() / UDP(dport=3544) / Raw(b"\0\2" + bytes(9) + IP6)), "not IP"),
    (101, bytes(IP() / UDP(dport=4790) / Raw(b"\x0c\0\0\4" + bytes(4) + IP4)), "not IP"),     # NSH
    (192, b"\0\0\x08\0\x93\0\0\0" + IP4, "not IP"),
    (104, b"\x0f\0\x05\xdc" + IP4, "not IP"),         # 1,500 is no EtherType
    (101, bytes(IP() / UDP(dport=2152) / Raw(b"\x34\xff\0\x35" + bytes(7) + b"\x85\0" + IP4)), "not IP"),
    (1, MACS + TYPE_6 + IP4, "malformed IP header"),
    (101, b"\x44" + IP4[1:], "malformed IP header"),
    (101, IP4[:2] + b"\x00\x0a" + IP4[4:], "malformed IP header"),
    (101, IP4[:2] + b"\x00\x1e" + IP4[4:], "malformed TCP header"),
    (101, bytes(IP(frag=3, src="10.0.0.1") / IP4[20:]), "IP fragment after the first")]


@pytest.mark.parametrize("link, frame, reason", NOT_DECODED)
def test_what_is_not_decoded_is_counted_by_reason(tmp_path, link, frame, reason):
    capture = one(tmp_path, frame, link)
    assert capture.skipped == {reason: 1} and capture.segments.empty and capture.frames == 1


def nested(depth):
    """An IP packet in `depth` others."""
    inner = IP4
    for _ in range(depth):
        inner = bytes(IP(proto=4) / Raw(inner))
    return inner


def test_the_deepest_that_is_decoded(tmp_path):
    for link, frame in ((1, bytes(12) + b"\x88\x47" + bytes(4 * 63) + b"\0\0\1\xff" + IP4), (101, nested(64))):
        assert one(tmp_path, frame, link).payload(1) == b"hello"
    assert one(tmp_path, nested(65), 101).skipped == {"more than 64 headers before TCP": 1}


def test_frames_of_all_kinds_together(tmp_path):
    other = bytes(Ether() / ARP())
    capture = read(tmp_path, pcap([other, ETHERNET[0], ETHERNET[1], other, ETHERNET[2]], TIMES))
    assert capture.segments.index.tolist() == [2, 3, 5] and capture.skipped == {"ARP": 2}
    assert capture.segments["time"].tolist() == [0.1, 0.2, 0.4] and capture.end == 0.4


def test_padding_is_no_payload(tmp_path):
    bare = bytes(Ether() / IP() / TCP(flags="A"))
    capture = one(tmp_path, bare + b"PADDING!")
    assert capture.segments["length"].tolist() == [0] and capture.payload(1) == b""
    six = bytes(Ether() / IPv6() / TCP(flags="A"))
    assert one(tmp_path, six + bytes(6)).segments["length"].tolist() == [0]


def test_tcp_headers_that_lie_about_their_length(tmp_path):
    """They belong to a stream, as in Wireshark; one below 20 bytes has no flags, and neither has payload."""
    short, long = IP4[:32] + b"\x40" + IP4[33:], IP4[:32] + b"\xf0" + IP4[33:]
    capture = read(tmp_path, pcap([short, long], TIMES, link=101))
    assert capture.skipped == {} and capture.segments["flags"].tolist() == ["", "PA"]
    assert capture.segments["stream"].tolist() == capture.segments["length"].tolist() == [0, 0]
    assert capture.payload(1) == b""


def test_a_syn_with_a_short_header_opens_a_stream(tmp_path):
    """As in Wireshark, although its flags are not believed."""
    syn = IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=1, dport=2, seq=7, flags="S")
    short, again = syn.copy(), syn.copy()
    short[TCP].dataofs, short[TCP].seq, again[TCP].seq = 3, 9, 9
    capture = read(tmp_path, pcap([bytes(packet) for packet in (syn, short, again)], TIMES, link=101))
    assert capture.segments["stream"].tolist() == [0, 1, 1] and capture.segments["flags"].tolist() == ["S", "", "S"]
    assert connections(capture)["opened"].notna().tolist() == [True, True]


def test_options_of_ip_and_tcp(tmp_path):
    options = [("MSS", 1460), ("WScale", 7), ("Timestamp", (1, 0))]
    capture = one(tmp_path, IP(options=[IPOption_NOP()] * 8) / TCP(flags="S", options=options) / b"abc", 101)
    assert capture.segments["length"].tolist() == [3] and capture.payload(1) == b"abc"


EXTENSIONS = {
    "hop by hop": IPv6ExtHdrHopByHop(),
    "destination": IPv6ExtHdrDestOpt(),
    "routing": IPv6ExtHdrRouting(addresses=["2001:db8::9"]),
    "first fragment": IPv6ExtHdrFragment(offset=0, m=1),
    "three": IPv6ExtHdrHopByHop() / IPv6ExtHdrRouting() / IPv6ExtHdrDestOpt(),
    "authentication": Raw(b"\x06\x04" + bytes(22))}


@pytest.mark.parametrize("case", EXTENSIONS)
def test_ipv6_extension_headers(tmp_path, case):
    headers = EXTENSIONS[case]
    first = {"nh": 51} if isinstance(headers, Raw) else {}
    frame = bytes(IPv6(**first) / headers / TCP(sport=50000, flags="PA") / b"hello")
    capture = one(tmp_path, frame, 101)
    assert capture.segments["sport"].tolist() == [50000] and capture.payload(1) == b"hello"
    assert one(tmp_path, frame[:46], 101, lengths=[len(frame)]).skipped == {"cut inside the IP header": 1}


def test_later_ipv6_fragments(tmp_path):
    frame = bytes(IPv6() / IPv6ExtHdrFragment(offset=5, nh=6) / bytes(40))
    assert one(tmp_path, frame, 101).skipped == {"IP fragment after the first": 1}


def test_first_fragments_are_decoded(tmp_path):
    first = bytes(IP(flags="MF") / TCP(flags="PA") / b"first")
    assert one(tmp_path, first, 101).segments["length"].tolist() == [5]


def test_lengths_that_ip_does_not_know(tmp_path):
    """Segmentation offload leaves the IP length 0: the frame's own length counts. So it does where IP claims more."""
    four, six = bytes(IP(len=0) / TCP(flags="A") / bytes(3000)), bytes(IPv6(plen=0) / TCP(flags="A") / bytes(3000))
    claims = bytes(IP(len=4000) / TCP(flags="A") / bytes(3000))
    for frame in (four, six, claims):
        assert one(tmp_path, frame, 101).segments["length"].tolist() == [3000]


@pytest.mark.parametrize("length", [0, 1, 19, 20, 35, 36, 39, 40, 41, 70, 71, 100])
def test_what_ip_says_of_its_length_counts_alike_for_plain_frames_and_others(tmp_path, monkeypatch, length):
    frame = Ether() / IP(len=length) / TCP(sport=1, dport=2) / bytes(30)
    plain = one(tmp_path, frame)
    monkeypatch.setattr(layers, "PLAIN_LINK", None)
    other = one(tmp_path, frame)
    assert plain.skipped == other.skipped and plain.segments.equals(other.segments)
    assert plain.segments["length"].tolist() == ([] if 0 < length < 36 else [max(min(length or 70, 70), 40) - 40])


def test_snapped_anywhere(tmp_path):
    """The length on the wire stays, the payload is what was captured, and no frame vanishes uncounted."""
    frame = bytes(Ether(dst="00:00:00:00:00:02") / IP(IP4[:20] + IP4[20:]))
    for snap in range(len(frame) + 1):
        capture = one(tmp_path, frame, snap=snap, lengths=[len(frame)])
        assert len(capture.segments) + sum(capture.skipped.values()) == capture.frames == 1
        reason = "link" if snap < 14 else "IP" if snap < 34 else "TCP"
        if snap < 50:
            assert capture.skipped == {f"cut inside the {reason} header": 1}
        else:
            assert capture.segments["length"].tolist() == [5] and capture.payload(1) == b"hello"[:max(snap - 54, 0)]


def test_all_flags(tmp_path):
    letters = ["F", "S", "R", "P", "A", "U", "E", "C", "N", "FSRPAUECN", ""]
    frames = [bytes(IP() / TCP(flags=flags)) for flags in letters]
    assert read(tmp_path, pcap(frames, [0] * 11, link=101)).segments["flags"].tolist() == letters
