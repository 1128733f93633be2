"""What `ss` says here five times a second: `python -m helpers.testbed.witnesses.sampler FILE [udp]`, until SIGTERM."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from helpers.testbed.hosts.network import SOCKETS, UDP_SOCKETS, parse_sockets

PERIOD = 0.2


class Stays:
    """The stays of sockets in states, from one listing after the other.

    `first_seen` is just after the first listing that had it, `last_seen` just before the last one: it had
    begun by `first_seen` and hadn't ended at `last_seen` (UNIX time).
    """

    def __init__(self):
        self.ended, self.present = [], {}

    def add(self, before: float, sockets: list[tuple], after: float) -> None:
        self.present, earlier = {
            socket: [self.present.get(socket, (after, None))[0], before] for socket in sockets}, self.present
        self.ended += [(*socket, *earlier[socket]) for socket in earlier.keys() - self.present.keys()]

    def all(self) -> list[tuple]:
        """All stays so far as (local, peer, state, first_seen, last_seen), in order of first_seen."""
        here = [(*socket, *seen) for socket, seen in self.present.items()]
        return sorted(self.ended + here, key=lambda stay: stay[3])


def sample(udp: bool = False) -> tuple[list[tuple], list[tuple] | None, dict]:
    """Sample until SIGTERM; return the stays of TCP, those of UDP (None where not asked) and how regular it was."""
    stays, datagrams, times, stopped = Stays(), Stays() if udp else None, [], []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    due = time.monotonic()
    while not stopped:
        before = time.time()
        listing = subprocess.run(SOCKETS, stdout=subprocess.PIPE, text=True, check=True).stdout
        stays.add(before, parse_sockets(listing), time.time())
        if udp:
            listing = subprocess.run(UDP_SOCKETS, stdout=subprocess.PIPE, text=True, check=True).stdout
            datagrams.add(before, parse_sockets(listing), time.time())
        times.append(before)
        due = max(due + PERIOD, time.monotonic())
        time.sleep(max(0, due - time.monotonic()))
    longest = max(later - earlier for earlier, later in pairwise(times))
    return stays.all(), datagrams and datagrams.all(), {
        "samples": len(times), "longest_gap": round(longest, 6), "first": times[0], "last": times[-1]}


def _take_priority():
    """Ask to run before other processes: a late sample is a hole in the recording."""
    gc.disable()
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


if __name__ == "__main__":
    _take_priority()
    found, datagrams, regularity = sample("udp" in sys.argv[2:])
    with Path(sys.argv[1]).open("w", encoding="utf-8") as file:
        json.dump({"stays": found, "udp": datagrams, "sampling": regularity}, file)
