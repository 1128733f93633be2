"""The self-checks: they take what is right in any form that means the same, and nothing else.

What is right stands nowhere in clear text: it is what the notebooks' own solutions hand to `check`.
"""

import json
from numbers import Number
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from helpers import exercises
from helpers.exercises import EXERCISES, PARTS, Exercise, check, overview, seal

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


@pytest.fixture
def one(monkeypatch):
    """Make the exercise `99.1` with this answer."""
    def make(answer, decimals=0):
        exercise = Exercise("a thing", seal("99.1", answer, decimals), "Think of X.", decimals)
        monkeypatch.setitem(exercises.EXERCISES, "99.1", exercise)
    return make


@pytest.mark.parametrize("right, same, other", [
    (3, [3, 3.0, np.int64(3), np.float64(3.2)], [4, "4", -3, None, [3]]),
    ("TIME_WAIT", ["time_wait", "TIME-WAIT", " time wait "], ["TIME", "TIME_WAITS", 5]),
    (("client", "server"), [["client", "server"], np.array(["client", "server"])], [("server", "client"), "client"]),
    ({"a", "b"}, [{"b", "a"}, frozenset("ab")], [{"a"}, ["a", "b"]]),
    ({"x": 1, "y": 2}, [{"y": 2, "x": 1.0}, pd.Series({"x": 1, "y": 2})], [{"x": 2, "y": 1}, {"x": 1}]),
    (pd.NA, [None, float("nan"), pd.NaT], [0, False]),
    ([{"a": 1}], [pd.DataFrame({"a": [1]})], [pd.DataFrame({"a": [2]})]),
])
def test_what_means_the_same_is_right_and_nothing_else(one, capsys, right, same, other):
    one(right)
    for answer in same:
        check("99.1", answer)
        assert capsys.readouterr().out == "99.1: right.\n", answer
    for answer in other:
        check("99.1", answer)
        assert capsys.readouterr().out == "99.1: not yet. Think of X.\n", answer


def test_decimals_that_count(one, capsys):
    one(12.34, decimals=1)
    check("99.1", 12.26)
    check("99.1", 12.4)
    assert capsys.readouterr().out.splitlines() == ["99.1: right.", "99.1: not yet. Think of X."]


def test_no_answer_yet(one, capsys):
    one(1)
    check("99.1", ...)
    assert capsys.readouterr().out == "99.1: no answer yet. It is a thing.\n"


def test_an_exercise_that_is_not_there():
    with pytest.raises(ValueError, match="no exercise '77.7'; there are: "):
        check("77.7", 1)


@pytest.mark.parametrize("number", EXERCISES)
def test_no_hint_gives_the_answer(number):
    exercise = EXERCISES[number]
    words = [word.strip(".,;:()'\"`") for word in exercise.hint.split()]
    tries = words + [int(word) for word in words if word.isdigit()]
    assert exercise.digest not in {seal(number, word, exercise.decimals) for word in tries}
    assert exercise.form and exercise.hint[-1] in ".?"


@pytest.fixture(scope="module")
def answers():
    """The answer to each exercise, by its number, as the notebooks' solutions work it out."""
    given = {}
    with pytest.MonkeyPatch.context() as patch, matplotlib.rc_context():
        patch.setattr(exercises, "check", lambda number, answer: given.setdefault(number, []).append(answer))
        patch.setattr(plt, "show", lambda: plt.close("all"))
        matplotlib.use("agg")
        for path in NOTEBOOKS:
            patch.chdir(path.parent)
            run(path)
    assert all(first is ... for first, *_ in given.values())
    return {number: answer for number, (_, answer) in given.items()}


def run(path):
    """Run a notebook's code from top to bottom, as a program."""
    names = {"__name__": path.stem}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{path.name} {cell['id']}", "exec"), names)  # noqa: S102
            plt.close("all")


def misses(answer):
    """Wrong answers that are near the right one."""
    if isinstance(answer, (bool, np.bool_)):
        return [not answer]
    if isinstance(answer, Number):
        return [answer + 1, answer - 1, -answer - 1, answer * 10 + 1, [answer]]
    if isinstance(answer, str):
        return [answer + "s", answer[:-1], "", [answer]]
    if isinstance(answer, dict):
        return [{key: miss} | {other: value for other, value in answer.items() if other != key}
                for key, value in answer.items() for miss in misses(value)] + [dict(list(answer.items())[1:])]
    if isinstance(answer, (set, frozenset)):
        return [answer | {"x"}, set(list(answer)[1:]), sorted(answer)]
    parts = list(answer)
    others = [parts[:place] + [miss] + parts[place + 1:]
              for place, part in enumerate(parts) for miss in misses(part)]
    return [*others, parts[1:], [*parts, 0]] + [parts[::-1]] * (parts[::-1] != parts)


def verdict(capsys, number, answer):
    check(number, answer)
    return capsys.readouterr().out.strip()


def test_every_exercise_is_solved_in_its_notebook(answers):
    assert sorted(answers) == sorted(EXERCISES)


@pytest.mark.parametrize("number", EXERCISES)
def test_the_check_takes_the_solution_and_no_other_answer(answers, capsys, number):
    right, hint = answers[number], f"{number}: not yet. {EXERCISES[number].hint}"
    assert verdict(capsys, number, right) == f"{number}: right."
    for wrong in [None, "", [], -0.75, *misses(right)]:
        assert verdict(capsys, number, wrong) == hint, wrong
    decimals = EXERCISES[number].decimals
    for other, answer in answers.items():
        same = seal("", answer, decimals) == seal("", right, decimals)
        assert verdict(capsys, number, answer) == (f"{number}: right." if same else hint), other


def test_the_overview_names_every_exercise():
    table = overview()
    assert list(table.index) == list(EXERCISES)
    assert table[PARTS].all(axis=None)
    assert list(overview("03").index) == [number for number in EXERCISES if number.startswith("03")]


def test_the_list_is_printed(capsys):
    assert exercises.main(["03"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "03-one-page-three-connections.ipynb"
    assert lines[2].split() == ["03.2", "Reuse", "check", "hint", "solution"]
    assert lines[-1] == "3 exercises, 3 of them complete"
    assert exercises.main(["99"]) == 1


@pytest.mark.parametrize("part, spoil", [
    ("check", lambda cells: cells[1].update(source='answer = ...')),
    ("solution", lambda cells: cells[2]["metadata"].clear()),
    ("solution", lambda cells: cells[3].update(outputs=[])),
    ("solution", lambda cells: cells.pop(2)),
])
def test_the_overview_sees_what_is_missing(monkeypatch, tmp_path, part, spoil):
    folded, right = {"jp-MarkdownHeadingCollapsed": True}, {"text": "00.1: right.\n"}
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "## Exercises\n\n### 1. Read a curve\n\nHow?"},
        {"cell_type": "code", "metadata": {}, "source": 'answer = ...\ncheck("00.1", answer)', "outputs": []},
        {"cell_type": "markdown", "metadata": folded, "source": "#### Solution 1"},
        {"cell_type": "code", "metadata": {}, "source": 'check("00.1", 1 + 1)', "outputs": [right]},
    ]
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(exercises, "data_folder", lambda: tmp_path / "data")
    file = tmp_path / "notebooks" / "00-toy.ipynb"
    file.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    assert overview().loc["00.1", PARTS].all()
    spoil(cells)
    file.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    assert [name for name in PARTS if not overview().loc["00.1", name]] == [part]
