"""`Connection: close` over TLS: curl asks nginx and Caddy, over TLS 1.2 and 1.3, and each connection ends at once."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

from helpers.testbed.experiments.regimes import version
from helpers.testbed.hosts import network
from helpers.testbed.running import recording
from helpers.testbed.servers import caddy, nginx
from helpers.testbed.servers.certificates import NAME, Certificates
from helpers.testbed.servers.page import write_page
from helpers.testbed.witnesses import key_log

NGINX, CADDY = {443: "TLSv1.3", 8443: "TLSv1.2"}, {444: "TLSv1.3", 8444: "TLSv1.2"}
FLAGS = ("--http1.1", "--header", "Connection: close")
KEEPALIVE_TIMEOUT = 65


@dataclass(frozen=True)
class HttpsClose:
    """curl asks each server `times` times with each version of TLS, in turn; `limit`: as of `Experiment`."""

    name: str
    title: str
    article: str
    about: str
    times: int
    limit: float = 150
    protocol: ClassVar = "https"
    keepalive_timeout: ClassVar = KEEPALIVE_TIMEOUT
    programs: ClassVar = {"curl", "caddy", "certutil"}
    recorder: ClassVar = "helpers.testbed.experiments.https_close"


HTTPS_CLOSE = HttpsClose(
    "https-close", "HTTPS with Connection: close, nginx and Caddy, TLS 1.2 and 1.3",
    "Short connections, experiment 2: each request has a connection of its own",
    "curl asks for a page 40 times of each of four ports, with Connection: close: nginx with TLS 1.3 on port 443 and "
    "TLS 1.2 on 8443, Caddy with TLS 1.3 on 444 and TLS 1.2 on 8444.", 40)


def record(task: HttpsClose, folder: Path, say: Callable[[str], None]) -> None:
    """Record `task` into `folder`, from the first frame to the last socket."""
    network.build()
    recording.prepare_workshop()
    place = recording.WORKSHOP
    page, certificates = write_page(place / "page", 0), Certificates(place / "certificates")
    servers = _servers(place, certificates)
    key_log.keep_keys(place / "keys")
    timeline, watch = recording.Timeline(), recording.Watch(folder)
    timeline.note("capture started")
    for number in range(task.times):
        for port in (*NGINX, *CADDY):
            timeline.note(f"visit {_url(port)}")
            _ask(port, certificates)
        if number == 0:
            say("loaded")
    recording.wait_for_last_socket(timeline[-1]["time"] + task.limit)
    timeline.note("last socket gone")
    time.sleep(recording.AFTER)
    for server in servers:
        server.close()
    frames, sampled = watch.close()
    timeline.note("capture stopped")
    key_log.inject(place / "keys", folder / "capture.pcapng")
    _write(task, folder, page, servers, sampled, timeline, frames)


def _servers(place, certificates):
    sites = dict.fromkeys(NGINX, (place / "page", KEEPALIVE_TIMEOUT))
    tls = {port: nginx.certified(certificates, versions=versions) for port, versions in NGINX.items()}
    return (nginx.Nginx(place / "nginx", sites, tls),
            caddy.Caddy(place / "caddy", place / "page", KEEPALIVE_TIMEOUT, certificates, CADDY, "h1"))


def _url(port):
    return f"https://{NAME}{'' if port == 443 else f':{port}'}/"


def _ask(port, certificates):
    command = network.on("client", "curl", "--silent", "--show-error", "--fail", "--output", "/dev/null",
                         "--cacert", certificates.authority, *FLAGS, _url(port))
    subprocess.run([str(word) for word in command], check=True, timeout=30)


def _write(task, folder, page, servers, sampled, timeline, frames):
    recording.write_table(folder / "sockets.csv", recording.SOCKET_COLUMNS, recording.stays(sampled))
    requests = sorted((request for server in servers for request in server.requests()), key=lambda it: it["time"])
    recording.write_table(folder / "requests.csv", nginx.REQUEST_COLUMNS, [
        [request[name] for name in nginx.REQUEST_COLUMNS] for request in requests])
    client = SimpleNamespace(program="curl", flags=FLAGS, version=lambda: version("curl"))
    about = recording.about(task, client, page, sampled, timeline, frames)
    about["server"] = {
        "program": "nginx and caddy", "protocol": "https", "name": NAME,
        "settings": {"keepalive_timeout": KEEPALIVE_TIMEOUT}, "other_ports": {},
        "ports": {str(port): {"program": program, "ssl_protocols": versions}
                  for program, ports in (("nginx", NGINX), ("caddy", CADDY)) for port, versions in ports.items()}}
    about["client"]["start"] = "cold"
    about["versions"]["caddy"] = caddy.version()
    recording.write_json(folder / "experiment.json", about)
