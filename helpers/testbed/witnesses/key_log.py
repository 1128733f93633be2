"""The key log: the secrets of the connections that the clients made, put into the capture that needs them."""

import os
import struct
from pathlib import Path

SECTION, SECRETS = 0x0A0D0D0A, 0x0000000A
TLS_KEY_LOG = 0x544C534B


def keep_keys(log: Path) -> None:
    """Let every client that is started from now on write its secrets into the file `log`."""
    os.environ["SSLKEYLOGFILE"] = str(log)


def inject(log: Path, capture: Path) -> None:
    """Put the secrets of `log` behind the first block of `capture`, as a Decryption Secrets Block (pcapng, 4.7).

    Nothing else there changes; `editcap --inject-secrets` would drop the statistics, which say that no frame was lost.
    Raises `OSError` where there are no secrets.
    """
    secrets = log.read_bytes() if log.exists() else b""
    if not secrets:
        raise OSError("the client wrote no key log")
    content = capture.read_bytes()
    kind, length = struct.unpack_from("=II", content)
    if kind != SECTION:
        raise OSError(f"{capture.name} is no pcapng file")
    padded = secrets + bytes(-len(secrets) % 4)
    total = 20 + len(padded)
    block = struct.pack("=IIII", SECRETS, total, TLS_KEY_LOG, len(secrets)) + padded + struct.pack("=I", total)
    capture.write_bytes(content[:length] + block + content[length:])
