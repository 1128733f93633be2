"""What a lecturer relies on: the plan names what there is, and every way to run the course says the same."""

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
LINK = re.compile(r"\]\(([^)#\s]+)\)")
EXERCISE = re.compile(r"(?<![\d.])\d\d\.\d\b")       # not the end of a version, as 1.29.7


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


PAGE = text("notebooks/for-lecturers.md")
README = text("README.md")
WORKFLOW = text(".github/workflows/course.yml")
DEVCONTAINER = json.loads(text(".devcontainer/devcontainer.json"))
PROJECT = tomllib.loads(text("pyproject.toml"))["project"]


def source(notebook, kind):
    return "\n".join("".join(cell["source"]) for cell in NOTEBOOKS[notebook]["cells"] if cell["cell_type"] == kind)


def headings(notebook):
    return set(re.findall(r"^#+ (.+)$", source(notebook, "markdown"), re.MULTILINE))


def exercises(notebook):
    return set(re.findall(r'check\("(\d\d\.\d)"', source(notebook, "code")))


def figures(notebook):
    return set(re.findall(r'title="(.+)"\)', source(notebook, "code")))


def rows(section):
    """The cells of each row of the table in `section` of the page, without its head."""
    body = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)[1]
    lines = [line for line in body.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]], body


PLANS = ["First lecture: who closes first?", "Second lecture: what it is for, and what it costs",
         "Third lecture: encrypted, and ill", "The lab", "The second lab: a proxy, and the clinic",
         "The clinic as an examination"]
each_plan = pytest.mark.parametrize("plan", PLANS)


@each_plan
def test_the_minutes_of_a_plan_add_up(plan):
    table, body = rows(plan)
    told = int(re.search(r"^\*(\d+) minutes\.\*", body, re.MULTILINE)[1])
    assert sum(int(row[0]) for row in table) == told == 90


@each_plan
def test_a_plan_names_sections_figures_and_exercises_that_are_there(plan):
    table, _ = rows(plan)
    for _, what, where, todo in table:
        linked = LINK.findall(where)
        assert len(linked) == bool(where), what
        for notebook in linked:
            titles = set(re.findall(r"\*\*(.+?)\*\*", where))
            sections = set(re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", where))
            assert sections and sections <= headings(notebook), what
            assert titles <= figures(notebook), what
            assert set(EXERCISE.findall(todo)) <= exercises(notebook), what


def test_the_page_names_exercises_and_files_that_are_there():
    named, links = set(EXERCISE.findall(PAGE)), LINK.findall(PAGE)
    assert len(named) > 20 and named <= set().union(*map(exercises, NOTEBOOKS))
    assert [link for link in links if not (ROOT / "notebooks" / link).exists()] == []
    assert set(NOTEBOOKS) <= set(links)


def test_goals_are_given_for_every_notebook_with_its_minutes():
    table, _ = rows("Each notebook: its goal, and what it sets right")
    told = {LINK.search(row[0])[1]: int(row[1]) for row in table}
    assert told == {name: int(re.search(r"^\*(\d+) minutes", source(name, "markdown"), re.MULTILINE)[1]) for name in NOTEBOOKS}


def test_every_make_target_on_the_page_is_in_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", PAGE)) <= targets


def test_the_examination_has_a_patient_of_whom_no_notebook_speaks():
    patient, = re.findall(r"`(clinic-[a-z-]+)` has no text in any notebook", PAGE)
    assert (ROOT / "data" / patient / "capture.pcapng").is_file()
    assert not [name for name in NOTEBOOKS if re.search(patient.removeprefix("clinic-"), source(name, "markdown"))]


def test_the_tags_of_which_the_page_speaks():
    """The page says that the course has no cell that is not compared."""
    tags = {tag for notebook in NOTEBOOKS.values() for cell in notebook["cells"] for tag in cell["metadata"].get("tags", [])}
    assert not tags & {"nbval-ignore-output", "nbval-skip", "raises-exception"}


def test_python_versions_agree_everywhere():
    lowest, highest = re.search(r"Python (3\.\d+) to (3\.\d+)", README).groups()
    assert PROJECT["requires-python"] == f">={lowest}"
    assert re.findall(r"python: \[(.+)\]", WORKFLOW) == [f'"{lowest}", "{highest}"'] * 2
    assert f"Python {lowest} to {highest}" in PAGE
    others = re.search(r":(3\.\d+)", DEVCONTAINER["image"])[1], re.search(r"3\.\d+", text(".binder/runtime.txt"))[0]
    assert all(int(lowest[2:]) <= int(version[2:]) <= int(highest[2:]) for version in others)


@pytest.mark.parametrize("folder", [".venv/bin/", ".venv\\Scripts\\"])
def test_the_workflow_runs_the_commands_of_the_readme(folder):
    assert f"bin: {folder}\n" in WORKFLOW
    steps = re.findall(r"- run: (.+)", WORKFLOW)
    assert ".ci/run" in steps and text(".ci/run").rstrip().endswith("\nmake test")
    by_hand = [step for step in steps if step != ".ci/run"]
    assert len(by_hand) == 4 and all(step.replace("${{ matrix.bin }}", ".venv/bin/") in README for step in by_hand)
    assert f"{folder}pip install -r requirements.txt" in README


def test_container_and_binder_install_what_the_readme_says():
    assert all(command in README for command in DEVCONTAINER["postCreateCommand"].split(" && "))
    included = re.fullmatch(r"-r (\S+)\n", text(".binder/requirements.txt"))[1]
    assert (ROOT / ".binder" / included).resolve() == ROOT / "requirements.txt"


def test_the_citation_is_of_this_version():
    citation = text("CITATION.cff")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == PROJECT["version"]
    assert f'title: "{README.splitlines()[0].removeprefix("# ")}"' in citation


def test_the_issue_form_offers_every_notebook():
    offered = re.findall(r"^ +- (\d\d .+)$", text(".github/ISSUE_TEMPLATE/notebook.yml"), re.MULTILINE)
    assert offered == re.findall(r"\[(\d\d .+)\]\(notebooks/", README)


def test_text_and_recordings_carry_their_licence():
    ours, theirs = text("notebooks/LICENSE"), text("data/LICENSE")
    assert ours == theirs and ours.startswith("Attribution 4.0 International\n")
    assert [number for number in range(1, 9) if f"\nSection {number} -- " not in ours] == []


def test_every_system_has_the_same_bytes():
    """The datasheet holds the sha256 of each file, so no checkout may have changed a line ending."""
    files = [file for kind in ("csv", "json") for file in (ROOT / "data").rglob(f"*.{kind}")]
    assert len(files) > 100 and [file.name for file in files if b"\r" in file.read_bytes()] == []
