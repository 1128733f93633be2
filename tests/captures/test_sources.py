"""Zipped files, gzip and zstd, whole, cut and damaged; open files and pipes."""

import gzip
import io
import os
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from capture_files import ETHERNET, pcap, pcapng, read
from toys import segment

from helpers.captures import CaptureError, merge_captures, read_capture, read_pieces, sources


def zstd(data, level=3):
    """`data` as a zstd frame, by whatever is installed."""
    try:
        from compression.zstd import compress
    except ImportError:
        from zstandard import compress
    return compress(data, level)


ZIP = {"gzip": lambda data: gzip.compress(data, mtime=0), "zstd": zstd}
SKIPPED = b"\x50\x2a\x4d\x18\x04\0\0\0skip"     # a frame of zstd that holds nothing


@pytest.fixture
def expected(tmp_path):
    return read(tmp_path, pcap(ETHERNET)).segments


def capture_of(many):
    """A pcap file of so many frames with 40 random bytes each."""
    payloads = [np.random.default_rng(number).bytes(40) for number in range(many)]
    return pcap([bytes(segment("C", 0, "A", at, payload=payload)) for at, payload in enumerate(payloads)], [0] * many)


@pytest.mark.parametrize("zipped", ZIP)
@pytest.mark.parametrize("make", [lambda: pcap(ETHERNET), pcapng])
def test_zipped(tmp_path, expected, make, zipped):
    """In one part, in two, and with what is no zipped data behind them."""
    pack, data = ZIP[zipped], make()
    for whole in (pack(data), pack(data[:500]) + pack(data[500:]), pack(data) + b"trailer"):
        capture = read(tmp_path, whole)
        pd.testing.assert_frame_equal(capture.segments, expected)
        assert capture.cut is None


def test_zstd_frames_that_hold_nothing(tmp_path, expected):
    pd.testing.assert_frame_equal(read(tmp_path, SKIPPED + zstd(pcap(ETHERNET)) + SKIPPED).segments, expected)


