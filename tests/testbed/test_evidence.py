"""The recordings made for the harder judge, each held against another witness of the same minutes, or against itself."""

import re

import pandas as pd
import pytest

from helpers.connections import connections
from helpers.experiments import data_folder, load, table


def details(name):
    """What was recorded beside the table `name`."""
    return pd.read_json(data_folder() / f"{name}.json", typ="series")


@pytest.mark.parametrize("setting, buckets", [("tcp_max_tw_buckets 131072", 131_072), ("tcp_max_tw_buckets 100", 100),
                                              ("tcp_max_tw_buckets 50", 50)])
def test_buckets(setting, buckets):
    """With fewer buckets than ports nothing is refused; else each port serves once. The kernel's list agrees."""
    rows = table("buckets").query("setting == @setting")
    part = next(part for part in details("buckets")["settings"] if part["setting"] == setting)
    ports = part["ports"][1] - part["ports"][0] + 1
    assert part["kernel"]["tcp_max_tw_buckets"] == str(buckets)
    assert rows[["succeeded", "failed"]].to_numpy().sum() == part["rate"] * part["seconds"]
    assert (rows["failed"].sum() == 0) == (buckets < ports)
    assert rows["time_wait_client"].max() == min(ports, buckets)
    assert set(rows["error"].dropna()) <= {"EADDRNOTAVAIL"}


def test_buckets_of_a_proxy():
    """nginx's log, the proxy's error log and its kernel's counter say the same."""
    rows = table("proxy-buckets")
    assert (rows["failed"] == rows["status_502"]).all() and (rows["failed"] == rows["cannot_assign"]).all()
    assert (rows["connects"] == rows["kernel_connects"]).all()
    assert ((rows["failed"] == 0) == (rows["buckets"] < rows["ports"])).all()
    assert (rows["time_wait_proxy_to_upstream"] == rows[["buckets", "ports"]].min(axis=1)).all()


def test_ranges():
    rows = table("range")
    assert rows["port"].between(rows["low"], rows["high"]).all()
    assert (rows.groupby(["low", "how"])["port"].nunique() == 40).all()
    same = rows["port"] % 2 == rows["low"] % 2
    assert same.eq(rows["how"] == "connect").all()


def test_bind():
    """EADDRINUSE by bind() and EADDRNOTAVAIL by connect(): the one asks for a port, the other for a 4-tuple."""
    rows = table("bind").fillna({"bind_error": "", "connect_error": ""})
    assert (rows["time_wait_client"] == 1).all()
    assert set(rows["bind_error"]) == {"", "EADDRINUSE"} and set(rows["connect_error"]) == {"", "EADDRNOTAVAIL"}
    port = rows["way"] == "bind to the port"
    assert rows.loc[port, "bind_error"].eq("").eq(rows.loc[port, "reuse_before"] & rows.loc[port, "reuse_after"]).all()
    assert rows.loc[~rows["way"].str.startswith("bind"), "bind_error"].eq("").all()


def test_weight():
    """A record of 256 bytes at either end, as in load.json; two bind buckets of 128 bytes for each at the client alone."""
    rows = table("weight").set_index(["closer", "slab"])
    sizes = {memory["with"]["slabs"]["tw_sock_TCP"]["bytes_each"] for memory in details("load")["memory"]}
    assert sizes == {rows.loc[("client", "tw_sock_TCP"), "bytes_each"]} == {256}
    more = rows["objects_with"] - rows["objects_before"]
    for closer, waiting in (("server", "time_wait_server"), ("client", "time_wait_client")):
        number = rows.loc[(closer, "tw_sock_TCP"), waiting]
        assert abs(more[(closer, "tw_sock_TCP")] - number) < number / 20
    clients = rows.loc[("client", "tcp_bind_bucket"), "time_wait_client"]
    assert 1.8 < more[("client", "tcp_bind_bucket")] / clients < 2.2
    assert more[("server", "tcp_bind_bucket")] < clients / 10


def test_threads():
    rows = table("thread-per-connection").set_index(["server", "connections"])
    assert (rows["processes"] == 1).all()
    assert rows.loc[("nginx", 0), "threads"] == rows.loc[("nginx", 200), "threads"]
    assert rows.loc[("http.server", 200), "threads"] - rows.loc[("http.server", 0), "threads"] == 200


