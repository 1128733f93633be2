"""States of both ends over time, `netstat` and `count`, on toys whose states were worked out by hand from RFC 9293."""

import warnings

import numpy as np
import pandas as pd
import pytest
from fuzz import ACK, FIN, SYN, frame, pcap
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys import EXCHANGE, HANDSHAKE, SERVER_CLOSES, segment, toy

from helpers.captures import read_capture
from helpers.connections import HOSTS, connections
from helpers.experiments import load
from helpers.states import STATES, count, lasting, netstat, states

OPEN = [*HANDSHAKE, *EXCHANGE]
WHOLE = [*OPEN, *SERVER_CLOSES]
NEXT = {"C": 9000, "S": 70000}


@pytest.fixture
def table(tmp_path):
    return lambda *segments, **keywords: states(toy(tmp_path / "toy.pcap", *segments), **keywords)


def stays(table, host, *wanted, stream=0):
    """The stays of one end as text, such as `TIME_WAIT 1.5-61.5`; only the `wanted` states, or all."""
    rows = table[(table["host"] == host) & (table["stream"] == stream)]
    rows = rows[rows["state"].isin(wanted or STATES)]
    return [f"{row.state} {text(row.since)}-{text(row.until)}" for row in rows.itertuples()]


def text(time):
    return "?" if pd.isna(time) else f"{time:g}"


def later(rows, seconds, **more):
    return [segment(who, time + seconds, *rest, **more) for who, time, *rest in rows]


