"""Self-checks of the exercises: `check("03.1", answer)` says right or not, with a hint, never the answer.

Answers are kept as digests, so that nobody reads one by accident. `seal(number, answer)` makes the digest of a new one.
`python -m helpers.exercises` lists all exercises, and `python -m helpers.exercises 04` those of one notebook;
`--export moodle` or `--export qti` makes a quiz of them, and of the Predicts.
"""

import argparse
import hashlib
import json
import numbers
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.experiments import data_folder
from helpers.quiz import bank, moodle, qti

QUESTION = re.compile(r"^### (\d+)\. (.+)$", re.MULTILINE)
PARTS = ["check", "hint", "solution"]
KIND = re.compile(r"\b(?:number|tuple|list|set|dict)\b")   # what a form asks for: its first such word, else a text
MEASURE = re.compile(r"(?P<number>[-+]?\d+(?:,\d{3})*(?:\.\d+)?)\s*(?P<unit>[a-z%]*)", re.IGNORECASE)
FORMATS = {"moodle": moodle, "qti": qti}
UNITS = {"%": ("percent", 1), "percent": ("percent", 1), "ms": ("seconds", 0.001),
         **dict.fromkeys(["s", "sec", "second", "seconds"], ("seconds", 1))}


@dataclass(frozen=True)
class Exercise:
    """What an answer looks like (`form`), its digest, what to think of when it is wrong, and decimals that count."""

    form: str
    digest: str
    hint: str
    decimals: int = 0


