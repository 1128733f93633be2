"""`helpers.plain` against the fast modules: on every recording, on toys, and on conversations that keep RFC 9293.

Where a capture is complete (all that was acknowledged is in it), both say the same. Where it isn't, `plain` says None
or the same: what else follows from an incomplete capture is the fast modules' own, and tested elsewhere.
"""

import math

import pandas as pd
import pytest
from conversations import ACK, RST, Plan, converse
from fuzz import ETHERNET, RAW_IP, SYN, frame, pcap, pcapng
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import plain
from helpers.captures import read_capture
from helpers.connections import connections, keepalive_probes
from helpers.experiments import data_folder
from helpers.states import count, netstat, states

RECORDINGS = sorted(data_folder().glob("*/capture*.pcapng"))
INCOMPLETE = {"clinic-backlog": "SYNs that are never answered",
              "old-duplicate-accepted": "one end acknowledges bytes of an older connection, not sent in this one",
              "old-duplicate-refused": "one end acknowledges bytes of an older connection, not sent in this one",
              "new-syn": "a TIME_WAIT answers a new SYN with the numbers of its own connection",
              "protection": "a TIME_WAIT answers a new SYN with the numbers of its own connection"}
played = settings(max_examples=60, deadline=None, derandomize=True,
                  suppress_health_check=[HealthCheck.function_scoped_fixture])


def missing(value):
    return None if pd.isna(value) else value


def both(path):
    """Both readings of a capture: connections of `plain`, and by stream its verdict beside the row of `connections`."""
    segments, end = plain.read(path)
    found, capture = plain.follow(segments), read_capture(path)
    table = connections(capture)
    rows = table[["ending", "closer", "time_wait", "keepalive_probes"]]
    rows["ending"] = rows["ending"].replace("unanswered", "open")       # which the plain version does not tell apart
    without_syn = (table["roles"] != "syn").fillna(True)   # nor does it look for another sign of the ends
    for name in ("closer", "time_wait"):
        rows[name] = rows[name].mask(without_syn & rows[name].isin(("client", "server")))
    fast = [{name: missing(value) for name, value in row.items()} for row in rows.to_dict("records")]
    return found, [one.verdict(end) for one in found], fast, capture


def lasting(stays, streams):
    """The stays in `streams` that last, as sorted tuples that can be compared; what a capture doesn't show is 0."""
    plainly = [(stay.stream, missing(stay.host) or "", stay.local, stay.peer, stay.state,
                *(0 if missing(time) is None or math.isinf(time) else time for time in (stay.since, stay.until)))
               for stay in stays]
    return sorted(stay for stay in plainly if stay[0] in streams and stay[5] != stay[6])


def agree(found, plainly, fast, capture):
    """How many connections, and of those complete; an AssertionError where the two readings contradict each other."""
    assert len(plainly) == len(fast)
    complete = {one.stream for one in found if one.complete()}
    for stream, (said, told) in enumerate(zip(plainly, fast)):
        assert stream not in complete or said == told, stream
        assert all(said[name] in (None, told[name]) for name in ("closer", "time_wait")), stream
    assert lasting(plain.states(found), complete) == lasting(states(capture).itertuples(index=False), complete)
    return len(found), len(complete)


# The shipped recordings

@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_on_every_recording(path, measured):
    segments, end = plain.read(path)
    found, _, _, capture = readings = both(path)
    table = capture.segments
    assert end == capture.end
    assert [one.frame for one in segments] == table.index.tolist()
    for name in ("time", "seq", "ack", "length"):
        assert [getattr(one, name) for one in segments] == table[name].tolist()
    stream = {one.frame: each.stream for each in found for one in each.steps}
    assert [stream[number] for number in table.index] == table["stream"].tolist()
    number, complete = agree(*readings)
    assert complete == number or path.parent.name in INCOMPLETE
    measured(f"plain.py on {path.parent.name}: {complete} of {number} connections complete, all equal")


