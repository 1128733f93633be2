"""Which end is which without a SYN, who reset, what was repeated or never answered: toys, and recordings beheaded."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import EXCHANGE, HANDSHAKE, SERVER_CLOSES, segment, toy

from helpers.captures import SYN
from helpers.connections import connections
from helpers.connections.repeats import repeated
from helpers.experiments import load, names

GET = EXCHANGE[0][5]
TALK = [("C", 0.3, "PA", 1, 1, b"some bytes"), ("S", 0.4, "PA", 1, 11, b"some more"), ("C", 0.5, "A", 11, 10)]
FINS = [("S", 1.0, "FA", 10, 11), ("C", 1.1, "A", 11, 11), ("C", 1.5, "FA", 11, 11), ("S", 1.6, "A", 11, 12)]


@pytest.fixture
def table(tmp_path):
    return lambda *segments: connections(toy(tmp_path / "toy.pcap", *segments))


def between(client, server, segments=(*TALK, *FINS)):
    """The segments between these two ports."""
    return [segment(*one, client=("10.0.0.1", client), server=("10.0.0.2", server)) for one in segments]


def told(table, *columns):
    return [None if pd.isna(value) else value for value in table.loc[0, list(columns)]]


# The evidence

HELLO = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"


@pytest.mark.parametrize(("first", "roles"), [(GET, "request"), (HELLO, "hello"), (b"anything", None)])
def test_what_is_said(table, first, roles):
    """Also where the other end's segment stands first in the file, and the ports say nothing."""
    rows = [("S", 0.1, "A", 1, 1), ("C", 0.3, "PA", 1, 1, first), ("S", 0.4, "A", 1, 1 + len(first)),
            ("C", 1.0, "R", 1 + len(first))]
    client = "10.0.0.1:40000" if roles else None
    assert told(table(*between(40000, 41000, rows)), "roles", "client", "reset_by", "ending") == [
        roles, client, roles and "client", "reset"]


@pytest.mark.parametrize(("client", "server", "roles"), [
    (40000, 80, "known port"), (40000, 8080, "known port"), (40000, 20, None), (1000, 80, None), (40000, 700, None),
    (40000, 9999, None), (40000, 41000, None), (32768, 80, "known port"), (32767, 80, None)],
    ids=["web", "another", "FTP's data come from 20", "a reserved port may be a client's", "here too", "unknown", "both",
         "Linux's first for clients", "the one before"])
def test_known_ports(table, client, server, roles):
    found = table(*between(client, server))
    assert told(found, "roles", "closer", "time_wait", "client_bytes") == [
        roles, roles and "server", roles and "server", None]


def test_a_port_that_many_share(table):
    peers = [between(port, 9999) for port in (40000, 40001, 40002)]
    assert told(table(*peers[0], *peers[1], *peers[2]), "roles", "client") == ["shared port", "10.0.0.1:40000"]
    assert told(table(*peers[0], *peers[1]), "roles", "client") == [None, None]


def test_a_port_that_listens(table):
    """Another connection's SYN went to it."""
    opened = between(40001, 9999, [*HANDSHAKE, *TALK])
    assert told(table(*between(40000, 9999), *opened), "roles", "client") == ["shared port", "10.0.0.1:40000"]
    assert told(table(*between(40000, 9999), *between(40000, 9998, [*HANDSHAKE, *TALK])), "roles") == [None]


def test_a_client_port_that_goes_to_many_servers(table):
    """One port of the client, used towards three servers: it is no server's, though three share it."""
    rows = [between(40000, port) for port in (9998, 9999, 50000)]
    assert table(*rows[0], *rows[1], *rows[2])["roles"].isna().all()
    rows = [between(40000, port) for port in (80, 443, 25)]
    assert (table(*rows[0], *rows[1], *rows[2])["roles"] == "known port").all()


# How it ended

@pytest.mark.parametrize("first", "CS")
def test_signs_that_disagree(table, first):
    """A port was a server's in another connection, and its peer's is one of a known service: nobody can tell."""
    server = [segment(*one, client=("10.0.0.9", 50000), server=("10.0.0.1", 40000)) for one in (*HANDSHAKE, *EXCHANGE)]
    told_last = between(40000, 80, [*TALK, *FINS] if first == "C" else [*TALK[1:], *FINS])
    assert table(*told_last)["roles"].tolist() == ["known port"]
    assert table(*server, *told_last)["roles"].fillna("none").tolist() == ["syn", "none"]


