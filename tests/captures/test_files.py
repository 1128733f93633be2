"""Files: plain and zipped, whole, cut and damaged; and those that are no captures."""

import gzip
import struct
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from capture_files import EPOCH, ETHERNET, interface, pcap, pcapng, read, section
from conftest import require
from toys import EXCHANGE, HANDSHAKE, SERVER_CLOSES

from helpers.captures import CaptureError, merge_captures, read_capture, read_pieces
from helpers.connections import connections
from helpers.exchanges import exchanges
from helpers.states import states


@pytest.fixture
def expected(tmp_path):
    return read(tmp_path, pcap(ETHERNET)).segments


def test_every_column_of_a_whole_exchange(tmp_path):
    capture = read(tmp_path, pcap(ETHERNET))
    table = capture.segments
    assert table.index.tolist() == list(range(1, 11)) and table.index.name == "frame"
    assert table.columns.tolist() == [
        "time", "stream", "host", "src", "sport", "dst", "dport", "seq", "ack", "flags", "length"]
    assert table["time"].tolist() == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 1.1, 1.5, 1.6]
    assert table["stream"].tolist() == [0] * 10
    senders = [row[0] for row in HANDSHAKE + EXCHANGE + SERVER_CLOSES]
    assert table["host"].tolist() == [{"C": "client", "S": "server"}[who] for who in senders]
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


@pytest.mark.parametrize("make, head, tail", [(lambda: pcap(ETHERNET), 24, 0), (pcapng, 28, 4)])
def test_cut_at_every_offset(tmp_path, make, head, tail):
    """All whole frames are given, and `cut` names the byte where the broken record begins."""
    whole = make()
    ends = [whole.index(frame) + len(frame) + (-len(frame) % 4 if tail else 0) + tail for frame in ETHERNET[:4]]
    data = whole[:ends[-1]]
    begins = [24 if not tail else len(section() + interface()), *ends[:-1]]
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
    (b"BZh91AY", "compressed with bzip2; decompress it first"), (b"\x1f\x8b rubbish", "gzip data are damaged"),
    (b"\x28\xb5\x2f\xfd rubbish", "zstd data are damaged"), (section()[:8] + bytes(20), "no byte-order magic")])
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


def test_a_key_log_that_is_none(tmp_path):
    (tmp_path / "capture").write_bytes(pcap(ETHERNET))
    for size, reason in ((100, "no line of it is one of a TLS key log; give SSLKEYLOGFILE's file"),
                         ((64 << 20) + 1, "a key log of more than 64 MiB; cut it to what is needed")):
        with (tmp_path / "keys").open("wb") as file:
            file.truncate(size)
        with pytest.raises(CaptureError, match=f"keys: byte 0: {reason}$"):
            read_capture(tmp_path / "capture", tmp_path / "keys")


def test_no_file(tmp_path):
    for path in (tmp_path / "missing", tmp_path, "nul\0byte"):
        for read_any in (read_capture, lambda path: merge_captures([path]), lambda path: list(read_pieces(path, 99))):
            with pytest.raises(CaptureError):
                read_any(path)


@pytest.mark.parametrize("paths, error, reason", [
    ([], ValueError, "no paths given"), ((), ValueError, "no paths given"), (iter([]), ValueError, "no paths given"),
    ("x.pcap", TypeError, r"one path, 'x.pcap'; give a list of paths: \['x.pcap'\]"),
    (Path("x.pcap"), TypeError, "one path")])
def test_no_list_of_files(paths, error, reason):
    with pytest.raises(error, match=reason):
        merge_captures(paths)


@pytest.mark.parametrize("size", [0, -1])
def test_no_size_of_pieces(tmp_path, size):
    with pytest.raises(ValueError, match=f"size is {size}; it must be at least 1 byte"):
        list(read_pieces(tmp_path / "whatever", size))


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


def test_the_most_that_a_record_may_claim(tmp_path):
    cut = pcap(ETHERNET[:2])[:24] + struct.pack("<IIII", 0, 0, 1 << 18, 1 << 18) + bytes(100)
    assert read(tmp_path, cut).cut == "byte 24: frame 1 is cut short"
