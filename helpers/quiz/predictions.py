"""The Predicts of a notebook: what is asked, between which answers, and which is right as the notebook's text says.

A Predict ends in one question such as "Who waits: the client, the server, or both?". What is right is read off the
first sentence of the next text ("Both: each end …"). Where that does not name exactly one of the answers, it is not
known, and nobody guesses.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

PREDICT = re.compile(r"^\*\*Predict\.\*\*\s*(.+?)(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
CHOICES = re.compile(r": ([^:?]+)\?$")
SEPARATORS = {True: re.compile(r"; (?:or )?"), False: re.compile(r", (?:or )?| or ")}   # with a semicolon, and without
FILLERS = {"a", "an", "at", "by", "do", "does", "far", "in", "is", "it", "its", "over", "the", "to", "will", "with"}
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
WORDS = {word: str(number) for number, word in enumerate(NUMBERS)} | {"s": "second"}


@dataclass(frozen=True)
class Prediction:
    """A Predict: its notebook's and its cell's name, its number in the notebook, and its text in Markdown.

    `choices`: the answers to choose from, empty where the question lists none. `right`: the place of the right one
    among them, None where the text does not tell. `answer`: the notebook's own text about it, in Markdown.
    """

    notebook: str
    cell: str
    number: int
    question: str
    choices: tuple[str, ...]
    right: int | None
    answer: str


def predictions(path: str | Path) -> list[Prediction]:
    """The Predicts of the notebook at `path`, in its order."""
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    found = []
    for place, cell in enumerate(cells):
        asked = PREDICT.search("".join(cell["source"])) if cell["cell_type"] == "markdown" else None
        if asked:
            question, answer = " ".join(asked[1].split()), _next_text(cells[place + 1:])
            choices = _choices(question)
            found.append(Prediction(Path(path).stem, cell["id"], len(found) + 1, question, choices,
                                    _right(choices, answer), answer))
    return found


def _next_text(cells):
    """The first paragraph after a Predict; none if the next text asks again or begins a new section."""
    text = next(("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"), "")
    paragraph = text.split("\n\n")[0].strip()
    return "" if paragraph.startswith(("#", "**Predict.**")) else paragraph


def _choices(question):
    listed = CHOICES.search(question) if question.count("?") == 1 else None
    parts = [part.strip() for part in SEPARATORS[";" in listed[1]].split(listed[1])] if listed else []
    return tuple(parts) if len(parts) > 1 and all(map(_words, parts)) else ()


def _right(choices, answer):
    """The place of the one choice that the answer's first sentence names, and names first; else None."""
    sentence = re.split(r"[.:;?!](?:\s|$)", answer, maxsplit=1)[0]
    lead, said = _words(sentence.split(", ")[0]), _words(sentence)
    if re.search(r"\b(?:is|are|was|were)\b", sentence.split(", ")[0]):     # a statement about a choice, not its name
        return None
    tokens = [_words(choice) for choice in choices]
    named = [place for place, words in enumerate(tokens) if lead and _is_named(words, lead)]
    others = [words for place, words in enumerate(tokens) if named and place != named[0]]
    if len(named) != 1:
        return None
    chosen = tokens[named[0]]
    rest = said[len(chosen):] if said[:len(chosen)] == chosen else said
    return None if any(_stands_in(words, rest) for words in others) else named[0]


def _is_named(words, lead):
    return lead[:len(words)] == words or set(lead) <= set(words)


def _stands_in(words, said):
    return any(said[start:start + len(words)] == words for start in range(len(said)))


def _words(text):
    """The words that count, one text for all forms of one: no articles, no plural, numbers as digits."""
    plain = re.sub(r"[’']s?\b", "", re.sub(r"(?<=\d),(?=\d)", "", text.replace("*", "").lower()))
    words = [WORDS.get(word, word) for word in re.findall(r"\w+(?:\.\w+)*", plain) if word not in FILLERS]
    return [word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words]
