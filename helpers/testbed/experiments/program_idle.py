"""Records one program that people write: its requests, and what it does when the server closes idle connections."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from helpers.testbed.clients import programs
from helpers.testbed.experiments.client_rows import Idle
from helpers.testbed.hosts import network
from helpers.testbed.running import recording
from helpers.testbed.servers import nginx
from helpers.testbed.servers.certificates import NAME, Certificates
from helpers.testbed.servers.python_servers import BODY
from helpers.testbed.witnesses import key_log

LARGE = 20
PAGE = {"index.html": len(BODY), "favicon.ico": 0}


def record(task: Idle, folder: Path, say: Callable[[str], None]) -> None:
    """Record `task` into `folder`, from the first frame to the last socket."""
    network.build()
    recording.prepare_workshop()
    place, client = recording.WORKSHOP, task.client
    certificates = Certificates(place / "certificates") if client.protocol == "h2" else None
    server = serve(place, task.keepalive_timeout, certificates)
    programs.prepare(place, {client.language})
    timeline, watch = recording.Timeline(), recording.Watch(folder)
    timeline.note("capture started")
    time.sleep(recording.BEFORE)
    ask(task, certificates, timeline, say)
    recording.wait_for_last_socket(timeline[-1]["time"] + task.limit)
    timeline.note("last socket gone")
    time.sleep(recording.AFTER)
    server.close()
    frames, sampled = watch.close()
    timeline.note("capture stopped")
    if certificates:
        key_log.inject(place / "keys", folder / "capture.pcapng")
    _write(task, folder, server, sampled, timeline, frames)


def serve(place: Path, timeout: float, certificates: Certificates | None = None) -> nginx.Nginx:
    """nginx with the texts, on port 80, or over TLS on 443."""
    port = 443 if certificates else 80
    return nginx.Nginx(place / "nginx", {port: (write_texts(place / "root"), timeout)},
                       {port: nginx.certified(certificates, http2=True)} if certificates else None)


def write_texts(root: Path) -> Path:
    """The folder `root`, made, with a text of 1,000 bytes, and a `/large` one of 20,000."""
    root.mkdir()
    (root / "index.html").write_bytes(BODY)
    (root / "large").write_bytes(BODY * LARGE)
    return root


def url(protocol: str, port: int, path: str) -> str:
    """Where `port` of the server is; by name where there is a certificate."""
    begin = f"https://{NAME}" if protocol == "h2" else f"http://{network.ADDRESSES['server']}"
    return f"{begin}{'' if port in (80, 443) else f':{port}'}{path}"


def ask(task: Idle, certificates: Certificates | None, timeline: recording.Timeline,
        say: Callable[[str], None]) -> None:
    """Start the program, let it ask and be idle, and end it."""
    client, place = task.client, recording.WORKSHOP
    address = url(client.protocol, 443 if certificates else 80, client.path)
    timeline.note(f"visit {address}")
    running = programs.Running(client, place, address, task.workers, task.times,
                               *((certificates.authority, place / "keys") if certificates else ()))
    running.wait()
    timeline.note("loaded")
    say("loaded")
    if client.stays:
        time.sleep(task.seconds)
        timeline.note("the program is told to end")
        running.close()
    timeline.note("the program has ended")


def _write(task, folder, server, sampled, timeline, frames):
    recording.write_table(folder / "sockets.csv", recording.SOCKET_COLUMNS, recording.stays(sampled))
    recording.write_table(folder / "requests.csv", nginx.REQUEST_COLUMNS, [
        [request[name] for name in nginx.REQUEST_COLUMNS] for request in server.requests()])
    client = task.client
    program = SimpleNamespace(program=client.library, flags=(), version=client.version)
    about = recording.about(task, program, PAGE, sampled, timeline, frames)
    about["client"] = {"program": client.library, "language": client.language, "way": client.way, "start": "cold",
                       "flags": [], "workers": task.workers, "requests_each": task.times}
    about["server"]["other_ports"] = {}
    recording.write_json(folder / "experiment.json", about | {"findings": client.findings.split()})
