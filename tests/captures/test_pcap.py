"""pcap files: every byte order, clock and variant; whole, cut and damaged."""

import struct

import pandas as pd
import pytest
from capture_files import EPOCH, ETHERNET, VARIANTS, block, interface, one, pcap, pcap_variant, read, section

from helpers.captures import CaptureError, read_pieces


@pytest.fixture
def expected(tmp_path):
    return read(tmp_path, pcap(ETHERNET)).segments


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


def test_a_record_header_at_the_very_end_of_the_file(tmp_path):
    """It is a whole frame where it claims no bytes, and a frame cut short where it claims some."""
    for claimed, frames, cut in ((0, 3, None), (1, 2, "frame 3 is cut short")):
        capture = read(tmp_path, pcap(ETHERNET[:2]) + struct.pack("<4I", EPOCH, 0, claimed, 60))
        assert capture.frames == frames and (capture.cut is None) is (cut is None) and (cut or "") in (capture.cut or "")
        pieces = list(read_pieces(tmp_path / "toy", 100))
        assert sum(piece.frames for piece in pieces) == frames and pieces[-1].cut == capture.cut


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


def test_link_type_with_a_frame_check_sequence(tmp_path):
    """The upper bits of pcap's link type say that four more bytes end each frame."""
    capture = one(tmp_path, ETHERNET[3] + b"\1\2\3\4", 1 | 0x44000000)
    assert capture.segments["length"].tolist() == [27]


def test_time_may_go_backwards(tmp_path):
    capture = read(tmp_path, pcap(ETHERNET[:3], [EPOCH * 10**9 + tick for tick in (5000, 9000, 1000)]))
    assert capture.segments["time"].tolist() == [0, 4e-6, -4e-6] and capture.end == 4e-6
