"""Connections: handshake, ending, active closer, TIME_WAIT, payload and keep-alive probes, counted by hand on toys."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from toys import CLIENT, EXCHANGE, HANDSHAKE, SERVER, SERVER_CLOSES, segment, toy

from helpers.connections import connections, end_events, keepalive_probes
from helpers.states import states

ENDS = (CLIENT, SERVER)
OPEN = [*HANDSHAKE, *EXCHANGE]
CLIENT_CLOSES = [("C", 1.0, "FA", 28, 44), ("S", 1.1, "FA", 44, 29), ("C", 1.2, "A", 29, 45)]
SIMULTANEOUS = [("C", 1.0, "FA", 28, 44), ("S", 1.01, "FA", 44, 28), ("C", 1.1, "A", 29, 45), ("S", 1.11, "A", 45, 29)]


@pytest.fixture
def row(tmp_path):
    """The connection of these segments, as a dict in which `<NA>` is None; the capture goes on to the time `until`."""
    def one(*segments, until=None, **keywords):
        other = [] if until is None else [segment("C", until, "S", 0, client=("10.0.0.9", 1))]
        table = connections(toy(tmp_path / "toy.pcap", *segments, *other), **keywords)
        assert len(table) == 1 + len(other)
        return {name: None if pd.isna(value) else value for name, value in table.iloc[0].items()}
    return one


@pytest.fixture
def probes(tmp_path):
    """The times of the keep-alive probes among these segments."""
    def times(*segments):
        capture = toy(tmp_path / "toy.pcap", *segments)
        probe = keepalive_probes(capture)
        assert probe.index.tolist() == capture.segments.index.tolist() and probe.dtype == bool
        return capture.segments["time"][probe].tolist()
    return times


def test_every_column(tmp_path):
    table = connections(toy(tmp_path / "toy.pcap", *OPEN, *SERVER_CLOSES))
    assert table.index.name == "stream" and table.index.tolist() == [0]
    assert list(table.loc[0].to_dict().items()) == list({
        "client": "10.0.0.1:50000", "server": "10.0.0.2:80", "roles": "syn", "opened": 0.0, "established": 0.2,
        "closed": 1.6, "client_bytes": 27, "server_bytes": 43, "retransmissions": 0, "client_retransmissions": 0,
        "server_retransmissions": 0, "longest_silence": 0.5, "keepalive_probes": 0, "ending": "fin",
        "closer": "server", "reset_by": None, "time_wait": "server", "protocol": "http/1.1", "server_name": None}.items())
    assert {str(kind) for kind in table.dtypes} == {"string", "Float64", "Int64"}


def test_events_are_numbers(tmp_path):
    """But for the names and addresses of the ends; what did not happen is missing, not None."""
    events = end_events(toy(tmp_path / "toy.pcap", *OPEN, segment("C", 9.0, "S", 0, client=("10.0.0.9", 1))))
    texts = {name for name, kind in events.dtypes.items() if not (pd.api.types.is_numeric_dtype(kind))}
    assert texts == {"host", "local", "peer"}


# Rule 2: the active closer

@pytest.mark.parametrize("closing, closer, time_wait", [
    (SERVER_CLOSES, "server", "server"), (CLIENT_CLOSES, "client", "client"), (SIMULTANEOUS, "both", "both"),
    ([("S", 1.01, "FA", 44, 28), *SIMULTANEOUS[:1], *SIMULTANEOUS[2:]], "both", "both"),
    ([("C", 1.0, "A", 28, 44), ("S", 1.1, "FA", 44, 28), ("C", 1.2, "FA", 28, 45), ("S", 1.3, "A", 45, 29)], "server",
     "server"),
    ([("S", 1.0, "FA", 44, 28), ("S", 1.3, "FA", 44, 28), ("C", 1.4, "FA", 28, 45), ("S", 1.5, "A", 45, 29)], "server",
     "server"),
    ([("C", 1.2, "FA", 28, 45), ("S", 1.0, "FA", 44, 28), ("S", 1.3, "A", 45, 29)], "server", "server")],
    ids=["server", "client", "simultaneous", "simultaneous, other order", "FIN with the ACK", "FIN twice",
         "captured out of order"])
def test_active_closer(row, closing, closer, time_wait):
    found = row(*OPEN, *closing)
    assert (found["closer"], found["time_wait"], found["ending"]) == (closer, time_wait, "fin")


def test_only_one_fin(row):
    assert row(*OPEN, *SERVER_CLOSES[:1])["closer"] == "server"
    found = row(*OPEN, *SERVER_CLOSES[:2])
    assert [found[name] for name in ("closer", "ending", "closed", "time_wait")] == ["server", "open", None, None]


def test_last_ack_not_captured(row):
    found = row(*OPEN, *SERVER_CLOSES[:3])
    assert [found[name] for name in ("closer", "ending", "closed", "time_wait")] == ["server", "fin", None, None]


def test_no_fin(row):
    found = row(*OPEN)
    assert [found[name] for name in ("closer", "ending", "closed", "time_wait")] == [None, "open", None, None]


# Rule 3: TIME_WAIT, or none

def test_forgotten_in_fin_wait_2(row):
    """No FIN comes: after `tcp_fin_timeout` the end is gone without TIME_WAIT; before that it can't be told."""
    half = [*OPEN, *SERVER_CLOSES[:2]]
    assert row(*half, until=60.0)["time_wait"] is None
    assert row(*half, until=70.0)["time_wait"] == "none"
    assert row(*half, until=10.0)["time_wait"] is None
    assert row(*half, until=10.0, fin_timeout=5)["time_wait"] == "none"
    assert row(*half, ("C", 59.9, "A", 27, 45), ("S", 60.0, "A", 45, 28), until=70.0)["time_wait"] == "none"
    assert row(*half, ("C", 63.9, "A", 27, 45), ("S", 64.0, "A", 45, 28), until=70.0)["time_wait"] is None


