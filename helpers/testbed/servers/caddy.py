"""Caddy as the server of HTTP/3: nginx of Debian has none."""

import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from helpers.testbed.hosts import network
from helpers.testbed.servers.certificates import NAME, Certificates
from helpers.testbed.servers.nginx import REQUEST_COLUMNS

CONFIGURATION = """\
{{
    admin off
    auto_https disable_redirects
    servers {{
        protocols {protocols}
        timeouts {{
            idle {idle}s
        }}
    }}
}}
{sites}
"""
SITE = """\
https://{name}:{port} {{
    tls {certificates.chain} {certificates.key} {{
        protocols {oldest} {newest}
    }}
    root * {root}
    file_server
    log {{
        output file {folder}/access.log
    }}
}}
"""


class Caddy:
    """Caddy on the host `server`, which serves the folder `root`; started at once.

    `idle`: seconds after which it closes an idle connection. `ports`: the version of TLS on each, as nginx names it
    (None: 1.2 or 1.3). `protocols`: of HTTP, in Caddy's words.
    """

    def __init__(self, folder: Path, root: Path, idle: float, certificates: Certificates,
                 ports: Mapping[int, str | None] = MappingProxyType({443: None}),
                 protocols: str = "h1 h2 h3"):
        self.folder = folder
        folder.mkdir()
        file = folder / "Caddyfile"
        sites = (SITE.format(name=NAME, port=port, folder=folder, root=root, certificates=certificates,
                             **_versions(only)) for port, only in ports.items())
        file.write_text(CONFIGURATION.format(idle=idle, protocols=protocols, sites="".join(sites)))
        self._process = subprocess.Popen(
            network.on("server", "caddy", "run", "--config", file), stderr=(folder / "error.log").open("w"),
            env={**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)})
        until = time.monotonic() + 10
        kind = "-Hunl" if "h3" in protocols else "-Htnl"
        while not all(network.run("server", "ss", kind, f"sport = :{port}") for port in ports):
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


def _versions(only):
    """The oldest and the newest version of TLS, in Caddy's words; `only`: in nginx's, such as `TLSv1.2`."""
    name = only and only.lower().replace("v", "")
    return {"oldest": name or "tls1.2", "newest": name or "tls1.3"}


def _request(line):
    asked = line["request"]
    known = {"time": f"{line['ts']:.3f}", "client_port": asked["remote_port"], "status": line["status"],
             "request": f"{asked['method']} {asked['uri']} {asked['proto']}", "body_bytes_sent": line["size"]}
    return {**dict.fromkeys(REQUEST_COLUMNS, ""), **known}


def version() -> str:
    """Caddy's version, such as `2.6.2`."""
    return subprocess.run(["caddy", "version"], capture_output=True, text=True).stdout.split()[0].removeprefix("v")
