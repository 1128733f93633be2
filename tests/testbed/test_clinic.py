"""The clinic's recordings against what its programs said: each answer, timeout and refusal that a client counted."""

import subprocess

import pytest
from conftest import require

from helpers.diagnosis import diagnose
from helpers.exchanges import signals
from helpers.experiments import load, names
from helpers.testbed.experiments.patients import PATIENTS
from helpers.testbed.hosts.box import TTL

CLINIC = [name for name in names() if name.startswith("clinic-")]


def test_every_patient_is_recorded():
    assert sorted(patient.name for patient in PATIENTS) == CLINIC
    for patient in PATIENTS:
        about = load(patient.name).about
        assert about["findings"] == patient.findings.split() and about["about"] == patient.about


@pytest.mark.parametrize("name", CLINIC)
def test_answers(name):
    """So many answers came before the client had closed as the client says that it read."""
    experiment = load(name)
    fins = experiment.segments.query("host == 'client' and flags.str.contains('F')").groupby("stream")["time"].min()
    rows = experiment.exchanges[experiment.exchanges["status"] == 200]
    came = rows[~(rows["answered"] > rows["stream"].map(fins)).fillna(False)]
    said = experiment.about["said"].items()
    assert len(came) == sum(number for text, number in said if text.split()[-1] == "200")


@pytest.mark.parametrize("name", CLINIC)
def test_connections(name):
    """Each refusal is a SYN answered by a RST; who could not connect has no handshake; who could is counted by the kernel too."""
    experiment, said = load(name), load(name).about["said"]
    table = experiment.connections
    refused = sum(number for text, number in said.items() if text.startswith("ConnectionRefusedError"))
    assert (table["established"].isna() & (table["ending"] == "refused")).sum() == refused
    if "connected" in said:
        assert table["established"].notna().sum() == said["connected"]
        assert len(table) == sum(said.values())


def test_a_cured_patient_is_the_same_but_for_the_cure():
    """Server or client differ, never both in kind and all arguments; and the cured one has no finding."""
    patients = {patient.name: patient for patient in PATIENTS}
    for name, patient in patients.items():
        if name.endswith("-cured"):
            ill = patients[name.removesuffix("-cured")]
            assert ill.findings and not patient.findings
            assert ill.server.split()[0] == patient.server.split()[0]


def test_the_ports_that_ran_out():
    """No two connections had a port at once; there were never more than the range has; the rest failed, as counted."""
    experiment = load("clinic-ports")
    said, ports = experiment.about["said"], experiment.connections["client"].nunique()
    low, high = map(int, experiment.about["kernel"]["ip_local_port_range"].split())
    failed, = (number for text, number in said.items() if text.startswith("EADDRNOTAVAIL: "))
    assert ports == high - low + 1 < len(experiment.connections) == said["200"] and failed + said["200"] == 5 * 66
    waiting = experiment.sockets.query("host == 'client' and state == 'TIME_WAIT'")
    assert waiting["local"].nunique() == ports


@pytest.mark.parametrize("name", ["clinic-proxy-race", "clinic-proxy-race-cured"])
def test_the_proxy_and_its_clients_count_the_same(name):
    """A 502 for each crossed POST; the crossed GETs are repeated; the finding counts both, as nginx's error log does."""
    experiment = load(name)
    said, proxy = experiment.about["said"], experiment.about["proxy"]
    for status in ("200", "502"):
        assert proxy["status"].get(status, 0) == sum(
            number for text, number in said.items() if text.split()[-1] == status)
    crossed = diagnose(experiment).set_index("finding")["how_many"].get("keep-alive-race", 0)
    assert crossed == sum(proxy["errors"].values()) >= said.get("POST 502", 0) and said["GET 200"] == 24
    unanswered = experiment.exchanges[experiment.exchanges["status"].isna()]
    assert (unanswered["method"] == "POST").sum() == said.get("POST 502", 0)


def lost(name):
    """How many requests of a recording were never answered, and what its client said about the rest."""
    experiment = load(name)
    return int(experiment.exchanges["status"].isna().sum()), experiment.about["said"]


def test_what_goaway_left_out():
    """As many requests have no answer as the client counted; the cured client asked each of these again."""
    unanswered, said = lost("clinic-goaway")
    assert unanswered == said["not processed: behind the last stream of GOAWAY"] > 0
    unanswered, said = lost("clinic-goaway-cured")
    assert unanswered > 0 and set(said) == {"200"}


def test_one_dead_connection_takes_all():
    """What was asked at once is in the capture; what was asked later waited in the client's kernel, and timed out too."""
    unanswered, said = lost("clinic-idle-drop-h2")
    assert said["TimeoutError: timed out"] == 2 * unanswered > 2 and said["200"] == 2
    assert lost("clinic-idle-drop-h2-cured") == (0, {"200": 14})


def test_the_box_has_a_ttl_of_its_own():
    """tshark reads the TTL of the RST and of the server's other segments."""
    require("tshark")
    said = subprocess.run(["tshark", "-r", load("clinic-idle-drop-reset").folder / "capture.pcapng", "-Y",
                           "ip.src == 10.77.0.2", "-T", "fields", "-e", "tcp.flags.reset", "-e", "ip.ttl"],
                          capture_output=True, text=True, check=True).stdout
    pairs = {tuple(line.split()) for line in said.splitlines()}
    assert {ttl for _, ttl in pairs} == {"64", str(TTL)} and len(pairs) == 2
    assert f"with TTL {TTL}, all else of the server with 64" in diagnose(load("clinic-idle-drop-reset"))["means"][0]
    assert {flag for flag, ttl in pairs if ttl == str(TTL)} == {flag for flag, ttl in pairs if flag in ("1", "True")}


def test_nobody_answers_for_the_dead_host():
    """One client is told by its kernel, after three probes; the other gives up by itself; ARP finds nobody."""
    experiment = load("clinic-dead-peer")
    said, went = experiment.about["said"], experiment.timeline.set_index("action")["time"]
    assert sum(text.startswith("ETIMEDOUT") for text in said) == sum(text.startswith("TimeoutError") for text in said) == 1
    gone = went["the server's host has no address any more"]
    assert not (experiment.segments.query("host == 'server'")["time"] > gone).any()


@pytest.mark.parametrize(("name", "size"), [("clinic-tls-close", 1000), ("clinic-tls-close-cured", 2000)])
def test_the_client_notices_nothing(name, size):
    """Half an answer and a whole one look the same to `http.client`: a status, some bytes, and no error."""
    assert load(name).about["said"] == {"200": 5, f"read {size} bytes, no error": 5}
    ended = signals(load(name).capture).query("signal == 'close_notify' and host == 'server'")["stream"]
    assert ended.nunique() == (0 if size == 1000 else 5)
