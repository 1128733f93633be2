"""`toy_capture`: packets that were built by hand, read as if they had been captured."""

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from toys import EXCHANGE, HANDSHAKE, SERVER_CLOSES, segment, toy

from helpers.captures import toy_capture

ROWS = [*HANDSHAKE, *EXCHANGE, *SERVER_CLOSES]


class Built(bytes):
    """An IP packet and its `time` (s): all that is asked of what was built by hand."""

    time = 0.0


def at(time, packet):
    made = Built(packet)
    made.time = time
    return made


def test_the_same_tables_as_from_a_file(tmp_path):
    packets = [segment(*row) for row in ROWS]
    from_file = toy(tmp_path / "toy.pcap", *packets)
    capture = toy_capture(at(packet.time, packet[IP]) for packet in packets)
    assert capture.segments.equals(from_file.segments) and not capture.skipped
    payloads = [row[5] if len(row) > 5 else b"" for row in ROWS]
    assert [capture.payload(frame) for frame in capture.segments.index] == payloads


def test_times_to_the_nanosecond():
    times = [1_500_000_000, 1_500_000_000.25, 1_500_000_001.75, 1_500_000_002.9999998]
    capture = toy_capture(at(time, IP() / TCP()) for time in times)
    assert capture.segments["time"].tolist() == pytest.approx([0, 0.25, 1.75, 2.9999998], abs=2e-7)
    assert toy_capture([at(0.1 + 0.2, IP() / TCP()), at(0.3, IP() / TCP())]).segments["time"].tolist() == [0, 0]


def test_ipv6_and_what_is_no_ip():
    capture = toy_capture([at(0.0, IPv6(src="2001:db8::1", dst="2001:db8::2") / TCP()), at(1.0, b"hello, I am no packet")])
    assert capture.segments["src"].tolist() == ["2001:db8::1"] and sum(capture.skipped.values()) == 1


def test_no_packets():
    assert toy_capture([]).segments.empty