@pytest.mark.parametrize("by", "CS")
def test_reset_by(table, by):
    end = {"C": ("C", 1.0, "RA", 28, 44), "S": ("S", 1.0, "RA", 44, 28)}[by]
    assert told(table(*HANDSHAKE, *EXCHANGE, end), "ending", "reset_by") == ["reset", {"C": "client", "S": "server"}[by]]


def test_reset_by_is_told_of_a_reset_that_ended_it(table):
    assert told(table(*HANDSHAKE, *EXCHANGE, *SERVER_CLOSES, ("C", 2.0, "R", 29)), "ending", "reset_by") == ["fin", None]


REPEATED = [("C", 1.0 + wait, "PA", 28, 44, GET) for wait in (0, 0.2, 0.6)]
SYNS = [("C", 0.0, "S", 0), ("C", 1.0, "S", 0), ("C", 3.0, "S", 0)]


@pytest.mark.parametrize(("rows", "ending"), [
    (SYNS, "unanswered"), (SYNS[:1], "open"), ([SYNS[0], ("C", 0.00001, "S", 0)], "open"),
    ([*SYNS, ("C", 3.2, "A", 1, 1)], "open"), ([*SYNS, ("S", 3.2, "A", 77, 99)], "open"),
    ([*HANDSHAKE, *EXCHANGE, *REPEATED], "unanswered"), ([*HANDSHAKE, *EXCHANGE, *REPEATED[:1]], "open"),
    ([*HANDSHAKE, *EXCHANGE, *REPEATED, ("S", 2.0, "A", 44, 55)], "open"),
    ([*HANDSHAKE, *EXCHANGE, *REPEATED[:2], ("S", 1.3, "A", 44, 28), *REPEATED[2:]], "open"),
    ([*HANDSHAKE, *EXCHANGE, *REPEATED[:2], ("C", 1.5, "A", 55, 99)], "open"),
    (REPEATED, "open"), ([*EXCHANGE, *REPEATED], "unanswered"),
    ([("C", 0.0, "S", 0), ("S", 0.1, "SA", 0, 1), ("S", 1.1, "SA", 0, 1)], "unanswered"),
    ([("S", 0.1, "SA", 0, 1), ("S", 1.1, "SA", 0, 1)], "open"),
    ([*HANDSHAKE, *EXCHANGE, *[("C", 5.0 + wait, "A", 27, 44, b"x") for wait in range(9)]], "open"),
    ([*HANDSHAKE, *EXCHANGE, *[("C", 5.0 + wait, "A", 28, 44, b"x") for wait in range(4)]], "open"),
    ([*HANDSHAKE, *EXCHANGE, REPEATED[0], ("C", 1.00001, *REPEATED[0][2:])], "open")],
    ids=["SYNs", "one SYN", "a frame twice", "one direction", "something came", "data", "data once", "acknowledged",
         "the peer spoke", "the end has heard something", "the peer is never seen", "no SYN", "SYN-ACKs",
         "SYN-ACKs alone", "keep-alive probes", "window probes", "data in a frame twice"])
def test_unanswered(table, rows, ending):
    assert told(table(*rows), "ending") == [ending]


# What was sent again

@pytest.mark.parametrize(("sent", "number"), [
    ([(1, b"abc"), (4, b"def")], 0), ([(1, b"abc"), (1, b"abc")], 1), ([(1, b"abc"), (4, b"def"), (1, b"abcdef")], 1),
    ([(1, b"abc"), (7, b"ghi"), (4, b"def")], 0), ([(1, b"abc"), (7, b"ghi"), (4, b"def"), (4, b"def")], 1),
    ([(1, b"abc"), (4, b"def"), (1, b"abc"), (4, b"def")], 2), ([(1, b"abc"), (3, b"cde")], 1), ([(0, b"x")], 0)],
    ids=["none", "once", "as one", "late", "late, then again", "both", "in part", "before any data"])
