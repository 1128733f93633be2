"""The quiz written down: as Moodle's XML for the question bank, and as a package of QTI 2.1 items."""

import io
import re
import zipfile
from html import escape
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from helpers.quiz.questions import Question

QTI = "http://www.imsglobal.org/xsd/imsqti_v2p1"
PACKAGE = "http://www.imsglobal.org/xsd/imscp_v1p1"
TEMPLATES = "http://www.imsglobal.org/question/qti_v2p1/rptemplates"
ITEM = "imsqti_item_xmlv2p1"
KINDS = {"choice": "multichoice", "number": "numerical", "text": "shortanswer", "essay": "essay"}
SPANS = ((r"`([^`]+)`", "code"), (r"\*\*([^*]+)\*\*", "strong"), (r"\*([^*]+)\*", "em"))
DATE = (1980, 1, 1, 0, 0, 0)    # the same questions give the same bytes


def moodle(questions: list[Question]) -> bytes:
    """The questions as one file of Moodle's XML format (docs.moodle.org, "Moodle XML format"), UTF-8."""
    quiz = Element("quiz")
    category = SubElement(quiz, "question", type="category")
    _text(category, "category", "$course$/Who closes first, and where does TIME_WAIT go?")
    for question in questions:
        item = SubElement(quiz, "question", type=KINDS[question.kind])
        _text(item, "name", question.name)
        _text(item, "questiontext", html(question.text), "html")
        _text(item, "generalfeedback", html(question.feedback), "html")
        SubElement(item, "defaultgrade").text = "1"
        SubElement(item, "penalty").text = "0.3333333"
        SubElement(item, "hidden").text = "0"
        _MOODLE[question.kind](item, question)
    return ElementTree.tostring(quiz, encoding="utf-8", xml_declaration=True)


def _moodle_choice(item, question):
    for name, value in {"single": "true", "shuffleanswers": "false", "answernumbering": "abc"}.items():
        SubElement(item, name).text = value
    for choice in question.choices:
        _answer(item, html(choice), choice == question.answer, "html")


def _moodle_number(item, question):
    SubElement(_answer(item, question.answer, True), "tolerance").text = f"{question.tolerance:g}"


def _moodle_text(item, question):
    SubElement(item, "usecase").text = "0"
    _answer(item, question.answer.replace("*", r"\*"), True)      # a bare * stands for anything


def _moodle_essay(item, question):
    SubElement(item, "responseformat").text = "editor"
    SubElement(item, "responserequired").text = "1"
    SubElement(item, "responsefieldlines").text = "10"
    SubElement(item, "attachments").text = "0"
    _text(item, "graderinfo", html(question.answer), "html")
    _text(item, "responsetemplate", "", "html")


def _answer(item, text, right, form="moodle_auto_format"):
    answer = SubElement(item, "answer", fraction="100" if right else "0", format=form)
    SubElement(answer, "text").text = text
    _text(answer, "feedback", "", "html")
    return answer


def _text(parent, name, text, form=None):
    node = SubElement(parent, name, {"format": form} if form else {})
    SubElement(node, "text").text = text


_MOODLE = {"choice": _moodle_choice, "number": _moodle_number, "text": _moodle_text, "essay": _moodle_essay}


def qti(questions: list[Question]) -> bytes:
    """The questions as a zip file with an item of QTI 2.1 each, and the `imsmanifest.xml` that names them."""
    manifest = Element("manifest", {"xmlns": PACKAGE, "identifier": "time-wait-course"})
    meta = SubElement(manifest, "metadata")
    SubElement(meta, "schema").text = "QTIv2.1 Package"
    SubElement(meta, "schemaversion").text = "1.0.0"
    SubElement(manifest, "organizations")
    resources = SubElement(manifest, "resources")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as package:
        for place, question in enumerate(questions, start=1):
            name = f"question-{place:03}"
            resource = SubElement(resources, "resource", identifier=name, type=ITEM, href=f"{name}.xml")
            SubElement(resource, "file", href=f"{name}.xml")
            _pack(package, f"{name}.xml", _item(name, question))
        _pack(package, "imsmanifest.xml", manifest)
    return packed.getvalue()


