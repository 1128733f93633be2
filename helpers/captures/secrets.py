"""The secrets of TLS connections, from a key log (`SSLKEYLOGFILE`) or a file's own Decryption Secrets Blocks.

They are kept to read with, and shown nowhere: neither `repr` nor an error holds a byte of them.
"""

import re
from collections.abc import Iterator, Mapping

KEY_LOG_LINE = re.compile(
    rb"(?m)^[ \t]*([A-Z][A-Z0-9_]{0,63})[ \t]+([0-9A-Fa-f]{64})[ \t]+((?:[0-9A-Fa-f]{2}){16,64})[ \t\r]*$")


class Labels(Mapping):
    """The secrets of one connection: label, as in a key log -> secret. Shown as their number alone."""

    def __init__(self, secrets: Mapping[str, bytes]):
        self._secrets = dict(secrets)

    def __getitem__(self, label: str) -> bytes:
        return self._secrets[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self._secrets)

    def __len__(self) -> int:
        return len(self._secrets)

    def __repr__(self) -> str:
        return f"<{len(self)} secrets>"


class Secrets(Mapping):
    """The secrets of many connections: client random (32 bytes) -> `Labels`. Shown as their number alone."""

    def __init__(self, connections: Mapping[bytes, Labels] = {}):
        self._connections = dict(connections)

    def __getitem__(self, random: bytes) -> Labels:
        return self._connections[random]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._connections)

    def __len__(self) -> int:
        return len(self._connections)

    def __repr__(self) -> str:
        return f"<keys of {len(self)} connections>"

    def __or__(self, other: "Secrets") -> "Secrets":
        """Both together; where both know a secret, the other one's."""
        if not other or not self:
            return other or self
        both = {random: Labels({**self.get(random, {}), **other[random]}) for random in other}
        return Secrets({**self._connections, **both})


def read_key_log(data: bytes) -> Secrets:
    """The secrets in the text of a key log; lines of any other kind count for nothing.

    Source: draft-ietf-tls-keylogfile; each line: label, client random, secret, the last two in hexadecimal digits.
    """
    found = {}
    for label, random, secret in KEY_LOG_LINE.findall(data):
        found.setdefault(bytes.fromhex(random.decode()), {})[label.decode()] = bytes.fromhex(secret.decode())
    return Secrets({random: Labels(secrets) for random, secrets in found.items()})
