"""The model: against rules worked out by hand, against the article's counts, and against the recordings."""

import numpy as np
import pandas as pd
import pytest

from helpers.exchanges import COLUMNS, exchanges
from helpers.experiments import load, table
from helpers.figures import figure, state_bands, time_wait_curve, waterfall
from helpers.model import (
    CHROMIUM,
    CLIENTS,
    FIREFOX,
    HTTP2,
    HTTP2_FIREFOX,
    HTTP3,
    HTTPS_CHROMIUM,
    POOLS,
    REQUESTS_GET,
    RULES_2018,
    Page,
    Server,
    Wire,
    arrivals,
    foretold_counts,
    held_against_recordings,
    play,
    time_waits_of_crowd,
)

SEVEN = Page((38_067, 20_751, 64_041, 14_979, 46_725, 27_004, 87_615))


def page(images):
    return Page(SEVEN.images[:images])


def waits(played):
    """TIME_WAITs at client and server."""
    return [int((played.connections["time_wait"] == end).sum()) for end in ("client", "server")]


@pytest.mark.parametrize("images", [0, 1, 2, 4, 7])
def test_the_rules_of_2018_give_the_articles_numbers(images):
    article = table("article-2018").set_index("experiment").loc[f"long-{images}-images"]
    played = play(page(images), RULES_2018)
    assert len(played.connections) == article["connections"]
    assert waits(played) == article[["time_wait_client", "time_wait_server"]].tolist()


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_every_request_is_answered_once_and_in_its_time(client):
    played = play(SEVEN, client, wire=Wire(0.02, 1e8))
    asked = played.exchanges
    assert asked.dtypes.astype(str).to_dict() == COLUMNS
    targets = ["/", *(f"/image-{n}.png" for n in range(1, 8)), *["/favicon.ico"] * client.asks_icon]
    assert sorted(asked["target"]) == sorted(targets)
    assert (asked["answered"] - asked["requested"] >= 0.02 - 1e-9).all()
    assert (asked["finished"] > asked["answered"]).all()
    if not client.shares:       # HTTP/1.1: one request at a time on a connection
        for _, own in asked.groupby("stream"):
            assert (own["requested"].iloc[1:].to_numpy() >= own["finished"].iloc[:-1].to_numpy() - 1e-9).all()


@pytest.mark.parametrize("client", [RULES_2018, FIREFOX, CHROMIUM, REQUESTS_GET], ids=lambda client: client.name)
def test_the_packets_of_a_play_say_what_it_says(client):
    """What is read from them as HTTP is what was played; times as far as a capture's nanoseconds go."""
    played = play(SEVEN, client, wire=Wire(0.01, 1e8))
    pd.testing.assert_frame_equal(exchanges(played.capture), played.exchanges, rtol=0, atol=2e-9)


def test_times_worked_out_by_hand():
    """A round trip of 100 ms, 10 kB/s: SYN at 0, page asked for at 0.1, its last byte at 0.2 and what it takes."""
    played = play(Page((), html=760, icon=760), FIREFOX, Server(5), Wire(0.1, 80_000))
    first, icon = played.exchanges.itertuples()
    assert (first.requested, first.answered, first.finished) == pytest.approx((0.1, 0.224, 0.3))
    assert icon.requested == pytest.approx(0.3) and icon.finished == pytest.approx(0.5)
    assert played.connections["closed"].iloc[0] == pytest.approx(5.5, abs=0.2)
    wait = played.states.query("state == 'TIME_WAIT'").iloc[0]
    assert wait["host"] == "server" and wait["until"] - wait["since"] == pytest.approx(60)


def test_who_closes_follows_from_the_two_patiences():
    assert set(play(SEVEN, FIREFOX, Server(65)).connections["closer"]) == {"server"}
    assert set(play(SEVEN, FIREFOX, Server(1000)).connections["closer"]) == {"client"}
    assert set(play(SEVEN, FIREFOX, Server(0)).connections["closer"]) == {"server"}
    assert len(play(SEVEN, FIREFOX, Server(0)).connections) == 9


def test_chromium_answers_at_its_next_request_or_never():
    at_once, late, never = (play(page(2), CHROMIUM, Server(15), wakes=wakes) for wakes in ((15.0,), (45.0,), ()))
    assert waits(late) == [0, 2] and late.connections["closed"].round().tolist() == [45, 45]
    assert waits(never) == [0, 0] and set(never.connections["ending"]) == {"reset"}
    assert at_once.connections["closed"].max() > 15


