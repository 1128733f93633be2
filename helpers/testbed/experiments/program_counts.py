"""The programs that people write: their connections, who closes them, where TIME_WAIT stays: `clients.csv`."""

import resource
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from helpers.captures import read_capture
from helpers.connections import HOSTS, connections
from helpers.testbed.clients import programs
from helpers.testbed.experiments.client_rows import Client, Counts
from helpers.testbed.experiments.program_idle import url, write_texts
from helpers.testbed.hosts import network
from helpers.testbed.running.load import Busy
from helpers.testbed.running.recording import AFTER, WORKSHOP, Unclean, prepare_workshop, write_json
from helpers.testbed.running.side_by_side import kernels
from helpers.testbed.servers import nginx
from helpers.testbed.servers.certificates import Certificates
from helpers.testbed.witnesses import dumpcap

FIRST_PORT = 8001
HEADERS, BUFFER = 128, 16
LONG = 1000        # or nginx would close what was never used after 60 s, the end of the idle minute
PERIOD = 1
AT_WORK = 1        # seconds after the last answer in which a pool may still close what it has no room for
COLUMNS = ("client", "library", "version", "protocol", "repeat", "workers", "requests", "connections", "never_used",
           "closed_at_work", "closed_idle", "open", "closed_by_client", "closed_by_server", "closed_by_both", "resets",
           "time_wait_client", "time_wait_server", "ss_client", "ss_server", "idle_seconds")


class Run:
    """One repeat of one `client`, on a `port` of its own: when it had its answers (`done`) and was told to end."""

    def __init__(self, client: Client, repeat: int, port: int):
        self.client, self.repeat, self.port = client, repeat, port
        self.done = self.ended = 0.0
        self.trouble = None

    def work(self, task: Counts, certificates: Certificates | None, listing: "Listing") -> None:
        """Let the program ask; then see to it that it ends after so many idle seconds, which others may use."""
        authority = certificates.authority if self.client.protocol == "h2" else None
        running = programs.Running(self.client, WORKSHOP, url(self.client.protocol, self.port, self.client.path),
                                   task.workers, task.times, authority)
        running.wait()
        self.done = time.time()
        self._end = threading.Timer(task.seconds if self.client.stays else AT_WORK, self._finish, (running, listing))
        self._end.start()

    def _finish(self, running, listing):
        try:
            listing.look()
            self.ended = time.time()
            if self.client.stays:
                running.close()
        except Exception as trouble:
            self.trouble = trouble

    def wait(self) -> None:
        """Return when the program has ended; raises what went wrong there."""
        self._end.join()
        if self.trouble:
            raise self.trouble


class Listing(threading.Thread):
    """Which (client, server) `ss` listed in TIME_WAIT at each host, and when first (`seen`), looking once a second."""

    def __init__(self):
        super().__init__(daemon=True)
        self.seen, self._ended = {host: {} for host in HOSTS}, threading.Event()

    def run(self) -> None:
        while not self._ended.wait(PERIOD):
            self.look()

    def look(self) -> None:
        """Look now."""
        for host in HOSTS:
            said = network.run(host, "ss", "-Htna", "state", "time-wait")
            now = time.time()
            for line in said.splitlines():
                local, peer = line.split()[2:4]
                self.seen[host].setdefault((local, peer) if host == "client" else (peer, local), now)

    def close(self) -> None:
        self._ended.set()
        self.join()


def record(task: Counts, folder: Path, say: Callable[[str], None]) -> None:
    """Write `<name>.csv` into `folder`, a row for each run, and `<name>.json`, what held for all of them."""
    begun = datetime.now(UTC)
    runs = [Run(client, repeat, FIRST_PORT + nth) for nth, (repeat, client) in enumerate(
        (repeat, client) for repeat in range(1, task.repeats + 1) for client in task.clients)]
    server, certificates = _serve(task, runs)
    capture, listing = dumpcap.Dumpcap(WORKSHOP / "capture.pcapng", snaplen=HEADERS, buffer=BUFFER), Listing()
    listing.start()
    for number, run in enumerate(runs, 1):
        run.work(task, certificates, listing)
        say(f"{number}/{len(runs)} {run.client.name}")
    for run in runs:
        run.wait()
    time.sleep(AFTER)
    listing.close()
    lost = capture.close()[1]
    server.close()
    if lost:
        raise Unclean(f"dumpcap lost {lost} frames")
    table(runs, task, server.requests(), listing.seen).to_csv(
        folder / f"{task.name}.csv", index=False, lineterminator="\n")
    write_json(folder / f"{task.name}.json", about(task, begun))


