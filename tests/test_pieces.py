"""Captures in pieces: the same tables as in one, however the pieces are cut and merged, in bounded memory."""

import gzip
import random
import subprocess
import sys
from functools import cache, reduce

import numpy as np
import pandas as pd
import pytest
from scapy.utils import rdpcap, wrpcap
from toys import EXCHANGE, HANDSHAKE, SERVER_CLOSES, segment, toy

from helpers.captures import CaptureError, begins, merge_captures, read_capture, read_pieces
from helpers.connections import connections
from helpers.exchanges import exchanges
from helpers.pieces import merge, read_captures, read_folder, summarise, summarise_file, tables_of
from helpers.states import states

SOME = ("long-7-images-firefox", "long-7-images-replay", "idle-close-quiet", "protection", "lost-last-ack",
        "closers-race",
        "old-duplicate-accepted", "timers-10")
NAMES = ("connections", "states", "exchanges")
SPOKEN = ["protocol", "server_name"]
NEED_ALL = ["retransmissions", "client_retransmissions", "server_retransmissions", "longest_silence"]
PROBES = [("C", 45.0 + number, "A", 27, 44) for number in range(0, 9, 2)]
ANSWERS = [("S", 45.1 + number, "A", 44, 28) for number in range(0, 9, 2)]
LIMITED = """
import resource, sys
from helpers.captures import CaptureError, read_capture
from helpers.pieces import read_captures
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[2]),) * 2)
try:
    read_capture(sys.argv[1])
except CaptureError as error:
    print("not in one piece" if "read it with helpers.pieces.read_captures" in str(error) else error)
print(sum(len(tables.connections) for tables in read_captures(sys.argv[1], piece=1 << 20)))
"""


def whole(path):
    capture = read_capture(path)
    return connections(capture), states(capture), exchanges(capture)


def assert_frame_equal(found, expected):
    """The same table; where it has columns that need all segments, they are `<NA>` in what came in pieces."""
    kinds = {name: found[name].dtype for name in NEED_ALL if name in found}
    assert found[list(kinds)].isna().all(axis=None)
    pd.testing.assert_frame_equal(found, expected.assign(**dict.fromkeys(kinds, pd.NA)).astype(kinds))


def same(tables, expected):
    for name, table in zip(NAMES, expected):
        assert_frame_equal(getattr(tables, name), table)


def together(pieces):
    """One of each table from the tables of all pieces, in the order of a capture read at once."""
    found = list(pieces)
    connected, stayed, asked = (pd.concat([getattr(tables, name) for tables in found]) for name in NAMES)
    asked = asked.sort_values(["requested", "stream", "nth"], kind="stable", ignore_index=True)
    return connected.sort_index(), stayed.sort_values("stream", kind="stable", ignore_index=True), asked


def same_without_payload(found, expected):
    """The same connections, but for what only payload says."""
    assert_frame_equal(found.drop(columns=SPOKEN), expected.drop(columns=SPOKEN))
    assert found[SPOKEN].isna().all(axis=None)


def equal(found, expected):
    for table, other in zip(found, expected):
        assert_frame_equal(table, other)


@pytest.mark.parametrize("name", SOME)
def test_any_grouping_of_pieces_merges_to_the_tables_of_the_whole(data, name):
    path = data / name / "capture.pcapng"
    expected = whole(path)
    parts = [summarise(capture, payload=True) for capture in read_pieces(path, 30_000)]
    middle = len(parts) // 2
    groupings = [reduce(merge, parts), reduce(lambda right, left: merge(left, right), reversed(parts))]
    if middle:
        groupings.append(merge(reduce(merge, parts[:middle]), reduce(merge, parts[middle:])))
    for partial in groupings:
        same(tables_of(partial, payload=True), expected)