def test_connections_from_before_the_capture_raise_no_warning(table):
    talking = [("C", 0.0, "PA", 1, 1, b"x"), ("S", 0.1, "PA", 1, 2, b"y")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = table(*talking, *later(talking, 1, client=("10.0.0.1", 50001)))
    assert found["state"].tolist() == ["ESTABLISHED"] * 4 and found["since"].isna().all()


def test_every_column(table):
    found = table(*WHOLE)
    assert found.columns.tolist() == ["stream", "host", "local", "peer", "state", "since", "until"]
    assert found.iloc[-1].to_dict() == {"stream": 0, "host": "server", "local": "10.0.0.2:80", "peer": "10.0.0.1:50000",
                                        "state": "TIME_WAIT", "since": 1.5, "until": 61.5}


def test_missing_times_are_of_the_nullable_kind(table):
    kinds = table(*WHOLE).dtypes.astype(str).to_dict()
    assert (kinds["since"], kinds["until"], kinds["state"]) == ("Float64", "Float64", "str")
    assert str(lasting(table(*WHOLE), "TIME_WAIT", 9.0)["lasted"].dtype) == "Float64"


def test_stays_are_in_order_of_time_though_the_clock_went_back(tmp_path):
    """What `toy` sorts by time stands in the file as it is here."""
    path = tmp_path / "back.pcap"
    frames = [frame("S", FIN | ACK, 0), frame("S", FIN | ACK, 1), frame("C", FIN | ACK, 0, 2), frame("S", FIN | ACK, 2, 1),
              frame("S", SYN | ACK, 3, 1), frame("S", FIN | ACK, 4, 1)]
    path.write_bytes(pcap(frames, times=[second * 10**6 for second in (2, 1, 70, 69, 3, 0)]))
    found = states(read_capture(path))
    assert found["state"].tolist() == ["FIN_WAIT_1", "FIN_WAIT_2", "LAST_ACK", "ESTABLISHED"]
    assert found["since"].tolist() == [68, 68, -2, 1]


def test_server_closes(table):
    found = table(*WHOLE)
    assert stays(found, "client") == ["SYN_SENT 0-0.1", "ESTABLISHED 0.1-1", "CLOSE_WAIT 1-1.5", "LAST_ACK 1.5-1.6"]
    assert stays(found, "server") == [
        "SYN_RECEIVED 0-0.2", "ESTABLISHED 0.2-1", "FIN_WAIT_1 1-1.1", "FIN_WAIT_2 1.1-1.5",
                                      "TIME_WAIT 1.5-61.5"]


def test_client_closes_and_the_answer_carries_the_fin(table):
    found = table(*OPEN, ("C", 1.0, "FA", 28, 44), ("S", 1.1, "FA", 44, 29), ("C", 1.2, "A", 29, 45))
    assert stays(found, "client")[2:] == ["FIN_WAIT_1 1-1.1", "TIME_WAIT 1.1-61.1"]
    assert stays(found, "server")[2:] == ["CLOSE_WAIT 1-1.1", "LAST_ACK 1.1-1.2"]


def test_simultaneous_close(table):
    found = table(*OPEN, ("C", 1.0, "FA", 28, 44), ("S", 1.01, "FA", 44, 28), ("C", 1.1, "A", 29, 45),
                  ("S", 1.11, "A", 45, 29))
    assert stays(found, "client")[2:] == ["FIN_WAIT_1 1-1.01", "CLOSING 1.01-1.11", "TIME_WAIT 1.11-61.11"]
    assert stays(found, "server")[1:] == [
        "ESTABLISHED 0.2-1.01", "FIN_WAIT_1 1.01-1.01", "CLOSING 1.01-1.1", "TIME_WAIT 1.1-61.1"]


def test_simultaneous_open(table):
    """RFC 9293 figure 8: both ends go through SYN_SENT and SYN_RECEIVED."""
    found = table(("C", 0.0, "S", 0), ("S", 0.1, "S", 0), ("C", 0.2, "SA", 0, 1), ("S", 0.3, "SA", 0, 1))
    assert stays(found, "client") == ["SYN_SENT 0-0.1", "SYN_RECEIVED 0.1-0.3", "ESTABLISHED 0.3-?"]
    assert stays(found, "server") == ["SYN_SENT 0.1-0.2", "ESTABLISHED 0.2-?"]


def test_half_close(table):
    """The client shuts down its sending side; the server goes on sending and closes ten seconds later."""
    found = table(*HANDSHAKE, ("C", 1.0, "FA", 1, 1), ("S", 1.1, "A", 1, 2), ("S", 5.0, "PA", 1, 2, b"data"),
                  ("C", 5.1, "A", 2, 5),
                  ("S", 11.0, "FA", 5, 2), ("C", 11.1, "A", 2, 6))
    assert stays(found, "client")[2:] == ["FIN_WAIT_1 1-1.1", "FIN_WAIT_2 1.1-11", "TIME_WAIT 11-71"]
    assert stays(found, "server")[2:] == ["CLOSE_WAIT 1-11", "LAST_ACK 11-11.1"]


def test_lost_syns(table):
    found = table(("C", 0.0, "S", 0), ("C", 1.0, "S", 0), ("S", 1.1, "SA", 0, 1), ("S", 2.1, "SA", 0, 1),
                  ("C", 2.2, "A", 1, 1))
    assert stays(found, "client") == ["SYN_SENT 0-2.1", "ESTABLISHED 2.1-?"]
    assert stays(found, "server") == ["SYN_RECEIVED 1-2.2", "ESTABLISHED 2.2-?"]


def test_data_in_the_syn(table):
    """Fast Open: an answer that acknowledges the SYN alone establishes the connection."""
    found = table(("C", 0.0, "S", 0, 0, b"GET"), ("S", 0.1, "SA", 0, 1), ("C", 0.2, "A", 1, 1, b"GET"),
                  ("S", 0.3, "A", 1, 4))
    assert stays(found, "client") == ["SYN_SENT 0-0.1", "ESTABLISHED 0.1-?"]
    assert stays(found, "server") == ["SYN_RECEIVED 0-0.2", "ESTABLISHED 0.2-?"]


def test_unanswered_and_refused(table):
    assert stays(table(("C", 0.0, "S", 0)), "client") == ["SYN_SENT 0-?"]
    found = table(("C", 0.0, "S", 0), segment("S", 0.1, "RA", -5000, 1))
    assert stays(found, "client") == ["SYN_SENT 0-0.1"] and stays(found, "server") == []


# Rule 3: TIME_WAIT

def test_how_long_it_lasts_is_a_parameter(table):
    assert stays(table(*WHOLE, time_wait=240), "server", "TIME_WAIT") == ["TIME_WAIT 1.5-241.5"]


def test_a_fin_again_restarts_it(table):
    found = table(*WHOLE[:-1], ("S", 1.6, "A", 45, 29), ("C", 20.0, "FA", 28, 45), ("S", 20.1, "A", 45, 29))
    assert stays(found, "server", "TIME_WAIT") == ["TIME_WAIT 1.5-80"]
    found = table(*WHOLE, ("C", 20.0, "FA", 28, 45), ("C", 70.0, "FA", 28, 45))
    assert stays(found, "server", "TIME_WAIT") == ["TIME_WAIT 1.5-130"]


def test_a_fin_after_its_end_restarts_nothing(table):
    assert stays(table(*WHOLE, ("C", 62.0, "FA", 28, 45)), "server", "TIME_WAIT") == ["TIME_WAIT 1.5-61.5"]


def test_its_own_segments_don_t_restart_it(table):
    assert stays(table(*WHOLE, ("S", 20.0, "A", 45, 29)), "server", "TIME_WAIT") == ["TIME_WAIT 1.5-61.5"]


def test_a_reset_at_the_number_expected_ends_it(table):
    assert stays(table(*WHOLE, ("C", 20.0, "R", 29)), "server", "TIME_WAIT") == ["TIME_WAIT 1.5-20"]


@pytest.mark.parametrize("seq", [27, 1000, 29 + 70000, 29 + 2**31])
def test_a_reset_at_any_other_number_doesn_t(table, seq):
    assert stays(table(*WHOLE, ("C", 20.0, "R", seq)), "server", "TIME_WAIT") == ["TIME_WAIT 1.5-61.5"]


def test_a_new_connection_ends_it(table):
    found = table(*WHOLE, *later(HANDSHAKE, 30, isn=NEXT))
    assert stays(found, "server", "TIME_WAIT") == ["TIME_WAIT 1.5-30"]
    assert stays(found, "server", stream=1)[0] == "SYN_RECEIVED 30-30.2"


def test_a_new_syn_of_the_waiting_client_ends_it(table):
    closes = [("C", 1.0, "FA", 28, 44), ("S", 1.1, "FA", 44, 29), ("C", 1.2, "A", 29, 45)]
    found = table(*OPEN, *closes, *later(HANDSHAKE, 5, isn=NEXT))
    assert stays(found, "client", "TIME_WAIT") == ["TIME_WAIT 1.1-5"]


def test_an_old_syn_doesn_t_end_it(table):
    """It is answered by an ACK of the old connection, and opens nothing at the server."""
    old = [segment("C", 30, "S", 0, isn={"C": 500, "S": 0}), segment("S", 30.1, "A", 45, 29)]
    found = table(*WHOLE, *old)
    assert stays(found, "server", "TIME_WAIT") == ["TIME_WAIT 1.5-61.5"] and stays(found, "server", stream=1) == []
    assert stays(found, "client", stream=1) == ["SYN_SENT 30-?"]


def test_assassinated_from_the_next_connection(table):
    """A client that reuses the port resets the old connection's ACK, and the server's TIME_WAIT is gone."""
    old = [segment("C", 30, "S", 0, isn={"C": 500, "S": 0}), segment("S", 30.1, "A", 45, 29)]
    assert stays(table(*WHOLE, *old, ("C", 30.2, "R", 29)), "server", "TIME_WAIT") == ["TIME_WAIT 1.5-30.2"]
    assert stays(table(*WHOLE, *old, ("C", 30.2, "R", 30)), "server", "TIME_WAIT") == ["TIME_WAIT 1.5-61.5"]


def test_of_other_connections_nothing_ends_or_restarts_it(table):
    other = ("10.0.0.1", 50001)
    found = table(*WHOLE, *later(HANDSHAKE, 30, client=other), segment("C", 31, "R", 1, client=other))
    assert stays(found, "server", "TIME_WAIT") == ["TIME_WAIT 1.5-61.5"]


def test_no_time_wait_after_a_reset(table):
    found = table(*OPEN, ("C", 1.0, "RA", 28, 44))
    assert stays(found, "client") == ["SYN_SENT 0-0.1", "ESTABLISHED 0.1-1"]
    assert stays(found, "server") == ["SYN_RECEIVED 0-0.2", "ESTABLISHED 0.2-1"]


def test_forgotten_in_fin_wait_2(table):
    """The browser never answers the FIN: 60 s later the server has forgotten it, and resets what comes."""
    found = table(*OPEN, *SERVER_CLOSES[:2], ("C", 90.0, "A", 27, 45), ("S", 90.1, "R", 45))
    assert stays(found, "server")[2:] == ["FIN_WAIT_1 1-1.1", "FIN_WAIT_2 1.1-61.1"]
    assert stays(found, "client")[2:] == ["CLOSE_WAIT 1-90.1"]
    assert stays(table(*OPEN, *SERVER_CLOSES[:2], fin_timeout=5), "server", "FIN_WAIT_2") == ["FIN_WAIT_2 1.1-6.1"]


def test_one_side_captured(table):
    """It was ESTABLISHED until its FIN, at the latest; whether it waits then can't be told."""
    found = table(*[one for one in WHOLE if one[0] == "C"])
    assert stays(found, "client") == ["SYN_SENT 0-0.2", "ESTABLISHED 0.2-1.5"]


def test_not_forgotten_while_it_still_lives(table):
    lives = [*OPEN, *SERVER_CLOSES[:2], ("C", 100.0, "PA", 28, 45, b"late"), ("S", 100.1, "A", 45, 32)]
    assert stays(table(*lives), "server", "FIN_WAIT_2", "TIME_WAIT") == ["FIN_WAIT_2 1.1-?"]
    found = table(*lives, ("C", 200.0, "FA", 32, 45), ("S", 200.1, "A", 45, 33))
    assert stays(found, "server", "FIN_WAIT_2", "TIME_WAIT") == ["FIN_WAIT_2 1.1-200", "TIME_WAIT 200-260"]


def test_last_ack_lost(table):
    """The client's FIN comes again until the server's answer arrives; TIME_WAIT begins with the last one."""
    found = table(*OPEN, *SERVER_CLOSES[:3], ("C", 1.7, "FA", 28, 45), ("S", 1.8, "A", 45, 29))
    assert stays(found, "client", "LAST_ACK") == ["LAST_ACK 1.5-1.8"]
    assert stays(found, "server", "TIME_WAIT") == ["TIME_WAIT 1.7-61.7"]


# What the capture can't decide

def test_capture_begins_in_the_middle(table):
    found = table(*EXCHANGE, *SERVER_CLOSES)
    assert found["host"].isna().all()
    rows = {local: [f"{row.state} {text(row.since)}-{text(row.until)}" for row in rows.itertuples()] for local,
            rows in found.groupby("local")}
    assert rows["10.0.0.2:80"] == [
        "ESTABLISHED ?-0.7", "FIN_WAIT_1 0.7-0.8", "FIN_WAIT_2 0.8-1.2", "TIME_WAIT 1.2-61.2"]
    assert rows["10.0.0.1:50000"] == ["ESTABLISHED ?-0.7", "CLOSE_WAIT 0.7-1.2", "LAST_ACK 1.2-1.3"]


@pytest.mark.parametrize("rows", [SERVER_CLOSES[2:], SERVER_CLOSES[3:],
                                  [("C", 0, "A", 27, 44), ("S", 0.1, "A", 44, 28)]])
def test_capture_that_can_t_tell(table, rows):
    assert table(*rows).empty


def test_capture_begins_with_the_fin_and_probes_follow(table):
    """Who probes and acknowledges the FIN is in CLOSE_WAIT; the other end had been ESTABLISHED until then."""
    found = table(("S", 0.0, "FA", 44, 28), ("C", 0.1, "A", 28, 45), ("C", 45.0, "A", 27, 45), ("S", 45.1, "A", 45, 28),
                  ("C", 90.0, "A", 27, 45), ("S", 90.1, "R", 45))
    assert found["host"].isna().all()
    rows = {local: [f"{row.state} {text(row.since)}-{text(row.until)}" for row in rows.itertuples()] for local,
            rows in found.groupby("local")}
    assert rows["10.0.0.2:80"] == ["ESTABLISHED ?-0", "FIN_WAIT_1 0-0.1", "FIN_WAIT_2 0.1-60.1"]
    assert rows["10.0.0.1:50000"] == ["ESTABLISHED ?-0", "CLOSE_WAIT 0-90.1"]


def test_capture_begins_with_the_answer(table):
    found = table(*OPEN[1:])
    assert stays(found, "client") == ["SYN_SENT ?-0", "ESTABLISHED 0-?"]
    assert stays(found, "server") == ["SYN_RECEIVED 0-0.1", "ESTABLISHED 0.1-?"]


def test_answer_not_captured(table):
    found = table(HANDSHAKE[0], *OPEN[2:])
    assert stays(found, "client") == ["SYN_SENT 0-0.2", "ESTABLISHED 0.2-?"]
    assert stays(found, "server") == ["SYN_RECEIVED 0-0.2", "ESTABLISHED 0.2-?"]


def test_stray_segments_change_nothing(table):
    for far in (2**30, 2**31, 3 * 2**30):
        pd.testing.assert_frame_equal(table(*OPEN, ("C", 0.6, "FPA", far, far, b"old"), *SERVER_CLOSES), table(*WHOLE))


# netstat and count

def test_netstat(table):
    found = table(*WHOLE)
    both = netstat(found, at=1.2)
    assert both.to_dict("records") == [
        {"host": "client", "local": "10.0.0.1:50000", "peer": "10.0.0.2:80", "state": "CLOSE_WAIT"},
        {"host": "server", "local": "10.0.0.2:80", "peer": "10.0.0.1:50000", "state": "FIN_WAIT_2"}]
    assert netstat(found, at=30, host="server")["state"].tolist() == ["TIME_WAIT"]
    assert netstat(found, at=30, host="client").empty and netstat(found, at=61.5).empty and netstat(found, at=-1).empty
    assert netstat(found, at=1.5)["state"].tolist() == ["LAST_ACK", "TIME_WAIT"]
    assert netstat(table(*OPEN), at=1e6)["state"].tolist() == ["ESTABLISHED"] * 2
    before = table(*EXCHANGE, *SERVER_CLOSES)                   # what was there before the capture
    assert netstat(before, at=0)["state"].tolist() == ["ESTABLISHED"] * 2 and count(before, "ESTABLISHED", at=0) == 2


def test_count(table):
    found = table(*WHOLE, *later(WHOLE, 30, client=("10.0.0.1", 50001)))
    steps = count(found, "TIME_WAIT", host="server")
    assert steps.to_dict() == {1.5: 1, 31.5: 2, 61.5: 1, 91.5: 0} and (steps.name, steps.index.name) == (
        "TIME_WAIT", "time")
    assert [count(found, "TIME_WAIT", at=at) for at in (0, 1.5, 40, 61.5, 92)] == [0, 1, 2, 1, 0]
    assert count(found, "TIME_WAIT", host="client").empty and count(found, "TIME_WAIT", host="client", at=40) == 0
    assert count(found, "ESTABLISHED").iloc[-1] == 0 and count(found, "ESTABLISHED", at=0.5) == 2


def test_count_of_what_was_there_before(table):
    steps = count(table(*EXCHANGE, *SERVER_CLOSES), "ESTABLISHED")
    assert steps.index.tolist() == pytest.approx([0, 0.7]) and steps.tolist() == [2, 0]


def test_sampled_sockets():
    """`sockets` of an experiment: what was seen last at 3.0 was still there at 3.0, even if it was seen only once."""
    sockets = pd.DataFrame({"host": ["server"] * 2, "local": ["b:80"] * 2, "peer": ["a:1", "a:2"],
                            "state": ["TIME_WAIT"] * 2,
                            "first_seen": [1.0, 3.0], "last_seen": [3.0, 3.0]})
    assert [count(sockets, "TIME_WAIT", at=at) for at in (0.9, 1.0, 3.0, 3.1)] == [0, 1, 2, 0]
    assert len(netstat(sockets, at=3.0)) == 2 and count(sockets, "TIME_WAIT").max() == 2


# Properties

OPTIONS = [("C", "S", 0, 0), ("S", "SA", 0, 1), ("C", "A", 1, 1), ("C", "PA", 1, 1, b"x"), ("S", "A", 1, 2),
           ("S", "FA", 1, 2), ("C", "A", 2, 2),
           ("C", "FA", 2, 2), ("C", "FA", 2, 1), ("S", "A", 2, 3), ("C", "R", 3), ("S", "R", 2), ("C", "S", 77777, 0),
           ("S", "SA", 99999, 77778)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(OPTIONS), st.sampled_from([0.1, 1.0, 30.0, 70.0])), max_size=14))
