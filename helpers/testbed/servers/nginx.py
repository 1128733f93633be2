"""nginx as the server: real, one process, with a generated configuration."""

import csv
import subprocess
import time

from helpers.testbed.hosts import network
from helpers.testbed.servers.certificates import Certificates

REQUEST_COLUMNS = (
    "time", "client_port", "connection", "nth", "request", "status", "bytes_sent", "body_bytes_sent")
CONFIGURATION = """\
user root;
daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{ worker_connections {connections}; }}
http {{
    types {{ text/html html; image/png png; image/x-icon ico; }}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    log_format requests '$msec,$remote_port,$connection,$connection_requests,"$request",$status,'
                        '$bytes_sent,$body_bytes_sent,$server_port';
    access_log {folder}/access.log requests;
{servers}
}}
"""
SERVER = "    server {{ listen {port}{tls}; root {root}; keepalive_timeout {keepalive_timeout}; }}"
CERTIFIED = " ssl{http2}; ssl_protocols {versions}; ssl_certificate {files.chain}; ssl_certificate_key {files.key}"


class Nginx:
    """nginx on the host `server`, started at once.

    `sites`: by port, the folder served there and its `keepalive_timeout` in seconds. `tls`: what follows the port
    in `listen`, by port, where it isn't plain HTTP (see `certified`).
    """

    host = "server"
    connections = 1024

    def __init__(self, folder, sites, tls=None):
        self.folder, self._tls = folder, tls or {}
        folder.mkdir()
        (folder / "nginx.conf").write_text(CONFIGURATION.format(
            folder=folder, connections=self.connections, servers=self._blocks(sites)))
        with (folder / "error.log").open("w") as errors:
            self._process = subprocess.Popen(
                network.on(self.host, "nginx", "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf"),
                stderr=errors)
        self._wait_until_listening(len(sites))

    def _blocks(self, sites):
        return "\n".join(SERVER.format(port=port, tls=self._tls.get(port, ""), root=root, keepalive_timeout=timeout)
                         for port, (root, timeout) in sites.items())

    def _wait_until_listening(self, ports, patience=10):
        until = time.monotonic() + patience
        while len(network.run(self.host, "ss", "-Htln").splitlines()) < ports:
            if self._process.poll() is not None or time.monotonic() > until:
                raise OSError(f"nginx doesn't start: {(self.folder / 'error.log').read_text().strip()}")
            time.sleep(0.05)

    def terminate(self) -> None:
        self._process.terminate()

    def close(self) -> None:
        self.terminate()
        self._process.wait(10)

    def requests(self) -> list[dict]:
        """nginx's own account: a dict per request, with `REQUEST_COLUMNS` and `server_port`, all as text."""
        with (self.folder / "access.log").open(newline="") as file:
            return list(csv.DictReader(file, (*REQUEST_COLUMNS, "server_port")))


def certified(certificates: Certificates, http2: bool = False, versions: str = "TLSv1.3") -> str:
    """What makes a port one of TLS, with `certificates`; `versions`: as `ssl_protocols` takes them."""
    return CERTIFIED.format(http2=" http2" * http2, versions=versions, files=certificates)


def version() -> str:
    """nginx's version, such as `1.22.1`."""
    return subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr.split("/")[1].strip()
