"""What both ends of a TLS connection said, where its secrets are known: `read_session(client, server, secrets)`.

The plaintext comes as objects of `ByteStream`, so that what reads TCP's reads these too. A byte counts as arrived when
its whole record has: nobody can read it before. Behind records that were not captured the stream has a gap that no
message reaches over. Reading goes on where the number of the missing records can be found: a record proves by its tag
which number it has.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from helpers.protocols import tls
from helpers.protocols.bytestream import ByteStream, Pieces
from helpers.protocols.tls_keys import CIPHERS, TLS_1_2, TLS_1_3, Keys13, cipher_name, keys_of_1_2

UNKNOWN_LENGTH = 1 << 40    # how wide a gap in the plaintext is made
MOST_TRIES = 1024           # to open records with other numbers, in all of a direction
EARLY, HANDSHAKE, TRAFFIC = "EARLY_TRAFFIC_SECRET", "HANDSHAKE_TRAFFIC_SECRET", "TRAFFIC_SECRET_0"


@dataclass
class Session:
    """What could be read of a TLS connection.

    `hellos`; `alpn`: the protocol that was chosen, None where none was, or it can't be told; `early_data`: whether the
    server accepted early data, None where it can't be told; `unread`: why nothing can be read, or None; `plain`: the
    plaintext of the client (0) and the server (1); `alerts`: (time, 0 or 1, name) of each one that could be read.
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
    session.unread = _why_not_opened(sides)
    if hellos.client.early_data and session.early_data is None and sides[1] and sides[1].opened:
        session.early_data = False
    for side, other in zip(sides, sides[::-1]):
        if side and side.plain.parts:
            fin = None if side.gap else side.stream.fin
            session.plain[side.number] = side.plain.stream(fin, other and other.plain)
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


def _why_not_opened(sides: list) -> str | None:
    """Why no record could be opened; None where one was, or none came."""
    if any(side and side.opened for side in sides) or not any(side and side.sealed for side in sides):
        return None
    return "the keys don't fit" if any(side and side.epochs for side in sides) else "no keys"


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
        self.encrypted, self.opened, self.sealed, self.gap = False, False, False, False
        self.messages, self.plain = tls.Messages(), _Plain()

    def read(self) -> None:
        """Read all records. Early data that were accepted and can't be read are missing before all others."""
        if not self.number and self.session.early_data and self.epochs and self.epochs[0][0] != EARLY:
            self.plain.at, self.plain.lost = UNKNOWN_LENGTH, True
        for record in tls.records(self.stream):
            self.missed = tuple(map(sum, zip(self.missed, record.missed)))
            if record.kind == tls.CHANGE_CIPHER_SPEC:
                self.encrypted |= not self.new_style
                self.missed = self.missed if self.new_style else (0, 0)
            elif record.kind != tls.APPLICATION_DATA if self.new_style else not self.encrypted:
                if record.kind == tls.ALERT:
                    self._alert(record.body, record.time)
            else:
                self._read_sealed(record)

    def _read_sealed(self, record: tls.Record) -> None:
        """Read one record that is encrypted."""
        self.sealed = True
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
                label, known = self.epochs[epoch]
                self.gap |= epoch == self.epoch and label != HANDSHAKE and (number != self.next or keys is not known)
                self.gap &= bool(number or self.plain.parts)
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
        for kind, body in self.messages.add(data):
            if kind in (tls.FINISHED, tls.END_OF_EARLY_DATA) and self.epoch + 1 < len(self.epochs):
                self.epoch, self.next, self.fresh = self.epoch + 1, 0, True
            elif kind == tls.KEY_UPDATE and self.epochs[self.epoch][0] == TRAFFIC:
                self.epochs[self.epoch] = TRAFFIC, self.epochs[self.epoch][1].next()
                self.next, self.fresh = 0, True
            elif kind == tls.ENCRYPTED_EXTENSIONS and self.number:
                self._encrypted_extensions(body)

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
        early = self.epochs[self.epoch][0] == EARLY
        if data and not (early and not self.session.early_data):
            self.plain.add(data, record, self.gap and not early)
            self.gap &= early


class _Plain:
    """The plaintext of one end, a piece for each record; `lost`: whether there is a gap in it."""

    def __init__(self):
        self.parts, self.size, self.at, self.lost, self.wire = [], 0, 1, False, []
        self.pieces = Pieces([], [], [], [], [], [])

    def add(self, data: bytes, record: tls.Record, gap: bool) -> None:
        """Add what a record holds; `gap`: whether something was lost before it."""
        self.lost |= gap
        self.at += UNKNOWN_LENGTH * gap
        values = (self.at, self.at + len(data), self.size, len(data), record.ack, record.time)
        for name, value in zip(Pieces.__slots__, values):
            getattr(self.pieces, name).append(value)
        self.wire.append(record.end)
        self.parts.append(data)
        self.size += len(data)
        self.at += len(data)

    def stream(self, fin: tuple | None, peer: "_Plain | None") -> ByteStream:
        """All of it as a stream; what its pieces acknowledge is counted in the plaintext of the `peer`."""
        places = [bisect_right(peer.wire, ack) if peer else 0 for ack in self.pieces.ack]
        pieces = replace(self.pieces, ack=[peer.pieces.end[place - 1] if place else 1 for place in places])
        first = 1 if pieces.seq[0] == 1 else None
        return ByteStream(memoryview(b"".join(self.parts)), pieces, 0, len(places), first,
                          (fin[0], self.at) if fin and not self.lost else None)
