"""The recordings over TLS, HTTP/2 and HTTP/3: their witnesses agree, and their secrets are where they belong."""

import json
import subprocess
from collections import Counter

import pandas as pd
import pytest
from conftest import require

from helpers.experiments import data_folder, load, names

ENCRYPTED = [name for name in names() if "protocol" in load(name).about.get("server", {})]
OVER_TCP = [name for name in ENCRYPTED if not name.startswith(("h3-", "clinic-"))]     # for the clinic's, see test_clinic
PATHS = ("http.request.uri", "http2.headers.path")


def tshark(name, shown, *fields):
    """The frames of recording `name` that the filter `shown` lets pass: a list of fields each."""
    require("tshark")
    options = [word for field in fields for word in ("-e", field)]
    command = ["tshark", "-r", data_folder() / name / "capture.pcapng", "-Y", shown, "-T", "fields", *options]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line.split("\t") for line in said.splitlines()]


@pytest.mark.parametrize("name", OVER_TCP)
def test_the_secrets_in_the_file_open_the_requests_that_the_server_logged(name):
    """A request that a GOAWAY refused is sent again, so tshark may see it more often than the server answers it."""
    frames = tshark(name, "http.request or http2.headers.method", "tcp.srcport", *PATHS)
    seen = Counter((int(port), path) for port, *found in frames for field in found for path in field.split(",") if path)
    log = load(name).requests
    logged = Counter(zip(log["client_port"], log["request"].str.split().str[1]))
    refused = name == "h2-requests" and bool(tshark(name, "http2.type == 7", "frame.number"))
    assert logged <= seen and (refused or logged == seen) and logged


@pytest.mark.parametrize("name", [name for name in ENCRYPTED if load(name).browser is not None])
def test_chromium_and_the_server_name_the_same_requests(name):
    experiment = load(name)
    log, own = experiment.requests, experiment.browser["requests"]
    theirs = sorted(zip(log["client_port"], log["request"].str.split().str[1]))
    assert sorted(zip(own["client_port"], own["url"].str.replace("https://[^/]*", "", regex=True))) == theirs != []


@pytest.mark.parametrize("name", [name for name in ENCRYPTED if name.startswith("h3-")])
def test_over_quic_there_is_no_tcp_and_the_kernel_saw_the_ports_that_the_server_names(name):
    experiment = load(name)
    ports = {int(port) for port, in tshark(name, "quic and udp.dstport == 443", "udp.srcport")}
    assert set(experiment.requests["client_port"]) <= ports and not tshark(name, "tcp", "frame.number")
    assert experiment.sockets.empty
    udp = pd.read_csv(experiment.folder / "udp.csv")
    assert ports <= set(udp[udp["host"] == "client"]["local"].str.rsplit(":", n=1).str[1].astype(int))
    assert tshark(name, "quic.stream_data", "frame.number")


@pytest.mark.parametrize("name", ENCRYPTED)
def test_secrets_are_in_the_capture_only(name):
    """Whoever looks for a key log's lines finds them in the block of the capture, and nowhere else."""
    folder = data_folder() / name
    marks = b"CLIENT_RANDOM", b"_TRAFFIC_SECRET", b"EXPORTER_SECRET"
    for file in folder.iterdir():
        assert any(mark in file.read_bytes() for mark in marks) == (file.name == "capture.pcapng")
    assert not any(folder.glob("*.keys")) and json.loads((folder / "experiment.json").read_text(encoding="utf-8"))


def test_https_with_connection_close_leaves_no_time_wait():
    """160 answers in four logs, 160 resets by tshark's count, and no socket in TIME_WAIT by the kernel's."""
    experiment = load("https-close")
    log = experiment.requests
    assert len(log) == 160 and (log["status"] == 200).all()
    ports = experiment.connections["server"].str.rsplit(":", n=1).str[1].value_counts()
    assert ports.to_dict() == dict.fromkeys(("443", "444", "8443", "8444"), 40)
    assert len({stream for stream, in tshark("https-close", "tcp.flags.reset == 1", "tcp.stream")}) == 160
    assert set(experiment.connections["time_wait"]) == {"none"}
    assert "TIME_WAIT" not in set(experiment.sockets["state"])
    versions = {port: {record} for port, record in tshark(
        "https-close", "tls.handshake.type == 2", "tcp.srcport", "tls.handshake.extensions.supported_version")}
    assert versions == {"443": {"0x0304"}, "444": {"0x0304"}, "8443": {""}, "8444": {""}}
