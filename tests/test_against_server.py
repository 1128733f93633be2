"""The exchanges read from packets against the server's access log and the browser's own log."""

import pytest


@pytest.fixture
def plain(experiment):
    """The experiment, where its exchanges travelled in the clear; tests/test_encrypted.py and test_quic_tables.py have the others."""
    if "protocol" in experiment.about.get("server", {}):
        pytest.skip("encrypted")
    return experiment


@pytest.fixture
def logged(plain):
    """The experiment, where the server logged its requests; where it didn't, there was no HTTP, or the clients say."""
    if plain.requests is None:
        assert plain.exchanges.empty or "said" in plain.about     # see test_clinic
        pytest.skip("this server keeps no log")
    return plain


def answered(experiment):
    """Exchanges that the server finished and logged, with the client's port."""
    table = experiment.exchanges.dropna(subset=["status"])
    ports = experiment.connections["client"].str.rsplit(":", n=1).str[1].astype(int)
    return table.assign(client_port=table["stream"].map(ports))


def test_each_request_came_over_the_port_that_nginx_names(logged, measured):
    ours = answered(logged)
    ours = ours.assign(request=ours["method"] + " " + ours["target"] + " HTTP/" + ours["version"])
    mine = ours[["client_port", "nth", "request", "status", "response_bytes"]].sort_values(["client_port", "nth"])
    log = logged.requests.sort_values(["client_port", "nth"])
    log = log[["client_port", "nth", "request", "status", "bytes_sent"]]
    equal = sum(a == b for a, b in zip(mine.itertuples(index=False, name=None), log.itertuples(index=False, name=None)))
    measured(f"server   {logged.name:24} {equal} of {len(log)} requests equal")
    assert mine.to_numpy().tolist() == log.to_numpy().tolist()
    assert len(log) > 0


def test_nginx_numbers_as_many_connections_as_carried_a_request(logged):
    assert logged.requests["connection"].nunique() == answered(logged)["stream"].nunique()


def test_each_request_used_the_socket_that_the_browser_names(plain, measured):
    experiment = plain
    if experiment.browser is None:
        assert "chromium" not in experiment.about["client"]["program"].lower()
        return
    ours = answered(experiment)
    mine = sorted(zip(ours["client_port"], ours["nth"], ours["target"]))
    log = experiment.browser["requests"]
    theirs = sorted(zip(log["client_port"], log["nth"], log["url"].str.replace("http://[^/]*", "", regex=True)))
    measured(f"browser  {experiment.name:24} {len(set(mine) & set(theirs))} of {len(theirs)} requests equal")
    assert mine == theirs
