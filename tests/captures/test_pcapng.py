"""pcapng files: sections, interfaces, clocks and blocks; whole and damaged."""

import struct

import pandas as pd
import pytest
from capture_files import (
    EPOCH,
    ETHERNET,
    TIMES,
    block,
    interface,
    obsolete_packet,
    option,
    packet,
    pcap,
    pcapng,
    read,
    section,
    simple_packet,
    small_sections,
)

from helpers.captures import read_pieces, records


@pytest.fixture
def expected(tmp_path):
    return read(tmp_path, pcap(ETHERNET)).segments


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("resolution, per_second", [
    (None, 10**6), (6, 10**6), (9, 10**9), (0x80 | 20, 1 << 20), (1, 10)])
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
    """Each section numbers its interfaces anew, each with a link and a clock of its own; unknown blocks are skipped."""
    ns, unknown = option(9, b"\x09"), block(0x1BAD, b"whatever")
    data = section() + unknown + interface() + interface(link=101, options=ns)
    data += packet(ETHERNET[0], TIMES[0] // 1000) + packet(ETHERNET[1][14:], TIMES[1], number=1) + unknown
    data += section(">") + interface(">", link=101) + block(5, bytes(12), ">")
    data += b"".join(packet(frame[14:], time // 1000, ">") for frame, time in zip(ETHERNET[2:], TIMES[2:]))
    pd.testing.assert_frame_equal(read(tmp_path, data).segments, expected)


@pytest.mark.parametrize("orders", ["<", ">", "<>"])
@pytest.mark.parametrize("size", [1 << 16, 3])
def test_pcapng_small_sections(tmp_path, expected, monkeypatch, orders, size):
    """They are dealt with together; no packet can name an interface of another section, or one that comes later."""
    monkeypatch.setattr(records, "CHUNK", size)
    whole = small_sections(ETHERNET, TIMES, orders)
    pd.testing.assert_frame_equal(read(tmp_path, whole).segments, expected)
    pieces = list(read_pieces(tmp_path / "toy", 400))
    assert len(pieces) > 3 and [seq for piece in pieces for seq in piece.segments["seq"]] == expected["seq"].tolist()
    for late in (section(), section() + interface()):
        broken = read(tmp_path, whole + late + packet(ETHERNET[0], 0, number=1) + interface() + whole)
        assert broken.frames == 10 and broken.cut.startswith(f"byte {len(whole + late)}:")
        assert "names interface 1," in broken.cut


def test_the_first_of_an_interface_s_clocks_counts(tmp_path):
    """As in Wireshark."""
    options = option(9, b"\x09") + option(9, b"\x03") + option(14, struct.pack("<q", 3600)) + option(14, bytes(8))
    capture = read(tmp_path, pcapng(per_second=10**9, options=options))
    assert capture.start == pd.Timestamp(EPOCH + 3600, unit="s", tz="UTC") and capture.end == 1.6


@pytest.mark.parametrize("kind, reason", [
    (9, "systemd journal entry"), (0x204, "system call"), (0xBAD, "custom block")])
def test_pcapng_records_that_are_no_packets(tmp_path, expected, kind, reason):
    """They have frame numbers in Wireshark, and no part in the time of the capture."""
    other, packets = block(kind, b"something"), [packet(data, time // 1000) for data, time in zip(ETHERNET, TIMES)]
    capture = read(tmp_path, section() + interface() + other + packets[0] + other + b"".join(packets[1:]))
    assert capture.frames == 12 and capture.skipped == {reason: 2}
    assert capture.start == pd.Timestamp(EPOCH, unit="s", tz="UTC")
    assert capture.segments.index.tolist() == [2, *range(4, 13)]
    pd.testing.assert_frame_equal(capture.segments.reset_index(drop=True), expected.reset_index(drop=True))
    assert read(tmp_path, section() + interface() + other).skipped == {reason: 1}


def test_pcapng_obsolete_and_simple_packet_blocks(tmp_path):
    data = section() + interface(snap=60) + obsolete_packet(ETHERNET[0], TIMES[0] // 1000)
    data += simple_packet(ETHERNET[3][:60], length=len(ETHERNET[3]))
    capture = read(tmp_path, data)
    assert capture.frames == 2 and capture.segments["length"].tolist() == [0, 27]
    assert capture.segments["time"].iloc[0] == 0 and capture.payload(2) == b"GET / "


def test_broken_blocks(tmp_path):
    good = section() + interface() + packet(ETHERNET[0], 0)
    for broken, reason in [(packet(ETHERNET[1], 0, number=7), "interface 7, which the file does not describe"),
                           (block(6, struct.pack("<5I", 0, 0, 0, 500, 500)), "claims 500 bytes in a block of 32"),
                           (block(6, bytes(8)), "too short"), (struct.pack("<III", 6, 13, 0), "claims 13 bytes"),
                           (block(0x0A0D0D0A, b"\x00" * 16), "no byte-order magic")]:
        capture = read(tmp_path, good + broken + packet(ETHERNET[2], 0))
        assert capture.frames == 1 and reason in capture.cut and capture.cut.startswith(f"byte {len(good)}:")