@pytest.mark.parametrize("path", RECORDINGS[:6] + RECORDINGS[-6:], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_probes_and_netstat(path):
    segments, _ = plain.read(path)
    found, capture = plain.follow(segments), read_capture(path)
    probe = keepalive_probes(capture)
    probes = sorted(one.frame for each in found for one in each.steps if plain.is_probe(one))
    assert probes == probe.index[probe].tolist()
    stays, table = plain.states(found), states(capture)
    for at in (0.5, 11.0, 70.0, 100.0):
        own = sorted(stay[1:5] for stay in plain.netstat(stays, at))
        assert own == sorted(netstat(table, at).itertuples(index=False, name=None))
        assert sum(stay[3] == "TIME_WAIT" for stay in own) == count(table, "TIME_WAIT", at=at)


# Conversations that hypothesis makes

NUMBERS = st.frozensets(st.integers(0, 30), max_size=4)
WAITS = st.sampled_from([0, 0.001, 0.004, 0.02, 0.3, 5, 70])
WHAT = st.sampled_from(["send", "send", "probe", "shutdown", "shutdown", "abort"])
DEEDS = st.lists(st.tuples(WAITS, st.sampled_from("CS"), WHAT), min_size=1, max_size=8)
PLANS = st.builds(Plan, DEEDS, NUMBERS, NUMBERS, NUMBERS, st.just(frozenset()), st.booleans(),
                  st.sampled_from([{"C": 1000, "S": 5000}, {"C": 2**32 - 10, "S": 2**32 - 3}]))


def write(path, *wires):
    """The capture of what was seen on these wires, one after the other, at times that differ."""
    seen = [one for wire in wires for one in sorted(wire.seen)]
    times, last = [], -1
    for time, _, _ in seen:
        last = max(last + 1, round(time * 1e6))
        times.append(last)
    path.write_bytes(pcap([packet for _, _, packet in seen], times=times))
    return path


@played
@given(PLANS)
def test_on_any_conversation(tmp_path, plan):
    wire = converse(plan)
    _, plainly, *_ = readings = both(write(tmp_path / "talk.pcap", wire))
    number, complete = agree(*readings)
    assert number == complete == 1
    truth = {name for name, host in zip(("client", "server"), wire.hosts.values()) if host.closes_first}
    said = plainly[0]["closer"]
    assert truth == {"both": {"client", "server"}, None: set()}.get(said, {said})


@played
@given(PLANS, PLANS, st.sampled_from([0.5, 20, 61, 100]))
def test_on_ports_that_are_used_again(tmp_path, first, second, gap):
    wire = converse(first)
    second.isn = {name: (number + 10**6) % 2**32 for name, number in first.isn.items()}
    number, _ = agree(*both(write(tmp_path / "twice.pcap", wire, converse(second, max(wire.seen)[0] + gap))))
    assert number == 2


@played
@given(PLANS, st.frozensets(st.integers(0, 30), min_size=1, max_size=5))
def test_on_captures_with_holes(tmp_path, plan, unseen):
    plan.unseen = unseen
    wire = converse(plan)
    if wire.seen:
        agree(*both(write(tmp_path / "holes.pcap", wire)))


# Containers and links that the recordings don't have

TALK = [frame("C", SYN, 0), frame("S", SYN | ACK, 0, 1), frame("C", ACK, 1, 1), frame("C", RST | ACK, 1, 1)]
MAC = bytes(12)


def over_ipv6(packet):
    """The same TCP segment in IPv6, between ::1 and ::2 or back."""
    src, dst = (packet[12:16].rjust(16, b"\0"), packet[16:20].rjust(16, b"\0"))
    return b"\x60\0\0\0" + len(packet[20:]).to_bytes(2, "big") + b"\x06\x40" + src + dst + packet[20:]


LINKS = {"raw IP": (RAW_IP, b""), "Ethernet": (ETHERNET, MAC + b"\x08\0"),
         "VLAN": (ETHERNET, MAC + b"\x81\0\0\x05\x08\0"),
         "Linux cooked": (113, bytes(14) + b"\x08\0"), "Linux cooked 2": (276, b"\x08\0" + bytes(18))}


@pytest.mark.parametrize("container", [pcap, pcapng])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("link", LINKS)
def test_files_and_links(tmp_path, container, order, link):
    kind, header = LINKS[link]
    path = tmp_path / "file"
    path.write_bytes(container([header + packet for packet in TALK], order=order, link=kind))
    segments, _ = plain.read(path)
    table = read_capture(path).segments
    assert [one.seq for one in segments] == table["seq"].tolist() == [1000, 5000, 1001, 1001]
    assert {one.src for one in segments} == {"10.0.0.1:50000", "10.0.0.2:80"}
    assert agree(*both(path)) == (1, 1)


def test_ipv6(tmp_path):
    path = tmp_path / "six.pcap"
    path.write_bytes(pcap([over_ipv6(packet) for packet in TALK]))
    assert {one.src for one in plain.read(path)[0]} == {"[::a00:1]:50000", "[::a00:2]:80"}
    assert agree(*both(path)) == (1, 1)


def test_a_file_cut_short_gives_its_whole_frames(tmp_path):
    for data in (pcap(TALK), pcapng(TALK)):
        (tmp_path / "cut").write_bytes(data[:-7])
        assert len(plain.read(tmp_path / "cut")[0]) == 3


def test_it_stays_short_and_plain():
    """What notebooks 12 and 13 promise of it."""
    text = (data_folder().parent / "helpers" / "plain.py").read_text(encoding="utf-8")
    assert text.count("\n") <= 250 and "import numpy" not in text and "import pandas" not in text
