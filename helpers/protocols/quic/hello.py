"""What QUIC's TLS handshake says: the ClientHello, and the server's extensions (RFC 8446, 4; RFC 9000, 18)."""

from typing import NamedTuple

from helpers.protocols import tls
from helpers.protocols.quic.numbers import varint

CLIENT_HELLO, ENCRYPTED_EXTENSIONS = 1, 8
ALPN, PARAMETERS, OLD_PARAMETERS = 16, 0x39, 0xFFA5
RESET_TOKEN = 2


class Extensions(NamedTuple):
    """What a server chose: the protocol; `reset_token`: how a stateless reset would end."""

    alpn: str | None
    reset_token: bytes | None


def message(data: bytes, kind: int) -> bytes | None:
    """The first handshake message of this kind in `data`, without its header, or None where it isn't whole (yet)."""
    at = 0
    while at + 4 <= len(data):
        end = at + 4 + int.from_bytes(data[at + 1:at + 4], "big")
        if end > len(data):
            return None
        if data[at] == kind:
            return data[at + 4:end]
        at = end
    return None


def read_client_hello(data: bytes) -> tls.ClientHello | None:
    """The ClientHello in the CRYPTO stream `data`; None where it isn't whole, or is none."""
    body = message(data, CLIENT_HELLO)
    try:
        return None if body is None else tls.read_client_hello(body)
    except ValueError:
        return None


def read_encrypted_extensions(data: bytes) -> Extensions | None:
    """What the server chose, from the CRYPTO stream `data` of its Handshake packets; None where it isn't whole."""
    body = message(data, ENCRYPTED_EXTENSIONS)
    if body is None:
        return None
    try:
        found = _extensions(body, 0)
        token = _parameters(found.get(PARAMETERS, found.get(OLD_PARAMETERS, b""))).get(RESET_TOKEN)
        return Extensions(next(iter(_names(found.get(ALPN, b""))), None), token if token and len(token) == 16 else None)
    except ValueError:
        return None


def _whole(data, at, size):
    if at + size > len(data):
        raise ValueError("cut short")
    return data[at:at + size]


def _extensions(body, at):
    """The extensions whose list begins at byte `at`, by type."""
    end, at, found = at + 2 + int.from_bytes(_whole(body, at, 2), "big"), at + 2, {}
    while at + 4 <= min(end, len(body)):
        kind, size = int.from_bytes(body[at:at + 2], "big"), int.from_bytes(body[at + 2:at + 4], "big")
        found.setdefault(kind, _whole(body, at + 4, size))
        at += 4 + size
    return found


def _names(value):
    """The protocol names of an ALPN extension (RFC 7301)."""
    names, at = [], 2
    while at < len(value):
        names.append(_whole(value, at + 1, value[at]).decode("latin-1"))
        at += 1 + value[at]
    return tuple(names)


def _parameters(value):
    """The transport parameters, by number."""
    found, at = {}, 0
    while at < len(value):
        kind, at = varint(value, at)
        size, at = varint(value, at)
        found[kind], at = _whole(value, at, size), at + size
    return found
