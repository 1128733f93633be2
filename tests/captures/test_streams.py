"""Streams, numbered as Wireshark does, and hosts."""

import pytest
from capture_files import pcap, read
from toys import segment


def table_of(tmp_path, rows):
    frames = [bytes(segment(who, 0, flags, seq, ack)) for who, flags, seq, ack in rows]
    return read(tmp_path, pcap(frames, list(range(len(frames))))).segments


STREAMS = {                     # (who, flags, seq, ack) of each segment, and the stream of each
    "SYN again": ([("C", "S", 0, 0), ("C", "S", 0, 0), ("S", "SA", 0, 1)], [0, 0, 0]),
    "new SYN": ([("C", "S", 0, 0), ("S", "SA", 0, 1), ("C", "S", 9, 0)], [0, 0, 1]),
    "answer again": ([("C", "S", 0, 0), ("S", "SA", 0, 1), ("S", "SA", 9, 1), ("C", "A", 1, 10)], [0, 0, 0, 0]),
    "same ISN after FIN": ([("C", "S", 0, 0), ("C", "FA", 1, 1), ("S", "FA", 1, 2), ("C", "S", 0, 0)], [0, 0, 0, 0]),
    "answer first": ([("S", "SA", 0, 1), ("C", "S", 0, 0), ("C", "S", 1, 0)], [0, 0, 1]),
    "two answers": ([("S", "SA", 0, 1), ("S", "SA", 9, 1), ("S", "S", 9, 0), ("S", "S", 0, 0)], [0, 0, 0, 1]),
    "after an ACK": ([("S", "A", 7, 1), ("C", "S", 5, 0)], [0, 1]),
    "known from an ACK": ([("S", "A", 7, 6), ("C", "S", 5, 0)], [0, 0]),
    "simultaneous open": ([("C", "S", 0, 0), ("S", "S", 3, 0), ("C", "SA", 0, 4), ("S", "SA", 3, 1)], [0, 0, 0, 0])}
HOSTS = {
    "SYN": ([("C", "S", 0, 0), ("S", "SA", 0, 1)], ["client", "server"]),
    "only the answer": ([("S", "SA", 0, 1), ("C", "A", 1, 1)], ["server", "client"]),
    "answer first": ([("S", "SA", 0, 1), ("C", "S", 0, 0)], ["server", "client"]),
    "no SYN": ([("C", "A", 1, 1), ("S", "A", 1, 1)], [None, None]),
    "simultaneous open": ([("S", "S", 3, 0), ("C", "S", 0, 0), ("C", "SA", 0, 4)], ["client", "server", "server"])}


@pytest.mark.parametrize("case", STREAMS)
def test_streams(tmp_path, case):
    rows, streams = STREAMS[case]
    assert table_of(tmp_path, rows)["stream"].tolist() == streams


def test_streams_are_numbered_by_first_frame(tmp_path):
    other = ("10.0.0.3", 50000)
    frames = [segment("C", 0, "S", 0), segment("C", 0, "S", 0, client=other), segment("S", 0, "SA", 0, 1),
              segment("S", 0, "SA", 0, 1, client=other), segment("C", 0, "S", 9)]
    capture = read(tmp_path, pcap([bytes(frame) for frame in frames], [0] * 5))
    assert capture.segments["stream"].tolist() == [0, 1, 0, 1, 2]


@pytest.mark.parametrize("case", HOSTS)
def test_hosts(tmp_path, case):
    rows, hosts = HOSTS[case]
    host = table_of(tmp_path, rows)["host"]
    assert host.astype(object).where(host.notna(), None).tolist() == hosts
