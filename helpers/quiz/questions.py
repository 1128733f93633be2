"""All questions of the quiz: the exercises, with the answers that their solutions work out, and the Predicts."""

import contextlib
import io
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from helpers.quiz.predictions import Prediction, predictions

EXERCISE = re.compile(r"^### (\d+)\. (.+?)\n(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r'"([^"]+)"')
STRUCTURES = re.compile(r"\b(?:tuple|list|set|dict)\b")


@dataclass(frozen=True)
class Question:
    """One question of the quiz.

    `kind`: "choice" (with `choices`, and `answer` the right one), "number" (`answer` within `tolerance`), "text"
    (`answer` is a few words) or "essay" (`answer` is for who marks it). `text` and `feedback` are Markdown.
    """

    name: str
    kind: str
    text: str
    answer: str
    feedback: str = ""
    choices: tuple[str, ...] = ()
    tolerance: float = 0.0


def bank(notebooks: list[Path], exercises: dict, is_right: Callable[[str, object], bool]) -> list[Question]:
    """The questions of the notebooks at these paths, notebook by notebook: first its Predicts, then its exercises.

    `exercises`: what each answer looks like, by the exercise's number (attributes `form`, `hint`, `decimals`).
    `is_right(number, answer)`: whether the seal matches. The notebooks' code is run, for its solutions hand the answers
    to `check`. Raises `ValueError` if a notebook doesn't run, or if an exercise has no solution that is right.
    """
    questions = []
    for path in notebooks:
        questions += [_of_prediction(prediction) for prediction in predictions(path)]
        texts = _exercises(path)
        answers = _solutions(path) if texts else {}
        for number, (title, text) in texts.items():
            right = [answer for answer in answers.get(number, ()) if answer is not ... and is_right(number, answer)]
            if not right:
                raise ValueError(f"{path}: no solution of exercise {number} gives the answer that is sealed; run the "
                                 "notebook, and see what its check says")
            question = _of_exercise(number, title, text, exercises[number], right[0])
            if question.kind != "essay" and not is_right(number, question.answer):
                raise ValueError(f"{path}: exercise {number}: {question.answer!r}, as the quiz would write the answer, "
                                 "does not match its seal; hand check the answer as its form asks for it")
            questions.append(question)
    return questions


def _of_prediction(prediction: Prediction):
    name = f"{prediction.notebook[:2]} Predict {prediction.number}"
    if prediction.right is None:
        return Question(name, "essay", prediction.question, prediction.answer, prediction.answer)
    return Question(name, "choice", prediction.question, prediction.choices[prediction.right], prediction.answer,
                    prediction.choices)


def _of_exercise(number, title, text, exercise, answer):
    """The exercise in the kind that its form asks for: quoted words are choices, one number is a number."""
    choices, form = tuple(QUOTED.findall(exercise.form)), exercise.form
    name, plain = f"{number} {title}", _plain(answer, exercise.decimals)
    if STRUCTURES.search(form):
        return Question(name, "essay", text, plain, exercise.hint)
    if choices:
        return Question(name, "choice", text, plain, exercise.hint, choices)
    if "number" in form and isinstance(plain, (int, float)):
        return Question(name, "number", text, str(plain), exercise.hint, tolerance=0.5 * 10.0 ** -exercise.decimals)
    return Question(name, "text", text, str(plain), exercise.hint)


def _plain(answer, decimals):
    """The answer as one would write it: a number rounded to what counts, a text, several with commas between."""
    answer = answer.item() if hasattr(answer, "item") and getattr(answer, "size", 1) == 1 else answer
    if isinstance(answer, str):
        return answer
    if hasattr(answer, "tolist"):
        answer = answer.to_dict() if hasattr(answer, "to_dict") else answer.tolist()
    if isinstance(answer, dict):
        return ", ".join(f"{key}: {_plain(value, decimals)}" for key, value in answer.items())
    if isinstance(answer, (list, tuple)):
        return ", ".join(str(_plain(value, decimals)) for value in answer)
    if isinstance(answer, (set, frozenset)):
        return ", ".join(sorted(str(_plain(value, decimals)) for value in answer))
    if answer is None or answer != answer:
        return "cannot tell"
    return round(float(answer), decimals) if decimals else round(float(answer))


def _exercises(path):
    """Title and text of each exercise of a notebook, by its number such as "03.1"."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return {f"{path.stem[:2]}.{number}": (title, body.strip()) for number, title, body in EXERCISE.findall(text)}


def _solutions(path):
    """Run a notebook's code from top to bottom; the answers that it hands to `check`, by the exercise's number."""
    import matplotlib
    import matplotlib.pyplot as plt

    given, names, home = {}, {"__name__": path.stem}, Path.cwd()
    with matplotlib.rc_context(), contextlib.redirect_stdout(io.StringIO()):
        matplotlib.use("agg")
        try:
            os.chdir(path.parent)
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
                if cell["cell_type"] == "code":
                    names["check"] = lambda number, answer: given.setdefault(number, []).append(answer)
                    _run(cell, path, names)
                    plt.close("all")
        finally:
            os.chdir(home)
    return given


def _run(cell, path, names):
    code = "".join(cell["source"])
    code = re.sub(r"^from helpers\.exercises import check$", "", code, flags=re.MULTILINE)     # ours stays
    try:
        exec(compile(code, f"{path.name} {cell['id']}", "exec"), names)
    except Exception as error:
        raise ValueError(f"{path}, cell {cell['id']}: {type(error).__name__}: {error}; run the notebook") from error
