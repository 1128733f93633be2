"""The clinic's recordings against what its programs said: each answer, timeout and refusal that a client counted."""

import pytest

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
    assert len(came) == experiment.about["said"].get("200", 0)


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
