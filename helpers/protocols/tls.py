"""TLS as it begins: records, the two hellos, and what they agree on (RFC 8446, RFC 5246), which needs no keys.

What stands behind them: `helpers.protocols.tls_session`, where the secrets are known. Nothing is trusted: the bytes
may be any protocol's.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from helpers.protocols.bytestream import ByteStream, first_part, runs
from helpers.protocols.tls_keys import TLS_1_3

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
CLIENT_HELLO, SERVER_HELLO, NEW_TICKET, END_OF_EARLY_DATA, ENCRYPTED_EXTENSIONS = 1, 2, 4, 5, 8
CERTIFICATE, FINISHED, KEY_UPDATE = 11, 20, 24
HEAD, LONGEST_RECORD, SHORTEST_SEALED = 5, (1 << 14) + 2048, 22
LONGEST_MESSAGE = 1 << 17
RECORD = re.compile(rb"[\x14-\x17]\x03[\x00-\x04]")
CHAIN_SEARCHED = 1 << 16
SERVER_NAME, ALPN, TICKET, PRE_SHARED_KEY, EARLY_DATA, VERSIONS = 0, 16, 35, 41, 42, 43
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
VERSION_NAMES = {0x0300: "SSL 3.0", 0x0301: "1.0", 0x0302: "1.1", 0x0303: "1.2", 0x0304: "1.3"}
ALERTS = {0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 22: "record_overflow",
          40: "handshake_failure", 42: "bad_certificate", 43: "unsupported_certificate", 44: "certificate_revoked",
          45: "certificate_expired", 46: "certificate_unknown", 47: "illegal_parameter", 48: "unknown_ca",
          49: "access_denied", 50: "decode_error", 51: "decrypt_error", 70: "protocol_version",
          71: "insufficient_security", 80: "internal_error", 86: "inappropriate_fallback", 90: "user_canceled",
          100: "no_renegotiation", 109: "missing_extension", 110: "unsupported_extension", 112: "unrecognized_name",
          116: "certificate_required", 120: "no_application_protocol"}


class ClientHello(NamedTuple):
    """What a client offers: `versions`, `ciphers`: numbers; `server_name`, `alpn`: texts; `psk`: a TLS 1.3 ticket."""

    random: bytes
    session_id: bytes
    versions: tuple
    ciphers: tuple
    server_name: str | None
    alpn: tuple
    ticket: bool
    psk: bool
    early_data: bool


class ServerHello(NamedTuple):
    """What a server chose. `retry`: it asks for another ClientHello. `alpn`: told here up to TLS 1.2 only."""

    random: bytes
    session_id: bytes
    version: int
    cipher: int
    alpn: str | None
    psk: bool
    retry: bool


@dataclass(slots=True)
class Record:
    """A TLS record: its type, its 5 bytes of `head`, its `body`; where it begins and ends in its stream.

    `time`: when its last byte had arrived. `ack`: what its sender acknowledged with it. `missed`: how many records may
    have been missed before it, (least, most).
    """

    kind: int
    head: bytes
    body: bytes
    begin: int
    end: int
    time: float
    ack: int
    missed: tuple


# Messages of the handshake

class _Reader:
    """Takes numbers and vectors from bytes, one after the other; ValueError where they end too early."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise ValueError("the message is cut short")
        self.at += size
        return self.data[self.at - size:self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """A vector whose length stands before it, in `size` bytes."""
        return self.take(self.number(size))

    def vectors(self, size: int) -> Iterator[bytes]:
        """All the vectors that are left."""
        while self.at < len(self.data):
            yield self.vector(size)

    @property
    def left(self) -> int:
        return len(self.data) - self.at


def handshake_messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (type, body) of each whole handshake message in `data`: what records, or CRYPTO frames, hold in order."""
    at = 0
    while at + 4 <= len(data):
        end = at + 4 + int.from_bytes(data[at + 1:at + 4], "big")
        if end > len(data):
            return
        yield data[at], data[at + 4:end]
        at = end


class Messages:
    """Puts handshake messages together from records: `add` gives those that are whole now, (type, body) each."""

    def __init__(self):
        self._held = bytearray()

    def add(self, data: bytes) -> list[tuple[int, bytes]]:
        self._held += data
        held, found, at = self._held, [], 0
        while len(held) >= at + 4 and len(held) >= (end := at + 4 + int.from_bytes(held[at + 1:at + 4], "big")):
            found.append((held[at], bytes(held[at + 4:end])))
            at = end
        del held[:at]
        if len(held) > LONGEST_MESSAGE:
            held.clear()
        return found


def read_client_hello(body: bytes) -> ClientHello:
    """The ClientHello whose bytes behind the head of 4 are `body`; ValueError where it is none."""
    reader = _Reader(body)
    version, random, session = reader.number(2), reader.take(32), reader.vector(1)
    ciphers, _ = reader.vector(2), reader.vector(1)
    known = _extensions(reader)
    versions = _numbers(_Reader(known[VERSIONS]).vector(1)) if VERSIONS in known else (version,)
    return ClientHello(random, session, versions, _numbers(ciphers), _server_name(known.get(SERVER_NAME)),
                       _names(known.get(ALPN)), bool(known.get(TICKET)), PRE_SHARED_KEY in known, EARLY_DATA in known)


def read_server_hello(body: bytes) -> ServerHello:
    """The ServerHello whose bytes behind the head of 4 are `body`; ValueError where it is none."""
    reader = _Reader(body)
    version, random, session, cipher = reader.number(2), reader.take(32), reader.vector(1), reader.number(2)
    reader.number(1)
    known = _extensions(reader)
    if VERSIONS in known:
        version = _Reader(known[VERSIONS]).number(2)
    chosen = _names(known.get(ALPN))
    return ServerHello(random, session, version, cipher, chosen[0] if chosen else None, PRE_SHARED_KEY in known,
                       random == RETRY)


def read_encrypted_extensions(body: bytes) -> tuple[str | None, bool]:
    """(the chosen ALPN or None, whether early data were accepted) as TLS 1.3 says it; ValueError where it doesn't."""
    known = _extensions(_Reader(body))
    chosen = _names(known.get(ALPN))
    return (chosen[0] if chosen else None), EARLY_DATA in known


def _extensions(reader: _Reader) -> dict[int, bytes]:
    """The first extension of each type; what stands at the end of a hello, if anything does."""
    known = {}
    if reader.left:
        inner = _Reader(reader.vector(2))
        while inner.left:
            kind = inner.number(2)
            known.setdefault(kind, inner.vector(2))
    return known


def _numbers(data: bytes) -> tuple:
    return tuple(int.from_bytes(data[at:at + 2], "big") for at in range(0, len(data) - 1, 2))


def _server_name(data: bytes | None) -> str | None:
    """The DNS name of RFC 6066 section 3."""
    if not data:
        return None
    reader = _Reader(_Reader(data).vector(2))
    while reader.left:
        kind, name = reader.number(1), reader.vector(2)
        if kind == 0:
            return _text(name)
    return None


def _names(data: bytes | None) -> tuple:
    """The protocol names of RFC 7301."""
    return tuple(_text(name) for name in _Reader(_Reader(data).vector(2)).vectors(1)) if data else ()


def _text(name: bytes) -> str:
    """Any bytes as a text that can be printed: what is not ASCII, or a control character, as an escape."""
    return "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in name)


# Records

def is_record(head: bytes) -> bool:
    """Whether 5 bytes may be the head of a record."""
    return (len(head) >= HEAD and 20 <= head[0] <= 23 and head[1] == 3 and head[2] <= 4
            and int.from_bytes(head[3:5], "big") <= LONGEST_RECORD)


def looks_like_tls(data: bytes, begins: bool) -> bool:
    """Whether `data`, what one end sent, are records; `begins`: whether it sent nothing before them."""
    if not is_record(data):
        return False
    if begins:
        return data[0] in (HANDSHAKE, ALERT) and (data[0] == ALERT or data[HEAD:HEAD + 1] in (b"\1", b"\2", b""))
    end = HEAD + int.from_bytes(data[3:5], "big")
    return len(data) <= end or is_record(data[end:end + HEAD]) or len(data) < end + HEAD


def records(stream: ByteStream) -> Iterator[Record]:
    """Yield the records of what one end sent. Behind a gap it looks for the next one, and says how many it may miss."""
    expected, missed = stream.first, (0, 0)
    for run in runs(stream):
        data, at = run.data, 0
        if expected is not None and expected >= run.begin:
            at = expected - run.begin
        else:
            at = _find_record(data)
            if expected is not None and at is not None:
                gap = run.begin + at - expected
                missed = (missed[0] + max(gap // (HEAD + LONGEST_RECORD), 1), missed[1] + gap // SHORTEST_SEALED + 1)
        if at is None:
            continue
        while is_record(head := data[at:at + HEAD]):
            end = at + HEAD + int.from_bytes(head[3:], "big")
            if end > len(data):
                break
            yield run.record(Record, head, at, end, missed)
            at, missed = end, (0, 0)
        expected = run.begin + at
        if is_record(head):
            expected, missed = run.begin + end, (missed[0] + 1, missed[1] + 1)


def _find_record(data: bytes) -> int | None:
    """Where the first record may begin that another one follows, or the end of the data."""
    for match in RECORD.finditer(data, 0, CHAIN_SEARCHED):
        at = match.start()
        end = at + HEAD + int.from_bytes(data[at + 3:at + 5], "big")
        if is_record(data[at:at + HEAD]) and (is_record(data[end:end + HEAD]) or end == len(data)
                                              or (end > len(data) and not at)):
            return at
    return None


class Hellos(NamedTuple):
    """What both ends say before the keys are agreed on; None, or empty, where it was not captured."""

    client: ClientHello | None
    server: ServerHello | None
    retried: bool
    certificate: bool
    changes: bool


def read_hellos(client: ByteStream | None, server: ByteStream | None) -> Hellos:
    """The hellos of a connection: the last one of each end. `certificate`: the server sent one in the clear.

    `changes`: the server has changed to its keys, so that a certificate would have come before.
    """
    offered = [body for kind, body, _ in clear_messages(client) if kind == CLIENT_HELLO] if client else []
    answers, certificate, changes = [], False, False
    for kind, body, _ in clear_messages(server) if server else ():
        certificate |= kind == CERTIFICATE
        changes |= kind == -CHANGE_CIPHER_SPEC
        if kind == SERVER_HELLO and (hello := _or_none(read_server_hello, body)):
            answers.append(hello)
    hellos = [hello for body in offered if (hello := _or_none(read_client_hello, body))]
    chosen = [hello for hello in answers if not hello.retry]
    return Hellos(hellos[-1] if hellos else None, chosen[-1] if chosen else None, len(chosen) < len(answers),
                  certificate, changes)


def _or_none(read, body: bytes):
    try:
        return read(body)
    except ValueError:
        return None


def clear_messages(stream: ByteStream) -> Iterator[tuple[int, bytes, float]]:
    """Yield (type, body, time) of the handshake messages that one end sends in the clear, first of all.

    A change to its keys is yielded as one of type -20, without a body. It is over with the first record that is
    encrypted, that does not follow, or behind what a hello may take.
    """
    messages, total = Messages(), 0
    for record in records(first_part(stream, 2 * LONGEST_MESSAGE)):
        if record.missed != (0, 0) or record.kind in (APPLICATION_DATA, ALERT) or total > LONGEST_MESSAGE:
            return
        if record.kind == CHANGE_CIPHER_SPEC:
            yield -CHANGE_CIPHER_SPEC, b"", record.time
            continue
        total += len(record.body)
        yield from ((kind, body, record.time) for kind, body in messages.add(record.body))


def round_trips(client: ByteStream, server: ByteStream) -> int | None:
    """How often the client waited for the server before it sent its first data; None where that was not captured.

    Of what the server sent before then, what came in a row counts as one answer.
    """
    if client.first is None or server.first is None:
        return None
    turns = []
    for side, stream in enumerate((client, server)):
        for record in records(stream):
            if record.missed != (0, 0):
                return None
            turns.append((record.time, side, record.kind))
            if record.kind == APPLICATION_DATA:
                break
    waited, before = 0, 0
    for _, side, kind in sorted(turns, key=lambda turn: turn[0]):
        if side == 0 and kind == APPLICATION_DATA:
            return waited + (before == 1)
        waited, before = waited + (side == 0 and before == 1), side
    return None


def resumed(hellos: Hellos) -> bool | None:
    """Whether a session goes on that began on another connection; None where that was not captured.

    Source: RFC 8446 section 2.2; RFC 5246 section 7.3 and RFC 5077 section 3.4: a server that resumes sends no
    certificate, and gives the client's session id back.
    """
    if hellos.server is None:
        return None
    if hellos.server.version >= TLS_1_3:
        return hellos.server.psk
    if hellos.certificate:
        return False
    if not hellos.changes or hellos.client is None:
        return None
    return bool(hellos.client.session_id) and hellos.client.session_id == hellos.server.session_id
