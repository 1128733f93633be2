"""The regimes of who closes first, each recorded as an experiment of its own."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from helpers.connections import HOSTS
from helpers.testbed.experiments.closer_cells import Regime
from helpers.testbed.experiments.closers import exchange, flags, settings, start_servers, time_waits, url
from helpers.testbed.hosts import network
from helpers.testbed.running import recording
from helpers.testbed.servers.nginx import REQUEST_COLUMNS
from helpers.testbed.servers.python_servers import BODY

PAGE = {"index.html": len(BODY), "favicon.ico": 0}
SPACING = 0.5
MOST_EXTRA = 100


def record(regime: Regime, folder: Path, say: Callable[[str], None]) -> None:
    """Record `regime` into `folder`, from the first frame to the last socket."""
    network.build()
    recording.prepare_workshop()
    cell, port, timeline = regime.cell, 80, recording.Timeline()
    server, watch = start_servers({port: cell})[cell.server], recording.Watch(folder)
    timeline.note("capture started")
    for times in _visits(regime, port):
        time.sleep(SPACING)
        timeline.note(f"visit {url(cell, port)}")
        exchange(cell, port, times)
        timeline.note("loaded")
        say("loaded")
    recording.wait_for_last_socket(timeline[-1]["time"] + regime.limit)
    timeline.note("last socket gone")
    time.sleep(recording.AFTER)
    server.close()
    frames, sampled = watch.close()
    timeline.note("capture stopped")
    recording.write_table(folder / "sockets.csv", recording.SOCKET_COLUMNS, recording.stays(sampled))
    recording.write_table(folder / "requests.csv", REQUEST_COLUMNS, [
        [request[name] for name in REQUEST_COLUMNS] for request in server.requests()])
    client = SimpleNamespace(program=cell.client, flags=flags(cell), version=lambda: version(cell.client))
    about = recording.about(regime, client, PAGE, sampled, timeline, frames)
    recording.write_json(folder / "experiment.json", about | {
        "server": {"program": cell.server, "settings": settings(cell), "other_ports": {}},
        "client": {"program": cell.client, "start": "cold", "flags": list(flags(cell))}})


def _visits(regime, port):
    """How often each client of `regime` asks; clients come until each of `regime.closers` was seen in TIME_WAIT."""
    yield from (1,) * regime.once + (2,) * regime.idlers
    for _ in range(MOST_EXTRA):
        client, server = (time_waits(host, port) for host in HOSTS)
        if all({"client": client - server, "server": server - client, "both": client & server}[who]
               for who in regime.closers):
            return
        yield 1
    raise recording.Unclean(f"{MOST_EXTRA} more connections, and not all of {', '.join(regime.closers)} seen")


def version(program: str) -> str:
    """The version of curl or ab, such as `7.88.1`."""
    said = subprocess.run([program, "-V"], capture_output=True, text=True).stdout
    return re.search(r"\d+\.\d[.\d]*", said)[0]
