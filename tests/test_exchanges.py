"""HTTP exchanges on toys: framing, pairing, reassembly, and bytes that are no HTTP; h11 is the independent reader."""

import random
import time

import h11
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.utils import PcapWriter, wrpcap
from toys import HANDSHAKE, segment, toy

from helpers.captures import read_capture
from helpers.exchanges import COLUMNS, exchanges
from helpers.protocols import http1

OK = b"HTTP/1.1 200 OK\r\n"
FIVE = OK + b"Content-Length: 5\r\n\r\nhello"


def get(target=b"/", method=b"GET", version=b"1.1", headers=b""):
    return method + b" " + target + b" HTTP/" + version + b"\r\nHost: x\r\n" + headers + b"\r\n"


def talk(*turns, start=1.0, fin=None, piece=10**6):
    """Segments for turns such as ("C", bytes), a second apart, in pieces of `piece` bytes 10 ms apart; `fin`: of whom."""
    rows, seq, time = [], {"C": 1, "S": 1}, start
    for who, data in turns:
        for at in range(0, len(data), piece):
            part = data[at:at + piece]
            rows.append((who, time + at // piece / 100, "PA", seq[who], seq["S" if who == "C" else "C"], part))
            seq[who] += len(part)
        time += 1
    if fin:
        rows.append((fin, time, "FA", seq[fin], seq["S" if fin == "C" else "C"]))
    return rows


@pytest.fixture
def table(tmp_path):
    return lambda *segments: exchanges(toy(tmp_path / "toy.pcap", *segments))


@pytest.fixture
def rows(table):
    """Some columns of the exchanges of these turns after a handshake, as a list of tuples in which `<NA>` is None."""
    def of(*turns, columns=("target", "status"), segments=None, **keywords):
        found = table(*HANDSHAKE, *(segments or talk(*turns, **keywords)))
        assert found.columns.tolist() == list(COLUMNS)
        assert {name: str(kind) for name, kind in found.dtypes.items()} == COLUMNS
        return plain(found, columns)
    return of


def plain(found, columns):
    rows = found[list(columns)].itertuples(index=False)
    return [tuple(None if pd.isna(value) else value for value in row) for row in rows]


def test_every_column(rows):
    assert rows(("C", get(b"/a?b=c#d")), ("S", FIVE), columns=COLUMNS) == [
        (0, 1, "GET", "/a?b=c#d", 200, "1.1", "content-length", 1.0, 2.0, 2.0, len(FIVE))]


def test_times_of_first_and_last_byte(rows):
    found = rows(("C", get()), ("S", FIVE), piece=10, columns=("requested", "answered", "finished"))
    assert found == [(1.0, 2.0, pytest.approx(2.0 + (len(FIVE) - 1) // 10 / 100))]


# Framing: RFC 9112 section 6.3

CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;name=value\r\n world\r\n0\r\n"


@pytest.mark.parametrize("request_, response, framing", [
    (get(), FIVE, "content-length"), (get(), OK + b"Content-Length: 0\r\n\r\n", "content-length"),
    (get(), OK + b"content-LENGTH:5\r\n\r\nhello", "content-length"), (get(), CHUNKED + b"\r\n", "chunked"),
    (get(), CHUNKED + b"Trailer: x\r\nAnother: y\r\n\r\n", "chunked"),
    (get(), OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "chunked"),
    (get(), OK + b"Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "chunked"),
    (get(method=b"HEAD"), OK + b"Content-Length: 5\r\n\r\n", "none"),
    (get(method=b"HEAD"), OK + b"Transfer-Encoding: chunked\r\n\r\n", "none"),
    (get(), b"HTTP/1.1 204 No Content\r\n\r\n", "none"),
    (get(), b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "none"),
    (get(), b"HTTP/1.1 404\r\nContent-Length: 1\r\n\r\nx", "content-length"),
    (get(), OK + b"Content-Length: 5, 5\r\n\r\nhello", "content-length"),
    (get(), OK + b"Content-Length: 5\r\nContent-Length: 05\r\n\r\nhello", "content-length"),
    (get(), OK + b"Content-Length:\r\n 5\r\n\r\nhello", "content-length"),
    (get(), OK + b"X: y\r\n Content-Length: 9\r\nContent-Length: 5\r\n\r\nhello", "content-length"),
    (get(), OK + b"Transfer-Encoding:\r\n\tchunked\r\n\r\n0\r\n\r\n", "chunked"),
    (get(), OK + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "chunked"),
    (get(), OK + b"Transfer-Encoding: chunked\n\n00005 \nhello\n00\nTrailer: x\n\n", "chunked"),
    (get(version=b"1.0"), b"HTTP/1.0 200 OK\nContent-Length: 5\n\nhello", "content-length")])
@pytest.mark.parametrize("piece", [1, 7, 10**6])
def test_framing(rows, request_, response, framing, piece):
    """A second exchange follows where the first one ends, to the byte."""
    found = rows(("C", request_), ("S", response), ("C", get(b"/next")), ("S", FIVE), piece=piece,
                 columns=("target", "nth", "framing", "response_bytes"))
    assert found == [("/", 1, framing, len(response)), ("/next", 2, "content-length", len(FIVE))]


@pytest.mark.parametrize("head", [b"", b"Connection: close\r\n", b"Transfer-Encoding: gzip\r\n",
                                  b"Transfer-Encoding: xchunked\r\n",
                                  b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n"])
def test_until_close(rows, head):
    response = OK + head + b"\r\nhello\r\nHTTP/1.1 200 OK\r\n\r\n"
    columns = ("framing", "answered", "finished", "response_bytes")
    assert rows(("C", get()), ("S", response), fin="S", columns=columns) == [("until-close", 2.0, 3.0, len(response))]
    assert rows(("C", get()), ("S", response), columns=columns) == [("until-close", 2.0, None, None)]
    reset = [*talk(("C", get()), ("S", response)), ("S", 3.0, "R", 1 + len(response))]
    assert rows(segments=reset, columns=columns) == [("until-close", 2.0, None, None)]


@pytest.mark.parametrize("length", [b"five", b"-5", b"+5", b"5 5", b"5, 6", b"5\r\nContent-Length: 6", b"",
                                    b"9" * 5000])
def test_no_valid_length(rows, length):
    """How long the answer is can't be told; the next one is found where it begins a segment."""
    response = OK + b"Content-Length: " + length + b"\r\n\r\nhello"
    assert rows(("C", get()), ("S", response), ("C", get(b"/2")), ("S", FIVE), fin="S",
                columns=("status", "framing", "finished", "response_bytes")) == [
        (200, None, None, None), (200, "content-length", 4.0, len(FIVE))]
    post = get(b"/post", b"POST", headers=b"Content-Length: " + length + b"\r\n")
    assert rows(("C", post), ("S", FIVE), ("C", get(b"/2")), ("S", FIVE), columns=("nth", "status")) == [
        (1, 200), (None, 200)]


@pytest.mark.parametrize("chunk", [b"x\r\nhello", b"5\r\nhello!\r\n", b"-5\r\nhello\r\n", b"5 5\r\nhello\r\n", b"\r\n",
                                   b"f" * 16 + b"\r\nhello\r\n"])
def test_no_valid_chunk(rows, chunk):
    response = OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n"
    assert rows(("C", get()), ("S", response), ("C", get(b"/2")), ("S", FIVE),
                columns=("status", "framing", "finished", "response_bytes")) == [
        (200, "chunked", None, None), (200, "content-length", 4.0, len(FIVE))]


def test_bodies_of_requests(rows):
    post = get(b"/post", b"POST", headers=b"Content-Length: 20\r\n") + b"GET /no HTTP/1.1\r\n\r\n"
    chunked = get(b"/chunked", b"PUT", headers=b"Transfer-Encoding: chunked\r\n") + b"5\r\nhello\r\n0\r\n\r\n"
    found = rows(("C", post), ("S", FIVE), ("C", chunked), ("S", FIVE), ("C", b"\r\n" + get(b"/next")), ("S", FIVE),
                 columns=("target", "nth", "status"))
    assert found == [("/post", 1, 200), ("/chunked", 2, 200), ("/next", 3, 200)]


def test_interim_responses(rows):
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    found = rows(("C", get(b"/1")), ("S", interim), ("S", FIVE), ("C", get(b"/2")), ("S", interim + FIVE),
                 columns=("target", "status", "answered", "response_bytes"))
    assert found == [("/1", 200, 3.0, len(FIVE)), ("/2", 200, 5.0, len(FIVE))]


def test_pipelining(rows):
    created = OK.replace(b"200", b"201") + b"Content-Length: 0\r\n\r\n"
    found = rows(("C", get(b"/1") + get(b"/2") + get(b"/3")), ("S", FIVE + CHUNKED + b"\r\n" + created),
                 columns=("target", "nth", "status", "framing"))
    assert found == [("/1", 1, 200, "content-length"), ("/2", 2, 200, "chunked"), ("/3", 3, 201, "content-length")]


def test_what_tools_send_that_h11_would_refuse(rows):
    odd = b"GET /\xe4\xff HTTP/1.1\r\nno header at all\r\nBad Name: 1\r\n\r\n"
    assert rows(("C", odd), ("S", OK + b"Odd: \x01\r\n: empty\r\nContent-Length: 0\r\n\r\n")) == [("/äÿ", 200)]


@pytest.mark.parametrize("request_", [
    get(b"/" + b"a" * 900_000), get(b"/b", headers=b"X: " + b"a" * 3_000_000 + b"\r\n")], ids=["line", "head"])
def test_long_requests(rows, request_):
    acked = ("S", 0.5, "A", 1, len(request_))
    found = rows(segments=[acked, *talk(("C", request_), ("S", FIVE), ("C", get(b"/next")), ("S", FIVE), piece=30_000)])
    assert found == [(request_.split()[1].decode(), 200), ("/next", 200)]


# Protocols that take over

@pytest.mark.parametrize("request_, response", [
    (get(headers=b"Upgrade: websocket\r\nConnection: Upgrade\r\n"),
     b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
    (b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n", b"HTTP/1.1 200 Connection established\r\n\r\n")])
def test_upgrade_and_connect_end_the_reading(rows, request_, response):
    found = rows(("C", request_), ("S", response), ("C", get(b"/inside")), ("S", FIVE),
                 columns=("status", "framing", "finished", "response_bytes"))
    assert found == [(int(response[9:12]), "none", 2.0, len(response))]


@pytest.mark.parametrize("swapped", [False, True])
def test_upgrade_and_connect_end_the_reading_of_both_directions(table, swapped):
    """What looks like a request in a frame of the server's is none, whichever end a late capture shows first."""
    for request, response in ((get(), b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
                              (get(b"a:1", b"CONNECT"), OK + b"\r\n")):
        segments = [*HANDSHAKE, *talk(("C", request), ("S", response), ("S", get(b"/inside")), ("C", FIVE))]
        segments = [("S", 0.0, "A", 1, 1), *segments[3:]] if swapped else segments
        assert plain(table(*segments), ("target", "status")) == [(request.split()[1].decode(), int(response[9:12]))]
    asks_too = talk(("S", get(b"/before")), ("C", FIVE), ("C", get()), ("S", b"HTTP/1.1 101 Switching\r\n\r\n"),
                    ("S", get(b"/inside")))
    assert plain(table(*HANDSHAKE, *asks_too), ("target", "status")) == [("/before", 200), ("/", 101)]


def test_refused_connect_is_an_exchange_like_any(rows):
    assert rows(("C", b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"), ("S", FIVE.replace(b"200", b"405")),
                ("C", get(b"/next")), ("S", FIVE)) == [
        ("a:1", 405), ("/next", 200)]


# Rule 5: a lost response doesn't shift the later pairs

THREE = [("C", get(b"/1")), ("S", FIVE.replace(b"200", b"201")), ("C", get(b"/2")), ("S", FIVE.replace(b"200", b"202")),
         ("C", get(b"/3")), ("S", FIVE.replace(b"200", b"203"))]


@pytest.mark.parametrize("lost, left", [
    (1, [("/1", 1, None), ("/2", 2, 202), ("/3", 3, 203)]), (3, [("/1", 1, 201), ("/2", 2, None), ("/3", 3, 203)]),
    (5, [("/1", 1, 201), ("/2", 2, 202), ("/3", 3, None)]), (0, [("/2", None, 202), ("/3", None, 203)]),
    (2, [("/1", 1, 201), ("/3", None, 203)])],
    ids=["first response", "second response", "last response", "first request", "second request"])
def test_a_message_not_captured(rows, lost, left):
    segments = talk(*THREE)
    assert rows(segments=segments[:lost] + segments[lost + 1:], columns=("target", "nth", "status")) == left


def test_two_responses_not_captured(rows):
    segments = talk(*THREE)
    assert rows(segments=[segments[row] for row in (0, 2, 4, 5)]) == [("/1", None), ("/2", None), ("/3", 203)]


ACCEPTED, MISSING = FIVE.replace(b"200 OK", b"202 Accepted"), FIVE.replace(b"200 OK", b"404 Not Found")
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
POST = get(b"/post", b"POST", headers=b"Content-Length: 4\r\nExpect: 100-continue\r\n")


@pytest.mark.parametrize("turns, answered", [
    ([("C", get(b"/1")), ("S", HINTS), ("C", get(b"/2")), ("S", FIVE + MISSING)], [("/1", 200), ("/2", 404)]),
    ([("C", POST), ("S", b"HTTP/1.1 100 Continue\r\n\r\n"), ("C", b"body" + get(b"/2")), ("S", FIVE + MISSING)],
     [("/post", 200), ("/2", 404)]),
    ([("C", get(b"/1")), ("S", FIVE[:20]), ("C", get(b"/2")), ("S", FIVE[20:] + MISSING)], [("/1", 200), ("/2", 404)])],
    ids=["103", "100", "half a response"])
def test_an_acknowledgment_of_less_than_the_answer(rows, turns, answered):
    """A request sent behind an interim response, or part of one, drops none before it."""
    assert rows(*turns) == answered


@pytest.mark.parametrize("turns, lost, left", [
    ([("C", get(b"/1") + get(b"/2")), ("S", ACCEPTED), ("S", MISSING)], [1], [("/1", None), ("/2", None)]),
    ([("C", get(b"/1") + get(b"/2") + get(b"/3")), ("S", FIVE), ("S", ACCEPTED), ("S", MISSING)], [2],
     [("/1", 200), ("/2", None), ("/3", None)]),
    ([("C", get(b"/1") + get(b"/2")), ("S", FIVE), ("S", ACCEPTED)], [2], [("/1", 200), ("/2", None)]),
    ([("C", get(b"/1") + get(b"/2")), ("S", FIVE), ("S", MISSING), ("C", get(b"/3")), ("S", ACCEPTED),
      ("C", get(b"/4")), ("S", FIVE)], [1],
     [("/1", None), ("/2", None), ("/3", 202), ("/4", 200)]),
    ([("C", get(b"/1") + get(b"/2")), ("S", FIVE), ("C", get(b"/3")), ("S", MISSING)], [1],
     [("/1", None), ("/2", None), ("/3", 404)]),
    ([("C", get(b"/1")), ("C", get(b"/2")), ("S", FIVE + MISSING)], [0], [("/2", None)]),
    ([("C", get(b"/1")), ("C", get(b"/2")), ("S", FIVE + MISSING), ("C", get(b"/3")), ("S", HINTS + ACCEPTED)], [0],
     [("/2", None), ("/3", 202)]),
    ([("C", get(b"/1")), ("S", FIVE), ("C", get(b"/2")), ("S", MISSING)], [1, 2], [("/1", None)]),
    ([("C", get(b"/1")), ("S", FIVE), ("C", get(b"/2")), ("S", HINTS), ("C", get(b"/3")), ("S", FIVE), ("S", MISSING),
      ("C", get(b"/4")), ("S", ACCEPTED)], [5],
     [("/1", 200), ("/2", None), ("/3", None), ("/4", None)])],
    ids=["first of two", "second of three", "last", "then told by an ACK", "both", "a request",
         "a request, then told by an ACK",
         "an answer and the next request", "of a client that doesn't wait"])
def test_whose_answer_cannot_be_told(rows, turns, lost, left):
    """Of several requests under way, when a message is missing: nothing is guessed, until an acknowledgment tells."""
    assert rows(segments=[row for number, row in enumerate(talk(*turns)) if number not in lost]) == left


def test_answers_that_acknowledge_one_request_only(rows):
    """What the server had not got yet it doesn't answer: the gap held the end of an interim response, or the like."""
    segments = talk(("C", get(b"/1")), ("C", get(b"/2")), ("S", HINTS), ("S", FIVE), ("S", MISSING))
    segments[3] = (*segments[3][:4], 1 + len(get(b"/1")), segments[3][5])
    assert rows(segments=segments[:2] + segments[3:]) == [("/1", 200), ("/2", 404)]


def test_an_answer_behind_an_interim_one_that_was_not_captured(rows):
    """It acknowledges its request and no more: there was none whose answer is missing."""
    segments = talk(("C", get(b"/1")), ("S", FIVE), ("C", get(b"/2")), ("S", HINTS), ("S", ACCEPTED))
    assert rows(segments=segments[:3] + segments[4:]) == [("/1", 200), ("/2", 202)]


@pytest.mark.parametrize("size, status", [(http1.SHORTEST_REQUEST - 1, 202), (http1.SHORTEST_REQUEST, None)])
def test_room_for_a_request_that_was_not_captured(rows, size, status):
    """The answer acknowledges `size` bytes more than the request: is it the answer to one that was not captured?"""
    segments = talk(("C", get(b"/1")), ("C", bytes(size)), ("S", FIVE), ("S", ACCEPTED))
    assert rows(segments=[segments[0], segments[3]]) == [("/1", status)]


@pytest.mark.parametrize("unseen, status", [([("S", HINTS)], 202), ([("S", FIVE), ("C", get(b"/lost"))], None)],
                         ids=["an interim answer", "an answer and a request"])
def test_an_answer_that_was_sent_again_acknowledges_a_later_request(rows, unseen, status):
    """There is room for one before that only where the client's bytes are missing too."""
    turns = [("C", get(b"/1")), *unseen, ("S", ACCEPTED), ("C", get(b"/2")), ("S", FIVE), ("C", get(b"/3")), ("S", MISSING)]
    first, *_, answer, second, answered, third, last = talk(*turns)
    again = (answer[0], second[1] + 0.5, *answer[2:4], answered[4], answer[5])
    assert rows(segments=[first, second, again, answered, third, last]) == [("/1", status), ("/2", 200), ("/3", 404)]


def test_a_response_that_crosses_the_request(rows):
    """Sent unasked, before the request had arrived; the client, which has asked, takes it for the answer."""
    (asked, answer), body = talk(("C", get()), ("S", FIVE)), FIVE
    assert rows(segments=[asked, (*answer[:4], 1, body)]) == [("/", 200)]


def test_response_before_any_request(rows):
    """A server that is tired of waiting says 408 unasked."""
    late = [("S", b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n"), ("C", get()), ("S", FIVE)]
    assert rows(*late) == [("/", 200)]


def test_capture_begins_in_the_middle(table):
    """The answer to a request from before the capture belongs to none that was captured."""
    for segments in (talk(*THREE)[1:], talk(*THREE, piece=20)[3:]):
        found = table(*segments)
        assert plain(found, ("target", "nth", "status")) == [("/2", None, 202), ("/3", None, 203)]
    assert plain(table(*talk(*THREE)), ("target", "nth", "status")) == [
        ("/1", None, 201), ("/2", None, 202), ("/3", None, 203)]


def test_capture_begins_with_the_answer_to_the_syn(table):
    assert plain(table(*HANDSHAKE[1:], *talk(*THREE)), ("target", "nth")) == [("/1", 1), ("/2", 2), ("/3", 3)]
    assert plain(table(HANDSHAKE[0], *talk(*THREE)), ("target", "status")) == [("/1", 201), ("/2", 202), ("/3", 203)]


# Gaps

LARGE = OK + b"Content-Length: 3000\r\n\r\n" + bytes(range(250)) * 12


@pytest.mark.parametrize("lost, finished", [([2], True), ([1, 2], True), ([3], False), ([2, 3], False)], ids=str)
def test_gap_in_a_body_of_known_length(rows, lost, finished):
    """The next response is found where the length says; the time of the last byte isn't known if that is lost."""
    segments = talk(("C", get(b"/1")), ("S", LARGE), ("C", get(b"/2")), ("S", FIVE), piece=1000)
    segments = [row for number, row in enumerate(segments) if number - 1 not in lost]
    found = rows(segments=segments, columns=("target", "status", "finished", "response_bytes"))
    assert found == [("/1", 200, pytest.approx(2.03) if finished else None, len(LARGE)), ("/2", 200, 4.0, len(FIVE))]


def test_gap_over_the_end_of_one_response_and_the_head_of_the_next(rows):
    segments = talk(("C", get(b"/1")), ("S", LARGE), ("C", get(b"/2")), ("S", LARGE), ("C", get(b"/3")), ("S", FIVE),
                    piece=1500)
    found = rows(segments=[row for number, row in enumerate(segments) if number not in (3, 5)],
                 columns=("target", "status", "finished", "response_bytes"))
    assert found == [("/1", 200, None, len(LARGE)), ("/2", None, None, None), ("/3", 200, 6.0, len(FIVE))]


def test_gap_in_a_head_or_a_chunk(rows):
    """A chunk ends where its size says; a gap in a line of the body's framing leaves its end open."""
    head, chunked = b"y" * 3000 + b"\r\nContent-Length: 0\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"
    for response, finished in ((OK + b"X: " + head, None),
                               (OK + chunked + b"bb8\r\n" + b"z" * 3000 + b"\r\n0\r\n\r\n", 2.03),
                               (OK + chunked + b"5;x=" + b"z" * 3000 + b"\r\nhello\r\n0\r\n\r\n", None)):
        segments = talk(("C", get(b"/1")), ("S", response), ("C", get(b"/2")), ("S", FIVE), piece=1000)
        found = rows(segments=segments[:2] + segments[3:], columns=("target", "status", "finished"))
        assert found[1] == (
            "/2", 200, 4.0) and found[0][2] == (finished and pytest.approx(finished)) and found[0][1] in (200, None)


@pytest.mark.parametrize("captured", range(44, 57))
def test_gap_from_within_a_chunk_to_the_next_response(rows, captured):
    segments = talk(("C", get(b"/1")), ("S", CHUNKED + b"\r\n"), ("C", get(b"/2")), ("S", FIVE))
    segments[1] = (*segments[1][:5], segments[1][5][:captured])
    assert rows(segments=segments, columns=("target", "status", "finished")) == [
        ("/1", 200 if captured >= 47 else None, None), ("/2", 200, 4.0)]


def test_response_cut_by_the_end_of_the_capture(rows):
    segments = talk(("C", get()), ("S", LARGE), piece=1000)[:-1]
    assert rows(segments=segments, columns=("status", "framing", "finished", "response_bytes")) == [
        (200, "content-length", None, None)]


def test_frames_cut_at_the_headers(tmp_path):
    """Header-only captures: the lengths on the wire say where each response ends, and when."""
    path = tmp_path / "toy.pcap"
    turns = [("C", get(b"/1")), ("S", LARGE), ("C", get(b"/2")), ("S", FIVE)]
    packets = [segment(*row) for row in [*HANDSHAKE, *talk(*turns, piece=1000)]]
    wrpcap(str(path), packets, snaplen=110)
    found = exchanges(read_capture(path))
    assert plain(found, ("target", "finished", "response_bytes")) == [
        ("/1", pytest.approx(2.03), len(LARGE)), ("/2", 4.0, len(FIVE))]


def cut_frames(path, size, segments):
    """The capture of these segments after a handshake, with no more than `size` bytes of each one's payload."""
    frames = [segment(*row) for row in [*HANDSHAKE, *segments]]
    with PcapWriter(str(path)) as writer:
        writer.write_header(frames[0])
        for frame in frames:
            writer.write_packet(bytes(frame)[:54 + size], sec=int(frame.time), usec=round(frame.time % 1 * 1e6),
                                wirelen=len(frame))
    return read_capture(path)


@pytest.mark.parametrize("captured, line", [
    (24, ("GET", "/a/target", "1.1", 200)), (21, ("GET", "/a/target", None, 200)),
    (14, ("GET", "/a/target", None, 200)),
    (12, ("GET", "/a/targe", None, 200)), (3, None)])
def test_frames_cut_inside_the_head(tmp_path, captured, line):
    """The first line says what was asked and answered; how much, and whether anything came between, can't be told."""
    turns = [("C", get(b"/a/target")), ("S", LARGE), ("C", get(b"/2")), ("S", LARGE)]
    found = exchanges(cut_frames(tmp_path / "toy.pcap", captured, talk(*turns, piece=1000)))
    assert plain(found, ("method", "target", "version", "status"))[:1] == ([line] if line else [])
    assert plain(found, ("nth", "framing", "finished", "response_bytes")) == (
        [(1, *[None] * 3), (None, *[None] * 3)] if line else [])


@pytest.mark.parametrize("body", [b"body", b"P", b"GET", b"x GET / "])
def test_bodies_behind_a_head_that_was_cut(tmp_path, body):
    """Where a body may stand, its bytes are not taken for the begin of the next request's method."""
    post = get(b"/post", b"POST", headers=b"Content-Length: %d\r\nX: %s\r\n" % (len(body), b"y" * 50))
    turns = [("C", post), ("C", body), ("S", FIVE), ("C", get(b"/2")), ("S", FIVE)]
    assert plain(exchanges(cut_frames(tmp_path / "toy.pcap", 42, talk(*turns))), ("method", "target", "status")) == [
        ("POST", "/post", 200), ("GET", "/2", 200)]


@pytest.mark.parametrize("before", [b"abc", b"P", b"GET", b"the rest of a body"])
def test_capture_begins_in_a_body(table, before):
    assert plain(table(*talk(("C", before), ("C", get(b"/2")), ("S", FIVE))), ("method", "target", "status")) == [
        ("GET", "/2", 200)]


@pytest.mark.parametrize("cut", [b"OPTIONS rtsp://x/y RT", b"OPTIONS sip:a@b SI", b"GETTING /x HT",
                                 b"GET me a beer, and then some", b"EHLO exampl"])
def test_cut_lines_of_other_protocols(tmp_path, cut):
    capture = cut_frames(tmp_path / "toy.pcap", len(cut), talk(("C", cut + bytes(100))))
    assert capture.payload(4) == cut and exchanges(capture).empty


def test_targets_with_spaces(rows):
    """Wireshark's reading: the target ends at the first space."""
    assert rows(("C", b"GET /a b?c HTTP/1.1\r\n\r\n"), ("S", FIVE), ("C", b"GET  /a HTTP/1.1\r\n\r\n"),
                ("S", FIVE)) == [("/a", 200), (None, 200)]


# Reassembly

def test_reassembly(table):
    """Reordered, repeated and overlapping segments: the same exchanges, whatever the order within a turn."""
    turns = [("C", get(b"/1")), ("S", LARGE), ("C", get(b"/2") + get(b"/3")), ("S", FIVE + CHUNKED + b"\r\n")]
    columns = [name for name in COLUMNS if name not in ("requested", "answered", "finished")]
    whole = plain(table(*HANDSHAKE, *talk(*turns)), columns)
    for seed in range(12):
        chance, mixed = random.Random(seed), []
        for number in range(len(turns)):
            turn = [row for row in talk(*turns, piece=chance.choice([3, 50, 700])) if int(row[1]) == 1 + number]
            everything = b"".join(row[5] for row in turn)
            for _ in range(3):
                begin = chance.randrange(len(everything))
                turn.append((*turn[0][:3], turn[0][3] + begin, turn[0][4],
                             everything[begin:begin + chance.randrange(1, 500)]))
            chance.shuffle(turn)
            mixed += [(who, 1 + number + place / 10**4, *rest) for place, (who, _, *rest) in enumerate(turn)]
        assert plain(table(*HANDSHAKE, *mixed), columns) == whole


def test_time_is_that_of_the_byte_that_completes(rows):
    one, two, three = talk(("S", FIVE), piece=20)[:3]
    late = [*talk(("C", get())), *[(who, time, flags, seq, 1 + len(get()), data) for (who, _, flags, seq, _, data),
                                   time in
                                   zip((three, two, one), (2.0, 3.0, 4.0))]]
    assert rows(segments=late, columns=("answered", "finished")) == [(4.0, 4.0)]


def test_fin_before_the_last_bytes(rows):
    head, tail = OK + b"\r\nhel", b"lo"
    segments = [*talk(("C", get()), ("S", head)), ("S", 2.5, "FA", 1 + len(head + tail), 27, b""),
                ("S", 3.0, "PA", 1 + len(head), 27, tail)]
    assert rows(segments=segments, columns=("finished", "response_bytes")) == [(3.0, len(head + tail))]


def test_keep_alive_bytes_and_old_duplicates_are_no_data(rows):
    stray = [("C", 1.5, "A", len(get()), 1, b"\0"), ("S", 1.6, "PA", 2**30, 5, b"HTTP/1.1 500 Old\r\n\r\n"),
             ("C", 1.7, "PA", 2**30, 5, get(b"/old"))]
    segments = talk(("C", get()), ("S", FIVE), ("C", get(b"/2")), ("S", FIVE))
    assert rows(segments=[segments[0], *stray, *segments[1:]]) == [("/", 200), ("/2", 200)]


def test_several_streams_in_order_of_request(table):
    other = ("10.0.0.1", 50001)
    second = [segment(*row, client=other) for row in [*HANDSHAKE, *talk(("C", get(b"/b")), ("S", FIVE), start=0.9)]]
    assert plain(table(*HANDSHAKE, *second, *talk(("C", get(b"/a")), ("S", FIVE))), ("stream", "target")) == [
        (1, "/b"), (0, "/a")]


# What is no HTTP

@pytest.mark.parametrize("turns", [
    [("S", b"220 mail ESMTP\r\n"), ("C", b"EHLO x\r\n")], [("C", bytes(range(256)) * 9), ("S", bytes(range(256)))],
    [("C", b"\x16\x03\x01\x02\x00\x01\x00"), ("S", b"\x16\x03\x03")], [("C", b"GET /\r\n"), ("S", b"<html>")],
    [("C", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")], [("C", b"GET / HTTP/1.1\r\nHost: never ends")], [("S", FIVE)],
    [("C", b"OPTIONS rtsp://x RTSP/1.0\r\n\r\n"), ("S", b"RTSP/1.0 200 OK\r\n\r\n")],
    [("C", b"foo bar HTTP/1.1\r\n\r\n")],
    [("C", b"FOO bar HTTP/1.1\r\n\r\n")], [("C", get(method=b"get"))], [("C", get(method=b"Purge"))],
    [("C", get(b"*.*", method=b"PURGE"))],
    [("S", b"220 mail ESMTP\r\n"), ("C", b"EHLO x\r\nDATA\r\n"), ("S", b"250 yes\r\n354 go\r\n"), ("C", get()),
     ("S", b"250 queued\r\n")]])
def test_not_http(rows, turns):
    assert rows(*turns) == []


def test_answer_that_is_no_http(rows):
    assert rows(("C", get()), ("S", b"220 surprise\r\n")) == [("/", None)]


@pytest.mark.parametrize("method, target", [
    (b"PURGE", b"/x"), (b"X_Y-9", b"*"), (b"PURGE", b"http://x/"), (b"M-SEARCH", b"*"), (b"VERSION-CONTROL", b"/x"),
    (b"GET", b"x"), (b"NOTIFY", b"sip:a@b")])
def test_methods(rows, method, target):
    assert rows(("C", get(target, method)), ("S", FIVE), columns=("method", "target", "status")) == [
        (method.decode(), target.decode(), 200)]


@pytest.mark.parametrize("end", [b" \r\n", b" \t\r\n", b" \n"])
def test_white_space_behind_the_version(rows, end):
    assert rows(("C", b"GET /a HTTP/1.1" + end + b"Host: x\r\n\r\n" + get(b"/b")), ("S", FIVE * 2)) == [
        ("/a", 200), ("/b", 200)]


@pytest.mark.parametrize("before", [
    [("C", b"\x05\x01\x00"), ("S", b"\x05\x00"), ("C", b"\x05\x01\x00\x01\x0a\x00\x00\x02\x00\x50"),
     ("S", b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")],
    [("C", b"PROXY TCP4 10.0.0.1 10.0.0.2 50000 80\r\n")]], ids=["SOCKS", "PROXY"])
def test_what_a_client_says_before_http(rows, before):
    assert rows(*before, ("C", get()), ("S", FIVE)) == [("/", 200)]


@pytest.mark.parametrize("before", [[("C", b"\x05\x01\x00"), ("S", b"\x05\x00")], [("C", b"\x04\x01\0\x50\1\2\3\4\0")]])
def test_behind_a_greeting_of_socks_the_end_that_was_spoken_to_may_ask(rows, before):
    """Not so behind other words: a server of mail speaks first too, and its client's commands look like requests."""
    assert rows(*before, ("S", get()), ("C", FIVE)) == [("/", 200)]
    assert rows(("C", b"220 ready\r\n"), ("S", get()), ("C", FIVE)) == []


@pytest.mark.parametrize("line, expected", [
    (b"GET /w HTTP/1.0.8", ("/w", "1.0.8")), (b"GET HTTP/1.1", (None, "1.1")), (b"GET  HTTP/1.1", (None, "1.1")),
    (b"GET HTTP/1.1 HTTP/1.1", ("HTTP/1.1", "1.1"))])
def test_a_version_of_three_numbers_and_a_line_without_target(rows, line, expected):
    """A weather station sends the first; servers answer 200 or 400 to a line without a target."""
    answers = [rows(("C", line + b"\r\nHost: x\r\n\r\n"), ("S", FIVE), columns=("target", "version", "status")),
               rows(("C", line + b"\n\n"), ("S", FIVE), columns=("target", "version", "status"), piece=3)]
    assert answers == [[(*expected, 200)]] * 2


@pytest.mark.parametrize("padding, flags", [(2, "A"), (6, "A")])
def test_padding_of_an_ack_that_ip_counts_is_no_data(table, padding, flags):
    """The request that follows has the same number; what is left of it behind the padding began with `T /`."""
    request = ("C", 0.3, "PA", 1, 1, get())
    answer = ("S", 0.4, "PA", 1, 1 + len(get()), FIVE)
    found = table(*HANDSHAKE[:2], ("C", 0.2, flags, 1, 1, bytes(padding)), request, answer)
    assert plain(found, ("method", "target", "nth", "status")) == [("GET", "/", 1, 200)]


WORDS = st.sampled_from([b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n", b"Content-Length: 3\r\n",
                         b"Content-Length: 99999999999999999999\r\n", b"\r\n",
                         b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"abc", b"\n", b" ",
                         b"HTTP/1.1 100 C\r\n\r\n", b"fffffffffffffffff\r\n"])
no_fixture_check = [HealthCheck.function_scoped_fixture]


@settings(max_examples=40, deadline=None, suppress_health_check=no_fixture_check)
@given(st.lists(st.tuples(st.sampled_from("CS"), st.lists(WORDS | st.binary(max_size=9), max_size=6).map(b"".join)),
                max_size=8),
       st.integers(1, 60), st.booleans(), st.booleans())
def test_hostile_bytes_never_raise(tmp_path, turns, piece, close, known):
    segments = talk(*turns, piece=piece, fin="S" if close else None)
    found = exchanges(toy(tmp_path / "toy.pcap", *(HANDSHAKE if known else HANDSHAKE[:1]), *segments))
    assert not (found["finished"] < found["answered"]).any() and not (found["response_bytes"] < 0).any()


def test_time_grows_with_the_bytes_only(tmp_path):
    """Endless first lines, endless heads and tiny pieces: each byte is looked at a few times."""
    for data in (b"GET " * 40000, OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 4000,
                 (get()[:-2] + b"x: y\r\n" * 30) * 400, b"HTTP/1.1 200 OK\r\n" * 8000, b"a" * 20000):
        turns = talk(("C", get()), ("S", data), ("C", data), piece=37 if len(data) < 30000 else 900)
        capture = toy(tmp_path / "toy.pcap", *HANDSHAKE, *turns)
        begun = time.process_time()
        exchanges(capture)
        assert time.process_time() - begun < 20


# Against h11

HEADERS = st.sampled_from([[], [(b"Content-Length", b"7")], [(b"Transfer-Encoding", b"chunked")]])


@settings(max_examples=20, deadline=None, suppress_health_check=no_fixture_check)
@given(st.lists(st.tuples(st.sampled_from([b"GET", b"HEAD", b"POST"]), st.sampled_from([200, 204, 206, 304, 404, 500]),
                          HEADERS, HEADERS), min_size=1, max_size=6),
       st.sampled_from([1, 13, 100, 10**6]))
def test_what_h11_writes(tmp_path, drawn, piece):
    """A conversation that two h11 machines hold is read as they meant it."""
    client, server, turns, meant = h11.Connection(h11.CLIENT), h11.Connection(h11.SERVER), [], []
    for number, (method, status, asked, answered) in enumerate(drawn):
        target = b"/%d" % number
        request = client.send(h11.Request(method=method, target=target, headers=[(b"Host", b"x"), *asked]))
        request += (client.send(h11.Data(data=b"1234567")) if asked else b"") + client.send(h11.EndOfMessage())
        server.receive_data(request)
        while not isinstance(server.next_event(), h11.EndOfMessage):
            pass
        answered = answered or [(b"Content-Length", b"7")]
        response = server.send(h11.Response(status_code=status, headers=answered))
        response += server.send(h11.Data(data=b"7654321")) if method != b"HEAD" and status not in (204, 304) else b""
        response += server.send(h11.EndOfMessage())
        client.receive_data(response)
        while not isinstance(client.next_event(), h11.EndOfMessage):
            pass
        turns += [("C", request), ("S", response)]
        meant.append((target.decode(), number + 1, method.decode(), status, len(response)))
        client.start_next_cycle(), server.start_next_cycle()
    found = exchanges(toy(tmp_path / "toy.pcap", *HANDSHAKE, *talk(*turns, piece=piece)))
    assert plain(found, ("target", "nth", "method", "status", "response_bytes")) == meant
    assert found["finished"].notna().all()