def _serve(task, runs):
    """nginx with a port for each of `runs`, and room for all their idle connections."""
    network.build()
    prepare_workshop()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    encrypted = [run.port for run in runs if run.client.protocol == "h2"]
    certificates = Certificates(WORKSHOP / "certificates") if encrypted else None
    programs.prepare(WORKSHOP, {client.language for client in task.clients})
    texts, timeouts = write_texts(WORKSHOP / "root"), f"{task.keepalive_timeout}; client_header_timeout {LONG}"
    server = Busy(WORKSHOP / "nginx", {run.port: (texts, timeouts) for run in runs}, {
        port: nginx.certified(certificates, http2=True) for port in encrypted})
    return server, certificates


def table(runs: list[Run], task: Counts, log: list[dict], seen: dict[str, dict]) -> pd.DataFrame:
    """One row per run: `COLUMNS`. `log`: the server's; `seen`: when each host's `ss` first listed a TIME_WAIT."""
    capture = read_capture(WORKSHOP / "capture.pcapng")
    rows, requests = connections(capture), pd.DataFrame(log)
    rows["closed"] += capture.start.value / 1e9
    rows["port"] = rows["server"].str.rsplit(":", n=1).str[1].astype(int)
    requests["server_port"] = requests["server_port"].astype(int)
    versions = {client.name: client.version() for client in task.clients}
    found = [{"client": run.client.name, "library": run.client.library, "version": versions[run.client.name],
              "protocol": run.client.protocol, "repeat": run.repeat, "workers": task.workers,
              **_counts(run, rows[rows["port"] == run.port], requests[requests["server_port"] == run.port], seen)}
             for run in runs]
    wrong = [row for row in found if row["requests"] < task.workers * task.times]
    if wrong:
        raise Unclean(f"requests without an answer: {wrong[:3]}")
    return pd.DataFrame(found, columns=COLUMNS).sort_values(
        "client", kind="stable", key=lambda names: names.map([client.name for client in task.clients].index))


def _counts(run, rows, requests, seen):
    """What is counted of the connections `rows` of `run`, whose `requests` the server logged."""
    used = rows["client"].str.rsplit(":", n=1).str[1].isin(requests["client_port"])
    closed = rows[rows["closed"] <= run.ended]
    idle = closed[closed["closed"] > run.done + AT_WORK]
    counts = {"requests": (requests["status"] == "200").sum(), "connections": len(rows), "never_used": (~used).sum(),
              "closed_at_work": len(closed) - len(idle), "closed_idle": len(idle), "open": len(rows) - len(closed),
              **{f"closed_by_{who}": (closed["closer"] == who).sum() for who in (*HOSTS, "both")},
              "resets": (closed["ending"] == "reset").sum()}
    sockets = set(zip(rows["client"], rows["server"]))
    for host in HOSTS:
        counts[f"time_wait_{host}"] = closed["time_wait"].isin([host, "both"]).sum()
    for host in HOSTS:
        counts[f"ss_{host}"] = sum(seen[host].get(ends, run.ended + 1) <= run.ended for ends in sockets)
    return counts | {"idle_seconds": round((idle["closed"] - run.done).median(), 1) if len(idle) else None}


def about(task: Counts, begun: datetime) -> dict:
    """What `<name>.json` says."""
    return {"name": task.name, "title": task.title, "recorded": begun.isoformat(timespec="seconds"),
            "workers": task.workers, "requests_each": task.times, "repeats": task.repeats, "idle": task.seconds,
            "server": {"program": "nginx", "settings": {
                "keepalive_timeout": task.keepalive_timeout, "client_header_timeout": LONG}}, **kernels(),
            "versions": {"nginx": nginx.version(), "dumpcap": dumpcap.version(),
                         **{client.library: client.version() for client in task.clients}}}
