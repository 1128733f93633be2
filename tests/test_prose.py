"""The numbers in the notebooks' prose: each stands in an output of its notebook, or in `prose.toml` with a reason.

Prose is Markdown, and the title and alternative text that a cell hands to `show`. A number in it (digits, or words
from "three" on) is right if an output of the same notebook holds it, rounded as the prose rounds. Figures are no
outputs here: what they say is typed. What this test cannot see: a small number that stands in another output by chance.
"""

import ast
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent
NOTEBOOKS = sorted((FOLDER.parent / "notebooks").glob("*.ipynb"))
EXCEPTIONS = tomllib.loads((FOLDER / "prose.toml").read_text(encoding="utf-8"))
EVERYWHERE = EXCEPTIONS.pop("everywhere")

SMALL = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
         "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
POWERS = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
WORDS = dict(zip(SMALL, range(1, 20))) | dict(zip(TENS, range(20, 100, 10))) | POWERS
DIGITS = r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?(?:st|nd|rd|th)?(?!\w|[.,]\d)"
SPELLED = rf"\b(?:{'|'.join(WORDS)})(?:[ -](?:{'|'.join(WORDS)}))*\b"
NUMBER = re.compile(rf"(?:{DIGITS}|(?i:{SPELLED}))(?P<percent> ?%)?")
COUNTED = 3   # smaller words are articles and pairs: "one of them", "the two ends"
ADDRESS = re.compile(r"\d+(?:\.\d+){2,}|\d+(?::\d\d)+")   # also versions and times of day


@dataclass(frozen=True)
class Number:
    """A number in prose: the words around it, its value, how many decimals it has, and whether it is in percent."""

    context: str
    value: float
    decimals: int
    percent: bool

    def stands_in(self, evidence):
        """Whether one of the outputs' numbers is this one, rounded as the prose rounds."""
        scale = (1, 100) if self.percent else (1,)
        return any(round(number * factor, self.decimals) == self.value for number in evidence for factor in scale)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def numbers(text):
    """The numbers of a prose text, in order."""
    for match in NUMBER.finditer(text):
        digits = match.group().rstrip(" %stndrh").replace(",", "")
        value = float(digits) if digits[0].isdigit() else spelled(match.group().rstrip(" %"))
        if digits[0].isdigit() or value >= COUNTED:
            context = " ".join(text[max(0, match.start() - 40):match.end() + 25].split())
            yield Number(context, value, len(digits.partition(".")[2]), bool(match["percent"]))


def spelled(words):
    """The value of a number in words: "twenty-five" is 25, "two hundred" 200."""
    value = 0
    for word in re.split("[ -]", words.lower()):
        value = (value or 1) * WORDS[word] if word in POWERS else value + WORDS[word]
    return value


def prose(notebook):
    """The texts of a notebook that a person typed: its Markdown, and what its code says of figures."""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        yield from [source] if cell["cell_type"] == "markdown" else typed_of_figures(source)


