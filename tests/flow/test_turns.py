"""Exchanges that are read in columns are those that are read message after message; and which connections are simple."""

import random
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fuzz import one_by_one
from test_exchanges import FIVE, OK, get, talk
from toys import HANDSHAKE, toy

from helpers.exchanges import exchanges
from helpers.experiments import load, names
from helpers.flow import flows, in_turns

LONG = OK + b"Content-Length: 3000\r\n\r\n" + bytes(3000)
SIMPLE = {
    "one exchange": [("C", get()), ("S", FIVE)],
    "three": [("C", get()), ("S", FIVE)] * 3,
    "no answer to the last": [("C", get()), ("S", FIVE), ("C", get())],
    "no content": [("C", get()), ("S", b"HTTP/1.1 204 No Content\r\n\r\n"), ("C", get()), ("S", FIVE)]}
OTHER = {
    "chunked": [("C", get()), ("S", OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")],
    "until the end": [("C", get()), ("S", OK + b"\r\nhello")],
    "an interim answer": [("C", get()), ("S", b"HTTP/1.1 100 Continue\r\n\r\n"), ("S", FIVE)],
    "an interim answer with the final one": [("C", get()), ("S", b"HTTP/1.1 100 Continue\r\n\r\n" + FIVE)],
    "another protocol": [("C", get()), ("S", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), ("C", get())],
    "HEAD": [("C", get(method=b"HEAD")), ("S", OK + b"Content-Length: 5\r\n\r\n"), ("C", get()), ("S", FIVE)],
    "HEAD, and nothing": [("C", get(method=b"HEAD")), ("S", OK + b"Content-Length: 0\r\n\r\n")],
    "CONNECT": [("C", get(b"x:1", b"CONNECT")), ("S", OK + b"\r\n"), ("C", get()), ("S", FIVE)],
    "a body": [("C", get(method=b"POST", headers=b"Content-Length: 2\r\n") + b"ab"), ("S", FIVE)],
    "pipelined in a segment": [("C", get() + get(b"/2")), ("S", FIVE + FIVE)],
    "pipelined": [("C", get()), ("C", get(b"/2")), ("S", FIVE + FIVE)],
    "an answer in two parts": [("C", get()), ("S", FIVE[:9]), ("S", FIVE[9:]), ("C", get()), ("S", FIVE)],
    "the server first": [("S", FIVE), ("C", get()), ("S", FIVE)],
    "more than was said": [("C", get()), ("S", FIVE + b"more"), ("C", get()), ("S", FIVE)],
    "less than was said": [("C", get()), ("S", FIVE[:-1])],
    "no answers": [("C", get()), ("C", get())],
    "words of a server": [("C", get()), ("S", OK + b"Content-Length: 20\r\n\r\n"), ("S", b"GET / HTTP/1.1\r\n\r\n  ")]}


def simple(capture):
    return in_turns(capture, next(flows(capture)))[0].tolist()


def assert_the_same(capture):
    pd.testing.assert_frame_equal(exchanges(capture), one_by_one(capture), check_exact=True)


def cut(capture, size):
    """The capture with at most so many bytes of each payload."""
    captured = np.minimum(capture.headers["payload_captured"], size)
    return replace(capture, headers=capture.headers | {"payload_captured": captured}, derived={})


@pytest.mark.parametrize("case", SIMPLE | OTHER)
def test_simple_or_not(tmp_path, case):
    capture = toy(tmp_path / "toy.pcap", *HANDSHAKE, *talk(*(SIMPLE | OTHER)[case]))
    assert simple(capture) == [case in SIMPLE]
    assert_the_same(capture)
    for size in (10, 20, 30, 40, 60):
        assert_the_same(cut(capture, size))


def test_an_answer_of_many_segments_is_simple(tmp_path):
    capture = toy(tmp_path / "toy.pcap", *HANDSHAKE, *talk(("C", get()), ("S", LONG), ("C", get()), ("S", FIVE), piece=700))
    assert simple(capture) == [True]
    assert_the_same(capture)


def test_what_was_cut_with_its_frame_is_simple_too(tmp_path):
    """Of a request whose end is cut the next one's number isn't known."""
    capture = cut(toy(tmp_path / "toy.pcap", *HANDSHAKE, *talk(*SIMPLE["three"])), 20)
    assert simple(capture) == [True]
    assert exchanges(capture)["nth"].fillna(0).tolist() == [1, 0, 0]
    assert_the_same(capture)


def test_a_whole_request_behind_one_that_was_cut_is_simple_and_has_no_number(tmp_path):
    turns = [("C", get(b"/longer")), ("S", FIVE), ("C", get()), ("S", FIVE), ("C", get()), ("S", FIVE)]
    capture = cut(toy(tmp_path / "toy.pcap", *HANDSHAKE, *talk(*turns)), len(get()))
    assert simple(capture) == [True]
    assert exchanges(capture)["nth"].fillna(0).tolist() == [1, 0, 0]
    assert_the_same(capture)


def test_what_is_acknowledged_decides(tmp_path):
    """A request that acknowledges half of a segment; and, of frames that were cut, an answer to what hadn't arrived."""
    first, answer = len(get()), len(FIVE)
    half = [("C", 1, "PA", 1, 1, get()), ("S", 2, "PA", 1, 1 + first, FIVE + FIVE),
            ("C", 3, "PA", 1 + first, 1 + answer, get(b"/2")), ("S", 4, "PA", 1 + 2 * answer, 2 + 2 * first, FIVE)]
    early = [*talk(*SIMPLE["one exchange"]), ("C", 3, "PA", 1 + first, 1 + answer, get(b"/2")),
             ("S", 4, "PA", 1 + answer, 1 + first, FIVE)]
    for rows, size in ((half, 10**6), (early, 20)):
        capture = cut(toy(tmp_path / "toy.pcap", *HANDSHAKE, *rows), size)
        assert simple(capture) == [False]
        assert_the_same(capture)


def test_without_the_handshake(tmp_path):
    capture = toy(tmp_path / "toy.pcap", *talk(*SIMPLE["three"]))
    assert simple(capture) == [False]
    assert_the_same(capture)


@pytest.mark.parametrize("seed", range(60))
def test_conversations_with_holes(tmp_path, seed):
    """Segments that were lost, came again, late, or with another acknowledgment."""
    chance = random.Random(seed)
    turns = [turn for _ in range(4) for turn in SIMPLE[chance.choice(("one exchange", "no content"))]]
    turns += chance.choice([*SIMPLE.values()] * 6 + [*OTHER.values()])
    rows = talk(*turns, piece=chance.choice((30, 10**6, 10**6)))
    for _ in range(chance.randrange(3)):
        at, other = chance.randrange(len(rows)), chance.randrange(len(rows))
        who, time, flags, seq, ack, data = rows[at]
        told = (rows[other][4], ack + chance.randrange(-30, 30))
        rows[at:at + 1] = chance.choice(([], [rows[at]] * 2, [(who, rows[other][1] + 0.5, flags, seq, ack, data)],
                                         *([(who, time, flags, seq, max(other, 0), data)] for other in told)))
    capture = toy(tmp_path / "toy.pcap", *HANDSHAKE, *sorted(rows, key=lambda row: row[1]))
    for size in (10**6, chance.choice((18, 25, 40))):
        assert_the_same(cut(capture, size))


def test_every_recording():
    """Most connections of the course are simple; all are the same, whole and cut."""
    in_columns, all_of_them = 0, 0
    for name in names():
        capture = load(name).capture
        in_columns, all_of_them = in_columns + sum(simple(capture)), all_of_them + len(simple(capture))
        assert_the_same(replace(capture, derived={}))
        assert_the_same(cut(capture, 60))
    assert in_columns > all_of_them / 2
