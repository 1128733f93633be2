"""The benchmark in small: its recording, live, read as tshark reads it; its measures; what it says where it can't run."""

import json
import subprocess
import sys
from collections import Counter

import pytest
from conftest import lacking, require

from helpers.captures import read_capture
from helpers.exchanges import exchanges
from helpers.testbed.hosts import programs
from helpers.testbed.running import workers
from tests.benchmark import __main__ as benchmark
from tests.benchmark.benchmark_load import BenchmarkLoad

FRAMES = 20_000


@pytest.fixture(scope="module")
def rush(tmp_path_factory):
    try:
        programs.check(("wrk",))
    except programs.Unable as why:
        lacking(f"nothing can be recorded here: {why}")
    folder = tmp_path_factory.mktemp("rush")
    assert workers.record([BenchmarkLoad(1000, 200, spell=1)], folder, jobs=1) == {}
    return folder / "benchmark-load"


@pytest.fixture(autouse=True)
def no_memory_touched(monkeypatch):
    """What makes contestants start alike takes a second each time, and here nobody compares them."""
    monkeypatch.setattr(benchmark, "TOUCHED", 1 << 20)


def test_it_is_read_as_tshark_reads_it(rush, tmp_path):
    require("tshark", "editcap")
    held = json.loads((rush / "benchmark-load.json").read_text(encoding="utf-8"))
    assert all(held[name]["frames"] > 1000 for name in ("headers", "requests")) and held["answered"] >= 200
    few = benchmark.cut(rush / "headers.pcapng", tmp_path / "few.pcapng", 1, FRAMES)
    said = subprocess.run(benchmark.tshark(few, ("tcp.stream",)), capture_output=True, text=True, check=True).stdout
    segments = read_capture(few).segments
    assert segments["stream"].tolist() == [int(stream) for stream in said.split()]
    used = segments.drop_duplicates("stream")["sport"].value_counts()
    assert segments["stream"].nunique() > 1000 or used.max() > 1


def test_its_requests_are_those_that_tshark_finds(rush, tmp_path):
    require("tshark", "editcap")
    few = benchmark.cut(rush / "requests.pcapng", tmp_path / "few.pcapng", 1, FRAMES)
    command = benchmark.tshark(few, ("tcp.stream", "http.request.method"), "-Y", "http.request")
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    streams = Counter(int(line.split()[0]) for line in said.splitlines())
    assert Counter(exchanges(read_capture(few))["stream"].tolist()) == streams and len(streams) > 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it measures memory on Linux only")
def test_growth_is_measured_on_the_same_frames(rush, monkeypatch):
    require("editcap")
    monkeypatch.setattr(benchmark, "PARTS", (3, 1))
    frames = json.loads((rush / "benchmark-load.json").read_text(encoding="utf-8"))["headers"]["frames"]
    rows = benchmark.growth(rush, frames, 1)
    assert [parts for parts, _, _ in rows] == [3, 1] and all(took > 0 and memory >= 0 for _, took, memory in rows)
    assert sum(read_capture(rush / f"part-{part}-of-3.pcapng").frames for part in range(3)) == frames


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it records, and measures memory, on Linux only")
@pytest.mark.parametrize("work", benchmark.OURS)
def test_time_and_memory_are_measured_in_a_process_of_their_own(data, work):
    path = data / "long-7-images-replay" / "capture.pcapng"
    took, memory = benchmark.ours(work, path)
    assert took > 0 and 0 <= memory < 1 << 30
    line = benchmark.Line(work, "nothing", path, work, [sys.executable, "-c", "pass"], 1, scale=2.0)
    ratio, own, peer = benchmark.compare(line, 1)
    assert ratio == pytest.approx(peer[0] / own[0])


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="benchmark: not installed: tshark, editcap, tcptrace"):
        benchmark.main([])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it measures on Linux only")
def test_cpu_time_is_that_of_the_command():
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    assert 0.5 <= benchmark.cpu([sys.executable, "-c", busy]) < 5 > benchmark.cpu([sys.executable, "-c", "pass"])