EXERCISES = {
    "00.1": Exercise(
        "a whole number", "7851d37d6082",
        'The counter has an argument for the end and one for the moment: count(states, "TIME_WAIT", host=…, at=…).'),
    "00.2": Exercise(
        "a tuple of two whole numbers, (client, server)", "67d55173f6b3",
        "Leave out the short experiment, for which the article gives no numbers, and add up the two columns."),
    "01.1": Exercise(
        "a whole number, the frame", "24eb880dc9ef",
        "A FIN has the letter F among its flags; the frame is in the index, not in a column."),
    "01.2": Exercise(
        "a number with one decimal, in percent", "ddfcbe1b422d",
        "Of all rows of the table, what part has length 0? The mean of a yes-or-no column is a share.", 1),
    "01.3": Exercise(
        "a tuple of two whole numbers, (bytes, segments)", "49b58f8ea86d",
        "Two conditions, joined by &: the source port, and a length above zero."),
    "02.1": Exercise(
        "a tuple of two texts, (client, server)", "10c5d963adce",
        "Find 3.5 on the ladder's clock: the FIN of one end is acknowledged, the other end has not sent its own."),
    "02.2": Exercise(
        "a whole number", "7ea2aef12a9c",
        "A connection that is open has a socket at each end; TIME_WAIT is a socket too."),
    "02.3": Exercise(
        "a tuple, (host, since)", "bab5861fce18",
        "Swap the roles: who sent the first FIN, and when did the other end's FIN arrive?", 1),
    "03.1": Exercise(
        "a whole number, a port", "00cec93c7004",
        "Find the row of the image among the exchanges; its stream leads to the connection, and that to the port."),
    "03.2": Exercise(
        "a dict of client to whole number", "f1644d93819c",
        "The first request of each connection reuses nothing: count all exchanges but the first of each."),
    "03.3": Exercise(
        "a whole number of seconds", "6a17f31bcc5a",
        "Take the time of the client's FIN on that stream and subtract the time of its SYN."),
    "04.1": Exercise(
        "a tuple of two whole numbers, (connections, waiting)", "8d33362c9176",
        "Rule 2 says how many connections there can be at most; each carries one image at a time."),
    "04.2": Exercise(
        "a whole number, in percent", "ce2d6c3a7d8e",
        "Put the column time_wait of all fifteen tables together; the mean of a comparison is a share."),
    "04.3": Exercise(
        "a list of eight whole numbers", "718911b7eedb",
        "The page itself uses one connection, so even without an image it isn't none; and there is a limit."),
    "05.1": Exercise(
        "a whole number", "8ed028e1d25f",
        "Each request has its own connection, and the server closes it: how many requests does this page take?"),
    "05.2": Exercise(
        "a number with one decimal", "c40590a05842",
        "Count the segments of length 0, and divide by the number of the others.", 1),
    "05.3": Exercise(
        "a whole number", "2e3261e2b09c",
        "Put the three tables of connections together and look at the column closer."),
    "06.1": Exercise(
        "a whole number of seconds", "9c19b7b2d7d4",
        "From the FIN of the server at 15 s to the FIN of the browser at its next visit."),
    "06.2": Exercise(
        '"this machine" or "the other end"', "77827c6292b1",
        "Which end has received a FIN, and which has not sent one? List the sockets of the recording."),
    "06.3": Exercise(
        "a whole number", "413fc2b95ca2",
        "Every 45 s from the last response until the browser closes: how often does 45 go into that time?"),
    "07.1": Exercise(
        '"client", "server" or "cannot tell"', "e28a7b3bae7f",
        "Which regime is it? Then compare the two limits."),
    "07.2": Exercise(
        "a whole number", "03b6e42579ee",
        "Add up the kernel's two columns; a simultaneous close counts at both ends."),
    "07.3": Exercise(
        "a whole number", "f1193f6ec7f6",
        "Group by the four columns and count the different closers in each group."),
    "08.1": Exercise(
        "a whole number of seconds", "093cf95080fb",
        "Two stays, one after the other: which of them does the setting limit, and is its limit reached?"),
    "08.2": Exercise(
        "a set of names", "93450fd2f146",
        "A TIME_WAIT that was left alone ended after about 60 s: which ended later?"),
    "08.3": Exercise(
        "a whole number", "21aca5c50868",
        "The column is counted from the number that the server would have sent next."),
    "09.1": Exercise(
        "a whole number", "835d1b6d1701",
        "Each call blocks one 4-tuple for a minute: how many are there, with two addresses?"),
    "09.2": Exercise(
        "the name of a setting", "10b97340389e",
        "One moves the TIME_WAIT to the other end; the other ends the connection with a RST."),
    "09.3": Exercise(
        "a whole number", "5bda111d24e6",
        "Which of the four numbers of a connection differ from one client to the next?"),
    "10.1": Exercise(
        "the short name of a configuration", "32e2872f2559",
        "There is a pool in it, but something else was forgotten: compare the titles."),
    "10.2": Exercise(
        "a whole number, in percent", "0b000defa3df",
        "Connections opened, divided by requests, for each of the runs; then the median."),
    "10.3": Exercise(
        "a whole number, in percent", "8f3196527f6f",
        "Call plan with one proxy, one upstream and one request a connection."),
    "11.1": Exercise(
        "the number of a claim", "6df76cefa40c",
        "Divide right by of for the conditional claims, and sort."),
    "11.2": Exercise(
        "a whole number of seconds", "727f074aa883",
        "It must be true in every case that is right: which of these has the most patient server?"),
    "12.1": Exercise(
        "a whole number", "d22bd6746e2f",
        "What did the visit at 45 s do to the two idle connections?"),
    "12.2": Exercise(
        "a whole number of seconds", "c5f6d9d9f0c3",
        "The ports give the roles. What must the file hold to say who closed, and when did that cross the wire?"),
    "13.1": Exercise(
        "a whole number", "9a128f2e93fa",
        "Leave out what the strict rule asks besides: acknowledgements, a FIN before, the window."),
    "13.2": Exercise(
        "a whole number", "65d4bed54b28",
        "plain.states(found, time_wait=240), and then plain.netstat of that at the moment."),
    "13.3": Exercise(
        "a whole number", "804176d2e51d",
        "From the lower of both ends' closes to the higher of their fin_acked; a pair's second member is the time."),
    "14.1": Exercise(
        "a tuple of two whole numbers, (resumed, early)", "ab7584f7cebb",
        "The table of handshakes has a column for each; the sum of a yes-or-no column is a number."),
    "14.2": Exercise(
        "a tuple of three whole numbers, (client, server, neither)", "47a161e25061",
        "Count the values of the column time_wait; neither end is called none there."),
    "14.3": Exercise(
        "a whole number, in percent", "8441e16962c9",
        "The mean of a comparison with the column closer is a share."),
    "15.1": Exercise(
        "the name of a client", "918a330f1207",
        "Group the runs by client, take the median of never_used, and look which is largest."),
    "15.2": Exercise(
        "a whole number of seconds", "031b281fd851",
        "The table states has a row for each stay: those of the client in CLOSE_WAIT, until less since."),
    "15.3": Exercise(
        "a tuple of a text and a whole number, (ending, TIME_WAITs)", "bcc5c811cb08",
        "The table of connections has a column ending, and in time_wait a connection without one is called none."),
    "16.1": Exercise(
        '"client" or "server"', "12c741864129",
        "A reset has the letter R among its flags; the column host says who sent it."),
    "16.2": Exercise(
        "a whole number of seconds", "a4278538afca",
        "Subtract the time of the request from the time of the first byte, for each exchange, and take the largest."),
    "16.3": Exercise(
        "a whole number", "bbacf554a26e",
        "A connection is open at a moment if it was opened by then and is closed later: count them at each opening."),
    "17.1": Exercise(
        "a whole number", "d17af56d7f76",
        "visit(**first | {...}) with the two values; count the connections whose time_wait is the server."),
    "17.2": Exercise(
        "a whole number", "3003f1645128",
        "Visits a second, times TIME_WAITs of a visit with four images, times the seconds that each lasts."),
    "17.3": Exercise(
        "a tuple of a text and a whole number, (end, TIME_WAITs)", "ba90bd643b4e",
        "It has its answer and closes at once: which end is first? And it has how many connections?")
}


