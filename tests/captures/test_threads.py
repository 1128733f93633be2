"""Threads: results in order, errors where they belong, and the same tables whatever the number of threads."""

import threading

import numpy as np
import pandas as pd
import pytest

from helpers.captures import CaptureError, in_threads, merge_captures, read_capture
from helpers.captures.threads import number_of_threads
from helpers.connections import connections, end_events, handshakes, keepalive_probes
from helpers.exchanges import exchanges, signals
from helpers.experiments import data_folder
from helpers.quic import quic_connections
from helpers.states import states

CAPTURES = sorted(data_folder().glob("*/capture.pcapng"))
FEW = 7         # frames, or segments, in a part: then even a short capture has many parts


def tables(capture):
    """All that is made of a capture."""
    probes = keepalive_probes(capture)
    return {"segments": capture.segments, "datagrams": capture.datagrams, "connections": connections(capture),
            "ends": end_events(capture), "states": states(capture), "exchanges": exchanges(capture),
            "signals": signals(capture), "handshakes": handshakes(capture), "quic": quic_connections(capture),
            "probes": probes.to_frame()}


@pytest.mark.parametrize("path", CAPTURES, ids=[path.parent.name for path in CAPTURES])
def test_the_same_tables_whatever_the_number(path, monkeypatch):
    """In parts of a few frames on three threads, and as one part on one."""
    alone = read_capture(path, threads=1)
    expected = tables(alone)
    for room in ("captures.records", "flow.batches"):
        monkeypatch.setattr(f"helpers.{room}.CHUNK", FEW)
    for room, name in (("sources", "PART"), ("pcapng", "SLAB")):
        monkeypatch.setattr(f"helpers.captures.{room}.{name}", 1000)
    together = read_capture(path, threads=3)
    assert together.threads == 3 and together.skipped == alone.skipped and together.end == alone.end
    for name, table in tables(together).items():
        pd.testing.assert_frame_equal(table, expected[name], check_exact=True, obj=name)
    for name in ("flags", "payload_at", "frame_at"):
        np.testing.assert_array_equal(together.headers[name], alone.headers[name])


def test_several_files_too():
    paths = CAPTURES[:3]
    one, two = (merge_captures(paths, threads=threads) for threads in (1, 2))
    pd.testing.assert_frame_equal(one.segments, two.segments, check_exact=True)
    assert (one.threads, two.threads) == (1, 2)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order(threads):
    """Though the first part is done last: it waits for the second one where there is another thread."""
    second = threading.Event()

    def work(part):
        if part == 0 and threads > 1:
            assert second.wait(60)
        second.set()
        return part * part

    assert list(in_threads(work, range(9), threads)) == [part * part for part in range(9)]


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_is_raised_and_ends_the_work(threads):
    begun = []

    def work(part):
        begun.append(part)
        if part == 2:
            raise CaptureError("a file", 7, "broken")
        return part

    found, results = [], in_threads(work, range(1000), threads)
    with pytest.raises(CaptureError, match="broken"):
        found.extend(results)
    assert found == [0, 1] and len(begun) < 20


def test_parts_are_made_when_they_are_needed():
    """A large file's parts are not all made before the first is done."""
    made = []
    results = in_threads(lambda part: part, (made.append(part) or part for part in range(1000)), 2)
    assert next(results) == 0 and len(made) < 10


@pytest.mark.parametrize("threads", [0, -3, 1.5, "2", True])
def test_a_number_that_is_none(threads):
    with pytest.raises(ValueError, match="a whole number from 1 on"):
        read_capture(CAPTURES[0], threads=threads)


def test_as_many_as_there_are_processors(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 4, 6}, raising=False)
    assert number_of_threads() == 3 and read_capture(CAPTURES[0]).threads == 3