def test_not_forgotten_while_it_still_lives(row):
    """A program that has only shut down its sending side stays in FIN_WAIT_2 and answers, however long it takes."""
    lives = [*OPEN, *SERVER_CLOSES[:2], ("C", 100.0, "PA", 28, 45, b"late"), ("S", 100.1, "A", 45, 32)]
    assert row(*lives)["time_wait"] is None
    assert row(*lives, ("C", 101.0, "FA", 32, 45), ("S", 101.1, "A", 45, 33))["time_wait"] == "server"


def test_late_fin_is_reset(row):
    found = row(*OPEN, *SERVER_CLOSES[:2], ("C", 90.0, "FA", 28, 45), ("S", 90.1, "R", 45))
    assert [found[name] for name in ("ending", "closer", "time_wait", "closed")] == ["reset", "server", "none", 90.1]


def of(who, *segments):
    """Those of the segments that `who` sent."""
    return [one for one in segments if one[0] == who]


@pytest.mark.parametrize("side", "CS")
@pytest.mark.parametrize("closing", [SERVER_CLOSES, CLIENT_CLOSES, SIMULTANEOUS],
                         ids=["server", "client", "simultaneous"])
def test_one_side_captured(row, side, closing):
    """Where only one end's segments were captured, it can't be told whether the other had closed first, or as well."""
    found = row(*of(side, *OPEN, *closing))
    assert [found[name] for name in ("closer", "time_wait")] == [None, None]


def test_reset_of_a_connection_of_which_one_side_was_captured(row):
    found = row(*of("C", *OPEN), ("C", 1.0, "R", 28))
    assert [found[name] for name in ("ending", "time_wait")] == ["reset", None]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_reset_wherever_it_stands_shows_that_its_sender_was_captured(row, place):
    """The server acknowledges more after its FIN: the client had not closed at the number that the FIN acknowledged."""
    closing = [("S", 1.0, "FA", 44, 28), ("S", 1.1, "A", 45, 50)]
    assert row(*closing)["closer"] is None
    assert row(*closing[:place], ("C", 1.05, "R", 28), *closing[place:])["closer"] == "server"


def test_fin_not_captured_but_acknowledged(row):
    """The server's FIN acknowledges a byte that the client wasn't seen to send: its FIN, or data; no silence tells."""
    closing = [("S", 1.1, "FA", 44, 29), ("C", 1.2, "A", 29, 45)]
    for until in (2, 200):
        assert [row(*OPEN, *closing, until=until)[name] for name in ("closer", "time_wait")] == [None, None]


