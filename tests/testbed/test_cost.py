"""What TIME_WAIT costs: the laws on the recorded tables, the model against the plateaus, a live miniature."""

import json
from dataclasses import replace
from math import exp

import pandas as pd
import pytest
from conftest import lacking

from helpers.experiments import table
from helpers.testbed.experiments.costs import COSTS, LOAD, PORTS, REBIND, Bill, Memory, Series
from helpers.testbed.hosts import programs
from helpers.testbed.running import workers

LASTS, LASTED, LATEST = 60, 61, 62.6
EVEN_PORTS = (60999 - 32768 + 1) // 2
MODEL_ERROR, WALK_ERROR = 0.08, 0.03
SHUFFLED_EVERY, STEP = 10, 4.5
SPARE = 10
SETTINGS = [part.setting for part in PORTS.waves[0]]
LIVE = (
    replace(PORTS, waves=(tuple(replace(part, seconds=4, change_at=2) for part in PORTS.waves[0]),)),
    replace(REBIND, waves=(tuple(replace(part, patience=1) for part in REBIND.waves[0]),)),
    replace(LOAD, waves=((Series(100, seconds=3),), (Bill("short", 2_000),), (Bill("long", 2_000),),
                         (Bill("short", 2_000, buckets=500),), (Memory("ESTABLISHED", 200),))))


@pytest.fixture(scope="module")
def ports():
    return table("ports").set_index("setting")


@pytest.fixture(scope="module")
def load():
    return table("load")


def accounts(data, name, kind):
    """The entries of a JSON file under `kind`."""
    return json.loads((data / f"{name}.json").read_text(encoding="utf-8"))[kind]


def between(rows, begin, end):
    """How many succeeded and how many failed from `begin` until before `end`."""
    chosen = rows[rows["time"].between(begin, end, inclusive="left")]
    return chosen["succeeded"].sum(), chosen["failed"].sum()


def is_blocked_for_time_wait(rows):
    """Whether rows show exactly 100 connections, then none until about a minute after the first."""
    first_again = rows.loc[(rows["succeeded"] > 0) & (rows["time"] > 10), "time"].min()
    return between(rows, 0, LASTS)[0] == 100 and LASTS <= first_again <= LATEST


def is_steady(rows):
    """Whether no attempt failed."""
    return between(rows, 0, float("inf"))[1] == 0


def test_every_setting_is_there(ports):
    assert list(dict.fromkeys(ports.index)) == SETTINGS
    for part in PORTS.waves[0]:
        assert between(ports.loc[part.setting], 0, 1e9)[0] <= part.rate * part.seconds
        assert ports.loc[part.setting, ["succeeded", "failed"]].sum(axis=None) == part.rate * part.seconds
    assert set(ports["error"].dropna()) == {"EADDRNOTAVAIL"}
    assert ports.loc[ports["failed"] > 0, "error"].notna().all()


@pytest.mark.parametrize("setting", ["plain", "tcp_tw_reuse 2"])
def test_a_hundred_ports_are_a_hundred_connections_a_minute(ports, setting, measured):
    rows = ports.loc[setting]
    again = rows.loc[(rows["succeeded"] > 0) & (rows["time"] > 10), "time"].min()
    measured(f"ports    {setting}: 100, then EADDRNOTAVAIL until {again:.1f} s")
    assert is_blocked_for_time_wait(rows)
    assert rows["time_wait_client"].max() == 100 and rows["time_wait_server"].max() == 0


def test_the_law_bites(ports):
    altered = ports.loc["plain"].copy()
    altered.iloc[300, altered.columns.get_loc("succeeded")] = 1
    assert not is_blocked_for_time_wait(altered) and not is_steady(altered)


def test_tw_reuse_goes_on_as_fast_as_its_delay_lets_it(ports, data, measured):
    account = next(row for row in accounts(data, "ports", "settings") if row["setting"] == "tcp_tw_reuse 1")
    delay = int(account["kernel"]["tcp_tw_reuse_delay"] or 1000) / 1000
    rate = between(ports.loc["tcp_tw_reuse 1"], 5, 65)[0] / 60
    measured(f"ports    tcp_tw_reuse 1: {rate:.1f} connections a second, with a delay of {delay:g} s")
    assert rate == pytest.approx(min(100 / delay, account["rate"]), rel=0.05)


@pytest.mark.parametrize("setting", ["another port", "another address"])
def test_another_4_tuple_is_free_at_once(ports, setting):
    rows, change = ports.loc[setting], PORTS.waves[0][0].change_at
    assert between(rows, 1, change)[0] == 0
    assert between(rows, 0, change)[0] == between(rows, change, change + 1)[0] == 100
    assert between(rows, change + 1, LASTS)[0] == 0


