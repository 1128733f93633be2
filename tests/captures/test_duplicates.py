"""Which frames are copies of others: hand-built packets, and editcap's opinion of a recording with all frames twice."""

import subprocess

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

from helpers.captures import copies, read_capture, without
from helpers.experiments import load
from tests.capture_files import pcap
from tests.conftest import require

STAMP = [("NOP", None), ("NOP", None), ("Timestamp", (7, 8))]


def packet(time, number=5, ttl=64, six=False, payload=b"data", options=(), **of_tcp):
    ip = IPv6(src="fd00::1", dst="fd00::2") if six else IP(src="10.0.0.1", dst="10.0.0.2", id=number, ttl=ttl)
    frame = Ether() / ip / TCP(**{"sport": 50000, "dport": 80, "flags": "PA", "seq": 1, "ack": 1} | of_tcp,
                               options=list(options)) / payload
    frame.time = time
    return frame


@pytest.mark.parametrize(("second", "expected"), [
    (packet(0.01), True), (packet(0.01, ttl=63), True), (packet(0.2), False), (packet(0.01, number=6), False),
    (packet(0.01, payload=b"DATA"), False), (packet(0.01, seq=2), False), (packet(0.01, options=STAMP), False)])
def test_the_same_packet(tmp_path, second, expected):
    """A router may have passed it on; its number, its data and its options are the same, and it comes soon."""
    wrpcap(str(tmp_path / "two.pcap"), [packet(0.0), second])
    assert copies(read_capture(tmp_path / "two.pcap")).tolist() == [False, expected]


@pytest.mark.parametrize("kind", [{"six": True}, {"number": 0}, {"six": True, "options": STAMP}])
def test_a_packet_without_a_number(tmp_path, kind):
    frames = [packet(0.0, **kind), packet(0.0001, **kind), packet(0.05, **kind)]
    wrpcap(str(tmp_path / "three.pcap"), frames)
    assert copies(read_capture(tmp_path / "three.pcap")).tolist() == [False, True, False]


def test_resets_without_a_number(tmp_path):
    """A RST for each segment that is refused: the kernel sends them with number 0, all alike."""
    reset = {"number": 0, "flags": "R", "payload": b""}
    wrpcap(str(tmp_path / "resets.pcap"), [packet(0.0, **reset), packet(0.0001, **reset)])
    assert not copies(read_capture(tmp_path / "resets.pcap")).any()


def test_frames_cut_in_their_headers(tmp_path):
    frames = [bytes(packet(0.0)[Ether]) for _ in range(2)]
    (tmp_path / "cut.pcap").write_bytes(pcap(frames, times=[0, 1000], snap=14 + 20 + 14))
    assert not copies(read_capture(tmp_path / "cut.pcap")).any()


def test_without(tmp_path):
    capture = load("clinic-close-wait").capture
    kept = without(capture, capture.segments["host"] == "server")
    assert set(kept.segments["host"]) == {"client"} and kept.frames == capture.frames
    assert kept.payload(kept.segments.index[-1]) == capture.payload(kept.segments.index[-1])


def test_editcap_finds_the_same(tmp_path):
    """editcap compares digests of whole frames: on a recording with each frame twice it takes out as many."""
    require("editcap")
    capture = load("idle-close-visit").capture
    times = [round(1e9 * time) for time in capture.segments["time"] for _ in range(2)]
    frames = [capture.frame_bytes(frame) for frame in capture.segments.index for _ in range(2)]
    (tmp_path / "twice.pcap").write_bytes(pcap(frames, times=times, unit=1))
    said = subprocess.run(["editcap", "-d", tmp_path / "twice.pcap", tmp_path / "once.pcap"], capture_output=True,
                          text=True, check=True).stderr
    assert f"{copies(read_capture(tmp_path / 'twice.pcap')).sum()} packets skipped" in said
