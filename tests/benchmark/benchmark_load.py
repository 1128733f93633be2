"""Many connections in little time, for the benchmark: wrk against nginx, over short and over long connections."""

import re
import subprocess
from dataclasses import dataclass
from typing import ClassVar

from helpers.testbed.hosts import network
from helpers.testbed.running import load
from helpers.testbed.running.recording import write_json
from helpers.testbed.witnesses.dumpcap import Dumpcap

CONNECTIONS = 50
CLIENT = {"ip_local_port_range": "40000 40999", "tcp_max_tw_buckets": 0}
HEADERS = 96
BUFFER = 512


@dataclass(frozen=True)
class BenchmarkLoad:
    """A capture of `frames` frames cut behind their headers, and one of so many whole `requests`.

    The client has a thousand ports, so each is used many times over, and its kernel keeps no TIME_WAIT: those of the races
    that it wins would leave it without a port. `spell`: seconds of short, or of long, connections.
    """

    frames: int
    requests: int
    spell: int = 2
    name: str = "benchmark-load"
    title: str = "A busy server"
    programs: ClassVar = frozenset({"wrk"})
    recorder: ClassVar = "tests.benchmark.benchmark_load"


def record(task, folder, say):
    """Record `headers.pcapng` and `requests.pcapng` into `folder`, and `benchmark-load.json` with what they hold."""
    say("starting nginx")
    load.serve({80: 0, 81: 65})
    network.set_kernel("client", CLIENT)
    say(f"{task.frames:,} frames")
    with _Capture(folder / "headers.pcapng", HEADERS) as headers:
        while headers.frames() < task.frames:
            _wrk(80, task.spell), _wrk(81, task.spell)
    say(f"{task.requests:,} requests")
    with _Capture(folder / "requests.pcapng", 0) as whole:
        answered = 0
        while answered < task.requests:
            answered += _wrk(80, task.spell) + _wrk(81, task.spell)
    write_json(folder / "benchmark-load.json", {"answered": answered, **{
        name: {"frames": capture.kept, "lost": capture.lost}
        for name, capture in {"headers": headers, "requests": whole}.items()}})


class _Capture:
    """dumpcap for as long as the block lasts; `kept`, `lost`: how many frames it then has, and could not keep."""

    def __init__(self, file, snaplen):
        self._file, self._dumpcap = file, Dumpcap(file, snaplen, buffer=BUFFER)

    def frames(self):
        """How many frames there are so far, at least, by the size of the file."""
        return self._file.stat().st_size // (HEADERS + 32)

    def __enter__(self):
        return self

    def __exit__(self, *trouble):
        self.kept, self.lost = self._dumpcap.close()
        self._file.chmod(0o644)


def _wrk(port, spell):
    """How many requests wrk got an answer to on `port` in `spell` seconds."""
    url = f"http://{network.ADDRESSES['server']}:{port}/"
    command = network.on("client", "wrk", "-t", 1, "-c", CONNECTIONS, "-d", spell, url)
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    answered = re.search(r"(\d+) requests in", done.stdout)
    if done.returncode or not answered:
        raise OSError(f"wrk: {(done.stderr or done.stdout).strip()}")
    return int(answered[1])
