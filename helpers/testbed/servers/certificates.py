"""The testbed's own certificate authority: its server has a name and a certificate, and clients trust both."""

import subprocess
from pathlib import Path

from helpers.testbed.hosts import network
from helpers.testbed.hosts.programs import Unable

NAME = "www.example.test"
AUTHORITY = "the testbed's authority"


class Certificates:
    """In `folder`: the authority (`authority.pem`), and the server's `chain.pem` and `key.pem` for `NAME`.

    From then on `NAME` is the server's address, for every program of the calling process's mount namespace.
    """

    def __init__(self, folder: Path):
        folder.mkdir()
        self.authority, self.chain, self.key = (folder / f"{name}.pem" for name in ("authority", "chain", "key"))
        authority = _trustme().CA()
        issued = authority.issue_cert(NAME)
        authority.cert_pem.write_to_path(self.authority)
        issued.private_key_pem.write_to_path(self.key)
        self.chain.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        names = folder / "hosts"
        names.write_text(f"127.0.0.1 localhost\n{network.ADDRESSES['server']} {NAME}\n")
        _run("mount", "--bind", names, "/etc/hosts")

    def trust(self, store: Path) -> None:
        """Put the authority into `store`, a folder of certificates as NSS keeps it: Chromium's or Firefox's."""
        store.mkdir(parents=True, exist_ok=True)
        _run("certutil", "-N", "-d", f"sql:{store}", "--empty-password")
        _run("certutil", "-A", "-d", f"sql:{store}", "-n", AUTHORITY, "-t", "C,,", "-i", self.authority)


def _trustme():
    try:
        import trustme
    except ImportError:
        raise Unable("the package trustme is missing: pip install 'trustme>=1.2'") from None
    return trustme


def _run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
