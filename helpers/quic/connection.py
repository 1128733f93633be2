"""One QUIC connection, built up from its datagrams, one after the other."""

from helpers.protocols.quic import (
    HANDSHAKE,
    INITIAL,
    ONE_RTT,
    RETRY,
    VERSION_NEGOTIATION,
    Close,
    Crypto,
    NewId,
    Received,
    Reset,
    Stream,
    frames,
    packets,
    read_client_hello,
    read_encrypted_extensions,
    retry_is_sound,
)
from helpers.quic.opening import CLIENT, SERVER, Opening

LONGEST_HANDSHAKE = 1 << 16     # bytes of CRYPTO that are kept
MOST_WAITING = 200              # packets kept until the ClientHello is whole
SHORTEST_RESET = 21             # bytes: RFC 9000 section 10.3


class Connection(Opening):
    """What is known of one connection.

    Side 0 is the client; where `roles` isn't set, it is the end that was seen to send first. `ids`: the connection IDs
    of each side. `streams`: by side and number, of what could be decrypted. `marks`: (time, frame, side, what).
    """

    def __init__(self, ends: tuple, secrets):
        super().__init__(secrets)
        self.ends = ends
        self.first = self.last = self.closed = self.closed_by = self.ending = self.error = None
        self.datagrams, self.sizes, self.unread = 0, [0, 0], 0
        self.new_ids, self.alpn = [], None
        self.client_is_done = self.negotiated = False
        self.streams, self.marks, self._crypto, self._tokens = {}, [], {}, (set(), set())
        self._waiting = []

    def take(self, time: float, frame: int, side: int, data: bytes, length: int) -> None:
        """Read a datagram that `side` sent; `length`: of its payload on the wire."""
        self.first = time if self.first is None else self.first
        self.last, self.datagrams = time, self.datagrams + 1
        self.sizes[side] += length
        for packet in packets(data, length):
            self._know(packet, side)
            self._read(time, frame, side, data, packet)

    def _know(self, packet, side):
        """Note the connection IDs and the version in a header, and which end sent it where the packet shows it."""
        if packet.kind == VERSION_NEGOTIATION:
            return
        if packet.kind == ONE_RTT:
            self.client_is_done |= side == CLIENT
            return
        for end, name in ((side, packet.scid), (1 - side, packet.dcid)):
            if name not in self.ids[end]:
                self.ids[end][name] = None
                self.new_ids.append((name, end))
        if not (packet.kind == RETRY or (self.version is not None and side == CLIENT)):
            self.version = packet.version
        self.id_length[side] = len(packet.scid)

    def _read(self, time, frame, side, data, packet):
        if packet.kind == RETRY:
            self._retry(time, frame, data, packet)
        elif packet.kind == VERSION_NEGOTIATION:
            self.negotiated = not self.begun
            self.marks.append((time, frame, side, VERSION_NEGOTIATION))
        elif packet.kind != INITIAL and self.hello is None:
            if len(self.secrets) and len(self._waiting) < MOST_WAITING:
                self._waiting.append((time, frame, side, data, packet))
        elif (payload := self._payload(side, data, packet)) is not None:
            self._frames(time, frame, side, packet.kind, payload)
        else:
            self.unread += 1
            self._maybe_reset(time, frame, side, data, packet)

    def _retry(self, time, frame, data, packet):
        """A Retry counts where its integrity tag says that it answers the client's Initial."""
        if any(retry_is_sound(data, packet, name) for name in list(self.ids[SERVER])[:4]):
            self._initial.clear()
            self.marks.append((time, frame, SERVER, RETRY))

    def _frames(self, time, frame, side, kind, payload):
        grown = False
        try:
            for found in frames(payload):
                if isinstance(found, Stream):
                    stream = self.streams.setdefault((side, found.stream), Received())
                    stream.put(found.offset, found.data, time, found.fin)
                elif isinstance(found, Crypto):
                    crypto = self._crypto.setdefault((side, kind), Received(LONGEST_HANDSHAKE))
                    grown |= crypto.put(found.offset, found.data, time)
                else:
                    self._other(time, frame, side, found)
        except ValueError:
            self.unread += 1
        if grown and len(self._crypto[side, kind].data) <= 2 * LONGEST_HANDSHAKE:
            self._handshake(side, kind)

    def _other(self, time, frame, side, found):
        if isinstance(found, Close):
            self.marks.append((time, frame, side, "CONNECTION_CLOSE"))
            self._end(time, side, "close", found.error)
        elif isinstance(found, NewId):
            self.ids[side][found.id] = None
            self.new_ids.append((found.id, side))
            self._tokens[side].add(found.token)
        elif isinstance(found, Reset):
            self.streams.setdefault((side, found.stream), Received()).reset = time

    def _end(self, time, side, ending, error=None):
        if self.closed is None:
            self.closed, self.closed_by, self.ending, self.error = time, side, ending, error

    def _handshake(self, side, kind):
        """Read the ClientHello, and what the server chose, as soon as they are whole."""
        data = self._crypto[side, kind].data
        if side == CLIENT and kind == INITIAL and self.hello is None:
            self.hello = read_client_hello(bytes(data))
            waiting, self._waiting = (self._waiting, []) if self.hello else ([], self._waiting)
            for packet in waiting:
                self._read(*packet)
        elif side == SERVER and kind == HANDSHAKE and (found := read_encrypted_extensions(bytes(data))):
            self.alpn = found.alpn
            self._tokens[SERVER].update([found.reset_token] if found.reset_token else [])

    def _maybe_reset(self, time, frame, side, data, packet):
        """A stateless reset ends with a token that its sender had given before (RFC 9000 section 10.3)."""
        alone = packet.kind == ONE_RTT and packet.begin == 0 and len(data) >= SHORTEST_RESET
        if alone and data[-16:] in self._tokens[side]:
            self.marks.append((time, frame, side, "stateless reset"))
            self._end(time, side, "reset")

    @property
    def protocol(self) -> str | None:
        """The protocol chosen; the only one offered, where the client went on: else it must end (RFC 9001, 8.1)."""
        if self.alpn:
            return self.alpn
        return self.hello.alpn[0] if self.hello and len(self.hello.alpn) == 1 and self.client_is_done else None
