"""Decrypts the packets of a QUIC connection: finds the keys for each stage of it."""

from helpers.protocols.quic import (
    HANDSHAKE,
    INITIAL,
    ONE_RTT,
    ZERO_RTT,
    OneSide,
    initial_protection,
    packets,
    protections,
)

CLIENT, SERVER = 0, 1
LABELS = {(CLIENT, ZERO_RTT): "CLIENT_EARLY_TRAFFIC_SECRET",
          (CLIENT, HANDSHAKE): "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
          (SERVER, HANDSHAKE): "SERVER_HANDSHAKE_TRAFFIC_SECRET",
          (CLIENT, ONE_RTT): "CLIENT_TRAFFIC_SECRET_0", (SERVER, ONE_RTT): "SERVER_TRAFFIC_SECRET_0"}


class Opening:
    """The keys of a connection: of its Initial packets, which anybody can compute, and those that `secrets` holds.

    `hello`: its ClientHello, once it is whole, under whose random number the secrets are kept. `begun`: whether the
    server was seen to answer.
    """

    def __init__(self, secrets):
        self.secrets, self.roles, self.version, self.hello, self.begun = secrets, False, None, None, False
        self.ids, self.id_length = ({}, {}), [0, 0]
        self._initial, self._tried, self._opened, self._first_id = {}, set(), {}, b""

    def _payload(self, side, data, packet):
        """The plaintext of a packet, or None."""
        if packet.kind == INITIAL:
            return self._open_initial(side, data, packet)
        length = 0
        if packet.kind == ONE_RTT:
            sizes = {len(name) for name in self.ids[1 - side] if name and data[1:1 + len(name)] == name}
            length = max(sizes, default=self.id_length[1 - side])
        return self._side(side, packet).open(data, packet, length)

    def _side(self, side, packet):
        """The keys of `side` for this kind of packet."""
        key = side, packet.kind, packet.version
        if key not in self._opened:
            known, label = self.secrets.get(self.hello.random, {}), LABELS.get((side, packet.kind), "")
            secret = known.get(label) or known.get(f"QUIC_{label}") or b""
            self._opened[key] = OneSide(list(protections(secret, packet.version or self.version)))
        return self._opened[key]

    def _open_initial(self, side, data, packet):
        """Initial packets: the keys follow from the ID to which the client wrote first, or to which a Retry sent it."""
        keys = self._initial.get(packet.version)
        if keys and (payload := keys[side].open(data, packet)) is not None:
            self.begun |= side == SERVER
            return payload
        new = packet.version, packet.dcid
        if side == SERVER and self._initial and not keys:       # the server chose another version: RFC 9368
            new = packet.version, self._first_id
        if new in self._tried or len(self._tried) >= 8:
            return None
        self._tried.add(new)
        keys = [OneSide([one]) for one in initial_protection(*new)]
        if (payload := keys[side].open(data, packet)) is None:
            return None
        self._initial[packet.version], self.roles = keys, True
        if side == CLIENT:
            self._first_id = packet.dcid
        return payload

    def opens(self, data: bytes, length: int) -> bool:
        """Whether the datagram begins with an Initial of a client that opens with the connection ID that it names."""
        packet = next(packets(data, length), None)
        if packet is None or packet.kind != INITIAL:
            return False
        client, _ = initial_protection(packet.version, packet.dcid)
        return OneSide([client]).open(data, packet) is not None
