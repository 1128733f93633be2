"""What holds for every capture: the same tables whatever the container, the numbers or the neighbours."""

import gzip
import struct
import subprocess
import time
import tracemalloc

import pandas as pd
import pytest
from conftest import PLAIN, require
from fuzz import (
    ACK,
    CLIENT,
    CLOSING,
    ETHERNET,
    FIN,
    HANDSHAKE,
    PSH,
    RAW_IP,
    RST,
    SYN,
    accounted,
    block,
    examine,
    examine_tables,
    frame,
    opened,
    pcap,
    pcapng,
    spoken,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from helpers import captures
from helpers.captures import CaptureError, merge_captures, read_capture
from helpers.connections import connections
from helpers.exchanges import exchanges
from helpers.experiments import data_folder
from helpers.flow import accepted_resets, flows, known_before, probes, probes_and_resets
from helpers.report import Incident, summary
from helpers.states import states

bounded = settings(max_examples=8, deadline=None, derandomize=True,
                   suppress_health_check=[HealthCheck.function_scoped_fixture])
GET, OK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
EXCHANGE = spoken("C", GET) + spoken("S", OK, ack=1 + len(GET))


def tables(capture):
    return capture.segments, connections(capture), exchanges(capture), states(capture)


def same(one, other):
    for left, right in zip(one, other):
        pd.testing.assert_frame_equal(left, right)


def read(path, data):
    path.write_bytes(data)
    return read_capture(path)


# Any conversation

SENT = st.tuples(st.sampled_from("CS"), st.sampled_from([SYN, SYN | ACK, ACK, PSH | ACK, FIN | ACK, FIN, RST, RST | ACK,
                                                         0]),
                 st.sampled_from([0, 0, 1, 1, 2, 28, 29, 77777, 2**31, 2**32 - 1]),
                 st.sampled_from([0, 1, 1, 2, 28, 29, 44, 2**31]),
                 st.sampled_from([b"", b"", b"x", GET, OK]), st.integers(0, 2))
TALKS = st.lists(SENT, max_size=25)


def frames_of(talk, isn=None):
    """The frames of a talk between one server and three clients, who have met before or not."""
    return [frame(who, flags, seq, ack, payload, (CLIENT[0], CLIENT[1] + port), isn=isn) for who, flags, seq, ack,
            payload, port in talk]


@bounded
@given(TALKS)
def test_any_order_of_segments(tmp_path, talk):
    capture = examine(tmp_path / "any", pcap(frames_of(talk)))
    examine_tables(capture)


@bounded
@given(TALKS, st.sampled_from(["<", ">"]), st.sampled_from(["<", ">"]))
def test_the_container_does_not_matter(tmp_path, talk, order, other):
    frames = frames_of(talk)
    whole = tables(read(tmp_path / "a", pcap(frames, order=order)))
    for data in (gzip.compress(pcap(frames, order=other)), pcapng(frames, order=other),
                 gzip.compress(pcapng(frames, order=order))):
        same(whole, tables(read(tmp_path / "b", data)))


@bounded
@given(TALKS.filter(lambda talk: len(talk) > 1), st.integers(0, 25))
def test_split_and_merged_again(tmp_path, talk, at):
    frames = frames_of(talk)
    at = 1 + at % (len(frames) - 1)
    times = range(0, 1000 * len(frames), 1000)
    whole = read(tmp_path / "whole", pcap(frames))
    (tmp_path / "a").write_bytes(pcap(frames[:at], times=times[:at]))
    (tmp_path / "b").write_bytes(pcapng(frames[at:], times=times[at:]))
    same(tables(whole), tables(merge_captures([tmp_path / "b", tmp_path / "a"])))


@bounded
@given(TALKS, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_initial_sequence_numbers_do_not_matter(tmp_path, talk, client, server):
    """Wherever the numbers wrap: the same connections, exchanges and states."""
    plain = read(tmp_path / "a", pcap(frames_of(talk)))
    moved = read(tmp_path / "b", pcap(frames_of(talk, {"C": client, "S": server})))
    same(tables(plain)[1:], tables(moved)[1:])


@bounded
@given(TALKS)
def test_other_connections_do_not_matter(tmp_path, talk):
    """What is told of the connections of one pair of endpoints doesn't depend on the others in the capture."""
    whole = read(tmp_path / "whole", pcap(frames_of(talk)))
    for port in sorted({said[5] for said in talk}):
        own = [(number, said) for number, said in enumerate(talk) if said[5] == port]
        alone = read(tmp_path / "alone", pcap(frames_of([said for _, said in own]),
                                              times=[1000 * number for number, _ in own]))
        rows = whole.segments.loc[[number + 1 for number, _ in own]]
        hosts, expected = (table["host"].astype(object).fillna("?").tolist() for table in (rows, alone.segments))
        assert hosts == expected
        assert pd.factorize(rows["stream"])[0].tolist() == alone.segments["stream"].tolist()
        columns = ["ending", "closer", "client_bytes", "server_bytes", "keepalive_probes"]
        told = connections(whole).loc[rows["stream"].unique(), columns]
        assert told.astype(str).to_numpy().tolist() == connections(alone)[list(told)].astype(str).to_numpy().tolist()


@bounded
@given(TALKS)
def test_batches_do_not_matter(tmp_path, talk):
    """However many frames, or streams, are dealt with at a time."""
    whole = tables(read(tmp_path / "a", pcap(frames_of(talk))))
    for size in (1, 4):
        with pytest.MonkeyPatch.context() as changed:
            changed.setattr(captures, "CHUNK", size)
            changed.setattr("helpers.flow.batches.CHUNK", size)
            capture = read(tmp_path / "a", pcap(frames_of(talk)))
            same(whole, tables(capture))


@bounded
@given(TALKS)
def test_few_streams_need_a_closer_look(tmp_path, talk):
    """Probes and accepted resets are the same whether all streams are looked at or only those that can have any."""
    flow = next(flows(read(tmp_path / "a", pcap(frames_of(talk)))))
    known = known_before(flow)
    probe, accepted = probes_and_resets(flow)
    assert probe.tolist() == probes(flow, known).tolist() and accepted.tolist() == accepted_resets(flow, known).tolist()


# Shipped captures, damaged and turned into other files by Wireshark's own tools

# Debian's editcap doesn't write a damaged copy of a file with secrets
SHIPPED = sorted(path for path in data_folder().glob("*/capture*.pcapng") if path.parent.name in PLAIN)
SAMPLE = [path for path in SHIPPED if path.parent.name in ("long-0-images-replay", "protection", "timers-5")]


def run(*command):
    require(command[0])
    subprocess.run(list(map(str, command)), check=True, capture_output=True)


@pytest.mark.parametrize("path", SHIPPED[::3], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_damaged_by_editcap(tmp_path, path):
    """One byte in fifty is another: the frames are accounted for, and every table can be built."""
    seed = sum(path.parent.name.encode())
    run("editcap", "-E", 0.02, "--seed", seed, "-r", path, tmp_path / "bad", "1-150")
    examine_tables(examine(tmp_path / "again", (tmp_path / "bad").read_bytes()))


@pytest.mark.parametrize("path", SAMPLE, ids=lambda path: path.parent.name)
def test_other_files_of_the_same_packets(tmp_path, path):
    """pcap by editcap, pieces by editcap, and the pieces merged by mergecap: the same tables."""
    whole = read_capture(path)
    run("editcap", "-F", "nsecpcap", path, tmp_path / "ns.pcap")
    run("editcap", "-c", 9, path, tmp_path / "piece.pcapng")
    pieces = sorted(tmp_path.glob("piece*"))
    run("mergecap", "-w", tmp_path / "merged", *pieces)
    for other in (read_capture(tmp_path / "ns.pcap"), read_capture(tmp_path / "merged"), merge_captures(pieces)):
        same(tables(whole), tables(other))
        accounted(other)


# Memory: what is claimed costs nothing

CLAIMS = [pcap([])[:24] + b"\xff" * 16 + bytes(1000), pcap([bytes(60)] * 500),
          block(0x0A0D0D0A, bytes(8) + b"\xff" * 8) + bytes(1000),
          pcapng([]) + b"\x06\0\0\0\xfc\xff\xff\x7f" + bytes(1000), pcapng([]) + block(6, b"\xff" * 20),
          pcap(opened() + [frame("C", ACK, 2**31, 2**31, b"x")] * 99)]


@pytest.mark.parametrize("number", range(len(CLAIMS)))
def test_memory_follows_the_file(tmp_path, number):
    (tmp_path / "claims").write_bytes(CLAIMS[number])
    tracemalloc.start()
    try:
        summary(Incident(read_capture(tmp_path / "claims")))
    except CaptureError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < (16 << 20) + 500 * len(CLAIMS[number])


# Time: in proportion to the file

def isn(number):
    return {"C": 10**5 * number, "S": 10**5 * number}


CLOSES = (("S", FIN | ACK, 1, 1), ("C", ACK, 1, 2), ("C", FIN | ACK, 1, 2), ("S", ACK, 2, 2))
CROWDS = {
    "a first line in bytes": lambda: pcap(opened() + spoken("C", b"GET /" + b"y" * 65000, 1)),
    "a head in bytes": lambda: pcap(opened() + spoken("C", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 16000, 1)),
    "connections of one pair of endpoints": lambda: pcap([
        one for number in range(8000) for one in opened(isn=isn(number)) + [
            frame(*said, isn=isn(number)) for said in CLOSES]]),
    "one frame of many tags among many": lambda: pcap([bytes(12) + b"\x08\0" + frame("C", ACK, 1, 1)] * 60000 + [
        bytes(12) + b"\x81\0\0\0" * 30000], link=ETHERNET)}


@pytest.mark.parametrize("name", CROWDS)
def test_crowds_take_seconds(tmp_path, name):
    """What once took minutes, its time growing with the square, takes a second; the limit is for slow machines."""
    (tmp_path / name).write_bytes(CROWDS[name]())
    begun = time.process_time()
    incident = Incident(read_capture(tmp_path / name))
    assert len(incident.connections) and incident.states is not None and incident.exchanges is not None
    assert time.process_time() - begun < 60


MANY = {
    "tags": lambda: pcap([bytes(12) + b"\x81\0\0\0" * 60000] * 3, link=ETHERNET),
    "labels": lambda: pcap([bytes(12) + b"\x88\x47" + bytes(4 * 60000)] * 3, link=ETHERNET),
    "section headers": lambda: pcapng([])[:28] * 37000,
    "section headers of either byte order": lambda: (pcapng([])[:28] + pcapng([], order=">")[:28]) * 18000,
    "sections of one packet": lambda: pcapng([HANDSHAKE[0]]) * 12000,
    "interfaces of one packet": lambda: pcapng([])[:28] + pcapng([])[28:] * 60000 + b"".join(
        block(6, struct.pack("<5I", number, 0, 0, 0, 0)) for number in range(60000))}


@pytest.mark.parametrize("name", MANY)
def test_many_small_blocks_take_a_moment(tmp_path, name):
    """What once took ten seconds takes a tenth of one, and memory of a few times the file."""
    data = MANY[name]()
    (tmp_path / name).write_bytes(data)
    begun = time.process_time()
    capture = read_capture(tmp_path / name)
    assert time.process_time() - begun < 3 and capture.cut is None
    tracemalloc.start()
    read_capture(tmp_path / name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * len(data) + (1 << 20)


# What once went wrong

def test_times_of_bytes_grow_with_their_numbers(tmp_path):
    """The end of a body that came before its head, and stands behind a gap: not finished before it is answered."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n" + b"x" * 30
    early, head = frame("S", PSH | ACK, 1 + len(answer) - 5, 1 + len(GET), b"x" * 5), frame("S", PSH | ACK, 1,
        1 + len(GET), answer[:-20])
    found = exchanges(read(tmp_path / "gap", pcap(opened() + spoken("C", GET) + [early, head]))).iloc[0]
    assert (found["answered"], found["finished"]) == (0.005, 0.005)


def test_a_fin_before_the_answer_does_not_end_it(tmp_path):
    answer = spoken("S", b"HTTP/1.1 200 OK\r\n\r\nhello", ack=1 + len(GET))
    capture = read(tmp_path / "fin", pcap(opened() + spoken("C", GET) + [frame("S", FIN | ACK, 1, 1 + len(GET)),
        *answer]))
    found = exchanges(capture).iloc[0]
    assert found["framing"] == "until-close" and found[["finished", "response_bytes"]].isna().all()


def test_a_peak_at_the_last_nanosecond_of_pandas(tmp_path):
    """Seconds as a float round it up, beyond what a `Timedelta` holds."""
    micro = pcapng(opened() + CLOSING, times=[0] * 5 + [2**63 - 1] * 2)
    clock = block(1, RAW_IP.to_bytes(4, "little") + bytes(4) + b"\x09\0\x01\0\x09\0\0\0" + bytes(4))
    capture = read(tmp_path / "late", micro[:28] + clock + micro[48:])
    assert capture.end == 2**63 / 1e9 and "Most in TIME_WAIT at 10.0.0.2" in summary(Incident(capture))


@bounded
@example(4, [2**31 + 10], ACK, b"")
@given(st.integers(3, 7), st.lists(st.integers(1 << 20, (1 << 32) - (1 << 20)), min_size=1, max_size=1),
       st.sampled_from([ACK, PSH | ACK, FIN | ACK]), st.sampled_from([b"", b"old"]))
def test_a_stray_of_any_distance_changes_nothing(tmp_path, at, distances, flags, payload):
    talk = HANDSHAKE + EXCHANGE + spoken("C", GET, seq=1 + len(GET), ack=1 + len(OK)) + [
        frame("S", FIN | ACK, 1 + len(OK), 1 + 2 * len(GET)), frame("C", FIN | ACK, 1 + 2 * len(GET), 2 + len(OK)),
        frame("S", ACK, 2 + len(OK), 2 + 2 * len(GET))]
    times = [10**6 * number for number in range(len(talk))]
    strays = [frame("C", flags, distance, 1, payload) for distance in distances]
    stray_times = [times[at - 1] + 1 + number for number in range(len(strays))]
    whole = tables(read(tmp_path / "a", pcap(talk, times=times)))
    odd = tables(read(tmp_path / "b", pcap(talk[:at] + strays + talk[at:],
                                           times=times[:at] + stray_times + times[at:])))
    same(whole[1:], odd[1:])