@pytest.mark.parametrize("name", SOME)
def test_without_payload_few_segments_decide(data, name):
    path = data / name / "capture.pcapng"
    partial = summarise_file(path)
    tables, (connected, stayed, _) = tables_of(partial), whole(path)
    same_without_payload(tables.connections, connected)
    pd.testing.assert_frame_equal(tables.states, stayed)
    assert tables.exchanges is None and partial.frames == read_capture(path).frames
    assert len(partial.rows) <= 30 * len(connected)


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("piece", (10_000, 1 << 20))
def test_read_captures_gives_each_connection_whole_and_once(data, name, piece):
    path = data / name / "capture.pcapng"
    equal(together(read_captures(path, piece=piece, payload=True)), whole(path))


def test_a_ring_in_any_order_is_read_in_order_of_time(data, tmp_path):
    path = data / "long-7-images-replay" / "capture.pcapng"
    frames = rdpcap(str(path))
    ring = [tmp_path / f"{letter}.pcap" for letter in "cab"]
    for number, file in enumerate(ring):
        wrpcap(str(file), frames[number * 130:(number + 1) * 130])
    wrpcap(str(tmp_path / "whole.pcap"), frames)
    equal(together(read_captures(sorted(ring), payload=True)), whole(tmp_path / "whole.pcap"))


@pytest.mark.parametrize("cut", range(1, 17))
def test_probes_are_counted_wherever_the_capture_is_cut(tmp_path, cut):
    segments = [*HANDSHAKE, *EXCHANGE, *sorted(PROBES + ANSWERS, key=lambda one: one[1]), *[
        (who, at + 60, *rest) for who, at, *rest in SERVER_CLOSES]]
    expected = connections(toy(tmp_path / "whole.pcap", *segments))
    parts = [summarise(toy(tmp_path / "part.pcap", *some)) for some in (segments[:cut], segments[cut:]) if some]
    same_without_payload(tables_of(reduce(merge, parts)).connections, expected)
    assert expected["keepalive_probes"].tolist() == [5]


