"""The programs that people write: small clients in Python, Node, Go, Java and a shell, and wrk; how each is started."""

import os
import re
import select
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path

from helpers.testbed.hosts import network
from helpers.testbed.hosts.programs import search_path

HERE = Path(__file__).resolve().parent
NEEDS = {"python": (), "node": ("node",), "go": ("go",), "java": ("javac",), "curl": ("curl",), "wrk": ("wrk",)}
MODULES = ("requests", "httpx", "h2", "aiohttp")
SAYS_VERSION = {"node": ("node", "--version"), "go": ("go", "version"), "java": ("java", "-version"),
                "curl": ("curl", "--version"), "wrk": ("wrk", "--version"),
                "undici": ("node", "--print", "process.versions.undici")}
PATIENCE = 120
WRK_SECONDS = 2      # it ends after these, and not before, even when its threads have stopped


@dataclass(frozen=True)
class Client:
    """A client in one of its ways: `language` names the program, `way` the line that makes the difference.

    `library`: what speaks HTTP in it, as a package is named. `path`: what it asks for. `stays`: whether the program
    is still there, idle, when it has its answers. `findings`: what a diagnosis of its recording must find.
    """

    name: str
    title: str
    language: str
    way: str
    library: str
    protocol: str = "http/1.1"
    path: str = "/"
    stays: bool = True
    findings: str = ""

    def version(self) -> str:
        """The version of what speaks HTTP: its own, or that of the language which brings it; such as `2.34.2`."""
        if self.library in MODULES:
            return installed(self.library)
        if self.language == "python":
            return sys.version.split()[0]
        command = SAYS_VERSION.get(self.library) or SAYS_VERSION[self.language]
        said = subprocess.run(command, capture_output=True, text=True, env=_environment())
        return re.search(r"\d+\.\d+[.\d]*", said.stdout + said.stderr)[0]


class Running:
    """`client`, started on the host `client`: `workers` ask `url` `times` times each.

    `keys`: the file to which it writes its TLS secrets, and `authority` the certificate it trusts, if it needs them.
    """

    def __init__(self, client: Client, folder: Path, url: str, workers: int, times: int, authority: Path | None = None,
                 keys: Path | None = None):
        self.client = client
        command = _command(client, folder, url, workers, times, keys)
        more = {"SSL_CERT_FILE": authority, "NODE_EXTRA_CA_CERTS": authority, "SSLKEYLOGFILE": keys}
        self._process = subprocess.Popen(
            network.on("client", *command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=_environment() | {name: str(value) for name, value in more.items() if value})

    def wait(self) -> None:
        """Return when it has all its answers. Raises `OSError` where it fails."""
        if not self.client.stays:
            return self.close()
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        if not ready or self._process.stdout.readline() != b"done\n":
            self._process.kill()
            raise OSError(f"{self.client.name}: {self._process.communicate()[1].decode().strip()[-500:]}")
        return None

    def close(self) -> None:
        """End it, as a program ends: it returns from its main function, or exits."""
        errors = self._process.communicate(timeout=PATIENCE)[1]
        if self._process.returncode:
            raise OSError(f"{self.client.name}: {errors.decode().strip()[-500:]}")


def prepare(folder: Path, languages: set[str]) -> None:
    """Build what must be built before it runs: Go's program, and Java's, in `folder`."""
    builds = {"go": ("go", "build", "-o", folder / "go_client", HERE / "go_client.go"),
              "java": ("javac", "-d", folder, HERE / "JavaClient.java")}
    for language in sorted(languages & builds.keys()):
        done = subprocess.run(builds[language], capture_output=True, text=True, env=_environment())
        if done.returncode:
            raise OSError(f"{language}: {done.stderr.strip()}")


def _command(client, folder, url, workers, times, keys):
    asks = (url, workers, times)
    return {
        "python": (sys.executable, HERE / "python_client.py", client.way, *asks),
        "node": ("node", *([f"--tls-keylog={keys}"] if keys else []), HERE / "node_client.mjs", client.way, *asks),
        "go": (folder / "go_client", client.way, *asks),
        "java": ("java", "-cp", folder, "JavaClient", *asks),
        "curl": ("bash", HERE / "curl_client.sh", client.way, *asks),
        "wrk": ("wrk", "--threads", 1, "--connections", workers, "--duration", WRK_SECONDS,
                "--script", HERE / "wrk_client.lua", url, "--", workers * times)}[client.language]


def _environment():
    return {**os.environ, "PATH": search_path(), "GO111MODULE": "off", "GOFLAGS": "", "GOTOOLCHAIN": "local"}