def test_fin_wait_2_counted():
    """The three listings, read here once more from their raw text."""
    part = details("fin-wait-2-counted")["looks"][0]
    for seconds, said in part["said"].items():
        listed = said.rsplit("\n\n", 1)[1]
        rows = table("fin-wait-2-counted").query(f"seconds == {seconds}").set_index(["source", "what"])["number"]
        assert listed.count("FIN-WAIT-2") == rows[("ss -tan", "FIN-WAIT-2")] and listed.count("TIME-WAIT") == 0
        assert int(re.search(r"timewait (\d+)", said)[1]) == rows[("ss -s", "timewait")]
        assert int(re.search(r"TCP: .* tw (\d+)", said)[1]) == rows[("/proc/net/sockstat", "tw")]
        assert rows[("ss -s", "timewait")] == rows[("/proc/net/sockstat", "tw")] == rows[("ss -tan", "FIN-WAIT-2")]


def test_new_syn():
    """The answers, read from the packets: to each SYN that scapy sent, and what the client's kernel said to that."""
    experiment = load("new-syn")
    answers = pd.read_csv(experiment.folder / "answers.csv").dropna(subset=["sent"]).convert_dtypes()
    for row in answers.itertuples():
        port = int(row.client.rsplit(":", 1)[1])
        mine = experiment.segments.query("sport == @port or dport == @port")
        syn = mine[(mine["flags"] == "S") & (mine["sport"] == port)].iloc[-1]
        after = mine[mine["time"] > syn["time"]].sort_values("time")
        assert after.iloc[0]["flags"] == row.answer and after.iloc[1]["flags"].startswith(row.reaction)
        newer = "newer" in row.case or row.case == "SYN, higher number, no time stamp"
        assert row.answer == ("SA" if newer else "A")
    assert len(answers) == 6


def test_unread():
    """A connection that ended in a RST leaves no TIME_WAIT at either end, one that ended in FINs leaves one."""
    rows = table("unread-close")
    reset = rows["ending"] == "reset"
    assert rows["reset_by"].notna().eq(reset).all() and set(rows["reset_by"].dropna()) == {"server"}
    assert (rows["time_wait_client"] | rows["time_wait_server"]).eq(~reset).all()
    assert rows.groupby("server")["ending"].nunique().eq(1).all()
    assert rows.loc[reset, "server"].unique().tolist() == ["nginx, lingering_close off", "raw, unread"]
    assert (rows.loc[~reset, "sent"] > 1_000_000).all() and rows.loc[reset, "error"].notna().all()


@pytest.mark.parametrize("client", ["firefox", "chromium"])
def test_streamed_page(client):
    """The image is asked for while the page still arrives, so it needs a connection of its own; the log agrees."""
    experiment = load(f"page-streamed-{client}")
    page, image = (experiment.exchanges.query("target == @target").iloc[0] for target in ("/", "/image-1.png"))
    assert page["requested"] < image["requested"] < page["finished"] - 0.3
    assert page["stream"] != image["stream"]
    table_of = connections(experiment.capture)["client"]
    logged = experiment.requests.set_index("target")["client_port"] if "target" in experiment.requests else None
    if logged is not None:
        ports = {target: int(table_of[row["stream"]].rsplit(":", 1)[1]) for target, row in (("/", page), ("/image-1.png", image))}
        assert {target: int(logged[target]) for target in ports} == ports


@pytest.mark.parametrize("client", ["firefox", "chromium"])
def test_requests_without_credentials_have_connections_of_their_own(client):
    """No connection carries both kinds, each kind has at most six; Chromium's log names a group for each kind."""
    experiment = load(f"pool-groups-{client}")
    images = experiment.exchanges[experiment.exchanges["target"].str.contains("image")]
    anonymous = images["target"].str.endswith("?anonymous")
    kinds = [set(images.loc[kind, "stream"]) for kind in (anonymous, ~anonymous)]
    assert anonymous.sum() == (~anonymous).sum() == 7
    assert not kinds[0] & kinds[1] and all(1 < len(kind) <= 6 for kind in kinds)
    if client == "chromium":
        group = experiment.browser["sockets"].set_index("local")["pool_group"]
        end = experiment.connections["client"]
        groups = [set(group[end.loc[sorted(kind)]]) for kind in kinds]
        assert [len(names) for names in groups] == [1, 1] and groups[0] == {f"pm/{name}" for name in groups[1]}


def test_chromium_looks_at_what_it_never_used_when_a_request_comes():
    """The connection that carried nothing: Chromium closes it for its age, at a request after 60 s only."""
    closed = {}
    for seconds in (45, 75):
        experiment = load(f"spare-asked-after-{seconds}-s")
        spare = experiment.connections.query("client_bytes == 0 and server_bytes == 0").iloc[0]
        assert spare["closer"] == spare["time_wait"] == "client"
        logged = experiment.browser["sockets"].set_index("local").loc[spare["client"]]
        assert logged["close_reason"] == "Idle time limit expired" and abs(logged["closed"] - spare["closed"]) < 0.01
        closed[seconds] = spare["closed"]
    assert 75 <= closed[75] < 75.1 and closed[45] > 60
