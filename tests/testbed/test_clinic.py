"""The clinic's recordings against what its programs said: each answer, timeout and refusal that a client counted."""

import pytest

from helpers.diagnosis import diagnose
from helpers.experiments import load, names
from helpers.testbed.experiments.patients import PATIENTS

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
