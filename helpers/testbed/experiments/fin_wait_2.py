"""Orphaned FIN_WAIT_2s at a server, counted in three ways at the same moment: `ss -s`, sockstat, a list by state."""

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from helpers.testbed.experiments.costs import FinWait2
from helpers.testbed.experiments.timers import ask, read_to_end
from helpers.testbed.hosts import network
from helpers.testbed.running.recording import prepare_workshop
from helpers.testbed.running.scenario import Pages
from helpers.testbed.running.side_by_side import kernels, write_account

SUMMARY = re.compile(r"estab (\d+), closed \d+, orphaned (\d+), timewait (\d+)")
LOOK = "ss -s; echo; cat /proc/net/sockstat; echo; ss -Htan"


def record(part: FinWait2, folder: Path, say: Callable[[str], None]) -> None:
    """Record what the server says at each of `part.looks` (seconds after it closed), the clients staying silent."""
    network.build()
    prepare_workshop()
    server = Pages()
    silent = [ask() for _ in range(part.number)]
    for connection in silent:
        read_to_end(connection)
    begun, rows, said = time.monotonic(), [], {}
    for seconds in part.looks:
        time.sleep(max(0, begun + seconds - time.monotonic()))
        said[seconds] = network.run("server", "sh", "-c", LOOK)
        rows += [(seconds, *row) for row in counted(said[seconds])]
    server.close()
    write_account(folder, {**asdict(part), "said": said, **kernels()}, rows)


def counted(said: str) -> list[tuple]:
    """(source, what, number) of all that `LOOK` printed."""
    summary, sockstat, listed = said.split("\n\n")[0], said.split("sockets: used")[1], said.rsplit("\n\n", 1)[1]
    established, orphaned, waiting = map(int, SUMMARY.search(summary).groups())
    tcp = dict(zip(*[iter(next(line for line in sockstat.splitlines() if line.startswith("TCP:")).split()[1:])] * 2))
    states = Counter(line.split()[0] for line in listed.splitlines())
    return [("ss -s", "estab", established), ("ss -s", "orphaned", orphaned), ("ss -s", "timewait", waiting),
            *(("/proc/net/sockstat", name, int(tcp[name])) for name in ("inuse", "orphan", "tw")),
            *(("ss -tan", state, states[state]) for state in ("ESTAB", "FIN-WAIT-2", "TIME-WAIT"))]
