"""One experiment, recorded from its first frame to its last socket: runs in namespaces of its own."""

import csv
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from helpers.testbed.clients.chromium import Chromium
from helpers.testbed.clients.firefox import Firefox
from helpers.testbed.clients.replay import Replay
from helpers.testbed.experiments.pages import Experiment, Fetch
from helpers.testbed.hosts import network
from helpers.testbed.servers import caddy, nginx
from helpers.testbed.servers.certificates import NAME, Certificates
from helpers.testbed.servers.page import write_page
from helpers.testbed.witnesses import dumpcap, key_log
from helpers.testbed.witnesses.sampler import PERIOD

WORKSHOP = Path("/run/testbed")
LONGEST_GAP = Experiment.longest_gap
BEFORE, AFTER = 1, 1
STREAMED, SLOWLY = 15_600, 8_000
SOCKET_COLUMNS = ("host", "local", "peer", "state", "first_seen", "last_seen")


class Unclean(Exception):
    """The recording has a hole: a lost frame or a late sample. Worth another try."""


class Timeline(list):
    """What the testbed did and when: `time` (UNIX seconds), `action`."""

    def note(self, action: str) -> None:
        self.append({"time": round(time.time(), 6), "action": action})


def record(experiment: Experiment, folder: Path, say: Callable[[str], None]) -> None:
    """Record `experiment` into `folder`. `say`: called with a word at each step of its progress."""
    network.build()
    prepare_workshop()
    page = write_page(WORKSHOP / "page", experiment.images, STREAMED if experiment.streamed else 0,
                      experiment.anonymous)
    write_page(WORKSHOP / "other", 0)
    certificates = Certificates(WORKSHOP / "certificates") if experiment.encrypted else None
    server, client = _server(experiment, certificates), _client(experiment, certificates)
    timeline, watch = Timeline(), Watch(
        folder, udp=experiment.protocol == "h3", longest_gap=experiment.longest_gap)
    timeline.note("capture started")
    _let_it_happen(experiment, client, timeline, say)
    server.close()
    frames, sampled = watch.close()
    timeline.note("capture stopped")
    if experiment.encrypted:
        key_log.inject(WORKSHOP / "keys", folder / "capture.pcapng")
    write_table(folder / "sockets.csv", SOCKET_COLUMNS, stays(sampled))
    if experiment.protocol == "h3":
        write_table(folder / "udp.csv", SOCKET_COLUMNS, stays(sampled, "udp"))
    write_table(folder / "requests.csv", nginx.REQUEST_COLUMNS, [
        [request[name] for name in nginx.REQUEST_COLUMNS] for request in server.requests()])
    if (log := client.log()) is not None:
        write_json(folder / "browser.json", log)
    write_json(folder / "experiment.json", about(experiment, client, page, sampled, timeline, frames))


class Watch:
    """Looks at the wire, where `host` is, and at the sockets of both hosts, from its making until `close`.

    `udp`: at the sockets of UDP too. `longest_gap`: how many seconds may lie between two samples.
    """

    def __init__(self, folder, host="client", udp=False, longest_gap=LONGEST_GAP):
        self._longest_gap = longest_gap
        self._file = folder / "capture.pcapng"
        self._capture = dumpcap.Dumpcap(self._file, host=host)
        self._samplers = {host: subprocess.Popen(network.on(
            host, sys.executable, "-m", "helpers.testbed.witnesses.sampler", WORKSHOP / f"{host}.json", *["udp"] * udp))
            for host in network.ADDRESSES}

    def close(self) -> tuple[int, dict[str, dict]]:
        """How many frames there were, and by host what was sampled; `Unclean` where there is a hole."""
        sampled = {host: self._result(host) for host in self._samplers}
        frames, lost = self._capture.close()
        self._file.chmod(0o644)
        if lost:
            raise Unclean(f"dumpcap lost {lost} frames")
        for host, result in sampled.items():
            if (gap := result["sampling"]["longest_gap"]) > self._longest_gap:
                raise Unclean(f"the samples on {host} have a gap of {gap:.2f} s")
        return frames, sampled

    def _result(self, host):
        self._samplers[host].terminate()
        if self._samplers[host].wait(10):
            raise OSError(f"the sampler on {host} failed")
        return json.loads((WORKSHOP / f"{host}.json").read_text())


def _server(experiment, certificates):
    """nginx with the page and, on another port, a page that nobody keeps open; Caddy with the page for HTTP/3."""
    page, other = WORKSHOP / "page", (WORKSHOP / "other", 0)
    if experiment.protocol == "h3":
        return caddy.Caddy(WORKSHOP / "caddy", page, experiment.keepalive_timeout, certificates)
    slowly = f"; location = /index.html {{ limit_rate {SLOWLY}; }} keepalive_requests 1000" * experiment.streamed
    more = "".join(f"; {name} {value}" for name, value in experiment.directives)
    served = page, f"{experiment.keepalive_timeout}{slowly}{more}"
    if not certificates:
        return nginx.Nginx(WORKSHOP / "nginx", {80: served, 8080: other})
    return nginx.Nginx(WORKSHOP / "nginx", {443: served, 8443: other}, {
        443: nginx.certified(certificates, experiment.protocol == "h2"), 8443: nginx.certified(certificates)})