def test_zstd_without_what_unzips_it(tmp_path, monkeypatch):
    for name in ("compression", "compression.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CaptureError, match="zstd; decompress it first, or install the package zstandard"):
        read(tmp_path, zstd_of_nothing())


def zstd_of_nothing():
    return bytes.fromhex("28b52ffd 00 00 010000")


@pytest.mark.parametrize("zipped, many, most", [("gzip", 300, 270), ("zstd", 3000, 2000)])     # blocks of zstd: 128 kB
def test_cut(tmp_path, zipped, many, most):
    """All whole frames of what can be unzipped are given, in one piece and in many; `cut` says where."""
    whole = ZIP[zipped](capture_of(many))
    found = []
    for size in range(len(whole) // 2, len(whole), len(whole) // 8):
        capture = read(tmp_path, whole[:size])
        found.append(capture.frames)
        assert f"the {zipped} data are cut short at byte {size} of the zipped file" in capture.cut
        pieces = list(read_pieces(tmp_path / "toy", 3 * many))
        assert sum(piece.frames for piece in pieces) == capture.frames
        assert [piece.cut for piece in pieces] == [None] * (len(pieces) - 1) + [capture.cut]
    assert found == sorted(found) and 0 < found[0] < found[-1] and found[-1] > most


def test_gzip_cut_where_a_frame_ends(tmp_path):
    aligned = gzip.compress(capture_of(120))[:-8]
    assert read(tmp_path, aligned).frames == 120 and "cut short" in read(tmp_path, aligned).cut
    pieces = list(read_pieces(tmp_path / "toy", 10**6))
    assert sum(piece.frames for piece in pieces) == 120 and "cut short" in pieces[-1].cut


def test_gzip_damaged(tmp_path):
    """What stands before the damaged byte is read to the last frame, whole or in pieces."""
    zipped = gzip.compress(capture_of(300), mtime=0)
    check = read(tmp_path, zipped[:-8] + b"xxxx" + zipped[-4:])
    assert check.frames == 300 and "damaged" in check.cut
    assert [piece.frames for piece in read_pieces(tmp_path / "toy", 10**6)] == [300, 0]
    at = len(zipped) // 2
    half, cut = read(tmp_path, zipped[:at] + b"\xff" * 9 + zipped[at + 9:]), read(tmp_path, zipped[:at])
    assert abs(half.frames - cut.frames) <= 3 and 100 < half.frames < 200
    assert "the gzip data are damaged at byte" in half.cut


def test_zstd_damaged(tmp_path):
    """The blocks before the damaged one are read (RFC 8878 section 3.1.1.2: a block of type 3 is none)."""
    whole, size = capture_of(300), 5000
    parts = [whole[at:at + size] for at in range(0, len(whole), size)]
    blocks = [(len(part) << 3).to_bytes(3, "little") + part for part in parts]
    begin, good = b"\x28\xb5\x2f\xfd\0\x58", b"".join(blocks[:4])
    for bad in (b"\x07\0\0", b"\x07\0\0" + b"".join(blocks[4:])):
        capture = read(tmp_path, begin + good + bad)
        assert capture.frames == read(tmp_path, whole[:4 * size]).frames > 100
        assert "the zstd data are damaged at byte" in capture.cut
        read(tmp_path, begin + good + bad)
        pieces = list(read_pieces(tmp_path / "toy", 1000))
        assert sum(piece.frames for piece in pieces) == capture.frames and pieces[-1].cut == capture.cut


@pytest.mark.parametrize("zipped", ZIP)
def test_bomb(tmp_path, zipped):
    """No capture: refused after its first bytes; a capture: no more of it than 250 times its size."""
    with pytest.raises(CaptureError, match="not a pcap or pcapng file"):
        read(tmp_path, ZIP[zipped](bytes(20 << 20)))
    capture = read(tmp_path, ZIP[zipped](pcap([]) + bytes(20 << 20)))
    assert "more than 250 times its size" in capture.cut and len(capture.data) < 10 << 20
    assert len(list(read_pieces(tmp_path / "toy", 1 << 20))) < 12


def test_a_bomb_is_looked_at_before_it_is_unzipped(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(sources.Unzipped, "read", lambda self, size=-1: given.append(size))
    with pytest.raises(CaptureError, match="not a pcap"):
        read(tmp_path, gzip.compress(bytes(20 << 20)))
    assert not given


@pytest.mark.parametrize("zipped", [None, *ZIP])
def test_open_files(tmp_path, expected, zipped):
    """A file that is open already, from where it stands; in memory; and a pipe, which can't go back."""
    data = ZIP[zipped](pcap(ETHERNET)) if zipped else pcap(ETHERNET)
    (tmp_path / "capture").write_bytes(b"before" + data)
    with (tmp_path / "capture").open("rb") as file:
        file.seek(6)
        capture = read_capture(file)
        assert capture.path == str(tmp_path / "capture")
        pd.testing.assert_frame_equal(capture.segments, expected)
    pd.testing.assert_frame_equal(read_capture(io.BytesIO(data)).segments, expected)
    pd.testing.assert_frame_equal(merge_captures([io.BytesIO(data)]).segments, expected)
    pieces = list(read_pieces(io.BytesIO(data), 300))
    assert len(pieces) > 2 and sum(len(piece.segments) for piece in pieces) == len(expected)
    piped = subprocess.run([sys.executable, "-c", "import sys; from helpers.captures import read_capture; "
                            "print(len(read_capture(sys.stdin.buffer).segments))"], input=data, capture_output=True)
    assert piped.stdout.split() == [str(len(expected)).encode()], piped.stderr


@pytest.mark.parametrize("part", [1, 7, 100, 1 << 20])
def test_read_by_several_threads(tmp_path, monkeypatch, part):
    data = pcap(ETHERNET)
    monkeypatch.setattr(sources, "PART", part)
    (tmp_path / "capture").write_bytes(b"before" + data)
    with (tmp_path / "capture").open("rb") as file:
        file.seek(6)
        assert read_capture(file, threads=3).data.tobytes() == data


@pytest.mark.parametrize("there", [24, 100, 101, 150])
def test_a_file_that_becomes_shorter_while_it_is_read(tmp_path, monkeypatch, there):
    """What was there when it was read counts."""
    monkeypatch.setattr(sources, "PART", 50)
    preadv, data = os.preadv, pcap(ETHERNET)
    monkeypatch.setattr(os, "preadv", lambda number, parts, at: preadv(number, parts, at) and preadv(
        number, [parts[0][:max(min(9, there - at), 0)]], at))
    (tmp_path / "capture").write_bytes(data)
    capture = read_capture(tmp_path / "capture", threads=2)
    assert capture.data.tobytes() == data[:there]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_named_pipe(tmp_path, expected):
    os.mkfifo(tmp_path / "pipe")
    for read_pipe in (read_capture, lambda path: next(read_pieces(path, 10**6))):
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[pcap(ETHERNET)])
        writer.start()
        pd.testing.assert_frame_equal(read_pipe(tmp_path / "pipe").segments, expected)
        writer.join()


def test_open_files_that_are_no_captures():
    for data, reason in ((b"", "the file is empty"), (b"hello", "not a pcap"), (gzip.compress(b"hello"), "not a pcap")):
        with pytest.raises(CaptureError, match=f"an open file: byte 0: {reason}"):
            read_capture(io.BytesIO(data))