def check(number: str, answer: object) -> None:
    """Print whether `answer` is right for the exercise `number`, with a hint where it is not.

    `answer`: `...` means none yet. It may be plain Python or what pandas and numpy give: a Series for a tuple, a list,
    a set or a dict; a table, a Series or an array of one value for that value. Order counts in tuples and lists, not
    in sets and dicts; upper case, spaces and dashes don't count in texts; numbers count to the exercise's decimals,
    may stand in a text with their unit ("10 s"), and a share may be a fraction of 1. `True` is no number. Of an answer
    in another form it says so, and which form is asked for.
    """
    exercise = EXERCISES.get(number) if isinstance(number, str) else None
    if exercise is None:
        print(f"There is no exercise {number!r}. There are: {', '.join(EXERCISES)}.")
    elif answer is ...:
        print(f"{number}: no answer yet. It is {exercise.form}.")
    elif not _readings(answer, exercise.form):
        print(f"{number}: not in the form that is asked for. This is {_described(answer)}; "
              f"the answer is {exercise.form}.")
    elif _is_right(number, answer):
        print(f"{number}: right.")
    else:
        print(f"{number}: not yet. {exercise.hint}")


def _is_right(number, answer):
    exercise = EXERCISES[number]
    return any(seal(number, reading, exercise.decimals) == exercise.digest
               for reading in _readings(answer, exercise.form))


def seal(number: str, answer: object, decimals: int = 0) -> str:
    """The digest (12 hex digits) of `answer` to the exercise `number`, with numbers rounded to `decimals`.

    `answer`: a number, a text or None (cannot tell), or a flat list, tuple, set or dict of them.
    """
    if isinstance(answer, dict):
        items = sorted(f"{_canonical(key, decimals)}:{_canonical(value, decimals)}" for key, value in answer.items())
        text = "{" + ",".join(items) + "}"
    elif isinstance(answer, (set, frozenset)):
        text = "{" + ",".join(sorted(_canonical(item, decimals) for item in answer)) + "}"
    elif isinstance(answer, (list, tuple)):
        text = "[" + ",".join(_canonical(item, decimals) for item in answer) + "]"
    else:
        text = _canonical(answer, decimals)
    return hashlib.sha256(f"{number}={text}".encode()).hexdigest()[:12]


def _canonical(value, decimals):
    """One text for all numbers and texts that mean the same."""
    if pd.isna(value):
        return "cannot_tell"
    if _is_number(value):
        try:
            return f"{round(float(value), decimals) + 0.0:.{decimals}f}"
        except OverflowError:   # such as 10**400
            return "beyond all floats"
    return "_".join(str(value).casefold().replace("-", " ").replace("_", " ").split())


def _readings(answer, form):
    """What an answer may mean in the form that is asked for: a list of plain Python values, empty if it has another."""
    readers = {"number": _numbers, "tuple": _sequences, "list": _sequences, "set": _sets, "dict": _dicts}
    kind = KIND.search(form)
    return readers[kind[0]](answer, form) if kind else _texts(answer)


def _numbers(answer, form):
    answer = _single(answer)
    if isinstance(answer, str):
        return _measures(answer, form)
    if not _is_number(answer):
        return []
    return [answer, answer * 100] if "percent" in form and abs(answer) <= 1 else [answer]


def _measures(text, form):
    """The number in a text such as "49.5 %", if the unit behind it is one of the form's."""
    measure = MEASURE.fullmatch(text.strip())
    if not measure:
        return []
    number, unit = float(measure["number"].replace(",", "")), measure["unit"].lower()
    if not unit:
        return _numbers(number, form)
    quantity, factor = UNITS.get(unit, ("no such unit", 0))
    return [number * factor] if quantity in form else []


def _texts(answer):
    answer = _single(answer)
    return [answer] if isinstance(answer, str) or _is_missing(answer) else []


def _sequences(answer, form):
    values = _flat(answer)
    return [values] if values is not None else []


def _sets(answer, form):
    values = _flat(answer)
    return [set(values)] if values is not None else []


def _dicts(answer, form):
    if isinstance(answer, pd.DataFrame) and 1 in answer.shape:
        answer = answer.iloc[0] if len(answer) == 1 else answer.iloc[:, 0]
    if isinstance(answer, pd.Series):
        answer = answer.to_dict()
    return [answer] if isinstance(answer, dict) and all(map(_is_scalar, [*answer, *answer.values()])) else []


def _single(answer):
    """The value itself where an array, a Series or a table holds only one."""
    if isinstance(answer, pd.DataFrame):
        answer = answer.to_numpy()
    return answer.item() if isinstance(answer, (np.ndarray, pd.Series, pd.Index)) and answer.size == 1 else answer