def test_encrypted_goodbyes():
    """One polite frame decides between a TIME_WAIT and a reset; over HTTP/3 there is no TCP."""
    assert waits(play(SEVEN, HTTP2)) == [0, 1] and waits(play(SEVEN, HTTP2_FIREFOX)) == [0, 0]
    assert set(play(SEVEN, HTTPS_CHROMIUM, wakes=(75.0,)).connections["ending"]) == {"reset"}
    assert play(SEVEN, HTTP3).connections.empty and len(play(SEVEN, HTTP3).exchanges) == 9


@pytest.mark.parametrize("client", [RULES_2018, CHROMIUM, HTTP2], ids=lambda client: client.name)
def test_every_figure_draws_a_play(client):
    played = play(SEVEN, client)
    waterfall(played, figure(4)[1], between=(0, 0.2)), state_bands(played.states, figure(4)[1])
    time_wait_curve(played.states, None, ax=figure(4)[1])


def test_keepalive_requests_are_the_most_on_a_connection():
    played = play(SEVEN, HTTP2_FIREFOX, Server(requests=4))
    assert played.exchanges.groupby("stream").size().max() <= 4
    assert len(load("h2-requests").exchanges.groupby("stream")) == played.exchanges["stream"].nunique() == 3


@pytest.fixture(scope="module")
def held():
    return held_against_recordings()


def test_held_against_every_recording_of_a_page(held, measured):
    """The replay keeps declared rules, so it must agree; of browsers the share that agrees is what the course prints."""
    agree = held[[name for name in held if name.endswith("agrees")]]
    replay = held["client"] == RULES_2018.name
    assert replay.sum() == 6 and agree.loc[replay].drop(columns="requests agrees").all(axis=None)
    assert agree.loc[held["client"].str.contains("HTTP/3"), :].all(axis=None)
    for aspect, share in agree.mean().items():
        measured(f"model    {aspect:24} {share:.0%} of {len(held)} recordings")


def test_foretold_counts_are_for_every_page_of_the_counts():
    counts = foretold_counts()
    assert counts["loads"].sum() == len(table("browser-counts")) and (counts["agree"] <= counts["loads"]).all()


def test_a_crowd_has_rate_times_sixty():
    """Little's law: so many come in a minute, and no more than there are buckets."""
    one = play(page(0), HTTP2)
    visits = arrivals(20, 600)
    assert np.diff(visits).min() >= 0 and abs(len(visits) - 12_000) < 500
    full = time_waits_of_crowd(one, visits)
    steady = full[(full.index > 200) & (full.index < 600)]
    assert abs(np.median(steady) - 20 * 60) < 60 and full.iloc[-1] == 0
    assert time_waits_of_crowd(one, visits, buckets=500).max() == 500


def test_at_most_so_many_buckets_by_counting():
    """Three come while two are held: the third one is never there, and the others last their minute."""
    one = play(page(0), HTTP2)
    held = time_waits_of_crowd(one, np.array([0.0, 1.0, 2.0]), buckets=2)
    assert held.max() == 2 and len(held) == 4 and held.iloc[-1] == 0


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_is_closed_as_the_program_closes_it(name):
    """The server closes first, after three seconds: as recorded. And the pool, when it has a limit: as counted."""
    def ends(connections, states):
        stays = states.query("host == 'client' and state == 'CLOSE_WAIT'")
        return (connections[["closer", "time_wait"]].value_counts().to_dict(),
                sorted((stays["until"] - stays["since"]).astype(float).round(0)))
    recorded, page = load(f"client-{name}"), Page((1000,) * 39)
    played = play(page, POOLS[name], Server(keepalive_timeout=3),
                  wakes=(60.0,))
    assert ends(played.connections, played.states) == ends(recorded.connections, recorded.states)
    counted = table("clients").query("client == @name")["idle_seconds"].median()
    closed = play(page, POOLS[name], Server(keepalive_timeout=65)).connections
    if pd.isna(counted):
        assert closed["closed"].isna().all()
    else:
        assert (closed["closer"] == "client").all() and (closed["closed"] - counted).abs().max() < 1
