"""The rules that keep the notebooks true on every machine, and the proof that their check bites."""

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LONGEST_CODE = 12
VARYING = re.compile(r"0x[0-9a-f]{8,}|/home/|/tmp/|/root/|site-packages|\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.\d{7,}")
UNSUPPORTED = re.compile(r"\b(clear_output|display_id|interact)\b|^\s*%%?time|^\s*[!%]", re.M)

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(path):
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def source(cell):
    return "".join(cell["source"])


def texts(cell):
    return ["".join(output.get("text", output.get("data", {}).get("text/plain", ""))) for output in cell["outputs"]]


def pictures(cell):
    return [output for output in cell["outputs"] if "image/png" in output.get("data", {})]


def test_all_notebooks_are_there():
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{number:02d}" for number in range(len(NOTEBOOKS))]
    assert len(NOTEBOOKS) >= 7


@each
def test_committed_as_run_from_top_to_bottom(path):
    assert [cell["execution_count"] for cell in code_cells(path)] == list(range(1, len(code_cells(path)) + 1))
    assert read(path)["metadata"]["kernelspec"]["name"] == "python3"


@each
def test_every_cell_is_compared(path):
    for cell in code_cells(path):
        tags = cell["metadata"].get("tags", [])
        if any(tag.startswith("nbval") for tag in tags):
            assert cell["metadata"].get("reason"), f"{cell['id']}: a tag {tags} without a `reason` beside it"
        assert "NBVAL" not in source(cell), f"{cell['id']}: say it with a tag and its reason"


@each
def test_nothing_that_nbval_cannot_repeat(path):
    for cell in code_cells(path):
        assert not source(cell).rstrip().endswith(";"), f"{cell['id']}: nbval shows what a trailing ; hides"
        assert not UNSUPPORTED.search(source(cell)), cell["id"]
        may_fail = "raises-exception" in cell["metadata"].get("tags", [])
        for output in cell["outputs"]:
            assert output["output_type"] != "error" or may_fail, cell["id"]
            assert output.get("name") != "stderr", f"{cell['id']}: writes to stderr"
        for text in texts(cell):
            assert not VARYING.search(text), f"{cell['id']}: prints what differs from machine to machine"


@each
def test_cells_are_short(path):
    for cell in code_cells(path):
        lines = [line for line in source(cell).splitlines() if line.strip()]
        assert len(lines) <= LONGEST_CODE, f"{cell['id']}: {len(lines)} lines"


@each
def test_figures_can_be_read_without_seeing_them(path):
    for cell in code_cells(path):
        for picture in pictures(cell):
            alt = picture["metadata"].get("image/png", {}).get("alt", "")
            assert len(alt) > 40, f"{cell['id']}: a figure without alternative text"
            assert alt in "".join(picture["data"]["text/plain"]), cell["id"]


@each
def test_anatomy(path):
    cells = read(path)["cells"]
    prose = "\n".join(source(cell) for cell in cells if cell["cell_type"] == "markdown")
    assert source(cells[0]).startswith("# ")
    assert "minutes" in source(cells[0]) + source(cells[1])
    assert len(re.findall(r"\*\*Predict", prose)) >= 2
    assert "## Summary" in prose
    assert "2018" in prose


def relative_links(text):
    return [link for link in re.findall(r"\]\(([^)#\s]+)\)", text) if "://" not in link]


@each
def test_links_lead_somewhere(path):
    prose = "\n".join(source(cell) for cell in read(path)["cells"] if cell["cell_type"] == "markdown")
    assert [link for link in relative_links(prose) if not (path.parent / link).exists()] == []


def test_the_readme_names_every_notebook():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = relative_links(text)
    assert [link for link in links if not (ROOT / link).exists()] == []
    assert {f"notebooks/{path.name}" for path in NOTEBOOKS} <= set(links)


@each
def test_every_exercise_has_a_check_and_a_solution(path):
    number = path.stem[:2]
    cells = read(path)["cells"]
    code = code_cells(path)
    checks = [match for cell in code for match in re.findall(r'check\("(\d\d\.\d)", answer\)', source(cell))]
    right = [text for cell in code for text in texts(cell) if "right." in text]
    solutions = [cell for cell in cells if source(cell).startswith("#### Solution")]
    assert checks == [f"{number}.{k}" for k in range(1, len(checks) + 1)] and len(checks) >= 2
    assert len(right) == len(solutions) == len(checks)
    assert all(cell["metadata"].get("jp-MarkdownHeadingCollapsed") for cell in solutions)


def test_the_check_bites(tmp_path):
    """One number altered in a copy of a stored output makes nbval fail; the untouched copy passes."""
    notebook = read(NOTEBOOKS[1])
    (tmp_path / "untouched.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    outputs = [output for cell in notebook["cells"] if cell["cell_type"] == "code" for output in cell["outputs"]]
    output = next(output for output in outputs if re.search(r"\d", "".join(output.get("text", ""))))
    output["text"] = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), "".join(output["text"]), count=1)
    (tmp_path / "altered.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "pytest", "--nbval", "-q", "-rA", "-p", "no:cacheprovider", tmp_path],
                          cwd=tmp_path, capture_output=True, text=True)
    told = set(re.findall(r"^(PASSED|FAILED|ERROR) (?:\S*/)?(\w+)\.ipynb::", done.stdout, re.MULTILINE))
    assert told == {("PASSED", "untouched"), ("PASSED", "altered"), ("FAILED", "altered")}, done.stdout


@each
def test_what_a_cell_prints_is_one_output(path):
    """JupyterLab joins what a cell prints; a runner that does not would store it in pieces, and differ from it."""
    for cell in code_cells(path):
        names = [output.get("name") for output in cell["outputs"]]
        assert all(name is None or name != after for name, after in pairwise(names)), cell["id"]
