"""A file read in pieces says the same as the whole, wherever it is cut into pieces."""

import random
import struct

import numpy as np
import pytest
from capture_files import (
    EPOCH,
    ETHERNET,
    TIMES,
    VARIANTS,
    block,
    drops,
    interface,
    packet,
    pcap,
    pcap_variant,
    pcapng,
    section,
    simple_packet,
    small_sections,
)
from fuzz import assert_pieces_say_the_same, mutate, seeds
from gallery import capture_of, capture_of_links, conversations

from helpers.captures import CaptureError, read_capture, read_pieces
from helpers.captures.segments import filled

TIMELESS = section() + interface() + interface(link=101)
FRAMES = [packet(data, time // 1000) for data, time in zip(ETHERNET, TIMES)]
CASES = {
    "pcap": lambda: pcap(ETHERNET),
    "pcapng": pcapng,
    "big-endian": lambda: pcapng(">"),
    "small sections": lambda: small_sections(ETHERNET, TIMES),
    "conversations": lambda: capture_of(conversations()),
    "links": capture_of_links,
    "no times first": lambda: TIMELESS + simple_packet(ETHERNET[0]) * 5 + b"".join(FRAMES),
    "no times between": lambda: TIMELESS + FRAMES[0] + simple_packet(ETHERNET[1]) * 9 + FRAMES[1] + b"".join(
        simple_packet(data) for data in ETHERNET[2:]),
    "no times at all": lambda: TIMELESS + b"".join(map(simple_packet, ETHERNET)),
    "statistics": lambda: TIMELESS + b"".join(frame + drops(number) for number, frame in enumerate(FRAMES)),
    "blocks without frames": lambda: TIMELESS + block(0x1BAD, bytes(3000)) + FRAMES[0] + block(0x1BAD, bytes(5000)),
    "an interface described late": lambda: section() + interface() + FRAMES[0] + interface(link=101) + packet(
        ETHERNET[1][14:], TIMES[1] // 1000, number=1) + FRAMES[2]}
KINDS = {f"variant {magic:x} {version}": lambda kind=(magic, version): pcap_variant(ETHERNET, *kind)
         for magic, version in VARIANTS}
LARGE = ("conversations", "links")      # a piece for each of their frames takes seconds
SIZES = [(case, size) for case in CASES for size in (1, 77, 700) if size > 1 or case not in LARGE] + [
    (kind, 200) for kind in KINDS]


def test_a_frame_without_a_time_has_that_of_the_one_before():
    """Of the same piece, also where that is its first; else of the piece before; else the first time that there is."""
    times, timeless = np.array([70, 0, 0, 80]), np.array([False, True, True, False])
    assert filled(times, timeless, 60).tolist() == [70, 70, 70, 80]
    assert filled(times[1:], timeless[1:], 60).tolist() == [60, 60, 80]
    assert filled(times[1:], timeless[1:]).tolist() == [80, 80, 80]


@pytest.mark.parametrize("case, size", SIZES)
def test_pieces_say_the_same(tmp_path, case, size):
    (tmp_path / "capture").write_bytes((CASES | KINDS)[case]())
    assert_pieces_say_the_same(tmp_path / "capture", read_capture(tmp_path / "capture"), size)


@pytest.mark.parametrize("seed", range(8))
def test_pieces_of_cut_and_damaged_files_say_the_same(tmp_path, seed):
    chance, path = random.Random(seed), tmp_path / "capture"
    whole = chance.choice([case() for case in (CASES | KINDS).values()] + seeds()[:20])
    for _ in range(10):
        data = mutate(whole, chance)
        path.write_bytes(data[:chance.choice((len(data), chance.randrange(len(data) + 1)))])
        size = chance.choice((30, 333, 3000))
        try:
            capture = read_capture(path)
        except CaptureError as error:
            with pytest.raises(CaptureError) as refused:
                list(read_pieces(path, size))
            assert str(refused.value) == str(error)
            continue
        assert_pieces_say_the_same(path, capture, size)


def test_a_piece_of_frames_without_times_goes_on_where_the_clock_stood(tmp_path):
    (tmp_path / "capture").write_bytes(TIMELESS + FRAMES[0] + b"".join(map(simple_packet, ETHERNET * 30)))
    pieces = list(read_pieces(tmp_path / "capture", 1000))
    assert len(pieces) > 10 and {piece.start.timestamp() for piece in pieces} == {EPOCH}


@pytest.mark.parametrize("size", [1, 30, 500])
def test_no_piece_is_empty(tmp_path, size):
    """But the last, where that has something to say."""
    for data in (pcap(ETHERNET), pcapng()):
        (tmp_path / "capture").write_bytes(data)
        assert all(piece.frames for piece in read_pieces(tmp_path / "capture", size))
    for data in (pcap([]), section(), pcapng() + drops(3)):
        (tmp_path / "capture").write_bytes(data)
        assert [piece.frames for piece in read_pieces(tmp_path / "capture", 10_000)][-1:] in ([0], [10])


def test_frames_that_no_piece_can_hold(tmp_path):
    """A record that claims more than any frame has is damage, not a reason to read on for ever."""
    claims = pcap(ETHERNET) + struct.pack("<IIII", 0, 0, 200_000, 200_000) + bytes(300_000)
    (tmp_path / "capture").write_bytes(claims)
    assert_pieces_say_the_same(tmp_path / "capture", read_capture(tmp_path / "capture"), 1000)
