"""The packets of a datagram: what their headers say without any key (RFC 8999; RFC 9000 section 17)."""

from collections.abc import Iterator
from typing import NamedTuple

from helpers.protocols.quic.numbers import varint

INITIAL, ZERO_RTT, HANDSHAKE, RETRY = "Initial", "0-RTT", "Handshake", "Retry"
VERSION_NEGOTIATION, ONE_RTT = "Version Negotiation", "1-RTT"
LONG, FIXED = 0x80, 0x40
LONGEST_ID = 20                 # bytes, in the versions that are read
MOST_PACKETS = 64               # of one datagram
V1, V2 = 1, 0x6B3343CF
DRAFTS = {0xFF000000 | number: f"draft-{number}" for number in range(29, 35)}
KNOWN_VERSIONS = {V1: "1", V2: "2", **DRAFTS}
TYPES = (INITIAL, ZERO_RTT, HANDSHAKE, RETRY)
TYPES_2 = (RETRY, INITIAL, ZERO_RTT, HANDSHAKE)     # RFC 9369 section 3.2


class Packet(NamedTuple):
    """One packet: `kind`, `version` (None in 1-RTT), connection IDs of receiver and sender, `token`.

    It lies from `begin` to `end` of its datagram, its packet number (still protected) at `number_at`; `end` may lie
    beyond what was captured. Of a 1-RTT packet `dcid` is empty: its length stands nowhere, the receiver knows it.
    """

    kind: str
    version: int | None
    dcid: bytes
    scid: bytes
    token: bytes
    begin: int
    number_at: int
    end: int


def version_name(version: int) -> str:
    """`1`, `2`, `draft-29`, or the number of a version that isn't known here."""
    return KNOWN_VERSIONS.get(version, f"0x{version:08x}")


def packets(data: bytes, length: int | None = None) -> Iterator[Packet]:
    """The packets of the datagram `data`, of which there were `length` bytes on the wire (RFC 9000 section 12.2).

    Nothing comes of what is no packet of a known version, and nothing that stands behind it. A Retry and a Version
    Negotiation fill their datagram.
    """
    at, length = 0, len(data) if length is None else length
    for _ in range(MOST_PACKETS):
        if at >= len(data):
            return
        if not data[at] & LONG:
            if data[at] & FIXED:
                yield Packet(ONE_RTT, None, b"", b"", b"", at, at + 1, length)
            return
        try:
            packet = _long(data, at, length)
        except ValueError:
            return
        yield packet
        at = packet.end


def _long(data, at, length):
    """The packet with a long header at byte `at`."""
    begin, version = at, int.from_bytes(data[at + 1:at + 5], "big")
    dcid, at = _id(data, at + 5)
    scid, at = _id(data, at)
    if version == 0:
        if begin or (length - at) % 4 or length == at:
            raise ValueError("no list of versions")
        return Packet(VERSION_NEGOTIATION, 0, dcid, scid, b"", begin, at, length)
    if version not in KNOWN_VERSIONS or not data[begin] & FIXED or len(dcid) > LONGEST_ID or len(scid) > LONGEST_ID:
        raise ValueError("a version that isn't known here")
    kind, token = (TYPES_2 if version == V2 else TYPES)[data[begin] >> 4 & 3], b""
    if kind == RETRY:
        if length - at < 16:
            raise ValueError("no integrity tag")
        return Packet(kind, version, dcid, scid, data[at:length - 16], begin, at, length)
    if kind == INITIAL:
        size, at = varint(data, at)
        token, at = data[at:at + size], at + size
    size, at = varint(data, at)
    if size < 20 or at + size > length:     # a packet number and a tag, at the least, and what hides them
        raise ValueError("a length that can't be")
    return Packet(kind, version, dcid, scid, token, begin, at, at + size)


def _id(data, at):
    """The connection ID whose length stands at byte `at`, and where it ends."""
    end = at + 1 + (data[at] if at < len(data) else 0)
    if at >= len(data) or end > len(data):
        raise ValueError("a connection ID is cut short")
    return data[at + 1:end], end