@pytest.mark.parametrize("closing, closer", [
    ([("S", 1.0, "FA", 44, 28), ("C", 1.1, "PFA", 28, 45, b"x"), ("C", 1.2, "FA", 28, 44)], "both"),
    ([("S", 1.0, "FA", 44, 28), ("C", 1.1, "A", 29, 44), ("C", 1.2, "FA", 28, 45)], "both"),
    ([("S", 1.0, "FA", 44, 28), ("C", 1.1, "A", 29, 45), ("C", 1.2, "FA", 28, 45)], None)],
    ids=["overtaken by its copy", "copy captured, sent before", "copy captured, may have been sent before"])
def test_first_fin_captured_is_not_the_first_sent(row, closing, closer):
    assert row(*OPEN, *closing, ("S", 1.3, "A", 45, 29))["closer"] == closer


# Resets

@pytest.mark.parametrize("reset", [("C", 1.0, "R", 28), ("C", 1.0, "RA", 28, 44), ("S", 1.0, "RA", 44, 28),
                                   ("C", 1.0, "R", 500)])
def test_reset(row, reset):
    found = row(*OPEN, reset)
    assert [found[name] for name in ("ending", "closer", "time_wait", "closed")] == ["reset", None, "none", 1.0]


@pytest.mark.parametrize("number, ending", [(44, "reset"), (45, "open")])
def test_reset_one_beyond_the_next_number_is_challenged_where_the_client_speaks_on(row, number, ending):
    assert row(*OPEN, ("S", 1.0, "R", number), ("C", 1.1, "PA", 28, 44, b"more"))["ending"] == ending


@pytest.mark.parametrize("reset", [("S", 1.0, "R", 20), ("S", 1.0, "R", 44 + 70000), ("S", 1.0, "R", 44 + 2**31),
                                   ("C", 1.0, "R", 5)],
                         ids=["below", "above the window", "far", "below, of the client"])
def test_reset_outside_the_window(row, reset):
    assert row(*OPEN, reset)["ending"] == "open"


def test_reset_that_is_challenged(row):
    """Not at the next sequence number: answered by an ACK, and the connection goes on (RFC 9293 section 3.10.7.4)."""
    closing = [("S", 1.0, "FA", 44, 32), ("C", 1.1, "A", 32, 45), ("C", 1.5, "FA", 32, 45), ("S", 1.6, "A", 45, 33)]
    found = row(*OPEN, ("C", 0.6, "R", 500), ("S", 0.61, "A", 44, 28), ("C", 0.7, "PA", 28, 44, b"more"),
                ("S", 0.8, "A", 44, 32), *closing)
    assert [found[name] for name in ("ending", "closer", "time_wait")] == ["fin", "server", "server"]


@pytest.mark.parametrize("reset", [("S", 0.05, "R", 77), ("S", 0.05, "RA", 0, 99)],
                         ids=["no ACK", "ACK of something else"])
def test_reset_that_does_not_answer_the_syn(row, reset):
    """RFC 9293 section 3.10.7.3: in SYN_SENT only a RST that acknowledges the SYN counts."""
    found = row(OPEN[0], reset, *OPEN[1:], *SERVER_CLOSES)
    assert [found[name] for name in ("ending", "closer", "time_wait")] == ["fin", "server", "server"]


def test_refused(row):
    found = row(("C", 0.0, "S", 0), segment("S", 0.1, "RA", -5000, 1))
    assert [found[name] for name in ("ending", "opened", "established", "closed", "time_wait", "reset_by")] == [
        "refused", 0, None, 0.1, "none", "server"]


def test_refused_then_accepted(row):
    """The same SYN tried again is the same stream; the first refusal didn't end it."""
    found = row(("C", 0.0, "S", 0), segment("S", 0.1, "RA", -5000, 1),
                *[(who, time + 1, *rest) for who, time, *rest in [*OPEN, *SERVER_CLOSES]])
    assert [found[name] for name in ("ending", "opened", "established", "closer")] == ["fin", 0, 1.2, "server"]


def test_reset_in_time_wait_comes_too_late(row):
    found = row(*OPEN, *SERVER_CLOSES, ("C", 2.0, "R", 29))
    assert [found[name] for name in ("ending", "time_wait", "closed")] == ["fin", "server", 1.6]


def test_reset_before_the_last_ack(row):
    found = row(*OPEN, *SERVER_CLOSES[:3], ("S", 1.55, "R", 45))
    assert [found[name] for name in ("ending", "closer", "time_wait")] == ["reset", "server", "none"]


