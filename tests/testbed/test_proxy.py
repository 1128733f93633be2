"""The proxy in between: the laws of the six ways to the upstream, of ports that run out, a live miniature."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from conftest import lacking

from helpers.experiments import table
from helpers.testbed.experiments.upstreams import PROXY, UPSTREAMS
from helpers.testbed.hosts import programs
from helpers.testbed.running import workers

UPSTREAM_CLOSES = ["default", "pool-http-1.0", "pool-connection-close"]
FEW = 100
SIDES = ["time_wait_proxy_to_upstream", "time_wait_upstream"]


@pytest.fixture(scope="module")
def shipped():
    return table("proxy")


@pytest.fixture(scope="module")
def about(data):
    return json.loads((data / "proxy.json").read_text(encoding="utf-8"))


def of(rows, *upstreams, few=False):
    """The rows of `upstreams`, with `few` ports or with many."""
    return rows[rows["upstream"].isin(upstreams) & ((rows["ports"] == FEW) == few)]


def agree(rows):
    """True for each row of which the witnesses say the same: both logs of nginx, its errors, the kernel."""
    return ((rows["failed"] == rows["status_502"]) & (rows["failed"] == rows["cannot_assign"])
            & (rows["connects"] == rows["kernel_connects"]))


def accounted(rows):
    """True for a row whose connections to the upstream all are idle, or in TIME_WAIT at one end or both."""
    closed = rows["connects"] - rows["idle"]
    return (rows[SIDES].sum(axis=1) >= 0.99 * closed) & (rows[SIDES].max(axis=1) <= closed)


def test_every_way_is_there_with_many_ports_and_with_few(shipped, about):
    counts = shipped.groupby(["upstream", shipped["ports"] == FEW]).size()
    assert set(counts.index) == {(upstream.name, few) for upstream in UPSTREAMS for few in (False, True)}
    assert (counts == PROXY.runs).all() and shipped.notna().all(axis=None)
    assert (shipped["requests"] == PROXY.requests).all()
    assert set(about["upstreams"]) == set(shipped["upstream"])


def test_the_witnesses_agree(shipped, measured):
    assert agree(shipped).all(), shipped[~agree(shipped)].to_string()
    many = shipped[shipped["ports"] > FEW]
    assert accounted(many).all(), many[~accounted(many)].to_string()
    measured(f"proxy  logs and kernel count the same connects and failures: "
             f"{agree(shipped).sum()} of {len(shipped)}")


def test_the_comparison_bites(shipped):
    for name in ("connects", "failed", "status_502"):
        altered = shipped.copy()
        altered.loc[7, name] += 1
        assert list(altered.index[~agree(altered)]) == [7]
    altered = of(shipped, "http-1.1")
    assert not accounted(altered.assign(time_wait_proxy_to_upstream=0)).any()


def test_the_client_closes_towards_the_proxy(shipped):
    assert (shipped["time_wait_client"] == PROXY.concurrency).all()
    assert (shipped["time_wait_proxy_to_client"] == 0).all()


@pytest.mark.parametrize("upstream", UPSTREAM_CLOSES)
def test_by_default_time_wait_is_at_the_upstream_but_where_the_proxy_is_faster(
        shipped, upstream, measured):
    rows = of(shipped, upstream)
    assert (rows["connects"] == rows["requests"]).all() and (rows["failed"] == 0).all()
    shares = rows[SIDES].div(rows["connects"], axis=0)
    assert (shares["time_wait_upstream"] > shares["time_wait_proxy_to_upstream"]).all()
    assert shares["time_wait_upstream"].median() > 0.9
    assert shares["time_wait_proxy_to_upstream"].median() < 0.1
    measured(f"proxy  {upstream}: closed first, or at once, by the proxy, of {PROXY.requests} connections: "
             + ", ".join(map(str, rows["time_wait_proxy_to_upstream"])))


def test_http_1_1_without_a_pool_puts_every_time_wait_at_the_proxy(shipped):
    rows = of(shipped, "http-1.1")
    assert (rows["connects"] == rows["requests"]).all() and (rows["failed"] == 0).all()
    assert (rows["time_wait_proxy_to_upstream"] == rows["connects"]).all()
    assert (rows["time_wait_upstream"] == 0).all()


def test_with_few_ports_it_runs_out_of_them(shipped):
    rows = of(shipped, "http-1.1", few=True)
    assert (rows["connects"] == FEW).all() and (rows["time_wait_proxy_to_upstream"] == FEW).all()
    assert (rows["status_502"] == PROXY.requests - FEW).all()


def test_a_pool_as_large_as_the_load_closes_nothing_and_fails_nothing(shipped):
    rows = shipped[shipped["upstream"] == "pool"]
    assert (rows["connects"] <= PROXY.concurrency).all() and (rows["idle"] == rows["connects"]).all()
    assert (rows[[*SIDES, "failed"]] == 0).all(axis=None)


def test_a_pool_too_small_connects_many_times_as_often_and_the_proxy_closes(shipped, measured):
    rows = shipped[shipped["upstream"] == "pool-of-2"]
    assert (rows["idle"] == 2).all() and (rows["time_wait_upstream"] == 0).all()
    assert (rows["time_wait_proxy_to_upstream"] == rows["connects"] - rows["idle"]).all()
    many, few = of(shipped, "pool-of-2"), of(shipped, "pool-of-2", few=True)
    assert (many["connects"] > 10 * PROXY.concurrency).all() and (many["failed"] == 0).all()
    measured("proxy  connects with a pool of 2: " + ", ".join(map(str, many["connects"])))
    assert (few["failed"] > PROXY.requests / 2).all() and (few["connects"] == FEW).all()


def test_requests_fail_only_where_the_proxys_ports_are_used_up(shipped, measured):
    held = shipped["time_wait_proxy_to_upstream"] + shipped["idle"] + PROXY.concurrency
    failing = shipped[shipped["failed"] > 0]
    assert (failing["ports"] == FEW).all() and (held[failing.index] >= FEW).all()
    races = of(failing, *UPSTREAM_CLOSES, few=True)
    measured(f"proxy  {FEW} ports, the upstream closes: {len(races)} of {len(UPSTREAM_CLOSES) * PROXY.runs} "
             "runs fail, since the proxy closed often enough")


def test_a_pool_is_the_fastest(shipped, measured):
    rates = shipped[shipped["ports"] > FEW].groupby("upstream")["requests_per_second"].median()
    assert rates.idxmax() == "pool"
    measured("proxy  requests a second: " + ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items()))


def test_the_less_patient_end_closes_what_lies_idle(about):
    assert {entry["keepalive_timeout_upstream"] for entry in about["idle_connections"]} == set(PROXY.patience)
    for entry in about["idle_connections"]:
        obey_patience(entry)


def obey_patience(entry):
    patience = entry["keepalive_timeout_upstream"], entry["keepalive_timeout_pool"]
    assert min(patience) - 0.5 < entry["closed_after"] < min(patience) + 3
    by_upstream = patience[0] < patience[1]
    assert entry["time_wait_upstream"] == (entry["idle"] if by_upstream else 0)
    assert entry["time_wait_proxy"] == (0 if by_upstream else entry["idle"])


def test_live(tmp_path):
    """A few hundred requests over three of the ways, recorded now, obey the same laws."""
    try:
        programs.check(PROXY.programs)
    except programs.Unable as why:
        lacking(f"nothing can be recorded here: {why}")
    miniature = replace(PROXY, upstreams=UPSTREAMS[:3], requests=400, runs=1, patience=(2,))
    assert workers.record([miniature], tmp_path, jobs=1) == {}
    rows = pd.read_csv(tmp_path / "proxy.csv")
    assert agree(rows).all() and accounted(rows[rows["ports"] > FEW]).all(), rows.to_string()
    many, few = (of(rows, *(way.name for way in miniature.upstreams), few=few).set_index("upstream")
                 for few in (False, True))
    assert many["connects"].to_dict() == {"default": 400, "http-1.1": 400, "pool": many.loc["pool", "idle"]}
    assert many.loc["default", "time_wait_upstream"] > many.loc["default", "time_wait_proxy_to_upstream"]
    assert many.loc["http-1.1", SIDES].to_list() == [400, 0] and many.loc["pool", SIDES].to_list() == [0, 0]
    assert few.loc["http-1.1", "status_502"] == 300 and few.loc["pool", "failed"] == 0
    for entry in json.loads((tmp_path / "proxy.json").read_text())["idle_connections"]:
        obey_patience(entry)