def _client(experiment, certificates):
    """The client; one that speaks TLS trusts the testbed's authority and logs its secrets."""
    folder, quic = WORKSHOP / "client", experiment.protocol == "h3"
    if certificates:
        key_log.keep_keys(WORKSHOP / "keys")
    if experiment.client == "replay":
        return Replay(folder)
    if experiment.client == "chromium":
        client, store = Chromium(folder, experiment.incognito, quic=quic), WORKSHOP / "home" / ".pki" / "nssdb"
    else:
        client, store = Firefox(folder, quic), folder / "profile"
    if certificates:
        certificates.trust(store)
    return client


def url(experiment: Experiment, port: int) -> str:
    """Where `port` of the server is, for the clients of `experiment`: by name where there is a certificate."""
    if experiment.encrypted:
        return f"https://{NAME}{'' if port == 443 else f':{port}'}/"
    return f"http://{network.ADDRESSES['server']}{'' if port == 80 else f':{port}'}/"


def _let_it_happen(experiment, client, timeline, say):
    """Start the client, make its visits, wait until the last socket is gone, end the client."""
    client.start()
    timeline.note(f"{client.program} started")
    time.sleep(BEFORE)
    make_visits(experiment, client, timeline, say)
    wait_for_last_socket(timeline[-1]["time"] + experiment.limit)
    timeline.note("last socket gone")
    time.sleep(AFTER)
    client.close()
    timeline.note(f"{client.program} closed")
    time.sleep(AFTER)


def prepare_workshop() -> None:
    """Make the folder, in memory, for all files that aren't kept; it vanishes with the namespaces."""
    for name in ("home", "tmp"):
        (WORKSHOP / name).mkdir(parents=True)
    os.environ.update(HOME=str(WORKSHOP / "home"), TMPDIR=str(WORKSHOP / "tmp"), LANG="C.UTF-8")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"):
        os.environ.pop(name, None)


def make_visits(experiment: Experiment, client: Chromium | Firefox | Replay, timeline: Timeline,
                say: Callable[[str], None]) -> None:
    """Make each visit of `experiment` at its time."""
    begun = time.monotonic()
    for number, visit in enumerate(experiment.visits):
        time.sleep(max(0, begun + visit.at - time.monotonic()))
        address, action = url(experiment, visit.port), "fetch" if isinstance(visit, Fetch) else "visit"
        timeline.note(f"{action} {address}")
        getattr(client, action)(address)
        timeline.note("loaded")
        if number == 0:
            time.sleep(AFTER)
            say("loaded")


def wait_for_last_socket(until: float) -> None:
    """Return when neither host has a socket left; an error at UNIX time `until`."""
    while left := [(host, *row) for host in network.ADDRESSES
                   for row in (*network.sockets(host), *network.udp_sockets(host))]:
        if time.time() > until:
            raise TimeoutError(f"sockets are still there: {left}")
        time.sleep(0.5)


def stays(sampled: dict[str, dict], kind: str = "stays") -> list[tuple]:
    """The rows of `sockets.csv` (`kind` "udp": of `udp.csv`), from what was sampled by host."""
    rows = [(host, *stay) for host, result in sampled.items() for stay in result[kind]]
    rows.sort(key=lambda row: (row[4], row))
    return [(*row[:4], f"{row[4]:.6f}", f"{row[5]:.6f}") for row in rows]


def write_table(file: Path, columns: Iterable[str], rows: Iterable) -> None:
    """Write `rows` under `columns` as CSV."""
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerows([columns, *rows])


def write_json(file: Path, content: object) -> None:
    """Write `content` as JSON that people can read."""
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def about(experiment: Experiment, client: Chromium | Firefox | Replay, page: dict[str, int],
          sampled: dict[str, dict], timeline: Timeline, frames: int) -> dict:
    """What `experiment.json` says of an experiment with nginx."""
    images = {name: size for name, size in page.items() if name.startswith("image")}
    protocol = getattr(experiment, "protocol", "http")
    return {
        "name": experiment.name, "title": experiment.title,
        "article": experiment.article, "about": experiment.about,
        "recorded": datetime.fromtimestamp(timeline[0]["time"], UTC).isoformat(timespec="seconds"),
        "page": {"html_bytes": page["index.html"], "favicon_bytes": page["favicon.ico"],
                 "images": [{"path": f"/{name}", "bytes": size} for name, size in images.items()]},
        "server": _about_server(experiment, protocol),
        "client": {"program": client.program, "start": "warm", "flags": list(client.flags)},
        "addresses": network.ADDRESSES,
        "capture": {"host": "client", "interface": network.INTERFACE, "frames": frames},
        "sampling": {"period": PERIOD, **{host: result["sampling"] for host, result in sampled.items()}},
        "timeline": timeline,
        "kernel": network.kernel_settings(),
        "versions": {
            "kernel": platform.release(),
            **({"caddy": caddy.version()} if protocol == "h3" else {"nginx": nginx.version()}),
            **({client.program: client.version()} if client.version() else {}),
            "dumpcap": dumpcap.version(), "python": platform.python_version(),
            "ss": network.run("client", "ss", "-V").split()[-1].removeprefix("iproute2-")}}


def _about_server(experiment, protocol):
    if protocol == "h3":
        return {"program": "caddy", "protocol": "h3", "name": NAME, "settings": {"idle": experiment.keepalive_timeout},
                "other_ports": {}}
    settings = {"keepalive_timeout": experiment.keepalive_timeout, **dict(getattr(experiment, "directives", ()))}
    tls = {} if protocol == "http" else {"protocol": protocol, "name": NAME, "ssl_protocols": "TLSv1.3"}
    return {"program": "nginx", **tls, "settings": settings,
            "other_ports": {"8443" if tls else "8080": {"images": 0, "keepalive_timeout": 0}}}
