"""The quiz: Predicts as a reader of the notebook understands them, answers that the seals confirm, files that are whole."""

import io
import json
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from helpers import exercises
from helpers.exercises import EXERCISES, seal
from helpers.quiz import Question, bank, moodle, predictions, qti

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
KINDS = {"choice": "multichoice", "number": "numerical", "text": "shortanswer", "essay": "essay"}
SPACE = {"q": "http://www.imsglobal.org/xsd/imsqti_v2p1", "p": "http://www.imsglobal.org/xsd/imscp_v1p1"}
# Read by a human, all Predicts of the course whose text names one of the listed answers first, and no other
RIGHT = {
    "00": {1: "does it depend on the client"}, "01": {1: "`00010010`", 2: "none"}, "02": {2: "both"}, "04": {3: "12"},
    "05": {1: "9", 3: "18"}, "06": {2: "not at all"}, "07": {3: "mostly the server", 4: "the server with FIN"},
    "08": {1: "send its ACK again", 3: "refused"}, "09": {1: "100"}, "13": {2: "in 1"},
    "14": {2: "one", 4: "a RST", 5: "none", 6: "three", 7: "none"},
    "15": {1: "400", 2: "in two", 3: "more than 20", 4: "20", 5: "only `aiohttp`"},
    "16": {2: "more than 10", 3: "nobody's", 5: "by a reset", 7: "nothing until it loses patience",
           8: "the first"}}


def cell(kind, source, name):
    return {"cell_type": kind, "id": name, "source": source, "metadata": {}}


@pytest.fixture
def notebook(tmp_path):
    """`notebook(*cells)`: a notebook of these (kind, source), called 99-toy."""
    def write(*cells):
        path = tmp_path / "99-toy.ipynb"
        path.write_text(json.dumps({"cells": [cell(*one, f"c{place}") for place, one in enumerate(cells)]}))
        return path
    return write


@pytest.fixture
def asked(notebook):
    """`asked(question, answer)`: the right answer to this Predict, None where it can't be told."""
    def ask(question, answer):
        found, = predictions(notebook(("markdown", f"A text.\n\n**Predict.** {question}"), ("code", "1"),
                                      ("markdown", answer)))
        return None if found.right is None else found.choices[found.right]
    return ask


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_the_text_tells_and_nothing_else(path):
    found = predictions(path)
    assert len(found) == path.read_text(encoding="utf-8").count("**Predict.**")
    assert all(one.answer for one in found)
    assert {one.number: one.choices[one.right] for one in found if one.right is not None} == RIGHT.get(path.stem[:2], {})


@pytest.mark.parametrize("question, answer, right", [
    ("Who waits: the client, the server, or both?", "Both: each end did.", "both"),
    ("Who waits: the client, the server, or both?", "The server, in 999 of 1,000.", "the server"),
    ("Who waits: the client, the server, or both?", "The client, and now and then the server.", None),
    ("Who waits: the client, the server, or both?", "It depends.", None),
    ("Who waits: the client, the server, or both?", "", None),
    ("How long: 5 s, 10 s or 60 s?", "5, 10 and 60 seconds in one state, 61 in the other.", None),
    ("At which byte: 14, 20 or 34?", "At 14 + 20 = 34.", None),
    ("How many: 6,000 or 12,000?", "12,000 in all.", "12,000"),
    ("How many: 2, 10, or more than 10?", "Far more than 10. Why?", "more than 10"),
    ("How many: 2, 10, or more than 10?", "10. Why?", None),
    ("What is wrong: the number, or the order?", "The number is right in nine of ten.", None),
    ("Whose fault: the server's, which closed, it says; the client's; or nobody's?", "Nobody's alone.", "nobody's"),
    ("Who waits: the client or the server? And why?", "The client.", None),
    ("Will it come over this connection, or over another?", "Over another.", None),
    ("Who waits: the client or the server?", "## The client", None),
    ("Who waits: the client or the server?", "**Predict.** The client?", None),
])
def test_right_is_only_what_the_first_sentence_names(notebook, asked, question, answer, right):
    if answer.startswith("**Predict"):
        found = predictions(notebook(("markdown", f"**Predict.** {question}"), ("markdown", answer)))
        assert found[0].right is None and found[0].answer == ""
    else:
        assert asked(question, answer) == right


def toy(notebook, form, solution, decimals=0, **more):
    path = notebook(("markdown", "## Exercises\n\n### 1. A toy\n\nHow *many*, `a < b`?"), ("code", 'check("99.1", ...)'),
                    ("markdown", "#### Solution 1"), ("code", f'check("99.1", {solution})'))
    exercise = exercises.Exercise(form, seal("99.1", more["sealed"] if more else eval(solution), decimals), "Think.", decimals)
    return bank([path], {"99.1": exercise}, lambda number, answer: seal(number, answer, decimals) == exercise.digest)


@pytest.mark.parametrize("form, solution, kind, answer", [
    ("a whole number", "3.2", "number", "3"), ("a number with one decimal, in percent", "49.45", "number", "49.5"),
    ('"client" or "server"', "'client'", "choice", "client"), ("the name of a setting", "'so_linger'", "text", "so_linger"),
    ("a tuple of two whole numbers", "(3, 4)", "essay", "3, 4"), ("a set of names", "{'b', 'a'}", "essay", "a, b"),
    ("a dict of name to number", "{'a': 1}", "essay", "a: 1")])
