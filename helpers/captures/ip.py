"""IPv4 and IPv6: which protocol each packet carries, where it begins and ends, and between which addresses."""

import ipaddress

import numpy as np
import pandas as pd

from helpers.captures import headers
from helpers.captures.batch import Batch, type_of_version
from helpers.captures.fragments import note
from helpers.captures.numbers import AUTHENTICATION_HEADER, EXTENSION_HEADERS, FRAGMENT_HEADER, TCP_PROTOCOL, Type
from helpers.captures.records import structures

CUT, MALFORMED = "cut inside the IP header", "malformed IP header"


def pass_ip(batch: Batch) -> None:
    """Move every frame past its IP header, at `ip_at`, to the `protocol` that follows; leave out later fragments.

    `more`: whether it is the first of several fragments.
    """
    batch.keep(batch.at < batch.end, CUT)
    version = type_of_version(batch.data[batch.at])
    batch.keep((version == Type.IPV6) | (version == Type.IPV4) & (batch.next_type == Type.IPV4), MALFORMED)
    batch.next_type = type_of_version(batch.data[batch.at])
    header_length = np.where(batch.next_type == Type.IPV4, headers.IPV4.itemsize, headers.IPV6.itemsize)
    batch.keep(batch.at + header_length <= batch.end, CUT)
    rows4, rows6 = np.flatnonzero(batch.next_type == Type.IPV4), np.flatnonzero(batch.next_type == Type.IPV6)
    size, batch.ip_at = len(batch.at), batch.at.copy()
    batch.more = np.zeros(size, bool)
    batch.protocol, batch.fragment, batch.sound = np.zeros(size, int), np.zeros(size, bool), np.ones(size, bool)
    _pass_ipv4(batch, rows4)
    _pass_ipv6(batch, rows6)
    batch.keep(batch.sound, lambda cut: CUT if cut else MALFORMED,
               (batch.next_type == Type.IPV6) & (batch.end < batch.wire_end))
    batch.keep(~batch.fragment, "IP fragment after the first")
    del batch.fragment, batch.sound


def _pass_ipv4(batch, rows):
    header = batch.header(headers.IPV4, rows)
    header_length = (header["version_ihl"] & 0xF).astype(np.int64) * 4
    total = header["total_length"].astype(np.int64)
    offloaded = total == 0      # left to the network card: the frame's own length counts
    batch.sound[rows] = (header_length >= headers.IPV4.itemsize) & (offloaded | (total >= header_length))
    batch.protocol[rows] = header["protocol"]
    batch.fragment[rows] = header["flags_offset"] & 0x1FFF != 0
    batch.more[rows] = header["flags_offset"] & 0x2000 != 0
    batch.end_at(rows, np.where(offloaded, batch.wire_end[rows], batch.at[rows] + total))
    batch.at[rows] += header_length
    parts = batch.sound[rows] & (header["flags_offset"] & 0x3FFF != 0)
    if parts.any():
        note(batch, rows[parts], (header["flags_offset"][parts] & 0x1FFF).astype(np.int64) * 8, batch.more[rows[parts]])
    _pass_extensions(batch, rows)


def _pass_ipv6(batch, rows):
    header = batch.header(headers.IPV6, rows)
    payload = header["payload_length"].astype(np.int64)
    batch.protocol[rows] = header["next_header"]
    batch.at[rows] += headers.IPV6.itemsize
    batch.end_at(rows, np.where(payload == 0, batch.wire_end[rows], batch.at[rows] + payload))
    _pass_extensions(batch, rows)


def _pass_extensions(batch, rows):
    """Move the frames `rows` past the extension headers of IPv6; authentication (RFC 4302) may follow IPv4 too."""
    rows = rows[batch.protocol[rows] != TCP_PROTOCOL]
    while len(rows := rows[np.isin(batch.protocol[rows], EXTENSION_HEADERS) & ~batch.fragment[rows]]):
        batch.sound[rows] = batch.at[rows] + 8 <= batch.end[rows]
        rows = rows[batch.sound[rows]]
        extension = batch.header(headers.IPV6_EXTENSION, rows)
        kind = batch.protocol[rows]
        length = extension["length"].astype(np.int64)
        size = np.select([kind == FRAGMENT_HEADER, kind == AUTHENTICATION_HEADER],
                         [np.full(len(rows), 8), length * 4 + 8], length * 8 + 8)
        batch.fragment[rows] = (kind == FRAGMENT_HEADER) & (extension["offset_flags"] & 0xFFF8 != 0)
        batch.more[rows] |= (kind == FRAGMENT_HEADER) & (extension["offset_flags"] & 1 != 0)
        batch.protocol[rows] = extension["next_header"]
        batch.at[rows] += size
        bits = extension["offset_flags"].astype(np.int64)
        parts = (kind == FRAGMENT_HEADER) & (bits & 0xFFF9 != 0) & (batch.next_type[rows] == Type.IPV6)
        if parts.any():
            note(batch, rows[parts], bits[parts] & 0xFFF8, bits[parts] & 1 != 0)


def read_addresses(batch: Batch) -> None:
    """Number the addresses: `src`, `dst` are places in `unique4` (numbers) and, behind these, in `unique6` (bytes)."""
    four = batch.next_type == Type.IPV4
    rows4, rows6 = slice(None) if four.all() else np.flatnonzero(four), np.flatnonzero(~four)
    batch.src, batch.dst = np.zeros((2, len(batch.at)), np.int32)
    pair4, pair6 = (structures(batch.data, batch.ip_at[rows] + header.fields["addresses"][1], header["addresses"])
                    for rows, header in ((rows4, headers.IPV4), (rows6, headers.IPV6)))
    (batch.src[rows4], batch.dst[rows4]), batch.unique4 = _numbered(pair4)
    addresses = np.concatenate([pair6["src"], pair6["dst"]]).view("S16")
    batch.unique6, code6 = np.unique(addresses, return_inverse=True)
    batch.src[rows6], batch.dst[rows6] = (part + len(batch.unique4) for part in np.split(code6, 2))


def _numbered(pairs):
    """The places of the sources and destinations of `pairs` among all their IPv4 addresses, and these."""
    code, distinct = pd.factorize(pairs.view("u8"))
    pairs = distinct.view(headers.IPV4_ADDRESSES)
    places, unique = pd.factorize(np.concatenate([pairs["src"], pairs["dst"]]).astype(np.uint32))
    return (places[code] for places in np.split(places, 2)), unique


def address_texts(fours: np.ndarray, sixes: np.ndarray) -> pd.Index:
    """The texts of IPv4 addresses (numbers) and, behind them, of IPv6 addresses (bytes)."""
    texts = [str(ipaddress.IPv4Address(number)) for number in fours.tolist()]
    texts += [str(ipaddress.IPv6Address(number.ljust(16, b"\0"))) for number in sixes.tolist()]
    return pd.Index(texts, dtype="str")
