"""From the secrets of a TLS connection to its plaintext: traffic keys and records (RFC 8446, RFC 5246, RFC 7905).

`cryptography` does the ciphers; it is imported when a record is opened for the first time.
"""

import hmac
from functools import cache, cached_property
from typing import Any, NamedTuple

TAG = 16            # bytes that authenticate a record
TLS_1_2, TLS_1_3 = 0x0303, 0x0304


class Cipher(NamedTuple):
    """A cipher suite that can be read: `name`, as IANA lists it; `kind` (`gcm`, `chacha`); key length; hash."""

    name: str
    kind: str
    key_length: int
    hash_name: str


def _suites():
    gcm = {
        0x009C: "RSA_WITH_AES_128", 0x009D: "RSA_WITH_AES_256", 0x009E: "DHE_RSA_WITH_AES_128",
        0x009F: "DHE_RSA_WITH_AES_256", 0x00A8: "PSK_WITH_AES_128", 0x00A9: "PSK_WITH_AES_256",
        0x00AA: "DHE_PSK_WITH_AES_128", 0x00AB: "DHE_PSK_WITH_AES_256", 0xC02B: "ECDHE_ECDSA_WITH_AES_128",
        0xC02C: "ECDHE_ECDSA_WITH_AES_256", 0xC02F: "ECDHE_RSA_WITH_AES_128", 0xC030: "ECDHE_RSA_WITH_AES_256"}
    found = {0x1301: Cipher("TLS_AES_128_GCM_SHA256", "gcm", 16, "sha256"),
             0x1302: Cipher("TLS_AES_256_GCM_SHA384", "gcm", 32, "sha384"),
             0x1303: Cipher("TLS_CHACHA20_POLY1305_SHA256", "chacha", 32, "sha256")}
    for number, name in gcm.items():
        length, hash_name = (16, "sha256") if name.endswith("128") else (32, "sha384")
        found[number] = Cipher(f"TLS_{name}_GCM_{hash_name.upper()}", "gcm", length, hash_name)
    for number, name in {0xCCA8: "ECDHE_RSA", 0xCCA9: "ECDHE_ECDSA", 0xCCAA: "DHE_RSA", 0xCCAB: "PSK",
                         0xCCAC: "ECDHE_PSK", 0xCCAD: "DHE_PSK"}.items():
        found[number] = Cipher(f"TLS_{name}_WITH_CHACHA20_POLY1305_SHA256", "chacha", 32, "sha256")
    return found


CIPHERS = _suites()
OTHER_CIPHERS = {           # what is met now and then, and not read
    0x1304: "TLS_AES_128_CCM_SHA256", 0x1305: "TLS_AES_128_CCM_8_SHA256", 0x000A: "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    0x002F: "TLS_RSA_WITH_AES_128_CBC_SHA", 0x0035: "TLS_RSA_WITH_AES_256_CBC_SHA",
    0x003C: "TLS_RSA_WITH_AES_128_CBC_SHA256", 0x003D: "TLS_RSA_WITH_AES_256_CBC_SHA256",
    0x0033: "TLS_DHE_RSA_WITH_AES_128_CBC_SHA", 0x0039: "TLS_DHE_RSA_WITH_AES_256_CBC_SHA",
    0x0067: "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256", 0x006B: "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256",
    0xC009: "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", 0xC00A: "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    0xC013: "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", 0xC014: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    0xC023: "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", 0xC024: "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384",
    0xC027: "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", 0xC028: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384",
    0xC09C: "TLS_RSA_WITH_AES_128_CCM", 0xC09E: "TLS_DHE_RSA_WITH_AES_128_CCM",
    0xC0AC: "TLS_ECDHE_ECDSA_WITH_AES_128_CCM", 0xC0AE: "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8"}


def cipher_name(suite: int) -> str:
    """The name of a cipher suite, as IANA lists it; its number (`0x1306`) where it is not known here."""
    return CIPHERS[suite].name if suite in CIPHERS else OTHER_CIPHERS.get(suite, f"0x{suite:04x}")


