"""The tables against what Wireshark says of the same files, field by field."""

import random
import struct
import subprocess
from collections import Counter

import pandas as pd
import pytest
from conftest import PLAIN, WITH_TCP, require
from scapy.layers.inet import IP, TCP

from helpers.captures import read_capture
from helpers.connections import connections, handshakes
from helpers.exchanges import exchanges
from helpers.experiments import data_folder
from helpers.states import states

BETWEEN = "\x1f"
OVER_TLS = ("https-", "h2-", "resumption", "client-httpx-h2", "client-node-http2", "client-go-h2")   # see test_encrypted
FIELDS = (
    "frame.number", "frame.time_relative", "tcp.stream", "tcp.srcport", "tcp.dstport", "tcp.seq_raw", "tcp.ack_raw",
    "tcp.flags", "tcp.len", "tcp.window_size_value", "tcp.options.wscale.shift",
    "http.request.method", "http.request.uri", "http.response.code", "http.request_in")
NUMBERS = {"stream": "tcp.stream", "sport": "tcp.srcport", "dport": "tcp.dstport", "seq": "tcp.seq_raw",
           "ack": "tcp.ack_raw", "bits": "tcp.flags", "length": "tcp.len"}


def tshark(path, *more):
    """One row per frame of the file at `path`, `FIELDS` and `more` as texts, index `frame`."""
    names = [*FIELDS, *more]
    fields = [part for field in names for part in ("-e", field)]
    command = ["tshark", "-r", str(path), "-n", "-o", "ip.defragment:FALSE", "-T", "fields", "-E", "separator=/t",
               "-E", "occurrence=a", "-E", f"aggregator={BETWEEN}", *fields]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode or "cut short" in done.stderr, done.stderr
    rows = [(line.split("\t") + [""] * len(names))[:len(names)] for line in done.stdout.splitlines()]
    return pd.DataFrame(rows, columns=names).set_index("frame.number").rename_axis("frame")


def bits(flags):
    """The flags' letters as Wireshark's number."""
    return sum(1 << "FSRPAUECN".index(letter) for letter in flags)


def assert_same_segments(path):
    """Every frame and every column of `segments` is as tshark says; returns both tables."""
    capture = read_capture(path)
    return capture, assert_segments(capture, tshark(path))


def assert_segments(capture, theirs):
    """The same of a table that tshark has made; returns its rows with a segment."""
    ours = capture.segments.assign(bits=[bits(flags) for flags in capture.segments["flags"]])
    assert capture.frames == len(theirs)
    theirs = theirs[theirs["tcp.stream"] != ""]
    assert ours.index.tolist() == theirs.index.astype(int).tolist()
    for column, field in NUMBERS.items():
        assert ours[column].astype(int).tolist() == [int(text, 0) for text in theirs[field]], column
    for name, field in (("window", "tcp.window_size_value"), ("scale", "tcp.options.wscale.shift")):
        assert capture.headers[name].tolist() == [int(text or 0) for text in theirs[field]], name
    late = ours["time"].to_numpy() - theirs["frame.time_relative"].astype(float).to_numpy()
    assert late.round(9).tolist() == [0] * len(ours)
    return theirs


def requests(theirs):
    """(stream, method, URI, status of the response or None) of each request, by stream."""
    found, waiting = [], {}
    for frame, row in theirs.iterrows():
        for method, uri in zip(*(row[f"http.request.{name}"].split(BETWEEN) for name in ("method", "uri"))):
            if method:
                found.append([int(row["tcp.stream"]), method, uri, None])
                waiting.setdefault(frame, []).append(found[-1])
        for status, asked in zip(row["http.response.code"].split(BETWEEN), row["http.request_in"].split(BETWEEN)):
            if asked and int(status) >= 200:
                waiting[asked].pop(0)[3] = int(status)
    return sorted(map(tuple, found), key=lambda row: row[0])


def requests_of(capture):
    table = exchanges(capture).sort_values("stream", kind="stable")[["stream", "method", "target", "status"]]
    return [(*row[:3], None if pd.isna(row[3]) else row[3]) for row in table.itertuples(index=False)]


def whole_answers(capture, ours):
    """`ours` without the status of an answer that never came to its end: tshark tells it only with the whole body.

    And, over TLS, without that of an answer whose end is the connection's, which tshark never tells.
    """
    table = exchanges(capture).sort_values("stream", kind="stable")
    over_tls = table["stream"].isin(handshakes(capture).index)
    whole = table["finished"].notna() & ~(over_tls & (table["framing"] == "until-close").fillna(False))
    return [row if finished else (*row[:3], None) for row, finished in zip(ours, whole)]


