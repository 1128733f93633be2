"""Caddy as the server of HTTP/3: nginx of Debian has none."""

import json
import os
import subprocess
import time
from pathlib import Path

from helpers.testbed.hosts import network
from helpers.testbed.servers.certificates import NAME, Certificates
from helpers.testbed.servers.nginx import REQUEST_COLUMNS

CONFIGURATION = """\
{{
    admin off
    auto_https disable_redirects
    servers {{
        protocols h1 h2 h3
        timeouts {{
            idle {idle}s
        }}
    }}
}}
https://{name} {{
    tls {certificates.chain} {certificates.key}
    root * {root}
    file_server
    log {{
        output file {folder}/access.log
    }}
}}
"""


class Caddy:
    """Caddy on port 443 of the host `server`, which serves the folder `root`; started at once.

    `idle`: seconds after which it closes an idle connection.
    """

    def __init__(self, folder: Path, root: Path, idle: float, certificates: Certificates):
        self.folder = folder
        folder.mkdir()
        file = folder / "Caddyfile"
        file.write_text(CONFIGURATION.format(
            name=NAME, folder=folder, root=root, idle=idle, certificates=certificates))
        self._process = subprocess.Popen(
            network.on("server", "caddy", "run", "--config", file), stderr=(folder / "error.log").open("w"),
            env={**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)})
        until = time.monotonic() + 10
        while not network.run("server", "ss", "-Hunl", "sport = :443"):
            if self._process.poll() is not None or time.monotonic() > until:
                raise OSError(f"Caddy doesn't start: {(folder / 'error.log').read_text().strip()[-300:]}")
            time.sleep(0.05)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    def requests(self) -> list[dict]:
        """Its own account, as `Nginx.requests` gives it; it numbers neither connections nor requests."""
        lines = (self.folder / "access.log").read_text(encoding="utf-8").splitlines()
        return [_request(json.loads(line)) for line in lines]


def _request(line):
    asked = line["request"]
    known = {"time": f"{line['ts']:.3f}", "client_port": asked["remote_port"], "status": line["status"],
             "request": f"{asked['method']} {asked['uri']} {asked['proto']}", "body_bytes_sent": line["size"]}
    return {**dict.fromkeys(REQUEST_COLUMNS, ""), **known}


def version() -> str:
    """Caddy's version, such as `2.6.2`."""
    return subprocess.run(["caddy", "version"], capture_output=True, text=True).stdout.split()[0].removeprefix("v")
