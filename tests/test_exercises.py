"""The self-checks: they take what is right in any form that means the same, and nothing else.

What is right stands nowhere in clear text: it is what the notebooks' own solutions hand to `check`.
"""

import ast
import json
from decimal import Decimal
from fractions import Fraction
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


NUMBER, SHARE, SECONDS = "a whole number", "a number with one decimal, in percent", "a whole number of seconds"
TEXT, TUPLE, LIST, SET, DICT = "the name of a thing", "a tuple of two", "a list of numbers", "a set of names", "a dict"


@pytest.fixture
def one(monkeypatch):
    """Make the exercise `99.1` with this form and answer."""
    def make(form, answer, decimals=0):
        exercise = Exercise(form, seal("99.1", answer, decimals), "Think of X.", decimals)
        monkeypatch.setitem(exercises.EXERCISES, "99.1", exercise)
    return make


@pytest.mark.parametrize("form, right, same, other", [
    (NUMBER, 3, [3, 3.0, np.int64(3), np.float64(3.2), "3", " +3.0 ", Decimal(3), Fraction(3)],
     [4, "4", -3, 0.03, 10**400]),
    (NUMBER, 3, [np.array(3), np.array([3]), pd.Series([3]), pd.Index([3]), pd.DataFrame({"port": ["3"]})],
     [np.array(4), pd.Series([4], dtype="Int64"), float("nan"), float("inf")]),
    (NUMBER, 1448, ["1,448", "1448"], ["144"]),
    (SECONDS, 10, [10, "10 s", "10s", "10 seconds", "10,000 ms"], ["10 ms", "11 s"]),
    (TEXT, "TIME_WAIT", ["time_wait", "TIME-WAIT", " time wait ", np.str_("TIME_WAIT"), pd.Series(["TIME_WAIT"])],
     ["TIME", "TIME_WAITS", None]),
    (TEXT, "cannot tell", ["Cannot tell", None, pd.NA, float("nan"), pd.NaT], ["client"]),
    (TUPLE, ("client", 4.0), [["client", 4], np.array(["client", 4], object),
                              pd.Series({"host": "client", "since": 4.0}),
                              pd.DataFrame({"host": ["client"], "since": [4]})],
     [(4, "client"), ("client",), ("client", 4, 4), ("client", True)]),
    (LIST, [1, 1, 2], [(1, 1, 2), pd.Series([1, 1, 2], index=[7, 8, 9]), np.array([1, 1, 2]), pd.Index([1, 1, 2]),
                       pd.DataFrame({"n": [1, 1, 2]})], [[1, 2, 1], [1, 2], []]),
    (SET, {"a", "b"}, [{"b", "a"}, frozenset("ab"), ["b", "a"], pd.Index(["a", "b"]), np.array(["b", "a"])],
     [{"a"}, {"a", "b", "c"}]),
    (DICT, {"x": 1, "y": 2}, [{"y": 2, "x": 1.0}, pd.Series({"x": 1, "y": 2}), pd.DataFrame({"n": {"x": 1, "y": 2}}),
                              pd.DataFrame({"x": [1], "y": [2]})], [{"x": 2, "y": 1}, {"x": 1}]),
])
def test_what_means_the_same_is_right_and_nothing_else(one, capsys, form, right, same, other):
    one(form, right)
    for answer in same:
        check("99.1", answer)
        assert capsys.readouterr().out == "99.1: right.\n", answer
    for answer in other:
        check("99.1", answer)
        assert capsys.readouterr().out == "99.1: not yet. Think of X.\n", answer


def test_a_share_may_be_a_fraction_or_carry_its_sign(one, capsys):
    one(SHARE, 49.45, decimals=1)
    for answer in (49.45, 0.4945, "49.5 %", "49.5%", "49.5 percent", "0.4945", np.float64(0.4945)):
        check("99.1", answer)
        assert capsys.readouterr().out == "99.1: right.\n", answer
    for answer in (0.5, "0.495 %", 4945):
        check("99.1", answer)
        assert capsys.readouterr().out == "99.1: not yet. Think of X.\n", answer


def itself():
    answer = []
    answer.append(answer)
    return answer


@pytest.mark.parametrize("form, answer, described", [
    (NUMBER, True, "yes or no"), (NUMBER, np.True_, "yes or no"), (NUMBER, None, "a missing value"),
    (NUMBER, [3], "of the type list"), (NUMBER, "three", "a text"), (NUMBER, "3 kB", "a text"),
    (NUMBER, "3 s", "a text"),
    (NUMBER, pd.Series([3, 4]), "of the type Series"), (NUMBER, 3j, "of the type complex"),
    (NUMBER, pd.DataFrame({"a": [1, 2], "b": [3, 4]}), "a table of 2 rows and 2 columns"),
    (TEXT, 3, "a number"), (TEXT, ["client"], "of the type list"), (TUPLE, 3, "a number"), (TUPLE, "ab", "a text"),
    (TUPLE, np.array(3), "of the type ndarray"), (LIST, itself(), "of the type list"),
    (LIST, [[1]], "of the type list"),
    (LIST, {"x": 1}, "of the type dict"), (SET, {"x": 1}, "of the type dict"), (DICT, {1, 2}, "of the type set"),
    (DICT, {"x": [1]}, "of the type dict"), (LIST, iter([1]), "of the type list_iterator"),
])
def test_of_another_form_it_says_so_and_not_that_the_answer_is_wrong(one, capsys, form, answer, described):
    one(form, 3)
    check("99.1", answer)
    said = f"99.1: not in the form that is asked for. This is {described}; the answer is {form}.\n"
    assert capsys.readouterr().out == said


