"""Records a patient of the clinic from the first frame to the last socket: a program that serves, one that asks."""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from helpers.testbed.experiments.clinic_account import AUTHORITY
from helpers.testbed.experiments.clinic_nginx import Encrypted, Sidecar
from helpers.testbed.experiments.patients import Patient
from helpers.testbed.hosts import network
from helpers.testbed.hosts.box import Box
from helpers.testbed.hosts.wire import Wire
from helpers.testbed.running import recording
from helpers.testbed.servers.certificates import NAME, Certificates
from helpers.testbed.witnesses import dumpcap, key_log
from helpers.testbed.witnesses.sampler import PERIOD

NGINX = "nginx "
KEYS = recording.WORKSHOP / "keys"
SETTLED = 4        # seconds in which the server may finish what it is doing
PROGRAMS = "helpers.testbed.experiments.clinic_programs"


def record(patient: Patient, folder: Path, say: Callable[[str], None]) -> None:
    """Record `patient` into `folder`."""
    network.build(_wire(patient))
    recording.prepare_workshop()
    if patient.kernel:
        network.set_kernel("client", dict(patient.kernel))
    proxy = Sidecar(recording.WORKSHOP / "proxy") if patient.proxy else None
    if patient.encrypted:
        Certificates(AUTHORITY.parent)
        key_log.keep_keys(KEYS)
    server, timeline, watch = start(patient.server), recording.Timeline(), recording.Watch(folder)
    timeline.note("capture started")
    time.sleep(recording.BEFORE)
    say("loaded")
    timeline.note(f"client: {patient.client}")
    said = ask(patient, timeline)
    timeline.note("client ended")
    end(patient, proxy, server, timeline)
    frames, sampled = watch.close()
    timeline.note("capture stopped")
    if patient.encrypted:
        key_log.inject(KEYS, folder / "capture.pcapng")
    recording.write_table(folder / "sockets.csv", recording.SOCKET_COLUMNS, recording.stays(sampled))
    more = {"proxy": proxy.said()} if proxy else {}
    recording.write_json(folder / "experiment.json", about(patient, timeline, frames, sampled, said) | more)


def end(patient: Patient, proxy: Sidecar | None, server: subprocess.Popen | Encrypted,
        timeline: recording.Timeline) -> None:
    """End the proxy, where there is one, then the server, and wait for the last socket, where the patient says so."""
    time.sleep(SETTLED)
    if proxy:
        proxy.close()
        timeline.note("proxy ended")
        time.sleep(recording.AFTER)
    server.terminate()
    timeline.note("server ended")
    if patient.limit:
        recording.wait_for_last_socket(time.time() + patient.limit)
        timeline.note("last socket gone")
    time.sleep(recording.AFTER)


def start(kind: str) -> subprocess.Popen | Encrypted:
    """The server, of `clinic_servers` or nginx with so many `keepalive_requests`, started and ready."""
    if kind.startswith(NGINX):
        return Encrypted(recording.WORKSHOP / "nginx", kind.removeprefix(NGINX))
    command = network.on("server", sys.executable, "-m", PROGRAMS, "serve", *kind.split())
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    if not server.stdout.readline():
        raise OSError(f"the server {kind} doesn't start")
    return server


def ask(patient: Patient, timeline: recording.Timeline) -> dict[str, int]:
    """What the client's program said at its end: how often it had which answer or error."""
    client = subprocess.Popen([sys.executable, "-m", PROGRAMS, "ask", *patient.client.split()],
                              stdout=subprocess.PIPE, text=True)
    if patient.forget_after:
        time.sleep(patient.forget_after)
        forget()
        timeline.note("the way forgets")
    if patient.vanish_after:
        time.sleep(patient.vanish_after)
        network.run("server", "ip", "address", "flush", "dev", network.INTERFACE)
        timeline.note("the server's host has no address any more")
    said = client.communicate(timeout=120)[0]
    if client.returncode:
        raise OSError(f"the client {patient.client} failed")
    return json.loads(said)


def forget() -> None:
    """From now on the server's host drops, in silence, what comes from the client's ports in use."""
    ports = {local.rpartition(":")[2] for local, _, _ in network.sockets("client")}
    network.run("server", "ip", "rule", "add", "pref", "100", "lookup", "local")
    network.run("server", "ip", "rule", "del", "pref", "0")
    for port in sorted(ports):
        network.run("server", "ip", "rule", "add", "pref", "10", "iif", network.INTERFACE, "ipproto", "tcp",
                    "sport", port, "blackhole")


def about(patient: Patient, timeline: recording.Timeline, frames: int, sampled: dict, said: dict) -> dict:
    """What `experiment.json` says."""
    return {
        "name": patient.name, "title": patient.title, "article": patient.article, "about": patient.about,
        "recorded": datetime.fromtimestamp(timeline[0]["time"], UTC).isoformat(timespec="seconds"),
        "server": _server(patient),
        "client": {"program": f"Python: {patient.client}", "start": "cold", "flags": []},
        "findings": patient.findings.split(), "said": said, "addresses": network.ADDRESSES,
        "witnesses": _witnesses(patient),
        "capture": {"host": "client", "interface": network.INTERFACE, "frames": frames},
        "sampling": {"period": PERIOD, **{host: result["sampling"] for host, result in sampled.items()}},
        "timeline": timeline, "kernel": network.kernel_settings(),
        "versions": {"kernel": platform.release(), "python": platform.python_version(), "dumpcap": dumpcap.version(),
                     "ss": network.run("client", "ss", "-V").split()[-1].removeprefix("iproute2-")}}


def _witnesses(patient):
    """The hosts whose kernel saw the packets as they were captured.

    What the way swallows the server's never sees, and the client's FIN waits behind the data that it repeats: there the
    last socket is not waited for. Over a wire with a length the server sees all a little sooner or later.
    """
    if not patient.limit:
        return []
    return ["client"] if patient.delay else ["client", "server"]


def _server(patient):
    python = "" if patient.server.startswith(NGINX) else "Python: "
    about = {"program": f"{python}{patient.server}", "settings": {}, "other_ports": {}}
    tls = {"protocol": "https" if python else "h2", "name": NAME, "ssl_protocols": "TLSv1.3"}
    return about | tls if patient.encrypted else about


def _wire(patient):
    """What lays the wire, as `network.build` takes it; None: a cable."""
    if not patient.delay:
        return None
    return Wire(patient.delay, *([Box(patient.box, patient.resets)] if patient.box else [])).lay
