"""What the page for contributors names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"(?:^ {4}.*\n)+", re.MULTILINE)


def test_its_files_are_there():
    files = set(re.findall(r"\b(?:helpers|tests|notebooks|data)/[\w/.-]+\.(?:py|md|ipynb)", PAGE))
    assert len(files) > 8
    assert [file for file in sorted(files) if "NN" not in file and not (ROOT / file).is_file()] == []


def test_its_targets_and_packages_are_those_of_the_makefile_and_ci():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"\bmake ([a-z-]+)", PAGE))
    assert targets and all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    installed = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    packages = re.search(r"apt-get install ([\w -]+)", PAGE)[1].split()
    assert [package for package in packages if package not in installed] == []


def test_its_patient_is_one():
    from helpers.testbed.experiments.clinic_programs import CLIENTS, SERVERS
    from helpers.testbed.experiments.patients import Patient

    text = re.search(r"^ {4}(Patient\(.*?\)),$", PAGE, re.MULTILINE | re.DOTALL)[1]
    patient = eval(text, {"Patient": Patient})
    assert patient.server.split()[0] in SERVERS and patient.client.split()[0] in CLIENTS


def test_its_examples_are_short():
    assert all(example.count("\n") <= 10 for example in EXAMPLE.findall(PAGE))