def test_what_comes_after_a_reset_changes_nothing(row):
    found = row(*OPEN, *SERVER_CLOSES[:2], ("C", 1.2, "R", 28), *SERVER_CLOSES[2:])
    assert [found[name] for name in ("ending", "time_wait", "closed")] == ["reset", "none", 1.2]


# Handshakes and payload

def test_syn_and_answer_lost_and_repeated(row):
    found = row(("C", 0.0, "S", 0), ("C", 1.0, "S", 0), ("S", 1.1, "SA", 0, 1), ("S", 2.1, "SA", 0, 1),
                ("C", 2.2, "A", 1, 1))
    assert (found["opened"], found["established"]) == (0, 2.2)


def test_data_in_the_syn(row):
    """Fast Open: the answer may acknowledge the SYN alone."""
    found = row(("C", 0, "S", 0, 0, b"GET"), ("S", 0.1, "SA", 0, 1), ("C", 0.2, "A", 4, 1))
    assert (found["established"], found["client_bytes"]) == (0.2, 3)


@pytest.mark.parametrize("sent, size", [
    ([], 0), ([(1, b"abc")], 3), ([(1, b"abc"), (1, b"abc")], 3), ([(1, b"abc"), (3, b"cde")], 5),
    ([(4, b"def"), (1, b"abc")], 6),
    ([(4, b"def")], 6), ([(1, b"abc"), (3, b"x")], 3), ([(0, b"\0")], 0)],
    ids=["none", "once", "twice", "overlapping", "out of order", "first one not captured", "keep-alive byte",
         "before any data"])
def test_bytes_are_counted_once(row, sent, size):
    assert row(*HANDSHAKE, *[("C", 0.3, "PA", seq, 1, data) for seq, data in sent])["client_bytes"] == size


@pytest.mark.parametrize("shift, size", [(7, 100_000), (0, 1_000)])
def test_what_the_window_allows(row, shift, size):
    """A window of 1,000 times 2^7 bytes lets 100,000 bytes through at once; without the option they are stray."""
    scaled = [("WScale", shift)] if shift else []
    syn, answer = segment("C", 0.0, "S", 0, window=1000), segment("S", 0.1, "SA", 0, 1, window=1000)
    syn[TCP].options, answer[TCP].options = [("MSS", 1460), ("NOP", None), *scaled], scaled
    asked = [("C", 0.2, "A", 1, 1, b"", *ENDS, 1000), ("C", 0.3, "PA", 1, 1, b"x", *ENDS, 1000)]
    sent = [("S", 0.4 + 0.01 * number, "A", 1 + 1000 * number, 2, bytes(1000)) for number in range(100)]
    assert row(syn, answer, *asked, *sent)["server_bytes"] == size


def test_stray_segments_don_t_count(row):
    """An old duplicate, its numbers far from this connection's: neither bytes, nor FIN, nor next sequence number."""
    for far in (2**30, 3 * 2**30, 2**31):
        found = row(*OPEN, ("C", 0.6, "FPA", far, far, b"old duplicate"), *SERVER_CLOSES)
        assert [found[name] for name in ("client_bytes", "closer", "time_wait", "closed")] == [
            27, "server", "server", 1.6]


def test_answer_of_an_old_time_wait(row):
    """A SYN that meets TIME_WAIT is answered by an ACK of the old connection; reset, and tried again."""
    for far in (2**30 + 7, 2**31 + 7):
        found = row(("C", 0.0, "S", 0), ("S", 0.1, "A", far, far), ("C", 0.2, "R", far),
                    *[(who, time + 1, *rest) for who, time, *rest in [*OPEN, *SERVER_CLOSES]])
        assert [found[name] for name in ("ending", "established", "server_bytes", "closer")] == [
            "fin", 1.2, 43, "server"]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(client=st.sampled_from([0, 2**31, 2**32 - 1, 2**32 - 28, 2**32 - 29]) | st.integers(0, 2**32 - 1),
       server=st.sampled_from([0, 2**31 - 1, 2**31, 2**31 - 20, 2**32 - 44, 2**32 - 45]) | st.integers(0, 2**32 - 1))