def test_one_end_is_in_one_state_at_a_time(tmp_path, drawn):
    """In any order of segments: stays have known states, don't overlap, and TIME_WAIT is where `connections` says."""
    times = np.cumsum([0.0, *[gap for _, gap in drawn]])
    capture = toy(tmp_path / "toy.pcap", *[(who, time, *rest) for ((who, *rest), _), time in zip(drawn, times)])
    found, ends = states(capture), connections(capture)
    assert set(found["state"]) <= set(STATES) and not (found["since"] > found["until"]).any()
    for _, rows in found.groupby(["stream", "local"]):
        until, since = rows["until"].iloc[:-1].astype(float), rows["since"].iloc[1:].astype(float)
        assert (until.to_numpy() <= since.to_numpy()).all(), rows.to_string()
    waits = found[found["state"] == "TIME_WAIT"].groupby("stream")["local"].agg(set).to_dict()
    named = {"client": {"10.0.0.1:50000"}, "server": {"10.0.0.2:80"}, "both": {"10.0.0.1:50000", "10.0.0.2:80"}}
    for stream, who in ends["time_wait"].dropna().items():
        assert waits.get(stream, set()) == named.get(who, set())


def lengths(rows):
    return [(row.host, float(row.lasted), bool(row.over)) for row in rows.itertuples()]


