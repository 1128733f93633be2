"""Which QUIC connection each datagram belongs to: by connection IDs; by addresses and ports where there are none."""

import numpy as np

from helpers.captures import Capture
from helpers.protocols.quic import INITIAL, KNOWN_VERSIONS, ONE_RTT, RETRY, VERSION_NEGOTIATION, ZERO_RTT, packets
from helpers.quic.connection import CLIENT, SERVER, Connection

SHORTEST_ID = 4     # bytes of a connection ID that alone tells a connection


def tracked(capture: Capture) -> list[Connection]:
    """The QUIC connections of `capture`, in order of their first datagram; computed once."""
    if "quic" not in capture.derived:
        capture.derived["quic"] = _track(capture)
    return capture.derived["quic"]


def _track(capture):
    table, places = capture.datagrams, capture.datagram_payloads
    if not _any_known_version(capture.data, places):
        return []
    tracker = Tracker(capture.secrets)
    ends = [list(zip(table[address].astype(str), table[port].tolist())) for address, port in (
        ("src", "sport"), ("dst", "dport"))]
    rows = zip(table.index.tolist(), table["time"].tolist(), *ends, table["length"].tolist(),
               places["payload_at"].tolist(), places["payload_captured"].tolist())
    for frame, time, src, dst, length, at, size in rows:
        tracker.take(frame, time, src, dst, capture.data[at:at + size].tobytes(), length)
    return tracker.connections


def _any_known_version(data, places):
    """Whether any datagram begins as a packet with a long header of a known version: else none is QUIC for certain."""
    at = places["payload_at"][places["payload_captured"] >= 7]
    versions = np.zeros(len(at), np.int64)
    for place in range(1, 5):
        versions = versions << 8 | data[at + place]
    return bool(np.isin(versions[data[at] >= 0xC0], list(KNOWN_VERSIONS)).any())


class Tracker:
    """Finds the connection of each datagram, and lets it read it.

    `_ids`: (connection, whose ID it is) by connection ID; `_pairs`: (connection, which side sent it) by (source,
    destination), the connection that was last seen there.
    """

    def __init__(self, secrets):
        self.connections, self._secrets, self._ids, self._pairs, self._lengths = [], secrets, {}, {}, set()

    def take(self, frame: int, time: float, src: tuple, dst: tuple, data: bytes, length: int) -> None:
        """Let the connection of this datagram read it, if it belongs to one."""
        packet = next(packets(data, length), None)
        if packet is None:
            return
        connection, side = (self._short if packet.kind == ONE_RTT else self._long)(packet, src, dst, data, length)
        if connection is None:
            return
        connection.take(time, frame, side, data, length)
        self._pairs[src, dst], self._pairs[dst, src] = (connection, side), (connection, 1 - side)
        while connection.new_ids:
            name, owner = connection.new_ids.pop()
            if len(name) >= SHORTEST_ID:
                self._ids[name] = connection, owner
                self._lengths.add(len(name))

    def _short(self, packet, src, dst, data, length):
        """The connection of a 1-RTT packet: by a known ID that fits, else by the endpoints (its ID has no length)."""
        fallback = self._pairs.get((src, dst), (None, None))
        if fallback[0] and data[1:1 + fallback[0].id_length[1 - fallback[1]]] in fallback[0].ids[1 - fallback[1]]:
            return fallback
        for size in self._lengths:
            connection, owner = self._ids.get(data[1:1 + size], (None, None))
            if connection is not None and (src in connection.ends or dst in connection.ends):
                return connection, 1 - owner
        return fallback

    def _long(self, packet, src, dst, data, length):
        connection, owner = self._ids.get(packet.dcid, (None, None))
        if connection is not None and (src in connection.ends or dst in connection.ends):
            return connection, 1 - owner
        connection, side = self._pairs.get((src, dst), (None, None))
        if packet.kind == VERSION_NEGOTIATION:
            return (connection, side) if connection and packet.scid in connection.ids[1 - side] | connection.ids[side] \
                else (None, None)
        if connection is None or self._begins(connection, side, packet, data, length):
            return self._new(packet, src, dst, data, length)
        return connection, side

    def _begins(self, connection, side, packet, data, length):
        """Whether a packet between known endpoints belongs to a new connection there."""
        if packet.kind != INITIAL or packet.dcid in connection.ids[1 - side]:
            return False
        if connection.negotiated and not connection.begun:      # the client tries again in another version
            return False
        return connection.opens(data, length)

    def _new(self, packet, src, dst, data, length):
        """A new connection, and the side that sent this packet; side 0 sent it where the packet doesn't tell."""
        side = SERVER if packet.kind == RETRY else CLIENT
        connection = Connection((src, dst) if side == CLIENT else (dst, src), self._secrets)
        connection.roles = packet.kind in (RETRY, ZERO_RTT) or bool(packet.token)
        self.connections.append(connection)
        return connection, side
