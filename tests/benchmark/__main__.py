"""How fast the helpers read captures, beside their peers: `python -m tests.benchmark [--frames N]`.

It records its own capture (wrk against nginx, short and long connections), keeps it in `.cache/`, and measures every
line in one run: each contestant in a process of its own, one after the other in turn, `--repeat` times; the medians, and
how far the slowest run was from the fastest, since machines are noisy. Before each, a process touches as much memory as any
of them needs and ends: the host of a virtual machine takes back what lies free, and to get it again takes time.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from helpers.experiments import data_folder
from helpers.testbed.hosts import programs
from helpers.testbed.running import workers
from tests.benchmark import encrypted
from tests.benchmark.benchmark_load import BenchmarkLoad

CACHE = Path(".cache") / "benchmark"
FRAMES, REQUESTS, REPEAT = 1_500_000, 100_000, 5
SLOW = 60_000
TOUCHED = 2 << 30
PARTS = (8, 4, 2, 1)
SEGMENT_FIELDS = ("frame.number", "frame.time_relative", "tcp.stream", "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport",
                  "tcp.seq_raw", "tcp.ack_raw", "tcp.flags.str", "tcp.len")
HTTP_FIELDS = ("tcp.stream", "frame.time_relative", "http.request.method", "http.request.uri", "http.response.code")
HTTP2_FIELDS = ("http2.streamid", "http2.headers.method", "http2.headers.path", "http2.headers.status")
OURS = {
    "segments": "read_capture(path)",
    "connections": "capture = read_capture(path); connections(capture); count(states(capture), 'TIME_WAIT')",
    "exchanges": "exchanges(read_capture(path))",
    "one thread": "capture = read_capture(path, threads=1); connections(capture)",
    "two threads": "capture = read_capture(path, threads=2); connections(capture)"}
IMPORTS = """
import sys, time
from helpers.captures import read_capture
from helpers.connections import connections
from helpers.exchanges import exchanges
from helpers.states import count, states
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024
path = sys.argv[2]
"""
BEGIN = """
path, before = sys.argv[1], peak()
begun = time.perf_counter()
"""
TOLD = """
print(time.perf_counter() - begun, peak() - before)
"""
DPKT = """
import socket, sys, time
import dpkt, pandas as pd
begun = time.perf_counter()
def rows(path):
    with open(path, "rb") as file:
        for at, frame in dpkt.pcapng.Reader(file):
            ip = dpkt.ethernet.Ethernet(frame).data
            if isinstance(ip, dpkt.ip.IP) and isinstance(ip.data, dpkt.tcp.TCP):
                tcp = ip.data
                yield (at, socket.inet_ntoa(ip.src), tcp.sport, socket.inet_ntoa(ip.dst), tcp.dport, tcp.seq, tcp.ack,
                       tcp.flags, ip.len - ip.hl * 4 - tcp.off * 4)
print(len(pd.DataFrame(rows(sys.argv[1]))) and time.perf_counter() - begun)
"""
SCAPY = """
import sys, time
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.utils import PcapReader
import pandas as pd
begun = time.perf_counter()
def rows(path):
    for packet in PcapReader(path):
        if TCP in packet:
            ip, tcp = packet[IP], packet[TCP]
            yield (float(packet.time), ip.src, tcp.sport, ip.dst, tcp.dport, tcp.seq, tcp.ack, str(tcp.flags),
                   ip.len - ip.ihl * 4 - tcp.dataofs * 4)
print(len(pd.DataFrame(rows(sys.argv[1]))) and time.perf_counter() - begun)
"""
TSHARK = """
import subprocess, sys, time
import pandas as pd
begun = time.perf_counter()
with subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tshark:
    table = pd.read_csv(tshark.stdout, sep="\\t", header=None)
print(len(table) and time.perf_counter() - begun)
"""
IN_PIECES = """
import resource, sys, time
from helpers.pieces import read_captures
path, allowed = sys.argv[1], int(sys.argv[2])
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + allowed, used + allowed))
begun = time.perf_counter()
found = sum(len(tables.connections) for tables in read_captures(path, piece=2 << 20))
print(time.perf_counter() - begun, found)
"""
TABLES = """
import sys, time
import pandas as pd
from helpers.captures import read_capture
from helpers.connections import connections
from helpers.states import states
NEED_ALL = ["retransmissions", "client_retransmissions", "server_retransmissions", "longest_silence",
            "protocol", "server_name"]      # which need all segments, or the payload
def told(connected, stayed):
    connected = connected.drop(columns=NEED_ALL)
    digest = int(pd.util.hash_pandas_object(connected.astype(str)).sum()) % 2 ** 50
    return len(connected), int((stayed["state"] == "TIME_WAIT").sum()), digest