def test_wrap_around(tmp_path, client, server):
    """Whatever the initial sequence numbers, the connection is the same."""
    probe = [("C", 50.0, "A", 27, 44), ("S", 50.1, "A", 44, 28)]
    closing = [(who, time + 60, *rest) for who, time, *rest in SERVER_CLOSES]
    rows = [segment(*row, isn={"C": client, "S": server}) for row in [*OPEN, *probe, *closing]]
    found = connections(toy(tmp_path / "toy.pcap", *rows)).iloc[0]
    assert found[["client_bytes", "server_bytes", "keepalive_probes", "closer", "time_wait", "closed"]].tolist() == [
        27, 43, 1, "server", "server", 61.6]


def test_more_than_four_gigabytes(row):
    """Sequence numbers that go all the way round keep counting."""
    step, rows = 2**30 - 2**20, list(HANDSHAKE)
    for number in range(6):
        seq = 1 + number * step
        rows += [segment("C", 1 + number, "A", seq, 1, b"x"), segment("S", 1.5 + number, "A", 1, seq + step)]
    assert row(*rows)["client_bytes"] == 5 * step + 1


# What the capture can't decide

def test_capture_begins_in_the_middle(row):
    found = row(*EXCHANGE, *SERVER_CLOSES)
    assert [found[name] for name in ("ending", "closed", "keepalive_probes")] == ["fin", pytest.approx(1.3), 0]
    assert [found[name] for name in ("opened", "established", "client_bytes", "server_bytes")] == [None] * 4
    assert [found[name] for name in ("roles", "client", "closer", "time_wait")] == [
        "request", "10.0.0.1:50000", "server", "server"]
    assert row(*EXCHANGE, *SIMULTANEOUS)["time_wait"] == "both"


def test_capture_begins_after_the_first_fin(row):
    """A FIN alone, at the beginning, may be the second one."""
    found = row(*SERVER_CLOSES[2:], until=200.0)
    assert [found[name] for name in ("closer", "time_wait", "ending")] == [None, None, "open"]


# A keep-alive probe that acknowledges the peer's FIN: its sender was in CLOSE_WAIT, so it had sent no FIN

LATE = [("S", 0.0, "FA", 44, 28), ("C", 0.1, "A", 28, 45)]
PROBED = [*LATE, ("C", 45.0, "A", 27, 45), ("S", 45.1, "A", 45, 28)]
RESET = [("C", 90.0, "A", 27, 45), ("S", 90.1, "R", 45)]


def late(*rows):
    """These segments ten seconds later than they are."""
    return [(who, time + 10, *rest) for who, time, *rest in rows]


@pytest.mark.parametrize("ending", [RESET, [], [("C", 45.2, "A", 27, 45, b"\0")]],
                         ids=["reset", "nothing", "a probe with a byte"])
def test_capture_begins_with_the_fin_and_probes_follow(row, ending):
    """The ports tell which end is the client; nobody reached TIME_WAIT: no second FIN came."""
    found = row(*PROBED, *ending, until=200)
    assert [found[name] for name in ("client", "closer", "time_wait")] == ["10.0.0.1:50000", "server", "none"]


@pytest.mark.parametrize("opening", [HANDSHAKE, HANDSHAKE[:1], HANDSHAKE[1:2]], ids=["handshake", "SYN", "SYN-ACK"])
def test_requests_not_captured_and_probes_follow_the_fin(row, opening):
    found = row(*opening, *late(*PROBED, *RESET))
    assert [found[name] for name in ("ending", "closer", "time_wait")] == ["reset", "server", "none"]
    assert [row(*opening, *late(*LATE, *RESET[1:]))[name] for name in ("closer", "time_wait")] == [None, None]


def test_probed_end_may_still_be_in_fin_wait_2(row):
    assert row(*PROBED, until=50)["time_wait"] is None
    assert row(*HANDSHAKE, *late(*PROBED), until=50)["closer"] == "server"


def test_a_damaged_number_is_not_behind_the_fin(row):
    """An empty segment far beyond the FIN that comes later was not sent after it: the server alone closed first."""
    stray = ("C", 0.6, "A", 60_000, 44)
    closes = [("S", 1.0, "FA", 44, 28), ("C", 1.1, "FA", 28, 45), ("S", 1.2, "A", 45, 29)]
    found = row(*HANDSHAKE, *EXCHANGE, stray, *closes)
    assert [found[name] for name in ("ending", "closer", "time_wait")] == ["fin", "server", "server"]