def test_lasting(table):
    """The client got the FIN at 1.0 s and closed at 1.5 s; the server's FIN was acknowledged at 1.1 s."""
    whole = table(*WHOLE)
    assert lengths(lasting(whole, "CLOSE_WAIT", 9.0)) == [("client", 0.5, True)]
    assert lengths(lasting(whole, ("CLOSE_WAIT", "FIN_WAIT_2"), 9.0)) == [
        ("client", 0.5, True), ("server", pytest.approx(0.4), True)]
    assert lengths(lasting(whole, "CLOSE_WAIT", 1.25)) == [("client", 0.25, False)]     # before it ended
    assert lengths(lasting(whole, "CLOSE_WAIT", 0.5)) == []                             # before it began
    assert lengths(lasting(table(*WHOLE[:-2]), "CLOSE_WAIT", 9.0)) == [("client", 8.0, False)]


def test_lasting_of_what_began_before_the_capture(table):
    late = table(*EXCHANGE, *SERVER_CLOSES)
    assert lasting(late, "ESTABLISHED", 9.0)["lasted"].isna().all()
    assert lasting(late, "ESTABLISHED", 9.0)["over"].all()


@pytest.mark.parametrize(("name", "state"), [("clinic-close-wait", "CLOSE_WAIT"), ("clinic-close-wait", "FIN_WAIT_2"),
                                             ("timers-10", "FIN_WAIT_2"), ("idle-close-visit", "CLOSE_WAIT")])
def test_lasting_is_as_long_as_the_kernel_says(name, state):
    """`ss` saw each of these stays for as long, less the time between its samples; and no other."""
    experiment = load(name)
    end = max(experiment.capture.end, experiment.sockets["last_seen"].max())
    ends = ["host", "local", "peer"]
    ours, kernels = (lasting(table, state, end).set_index(ends)["lasted"].astype(float).sort_index()
                     for table in (experiment.states, experiment.sockets))
    gap = max(sampling["longest_gap"] for sampling in (experiment.about["sampling"][host] for host in HOSTS))
    slack = 2.0 if state == "FIN_WAIT_2" else 0.0       # the kernel's timer may be late
    ours = ours[ours > gap]
    assert len(ours) and ours.index.equals(kernels.index)
    assert ((kernels - ours <= slack + 0.01) & (ours - kernels <= 2 * gap + 0.01)).all()