def test_the_kind_of_an_exercise_is_what_its_form_asks_for(notebook, form, solution, kind, answer):
    decimals = 1 if "decimal" in form else 0
    question, = toy(notebook, form, solution, decimals)
    assert (question.kind, question.answer, question.name) == (kind, answer, "99.1 A toy")
    assert question.text == "How *many*, `a < b`?" and question.feedback == "Think."
    assert question.tolerance == (pytest.approx(0.5 / 10 ** decimals) if kind == "number" else 0)


def test_an_answer_whose_seal_does_not_match_is_no_answer(notebook):
    with pytest.raises(ValueError, match=r"99-toy.*no solution of exercise 99\.1"):
        toy(notebook, "a whole number", "3", sealed=4)


def test_a_notebook_that_does_not_run_is_one_clear_error(notebook):
    with pytest.raises(ValueError, match=r"99-toy.*cell c3: ZeroDivisionError"):
        toy(notebook, "a whole number", "1 / 0", sealed=1)


QUESTIONS = [Question("a & b", "choice", "Who, `a < b`?\n\n| x | y |", "the *client*", "Why & how", ("the server", "the *client*")),
             Question("n", "number", "How many?", "49.5", tolerance=0.05), Question("t", "text", "Name?", "a*b"),
             Question("e", "essay", "Why?", "Because.")]


def test_moodle_has_what_its_documentation_asks_for():
    quiz = ElementTree.fromstring(moodle(QUESTIONS))
    category, *items = quiz
    assert quiz.tag == "quiz" and category.get("type") == "category" and len(items) == len(QUESTIONS)
    for item, question in zip(items, QUESTIONS, strict=True):
        assert item.get("type") == KINDS[question.kind]
        assert item.findtext("name/text") == question.name
        assert item.find("questiontext").get("format") == "html" and item.findtext("questiontext/text").startswith("<p>")
        ElementTree.fromstring(f"<div>{item.findtext('questiontext/text')}</div>")
        fractions = [float(answer.get("fraction")) for answer in item.findall("answer")]
        assert fractions.count(100) == (question.kind != "essay")
    choice, number, words, essay = items
    assert [answer.findtext("text") for answer in choice.findall("answer")] == ["<p>the server</p>", "<p>the <em>client</em></p>"]
    assert choice.findtext("single") == "true" and choice.find("answer").get("fraction") == "0"
    assert number.findtext("answer/text") == "49.5" and number.findtext("answer/tolerance") == "0.05"
    assert words.findtext("answer/text") == r"a\*b" and words.findtext("usecase") == "0"
    assert essay.findtext("graderinfo/text") == "<p>Because.</p>" and essay.findtext("responseformat") == "editor"


def test_qti_is_a_package_whose_items_name_what_is_right():
    with zipfile.ZipFile(io.BytesIO(qti(QUESTIONS))) as package:
        assert package.testzip() is None
        files = {name: ElementTree.fromstring(package.read(name)) for name in package.namelist()}
    resources = files.pop("imsmanifest.xml").findall("p:resources/p:resource", SPACE)
    assert [one.get("href") for one in resources] == list(files) and len(files) == len(QUESTIONS)
    for item, interaction in zip(files.values(), ["choice", "textEntry", "textEntry", "extendedText"], strict=True):
        assert item.tag == f"{{{SPACE['q']}}}assessmentItem" and item.get("identifier") and item.get("title")
        assert item.find(f".//q:{interaction}Interaction", SPACE).get("responseIdentifier") == "RESPONSE"
    choice, number, words, essay = files.values()
    right = choice.findtext("q:responseDeclaration/q:correctResponse/q:value", None, SPACE)
    named, = choice.findall(f".//q:simpleChoice[@identifier='{right}']", SPACE)
    assert "".join(named.itertext()) == "the client"
    assert number.find(".//q:equal", SPACE).get("tolerance") == "0.05 0.05"
    assert words.find(".//q:mapEntry", SPACE).get("mapKey") == "a*b"
    assert essay.find("q:responseProcessing", SPACE) is None and essay.findtext(".//q:rubricBlock/q:p", None, SPACE)


def test_the_command_writes_a_notebooks_questions(tmp_path, capsys):
    out = tmp_path / "quiz.xml"
    assert exercises.main(["01", "--export", "moodle", "--out", str(out)]) == 0 and capsys.readouterr().out == ""
    names = [name.text for name in ElementTree.parse(out).findall("question/name/text")]
    assert [name.split()[0] for name in names] == ["01", "01", "01.1", "01.2", "01.3"]
    answers = dict(zip(names, ElementTree.parse(out).findall("question/name/..")))
    first = next(item for name, item in answers.items() if name.startswith("01.1"))
    assert seal("01.1", float(first.findtext("answer/text"))) == EXERCISES["01.1"].digest


@pytest.mark.parametrize("arguments, says", [
    (["77", "--export", "qti"], "no notebook begins with '77'"),
    (["01", "--export", "qti", "--out", "no/such/folder/quiz.zip"], "no/such/folder/quiz.zip")])
def test_what_goes_wrong_is_one_line(capsys, arguments, says):
    assert exercises.main(arguments) == 1
    said = capsys.readouterr()
    assert said.out == "" and says in said.err and said.err.count("\n") == 1
