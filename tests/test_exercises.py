"""The self-checks: they take what is right in any form that means the same, and nothing else."""

import numpy as np
import pandas as pd
import pytest

from helpers import exercises
from helpers.exercises import Exercise, check, seal


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


@pytest.mark.parametrize("number", exercises.EXERCISES)
def test_no_hint_gives_the_answer(number):
    exercise = exercises.EXERCISES[number]
    words = [word.strip(".,;:()'\"`") for word in exercise.hint.split()]
    tries = words + [int(word) for word in words if word.isdigit()]
    assert exercise.digest not in {seal(number, word, exercise.decimals) for word in tries}
    assert exercise.form and exercise.hint[-1] in ".?"
