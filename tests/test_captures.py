"""The reader of capture files: containers, links, headers and streams, on toys whose bytes are known."""

import gzip
import random
import struct
import subprocess
import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import require
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Ether
from scapy.packet import Raw
from scapy.utils import rdpcap, wrpcap
from toys import EXCHANGE, HANDSHAKE, SERVER_CLOSES, segment

from helpers.captures import Capture, CaptureError, layers, read_capture, read_pieces
from helpers.connections import connections
from helpers.exchanges import exchanges
from helpers.states import states

WHOLE = [segment(*row) for row in HANDSHAKE + EXCHANGE + SERVER_CLOSES]
ETHERNET = [bytes(packet) for packet in WHOLE]
EPOCH = 1_700_000_000
TIMES = [EPOCH * 10**9 + round(packet.time * 1e9) for packet in WHOLE]


def pcap(frames, times=None, order="<", unit=1000, link=1, snap=1 << 18, lengths=None):
    """A pcap file; times in ns, `unit` ns in one tick of its clock."""
    magic = {1000: 0xA1B2C3D4, 1: 0xA1B23C4D}[unit]
    records = []
    for number, data in enumerate(frames):
        time, length = (times or TIMES)[number], lengths[number] if lengths else len(data)
        records.append(struct.pack(order + "IIII", time // 10**9, time % 10**9 // unit, len(data[:snap]), length) + data[:snap])
    return struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snap, link) + b"".join(records)


VARIANTS = [(0xA1B2CD34, (2, 4)), (0x1C0001AB, (2, 4)), (0x1C0001AC, (2, 4)), (0xA1B2C3D4, (2, 0)), (0xA1B2C3D4, (2, 2)),
            (0xA1B2C3D4, (2, 3)), (0xA1B2C3D4, (543, 0)), (0xA1B2CD34, (2, 2))]


def pcap_variant(frames, magic, version, order="<", times=None):
    """A pcap file of another kind, each frame's last byte not captured."""
    size, data = 16 + 8 * (magic == 0xA1B2CD34), struct.pack(order + "IHHiIII", magic, *version, 0, 0, 1 << 18, 1)
    if magic >> 16 == 0x1C00:
        data += struct.pack(order + "I", sum(size + len(frame) - 1 for frame in frames))
    for number, (frame, time) in enumerate(zip(frames, times or TIMES)):
        swapped = version in ((2, 0), (2, 2), (543, 0)) or version == (2, 3) and number % 2
        lengths = (len(frame), len(frame) - 1) if swapped else (len(frame) - 1, len(frame))
        record = struct.pack(order + "IIIIIHBB", time // 10**9, time % 10**9 // 1000, *lengths, 1, 0x0800, 0, 0)
        data += record[:size] + frame[:-1]
    return data


def block(kind, body, order="<"):
    body += bytes(-len(body) % 4)
    size = len(body) + 12
    return struct.pack(order + "II", kind, size) + body + struct.pack(order + "I", size)


def option(code, value, order="<"):
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order="<"):
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(order="<", link=1, snap=0, options=b""):
    return block(1, struct.pack(order + "HHI", link, 0, snap) + options, order)


def packet(data, ticks, order="<", number=0, length=None):
    """An Enhanced Packet Block."""
    head = struct.pack(order + "5I", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), length or len(data))
    return block(6, head + data, order)


def obsolete_packet(data, ticks, order="<"):
    return block(2, struct.pack(order + "HHIIII", 0, 0, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data)) + data, order)


def simple_packet(data, order="<", length=None):
    return block(3, struct.pack(order + "I", length or len(data)) + data, order)