def typed_of_figures(code):
    """Title and alternative text of the figures that a cell shows, without what an f-string computes."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    shown = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "show"]
    texts = [node for call in shown for node in ast.walk(call) if isinstance(node, ast.Constant)]
    return [text.value for text in texts if isinstance(text.value, str)]


def evidence(notebook):
    """All numbers in the outputs of a notebook."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    texts = ["".join(output.get("text", output.get("data", {}).get("text/plain", ""))) for output in outputs]
    printed = " ".join(ADDRESS.sub("", text) for text in texts if not text.startswith("<Figure:"))
    return {float(number.replace(",", "")) for number in re.findall(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?", printed)}


def without_exceptions(text, phrases=()):
    """The text without what may hold a number that is not computed: whole phrases, and patterns."""
    for phrase in phrases:
        text = text.replace(phrase, "…")
    for pattern in EVERYWHERE:
        text = re.sub(pattern, "…", text, flags=re.MULTILINE)
    return text


def unproved(notebook, phrases=()):
    """The numbers in the prose of `notebook` that no output holds, each with the words around it."""
    found = evidence(notebook)
    return [number.context for text in prose(notebook) for number in numbers(without_exceptions(text, phrases))
            if not number.stands_in(found)]


each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@each
def test_every_number_in_prose_is_computed_or_has_a_reason(path):
    assert unproved(read(path), EXCEPTIONS.get(path.stem, {})) == []


@each
def test_every_exception_is_needed_and_has_a_reason(path):
    """What an output came to hold, or what the prose no longer says, leaves the list."""
    notebook = read(path)
    texts, found = [without_exceptions(text) for text in prose(notebook)], evidence(notebook)
    for phrase, reason in EXCEPTIONS.get(path.stem, {}).items():
        assert len(reason) > 10, phrase
        left = without_exceptions(phrase)
        assert any(left in text for text in texts), f"no longer said: {phrase}"
        assert not all(number.stands_in(found) for number in numbers(left)), f"an output holds it: {phrase}"


def test_every_pattern_is_needed_and_has_a_reason():
    texts = [text for path in NOTEBOOKS for text in prose(read(path))]
    for pattern, reason in EVERYWHERE.items():
        assert len(reason) > 10, pattern
        assert any(re.search(pattern, text, re.MULTILINE) for text in texts), f"matches nothing: {pattern}"
    assert set(EXCEPTIONS) <= {path.stem for path in NOTEBOOKS}


def test_most_numbers_are_computed():
    """The exceptions stay exceptions."""
    computed = everything = 0
    for path in NOTEBOOKS:
        notebook = read(path)
        left = [number for text in prose(notebook) for number in numbers(without_exceptions(text))]
        computed += sum(number.stands_in(evidence(notebook)) for number in left)
        everything += len(left)
    assert computed / everything > 0.8


def cell(kind, source, *outputs):
    texts = [{"output_type": "stream", "name": "stdout", "text": text} for text in outputs]
    return {"cell_type": kind, "source": source, **({"outputs": texts} if kind == "code" else {})}


@pytest.mark.parametrize("said", [
    "1,448 bytes", "1448 bytes", "38,726 + 20,992", "eighteen", "Twenty-five", "two thousand",
    "65 s", "the 65th second", "46 seconds", "45.8 s", "49.5 %", "56 %", "five and nine", "in 2018",
    "RFC 9293, section 3.3.2", "`timeout 77`", "**Predict.** Is it 76, 77 or 78?", "[06 Keep](06-keep.ipynb)",
    "one of two", "4-tuple", "HTTP/1.1"])
def test_what_a_number_in_prose_may_look_like(said):
    computed = "1448 38726 20992 18 25 2,000 65.06 45.82 49.45 0.556 5 9"
    assert unproved({"cells": [cell("markdown", said), cell("code", "", computed)]}) == []


@pytest.mark.parametrize("said", [
    "1,449 bytes", "144 bytes", "38,726 + 20,993", "nineteen", "twenty-six", "three thousand",
    "66 s", "the 66th second", "47 seconds", "45.7 s", "49.4 %", "0.557", "0.5 %", "seven and nine", "`77`",
    "Is it 77?", "10.77.0.2 sent 77"])
def test_a_number_that_no_output_holds_is_found(said):
    computed = "1448 38726 20992 18 25 2,000 65.06 45.82 49.45 0.556 5 9 10.77.0.2:80 12:34:57"
    assert len(unproved({"cells": [cell("markdown", said), cell("code", "", computed)]})) == 1


def test_what_a_figure_says_is_prose_and_no_evidence():
    shown = cell("code", 'show(fig, f"Bars: 7 and {peak}.", title="Seven at most")', "<Figure: Bars: 7 and 9.>")
    assert unproved({"cells": [shown]}) == ["Bars: 7 and", "Seven at most"]
    assert unproved({"cells": [shown, cell("code", "print(7)", "7")]}) == []


@pytest.mark.parametrize("before, after", [("0.67", "0.68"), ("3,000", "3,100"), ("54,000", "55,000")])
def test_one_altered_number_in_prose_is_found(before, after):
    notebook = read(NOTEBOOKS[5])
    phrases = EXCEPTIONS[NOTEBOOKS[5].stem]
    assert unproved(notebook, phrases) == []
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    altered = next(cell for cell in cells if before in "".join(cell["source"]))
    altered["source"] = "".join(altered["source"]).replace(before, after, 1)
    assert len(unproved(notebook, phrases)) == 1


def test_one_altered_output_is_found():
    notebook = read(NOTEBOOKS[5])
    altered = json.loads(json.dumps(notebook).replace("54000", "54100"))
    assert len(unproved(altered, EXCEPTIONS[NOTEBOOKS[5].stem])) >= 1