def expand_label(secret: bytes, label: str, length: int) -> bytes:
    """HKDF-Expand-Label without context (RFC 8446 section 7.1): `length` bytes; `secret` is as long as its hash."""
    name = b"tls13 " + label.encode()
    info = length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0"
    block, blocks, hash_name = b"", b"", "sha384" if len(secret) == 48 else "sha256"
    while len(blocks) < length:
        block = hmac.digest(secret, block + info + bytes([len(blocks) // len(block) + 1 if block else 1]), hash_name)
        blocks += block
    return blocks[:length]


def prf(secret: bytes, label: bytes, seed: bytes, length: int, hash_name: str) -> bytes:
    """The pseudorandom function of TLS 1.2 (RFC 5246 section 5): `length` bytes."""
    seed = label + seed
    link, output = seed, b""
    while len(output) < length:
        link = hmac.digest(secret, link, hash_name)
        output += hmac.digest(secret, link + seed, hash_name)
    return output[:length]


def aead(cipher: Cipher, key: bytes) -> Any:
    """The cipher with its key, as an object of `cryptography`: `decrypt(nonce, data, associated_data)`."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
    return AESGCM(key) if cipher.kind == "gcm" else ChaCha20Poly1305(key)


@cache
def _invalid_tag() -> type:
    """What `cryptography` raises where key and data don't fit; imported once, when it is first needed."""
    from cryptography.exceptions import InvalidTag
    return InvalidTag


class Keys:
    """The traffic keys of one direction: `open` gives what a record holds, None where it isn't theirs."""

    def __init__(self, cipher: Cipher, key: bytes, iv: bytes):
        self.cipher, self._key, self.iv = cipher, key, iv

    def __repr__(self) -> str:
        return f"<keys for {self.cipher.name}>"

    @cached_property
    def _aead(self):
        return aead(self.cipher, self._key)

    @cached_property
    def _iv(self) -> int:
        return int.from_bytes(self.iv, "big")

    def _decrypt(self, nonce: bytes, data: bytes, head: bytes) -> bytes | None:
        try:
            return self._aead.decrypt(nonce, data, head)
        except _invalid_tag():
            return None

    def _nonce(self, number: int) -> bytes:
        return (self._iv ^ number).to_bytes(len(self.iv), "big")


class Keys13(Keys):
    """Those of TLS 1.3, from a traffic secret (RFC 8446 sections 5.2, 5.3 and 7.3)."""

    def __init__(self, cipher: Cipher, secret: bytes):
        super().__init__(cipher, expand_label(secret, "key", cipher.key_length),
                         expand_label(secret, "iv", 12))
        self._secret = secret

    def next(self) -> "Keys13":
        """The keys after a KeyUpdate (section 7.2)."""
        cipher = self.cipher
        return Keys13(cipher, expand_label(self._secret, "traffic upd", len(self._secret)))

    def open(self, number: int, head: bytes, body: bytes) -> tuple[int, bytes] | None:
        """(content type, content) of record `number` under these keys; `head`: its 5 bytes, `body`: what follows."""
        content = self._decrypt(self._nonce(number), body, head) if len(body) > TAG else None
        if content is None or not (content := content.rstrip(b"\0") if content[-1:] == b"\0" else content):
            return None
        return content[-1], content[:-1]


class Keys12(Keys):
    """Those of TLS 1.2, from the master secret (RFC 5246 section 6.3, RFC 5288, RFC 7905)."""

    def open(self, number: int, head: bytes, body: bytes) -> tuple[int, bytes] | None:
        """The same as `Keys13.open`."""
        explicit = 8 if self.cipher.kind == "gcm" else 0
        length = len(body) - explicit - TAG
        if length < 0:
            return None
        nonce = self.iv + body[:explicit] if explicit else self._nonce(number)
        associated = number.to_bytes(8, "big") + head[:3] + length.to_bytes(2, "big")
        content = self._decrypt(nonce, body[explicit:], associated)
        return None if content is None else (head[0], content)


def keys_of_1_2(cipher: Cipher, master: bytes, client_random: bytes, server_random: bytes) -> tuple[Keys12, Keys12]:
    """The keys of the client and of the server."""
    size, iv = cipher.key_length, 4 if cipher.kind == "gcm" else 12
    block = prf(master, b"key expansion", server_random + client_random, 2 * (size + iv), cipher.hash_name)
    ivs = block[2 * size:]
    return (Keys12(cipher, block[:size], ivs[:iv]), Keys12(cipher, block[size:2 * size], ivs[iv:]))
