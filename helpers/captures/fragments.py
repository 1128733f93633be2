"""IPv4 and IPv6 fragments, put together where all of a packet are there (RFC 791, 815, 8200).

What overlaps other than as a copy is not put together: which bytes count differs from system to system. IPv6 forbids it
(RFC 5722), and Linux drops it for IPv4 as well.
"""

from bisect import bisect
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from helpers.captures import headers
from helpers.captures.batch import Batch
from helpers.captures.numbers import LARGEST_PACKET, Type
from helpers.captures.records import structures

PATIENCE_NS = 30 * 10**9    # as Linux waits for the rest of a packet: net.ipv4.ipfrag_time
PART, OVERLAPS = "IP fragment, put together in a later frame", "IP fragment that overlaps another"
FRAGMENT = np.dtype([("number", "i8"), ("version", "i8"), ("ip_at", "i8"), ("at", "i8"), ("end", "i8"),
                     ("offset", "i8"), ("more", "?"), ("protocol", "i8")])


def note(batch: Batch, rows: np.ndarray, offset: np.ndarray, more: np.ndarray) -> None:
    """Add to `batch.fragments` those of `rows` that were captured whole; each is at the first byte behind its header.

    `offset`: where in the packet's payload, in bytes. `more`: whether others follow.
    """
    whole = (batch.at[rows] < batch.end[rows]) & (batch.end[rows] == batch.wire_end[rows])
    rows = rows[whole]
    if len(rows):
        found = np.empty(len(rows), FRAGMENT)
        for name, column in (("number", batch.number), ("version", batch.next_type), ("ip_at", batch.ip_at),
                             ("at", batch.at), ("end", batch.end), ("protocol", batch.protocol)):
            found[name] = column[rows]
        found["offset"], found["more"] = offset[whole], more[whole]
        batch.fragments.append(found)


@dataclass
class _Packet:
    """What there is of one packet: the fragments, by where they begin; `total`: bytes of payload, once that is known.

    `members`: the frames of all fragments, copies too. `since`: when the first of them came, in ns.
    """

    since: int
    starts: list = field(default_factory=list)
    parts: list = field(default_factory=list)
    members: list = field(default_factory=list)
    size: int = 0
    total: int | None = None


@dataclass
class Together:
    """Packets that were put together: `data`, one behind the other, each with an IP header; `at`, `size`: of each.

    `number`: of the frame that completes each. `members`: all frames that go into them, or overlap, each once.
    `skipped`: how many of these are no packet themselves, by reason.
    """

    data: np.ndarray
    at: np.ndarray
    size: np.ndarray
    number: np.ndarray
    members: np.ndarray
    skipped: Counter


def put_together(data: np.ndarray, fragments: np.ndarray, time_ns: np.ndarray) -> Together | None:
    """The packets whose fragments (rows of `FRAGMENT`) are all there; None where there is nothing to say.

    `time_ns`: of each fragment. Each fragment goes into one packet at most, so that all of these packets are no larger
    than the file. Source: RFC 815; without overlaps a packet is whole once its fragments are as long as it is.
    """
    order = np.argsort(fragments["number"], kind="stable")
    fragments, time_ns = fragments[order], time_ns[order]
    waiting, whole, overlapping = {}, {}, set()
    rows = zip(_keys(data, fragments), fragments.tolist(), time_ns.tolist())
    for key, fragment, time in rows:
        packet = waiting.get(key)
        if packet is None or abs(time - packet.since) > PATIENCE_NS:
            packet = waiting[key] = _Packet(time)
        packet.members.append(fragment[0])
        if not _add(packet, fragment, data):
            overlapping.update(waiting.pop(key).members)
        elif packet.size == packet.total:
            whole[fragment[0]] = waiting.pop(key)
    if not whole and not overlapping:
        return None
    overlapping -= set(whole)
    members = {member for packet in whole.values() for member in packet.members} | overlapping
    skipped = Counter({PART: len(members - overlapping) - len(whole), OVERLAPS: len(overlapping)})
    packets = [_as_packet(packet, data) for packet in whole.values()]
    sizes = np.array([len(packet) for packet in packets], np.int64)
    return Together(np.frombuffer(b"".join(packets), np.uint8), np.cumsum(sizes) - sizes, sizes,
                    np.array(list(whole), np.int64), np.array(sorted(members), np.int64), skipped)


def _keys(data, fragments):
    """Of each fragment what all fragments of its packet have in common."""
    keys = [None] * len(fragments)
    for version, header, addresses in ((Type.IPV4, headers.IPV4, "V8"), (Type.IPV6, headers.IPV6, "V32")):
        rows = np.flatnonzero(fragments["version"] == version)
        found = fragments[rows]
        four = version == Type.IPV4
        own = structures(data, found["ip_at"] + 4, np.dtype("V2")) if four \
            else structures(data, found["at"] - 4, np.dtype("V4"))
        pairs = structures(data, found["ip_at"] + header.fields["addresses"][1], np.dtype(addresses))
        protocols = found["protocol"].tolist() if four else [None] * len(rows)
        for row, *key in zip(rows.tolist(), pairs.tolist(), own.tolist(), protocols):
            keys[row] = tuple(key)
    return keys


def _add(packet: _Packet, fragment: tuple, data: np.ndarray) -> bool:
    """Add a fragment (a row of `FRAGMENT`) to its packet; whether it fits there."""
    _, _, _, at, end, begin, more, _ = fragment
    size, stop = end - at, begin + end - at
    place = bisect(packet.starts, begin)
    if place and packet.starts[place - 1] == begin:
        _, _, _, other, other_end, *_ = packet.parts[place - 1]
        if other_end - other == size:
            return packet.parts[place - 1][6] == more and bool((data[at:end] == data[other:other_end]).all())
    if stop > LARGEST_PACKET or (packet.total is not None and (stop > packet.total or not more)):
        return False
    if place and packet.starts[place - 1] + _size(packet.parts[place - 1]) > begin:
        return False
    if place < len(packet.starts) and (packet.starts[place] < stop or not more):
        return False
    packet.starts.insert(place, begin)
    packet.parts.insert(place, fragment)
    packet.size += size
    packet.total = packet.total if more else stop
    return True


def _size(fragment):
    return fragment[4] - fragment[3]


def _as_packet(packet: _Packet, data: np.ndarray) -> bytes:
    """The packet, with the IP header of its first fragment, without IPv6's extensions before the fragments' own."""
    _, version, ip_at, at, _, _, _, protocol = packet.parts[0]
    payload = b"".join(data[part[3]:part[4]].tobytes() for part in packet.parts)
    if version == Type.IPV4:
        head = bytearray(data[ip_at:at].tobytes())
        head[2:4], head[6:8] = min(len(head) + len(payload), LARGEST_PACKET).to_bytes(2, "big"), bytes(2)
    else:
        head = bytearray(data[ip_at:ip_at + headers.IPV6.itemsize].tobytes())
        head[4:6], head[6] = len(payload).to_bytes(2, "big"), protocol
    return bytes(head) + payload
