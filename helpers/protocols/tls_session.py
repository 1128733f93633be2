"""What both ends of a TLS connection said, where its secrets are known: `read_session(client, server, secrets)`.

The plaintext comes as `ByteStream`s, so that what reads TCP's reads these too. A byte counts as arrived when its whole
record has: nobody can read it before. Behind records that were not captured the stream has a gap so wide that no
message reaches over it; reading goes on where the number of those missed can be found: a record proves by its tag which
number it has.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

from helpers.protocols import tls
from helpers.protocols.bytestream import ByteStream, Pieces
from helpers.protocols.tls_keys import CIPHERS, TLS_1_2, TLS_1_3, Keys13, cipher_name, keys_of_1_2

UNKNOWN_LENGTH = 1 << 40    # how wide a gap in the plaintext is made
MOST_TRIES = 4096           # to open records with other numbers, in all of a direction
EARLY, HANDSHAKE, TRAFFIC = "EARLY_TRAFFIC_SECRET", "HANDSHAKE_TRAFFIC_SECRET", "TRAFFIC_SECRET_0"


@dataclass
class Session:
    """What could be read of a TLS connection.

    `hellos`; `alpn`: the protocol that was chosen, None where none was, or it can't be told; `early_data`: whether the
    server accepted early data, None where it can't be told; `unread`: why the plaintext can't be read, or None; `plain`:
    the plaintext of the client (0) and the server (1); `alerts`: (time, 0 or 1, name) of each one that could be read.
    """

    hellos: tls.Hellos
    alpn: str | None = None
    early_data: bool | None = None
    unread: str | None = None
    plain: dict = field(default_factory=dict)
    alerts: list = field(default_factory=list)


def read_session(client: ByteStream | None, server: ByteStream | None, secrets: Mapping) -> Session:
    """The `Session` of a connection whose client and server sent these; `secrets`: client random -> label -> secret."""
    hellos = tls.read_hellos(client, server)
    session = Session(hellos, hellos.server.alpn if hellos.server else None)
    known = secrets.get(hellos.client.random) if hellos.client else None
    session.unread = _why_unread(hellos, known)
    if session.unread:
        return session
    sides = [_Side(stream, _epochs(hellos, known, name), session, side) if stream else None
             for side, (stream, name) in enumerate(((client, "CLIENT_"), (server, "SERVER_")))]
    for side in sides[::-1]:
        if side:
            side.read()
    if hellos.client.early_data and session.early_data is None and sides[1] and sides[1].opened:
        session.early_data = False
    for side, other in zip(sides, sides[::-1]):
        if side and side.begin:
            session.plain[side.number] = side.plaintext(other)
    session.alerts.sort(key=lambda alert: alert[0])
    return session


def _why_unread(hellos: tls.Hellos, known: Mapping | None) -> str | None:
    """Why nothing can be read; None where it can."""
    if hellos.client is None or hellos.server is None:
        return "the handshake was not captured"
    version = hellos.server.version
    if version not in (TLS_1_2, TLS_1_3):
        return f"TLS version {tls.VERSION_NAMES.get(version, hex(version))} is not read"
    if hellos.server.cipher not in CIPHERS:
        return f"cipher {cipher_name(hellos.server.cipher)} is not read"
    return None if known else "no keys"


def _epochs(hellos: tls.Hellos, known: Mapping, name: str) -> list:
    """The keys that one end uses, one after the other: (label, keys)."""
    cipher = CIPHERS[hellos.server.cipher]
    if hellos.server.version == TLS_1_2:
        master = known.get("CLIENT_RANDOM")
        both = keys_of_1_2(cipher, master, hellos.client.random, hellos.server.random) if master else ()
        return [(TRAFFIC, both[name == "SERVER_"])] if both else []
    labels = (EARLY, HANDSHAKE, TRAFFIC) if name == "CLIENT_" and hellos.client.early_data else (HANDSHAKE, TRAFFIC)
    return [(label, Keys13(cipher, known[name + label])) for label in labels if name + label in known]


class _Side:
    """What one end sent, record by record: opened with the keys of its `epochs`, the number of each record found."""

    def __init__(self, stream: ByteStream, epochs: list, session: Session, number: int):
        self.stream, self.epochs, self.session, self.number = stream, epochs, session, number
        self.new_style = session.hellos.server.version == TLS_1_3
        self.epoch, self.next, self.fresh, self.missed, self.tries = 0, 0, True, (0, 0), MOST_TRIES
        self.encrypted, self.opened, self.gap, self.lost, self.held = False, False, False, False, bytearray()
        self.parts, self.size, self.at = [], 0, 1
        self.begin, self.end, self.place, self.length, self.time, self.ack, self.wire = [], [], [], [], [], [], []

    def read(self) -> None:
        """Read all records."""
        for record in tls.records(self.stream):
            self.missed = tuple(map(sum, zip(self.missed, record.missed)))
            if record.kind == tls.CHANGE_CIPHER_SPEC:
                self.encrypted |= not self.new_style
                self.missed = self.missed if self.new_style else (0, 0)
            elif self.new_style and record.kind != tls.APPLICATION_DATA or not (self.new_style or self.encrypted):
                if record.kind == tls.ALERT:
                    self._alert(record.body, record.time)
            else:
                self._read_sealed(record)

    def _read_sealed(self, record: tls.Record) -> None:
        """Read one record that is encrypted."""
        content = self._open(record)
        if content is None:
            self.missed = self.missed[0] + 1, self.missed[1] + 1
            self.gap |= bool(self.epochs) and self.epochs[self.epoch][0] != HANDSHAKE
            return
        kind, data = content
        self.opened = True
        if kind == tls.APPLICATION_DATA:
            self._add(data, record)
        elif kind == tls.HANDSHAKE and self.new_style:
            self._handshake(data)
        elif kind == tls.ALERT:
            self._alert(data, record.time)

    def _open(self, record: tls.Record) -> tuple[int, bytes] | None:
        """(content type, content) of a record; None where no key opens it."""
        for epoch, number, keys in self._candidates():
            content = keys.open(number, record.head, record.body)
            if content is not None:
                label = self.epochs[epoch][0]
                self.gap |= (epoch == self.epoch and number != self.next and label != HANDSHAKE)
                self.epochs[epoch] = label, keys
                self.epoch, self.next, self.fresh, self.missed = epoch, number + 1, False, (0, 0)
                return content
            self.tries -= 1
            if self.tries < 0:
                return None
        return None

    def _candidates(self):
        """Yield (epoch, number, keys) of what a record may be, the likely first."""
        if self.epoch >= len(self.epochs):
            return
        label, keys = self.epochs[self.epoch]
        yield self.epoch, self.next + self.missed[0], keys
        for epoch in range(self.epoch + 1, len(self.epochs)):
            yield epoch, 0, self.epochs[epoch][1]
        for number in range(self.next + self.missed[0] + 1, self.next + self.missed[1] + 1):
            yield self.epoch, number, keys
        if self.missed != (0, 0):
            if self.fresh:
                yield self.epoch, 0, keys
            later = [*self.epochs[self.epoch + 1:], (label, keys.next())] if self.new_style else []
            for place, (_, following) in enumerate(later):
                for number in range(self.missed[1] + 1):
                    yield min(self.epoch + 1 + place, len(self.epochs) - 1), number, following

    def _handshake(self, data: bytes) -> None:
        """Follow the messages of the handshake: which keys come next, and what the server says of itself."""
        self.held += data
        used = 0
        for kind, body in tls.handshake_messages(bytes(self.held)):
            used += 4 + len(body)
            if kind in (tls.FINISHED, tls.END_OF_EARLY_DATA) and self.epoch + 1 < len(self.epochs):
                self.epoch, self.next, self.fresh = self.epoch + 1, 0, True
            elif kind == tls.KEY_UPDATE and self.epochs[self.epoch][0] == TRAFFIC:
                self.epochs[self.epoch] = TRAFFIC, self.epochs[self.epoch][1].next()
                self.next, self.fresh = 0, True
            elif kind == tls.ENCRYPTED_EXTENSIONS and self.number:
                self._encrypted_extensions(body)
        del self.held[:used]
        if len(self.held) > tls.LONGEST_MESSAGE:
            self.held.clear()

    def _encrypted_extensions(self, body: bytes) -> None:
        try:
            self.session.alpn, self.session.early_data = tls.read_encrypted_extensions(body)
        except ValueError:
            return

    def _alert(self, data: bytes, time: float) -> None:
        if len(data) == 2:
            self.session.alerts.append((time, self.number, tls.ALERTS.get(data[1], f"alert {data[1]}")))

    def _add(self, data: bytes, record: tls.Record) -> None:
        """Add the plaintext of a record, but early data that the server has not accepted."""
        if not data or self.epochs[self.epoch][0] == EARLY and not self.session.early_data:
            return
        if self.gap and self.epochs[self.epoch][0] != EARLY:
            self.at += UNKNOWN_LENGTH
        for column, value in ((self.begin, self.at), (self.end, self.at + len(data)), (self.place, self.size),
                              (self.length, len(data)), (self.time, record.time), (self.ack, record.ack),
                              (self.wire, record.end)):
            column.append(value)
        self.lost, self.gap = self.lost or self.gap, False
        self.parts.append(data)
        self.size += len(data)
        self.at += len(data)

    def plaintext(self, other: "_Side | None") -> ByteStream:
        """All plaintext as a stream; what its pieces acknowledge is counted in the plaintext of the `other` end."""
        acks = [1] * len(self.ack)
        if other and other.wire:
            places = (bisect_right(other.wire, ack) for ack in self.ack)
            acks = [other.end[place - 1] if place else 1 for place in places]
        fin = self.stream.fin and not self.lost and not self.gap and (self.stream.fin[0], self.at) or None
        return ByteStream(memoryview(b"".join(self.parts)), Pieces(self.begin, self.end, self.place, self.length, acks,
                          self.time), 0, len(self.begin), 1 if self.begin[0] == 1 else None, fin)