def test_probes_before_the_fin_do_not_tell(row):
    """The client may have shut down its sending side before the capture: Linux probes in FIN_WAIT_2 too."""
    probes = [("C", 0.0, "A", 27, 44), ("S", 0.1, "A", 44, 28), ("C", 45.0, "A", 27, 44), ("S", 45.1, "A", 44, 28)]
    found = row(*probes, ("S", 60.0, "FA", 44, 28), ("C", 60.1, "A", 28, 45), until=200)
    assert [found[name] for name in ("keepalive_probes", "closer", "time_wait")] == [1, None, None]


def test_probed_and_then_answered(row):
    """After the probes the client closes too: the server reaches TIME_WAIT."""
    found = row(*PROBED, ("C", 50.0, "FA", 28, 45), ("S", 50.1, "A", 45, 29))
    assert [found[name] for name in ("ending", "closer", "time_wait")] == ["fin", "server", "server"]
    found = row(*HANDSHAKE, *late(*PROBED, ("C", 50.0, "FA", 28, 45), ("S", 50.1, "A", 45, 29)))
    assert [found[name] for name in ("ending", "closer", "time_wait")] == ["fin", "server", "server"]


def test_capture_begins_with_the_answer(row):
    found = row(*OPEN[1:], *SERVER_CLOSES)
    assert [found[name] for name in ("client", "opened", "established", "client_bytes", "closer")] == [
        "10.0.0.1:50000", None, pytest.approx(0.1), 27, "server"]


def test_answer_not_captured(row):
    found = row(HANDSHAKE[0], *OPEN[2:], *SERVER_CLOSES)
    assert [found[name] for name in ("opened", "established", "server_bytes", "closer", "time_wait")] == [
        0, 0.2, 43, "server", "server"]


def test_ipv6_addresses_stand_in_brackets(tmp_path):
    packet = Ether() / IPv6(src="::1", dst="2001:db8::2") / TCP(sport=5, dport=80, flags="S")
    packet.time = 0
    assert connections(toy(tmp_path / "toy.pcap", packet)).iloc[0][["client", "server"]].tolist() == [
        "[::1]:5", "[2001:db8::2]:80"]


# Rule 4: keep-alive probes

IDLE = ("C", 45.0, "A", 27, 44)
ANSWER = ("S", 45.1, "A", 44, 28)


def test_probe(row, probes):
    assert probes(*OPEN, IDLE, ANSWER, ("C", 90.0, "A", 27, 44), ("S", 90.1, "A", 44, 28)) == [45.0, 90.0]
    assert row(*OPEN, IDLE, ANSWER)["keepalive_probes"] == 1


@pytest.mark.parametrize("rows, times", [
    ([("C", 45.0, "A", 27, 44, b"\0"), ANSWER], [45.0]), ([("S", 45.0, "A", 43, 28)], [45.0]),
    ([("C", 45.0, "A", 28, 44)], []), ([("C", 45.0, "A", 26, 44)], []), ([("C", 45.0, "A", 27, 44, b"ab")], []),
    ([("C", 45.0, "FA", 27, 44)], []), ([("C", 45.0, "R", 27)], []),
    ([("C", 44.0, "PA", 28, 44, b"x"), ("C", 45.0, "A", 28, 44)], []),
    ([("C", 44.0, "FA", 28, 44), ("C", 45.0, "A", 28, 44)], []),
    ([("C", 44.0, "FA", 28, 44), ("S", 44.1, "A", 44, 29), ("C", 45.0, "A", 28, 44)], []),
    ([segment("S", 44.0, "A", 44, 28, window=0), ("C", 45.0, "A", 27, 44)], []),
    ([segment("S", 44.0, "A", 44, 28, window=0), segment("S", 44.5, "A", 44, 28), ("C", 45.0, "A", 27, 44)], [45.0]),
    ([SERVER_CLOSES[0], SERVER_CLOSES[1], ("C", 45.0, "A", 27, 45)], [45.0])],
    ids=["with a byte", "of the server", "plain ACK", "older ACK", "two bytes", "FIN", "RST",
         "late ACK, data not acknowledged", "after a FIN",
         "after an acknowledged FIN", "window probe", "window opened again", "in CLOSE_WAIT"])
def test_what_is_a_probe(probes, rows, times):
    assert probes(*OPEN, *rows) == times


