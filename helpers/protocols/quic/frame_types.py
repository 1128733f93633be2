"""The frames in a packet's payload (RFC 9000 section 19; DATAGRAM: RFC 9221)."""

from collections.abc import Iterator
from typing import NamedTuple

from helpers.protocols.quic.numbers import varint

PADDING, ACK, ACK_ECN, RESET_STREAM, STOP_SENDING, CRYPTO, NEW_TOKEN = 0, 2, 3, 4, 5, 6, 7
STREAM, NEW_CONNECTION_ID, CLOSE, CLOSE_BY_APPLICATION, HANDSHAKE_DONE = 8, 0x18, 0x1C, 0x1D, 0x1E
DATAGRAM = 0x30
INTEGERS = {                # frames that are a number of integers, and nothing else
    1: 0, STOP_SENDING: 2,
    0x10: 1, 0x11: 2, 0x12: 1, 0x13: 1, 0x14: 1, 0x15: 2, 0x16: 1, 0x17: 1,     # MAX_*, *_BLOCKED
    0x19: 1, HANDSHAKE_DONE: 0}                                                 # RETIRE_CONNECTION_ID


class Crypto(NamedTuple):
    """Bytes of the TLS handshake."""

    offset: int
    data: bytes


class Stream(NamedTuple):
    """Bytes of a stream; `fin`: they are its last."""

    stream: int
    offset: int
    data: bytes
    fin: bool


class Reset(NamedTuple):
    """The sender gives a stream up."""

    stream: int
    error: int


class NewId(NamedTuple):
    """Another connection ID of the sender, and how a stateless reset of it would end."""

    id: bytes
    token: bytes


class Close(NamedTuple):
    """The sender closes the connection; `application`: its program does, not QUIC itself."""

    error: int
    application: bool
    reason: bytes


def frames(payload: bytes) -> Iterator[NamedTuple]:
    """The frames of `payload` that say what a reader of captures asks for; the others are passed.

    Raises `ValueError` at the first frame that is unknown or cut short: what follows it can't be found.
    """
    at, end = 0, len(payload)
    while at < end:
        kind, at = varint(payload, at)
        if kind == PADDING:
            at = end - len(payload[at:].lstrip(b"\0"))
        elif STREAM <= kind < 0x10:
            frame, at = _stream(payload, at, kind)
            yield frame
        elif kind in (ACK, ACK_ECN):
            at = _pass_ack(payload, at, kind)
        elif kind in INTEGERS:
            _, at = _integers(payload, at, INTEGERS[kind])
        elif kind in READ:
            frame, at = READ[kind](payload, at)
            yield frame
        elif kind in (NEW_TOKEN, DATAGRAM + 1):
            _, at = _bytes(payload, at)
        elif kind == DATAGRAM:
            return
        else:
            raise ValueError(f"frame type 0x{kind:x} isn't known here")


def _integers(payload, at, count):
    values = []
    for _ in range(count):
        value, at = varint(payload, at)
        values.append(value)
    return values, at


def _take(payload, at, size):
    if at + size > len(payload):
        raise ValueError("a frame is cut short")
    return payload[at:at + size], at + size


def _bytes(payload, at):
    size, at = varint(payload, at)
    return _take(payload, at, size)


def _pass_ack(payload, at, kind):
    (_, _, ranges, _), at = _integers(payload, at, 4)
    if ranges > len(payload):
        raise ValueError("more ranges than bytes")
    _, at = _integers(payload, at, 2 * ranges + 3 * (kind == ACK_ECN))
    return at


def _stream(payload, at, kind):
    stream, at = varint(payload, at)
    offset, at = varint(payload, at) if kind & 4 else (0, at)
    data, at = _bytes(payload, at) if kind & 2 else (payload[at:], len(payload))
    return Stream(stream, offset, data, bool(kind & 1)), at


def _crypto(payload, at):
    offset, at = varint(payload, at)
    data, at = _bytes(payload, at)
    return Crypto(offset, data), at


def _reset(payload, at):
    (stream, error, _), at = _integers(payload, at, 3)
    return Reset(stream, error), at


def _new_id(payload, at):
    _, at = _integers(payload, at, 2)
    size, at = _take(payload, at, 1)
    name, at = _take(payload, at, size[0])
    token, at = _take(payload, at, 16)
    return NewId(name, token), at


def _close(payload, at, application=False):
    error, at = varint(payload, at)
    if not application:
        _, at = varint(payload, at)
    reason, at = _bytes(payload, at)
    return Close(error, application, reason), at


READ = {CRYPTO: _crypto, RESET_STREAM: _reset, NEW_CONNECTION_ID: _new_id, CLOSE: _close,
        CLOSE_BY_APPLICATION: lambda payload, at: _close(payload, at, True)}
