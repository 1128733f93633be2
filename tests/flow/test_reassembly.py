"""The payload in order: toys whose order, times and gaps were written down by hand."""

import numpy as np
from toys import HANDSHAKE, toy

from helpers.flow import byte_streams, flows
from helpers.protocols.bytestream import Cursor


def everything(data, at, size):
    return np.ones(len(at), bool)


def client_pieces(path, *segments, handshake=HANDSHAKE):
    """(sequence number, bytes, time) of the pieces that the client sent, and the stream itself."""
    capture = toy(path / "toy.pcap", *handshake, *segments)
    stream = byte_streams(capture, next(flows(capture)), everything)[0]
    pieces = stream.pieces
    cursor = Cursor(stream)
    return [(pieces.seq[row], cursor.bytes_of(row), round(pieces.time[row], 6))
            for row in range(stream.start, stream.stop)], stream


def test_in_order(tmp_path):
    segments = [("C", 1, "PA", 1, 1, b"ab"), ("C", 2, "PA", 3, 1, b"cd"), ("C", 3, "FA", 5, 1)]
    found, stream = client_pieces(tmp_path, *segments)
    assert found == [(1, b"ab", 1.0), (3, b"cd", 2.0)]
    assert stream.first == 1 and stream.fin == (3.0, 5) and stream.begun == 1.0


def test_reordered(tmp_path):
    """Bytes that came early had arrived, with all before them, when the gap was filled."""
    segments = [("C", 1, "PA", 3, 1, b"cd"), ("C", 2, "PA", 5, 1, b"ef"), ("C", 3, "PA", 1, 1, b"ab")]
    found, _ = client_pieces(tmp_path, *segments)
    assert found == [(1, b"ab", 3.0), (3, b"cd", 3.0), (5, b"ef", 3.0)]


def test_repeated_and_overlapping(tmp_path):
    """The first copy of each byte counts."""
    segments = [("C", 1, "PA", 1, 1, b"abc"), ("C", 2, "PA", 1, 1, b"abc"), ("C", 3, "PA", 2, 1, b"XXde")]
    found, _ = client_pieces(tmp_path, *segments)
    assert found == [(1, b"abc", 1.0), (4, b"de", 3.0)]


def test_a_gap_stays_a_gap(tmp_path):
    found, _ = client_pieces(tmp_path, ("C", 1, "PA", 1, 1, b"ab"), ("C", 2, "PA", 9, 1, b"yz"))
    assert found == [(1, b"ab", 1.0), (9, b"yz", 2.0)]


def test_where_the_beginning_was_not_captured(tmp_path):
    found, stream = client_pieces(tmp_path, ("C", 1, "PA", 700, 1, b"ab"), handshake=[])
    assert found == [(0, b"ab", 0.0)] and stream.first is None and stream.fin is None


def test_streams_of_no_interest_are_marked(tmp_path):
    capture = toy(tmp_path / "toy.pcap", *HANDSHAKE, ("C", 1, "PA", 1, 1, b"ab"), ("S", 2, "PA", 1, 3, b"cd"))
    streams = byte_streams(capture, next(flows(capture)), lambda data, at, size: data[at] == ord("a"))
    assert {direction: stream.interesting for direction, stream in streams.items()} == {0: True, 1: False}