@pytest.mark.parametrize(("setting", "at_server"), [("server closes first", 50), ("SO_LINGER 0", 0)])
def test_without_time_wait_at_the_client_nothing_fails(ports, setting, at_server):
    rows = ports.loc[setting]
    assert is_steady(rows) and rows["time_wait_client"].max() == 0
    assert rows["time_wait_server"].max() == at_server


def test_a_server_starts_again_over_time_wait_only_if_both_reuse(measured):
    rows = table("rebind").set_index(["closer", "reuse_before", "reuse_after"])
    assert len(rows) == len(REBIND.waves[0])
    waited = rows[rows["seconds"] > 1]
    assert set(waited.index) == {("server", False, False), ("server", False, True), ("server", True, False)}
    assert waited["seconds"].between(LASTS, LATEST).all() and set(waited["error"]) == {"EADDRINUSE"}
    at_once = rows.drop(waited.index)
    assert (at_once["attempts"] == 1).all() and at_once["error"].isna().all()
    assert rows["time_wait_server"].to_dict() == {key: int(key[0] == "server") for key in rows.index}
    measured(f"rebind   EADDRINUSE for {waited['seconds'].min():.1f} to {waited['seconds'].max():.1f} s")


def model(rate, addresses, seconds=LASTS):
    """How many TIME_WAITs are held where each connection takes one of the 4-tuples there are, at random."""
    tuples = EVEN_PORTS * addresses
    return tuples * (1 - exp(-rate * seconds / tuples))


def walk(rate, addresses, seconds=LASTED):
    """The same for Linux: it walks through an address's even ports, and begins elsewhere every 10 s.

    (`secure_ipv4_port_ephemeral`, `__inet_hash_connect`.) So connections of the same 10 s never collide.
    """
    missed = 1 - SHUFFLED_EVERY * rate / addresses / EVEN_PORTS
    return addresses * EVEN_PORTS * (1 - missed ** (seconds / SHUFFLED_EVERY))


def laps(connections):
    """How many even ports Linux has used after `connections` within 10 s: a step is 1 to 8 of them."""
    return EVEN_PORTS * (1 - (1 - 1 / STEP) ** (connections * STEP / EVEN_PORTS))


def test_the_plateaus_are_those_of_the_model(load, measured):
    plateaus = load[load["time"] > LATEST + 5].groupby(["rate", "addresses"])["time_wait_server"].mean()
    assert set(plateaus.index) == {(part.rate, part.addresses) for part in LOAD.waves[0]}
    for (rate, addresses), plateau in plateaus.items():
        plain, random, walked = (plateau / expected - 1 for expected in (
            rate * LASTS, model(rate, addresses), walk(rate, addresses)))
        measured(f"load     {rate}/s from {addresses}: {plateau:.0f} TIME_WAITs at the server; rate x 60 s: "
                 f"{plain:+.1%}; ports at random: {random:+.1%}; ports as Linux walks: {walked:+.1%}")
        assert abs(random) < MODEL_ERROR and abs(walked) < WALK_ERROR
    assert plateaus[200, 1] < 0.8 * 200 * LASTS < plateaus[200, 8]


def test_a_burst_leaves_as_many_time_waits_as_it_used_ports(data, measured):
    for row in accounts(data, "load", "bills"):
        if row["connections"] == "short" and row["buckets"] is None:
            error = row["time_wait_server"] / laps(row["requests"]) - 1
            measured(f"load     20,000 at once, run {row['run']}: {row['time_wait_server']} TIME_WAITs at "
                     f"the server; ports as Linux walks: {error:+.1%}")
            assert abs(error) < WALK_ERROR


def test_every_connection_of_the_series_was_made(load, data):
    assert (load["failed"] == 0).all() and (load["time_wait_client"] == 0).all()
    late = load["connections"] / (load["rate"] * load["time"]) - 1
    assert late[load["time"] >= 5].abs().max() < 0.02
    for account in accounts(data, "load", "series"):
        assert account["new_time_wait_server"] == account["rate"] * account["seconds"]


def check_bills(bills):
    """Assert the laws of a table of bills; return those with the kernel's own limit, by kind.

    A connection is a TIME_WAIT at one end; ab opens up to `SPARE` in advance that it doesn't need any more.
    """
    limited = bills["buckets"].notna()
    assert (bills["failed"] == 0).all() and (bills["answered"] == bills["requests"]).all()
    short, long = (bills[~limited & (bills["connections"] == kind)] for kind in ("short", "long"))
    left = bills["opened_client"] - bills["new_time_wait_server"] - bills["new_time_wait_client"]
    assert left[~limited].between(0, SPARE).all() and (bills[~limited]["overflow_server"] == 0).all()
    assert (short["opened_client"] - short["requests"]).between(0, SPARE).all()
    assert (short["new_time_wait_client"] <= SPARE).all()
    assert (long["opened_client"] <= long["requests"] / 1000 + SPARE).all()
    assert (bills[limited]["overflow_server"] > 0).all()
    assert (bills[limited]["time_wait_server"] <= bills[limited]["buckets"]).all()
    return short, long