@pytest.mark.parametrize("name", [name for name in WITH_TCP if not name.startswith(OVER_TLS)])
def test_recordings(name, measured):
    require("tshark")
    path = data_folder() / name / "capture.pcapng"
    measured(f"tshark   {name:24} {assert_recording(read_capture(path), tshark(path))}")


def assert_recording(capture, theirs):
    """Segments, streams, flags and requests are as tshark says; returns in a line how many were compared."""
    theirs = assert_segments(capture, theirs)
    segments, asked = capture.segments, requests(theirs)
    assert segments["stream"].nunique() == theirs["tcp.stream"].nunique()
    counted = {letter: int(segments["flags"].astype(str).str.contains(letter).sum()) for letter in "SFR"}
    flags = theirs["tcp.flags"].map(lambda text: int(text, 16))
    assert counted == {letter: int((flags & bits(letter) > 0).sum()) for letter in "SFR"}
    ours = requests_of(capture)
    if not (exchanges(capture)["version"] == "2").any():        # HTTP/2 has fields of its own: tests/test_encrypted.py
        assert asked in (ours, whole_answers(capture, ours))
    return (f"{capture.frames} frames, {len(segments)} segments, {segments['stream'].nunique()} "
            f"streams, {counted['S']} SYN, {counted['F']} FIN, {counted['R']} RST, {len(asked)} requests equal")


@pytest.mark.parametrize("name", PLAIN[::8])
def test_damaged_recordings(tmp_path, name):
    """One byte in a hundred altered: what Wireshark still reads, we read alike; what we don't is counted as malformed.

    Of a TCP header that claims less than 20 bytes Wireshark shows no flags, and a length that means nothing.
    """
    require("tshark", "editcap")
    path = tmp_path / "damaged.pcapng"
    subprocess.run(["editcap", "-E", "0.01", "--seed", "7", data_folder() / name / "capture.pcapng", path], check=True)
    capture, theirs = read_capture(path), tshark(path)
    theirs = theirs[theirs["tcp.stream"] != ""].set_axis(theirs.index[theirs["tcp.stream"] != ""].astype(int))
    only_theirs = theirs.index.difference(capture.segments.index)
    assert len(only_theirs) <= capture.skipped.get("malformed TCP header", 0)
    theirs = theirs.drop(only_theirs)
    assert theirs.index.tolist() == capture.segments.index.tolist()
    for column in ("sport", "dport", "seq", "ack", "length"):
        said = theirs[NUMBERS[column]].str.split(BETWEEN).str[0]
        said = said[(said != "") & (theirs["tcp.flags"] != "")].astype(int)
        assert len(said) > 0.9 * len(theirs), column
        assert (capture.segments[column].astype(int)[said.index] == said).all(), column
    for table in (connections, exchanges, states):
        table(capture)


def write_pcap(path, packets):
    """A raw IP capture of `packets`, one a second."""
    records = [struct.pack("<IIII", second, 0, len(data), len(data)) + data for second, data in enumerate(packets)]
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 101) + b"".join(records))
    return path


@pytest.mark.parametrize("seed", range(3))
def test_streams_of_reused_ports(tmp_path, seed):
    """Any order of SYNs, answers, FINs and resets between sixty pairs of sockets gives Wireshark's streams."""
    require("tshark")
    chance, packets = random.Random(seed), []
    for _ in range(2000):
        ends = [(f"10.0.{chance.randrange(60)}.1", 1000), ("10.0.0.2", 80)]
        (src, sport), (dst, dport) = ends if chance.random() < 0.5 else ends[::-1]
        flags = chance.choice(["S", "S", "SA", "SA", "A", "A", "FA", "R", "RA", "PA", "SF", "F", ""])
        packets.append(bytes(IP(src=src, dst=dst) / TCP(
            sport=sport, dport=dport, flags=flags, seq=chance.choice([0, 1, 100, 100, 101, 5000]),
            ack=chance.choice([0, 1, 100, 101, 102, 5001])) / (b"x" * chance.choice([0, 0, 1, 5]))))
    capture, _ = assert_same_segments(write_pcap(tmp_path / "reused.pcap", packets))
    assert max(Counter(capture.segments.drop_duplicates("stream")["src"]).values()) > 20