"""
IN_ONE_PIECE = TABLES + """
capture = read_capture(sys.argv[1])
print(*told(connections(capture), states(capture)))
"""
CLUSTER = TABLES + """
import dask
from dask.distributed import Client, LocalCluster
from helpers.pieces import read_folder
if __name__ == "__main__":
    dask.config.set({"distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": 1}})
    with LocalCluster(n_workers=int(sys.argv[1]), threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            client.run(__import__, "helpers.pieces")
            times = []
            for _ in range(3):
                begun = time.perf_counter()
                tables = read_folder(sys.argv[2:])
                times.append(time.perf_counter() - begun)
            print(min(times), *told(tables.connections, tables.states))
"""


@dataclass(frozen=True)
class Line:
    """One line of the table: `work` of ours on `file` against `peer`, a command; `bar`: the ratio it is held to."""

    work: str
    against: str
    file: Path
    ours: str
    peer: list
    bar: float
    scale: float = 1.0


def record(frames):
    """The folder of the recorded captures: recorded once, kept in `.cache/`, for so many `frames` or more."""
    folder = CACHE / "benchmark-load"
    about = folder / "benchmark-load.json"
    if not about.exists() or json.loads(about.read_text(encoding="utf-8"))["headers"]["frames"] < frames:
        programs.check(("wrk",))
        failures = workers.record([BenchmarkLoad(frames, REQUESTS)], CACHE, 1)
        if failures:
            raise programs.Unable(failures["benchmark-load"])
    return folder


def run(code, *arguments):
    """The numbers that a new Python process prints when it runs `code`."""
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip().splitlines()[-1])
    return [float(number) for number in done.stdout.split()]


def settle():
    """Touch the memory that a contestant may need, so that all of them start alike."""
    subprocess.run([sys.executable, "-c", f"import numpy as np; np.ones({TOUCHED}, np.uint8)"], check=True)


def ours(work, path):
    """Seconds and bytes (more than at its begin) of one of `OURS` on `path`, once a small capture has loaded all it uses.

    That is one of the same kind: what is encrypted needs ciphers and HPACK.
    """
    settle()
    small = data_folder() / ("h2-0-images-chromium" if path.stem == "encrypted" else "long-7-images-replay") / "capture.pcapng"
    return run(IMPORTS + OURS[work] + BEGIN + OURS[work] + TOLD, path, small)


def seconds(command):
    """How long a command takes: a list for a process, or a tuple for `run`."""
    settle()
    if isinstance(command, tuple):
        return run(*command)[0]
    begun = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def lines(folder, frames):
    """The table: what is measured against what. scapy and dpkt read the first `SLOW` frames; their time is scaled."""
    headers, requests, few = folder / "headers.pcapng", folder / "requests.pcapng", folder / "few.pcapng"
    cut(headers, few, 1, SLOW)
    plain = folder / "headers.pcap"
    if not plain.exists():
        subprocess.run(["editcap", "-F", "pcap", headers, plain], check=True)
    scale = frames / SLOW
    sealed, _ = encrypted.write(folder)
    return [
        Line("file → segments", "tshark -T fields, into pandas", headers, "segments",
             (TSHARK, headers, *tshark(headers, SEGMENT_FIELDS)), 100),
        Line("file → segments", "scapy, dissecting", headers, "segments", (SCAPY, few), 250, scale),
        Line("file → segments", "dpkt", headers, "segments", (DPKT, few), 15, scale),
        Line("file → connections, closer, TIME_WAIT over time", "tcptrace (C)", plain, "connections",
             ["tcptrace", "-n", plain], 2.5),
        Line("file → exchanges", "tshark -Y http", requests, "exchanges",
             (TSHARK, requests, *tshark(requests, HTTP_FIELDS, "-Y", "http")), 15),
        Line("file with its keys → exchanges over TLS, HTTP/1.1 and 2", "tshark -Y 'http or http2', the same keys", sealed,
             "exchanges", (TSHARK, sealed, *tshark(sealed, (*HTTP_FIELDS, *HTTP2_FIELDS), "-Y", "http or http2")), 3)]


def tshark(path, fields, *options):
    return ["tshark", "-r", path, *options, "-T", "fields", *(word for field in fields for word in ("-e", field))]


def cut(source, target, first, last):
    """Write the frames `first` to `last` of `source` to `target`, unless that is there."""
    if not target.exists():
        subprocess.run(["editcap", "-r", source, target, f"{first}-{last}"], check=True)
    return target


def compare(line, repeat):
    """Ratios of the peer's time to ours, and the medians of both, in seconds."""
    own, peer = [], []
    for _ in range(repeat):
        own.append(ours(line.ours, line.file)[0])
        peer.append(seconds(line.peer) * line.scale)
    return statistics.median(peer) / statistics.median(own), own, peer


def threads(path, repeat):
    """Print what one thread and two take, file → connections, all runs in turn: medians, and the fastest runs."""
    one, two = zip(*((ours("one thread", path)[0], ours("two threads", path)[0]) for _ in range(repeat)))
    print(f"\nfile → connections: {_spread(one)} on one thread, {_spread(two)} on two, "
          f"{statistics.median(one) / statistics.median(two):.2f} times as fast (bar 1.6); of the fastest runs "
          f"{min(one) / min(two):.2f} times", flush=True)


def growth(folder, frames, repeat):
    """Of the same frames in 8, 4 and 2 files and in one: seconds of all, file → connections, and peak memory over a file's size.

    Of each file the fastest of `repeat` runs, all in turn: what else the machine does can only add to the time.
    """
    paths = {parts: [cut(folder / "headers.pcapng", folder / f"part-{part}-of-{parts}.pcapng", frames * part // parts + 1,
                         frames * (part + 1) // parts) for part in range(parts)] for parts in PARTS}
    done = {path: [] for parts in paths.values() for path in parts}
    for _ in range(repeat):
        for path, runs in done.items():
            runs.append(ours("connections", path))
    return [(parts, sum(min(time for time, _ in done[path]) for path in files),
             max(size / path.stat().st_size for path in files for _, size in done[path])) for parts, files in paths.items()]


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark", description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"at least so many ({FRAMES:,})")
    parser.add_argument("--repeat", type=int, default=REPEAT, help=f"runs of each ({REPEAT})")
    options = parser.parse_args(arguments)
    try:
        missing = [name for name in ("tshark", "editcap", "tcptrace") if not shutil.which(name)]
        if missing:
            raise programs.Unable(f"not installed: {', '.join(missing)} (Debian packages tshark, tcptrace)")
        folder = record(options.frames)
    except programs.Unable as why:
        sys.exit(f"benchmark: {why}")
    held = json.loads((folder / "benchmark-load.json").read_text(encoding="utf-8"))
    frames = held["headers"]["frames"]
    print(f"{frames:,} frames cut behind their headers, {held['answered']:,} requests with payload; "
          f"medians of {options.repeat}\n")
    print("| work | against | ours | theirs | ratio | bar |\n|---|---|---|---|---|---|")
    for line in lines(folder, frames):
        ratio, own, peer = compare(line, options.repeat)
        print(f"| {line.work} | {line.against} | {_spread(own)} | {_spread(peer)} | {ratio:.1f} | {line.bar} |", flush=True)
    threads(folder / "headers.pcapng", 2 * options.repeat + 1)
    print("\n| the same frames in | file → connections, all | against one file | peak memory / file (bar 2.5) |\n|---|---|---|---|")
    rows = growth(folder, frames, 2 * options.repeat + 1)
    for parts, took, memory in rows:
        print(f"| {parts} × {frames // parts:,} | {took:.2f} s | {took / rows[-1][1]:.2f} | {memory:.1f} |", flush=True)
    report(folder, options.repeat)
    pieces(folder)
    cluster(folder)


def _spread(times):
    return f"{statistics.median(times):.2f} s ± {(max(times) - min(times)) / 2 / statistics.median(times):.0%}"


def report(folder, repeat):
    """Print how much CPU time the report's command takes, with all that it imports: on all frames, and with a page."""
    small = data_folder() / "long-7-images-replay" / "capture.pcapng"
    for what, bar, words in (("all frames", 5, [folder / "headers.pcapng"]),
                             ("a small file, with --out", 2, [small, "--out", folder / "page.html"])):
        took = statistics.median(cpu([sys.executable, "-m", "helpers.report", *words]) for _ in range(repeat))
        print(f"The report on {what}: {took:.2f} s of CPU (bar {bar})", flush=True)


def cpu(command):
    """How many seconds of CPU time a command takes, user's and system's."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def pieces(folder):
    """Print what reading a file several times the allowed memory takes, in pieces, under a limit."""
    path = folder / "headers.pcapng"
    allowed = path.stat().st_size // 5
    took, found = run(IN_PIECES, path, allowed)
    print(f"\nIn pieces, with {allowed >> 20} MiB of memory allowed for a file of {path.stat().st_size >> 20} MiB: "
          f"{found:,.0f} connections in {took:.1f} s", flush=True)


def cluster(folder):
    """Print what one and two workers of a local Dask cluster take for the capture cut into eight, by `growth`."""
    paths = sorted(folder.glob("part-*-of-8.pcapng"))
    script = folder / "cluster.py"
    script.write_text(CLUSTER, encoding="utf-8")
    one, two = (_script(script, workers, *paths) for workers in (1, 2))
    same = "the same" if one[1:] == two[1:] == run(IN_ONE_PIECE, folder / "headers.pcapng") else "not the same"
    print(f"With Dask, {len(paths)} files: {one[0]:.1f} s on one worker, {two[0]:.1f} s on two, {one[0] / two[0]:.2f} times "
          f"as fast; {same} tables as in one piece ({two[1]:,.0f} connections, {two[2]:,.0f} TIME_WAITs)")


def _script(path, *arguments):
    done = subprocess.run([sys.executable, path, *map(str, arguments)], check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip().splitlines()[-1])
    return [float(number) for number in done.stdout.split()]


if __name__ == "__main__":
    main()
