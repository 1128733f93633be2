"""QUIC connections and HTTP/3 exchanges against tshark with the same secrets, and without any."""

import re
import struct
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from conftest import require

from helpers.captures import read_capture
from helpers.connections import quic_connections
from helpers.experiments import data_folder
from helpers.quic import quic_exchanges, quic_marks
from helpers.report import Incident, page, summary

RECORDED = Path(__file__).parent / "recorded" / "h3-chromium" / "capture.pcapng"
SECRETS = 0x0A       # block type: draft-ietf-opsawg-pcapng section 4.7
PATHS = [RECORDED, *sorted(data_folder().glob("h3-*/capture.pcapng"))]


def tshark(path, *fields, filter="udp"):
    """The rows of these fields, each field as a list of texts."""
    command = ["tshark", "-r", str(path), "-n", "-Y", filter, "-T", "fields", "-E", "aggregator=;"]
    done = subprocess.run([*command, *(part for field in fields for part in ("-e", field))], capture_output=True, text=True, check=True)
    return [[cell.split(";") if cell else [] for cell in line.split("\t")] for line in done.stdout.splitlines()]


@pytest.fixture(params=PATHS, ids=lambda path: path.parent.name)
def path(request):
    return request.param


@pytest.fixture
def without_keys(path, tmp_path):
    (tmp_path / "bare.pcapng").write_bytes(b"".join(blocks(path.read_bytes())))
    return read_capture(tmp_path / "bare.pcapng")


def blocks(data):
    """The blocks of a little-endian pcapng file but those of secrets; editcap 4.0 can't write a file that has some."""
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        if kind != SECRETS:
            yield data[at:at + length]
        at += length


def test_datagrams(path):
    require("tshark")
    table = read_capture(path).datagrams
    theirs = tshark(path, "frame.number", "udp.srcport", "udp.dstport", "udp.length")
    ours = zip(table.index, table["sport"], table["dport"], table["length"] + 8)
    assert [tuple(int(cell[0]) for cell in row) for row in theirs] == list(ours) and len(table)


def test_connections(path, measured):
    require("tshark")
    table = quic_connections(read_capture(path))
    theirs = pd.DataFrame(tshark(path, "frame.number", "quic.connection.number", "udp.length", filter="quic"), columns=["frame", "number", "size"])
    sizes, numbered = theirs["size"].str[0].astype(int) - 8, theirs["number"].str.len() > 0     # tshark gives some no number
    counted = theirs[numbered]["number"].str[0].astype(int).value_counts(sort=False).sort_index()
    assert table["datagrams"].sum() == len(theirs) and (~numbered).sum() < 0.05 * len(theirs)
    assert len(counted) == len(table) and (table["datagrams"].to_numpy() - counted.to_numpy() >= 0).all()
    assert (table["client_bytes"] + table["server_bytes"]).sum() == sizes.sum()
    names = {row[0][0] for row in tshark(path, "tls.handshake.extensions_server_name", filter="tls.handshake.type == 1")}
    assert set(table["server_name"]) == names and set(table["protocol"]) == {"h3"}
    measured(f"tshark   {path.parent.name:24} {len(table)} QUIC connections, {len(theirs)} datagrams equal")


def test_endings(path):
    require("tshark")
    capture = read_capture(path)
    theirs = [int(row[0][0]) for row in tshark(path, "frame.number", filter="quic.frame_type == 0x1c || quic.frame_type == 0x1d")]
    marks = quic_marks(capture)
    assert marks.loc[marks["mark"] == "CONNECTION_CLOSE", "frame"].tolist() == theirs
    assert (quic_connections(capture)["ending"] == "close").sum() == len(set(marks.loc[marks["mark"] == "CONNECTION_CLOSE", "stream"]))


def test_streams(path):
    """tshark 4.0 doesn't decode the headers of HTTP/3: which streams the client ends, by QUIC's own frames, is compared."""
    require("tshark")
    table = quic_exchanges(read_capture(path))
    rows = tshark(path, "quic.connection.number", "quic.stream.stream_id", filter="quic.stream.stream_id")
    theirs = {(int(number[0]), int(one) // 4 + 1) for number, ids in rows for one in ids if int(one) % 4 == 0}
    assert set(zip(table["stream"], table["nth"])) == theirs and len(table) == len(theirs) > 0
    assert table["method"].notna().all() and table["status"].notna().any()


def test_the_servers_log(path, measured):
    """Caddy wrote down the same requests, statuses and body sizes; what it sends for a header is a few bytes more."""
    log = path.with_name("requests.csv")
    if not log.exists():
        pytest.skip("this recording has no log")
    log = pd.read_csv(log)
    log = log[log["request"].str.endswith(" HTTP/3.0")]
    table = quic_exchanges(read_capture(path))
    ports = quic_connections(read_capture(path))["client"].str.rpartition(":")[2].astype(int)
    ours = sorted(zip(table["stream"].map(ports), table["method"] + " " + table["target"] + " HTTP/3.0", table["status"]))
    assert ours == sorted(zip(log["client_port"], log["request"], log["status"])) and len(ours)
    sizes = dict(zip(log["request"], log["body_bytes_sent"]))
    more = table["response_bytes"] - (table["method"] + " " + table["target"] + " HTTP/3.0").map(sizes)
    assert more.dropna().between(10, 500).all() and more.notna().any()
    measured(f"log      {path.parent.name:24} {len(ours)} exchanges of HTTP/3 equal")


def test_without_keys(path, without_keys):
    """What the Initial packets say is there without keys; what is encrypted is not."""
    assert not without_keys.secrets
    bare, whole = quic_connections(without_keys), quic_connections(read_capture(path))
    same = ["client", "server", "opened", "datagrams", "client_bytes", "server_bytes", "version", "server_name", "offered"]
    pd.testing.assert_frame_equal(bare[same], whole[same])
    assert bare["closed"].isna().all() and not len(quic_exchanges(without_keys))


def test_report(path, without_keys):
    for capture in (read_capture(path), without_keys):
        text = summary(Incident(capture))
        assert "QUIC" in text and "No TCP segments" not in text and "QUIC" in page(Incident(capture))
        for name in quic_connections(capture)["server_name"].unique():
            assert name in text


def test_no_secret_shows(path):
    capture = read_capture(path)
    shown = summary(Incident(capture)) + page(Incident(capture)) + repr(capture)
    secrets = [secret.hex() for labels in capture.secrets.values() for secret in labels.values()]
    assert secrets and not any(re.search(secret, shown) for secret in secrets)