def test_probe_right_after_the_handshake(probes):
    """A connection that never carried data is probed too."""
    assert probes(*HANDSHAKE, ("C", 45.0, "A", 0, 1), ("S", 45.1, "A", 1, 1)) == [45.0]


def test_probes_of_a_connection_older_than_the_capture(probes):
    """The first one can't be told from any ACK; its answer says what the sender had sent."""
    assert probes(IDLE, ANSWER, ("C", 90.0, "A", 27, 44)) == [45.0]


def test_probes_of_the_next_connection(tmp_path):
    again = [segment(who, time + 100, *rest, isn={"C": 9000, "S": 70000}) for who, time, *rest in [*OPEN, IDLE, ANSWER]]
    table = connections(toy(tmp_path / "toy.pcap", *OPEN, IDLE, ANSWER, *SERVER_CLOSES, *again))
    assert table["keepalive_probes"].tolist() == [1, 1] and table["client_bytes"].tolist() == [27, 27]


# What stands in the file in another order than it was sent, or at one time

LATE_SYN = [*OPEN[1:], *CLIENT_CLOSES]


@pytest.mark.parametrize("place", [1, 2, 3, len(LATE_SYN)], ids=["answer first", "ACK first", "request first", "last"])
@pytest.mark.parametrize("when", [0.0, 5.0], ids=["its own time", "the time of writing"])
def test_syn_captured_late(row, place, when):
    found = row(*LATE_SYN[:place], ("C", when, "S", 0), *LATE_SYN[place:])
    assert [found[name] for name in ("client", "client_bytes", "server_bytes", "ending", "closer", "time_wait")] == [
        "10.0.0.1:50000", 27, 43, "fin", "client", "client"]


def test_syn_captured_late_and_a_reset(row):
    found = row(*OPEN[1:], ("C", 1.0, "RA", 28, 44), ("C", 2.0, "S", 0))
    assert [found[name] for name in ("ending", "client_bytes", "time_wait")] == ["reset", 27, "none"]


def test_syn_captured_last_behind_a_reset_and_nothing_but_the_handshake(row):
    assert row(*HANDSHAKE[1:], ("S", 0.3, "R", 1), HANDSHAKE[0])["ending"] == "reset"


def test_an_old_segment_between_two_syns_is_not_what_the_first_one_opened(row):
    refused = [("C", 0.0, "S", 0), ("C", 0.0, "A", 100_000, 900), ("S", 0.0, "RA", 0, 1)]
    assert [row(*refused, *OPEN, *SERVER_CLOSES)[name] for name in ("ending", "time_wait")] == ["fin", "server"]


def test_what_an_older_connection_left_is_not_before_a_late_syn(row):
    """The server's ACK acknowledges more than the SYN that it answers: it is an older connection's."""
    old = [("C", 0.0, "S", 0), ("S", 0.01, "A", 5, 28), ("C", 0.02, "R", 28)]
    assert row(*old, ("C", 0.03, "S", 0), *OPEN[1:], *SERVER_CLOSES)["established"] == 0.2


def test_data_that_reach_beyond_a_fin_are_not_sent_after_it(row):
    found = row(*OPEN, ("S", 0.6, "PA", 44, 28, bytes(59)), ("C", 1.0, "FA", 28, 44), ("S", 1.1, "A", 44, 29),
                ("S", 1.2, "FA", 44, 29), ("C", 1.3, "A", 29, 45))
    assert [found[name] for name in ("closer", "time_wait", "ending")] == ["client", "client", "fin"]


HALF = [("C", 1.0, "FA", 28, 44), ("S", 1.1, "A", 44, 29), ("S", 1.101, "FA", 44, 29)]


def test_fin_captured_and_its_ack_not(row):
    """The FIN passed, so the client may well wait; where it comes again unanswered, nobody was there to wait."""
    assert [row(*OPEN, *HALF, until=200)[name] for name in ("ending", "closer", "time_wait")] == ["fin", "client", None]
    twice = [*HALF, ("S", 1.102, "FA", 44, 29)]
    again = [*HALF, ("S", 1.4, "FA", 44, 29), ("S", 2.0, "FA", 44, 29)]
    assert row(*OPEN, *twice, until=200)["time_wait"] is None
    assert row(*OPEN, *again, until=200)["time_wait"] == "none"
    assert row(*OPEN, *HALF[:2], ("S", 90.0, "FA", 44, 29), until=200)["time_wait"] == "none"


