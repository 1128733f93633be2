"""The programs that people write: their table and recordings against nginx's log and the kernel's sockets."""

import shutil
import subprocess
from dataclasses import replace

import pandas as pd
import pytest
from conftest import lacking, require

from helpers.connections import HOSTS
from helpers.experiments import data_folder, load, names, table
from helpers.testbed.experiments.client_rows import CLIENTS, COUNTED, IDLES
from helpers.testbed.experiments.program_counts import COLUMNS
from helpers.testbed.hosts import programs
from helpers.testbed.running import workers

RECORDED = [name for name in names() if name.startswith("client-")]
STAYS = [client.name for client in CLIENTS if client.stays]


@pytest.fixture(scope="module")
def clients():
    return table("clients")


def check_table(rows, task):
    """Each client has its repeats and answers, and in each row the numbers add up and the kernel agrees."""
    assert tuple(rows.columns) == COLUMNS
    counted = rows.groupby("client", sort=False)["repeat"].apply(list).to_dict()
    assert counted == {client.name: list(range(1, task.repeats + 1)) for client in task.clients}
    assert (rows["requests"] >= task.workers * task.times).all()
    assert (rows.loc[rows["client"] != "wrk", "requests"] == task.workers * task.times).all()
    assert (rows["closed_at_work"] + rows["closed_idle"] + rows["open"] == rows["connections"]).all()
    assert (rows["never_used"] < rows["connections"]).all()
    assert (rows["idle_seconds"].notna() == (rows["closed_idle"] > 0)).all()


def test_the_table_is_complete(clients):
    check_table(clients, COUNTED)


@pytest.mark.parametrize("host", HOSTS)
def test_time_wait_is_the_kernels(clients, host, measured):
    """A connection in TIME_WAIT by its packets is listed there by `ss`, and no other is."""
    ours, theirs = clients[f"time_wait_{host}"], clients[f"ss_{host}"]
    measured(f"clients  TIME_WAIT at the {host}: {ours.sum()} by packets, {theirs.sum()} by ss")
    assert ours.tolist() == theirs.tolist()


def test_nginx_closes_nothing_that_is_idle_in_the_table(clients):
    """It is the more patient one: it closed where a request asked for it, or first where Go gave up an unused one over TLS."""
    closed = clients[clients["closed_by_server"] > 0]
    assert set(closed["client"]) <= {"urllib", "node-no-agent", "go-h2"}
    unused = closed[closed["client"] == "go-h2"]
    assert (unused["closed_by_server"] <= unused["never_used"]).all() and (unused["closed_idle"] == 0).all()


def test_every_client_is_recorded():
    assert sorted(idle.name for idle in IDLES) == RECORDED
    for idle in IDLES:
        about = load(idle.name).about
        assert about["findings"] == idle.client.findings.split() and about["about"] == idle.about


@pytest.mark.parametrize("name", RECORDED)
def test_connections_against_the_servers_log(name):
    """As many carried a request as nginx numbers, over the ports that it names; each request is one of its lines."""
    experiment = load(name)
    log, ours = experiment.requests, experiment.exchanges.dropna(subset=["status"])
    ports = experiment.connections["client"].str.rsplit(":", n=1).str[1].astype(int)
    assert ours["stream"].nunique() == log["connection"].nunique()
    assert ours["stream"].map(ports).value_counts().to_dict() == log["client_port"].value_counts().to_dict()
    assert (log["status"] == 200).all() and len(log) >= 40


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("state", ["TIME_WAIT", "CLOSE_WAIT"])
def test_stays_against_the_kernels(name, host, state):
    """The same sockets stood for more than a second in TIME_WAIT or CLOSE_WAIT by packets and by `ss`."""
    experiment = load(name)
    end, peer = (host, "server") if host == "client" else (host, "client")
    stays = experiment.states[(experiment.states["host"] == host) & (experiment.states["state"] == state)]
    long = stays[stays["until"] - stays["since"] > 1]["stream"]
    ours = set(experiment.connections.loc[long, [end, peer]].itertuples(index=False, name=None))
    listed = experiment.sockets[(experiment.sockets["host"] == host) & (experiment.sockets["state"] == state)]
    listed = listed[listed["last_seen"] - listed["first_seen"] > 0.5]
    assert ours == set(listed[["local", "peer"]].itertuples(index=False, name=None))


def test_who_asks_the_server_to_close():
    """By tshark: two clients send `Connection: close` with each request, and no other ever does."""
    require("tshark")
    closing = {}
    for name in RECORDED:
        command = ["tshark", "-r", data_folder() / name / "capture.pcapng", "-Y", "http.request", "-T", "fields", "-e", "http.connection"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
        closing[name] = sum(line.lower() == "close" for line in said)
    assert {name: number for name, number in closing.items() if number} == {"client-urllib": 40, "client-node-no-agent": 40}


@pytest.mark.parametrize("name", [f"client-{name}" for name in STAYS])
def test_a_program_that_leaves_close_wait_ends_it_when_it_ends(name):
    """A program answers the FIN of a connection that it keeps within a second, or on none of them before its end."""
    experiment = load(name)
    told = experiment.timeline.set_index("action")["time"]["the program is told to end"]
    stays = experiment.states.query("host == 'client' and state == 'CLOSE_WAIT'")
    seconds = (stays["until"] - stays["since"]).astype(float)
    assert (seconds < 1).all() or (stays["until"] > told).all()


def test_a_missing_program_is_named_with_its_package(monkeypatch):
    there = shutil.which
    monkeypatch.setattr(programs.shutil, "which", lambda name, path=None: None if name in ("go", "javac") else there(name, path=path))
    with pytest.raises(programs.Unable, match=r"go, javac are missing; .* packages default-jdk-headless, golang-go$"):
        programs.check({"go", "javac"})


def test_a_missing_module_is_named(monkeypatch):
    monkeypatch.setattr(programs.shutil, "which", lambda name, path=None: name)
    with pytest.raises(programs.Unable, match=r"Python lacks there_is_no_such_module: pip install -e '\.\[testbed\]'"):
        programs.check((), ("there_is_no_such_module", "json"))


def test_curl_is_counted_now(tmp_path):
    """A miniature, live: two loops of three requests have six connections, and two curls with three URLs have two."""
    try:
        programs.check({"curl"})
    except programs.Unable as why:
        lacking(f"nothing can be recorded here: {why}")
    curls = tuple(client for client in CLIENTS if client.language == "curl")
    task = replace(COUNTED, name="miniature", clients=curls, workers=2, times=3, repeats=1)
    assert workers.record([task], tmp_path, jobs=1) == {}
    rows = pd.read_csv(tmp_path / "miniature.csv")
    check_table(rows, task)
    assert rows["connections"].tolist() == rows["time_wait_client"].tolist() == rows["ss_client"].tolist() == [6, 2]
