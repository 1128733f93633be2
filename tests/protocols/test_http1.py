"""Messages of HTTP/1.x from literals: first lines, framing (RFC 9112 section 6.3), gaps; no capture is needed."""

import numpy as np
import pytest

from helpers.protocols.bytestream import ByteStream, Pieces
from helpers.protocols.http1 import (
    REQUEST,
    RESPONSE,
    Message,
    MessageReader,
    leaves_http,
    looks_like_http,
    may_begin_request,
    shown,
)

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


def stream(*pieces, fin=None, first=0):
    """The `ByteStream` of `pieces`, bytes or numbers of bytes that were not captured; a second passes with each."""
    lists, seq, buffer = Pieces([], [], [], [], [], []), first or 0, b""
    for second, piece in enumerate(pieces):
        size = piece if isinstance(piece, int) else len(piece)
        if not isinstance(piece, int):
            for name, value in zip(Pieces.__slots__, (seq, seq + size, len(buffer), size, 0, float(second))):
                getattr(lists, name).append(value)
            buffer += piece
        seq += size
    return ByteStream(memoryview(buffer), lists, 0, len(lists.seq), first, fin and (fin, seq))


def messages(grammar, *pieces, method=None, **keywords):
    """The messages of a direction that sent `pieces`."""
    reader, found = MessageReader(stream(*pieces, **keywords)), []
    while reader.find(grammar):
        if (message := reader.read(grammar, method)) is not None:
            found.append(message)
    return found


def test_a_request():
    assert messages(REQUEST, GET) == [Message((b"GET", b"/a", b"1.1"), "none", 0, 0, 0.0, 0.0, len(GET))]


def test_two_requests_in_three_pieces():
    one, two = messages(REQUEST, (GET + GET)[:20], (GET + GET)[20:40], (GET + GET)[40:])
    assert (one.seq, one.begun, one.ended) == (0, 0.0, 1.0) and (two.seq, two.begun, two.ended) == (len(GET), 1.0, 2.0)


@pytest.mark.parametrize("head, body, framing", [
    (b"Content-Length: 5\r\n", b"hello", "content-length"), (b"Content-Length: 5, 5\r\n", b"hello", "content-length"),
    (b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n", "chunked"),
    (b"Transfer-Encoding: gzip, chunked\r\n", b"5;x=y\r\nhello\r\n0\r\nTrailer: 1\r\n\r\n", "chunked"),
    (b"Transfer-Encoding: chunked\r\nContent-Length: 99\r\n", b"0\r\n\r\n", "chunked")])
@pytest.mark.parametrize("size", [1, 4, 10**6])
def test_framing_of_responses(head, body, framing, size):
    """The end is found to the byte, however the bytes are cut; and so the next message."""
    data = (b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body) * 2
    one, two = messages(RESPONSE, *[data[at:at + size] for at in range(0, len(data), size)])
    assert one.line == two.line == (200,) and one.framing == two.framing == framing
    assert (one.seq, one.end, two.seq, two.end) == (0, len(data) // 2, len(data) // 2, len(data))


def test_no_body():
    length = b"Content-Length: 5\r\n\r\n"
    assert messages(RESPONSE, b"HTTP/1.1 304 Not Modified\r\n" + length)[0].framing == "none"
    assert messages(RESPONSE, b"HTTP/1.1 200 OK\r\n" + length, method=b"HEAD")[0].framing == "none"
    assert messages(RESPONSE, b"HTTP/1.1 200 OK\r\n" + length, method=b"CONNECT")[0].framing == "none"
    refused = b"HTTP/1.1 300 Odd\r\n" + length + b"hello"
    assert messages(RESPONSE, refused, method=b"CONNECT")[0].framing == "content-length"


def test_until_close():
    data = b"HTTP/1.0 200 OK\r\n\r\nuntil the end"
    (message,) = messages(RESPONSE, data, fin=9.0)
    assert (message.framing, message.end, message.ended) == ("until-close", len(data), 9.0)
    (message,) = messages(RESPONSE, data)
    assert (message.framing, message.end, message.ended) == ("until-close", None, None)


@pytest.mark.parametrize("length", [b"five", b"-5", b"5, 6", b"", b"9" * 5000])
def test_no_valid_length(length):
    (message,) = messages(RESPONSE, b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\nhello")
    assert (message.framing, message.end) == (None, None)


def test_a_gap_in_a_body_of_known_length():
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    one, two = messages(RESPONSE, data, 100, data)
    assert (one.end, one.ended) == (len(data) + 100, None) and not two.gap and two.seq == one.end


def test_a_gap_before_a_message():
    one, two = messages(REQUEST, GET, 50, GET)
    assert (one.gap, two.gap) == (False, True)


def test_a_beginning_that_was_not_captured():
    (message,) = messages(REQUEST, b"end of a body", GET, first=None)
    assert message.line[1] == b"/a" and message.gap


@pytest.mark.parametrize("data", [
    b"EHLO example.org\r\n", b"\x16\x03\x01\x02\0", b"GET /\r\n", b"PRI * HTTP/2.0\r\n\r\n", b"get / HTTP/1.1\r\n\r\n"])
def test_no_requests(data):
    assert messages(REQUEST, data) == []


def test_which_payloads_may_begin_a_request():
    payloads = [GET, b"\r\nGET", b"HTTP/1.1 200 OK", b"\x16\x03\x01", b"", b"hello", b"HTTPS", b"HTTP"]
    data = np.frombuffer(b"".join(payloads), np.uint8)
    size = np.array([len(one) for one in payloads])
    may = may_begin_request(data, np.cumsum(size) - size, size)
    assert may.tolist() == [True, True, False, False, False, False, True, True]


def test_what_looks_like_http():
    assert all(map(looks_like_http, (GET, b"HTTP/1.1 200 OK\r\n", b"POS", b"HTT")))
    assert not any(map(looks_like_http, (b"220 mail ESMTP\r\n", b"\x05\x00", b"SSH-2.0-OpenSSH\r\n")))


@pytest.mark.parametrize("method, status, leaves", [
    (b"GET", 101, True), (b"GET", 200, False), (b"CONNECT", 200, True), (b"CONNECT", 299, True),
    (b"CONNECT", 300, False), (b"CONNECT", 407, False)])
def test_what_leaves_http(method, status, leaves):
    """RFC 9110 section 9.3.6: any 2xx answer to CONNECT opens a tunnel, and no other."""
    assert leaves_http(Message((method, b"/", b"1.1"), None, 0, 0, 0.0), Message((status,), None, 0, 0, 0.0)) == leaves


def test_text_is_shown_as_latin_1_with_control_characters_as_escapes():
    assert shown((b"GET", b"/\xe4\x1b[2J\x7f", None)) == ("GET", "/ä\\x1b[2J\\x7f", None)


@pytest.mark.parametrize("method, status, leaves", [
    (b"CONNECT", 199, False), (b"CONNECT", 200, True), (b"CONNECT", 299, True), (b"CONNECT", 300, False),
    (b"GET", 200, False), (b"GET", 101, True)])
def test_what_opens_a_tunnel(method, status, leaves):
    """RFC 9110 section 9.3.6: any 2xx answer to CONNECT, and no other."""
    request = Message((method, b"x:443", b"1.1"), "none", 1, 1, 0.0)
    assert leaves_http(request, Message((status,), "none", 1, 1, 0.0)) is leaves
