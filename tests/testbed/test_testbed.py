"""The testbed itself, live: each real client; interrupted; without a program; without root."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import matplotlib.image
import pytest
from conftest import lacking

from helpers.captures import read_capture
from helpers.states import states
from helpers.testbed.hosts import programs
from helpers.testbed.servers.page import KILOBYTES, png, write_page
from helpers.testbed.witnesses import datasheet
from helpers.testbed.witnesses.sampler import Stays

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "helpers.testbed"]
POWERLESS = ["setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all"]
MINIATURES = """
import sys
from helpers.testbed.running.workers import record
from helpers.testbed.experiments.pages import Experiment, Fetch, Visit
def mini(client, **more):
    return Experiment(client, "A miniature", "", "", 1, client, keepalive_timeout=2, limit=200,
                      longest_gap=5, **more)
minis = {"replay": mini("replay"), "firefox": mini("firefox"),
         "chromium": mini("chromium", incognito=True, visits=(Visit(0), Fetch(4, port=8080)))}
failures = record([minis[name] for name in sys.argv[2:]], sys.argv[1], 3)
sys.exit(str(failures) if failures else 0)
"""


@pytest.fixture(scope="module", autouse=True)
def possible():
    """Skip where nothing can be recorded, but never in silence where the checks have to be complete."""
    try:
        programs.check(("chromium", "firefox-esr"))
    except programs.Unable as why:
        lacking(f"nothing can be recorded here: {why}")


@pytest.fixture(scope="module", autouse=True)
def started(possible, tmp_path_factory):
    """The miniatures, being recorded while the other tests run: the process and its folder by who runs it."""
    ours, theirs = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("theirs")
    runs = {"us": (_start([], ours, "replay", "firefox", "chromium"), ours)}
    if os.geteuid() == 0:
        runs["anybody"] = _start(POWERLESS, theirs, "replay"), theirs
    yield runs
    for process, _ in runs.values():
        process.terminate()
        process.wait(20)


def _start(prefix, folder, *names):
    return subprocess.Popen([*prefix, sys.executable, "-c", MINIATURES, str(folder), *names], cwd=ROOT,
                            stderr=subprocess.PIPE, text=True)


def _finished(started, who):
    if who not in started:
        pytest.skip("nobody here is root: the other recordings show the same")
    process, folder = started[who]
    errors = process.communicate(timeout=280)[1]
    assert process.returncode == 0, errors
    return folder


def table(file):
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def test_interrupted_it_leaves_nothing(tmp_path):
    mark, interfaces = f"testbed-{uuid.uuid4()}", _interfaces()
    names = "long-7-images-replay", "idle-close-quiet"
    command = subprocess.Popen([*COMMAND, "record", *names, "--out", str(tmp_path)], cwd=ROOT,
                               env={**os.environ, "MARK": mark}, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not {"nginx", "dumpcap", "chromium", "ss"} <= {name for name, _ in _marked(mark)}:
        assert time.monotonic() < until and command.poll() is None
    networks = {network for _, network in _marked(mark)} - {_network(Path("/proc/self"))}
    assert len(networks) >= 4 and len(list(tmp_path.iterdir())) == 2
    inside = [process for process in Path("/proc").glob("[0-9]*") if _network(process) in networks]
    command.send_signal(signal.SIGINT)
    assert command.communicate(timeout=20)[1].endswith("testbed: interrupted; nothing half written is left\n")
    assert command.returncode == 130
    assert list(tmp_path.iterdir()) == []
    assert _soon(lambda: not _marked(mark))
    # the kernel gives a namespace's number again, to a recording that runs beside this: so look at these processes only
    assert _soon(lambda: not networks & {_network(process) for process in inside})
    assert _interfaces() == interfaces


def _interfaces():
    return {place.name for place in Path("/sys/class/net").iterdir()}


def _soon(happens, patience=20):
    """Whether `happens` within `patience` seconds: a kernel takes namespaces down in its own time."""
    until = time.monotonic() + patience
    while not (happened := happens()) and time.monotonic() < until:
        time.sleep(0.05)
    return happened


def _marked(mark):
    """Name and network namespace of every process that was given `mark` in its environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append(((process / "comm").read_text().strip(), _network(process)))
        except OSError:
            continue
    return found


def _network(process):
    try:
        return (process / "ns" / "net").readlink()
    except OSError:
        return None


def test_a_missing_program_is_named_in_one_line(tmp_path):
    for name in programs.PACKAGES:
        if name != "dumpcap":
            (tmp_path / name).symlink_to(shutil.which(name, path=programs.search_path()))
    command = [*COMMAND, "record", "long-0-images-replay", "--out", str(tmp_path / "out")]
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stderr == "testbed: dumpcap is missing; install the Debian package tshark\n"
    assert done.returncode == 2 and not (tmp_path / "out").exists()


def test_another_system_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(programs.Unable, match="needs Linux"):
        programs.check()