def _flat(answer):
    """The values of a sequence, a set, or a table of one row or one column, as a list; None of anything else."""
    if isinstance(answer, pd.DataFrame) and 1 in answer.shape:
        answer = answer.to_numpy().ravel()
    one_dimension = isinstance(answer, (list, tuple, set, frozenset, range)) or getattr(answer, "ndim", None) == 1
    return list(answer) if one_dimension and all(map(_is_scalar, answer)) else None


def _is_number(value):
    return isinstance(value, numbers.Number) and not isinstance(value, (bool, complex))


def _is_missing(value):
    return _is_scalar(value) and bool(pd.isna(value))


def _is_scalar(value):
    return pd.api.types.is_scalar(value)


def _described(answer):
    """What an answer is, in words."""
    if isinstance(answer, pd.DataFrame):
        return f"a table of {len(answer)} rows and {answer.shape[1]} columns"
    if _is_missing(answer):
        return "a missing value"
    if isinstance(answer, (bool, np.bool_)):
        return "yes or no"
    if isinstance(answer, str):
        return "a text"
    return "a number" if _is_number(answer) else f"of the type {type(answer).__name__}"


def overview(notebook: str = "") -> pd.DataFrame:
    """One row per exercise in the notebooks whose file names begin with `notebook` (such as "04"), index `exercise`.

    `question`: its title. `check`: whether a cell checks the reader's answer. `hint`: whether the check has a hint.
    `solution`: whether one is under a folded heading, ran, and was right. `notebook`: the file's name.
    """
    paths = _notebooks(notebook)
    rows = [row for path in paths for row in _exercises(path)]
    return pd.DataFrame(rows, columns=["exercise", "question", *PARTS, "notebook"]).set_index("exercise")


def _notebooks(notebook):
    return sorted((data_folder().parent / "notebooks").glob(f"{notebook}*.ipynb"))


def _exercises(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    titles = [QUESTION.search(_source(cell)) if cell["cell_type"] == "markdown" else None for cell in cells]
    starts = [place for place, title in enumerate(titles) if title]
    for start, end in zip(starts, [*starts[1:], len(cells)]):
        number = f"{path.stem[:2]}.{titles[start][1]}"
        yield {"exercise": number, "question": titles[start][2], "notebook": path.name,
               "check": any(f'check("{number}", answer)' in _source(cell) for cell in cells[start:end]),
               "hint": number in EXERCISES and bool(EXERCISES[number].hint),
               "solution": _is_solved(number, cells[start:end])}


def _is_solved(number, cells):
    places = [place for place, cell in enumerate(cells) if _source(cell).startswith("#### Solution")]
    if len(places) != 1 or not cells[places[0]]["metadata"].get("jp-MarkdownHeadingCollapsed"):
        return False
    outputs = [output for cell in cells[places[0]:] for output in cell.get("outputs", [])]
    return any(f"{number}: right." in "".join(output.get("text", "")) for output in outputs)


def _source(cell):
    return "".join(cell["source"])


def main(arguments: list[str] | None = None) -> int:
    """0 if every exercise has all its parts, else 1. Prints the list. `arguments`: else those of the command line.

    With `--export` it writes the quiz instead of the list.
    """
    parser = argparse.ArgumentParser(prog="python -m helpers.exercises",
                                     description="List the exercises, or make a quiz of them and of the Predicts.")
    parser.add_argument("notebook", nargs="?", default="", help="the number of a notebook, such as 04; else all")
    parser.add_argument("--export", choices=FORMATS, help="write a quiz: Moodle's XML, or a zip file of QTI 2.1 items")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the quiz; else to stdout")
    options = parser.parse_args(arguments)
    if options.out and not options.export:
        parser.error("--out needs --export moodle or --export qti")
    return _export(options) if options.export else _list(options.notebook)


def _export(options):
    try:
        if not (paths := _notebooks(options.notebook)):
            raise ValueError(f"no notebook begins with {options.notebook!r}; give a number such as 04")
        written = FORMATS[options.export](bank(paths, EXERCISES, _is_right))
        if options.out:
            options.out.write_bytes(written)
        else:
            sys.stdout.buffer.write(written)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _list(notebook):
    table = overview(notebook)
    width = max(table["question"].str.len(), default=0)
    for name, rows in table.groupby("notebook"):
        print(name)
        for number, row in rows.iterrows():
            parts = [part if row[part] else f"no {part}" for part in PARTS]
            print(f"  {number}  {row['question']:{width}}", *parts, sep="    ")
    print(f"{len(table)} exercises, {table[PARTS].all(axis=1).sum()} of them complete")
    return 0 if table[PARTS].all(axis=None) and len(table) else 1


if __name__ == "__main__":
    sys.exit(main())
