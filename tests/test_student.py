"""The notebooks for students: nothing is given away before it is asked, and everything runs."""

import importlib.util
import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from helpers.exercises import EXERCISES, seal

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SPEC = importlib.util.spec_from_file_location("student", ROOT / ".book" / "student.py")
student = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(student)
PATIENCE = 300  # seconds for a cell, on the slowest of machines

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    assert [path.name for path in student.write(folder)] == [path.name for path in NOTEBOOKS]
    return folder


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def source(cell):
    return "".join(cell["source"])


def code(cells):
    return [cell for cell in cells if cell["cell_type"] == "code"]


def level(cell):
    """The level of a Markdown cell's highest heading, as JupyterLab takes it; None without a heading."""
    marks = re.findall(r"^(#+) ", source(cell), re.MULTILINE) if cell["cell_type"] == "markdown" else []
    return min(map(len, marks), default=None)


def in_view(cells):
    """The cells that JupyterLab shows before the reader has opened any fold."""
    fold = None
    for cell in cells:
        height = level(cell)
        if fold is None or (height is not None and height <= fold):
            yield cell
            fold = height if cell["metadata"].get("jp-MarkdownHeadingCollapsed") else None


@each
def test_it_has_the_lesson_and_neither_outputs_nor_solutions(folder, path):
    copy, original = cells(folder / path.name), cells(path)
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code(copy))
    places = [place for place, cell in enumerate(original) if source(cell).startswith("#### Solution")]
    solved = set()
    for place in places:
        end = next(k for k in range(place + 1, len(original)) if level(original[k]))
        solved |= set(range(place, end))
    assert len(solved) >= 2 * len(places)
    text = "\n".join(map(source, copy))
    assert [source(original[place]) for place in solved if source(original[place]) in text] == []
    story = [cell for place, cell in enumerate(original) if place not in solved]
    missing = [cell["id"] for cell in story if source(cell).split("\n\n", 1)[-1].strip() not in text]
    assert missing == []
    assert text.count(f"notebooks/{path.name}`, folded under *Solution") == len(places)
    nbformat.validate(nbformat.read(folder / path.name, as_version=4))


@each
def test_nothing_is_in_view_that_follows_a_prediction(folder, path):
    copy = cells(folder / path.name)
    asked = [place for place, cell in enumerate(copy) if student.PREDICTION.search(source(cell))]
    assert len(asked) >= 2
    for place in asked:
        assert source(copy[place]).split("\n\n")[-1].startswith("**Predict.**")
        assert level(copy[place + 1]) == 1 and copy[place + 1]["metadata"]["jp-MarkdownHeadingCollapsed"]
    after = [source(cell) for cell in in_view(copy) if copy.index(cell) > asked[0]]
    folds, exercises = after[:len(asked)], after[len(asked):]
    assert [re.fullmatch(r"# Prediction (\d): decide, then open", fold)[1] for fold in folds] == [
        str(number + 1) for number in range(len(asked))]
    assert exercises[0].startswith("# Exercises") and exercises[-1] == "# Summary"
    assert all(re.match(r"#+ |answer = \.\.\.|When you have an answer", text) for text in exercises)


@each
def test_no_exercise_gives_its_own_answer(folder, path):
    text = "\n".join(source(cell) for cell in in_view(cells(folder / path.name)))
    words = {word.strip(".,;:()'\"`*?") for word in text.split()}
    words = {word for word in words if len(word) > 1}  # digits are everywhere, and tell nothing
    numbers = {word.replace(",", "") for word in words if re.fullmatch(r"[\d,]*\d\d(\.\d+)?", word)}
    tries = words | set(map(float, numbers))
    for number, exercise in EXERCISES.items():
        if number.startswith(path.stem[:2]):
            given = [word for word in tries if seal(number, word, exercise.decimals) == exercise.digest]
            assert [word for word in given if str(word) not in exercise.form] == [], number


@pytest.mark.parametrize("name", ["00-start-here", "12-your-own-capture"])
def test_it_runs_outside_the_course(folder, name):
    notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
    place = {"metadata": {"path": folder}}
    NotebookClient(notebook, timeout=PATIENCE, startup_timeout=PATIENCE, resources=place).execute()
    said = [output.get("text", "") for cell in code(notebook.cells) for output in cell.outputs]
    assert sum("no answer yet" in text for text in said) == sum(number[:2] == name[:2] for number in EXERCISES)


def test_a_students_work_is_not_overwritten(tmp_path, capsys):
    (tmp_path / NOTEBOOKS[1].name).write_text("my work", encoding="utf-8")
    assert student.main([str(tmp_path)]) == 1
    assert f"{NOTEBOOKS[1].name} is there already" in capsys.readouterr().err
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["my work"]


def test_the_command_says_what_it_wrote(tmp_path, capsys):
    assert student.main([str(tmp_path / "new" / "folder")]) == 0
    out = capsys.readouterr().out
    assert out == f"{len(NOTEBOOKS)} notebooks for students in {tmp_path / 'new' / 'folder'}\n"