@pytest.mark.parametrize("more", [[], [("C", 130.0, "PA", 28, 45, b"more")]], ids=["probes", "and data"])
def test_probes_that_answer_a_fin_are_kept_wherever_the_capture_is_cut(tmp_path, more):
    """They alone say that their sender was in CLOSE_WAIT: see `test_connections`."""
    segments = [("S", 0.0, "FA", 44, 28), ("C", 0.1, "A", 28, 45), *[one for time in (15.0, 30.0, 45.0) for one in (
        ("C", time, "A", 27, 45), ("S", time + 0.1, "A", 45, 28))], ("C", 125.0, "A", 27, 45), *more]
    expected = connections(toy(tmp_path / "whole.pcap", *segments))
    assert expected["time_wait"].tolist() == ["none"]

    @cache
    def part(begin, end):
        return summarise(toy(tmp_path / "part.pcap", *segments[begin:end]))

    for cut in range(1, len(segments)):
        for again in {cut, cut + 1, (cut + len(segments)) // 2, len(segments) - 1}:
            parts = [part(*some) for some in ((0, cut), (cut, again), (again, len(segments))) if some[0] < some[1]]
            for partial in (reduce(merge, parts), merge(parts[0], reduce(merge, parts[1:]))):
                same_without_payload(tables_of(partial).connections, expected)


def test_a_connection_is_given_out_once_it_is_over(tmp_path):
    def talk(start, port):
        client = ("10.0.0.1", port)
        return [segment(who, at + start, *rest, client=client) for who, at,
                *rest in (*HANDSHAKE, *EXCHANGE, *SERVER_CLOSES)]

    path = tmp_path / "many.pcap"
    wrpcap(str(path), [packet for number in range(40) for packet in talk(300.0 * number, 40000 + number)])
    pieces = list(read_captures(path, piece=2_000))
    assert len(pieces) > 10 and max(len(tables.connections) for tables in pieces[:-1]) < 10
    assert sorted(stream for tables in pieces for stream in tables.connections.index) == list(range(40))


def test_captures_appended_to_one_another(tmp_path):
    """What is later in the file may be earlier: no connection was silent for a day because another came before."""
    long = [("C", 0.3 + number, "A", 28, 44) for number in range(60)]
    rows = [*HANDSHAKE, *EXCHANGE, *long, *SERVER_CLOSES]
    other = segment("C", 90_000.0, "S", 0, client=("10.0.0.9", 1))
    talk = [segment(who, 5.0 + number, *rest) for number, (who, _, *rest) in enumerate(rows)]
    path = tmp_path / "appended.pcap"
    wrpcap(str(path), [other, *talk])
    assert sum(len(tables.connections) for tables in read_captures(path, piece=500)) == 2 == len(whole(path)[0])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits and tells a process's memory so")
def test_a_file_is_read_in_less_memory_than_it_takes(tmp_path):
    packets = [bytes(segment("C", 0, "PA", 1 + 1400 * number, 1, b"x" * 1400)) for number in range(2)]
    header = b"\xd4\xc3\xb2\xa1\x02\x00\x04\x00" + bytes(8) + b"\xff\xff\x00\x00\x01\x00\x00\x00"
    path, frames = tmp_path / "large.pcap", 70_000
    with path.open("wb") as file:
        file.write(header)
        opening = [bytes(segment(*part)) for part in HANDSHAKE]
        for number in range(frames):
            frame = bytearray(opening[number] if number < 3 else packets[0])
            if number >= 3:
                frame[38:42] = (1001 + 1400 * (number - 3)).to_bytes(4, "big")
            file.write((number // 1000).to_bytes(4, "little") + bytes(4) + len(frame).to_bytes(4, "little") * 2 + frame)
    allowed = path.stat().st_size // 2
    done = subprocess.run([sys.executable, "-c", LIMITED, path, str(allowed)], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["not in one piece", "1"], done.stderr


def test_no_capture_is_one_clear_error(tmp_path):
    (tmp_path / "letter.txt").write_text("Dear Sir or Madam")
    with pytest.raises(CaptureError, match=r"letter\.txt: byte 0: not a pcap or pcapng file"):
        list(read_captures(tmp_path / "letter.txt"))
    with pytest.raises(CaptureError, match="No such file"):
        list(read_captures([tmp_path / "nothing.pcap"]))


def test_a_cut_file_in_pieces_says_where_and_gives_what_is_whole(tmp_path, data):
    whole_file = (data / "long-0-images-replay" / "capture.pcapng").read_bytes()
    path = tmp_path / "cut.pcapng"
    path.write_bytes(whole_file[:-70])
    one, pieces = read_capture(path), list(read_pieces(path, 5_000))
    assert len(pieces) > 1 and sum(piece.frames for piece in pieces) == one.frames
    assert [piece.cut for piece in pieces] == [None] * (len(pieces) - 1) + [one.cut]
    pcap = tmp_path / "cut.pcap"
    wrpcap(str(pcap), [segment(*part) for part in (*HANDSHAKE, *EXCHANGE)])
    pcap.write_bytes(pcap.read_bytes()[:-1])
    assert "frame 6 is cut short" in read_capture(pcap).cut and list(read_pieces(pcap,
        100))[-1].cut == read_capture(pcap).cut


@pytest.mark.parametrize("left", [0.5, 0.97, 0.9999], ids=["half", "most", "but the end"])
def test_a_cut_gzip_gives_all_whole_frames_and_says_where(tmp_path, data, left):
    """Whole, in pieces, and as a folder."""
    zipped = gzip.compress((data / "long-7-images-firefox" / "capture.pcapng").read_bytes())
    path = tmp_path / "cut.pcapng.gz"
    path.write_bytes(zipped[:int(len(zipped) * left)])
    one, tables = read_capture(path), list(read_captures(path, piece=5_000, payload=True))
    assert "the gzip data are cut short" in one.cut and tables[-1].cut == f"{path}: {one.cut}"
    assert all(part.cut is None for part in tables[:-1])
    equal(together(tables), whole(path))
    pytest.importorskip("dask", reason="the extra `cluster` is not installed")
    assert read_folder([path]).cut == tables[-1].cut


def test_many_small_files_are_read_together(tmp_path, monkeypatch):
    """Files that are smaller than a piece together are one; each that is damaged is named."""
    paths = [tmp_path / f"{number}.pcap" for number in range(9)]
    for number, path in enumerate(paths):
        rows = [(who, 10 * number + time, *rest) for who, time, *rest in (*HANDSHAKE, *EXCHANGE, *SERVER_CLOSES)]
        toy(path, *[segment(*row, client=("10.0.0.1", 40000 + number)) for row in rows])
    paths[4].write_bytes(paths[4].read_bytes()[:-5])
    size, made = paths[0].stat().st_size, []
    monkeypatch.setattr("helpers.pieces.partial.summarise", lambda *given: made.append(1) or summarise(*given))
    merged = merge_captures(paths)
    for piece, partials in ((10 * size, 1), (2 * size, 5), (size, 9)):
        made.clear()
        tables = list(read_captures(paths[::-1], piece=piece, payload=True))
        equal(together(tables), (connections(merged), states(merged), exchanges(merged)))
        assert len(made) >= partials and (piece == size or len(made) == partials)
        assert tables[-1].cut.startswith(f"{paths[4]}: byte") and "is cut short" in tables[-1].cut


def test_zipped_files_are_read_one_by_one(tmp_path, data):
    """How large they are once they are unzipped is not known before."""
    zipped = tmp_path / "a.pcapng.gz"
    zipped.write_bytes(gzip.compress((data / "long-0-images-replay" / "capture.pcapng").read_bytes()))
    time, size = begins(data / "long-0-images-replay" / "capture.pcapng")
    assert begins(zipped) == (time, None) and size == (data / "long-0-images-replay" / "capture.pcapng").stat().st_size
    assert time == read_capture(zipped).start.value


@pytest.mark.parametrize("seed", range(6))
def test_damaged_numbers_in_pieces(tmp_path, data, seed):
    """A sequence or acknowledgment number of a SYN, of data or of a FIN is damaged, or the file is cut."""
    chance, path = random.Random(seed), data / SOME[seed] / "capture.pcapng"
    capture, damaged = read_capture(path), bytearray(path.read_bytes())
    kinds = capture.segments["flags"].astype(str)
    for wanted in ("S", "F", "A"):
        row = chance.choice(np.flatnonzero(kinds.str.contains(wanted)).tolist())
        header = int(capture.headers["frame_at"][capture.segments.index[row] - 1]) + 14 + 20
        damaged[header + chance.choice((4, 5, 8, 9))] ^= 1 << chance.randrange(8)
    (tmp_path / "bad.pcapng").write_bytes(damaged[:chance.choice((len(damaged), len(damaged) * 2 // 3))])
    found = together(read_captures(tmp_path / "bad.pcapng", piece=6_000, payload=True))
    equal(found, whole(tmp_path / "bad.pcapng"))


def test_dask_reads_a_folder_to_the_same_tables(tmp_path, data):
    pytest.importorskip("dask.bag", reason="the extra `cluster` is not installed")
    frames = rdpcap(str(data / "long-7-images-replay" / "capture.pcapng"))
    for number in range(5):
        wrpcap(str(tmp_path / f"{number}.pcap"), frames[number * 80:(number + 1) * 80])
    wrpcap(str(tmp_path / "whole.pcap"), frames)
    import dask
    with dask.config.set(scheduler="synchronous"):
        same(read_folder(sorted(tmp_path.glob("[0-9].pcap")), payload=True), whole(tmp_path / "whole.pcap"))
    with pytest.raises(ValueError, match="is the folder empty"):
        read_folder(sorted(tmp_path.glob("*.pcapng")))
