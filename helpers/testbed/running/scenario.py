"""Runs an experiment: sets up hosts, kernels and witnesses, lets the client act, and writes down all that was seen."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from helpers.testbed.experiments.lifetimes import Lifetime
from helpers.testbed.hosts import network
from helpers.testbed.running import recording
from helpers.testbed.servers import nginx
from helpers.testbed.servers.page import write_page
from helpers.testbed.witnesses import dumpcap

PATIENCE = 1
OTHER = {"client": "server", "server": "client"}
SOCKETS = SimpleNamespace(program="python", flags=(), version=lambda: None)


class Pages:
    """nginx with a page without images, which closes an idle connection after `patience` seconds."""

    program = "nginx"

    def __init__(self, patience=PATIENCE):
        folder = recording.WORKSHOP
        self.settings = {"keepalive_timeout": patience}
        self.page = write_page(folder / "page", 0)
        self._nginx = nginx.Nginx(folder / "nginx", {80: (folder / "page", patience)})

    def close(self) -> None:
        self._nginx.close()

    def write_account(self, folder: Path) -> None:
        """Write what the server says of its requests into `folder`."""
        recording.write_table(folder / "requests.csv", nginx.REQUEST_COLUMNS, [
            [request[name] for name in nginx.REQUEST_COLUMNS] for request in self._nginx.requests()])


def play(task: Lifetime, folder: Path, scene: Callable[[recording.Timeline], None],
         make_server: Callable[[], object] = Pages, connect: Callable[[], None] | None = None,
         client: object = SOCKETS) -> None:
    """Record `task` into `folder`: `scene(timeline)` is what the client does; then wait until every socket is gone.

    `make_server`: starts the server. `connect`: lays the wire (None: a cable). `client`: who the client is.
    Where the wire has a length, packets are captured at both ends.
    """
    network.build(connect)
    recording.prepare_workshop()
    for host, settings in task.kernel.items():
        network.set_kernel(host, settings)
    server, timeline = make_server(), recording.Timeline()
    elsewhere = _Elsewhere(folder, OTHER[task.seen_at]) if connect else None
    watch = recording.Watch(folder, task.seen_at)
    timeline.note("capture started")
    time.sleep(recording.BEFORE)
    scene(timeline)
    if task.limit:
        recording.wait_for_last_socket(timeline[-1]["time"] + task.limit)
        timeline.note("last socket gone")
    time.sleep(recording.AFTER)
    server.close()
    frames, sampled = watch.close()
    more = elsewhere.close() if elsewhere else {}
    timeline.note("capture stopped")
    recording.write_table(folder / "sockets.csv", recording.SOCKET_COLUMNS, recording.stays(sampled))
    server.write_account(folder)
    about = _about(task, server, client, sampled, timeline, frames)
    recording.write_json(folder / "experiment.json", about | more)


class _Elsewhere:
    """A second capture, at the other end of the wire."""

    def __init__(self, folder, host):
        self._host, self._file = host, folder / f"capture-{host}.pcapng"
        self._capture = dumpcap.Dumpcap(self._file, host=host)

    def close(self):
        frames, lost = self._capture.close()
        self._file.chmod(0o644)
        if lost:
            raise recording.Unclean(f"dumpcap lost {lost} frames")
        return {"capture_elsewhere": {"host": self._host, "file": self._file.name, "frames": frames}}


def _about(task, server, client, sampled, timeline, frames):
    served = SimpleNamespace(**vars(task), keepalive_timeout=None)
    about = recording.about(served, client, server.page, sampled, timeline, frames)
    about["server"] = {"program": server.program, "settings": server.settings, "other_ports": {}}
    about["client"]["start"] = "cold"
    about["capture"]["host"] = task.seen_at
    about["witnesses"] = list(task.witnesses)
    theirs = network.kernel_settings("server")
    about["kernel_server"] = {name: value for name, value in theirs.items() if value != about["kernel"][name]}
    return about
