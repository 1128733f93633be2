"""Who closes first: packets against kernel on every connection, the laws of the regimes, a live miniature."""

from dataclasses import astuple

import pandas as pd
import pytest
from conftest import lacking

from helpers.connections import HOSTS
from helpers.experiments import load, table
from helpers.testbed.experiments.closer_cells import CLOSERS, CLOSERS_RTT, REGIMES, Cell, Closers
from helpers.testbed.hosts import programs
from helpers.testbed.running import workers

CELL = ["server", "client", "version", "framing"]
NAMES = [*CELL, "closer", "time_wait_client", "time_wait_server", "ss_client", "ss_server"]
MINIATURE = (
    Cell("nginx", "curl", "1.1", "content-length"), Cell("nginx", "curl", "1.1", "until-close"),
    Cell("nginx", "ab", "1.0 keep-alive", "content-length"),
    Cell("http.server", "curl", "1.1 close", "chunked"), Cell("raw", "curl", "1.1 close", "content-length"),
    Cell("http.server/1.0", "ab", "1.0", "content-length"))


def regime(row):
    """The regime of a connection: who can tell where the body ends, and whether it may stay afterwards."""
    if row.framing == "until-close":
        return "end of file"
    if row.server == "raw" or (row.server != "http.server/1.0" and row.version in ("1.1", "1.0 keep-alive")):
        return "patience"
    return "race"


@pytest.fixture(scope="module")
def closers():
    rows = table("closers")
    return rows.assign(regime=[regime(row) for row in rows.itertuples()])


def equal(rows):
    """True for each connection of which packets and kernel say the same: TIME_WAIT where the closer is."""
    same = pd.Series(True, rows.index)
    for host in HOSTS:
        same &= (rows[f"time_wait_{host}"] == rows[f"ss_{host}"])
        same &= rows[f"ss_{host}"] == rows["closer"].isin([host, "both"])
    return same


def test_every_cell_is_there(closers, measured):
    counts = closers.groupby(CELL).size()
    assert set(counts.index) == set(map(astuple, CLOSERS.cells))
    assert (counts >= CLOSERS.connections).all() and CLOSERS.connections >= 100
    assert closers.columns.to_list() == [*NAMES, "regime"] and closers.notna().all(axis=None)
    measured(f"closers  {len(closers)} connections in {len(counts)} cells")


def test_packets_and_kernel_agree_on_every_connection(closers, measured):
    measured(f"closers  TIME_WAIT at both ends as in ss: {equal(closers).sum()} of {len(closers)}")
    assert equal(closers).all(), closers[~equal(closers)].to_string()


def test_the_comparison_bites(closers):
    for name in ("closer", "time_wait_client", "ss_server"):
        altered = closers.copy()
        altered.loc[7, name] = "both" if name == "closer" else not altered.loc[7, name]
        assert list(altered.index[~equal(altered)]) == [7]


def test_without_an_end_of_its_own_the_body_ends_when_the_server_closes(closers):
    assert set(closers.loc[closers["regime"] == "end of file", "closer"]) == {"server"}


def test_with_a_connection_that_may_stay_the_client_closes_when_it_is_done(closers):
    curl = closers[(closers["client"] == "curl") & (closers["regime"] == "patience")]
    assert set(curl["closer"]) == {"client"}
    assert {"raw", "nginx", "http.server"} == set(curl["server"])


def test_where_both_may_close_either_wins(closers, measured):
    race = closers[(closers["client"] == "curl") & (closers["regime"] == "race")]
    shares = race["closer"].value_counts(normalize=True)
    measured("closers  races won by: " + ", ".join(f"{who} {share:.0%}" for who, share in shares.items()))
    assert set(shares.index) == {"client", "server", "both"}


def test_ab_waits_for_the_end_of_the_file_unless_it_was_promised_another_request(closers):
    ab = closers[closers["client"] == "ab"]
    promised = (ab["version"] == "1.0 keep-alive") & ab["server"].isin(["nginx", "raw"]) & (
        ab["framing"] == "content-length")
    assert set(ab.loc[promised, "closer"]) == {"client"}
    assert set(ab.loc[~promised, "closer"]) == {"server"}


@pytest.fixture(scope="module")
def far():
    return table("closers-rtt")


def test_the_races_are_run_again_over_a_distance(closers, far, measured):
    race = closers[(closers["client"] == "curl") & (closers["regime"] == "race")]
    counts = far.groupby(CELL).size()
    assert set(counts.index) == set(race.groupby(CELL).groups) == set(map(astuple, CLOSERS_RTT.cells))
    assert (counts >= CLOSERS_RTT.connections).all() and CLOSERS_RTT.connections >= 100
    assert far.columns.to_list() == NAMES and far.notna().all(axis=None)
    measured(f"closers-rtt  {len(far)} connections in {len(counts)} cells")


def test_packets_and_kernel_agree_over_a_distance(far, measured):
    measured(f"closers-rtt  TIME_WAIT at both ends as in ss: {equal(far).sum()} of {len(far)}")
    assert equal(far).all(), far[~equal(far)].to_string()


def test_over_a_distance_the_client_never_closes_alone(closers, far, measured):
    """The server's FIN is on its way when the last byte arrives. Nearby, the client often is the only one."""
    shares = far["closer"].value_counts(normalize=True)
    measured("closers-rtt  closed by: " + ", ".join(f"{who} {share:.1%}" for who, share in shares.items()))
    assert set(far["closer"]) <= {"server", "both"} and shares["server"] > 0.6
    near = closers[(closers["client"] == "curl") & (closers["regime"] == "race")]
    assert (near["closer"] == "client").mean() > 0.05


@pytest.mark.parametrize("declared", REGIMES, ids=lambda regime: regime.name)
def test_a_small_recording_shows_its_regime(declared):
    connections = load(declared.name).connections
    assert len(connections) >= declared.once + 2 * declared.idlers
    assert (connections["closer"] == connections["time_wait"]).all()
    assert (connections["ending"] == "fin").all()
    assert set(connections["closer"]) == set(declared.closers)


def record_now(miniature, folder):
    """The table of `miniature`, recorded into `folder`; packets and kernel agree in it."""
    try:
        programs.check({"curl", "ab"})
    except programs.Unable as why:
        lacking(f"nothing can be recorded here: {why}")
    assert workers.record([miniature], folder, jobs=1) == {}
    rows = pd.read_csv(folder / f"{miniature.name}.csv")
    assert rows.columns.to_list() == NAMES and len(rows) == miniature.connections * len(miniature.cells)
    assert equal(rows).all(), rows[~equal(rows)].to_string()
    return rows


def test_live(tmp_path):
    """A few connections of a few cells, recorded now, obey the same laws."""
    rows = record_now(Closers("closers", "", MINIATURE, 3), tmp_path)
    server_first = (rows["framing"] == "until-close") | (rows["server"] == "http.server/1.0")
    client_first = rows["version"].isin(["1.1", "1.0 keep-alive"]) & ~server_first | (rows["server"] == "raw")
    assert set(rows.loc[server_first, "closer"]) == {"server"}
    assert set(rows.loc[client_first, "closer"]) == {"client"}


def test_live_over_a_distance(tmp_path):
    """Two races over a long wire, recorded now: the client never closes alone."""
    rows = record_now(Closers("closers-rtt", "", CLOSERS_RTT.cells[1::7], 5, delay=0.02), tmp_path)
    assert set(rows["closer"]) <= {"server", "both"}
