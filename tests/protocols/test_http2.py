"""HTTP/2 from literals: frames of RFC 9113, header blocks of RFC 7541 appendix C; no capture is needed."""

import struct

import pytest
from protocols.test_http1 import stream

from helpers.protocols import http2
from helpers.protocols.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
)

# RFC 7541 appendix C.4 (requests) and C.6 (responses), in this order on a connection each
FIRST, SECOND = bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff"), bytes.fromhex("828684be5886a8eb10649cbf")
FOUND = bytes.fromhex("488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b"
                      "97c8e9ae82ae43d3")
AGAIN = bytes.fromhex("4883640effc1c0bf")
OK, HINTS = b"\x88", b"\x08\x03103"        # :status 200 of the static table; a literal 103 that is not kept
WHOLE = END_HEADERS | END_STREAM


def frame(kind, flags, number, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", number) + payload


def ask(number, block=FIRST, flags=WHOLE):
    return frame(HEADERS, flags, number, block)


def talk(client, server, first=0):
    """The conversation of frames; a number stands for bytes that were not captured."""
    return http2.read_conversation(stream(PREFACE, *client, first=first), stream(*server, first=first))


def told(conversation):
    return {number: (one.line[1], one.nth, one.status, one.answered, one.finished, one.size)
            for number, one in conversation.exchanges.items()}


def test_requests_and_answers_of_the_rfc():
    found = talk([ask(1), ask(3, SECOND)], [frame(HEADERS, END_HEADERS, 1, FOUND), frame(DATA, END_STREAM, 1, b"hello"),
                                            frame(HEADERS, WHOLE, 3, AGAIN)])
    assert told(found) == {1: (b"/", 1, 302, 0.0, 1.0, 9 + len(FOUND) + 14), 3: (b"/", 2, 307, 2.0, 2.0, 9 + len(AGAIN))}
    assert [one.requested for one in found.exchanges.values()] == [1.0, 2.0] and not found.signals


def test_streams_interleave():
    data = [frame(DATA, 0, number, b"x" * 10) for number in (1, 3, 3, 1)]
    found = talk([ask(1), ask(3, SECOND)], [frame(HEADERS, END_HEADERS, 3, OK), frame(HEADERS, END_HEADERS, 1, OK), *data,
                                            frame(DATA, END_STREAM, 1), frame(DATA, END_STREAM, 3)])
    assert told(found) == {1: (b"/", 1, 200, 1.0, 6.0, 10 + 38 + 9), 3: (b"/", 2, 200, 0.0, 7.0, 10 + 38 + 9)}


@pytest.mark.parametrize("cut", range(len(FIRST) + 1))
def test_a_header_block_goes_on_in_continuations(cut):
    client = [frame(HEADERS, END_STREAM, 1, FIRST[:cut]), frame(CONTINUATION, END_HEADERS, 1, FIRST[cut:]), ask(3, SECOND)]
    server = [frame(HEADERS, END_STREAM, 1, b""), frame(CONTINUATION, END_HEADERS, 1, OK)]
    found = talk(client, server)
    assert told(found)[1] == (b"/", 1, 200, 0.0, 1.0, 19) and told(found)[3][:2] == (b"/", 2)


@pytest.mark.parametrize("by", ["client", "server"])
def test_a_cancelled_stream_is_never_finished(by):
    reset = frame(RST_STREAM, 0, 1, struct.pack(">I", 8))
    head, rest = frame(HEADERS, END_HEADERS, 1, OK), [frame(DATA, 0, 1, b"x"), frame(DATA, END_STREAM, 1, b"x")]
    late = [frame(SETTINGS, 0, 0)] * 3
    found = talk([ask(1), reset], [head, *late, *rest]) if by == "client" else talk([ask(1)], [head, reset, *rest])
    assert told(found)[1][2:5] == (200, 0.0, None)
    assert [signal[1:] for signal in found.signals] == [(by == "server", "RST_STREAM", "stream 1, CANCEL")]


def test_a_stream_that_is_reset_when_all_was_said_is_finished():
    found = talk([ask(1)], [frame(HEADERS, WHOLE, 1, OK), frame(RST_STREAM, 0, 1, bytes(4))])
    assert told(found)[1][2:5] == (200, 0.0, 0.0)


def test_early_hints_answer_nothing_and_count_for_nothing():
    found = talk([ask(1)], [frame(HEADERS, END_HEADERS, 1, HINTS), frame(HEADERS, END_HEADERS, 1, OK),
                            frame(DATA, 0, 1, b"abc"), frame(HEADERS, WHOLE, 1, b"\x40\1a\1b")])
    assert told(found)[1] == (b"/", 1, 200, 1.0, 3.0, 10 + 12 + 14)


def test_what_is_pushed_has_no_place_among_the_requests():
    promise = frame(PUSH_PROMISE, END_HEADERS, 1, struct.pack(">I", 2) + FIRST)
    found = talk([ask(1), ask(3, SECOND)], [promise, frame(HEADERS, WHOLE, 1, OK), frame(HEADERS, WHOLE, 2, OK)])
    assert {number: one[:3] for number, one in told(found).items()} == {1: (b"/", 1, 200), 3: (b"/", 2, None), 2: (b"/", None, 200)}


def test_goaway_is_a_signal():
    goaway = frame(GOAWAY, 0, 0, struct.pack(">II", 17, 0))
    assert talk([ask(1)], [goaway]).signals == [(0.0, 1, "GOAWAY", "last stream 17, NO_ERROR")]
    assert talk([ask(1)], [frame(GOAWAY, 0, 0, b"\0")]).signals == []


def test_padding_and_priority_are_no_headers():
    block = b"\3" + bytes(5) + FIRST + bytes(3)
    assert told(talk([ask(1, block, WHOLE | 8 | 32)], []))[1][:2] == (b"/", 1)


def test_behind_a_gap_only_what_is_sure_is_told():
    """The second block refers to what the first put into the table, which was lost; the third does not."""
    found = talk([100, ask(3, SECOND), ask(5, FIRST), ask(7, SECOND)], [frame(HEADERS, WHOLE, number, OK) for number in (3, 5, 7)])
    assert {number: one[:3] for number, one in told(found).items()} == {
        3: (None, None, 200), 5: (b"/", None, 200), 7: (b"/", None, 200)}


def test_an_answer_with_a_gap_has_no_known_size():
    found = talk([ask(1), ask(3, SECOND)], [frame(HEADERS, END_HEADERS, 1, OK), frame(DATA, 0, 1, b"x" * 50), 300,
                                            frame(DATA, END_STREAM, 1, b"x" * 5), frame(HEADERS, WHOLE, 3, OK)])
    assert found.exchanges[1].lossy and told(found)[1][4] == 3.0
    assert told(found)[3][2:5] == (200, 4.0, 4.0)


def test_damaged_blocks_and_frames_are_not_known():
    for block in (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x3f\xe1\xff\xff\xff\x7f", b"\xc6"):
        found = talk([ask(1, block), ask(3, FIRST)], [])
        assert told(found)[1][0] is None and told(found)[3][0] == b"/"
    assert told(talk([frame(HEADERS, WHOLE | 8, 1, b"\xff")], []))[1][0] is None


def test_beginnings():
    assert http2.begins(PREFACE) and not http2.begins(b"PRI * HTTP/1.1\r\n\r\n") and not http2.begins(b"PRI")
    assert http2.begins_with_settings(frame(SETTINGS, 0, 0)) and not http2.begins_with_settings(b"HTTP/1.1 200")


@pytest.mark.parametrize("cut", [False, True])
def test_trailers_end_an_answer_and_change_no_status(cut):
    """RFC 9113 section 8.1: a second HEADERS with END_STREAM, here `x-a: b`, alone or with a CONTINUATION."""
    trailer = bytes.fromhex("0003782d610162")
    if cut:
        last = [frame(HEADERS, END_STREAM, 1, trailer[:4]), frame(CONTINUATION, END_HEADERS, 1, trailer[4:])]
    else:
        last = [frame(HEADERS, WHOLE, 1, trailer)]
    found = talk([ask(1)], [frame(HEADERS, END_HEADERS, 1, OK), frame(DATA, 0, 1, b"hello"), *last])
    assert told(found) == {1: (b"/", 1, 200, 0.0, 1.0 + len(last), 10 + 14 + 9 * len(last) + len(trailer))}
