"""The notebooks as a student should meet them, with nothing given away before it is asked.

`python .book/student.py OUT` writes them into the folder OUT. A copy has no outputs and no solutions. What follows
a prediction is folded until the reader has decided and opens it.
"""

import argparse
import json
import re
import sys
from pathlib import Path

ORIGINALS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
PREDICTION = re.compile(r"^\*\*Predict\.\*\*", re.MULTILINE)
SOLUTION = re.compile(r"#### Solution (\d+)")
FOLDED = {"jp-MarkdownHeadingCollapsed": True}
HOW_TO = ("*A copy for students. Under a **Predict** line, decide first; then open the fold below it, with its + or "
          "with Shift+Enter, and run its cells one by one. The outputs are yours to make.*")
OPEN = "# Prediction {number}: decide, then open"
SEE = "When you have an answer of your own: the solution is in `{name}`, folded under *Solution {number}*."


def student_view(notebook, name):
    """A copy of `notebook` (a dict, nbformat 4) without outputs and solutions, with a fold after each prediction.

    `name`: where the solutions can be found, for the line that stands in their place. The folds are headings of the
    first level, as are exercises and summary then, so that each fold reaches to the next of them.
    """
    first, *cells = without_solutions(notebook["cells"], name)
    cells = [part for cell in cells for part in chapters(cell)]
    return notebook | {"cells": [unrun(cell) for cell in (first, markdown("how-to", HOW_TO), *folded(cells))]}


def without_solutions(cells, name):
    """The cells, with a line in the place of each solution: its heading and all up to the next heading."""
    hidden = False
    for cell in cells:
        solution = SOLUTION.match(source(cell))
        hidden = bool(solution) or hidden and not is_heading(cell)
        if solution:
            yield markdown(f"solution-{solution[1]}", SEE.format(name=name, number=solution[1]))
        elif not hidden:
            yield cell


def folded(cells):
    """The cells, with a closed fold after each that ends in a prediction."""
    number = 0
    for cell in cells:
        yield cell
        if cell["cell_type"] == "markdown" and PREDICTION.search(source(cell)):
            number += 1
            yield markdown(f"prediction-{number}", OPEN.format(number=number), FOLDED)


def chapters(cell):
    """The cell itself; but exercises and summary as parts of their own, and the summary folded."""
    text = source(cell)
    if text.startswith("## Exercises"):
        return [cell | {"source": text[1:]}]
    if text.startswith("## Summary"):
        heading, body = text[1:].split("\n", 1)
        return [markdown("summary", heading, FOLDED), cell | {"source": body.lstrip()}]
    return [cell]


def unrun(cell):
    return cell | {"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else cell


def markdown(name, text, metadata=None):
    return {"cell_type": "markdown", "id": name, "metadata": metadata or {}, "source": text}


def is_heading(cell):
    return cell["cell_type"] == "markdown" and source(cell).startswith("#")


def source(cell):
    return "".join(cell["source"])


def write(out):
    """Write the student's copies of all notebooks into the folder `out` and return their paths.

    Raises `FileExistsError` where one is there already: it may hold a student's work.
    """
    copies = {Path(out) / path.name: path for path in ORIGINALS}
    if there := [copy for copy in copies if copy.exists()]:
        raise FileExistsError(f"{there[0]} is there already; name another folder, or move it away")
    Path(out).mkdir(parents=True, exist_ok=True)
    for copy, path in copies.items():
        view = student_view(json.loads(path.read_text(encoding="utf-8")), f"notebooks/{path.name}")
        copy.write_text(json.dumps(view, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return list(copies)


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python .book/student.py", description="Write notebooks for students.")
    parser.add_argument("out", help="the folder to write them into")
    try:
        copies = write(parser.parse_args(arguments).out)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(copies)} notebooks for students in {copies[0].parent}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