def test_the_list_names_every_experiment_and_an_unknown_one_is_refused():
    listed = subprocess.run([*COMMAND, "list"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"long-7-images-chromium", "idle-close-quiet", "browser-counts"} <= set(listed.split())
    refused = subprocess.run([*COMMAND, "record", "long-9-images"], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2 and "no experiment long-9-images" in refused.stderr


def test_images_can_be_decoded_and_are_the_same_each_time(tmp_path):
    sizes = write_page(tmp_path / "page", len(KILOBYTES))
    images = [size for name, size in sizes.items() if name.startswith("image")]
    assert len(set(images)) == len(KILOBYTES) and min(images) > 14_000 and max(images) < 90_000
    for file in sorted((tmp_path / "page").glob("image-*.png")):
        assert matplotlib.image.imread(io.BytesIO(file.read_bytes()), format="png").shape[1:] == (160, 3)
    assert png(16, 16, 0) == (tmp_path / "page" / "favicon.ico").read_bytes()


def test_a_state_left_and_entered_again_is_two_stays():
    stays, one, other = Stays(), ("a:1", "b:2", "ESTABLISHED"), ("a:1", "b:2", "TIME_WAIT")
    for before, seen in ((0, [one]), (1, [one]), (2, [other]), (3, []), (4, [other])):
        stays.add(before, seen, before + 0.5)
    assert stays.all() == [(*one, 0.5, 1), (*other, 2.5, 2), (*other, 4.5, 4)]


def test_the_datasheet_is_current():
    data = ROOT / "data"
    assert (data / "README.md").read_text(encoding="utf-8") == datasheet.datasheet(data)


RECORDINGS = [("us", "replay"), ("us", "firefox"), ("us", "chromium"), ("anybody", "replay")]


@pytest.mark.parametrize(("who", "client"), RECORDINGS)
def test_a_recording_is_complete(started, who, client):
    folder = _finished(started, who) / client
    files = ["capture.pcapng", "experiment.json", "requests.csv", "sockets.csv"]
    assert sorted(file.name for file in folder.iterdir()) == ["browser.json"] * (client == "chromium") + files
    about = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
    assert about["sampling"]["client"]["longest_gap"] < 5 and about["versions"]["nginx"]
    asked = {request["request"].split()[1] for request in table(folder / "requests.csv")}
    assert {"/", "/image-1.png"} <= asked
    frames = _tshark(folder / "capture.pcapng", "frame.len", "tcp.checksum.status")
    assert len(frames) == about["capture"]["frames"]
    assert max(int(length) for length, _ in frames) <= 1514
    assert {status for _, status in frames} <= {"1", "Good", ""}


def _tshark(capture, *fields):
    options = [word for field in fields for word in ("-e", field)]
    command = ["tshark", "-r", str(capture), "-o", "tcp.check_checksum:TRUE", "-T", "fields", *options]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line.split("\t") for line in said.splitlines()]


@pytest.mark.parametrize(("who", "client"), RECORDINGS)
def test_time_wait_was_watched_to_its_end(started, who, client):
    folder = _finished(started, who) / client
    about = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
    gap = max(about["sampling"][host]["longest_gap"] for host in ("client", "server"))
    waits = [row for row in table(folder / "sockets.csv") if row["state"] == "TIME_WAIT"]
    stays = [float(row["last_seen"]) - float(row["first_seen"]) for row in waits]
    assert all(59.9 - 2 * gap < stay < 62.2 for stay in stays), stays
    if client == "replay":
        assert sorted(row["host"] for row in waits) == ["client", "client", "server"]


@pytest.mark.parametrize(("who", "client"), RECORDINGS)
def test_time_wait_is_where_the_packets_say(started, who, client):
    """A browser may close a connection in the moment in which nginx does: who was first differs from run to run."""
    folder = _finished(started, who) / client
    sampled = {(row["host"], row["local"], row["peer"]) for row in table(folder / "sockets.csv")
               if row["state"] == "TIME_WAIT"}
    told = states(read_capture(folder / "capture.pcapng"))
    told = told[told["state"] == "TIME_WAIT"]
    assert sampled == set(told[["host", "local", "peer"]].itertuples(index=False, name=None)) != set()


def test_chromium_and_nginx_name_the_same_sockets(started):
    folder = _finished(started, "us") / "chromium"
    log = json.loads((folder / "browser.json").read_text(encoding="utf-8"))
    requests = table(folder / "requests.csv")
    told = [(row["client_port"], row["nth"], row["request"].split()[1]) for row in requests]
    own = [(str(row["client_port"]), str(row["nth"]), urlsplit(row["url"]).path) for row in log["requests"]]
    assert sorted(own) == sorted(told)
    assert {row["opened_for"] for row in log["sockets"]} >= {"preconnect", "http://10.77.0.2:8080/"}
    assert "Remote side closed connection" in {row["close_reason"] for row in log["sockets"]}