def test_decimals_that_count(one, capsys):
    one(NUMBER, 12.34, decimals=1)
    check("99.1", 12.26)
    check("99.1", 12.4)
    assert capsys.readouterr().out.splitlines() == ["99.1: right.", "99.1: not yet. Think of X."]


def test_no_answer_yet(one, capsys):
    one("a thing", 1)
    check("99.1", ...)
    assert capsys.readouterr().out == "99.1: no answer yet. It is a thing.\n"


@pytest.mark.parametrize("number", ["77.7", ["01.1"], 1.1, None, itself()])
def test_an_exercise_that_is_not_there(capsys, number):
    check(number, 1)
    assert capsys.readouterr().out.startswith(f"There is no exercise {number!r}. There are: 00.1, 00.2")


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
    """Run a notebook's code from top to bottom, as a program, but for what no answer needs."""
    names = {"__name__": path.stem}
    for code in needed(path):
        exec(code, names)
        plt.close("all")


def needed(path):
    """The cells that check an answer, and those that give a name to what such a cell uses, or one before it."""
    cells, used = [], {"check"}
    for cell in reversed(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            parsed = ast.parse("".join(cell["source"]), f"{path.name} {cell['id']}")
            if used & names_in(parsed, GIVEN) or "check" in names_in(parsed, USED):
                used |= names_in(parsed, USED)
                cells.append(compile(parsed, f"{path.name} {cell['id']}", "exec"))
    return cells[::-1]


USED = {ast.Name: lambda node: node.id}
GIVEN = {
    ast.Name: lambda node: node.id if isinstance(node.ctx, ast.Store) else None,
    ast.alias: lambda node: (node.asname or node.name).split(".")[0],
    ast.FunctionDef: lambda node: node.name, ast.ClassDef: lambda node: node.name,
    ast.Subscript: lambda node: getattr(node.value, "id", None) if isinstance(node.ctx, ast.Store) else None,
}


def names_in(parsed, kinds):
    return {kinds[type(node)](node) for node in ast.walk(parsed) if type(node) in kinds}


def misses(answer):
    """Wrong answers that are near the right one."""
    if isinstance(answer, (bool, np.bool_)):
        return [not answer]
    if isinstance(answer, Number):
        return [answer + 1, answer - 1, -answer - 1, answer * 10 + 1]
    if isinstance(answer, str):
        return [answer + "s", answer[:-1], ""]
    if isinstance(answer, dict):
        return [{key: miss} | {other: value for other, value in answer.items() if other != key}
                for key, value in answer.items() for miss in misses(value)] + [dict(list(answer.items())[1:])]
    if isinstance(answer, (set, frozenset)):
        return [answer | {"x"}, set(list(answer)[1:])]
    parts = list(answer)
    others = [[*parts[:place], miss, *parts[place + 1:]]
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
    for wrong in misses(right):
        assert verdict(capsys, number, wrong) == hint, wrong
    decimals = EXERCISES[number].decimals
    for other, answer in answers.items():
        if seal("", plain(answer), decimals) != seal("", plain(right), decimals):
            assert verdict(capsys, number, answer) != f"{number}: right.", other


def plain(answer):
    return list(answer) if isinstance(answer, np.ndarray | pd.Series | pd.Index) else answer


@pytest.mark.parametrize("number, of_a_pandas_table", [
    ("00.2", lambda a: pd.Series(a, index=["time_wait_client", "time_wait_server"], dtype="Int64")),
    ("01.2", lambda a: a / 100), ("01.2", lambda a: f"{a:.1f} %"),
    ("01.3", lambda a: pd.Series({"bytes": a[0], "segments": a[1]})), ("03.1", lambda a: pd.Series([a], index=[1])),
    ("03.1", lambda a: pd.DataFrame({"port": [str(a)]})), ("03.2", pd.Series), ("03.3", lambda a: f"{a:.0f} s"),
    ("04.2", lambda a: a / 100), ("04.3", pd.Series), ("06.3", np.array),
    ("08.2", pd.Index),
])
def test_a_right_answer_may_come_as_pandas_gives_it(answers, capsys, number, of_a_pandas_table):
    answer = answers[number]
    given = of_a_pandas_table(list(answer) if number == "08.2" else answer)
    assert verdict(capsys, number, given) == f"{number}: right."


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
