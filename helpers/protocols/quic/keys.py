"""How packets are protected: keys, header protection, packet numbers, key update (RFC 9001 sections 5, 6; RFC 9369)."""

import hmac
from functools import lru_cache

from helpers.protocols.quic.packet_headers import LONG, V1, V2, Packet
from helpers.protocols.tls_keys import expand_label

SALTS = {V1: "38762cf7f55934b34d179ae6a4c80cadccbb7f0a", V2: "0dede3def700a6db819381be6e269dcbf9bd2ed9"}
DRAFT_29_SALT = "afbfec289993d24c9e9786f19c6111e04390a899"     # as far as draft 32; 33 and 34 have that of version 1
RETRY_KEYS = {V1: ("be0c690b9f66575a1d766b54e368c84e", "461599d35d632bf2239825bb"),
              V2: ("8fb4b01b56ac48e260fbcbcead7ccc92", "d86969bc2d7c6d9990efb04a")}
DRAFT_29_RETRY = ("ccce187ed09a09d05728155a6cb96be1", "e54930f97f2136f0530a8c1c")
AES_128, AES_256, CHACHA20 = "AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305"
CIPHERS_OF_LENGTH = {32: (AES_128, CHACHA20), 48: (AES_256,)}   # by the length of the secret, that is, of its hash
KEY_LENGTH = {AES_128: 16, AES_256: 32, CHACHA20: 32}
MOST_UPDATES = 3        # key updates that may have been missed between two packets
TAG = 16


class Protection:
    """The keys that follow from one secret, with one cipher, in one version."""

    def __init__(self, secret: bytes, cipher: str, version: int, mask=None):
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

        self._secret, self._cipher, self._version = secret, cipher, version
        self._prefix = "quicv2 " if version == V2 else "quic "
        key = expand_label(secret, self._prefix + "key", KEY_LENGTH[cipher])
        self._aead = (ChaCha20Poly1305 if cipher == CHACHA20 else AESGCM)(key)
        self._iv = int.from_bytes(expand_label(secret, self._prefix + "iv", 12), "big")
        self.mask = mask or _mask(expand_label(secret, self._prefix + "hp", KEY_LENGTH[cipher]), cipher)

    def __repr__(self) -> str:
        return f"<Protection: {self._cipher}>"

    def decrypt(self, number: int, header: bytes, sealed: bytes) -> bytes | None:
        """The payload of packet `number`, or None where key and packet don't fit (RFC 9001 section 5.3)."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._aead.decrypt((self._iv ^ number).to_bytes(12, "big"), sealed, header)
        except InvalidTag:
            return None

    def updated(self) -> "Protection":
        """The keys after the next key update; header protection stays (RFC 9001 section 6.1)."""
        secret = expand_label(self._secret, self._prefix + "ku", len(self._secret))
        return Protection(secret, self._cipher, self._version, self.mask)


def _mask(key, cipher):
    """The function from a sample of 16 bytes to the 5 bytes that hide header and number (RFC 9001 section 5.4)."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    if cipher == CHACHA20:
        return lambda sample: Cipher(algorithms.ChaCha20(key, sample), None).encryptor().update(bytes(5))
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update


def initial_protection(version: int, dcid: bytes) -> tuple[Protection, Protection]:
    """The keys of client and server for Initial packets, which anybody can compute (RFC 9001 section 5.2).

    `dcid`: the connection ID to which the client sent its first Initial, or to which a Retry sent it.
    """
    salt = SALTS.get(version) or (DRAFT_29_SALT if version & 0xFF < 33 else SALTS[V1])
    secret = hmac.digest(bytes.fromhex(salt), dcid, "sha256")
    client, server = (Protection(expand_label(secret, f"{side} in", 32), AES_128, version)
                      for side in ("client", "server"))
    return client, server


def retry_is_sound(data: bytes, packet: Packet, dcid: bytes) -> bool:
    """Whether the integrity tag of a Retry fits the connection ID `dcid` that the client had used (section 5.8)."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    version = packet.version
    key, nonce = RETRY_KEYS.get(version) or (DRAFT_29_RETRY if version & 0xFF < 33 else RETRY_KEYS[V1])
    try:
        pseudo = bytes([len(dcid)]) + dcid + data[:-TAG]
        AESGCM(bytes.fromhex(key)).decrypt(bytes.fromhex(nonce), data[-TAG:], pseudo)
    except InvalidTag:
        return False
    return True


class OneSide:
    """What one end sends in one packet number space: opens its packets, and keeps track of numbers and key updates.

    `candidates`: the keys one of which fits; the cipher is the one that opens a packet.
    """

    def __init__(self, candidates: list[Protection]):
        self._candidates, self._keys, self._now, self._largest = candidates, None, 0, -1

    @property
    def updates(self) -> int:
        """How many key updates there have been."""
        return self._now

    def open(self, data: bytes, packet: Packet, id_length: int = 0) -> bytes | None:
        """The payload of `packet` of the datagram `data`; None where it can't be opened. `id_length`: of 1-RTT's ID."""
        at = packet.number_at + id_length
        sample = data[at + 4:at + 20]
        if len(sample) < 16 or packet.end > len(data):
            return None
        for protection in [self._keys[self._now]] if self._keys else self._candidates:
            if (payload := self._opened(protection, data, packet, at, sample)) is not None:
                return payload
        return None

    def _opened(self, protection, data, packet, at, sample):
        mask = protection.mask(sample)
        first = data[packet.begin] ^ mask[0] & (0x0F if data[packet.begin] & LONG else 0x1F)
        size = (first & 3) + 1
        hidden = bytes(one ^ other for one, other in zip(data[at:at + size], mask[1:]))
        number = whole_number(int.from_bytes(hidden, "big"), size, self._largest)
        header = bytes([first]) + data[packet.begin + 1:at] + hidden
        phase = 0 if first & LONG else first >> 2 & 1
        for generation, keys in self._generations(protection, phase, bool(first & LONG)):
            payload = keys.decrypt(number, header, data[at + size:packet.end])
            if payload is not None:
                self._keys = self._keys or {0: protection}
                self._keys = {**self._keys, generation: keys}
                self._now, self._largest = max(self._now, generation), max(self._largest, number)
                return payload
        return None

    def _generations(self, protection, phase, long):
        """The keys that may fit, by how many updates made them: now, before, and after updates that were missed."""
        known = self._keys or {0: protection}
        if long:
            yield 0, protection
            return
        if self._now % 2 == phase:
            yield self._now, known[self._now]
        elif self._now - 1 in known:
            yield self._now - 1, known[self._now - 1]
        keys = known[self._now]
        for generation in range(self._now + 1, self._now + MOST_UPDATES + 1):
            keys = keys.updated()
            if generation % 2 == phase:
                yield generation, keys


def whole_number(number: int, size: int, largest: int) -> int:
    """The packet number of which the last `size` bytes are `number`, nearest after `largest` (RFC 9000, A.3)."""
    window = 1 << 8 * size
    expected = largest + 1
    candidate = expected & ~(window - 1) | number
    if candidate <= expected - window // 2 and candidate < (1 << 62) - window:
        return candidate + window
    return candidate - window if candidate > expected + window // 2 and candidate >= window else candidate


@lru_cache(maxsize=256)
def protections(secret: bytes, version: int) -> tuple[Protection, ...]:
    """The keys that may follow from `secret`: its length leaves one cipher or two."""
    return tuple(Protection(secret, cipher, version) for cipher in CIPHERS_OF_LENGTH.get(len(secret), ()))