def pcapng(order="<", per_second=10**6, options=b""):
    blocks = [packet(data, time * per_second // 10**9, order) for data, time in zip(ETHERNET, TIMES)]
    return section(order) + interface(order, options=options) + b"".join(blocks)


def read(tmp_path, data):
    path = tmp_path / "toy"
    path.write_bytes(data)
    return read_capture(path)


def one(tmp_path, data, link=1, **keywords):
    """The capture of a single frame."""
    return read(tmp_path, pcap([bytes(data)], link=link, **keywords))


@pytest.fixture
def expected(tmp_path):
    return read(tmp_path, pcap(ETHERNET)).segments


# Containers

def test_every_column_of_a_whole_exchange(tmp_path):
    capture = read(tmp_path, pcap(ETHERNET))
    table = capture.segments
    assert table.index.tolist() == list(range(1, 11)) and table.index.name == "frame"
    assert table.columns.tolist() == ["time", "stream", "host", "src", "sport", "dst", "dport", "seq", "ack", "flags", "length"]
    assert table["time"].tolist() == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 1.1, 1.5, 1.6]
    assert table["stream"].tolist() == [0] * 10
    assert table["host"].tolist() == [{"C": "client", "S": "server"}[row[0]] for row in HANDSHAKE + EXCHANGE + SERVER_CLOSES]
    assert table.iloc[3][["src", "sport", "dst", "dport"]].tolist() == ["10.0.0.1", 50000, "10.0.0.2", 80]
    assert table["seq"].tolist() == [1000, 5000, 1001, 1001, 5001, 1028, 5044, 1028, 1028, 5045]
    assert table["ack"].tolist() == [0, 1001, 5001, 5001, 1028, 5044, 1028, 5045, 5045, 1029]
    assert table["flags"].tolist() == ["S", "SA", "A", "PA", "PA", "A", "FA", "A", "FA", "A"]
    assert table["length"].tolist() == [0, 0, 0, 27, 43, 0, 0, 0, 0, 0]
    assert (capture.frames, capture.skipped, capture.cut, capture.end) == (10, {}, None, 1.6)
    assert capture.start == pd.Timestamp(EPOCH, unit="s", tz="UTC")
    assert capture.payload(4) == b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" and capture.payload(1) == b""
    assert capture.frame_bytes(4) == ETHERNET[3]
    for frame in (0, 11):
        with pytest.raises(IndexError, match="frames 1 to 10"):
            capture.frame_bytes(frame)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("unit", [1000, 1])
def test_pcap_orders_and_clocks(tmp_path, expected, order, unit):
    pd.testing.assert_frame_equal(read(tmp_path, pcap(ETHERNET, order=order, unit=unit)).segments, expected)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("magic, version", VARIANTS)
def test_pcap_variants(tmp_path, expected, magic, version, order):
    """Records with longer headers, and with the two lengths the other way round, whole and in pieces."""
    whole = pcap_variant(ETHERNET, magic, version, order)
    capture = read(tmp_path, whole)
    pd.testing.assert_frame_equal(capture.segments, expected)
    assert capture.cut is None and capture.payload(4) == b"GET / HTTP/1.1\r\nHost: x\r\n\r"
    pieces = list(read_pieces(tmp_path / "toy", 200))
    assert len(pieces) > 3 and [seq for piece in pieces for seq in piece.segments["seq"]] == expected["seq"].tolist()
    assert read(tmp_path, whole[:-1]).cut.endswith("frame 10 is cut short")
    for size in (0, 1, 20):
        with pytest.raises(CaptureError, match="header is cut short" if size > 4 else "empty|not a pcap"):
            read(tmp_path, whole[:size])


def test_a_length_on_the_wire_below_what_was_captured(tmp_path):
    """The larger of the two counts, as in Wireshark."""
    for length in (0, 10, 54):
        head = struct.pack("<5I", 0, 0, 0, len(ETHERNET[3]), length)
        for data in (pcap(ETHERNET[3:4], lengths=[length]), section() + interface() + block(6, head + ETHERNET[3])):
            capture = read(tmp_path, data)
            assert capture.segments["length"].tolist() == [27] and len(capture.payload(1)) == 27


def test_nanoseconds_are_kept(tmp_path):
    times = [EPOCH * 10**9 + 1, EPOCH * 10**9 + 2]
    capture = read(tmp_path, pcap(ETHERNET[:2], times, unit=1))
    assert capture.start.nanosecond == 1 and capture.segments["time"].tolist() == [0, 1e-9]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("resolution, per_second", [(None, 10**6), (6, 10**6), (9, 10**9), (0x80 | 20, 1 << 20), (1, 10)])
def test_pcapng_orders_and_clocks(tmp_path, expected, order, resolution, per_second):
    options = option(9, bytes([resolution]), order) + option(0, b"") if resolution else b""
    capture = read(tmp_path, pcapng(order, per_second, options))
    assert capture.segments["time"].to_numpy() == pytest.approx(expected["time"].to_numpy(), abs=1.01 / per_second)
    pd.testing.assert_frame_equal(capture.segments.drop(columns="time"), expected.drop(columns="time"))
    assert capture.start == pd.Timestamp(EPOCH, unit="s", tz="UTC")


def test_pcapng_time_offset(tmp_path):
    capture = read(tmp_path, pcapng(options=option(14, struct.pack("<q", 3600))))
    assert capture.start == pd.Timestamp(EPOCH + 3600, unit="s", tz="UTC")


def test_pcapng_sections_interfaces_and_blocks(tmp_path, expected):
    """Interfaces are numbered anew in each section, each with a link and a clock of its own; unknown blocks are passed over."""
    ns, unknown = option(9, b"\x09"), block(0x1BAD, b"whatever")
    data = section() + unknown + interface() + interface(link=101, options=ns)
    data += packet(ETHERNET[0], TIMES[0] // 1000) + packet(ETHERNET[1][14:], TIMES[1], number=1) + unknown
    data += section(">") + interface(">", link=101) + block(5, bytes(12), ">")
    data += b"".join(packet(frame[14:], time // 1000, ">") for frame, time in zip(ETHERNET[2:], TIMES[2:]))
    pd.testing.assert_frame_equal(read(tmp_path, data).segments, expected)


def small_sections(frames, times, orders="<>"):
    """A pcapng file with a section for each frame, in each byte order in turn, an empty one between; clocks differ."""
    data = b""
    for number, (frame, time) in enumerate(zip(frames, times)):
        order, clock = orders[number % len(orders)], (6, 9, 3)[number % 3]
        options = option(9, bytes([clock]), order) + option(14, struct.pack(order + "q", number), order)
        data += section(order) + section(">") + section(order) + interface(order, link=101) + interface(order, options=options)
        data += packet(frame, (time - number * 10**9) * 10**clock // 10**9, order, number=1)
    return data


@pytest.mark.parametrize("orders", ["<", ">", "<>"])
@pytest.mark.parametrize("size", [1 << 16, 3])
def test_pcapng_small_sections(tmp_path, expected, monkeypatch, orders, size):
    """They are dealt with together; no packet can name an interface of another section, or one that comes later."""
    monkeypatch.setattr(layers, "CHUNK", size)
    whole = small_sections(ETHERNET, TIMES, orders)
    pd.testing.assert_frame_equal(read(tmp_path, whole).segments, expected)
    pieces = list(read_pieces(tmp_path / "toy", 400))
    assert len(pieces) > 3 and [seq for piece in pieces for seq in piece.segments["seq"]] == expected["seq"].tolist()
    for late in (section(), section() + interface()):
        broken = read(tmp_path, whole + late + packet(ETHERNET[0], 0, number=1) + interface() + whole)
        assert broken.frames == 10 and broken.cut.startswith(f"byte {len(whole + late)}:") and "names interface 1," in broken.cut


def test_the_first_of_an_interface_s_clocks_counts(tmp_path):
    """As in Wireshark."""
    options = option(9, b"\x09") + option(9, b"\x03") + option(14, struct.pack("<q", 3600)) + option(14, bytes(8))
    capture = read(tmp_path, pcapng(per_second=10**9, options=options))
    assert capture.start == pd.Timestamp(EPOCH + 3600, unit="s", tz="UTC") and capture.end == 1.6


@pytest.mark.parametrize("kind, reason", [(9, "systemd journal entry"), (0x204, "system call"), (0xBAD, "custom block")])
def test_pcapng_records_that_are_no_packets(tmp_path, expected, kind, reason):
    """They have frame numbers in Wireshark, and no part in the time of the capture."""
    other, packets = block(kind, b"something"), [packet(data, time // 1000) for data, time in zip(ETHERNET, TIMES)]
    capture = read(tmp_path, section() + interface() + other + packets[0] + other + b"".join(packets[1:]))
    assert capture.frames == 12 and capture.skipped == {reason: 2} and capture.start == pd.Timestamp(EPOCH, unit="s", tz="UTC")
    assert capture.segments.index.tolist() == [2, *range(4, 13)]
    pd.testing.assert_frame_equal(capture.segments.reset_index(drop=True), expected.reset_index(drop=True))
    assert read(tmp_path, section() + interface() + other).skipped == {reason: 1}


def test_pcapng_obsolete_and_simple_packet_blocks(tmp_path):
    data = section() + interface(snap=60) + obsolete_packet(ETHERNET[0], TIMES[0] // 1000)
    data += simple_packet(ETHERNET[3][:60], length=len(ETHERNET[3]))
    capture = read(tmp_path, data)
    assert capture.frames == 2 and capture.segments["length"].tolist() == [0, 27]
    assert capture.segments["time"].iloc[0] == 0 and capture.payload(2) == b"GET / "


@pytest.mark.parametrize("make", [lambda: pcap(ETHERNET), pcapng])
def test_gzip(tmp_path, expected, make):
    zipped = gzip.compress(make())
    capture = read(tmp_path, zipped)
    pd.testing.assert_frame_equal(capture.segments, expected)
    assert capture.cut is None
    parts = gzip.compress(make()[:500]) + gzip.compress(make()[500:])
    pd.testing.assert_frame_equal(read(tmp_path, parts).segments, expected)


def test_gzip_cut_or_damaged(tmp_path):
    rows = [bytes(segment("C", 0, "A", number, payload=np.random.default_rng(number).bytes(40))) for number in range(300)]
    zipped = gzip.compress(pcap(rows, [0] * 300))
    half = read(tmp_path, zipped[:len(zipped) // 2])
    assert 100 < half.frames < 200 and f"cut short at byte {len(zipped) // 2}" in half.cut
    check = read(tmp_path, zipped[:-8] + b"xxxx" + zipped[-4:])
    assert check.frames == 300 and "damaged" in check.cut
    whole = len(pcap(rows[:120], [0] * 120))
    aligned = gzip.compress(pcap(rows, [0] * 300)[:whole])[:-8]
    assert read(tmp_path, aligned).frames == 120 and "cut short" in read(tmp_path, aligned).cut


def test_gzip_bomb(tmp_path):
    bomb = gzip.compress(pcap([]) + bytes(20 << 20), 9)
    capture = read(tmp_path, bomb)
    assert "more than 250 times its size" in capture.cut and len(capture._data) < 10 << 20


@pytest.mark.parametrize("make, head, tail", [(lambda: pcap(ETHERNET), 24, 0), (pcapng, 28, 4)])
def test_cut_at_every_offset(tmp_path, make, head, tail):
    """All whole frames are given, and `cut` names the byte where the broken record begins."""
    whole = make()
    ends = [whole.index(frame) + len(frame) + (-len(frame) % 4 if tail else 0) + tail for frame in ETHERNET[:4]]
    data = whole[:ends[-1]]
    begins = [24 if not tail else len(section() + interface())] + ends[:-1]
    for size in range(len(data)):
        if size < head:
            with pytest.raises(CaptureError) as error:
                read(tmp_path, data[:size])
            assert error.value.offset <= size and str(tmp_path / "toy") in str(error.value)
            continue
        capture = read(tmp_path, data[:size])
        assert capture.frames == len(capture.segments) == sum(end <= size for end in ends)
        borders = {0, 24, *ends} if not tail else {len(section()), begins[0], *ends}
        assert (capture.cut is None) == (size in borders)
        if size > begins[0] and capture.cut:
            assert capture.cut.startswith(f"byte {begins[capture.frames]}:")


@pytest.mark.parametrize("data, reason", [
    (b"", "byte 0: the file is empty"), (b"hello, world", "byte 0: not a pcap or pcapng file .it begins with 68 65"),
    (pcap([])[:20], "byte 20: the pcap file header is cut short"), (gzip.compress(b"hello", mtime=0), "not a pcap"),
    (b"snoop\0\0\0", "not a pcap or pcapng file .*; turn it into one: editcap -F pcapng FILE NEW"),
    (b"\x28\xb5\x2f\xfd\0", "compressed with zstd; decompress it first"), (b"BZh91AY", "compressed with bzip2"),
    (b"\x1f\x8b rubbish", "gzip data are damaged"), (section()[:8] + bytes(20), "no byte-order magic")])
def test_no_capture(tmp_path, data, reason):
    with pytest.raises(CaptureError, match=reason) as error:
        read(tmp_path, data)
    assert error.value.path == str(tmp_path / "toy")


@pytest.mark.parametrize("form", ["snoop", "netmon1", "netmon2", "ngsniffer", "ngwsniffer_2_0", "visual", "5views"])
def test_other_captures_are_told_what_to_do(tmp_path, data, form):
    """What editcap writes in another format is refused with the command that, as it says, turns it back."""
    require("editcap")
    path, back = data / "timers-5" / "capture.pcapng", tmp_path / "back.pcapng"
    subprocess.run(["editcap", "-F", form, path, tmp_path / form], check=True, capture_output=True)
    with pytest.raises(CaptureError, match="turn it into one: editcap -F pcapng FILE NEW"):
        read_capture(tmp_path / form)
    subprocess.run(["editcap", "-F", "pcapng", tmp_path / form, back], check=True, capture_output=True)
    assert read_capture(back).segments["seq"].tolist() == read_capture(path).segments["seq"].tolist()


def test_no_file(tmp_path):
    for path in (tmp_path / "missing", tmp_path, "nul\0byte"):
        with pytest.raises(CaptureError):
            read_capture(path)


def test_empty_captures(tmp_path):
    for data in (pcap([]), section(), section() + interface()):
        capture = read(tmp_path, data)
        assert (capture.frames, len(capture.segments), capture.cut, capture.end) == (0, 0, None, 0)
        for table in (connections(capture), exchanges(capture), states(capture)):
            assert table.empty


@pytest.mark.parametrize("claim", [1 << 18 | 1, 0xFFFFFFFF])
def test_claims_beyond_reason(tmp_path, claim):
    broken = pcap(ETHERNET[:2])[:24] + struct.pack("<IIII", 0, 0, claim, claim) + bytes(100)
    assert f"claims {claim} bytes" in read(tmp_path, broken).cut
    broken = section() + interface() + struct.pack("<II", 6, claim & ~3) + bytes(100)
    assert "byte 48" in read(tmp_path, broken).cut


def test_broken_blocks(tmp_path):
    good = section() + interface() + packet(ETHERNET[0], 0)
    for broken, reason in [(packet(ETHERNET[1], 0, number=7), "interface 7, which the file does not describe"),
                           (block(6, struct.pack("<5I", 0, 0, 0, 500, 500)), "claims 500 bytes in a block of 32"),
                           (block(6, bytes(8)), "too short"), (struct.pack("<III", 6, 13, 0), "claims 13 bytes"),
                           (block(0x0A0D0D0A, b"\x00" * 16), "no byte-order magic")]:
        capture = read(tmp_path, good + broken + packet(ETHERNET[2], 0))
        assert capture.frames == 1 and reason in capture.cut and capture.cut.startswith(f"byte {len(good)}:")


# Links

IP4 = bytes(IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=50000, dport=80, flags="PA", seq=7, ack=9) / b"hello")
SNAP = b"\xaa\xaa\3\0\0\0"
IP6 = bytes(IPv6(src="2001:db8::1", dst="2001:db8::100") / TCP(sport=50000, dport=80, flags="PA", seq=7, ack=9) / b"hello")
LINKS = [
    (1, bytes(Ether(dst="00:00:00:00:00:02", type=0x0800)) + IP4), (1, bytes(Ether(dst="00:00:00:00:00:02", type=0x86DD)) + IP6),
    (1, bytes(Ether(dst="00:00:00:00:00:02") / Dot1Q(vlan=5, type=0x0800)) + IP4),
    (1, bytes(Ether(dst="00:00:00:00:00:02") / Dot1AD(vlan=5) / Dot1Q(vlan=6, type=0x86DD)) + IP6),
    (1, bytes(Ether(dst="00:00:00:00:00:02", type=0x9100)) + b"\0\5\x08\0" + IP4),
    (113, bytes(CookedLinux(proto=0x0800)) + IP4), (113, bytes(CookedLinux(proto=0x86DD)) + IP6),
    (113, bytes(CookedLinux(proto=0x8100)) + b"\0\5\x08\0" + IP4),
    (276, bytes(CookedLinuxV2(proto=0x0800)) + IP4), (276, bytes(CookedLinuxV2(proto=0x86DD)) + IP6),
    *[(link, struct.pack(order + "I", 2) + IP4) for link in (0, 108) for order in "<>"],
    *[(link, struct.pack(order + "I", family) + IP6) for link in (0, 108) for order in "<>" for family in (10, 24, 28, 30)],
    *[(link, data) for link in (12, 14, 101) for data in (IP4, IP6)], (228, IP4), (229, IP6),
    *[(link, head + data) for link in (9, 50) for head4, head6 in [(b"\xff\x03\0\x21", b"\xff\x03\0\x57"), (b"\0\x21", b"\0\x57"),
      (b"\x21", b"\x57"), (b"\x0f\0\x08\0", b"\x8f\0\x86\xdd")] for head, data in [(head4, IP4), (head6, IP6)]],
    *[(link, head + control + bytes(size) + SNAP + b"\x08\0" + IP4) for link, head in [(105, b""), (127, b"\0\0\x08\0\0\0\0\0")]
      for control, size in [(b"\x08\1", 22), (b"\x08\2", 22), (b"\x08\3", 28), (b"\x88\1", 24), (b"\x88\x82", 28)]],
    (51, b"\x11\0\0\1\0\x2f\0\x21" + IP4), (104, b"\x0f\0\x08\0" + IP4), (104, b"\x0f\0\x86\xdd" + IP6),
    (104, b"\x0f\0\x88\x47\0\0\1\xff" + IP4), (113, bytes(CookedLinux(proto=4)) + SNAP + b"\x08\0" + IP4),
    *[(1, bytes(12) + between + IP4) for between in [
        b"\x88\x64\x11\0\0\1\0\x2f\0\x21", b"\x88\x47\0\0\1\xff", b"\x88\x48\0\0\0\xff\0\0\1\xff", b"\x81\0\0\5\x88\x47\0\0\1\xff",
        b"\0\x35" + SNAP + b"\x08\0", b"\0\x30\6\6\3", b"\x81\0\0\5\0\x35" + SNAP + b"\x08\0"]],
    (1, bytes(12) + b"\x88\x64\x11\0\0\1\0\x43\0\x57" + IP6 + b"padding"), (1, bytes(12) + b"\x08\0" + IP6),
    (0, b"\0\0\x08\0" + IP4), (0, b"\xdd\x86\0\0" + IP6), (0, b"\0\0\x81\0\0\5\x08\0" + IP4), (0, b"\xff\3\0\x21" + IP4),
    (204, b"\0\xff\3\0\x21" + IP4), (204, b"\1\0\x57" + IP6),
    (239, b"\2\0\0\5\x31\0\x09\0" + IP4), (239, b"\x0a\0\0\5\x08\0\1\0\x86\xdd\1\0\x06\0\x0a\0a\0\0\0\x45\0\x09\0" + IP6 + b"pad"),
    (6, b"\x10\x40" + bytes(12) + SNAP + b"\x08\0" + IP4), (242, bytes(40) + b"\x08\0\0\0" + IP4),
    (192, b"\0\0\x0c\0\1\0\0\0" + bytes(4) + bytes(12) + b"\x86\xdd" + IP6), (192, b"\0\0\x08\0\x69\0\0\0\x08\1" + bytes(22) + SNAP + b"\x08\0" + IP4),
    (1, bytes(12) + b"\x89\3\0\5" + bytes(12) + b"\x86\xdd" + IP6 + b"\0CRC"),
    (6, b"\x10\x40" + bytes(6) + b"\x80" + bytes(5) + b"\6\x30\0\1\0\2" + SNAP + b"\x86\xdd" + IP6)]
TUNNELS = [
    (IP(proto=4), b"", IP4), (IP(proto=41), b"", IP6), (IPv6(nh=4), b"", IP4), (IPv6(nh=41), b"", IP6), (IP(proto=4) / IP(proto=41), b"", IP6),
    (IP(proto=47), b"\0\0\x08\0", IP4), (IP(proto=47), b"\xb0\0\x86\xdd" + bytes(12), IP6), (IP(proto=47), b"\x20\0\x88\x47\0\0\0\7\0\0\1\xff", IP4),
    (IP(proto=47), b"\x30\x81\x88\x0b\0\x31\0\1" + bytes(8) + b"\xff\x03\0\x21", IP4),
    (IP(proto=47), b"\0\0\x65\x58" + bytes(12) + b"\x81\0\0\5\x08\0", IP4), (IP(proto=51), b"\4\4" + bytes(22), IP4),
    (IP() / UDP(sport=5000, dport=4789), b"\x08" + bytes(7 + 12) + b"\x08\0", IP4), (IPv6() / UDP(sport=50000, dport=6081), b"\2\0\x65\x58" + bytes(4 + 8 + 12) + b"\x86\xdd", IP6),
    (IP() / UDP(sport=5000, dport=2152), b"\x30\xff\0\x2d" + bytes(4), IP4), (IP() / UDP(sport=2152, dport=5000), b"\x32\xff\0\x45" + bytes(8), IP6),
    *[(IP() / UDP(sport=5000, dport=2152), b"\x34\xff" + struct.pack(">HI", 4 + len(extensions + inner), 1) + b"\0\0\0" + extensions, inner)
      for extensions, inner in [(b"\0", IP4), (b"\x85\1\x10\0\0", IP4), (b"\xc0\1\1\2\x85\2\x10\0\0\0\0\0\0", IP6)]],
    (IP() / UDP(sport=4789, dport=2152), b"\x30\xff\0\x2d" + bytes(4), IP4),
    (IP(proto=137), b"\0\0\1\xff", IP4), (IPv6(nh=137), b"\0\0\0\xff\0\0\1\xff", IP6),
    (IP() / UDP(sport=50000, dport=6635), b"\0\0\1\xff", IP4),
    *[(IP() / UDP(sport=1701, dport=1701), flags + between, IP4) for flags, between in [
        (b"\0\2", bytes(4) + b"\xff\3\0\x21"), (b"\0\2", bytes(4) + b"\0\x21"), (b"\x40\2", b"\0\x39" + bytes(4) + b"\xff\3\0\x21"),
        (b"\x4a\2", b"\0\x42" + bytes(8) + b"\0\3abc\xff\3\0\x21"), (b"\2\2", bytes(4) + b"\0\0\xff\3\0\x21")]],
    *[(IP() / UDP(sport=50000, dport=3544), between, IP6) for between in [
        b"", bytes(8), b"\0\1\0\0" + bytes(9), b"\0\1\2\3abcde" + bytes(9 + 8)]],
    (IP(proto=97), b"\x30\0" + bytes(12) + b"\x08\0", IP4), (IPv6(nh=97), b"\x30\0" + bytes(12) + b"\x86\xdd", IP6),
    *[(IP(proto=47), head + bytes(12) + b"\x08\0", IP4) for head in [
        b"\0\0\x88\xbe", b"\x10\0\x88\xbe\0\0\0\1\x10\0\0\1" + bytes(4), b"\x10\0\x22\xeb\0\0\0\1\x20\0\0\1" + bytes(8),
        b"\x10\0\x22\xeb\0\0\0\1\x20\0\0\1" + bytes(7) + b"\1" + bytes(8)]],
    *[(IP() / UDP(sport=5000, dport=4790), b"\x0c\0\0" + bytes([number]) + bytes(4) + between, inner) for number, between, inner in [
        (1, b"", IP4), (2, b"", IP6), (3, bytes(12) + b"\x08\0", IP4), (5, b"\0\0\1\xff", IP6)]],
    (IPv6(nh=140), b"\x29\0\x80" + bytes(5), IP6)]


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
    assert row["src"] == ("10.0.0.1" if inner == IP4 else "2001:db8::1") and row[["sport", "dport", "length"]].tolist() == [50000, 80, 5]
    between = [IP6, bytes(outer / Raw(between + inner)), bytes(IP() / UDP()), IP4]
    capture = read(tmp_path, pcap(between, TIMES, link=101))
    assert capture.segments.index.tolist() == [1, 2, 4] and capture.skipped == {"UDP": 1}
    assert capture.segments["src"].tolist() == ["2001:db8::1", row["src"], "10.0.0.1"] and capture.payload(2) == b"hello"


@pytest.mark.parametrize("link, frame, reason", [
    (147, IP4, "link type 147"), (105, b"\xd4\0" + bytes(8), "not IP (IEEE 802.11)"), (105, b"\x08\x41" + bytes(60), "not IP (IEEE 802.11)"),
    (105, b"\x48\1" + bytes(22), "not IP (IEEE 802.11)"), (127, b"\0\0\x08\0\0\0\0\0\x80", "cut inside the link header"),
    (105, b"\x08\1" + bytes(22) + SNAP + b"\x08\x06" + bytes(28), "ARP"), (1, bytes(Ether(dst="00:00:00:00:00:02") / ARP()), "ARP"),
    (1, bytes(12) + b"\x00\x26" + bytes(40), "not IP (IEEE 802.3)"), (1, bytes(12) + b"\x88\xe5" + IP4, "not IP (type 0x88e5)"),
    (1, bytes(12) + b"\x88\x47\0\0\1\xff\0" + IP4, "not IP"), (1, bytes(12) + b"\x88\x47\0\0\1\xff", "cut inside the MPLS label"),
    (9, b"\xff\x03\xc0\x21" + bytes(8), "not IP (PPP protocol 0xc021)"), (51, b"\x11\0\0\1\0\x0a\xc0\x21" + bytes(8), "not IP (PPP protocol 0xc021)"),
    (101, bytes(IP(proto=47) / Raw(b"\x20\0\x08\0\0")), "cut inside the IP header"), (101, bytes(IP(proto=47) / Raw(b"\x20\0")), "cut inside the GRE header"),
    (101, bytes(IP(proto=41) / Raw(IP4)), "malformed IP header"), (101, bytes(IP(proto=4) / IP(proto=4) / IP() / UDP()), "UDP"),
    (101, bytes(IP() / UDP()), "UDP"), (101, bytes(IP() / ICMP()), "ICMP"), (101, b"\x90" + IP4[1:], "not IP"),
    (101, bytes(IP() / ICMP(type=3) / IP(IP4)), "ICMP"), (0, struct.pack("<I", 7) + IP4, "not IP"),
    (101, bytes(IP(proto=89) / b"x"), "IP protocol 89"), (1, bytes(10), "cut inside the link header"),
    (1, bytes(12) + b"\x81\x00\x00", "cut inside the VLAN tag"), (101, b"", "cut inside the link header"),
    (101, IP4[:19], "cut inside the IP header"), (101, IP6[:39], "cut inside the IP header"),
    *[(1, bytes(12) + b"\x88\x47" + bytes(4 * many) + b"\0\0\1\xff" + IP4, "more than 64 headers before TCP") for many in (64, 9999)],
    (239, b"\2\0\0\5" + bytes(4000), "more than 64 headers before TCP"),
    (239, b"\2\0\0\5\6\0\1\0\0\0", "cut inside the link header"), (6, b"\x10\0" + bytes(40), "not IP"), (0, b"\1\0\0\1" + IP4, "not IP"),
    (101, bytes(IP() / UDP(dport=1701) / Raw(b"\xc8\2" + bytes(10))), "not IP"), (101, bytes(IP() / UDP(dport=3544) / Raw(b"\0\0" + bytes(5))), "cut inside the Teredo header"),
    (101, bytes(IP() / UDP(dport=2152) / Raw(b"\x34\xff\0\x35" + bytes(7) + b"\x85\0" + IP4)), "not IP"),
    (1, bytes(12) + b"\x86\xdd" + IP4, "malformed IP header"),
    (101, b"\x44" + IP4[1:], "malformed IP header"), (101, IP4[:2] + b"\x00\x0a" + IP4[4:], "malformed IP header"),
    (101, IP4[:2] + b"\x00\x1e" + IP4[4:], "malformed TCP header"),
    (101, bytes(IP(frag=3, src="10.0.0.1") / IP4[20:]), "IP fragment after the first")])
def test_what_is_not_decoded_is_counted_by_reason(tmp_path, link, frame, reason):
    capture = one(tmp_path, frame, link)
    assert capture.skipped == {reason: 1} and capture.segments.empty and capture.frames == 1


def test_link_type_with_a_frame_check_sequence(tmp_path):
    """The upper bits of pcap's link type say that four more bytes end each frame."""
    capture = one(tmp_path, ETHERNET[3] + b"\1\2\3\4", 1 | 0x44000000)
    assert capture.segments["length"].tolist() == [27]


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


# IP and TCP headers

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
    assert capture.segments["stream"].tolist() == capture.segments["length"].tolist() == [0, 0] and capture.payload(1) == b""


def test_a_syn_with_a_short_header_opens_a_stream(tmp_path):
    """As in Wireshark, although its flags are not believed."""
    syn = IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=1, dport=2, seq=7, flags="S")
    short, again = syn.copy(), syn.copy()
    short[TCP].dataofs, short[TCP].seq, again[TCP].seq = 3, 9, 9
    capture = read(tmp_path, pcap([bytes(packet) for packet in (syn, short, again)], TIMES, link=101))
    assert capture.segments["stream"].tolist() == [0, 1, 1] and capture.segments["flags"].tolist() == ["S", "", "S"]
    assert connections(capture)["opened"].notna().tolist() == [True, True]


def test_options_of_ip_and_tcp(tmp_path):
    frame = IP(options=[IPOption_NOP()] * 8) / TCP(flags="S", options=[("MSS", 1460), ("WScale", 7), ("Timestamp", (1, 0))]) / b"abc"
    capture = one(tmp_path, frame, 101)
    assert capture.segments["length"].tolist() == [3] and capture.payload(1) == b"abc"


@pytest.mark.parametrize("headers", [
    IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(), IPv6ExtHdrRouting(addresses=["2001:db8::9"]), IPv6ExtHdrFragment(offset=0, m=1),
    IPv6ExtHdrHopByHop() / IPv6ExtHdrRouting() / IPv6ExtHdrDestOpt(), Raw(b"\x06\x04" + bytes(22))],
    ids=["hop by hop", "destination", "routing", "first fragment", "three", "authentication"])
def test_ipv6_extension_headers(tmp_path, headers):
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


def test_time_may_go_backwards(tmp_path):
    capture = read(tmp_path, pcap(ETHERNET[:3], [EPOCH * 10**9 + tick for tick in (5000, 9000, 1000)]))
    assert capture.segments["time"].tolist() == [0, 4e-6, -4e-6] and capture.end == 4e-6


# Streams and hosts

def table_of(tmp_path, rows):
    frames = [bytes(segment(who, 0, flags, seq, ack)) for who, flags, seq, ack in rows]
    return read(tmp_path, pcap(frames, list(range(len(frames))))).segments


@pytest.mark.parametrize("rows, streams", [
    ([("C", "S", 0, 0), ("C", "S", 0, 0), ("S", "SA", 0, 1)], [0, 0, 0]),
    ([("C", "S", 0, 0), ("S", "SA", 0, 1), ("C", "S", 9, 0)], [0, 0, 1]),
    ([("C", "S", 0, 0), ("S", "SA", 0, 1), ("S", "SA", 9, 1), ("C", "A", 1, 10)], [0, 0, 0, 0]),
    ([("C", "S", 0, 0), ("C", "FA", 1, 1), ("S", "FA", 1, 2), ("C", "S", 0, 0)], [0, 0, 0, 0]),
    ([("S", "SA", 0, 1), ("C", "S", 0, 0), ("C", "S", 1, 0)], [0, 0, 1]),
    ([("S", "SA", 0, 1), ("S", "SA", 9, 1), ("S", "S", 9, 0), ("S", "S", 0, 0)], [0, 0, 0, 1]),
    ([("S", "A", 7, 1), ("C", "S", 5, 0)], [0, 1]), ([("S", "A", 7, 6), ("C", "S", 5, 0)], [0, 0]),
    ([("C", "S", 0, 0), ("S", "S", 3, 0), ("C", "SA", 0, 4), ("S", "SA", 3, 1)], [0, 0, 0, 0])],
    ids=["SYN again", "new SYN", "answer again", "same ISN after FIN", "answer first", "two answers", "after an ACK", "told by an ACK",
         "simultaneous open"])
def test_streams(tmp_path, rows, streams):
    assert table_of(tmp_path, rows)["stream"].tolist() == streams


def test_streams_are_numbered_by_first_frame(tmp_path):
    other = ("10.0.0.3", 50000)
    frames = [segment("C", 0, "S", 0), segment("C", 0, "S", 0, client=other), segment("S", 0, "SA", 0, 1),
              segment("S", 0, "SA", 0, 1, client=other), segment("C", 0, "S", 9)]
    assert read(tmp_path, pcap([bytes(frame) for frame in frames], [0] * 5)).segments["stream"].tolist() == [0, 1, 0, 1, 2]


@pytest.mark.parametrize("rows, hosts", [
    ([("C", "S", 0, 0), ("S", "SA", 0, 1)], ["client", "server"]), ([("S", "SA", 0, 1), ("C", "A", 1, 1)], ["server", "client"]),
    ([("S", "SA", 0, 1), ("C", "S", 0, 0)], ["server", "client"]), ([("C", "A", 1, 1), ("S", "A", 1, 1)], [None, None]),
    ([("S", "S", 3, 0), ("C", "S", 0, 0), ("C", "SA", 0, 4)], ["client", "server", "server"])],
    ids=["SYN", "only the answer", "answer first", "no SYN", "simultaneous open"])
def test_hosts(tmp_path, rows, hosts):
    host = table_of(tmp_path, rows)["host"]
    assert host.astype(object).where(host.notna(), None).tolist() == hosts


# Unbreakable

def all_tables(capture):
    return segments_are_accounted_for(capture), connections(capture), exchanges(capture), states(capture)


def segments_are_accounted_for(capture):
    assert len(capture.segments) + sum(capture.skipped.values()) == capture.frames
    assert capture.segments["stream"].isna().sum() == 0 and capture.segments["length"].ge(0).all()
    for frame in capture.segments.index:
        assert len(capture.payload(frame)) <= capture.segments.at[frame, "length"]


def reads_or_refuses(path, data):
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            capture = read_capture(path)
        except CaptureError as error:
            assert str(path) in str(error)
            return
        assert isinstance(capture, Capture)
        all_tables(capture)


bounded = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@bounded
@given(st.binary(max_size=400), st.sampled_from([b"", pcap([])[:24], pcap([], order=">"), section() + interface(), section(">")]))
def test_any_bytes(tmp_path, rubbish, start):
    reads_or_refuses(tmp_path / "toy", start + rubbish)


@bounded
@given(st.data(), st.sampled_from([pcap(ETHERNET), pcap(ETHERNET, order=">", unit=1), pcapng(), pcapng(">"), gzip.compress(pcap(ETHERNET), mtime=0)]))
def test_damaged_captures(tmp_path, data, whole):
    damaged = bytearray(whole)
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=25)):
        damaged[at] = value
    reads_or_refuses(tmp_path / "toy", bytes(damaged))


@bounded
@given(st.lists(st.tuples(st.sampled_from([0, 1, 6, 12, 101, 108, 113, 147, 204, 228, 239, 276]), st.one_of(
    st.binary(max_size=60), st.tuples(st.sampled_from([IP4, IP6, ETHERNET[3]]), st.binary(max_size=30), st.integers(0, 70)).map(
        lambda drawn: drawn[0][:drawn[2]] + drawn[1] + drawn[0][drawn[2] + len(drawn[1]):])), st.integers(0, 2**32 - 1)), max_size=8))
def test_any_frames(tmp_path, frames):
    """Whatever a frame holds and whatever length it claims, it is a segment or counted."""
    links = sorted({link for link, _, _ in frames})
    data = section() + b"".join(interface(link=link) for link in links)
    data += b"".join(packet(frame, number, number=links.index(link), length=length) for number, (link, frame, length) in enumerate(frames))
    reads_or_refuses(tmp_path / "toy", data)
    assert read_capture(tmp_path / "toy").frames == len(frames)


@pytest.mark.parametrize("name", ["long-7-images-firefox", "short-7-images-replay"])
@pytest.mark.parametrize("form", ["pcapng", "pcap"])
def test_guesses_and_chunks_change_nothing(tmp_path, data, monkeypatch, name, form):
    """Runs of records are guessed, and frames are decoded in chunks: neither may show, whatever is damaged."""
    path, chance = data / name / "capture.pcapng", random.Random(form + name)
    if form == "pcap":
        frames = rdpcap(str(path))
        path = tmp_path / "whole.pcap"
        wrpcap(str(path), frames)
    whole = path.read_bytes()
    for _ in range(12):
        damaged = bytearray(whole)
        for _ in range(chance.choice((0, 1, 20))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        (tmp_path / "damaged").write_bytes(damaged)
        usual = _outcome(tmp_path / "damaged")
        with monkeypatch.context() as changed:
            changed.setattr(layers, "CHUNK", 7)
            changed.setattr(layers, "SLAB", 4096)
            assert _outcome(tmp_path / "damaged") == usual
            changed.setattr(layers, "PLAIN_LINK", None)
            assert _outcome(tmp_path / "damaged") == usual
            for guess in ("_likely_records", "_likely_packets"):
                changed.setattr(layers, guess, lambda *_: (np.empty(0, np.int64), np.empty(0, np.int64)))
            assert _outcome(tmp_path / "damaged") == usual


def _outcome(path):
    try:
        capture = read_capture(path)
    except CaptureError as error:
        return str(error)
    return capture.segments.to_csv(), capture.frames, capture.skipped, capture.start, capture.end, capture.cut
