"""The claims over HTTP/2 and HTTP/3, counted anew from what tshark and the servers' logs say."""

import re
import subprocess

import pytest
from conftest import require

from helpers.claims import CLAIMS, Data, judge, over_http2_and_3
from helpers.claims.encrypted import BEARS, WEBS, loads
from helpers.experiments import data_folder, load


@pytest.fixture(scope="module")
def table():
    return over_http2_and_3()


def tshark(name, shown, *fields):
    require("tshark")
    options = [word for field in fields for word in ("-e", field)]
    command = ["tshark", "-r", data_folder() / name / "capture.pcapng", "-Y", shown, "-T", "fields", *options]
    return [line.split("\t") for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines()]


def test_each_row_is_a_claim_with_its_verdict_over_plain_http(table):
    assert list(table.index) == sorted(BEARS) and set(table.index) <= {claim.number for claim in CLAIMS}
    assert table["verdict"].equals(judge().loc[table.index, "verdict"])
    words = r"(stands|does not stand|stands at times) \(\d+ of \d+\)|no case"
    assert all(re.fullmatch(words, text) for web in WEBS for text in table[f"over {web}"])


@pytest.mark.parametrize("protocol", WEBS.values())
def test_connections_are_as_many_as_tshark_counts(protocol):
    """Over TCP by SYN; over QUIC by the client's ports, of which each load has one for each connection."""
    for one in loads(Data(), protocol):
        seen = tshark(one.name, "tcp.flags.syn == 1 && tcp.flags.ack == 0 && tcp.dstport == 443", "tcp.srcport") \
            if protocol == "h2" else tshark(one.name, "quic && udp.dstport == 443", "udp.srcport")
        assert len({port for port, in seen}) == len(one.connections) != 0, one.name


@pytest.mark.parametrize("protocol", WEBS.values())
def test_used_connections_are_those_in_the_servers_log(protocol):
    for one in loads(Data(), protocol):
        ports = set(load(one.name).requests["client_port"])
        used = one.connections.loc[one.connections["used"], "client"].str.rsplit(":", n=1).str[1].astype(int)
        assert ports >= set(used) and len(used) == len(ports - later(one.name)), one.name


def later(name):
    """The client's ports towards the server's other port, where Chromium was made to look."""
    there = load(name).connections.query("server.str.endswith(':8443')")
    return set(there["client"].str.rsplit(":", n=1).str[1].astype(int))


def test_the_servers_time_waits_are_the_kernels(table):
    """Claim 12 counts connections whose TIME_WAIT the kernel of the server listed."""
    right, of = map(int, re.findall(r"\d+", table.loc[12, "over HTTP/2"]))
    found = 0
    for one in loads(Data(), "h2"):
        rows = load(one.name).sockets.query("state == 'TIME_WAIT' and host == 'server' and local.str.endswith(':443')")
        found += len(rows)
    assert (right, of) == (found, sum(one.connections["used"].sum() for one in loads(Data(), "h2")))
    assert table.loc[12, "over HTTP/3"].startswith("does not stand (0 of")