@pytest.mark.parametrize("reset, ending, time_wait", [(3, "reset", "server"), (2, "reset", "none"), (4, "fin", "server")],
                         ids=["before the last ACK", "before the second FIN", "after all"])
def test_at_one_time_the_order_in_the_file_decides(row, reset, ending, time_wait):
    rows = [*SERVER_CLOSES[:reset], ("C", 1.0, "R", 29 if reset > 2 else 28), *SERVER_CLOSES[reset:]]
    found = row(*OPEN, *[(who, 1.0, *rest) for who, _, *rest in rows])
    assert [found[name] for name in ("ending", "time_wait")] == [ending, time_wait]


def test_recordings_with_a_coarse_clock(experiment):
    """Times cut to 10 ms: the same verdicts, and opened and closed as before within them."""
    capture = experiment.capture
    times = np.floor(capture.segments["time"] * 100) / 100
    coarse = connections(replace(capture, segments=capture.segments.assign(time=times), derived={}))
    fine = connections(capture)
    verdicts = ["client", "server", "client_bytes", "server_bytes", "keepalive_probes", "ending", "closer", "time_wait"]
    pd.testing.assert_frame_equal(coarse[verdicts], fine[verdicts])
    for name in ("opened", "established", "closed"):
        assert (coarse[name].isna() == fine[name].isna()).all() and not ((coarse[name] - fine[name]).abs() > 0.01001).any()


# Frames that the capture lost

@pytest.fixture
def lossy(tmp_path):
    """The same as `row`, and the states, of a capture that lost so many frames."""
    def one(dropped, *segments, until=200.0):
        other = segment("C", until, "S", 0, client=("10.0.0.9", 1))
        capture = replace(toy(tmp_path / "toy.pcap", *segments, other), dropped=dropped, derived={})
        found = {name: None if pd.isna(value) else value for name, value in connections(capture).iloc[0].items()}
        return found, states(capture).query("stream == 0")
    return one


def test_forgotten_only_where_no_frame_was_dropped(lossy):
    for dropped, ending, none, until in ((None, "open", "none", 61.1), (0, "open", "none", 61.1), (1, None, None, None)):
        found, stays = lossy(dropped, *OPEN, *SERVER_CLOSES[:2])
        assert [found[name] for name in ("closer", "ending", "time_wait")] == ["server", ending, none]
        last = stays[stays["state"] == "FIN_WAIT_2"]["until"].iloc[0]
        assert (None if pd.isna(last) else round(last, 6)) == until


def test_a_fin_alone_tells_only_what_its_answer_shows(lossy):
    """An empty ACK at the number after its data: the client had sent no FIN. Data with the ACK, or none, show nothing."""
    for answer in ([], [("C", 1.1, "PA", 28, 45, b"x")]):
        found, stays = lossy(1, *OPEN, SERVER_CLOSES[0], *answer)
        assert found["closer"] is None and not set(stays["state"]) & {"CLOSE_WAIT", "FIN_WAIT_1", "FIN_WAIT_2"}
        assert lossy(0, *OPEN, SERVER_CLOSES[0], *answer)[0]["closer"] == "server"


def test_the_answer_to_a_fin_alone_may_stand_first_in_the_file(lossy):
    assert lossy(1, ("C", 1.1, "A", 28, 45), OPEN[3], SERVER_CLOSES[0])[0]["closer"] == "server"


def test_what_frames_show_stays_known_where_others_were_dropped(lossy):
    for closing in (SERVER_CLOSES, CLIENT_CLOSES, SIMULTANEOUS, [("C", 1.0, "RA", 28, 44)]):
        lost, whole = lossy(7, *OPEN, *closing), lossy(0, *OPEN, *closing)
        assert lost[0] == whole[0]
        pd.testing.assert_frame_equal(lost[1], whole[1])


def test_a_reset_after_a_fin_alone_tells_no_none_where_frames_were_dropped(lossy):
    segments = [*OPEN, *SERVER_CLOSES[:2], ("C", 90.0, "A", 27, 45), ("S", 90.1, "R", 45)]
    assert [lossy(dropped, *segments)[0]["time_wait"] for dropped in (0, 1)] == ["none", None]
