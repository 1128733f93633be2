"""Tags of switches, GRE over UDP and short first fragments, in frames built by scapy, against tshark."""

import subprocess

import pytest
from conftest import require
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import GRE, Ether
from scapy.packet import Raw
from scapy.utils import wrpcap

from helpers.captures import read_capture

INNER = IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=50000, dport=80, seq=7, flags="PA") / Raw(b"GET / HTTP/1.1\r\n\r\n")
TAGGED = {
    "VN-Tag": Ether(type=0x8926) / Raw(bytes.fromhex("80010002 0800")) / INNER,
    "E-TAG": Ether(type=0x893F) / Raw(bytes.fromhex("000000010000 0800")) / INNER,
    "I-TAG": Ether(type=0x88E7) / Raw(bytes.fromhex("00000001")) / Ether() / INNER,
    "GRE over UDP": Ether() / IP(src="1.1.1.1", dst="2.2.2.2") / UDP(sport=55555, dport=4754) / GRE() / INNER}


@pytest.mark.parametrize("name", TAGGED)
def test_what_tshark_unwraps_is_unwrapped(name, tmp_path):
    require("tshark")
    path = tmp_path / "tagged.pcap"
    wrpcap(str(path), TAGGED[name])
    fields = [word for field in ("tcp.srcport", "tcp.dstport", "tcp.seq_raw", "tcp.len") for word in ("-e", field)]
    said = subprocess.run(["tshark", "-r", path, "-T", "fields", *fields], capture_output=True, text=True, check=True)
    capture = read_capture(path)
    row = capture.segments.iloc[0]
    assert [row[name] for name in ("sport", "dport", "seq", "length")] == [int(number) for number in said.stdout.split()]
    assert (row["src"], row["dst"]) == ("10.0.0.1", "10.0.0.2") and capture.payload(1) == INNER.load


@pytest.mark.parametrize("field, is_length", [(1500, True), (1501, False), (1535, False), (1536, False)])
def test_a_type_up_to_1500_is_a_length(field, is_length, tmp_path):
    """IEEE 802.3 section 3.2.6: from 1,501 to 1,535 it is neither; tshark reads no IP there."""
    require("tshark")
    path = tmp_path / "length.pcap"
    wrpcap(str(path), Ether(type=field) / Raw(bytes.fromhex("aaaa03 000000 0800")) / INNER)
    said = subprocess.run(["tshark", "-r", path, "-Y", "tcp"], capture_output=True, text=True, check=True).stdout
    assert len(read_capture(path).segments) == len(said.splitlines()) == is_length


@pytest.mark.parametrize("head", [IP(flags="MF"), IPv6() / IPv6ExtHdrFragment(m=1)])
def test_a_first_fragment_shorter_than_a_tcp_header_is_no_malformed_one(head, tmp_path):
    last = head.lastlayer()
    last.setfieldval("proto" if isinstance(last, IP) else "nh", 6)
    path = tmp_path / "short.pcap"
    wrpcap(str(path), [Ether() / head / Raw(bytes(8)), Ether() / IP(proto=6) / Raw(bytes(8))])
    skipped = {"first IP fragment, shorter than a TCP header": 1, "malformed TCP header": 1}
    assert read_capture(path).skipped == skipped