def test_retransmissions(table, sent, number):
    rows = [("C", 0.3 + 0.1 * place, "PA", seq, 1, data) for place, (seq, data) in enumerate(sent)]
    found = table(*HANDSHAKE, ("S", 0.25, "A", 1, 1), *rows)
    assert told(found, "retransmissions", "client_retransmissions", "server_retransmissions") == [number, number, 0]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 8)), max_size=14))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_retransmissions_are_numbers_that_were_sent_before(sent):
    """Counted one by one, behind a SYN."""
    segments, seen, number = [(0, 1), *((begin, begin + size) for begin, size in sent)], set(), 0
    for begin, end in segments:
        number += not seen.isdisjoint(range(begin, end))
        seen |= set(range(begin, end))
    assert repeated(segments) == number


def test_many_gaps_take_no_longer():
    """100,000 bytes, every other one first and then those between: looking at every gap for each would take an hour."""
    assert repeated([*((at, at + 1) for place in (0, 1) for at in range(place, 100_000, 2))]) == 0


def test_syn_and_fin_count(table):
    rows = [HANDSHAKE[0], ("C", 0.05, "S", 0), *HANDSHAKE[1:], *EXCHANGE, SERVER_CLOSES[0], ("S", 1.05, "FA", 44, 28)]
    assert told(table(*rows), "client_retransmissions", "server_retransmissions") == [1, 1]


def test_the_longest_silence_is_one_before_the_end(table):
    late = [("C", 90.0, "R", 29)]
    assert told(table(*HANDSHAKE, *EXCHANGE, *SERVER_CLOSES, *late), "longest_silence") == [pytest.approx(0.5)]
    reset = [("S", 30.5, "R", 44)]
    assert told(table(*HANDSHAKE, *EXCHANGE, *reset), "longest_silence") == [pytest.approx(30.0)]


# The recordings without their heads

def beheaded(capture, begin):
    """The capture as if begun late: each stream behind its last SYN, and behind `begin` seconds; and its old numbers."""
    streams, syn = capture.segments["stream"].to_numpy(), np.asarray(capture.headers["flags"]) & SYN > 0
    places = np.arange(len(syn))
    last = np.full(streams.max() + 1, -1)
    np.maximum.at(last, streams[syn], places[syn])
    keep = (places > last[streams]) & (capture.segments["time"] >= begin).to_numpy()
    segments = capture.segments[keep]
    numbers, new = np.unique(segments["stream"], return_inverse=True)
    src, dst = (segments[end].astype(str) + ":" + segments[port].astype(str) for end, port in (
        ("src", "sport"), ("dst", "dport")))
    first = src.groupby(new).transform("first")
    headers = {name: values[keep] for name, values in capture.headers.items() if len(values) == len(keep)}
    headers["side"] = (src != first).to_numpy().astype(np.int8)
    hosts = pd.Categorical.from_codes(np.full(len(new), -1), ["client", "server"])
    assert ((src == first) | (dst == first)).all()
    return replace(capture, segments=segments.assign(stream=new, host=hosts), headers=headers, derived={}), numbers


def test_the_recordings_without_their_heads(measured):
    """No wrong role, no wrong closer, nobody wrongly said to have reset; most are known."""
    bad, seen = set(), {"roles": 0, "closer": 0, "ended": 0, "connections": 0}
    for name in names():
        experiment = load(name)
        whole = experiment.connections
        if not len(whole):
            continue
        for begin in (0.0, float(whole["opened"].median())):
            capture, numbers = beheaded(experiment.capture, begin)
            found = connections(capture, experiment.fin_timeout).set_axis(numbers)
            truth = whole.loc[numbers]
            truth = truth[truth["roles"] == "syn"]
            found = found.loc[truth.index]
            for column in ("client", "server", "closer", "reset_by", "time_wait"):
                known = found[column].notna()
                wrong = known & (found[column] != truth[column]).fillna(column in ("client", "server"))
                if wrong.any():
                    bad.add((name, column))
            seen["connections"] += len(found)
            seen["roles"] += int(found["roles"].notna().sum())
            seen["closer"] += int(found["closer"].notna().sum())
            seen["ended"] += int(truth["closer"].notna().sum())
    assert not bad
    assert seen["roles"] > 0.9 * seen["connections"] and seen["closer"] > 0.5 * seen["ended"]
    measured("without their heads: of {connections:,} connections the roles of {roles:,} are known; of {ended:,} "
             "that were closed, the closer of {closer:,}; no role, closer or reset_by is wrong".format(**seen))