def _pack(package, name, tree):
    package.writestr(zipfile.ZipInfo(name, DATE), ElementTree.tostring(tree, encoding="utf-8", xml_declaration=True))


def _item(name, question):
    """One question as an `assessmentItem`: what is right, what it scores, what is shown, how a response is judged."""
    item = Element("assessmentItem", {"xmlns": QTI, "identifier": name, "title": question.name, "adaptive": "false",
                                      "timeDependent": "false"})
    base = {"choice": "identifier", "number": "float"}.get(question.kind, "string")
    response = SubElement(item, "responseDeclaration", identifier="RESPONSE", cardinality="single", baseType=base)
    right = f"choice-{question.choices.index(question.answer) + 1}" if question.kind == "choice" else question.answer
    if question.kind != "essay":
        SubElement(SubElement(response, "correctResponse"), "value").text = right
    if question.kind == "text":
        mapping = SubElement(response, "mapping", defaultValue="0")
        SubElement(mapping, "mapEntry", mapKey=right, mappedValue="1", caseSensitive="false")
    SubElement(item, "outcomeDeclaration", identifier="SCORE", cardinality="single", baseType="float")
    body = SubElement(item, "itemBody")
    body.extend(_nodes(question.text))
    _interaction(body, question)
    _judge(item, question)
    return item


def _interaction(body, question):
    if question.kind == "choice":
        asked = SubElement(body, "choiceInteraction", responseIdentifier="RESPONSE", shuffle="false", maxChoices="1")
        for place, choice in enumerate(question.choices, start=1):
            option = _nodes(choice)[0]
            option.tag, option.attrib = "simpleChoice", {"identifier": f"choice-{place}"}
            asked.append(option)
    elif question.kind == "essay":
        SubElement(body, "extendedTextInteraction", responseIdentifier="RESPONSE", expectedLines="10")
        rubric = SubElement(body, "rubricBlock", view="scorer")
        rubric.extend(_nodes(question.answer))
    else:
        SubElement(SubElement(body, "p"), "textEntryInteraction", responseIdentifier="RESPONSE", expectedLength="20")


def _judge(item, question):
    """How a response is judged; an essay is judged by a human, so it has no such part."""
    template = {"choice": "match_correct", "text": "map_response"}.get(question.kind)
    if template:
        SubElement(item, "responseProcessing", template=f"{TEMPLATES}/{template}")
    elif question.kind == "number":
        condition = SubElement(SubElement(item, "responseProcessing"), "responseCondition")
        is_so = SubElement(condition, "responseIf")
        bounds = f"{question.tolerance:g} {question.tolerance:g}"
        equal = SubElement(is_so, "equal", toleranceMode="absolute", tolerance=bounds)
        SubElement(equal, "variable", identifier="RESPONSE")
        SubElement(equal, "correct", identifier="RESPONSE")
        SubElement(SubElement(is_so, "setOutcomeValue", identifier="SCORE"), "baseValue", baseType="float").text = "1"


def html(markdown: str) -> str:
    """The notebooks' Markdown as HTML: paragraphs, code, emphasis; tables as they stand; links as their words."""
    return "".join(map(_block, re.split(r"\n\s*\n", markdown.strip()))) if markdown.strip() else ""


def _block(text):
    if text.startswith(("|", "    ")):
        return f"<pre>{escape(text)}</pre>"
    parts = escape(re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text), quote=False)
    for pattern, tag in SPANS:
        parts = "".join(part if part.startswith("<code>") else re.sub(pattern, rf"<{tag}>\1</{tag}>", part)
                        for part in re.split(r"(<code>.*?</code>)", parts))
    return f"<p>{parts}</p>"


def _nodes(markdown):
    return list(ElementTree.fromstring(f"<div>{html(markdown)}</div>"))