def test_a_short_connection_is_a_time_wait_and_a_long_one_hardly(data, measured):
    short, long = check_bills(pd.DataFrame(accounts(data, "load", "bills")))
    for name, rows in ("short", short), ("long", long):
        assert len(rows) == 5 and (rows["requests"] == 20_000).all()
        middle = rows.median(numeric_only=True)
        opened, at_server, at_client, speed = middle[[
            "opened_client", "new_time_wait_server", "new_time_wait_client", "requests_per_second"]]
        measured(f"load     20,000 requests, {name}: {opened:.0f} handshakes, {at_server:.0f} TIME_WAITs at "
                 f"the server, {at_client:.0f} at the client, {speed:.0f} requests a second")
    assert long["requests_per_second"].median() > short["requests_per_second"].median()


def test_full_buckets_fail_nobody(data, measured):
    row = next(row for row in accounts(data, "load", "bills") if row["buckets"])
    measured(f"load     tcp_max_tw_buckets {row['buckets']}: {row['time_wait_server']} TIME_WAITs, "
             f"TCPTimeWaitOverflow {row['overflow_server']}, {row['failed']} failed")
    assert row["overflow_server"] > 0 and row["failed"] == 0
    assert row["overflow_server"] + row["new_time_wait_server"] == row["requests"]


def weight(row, ends):
    """Bytes that a connection of `row` takes in nginx and in the kernel, where it has so many `ends`."""
    state = row["state"].lower()
    more = {name: row["with"][name] - row["without"][name] for name in ("kernel_slab", "rss", state)}
    return (more["kernel_slab"] / ends + more["rss"]) / more[state]


def test_time_wait_needs_no_thread_and_no_descriptor_but_an_idle_connection_does(data, measured):
    waits, idle = accounts(data, "load", "memory")
    assert waits["with"]["time_wait"] > 5000 and idle["with"]["established"] == idle["number"] == 5000
    for row, descriptors in (waits, 0), (idle, idle["number"]):
        assert row["with"]["threads"] == row["without"]["threads"] == 1
        assert row["with"]["descriptors"] - row["without"]["descriptors"] == descriptors
    ours, theirs = weight(waits, ends=1), weight(idle, ends=2)
    measured(f"load     TIME_WAIT takes {ours:.0f} bytes, an idle connection {theirs:.0f} and a descriptor: "
             f"{theirs / ours:.0f} times as much")
    assert theirs > 8 * ours
    if slabs := idle["with"]["slabs"]:
        assert slabs["tw_sock_TCP"]["bytes_each"] * 8 < slabs["TCP"]["bytes_each"]


def test_the_files_are_small(data):
    files = [data / f"{task.name}.{kind}" for task in COSTS for kind in ("csv", "json")]
    assert sum(file.stat().st_size for file in files) < 500_000


def test_live(tmp_path):
    """The same in a few seconds, recorded now: what can't wait for a minute."""
    try:
        programs.check(LOAD.programs)
    except programs.Unable as why:
        lacking(f"nothing can be recorded here: {why}")
    assert workers.record(LIVE, tmp_path, jobs=3) == {}
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        f"{task.name}.{kind}" for task in LIVE for kind in ("csv", "json"))
    rows = pd.read_csv(tmp_path / "ports.csv").set_index("setting")
    assert set(rows["error"].dropna()) == {"EADDRNOTAVAIL"}
    succeeded = rows.groupby(level=0)["succeeded"].sum()
    assert all(succeeded[name] == 100 for name in ("plain", "tcp_tw_reuse 2"))
    assert all(succeeded[name] == 200 for name in ("another port", "another address"))
    assert all(is_steady(rows.loc[name]) for name in ("server closes first", "SO_LINGER 0"))
    assert 100 < succeeded["tcp_tw_reuse 1"] <= 500
    restarts = pd.read_csv(tmp_path / "rebind.csv").set_index(["closer", "reuse_before", "reuse_after"])
    assert restarts["seconds"].notna().to_dict() == {
        key: key[0] == "client" or all(key[1:]) for key in restarts.index}
    check_bills(pd.DataFrame(accounts(tmp_path, "load", "bills")))
    memory = accounts(tmp_path, "load", "memory")[0]
    assert memory["with"]["descriptors"] - memory["without"]["descriptors"] == memory["number"]
