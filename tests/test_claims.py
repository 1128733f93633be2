"""The verdicts on the article are computed, and so are their conditions: change one datum, and a verdict changes."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from helpers.claims import CLAIMS, SENTENCES, VERDICTS, Case, Data, cases, foretells, judge, verdict_of
from helpers.claims.data import CLIENTS, HABITS
from helpers.claims.framing import ANSWERS
from helpers.claims.judging import judge as judge_claims

ROOT = Path(__file__).resolve().parent.parent


class Altered(Data):
    """The same data, but for one table or one table's details."""

    def __init__(self, name, change):
        self.name, self.change = name, change

    def table(self, name):
        table = Data.table(name)
        return self.change(table.copy()) if name == self.name else table

    def details(self, name):
        details = super().details(name)
        return self.change(details) if name == self.name else details


@pytest.fixture(scope="module")
def verdicts():
    return judge()


@pytest.fixture(scope="module")
def cases_of():
    data = Data()
    return {claim.number: list(claim.cases(data)) for claim in CLAIMS}


def test_every_claim_has_one_verdict(verdicts):
    assert list(verdicts.index) == list(range(1, len(CLAIMS) + 1))
    assert set(verdicts["verdict"]) <= set(VERDICTS)
    assert (verdicts["of"] > 0).all() and (verdicts["right"] <= verdicts["of"]).all()
    assert (verdicts["condition"] != "").eq(verdicts["verdict"] == "stands only if").all()


def test_verdicts_follow_the_cases(verdicts):
    for row in verdicts.itertuples():
        assert (row.verdict == "stands") == (row.right == row.of)
        assert (row.verdict in ("stands only if", "stands at times")) == (0 < row.right < row.of)
        assert row.of == len(row.cases), "two cases of one name"


def test_a_verdict_from_cases_by_hand():
    right, wrong = Case("a", True, {"patience": 10}), Case("b", False, {"patience": 60})
    assert verdict_of([right]) == verdict_of([right], then=True) == "stands"
    assert verdict_of([wrong]) == "does not stand" and verdict_of([wrong], then=True) == "stood then"
    assert verdict_of([right, wrong]) == "stands only if"
    assert verdict_of([right, wrong, Case("c", False, {"patience": 10})]) == "stands at times"


CONDITIONAL = [claim for claim in CLAIMS if claim.when]


@pytest.mark.parametrize("claim", CONDITIONAL, ids=lambda claim: claim.number)
def test_a_condition_is_true_in_the_right_cases_and_in_no_other(claim, cases_of, verdicts):
    assert foretells(claim.when, cases_of[claim.number])
    assert verdicts.loc[claim.number, "verdict"] == "stands only if"
    assert verdicts.loc[claim.number, "condition"] == claim.condition


def test_a_verdict_that_needs_a_condition_has_one(verdicts):
    needed = verdicts.index[verdicts["verdict"] == "stands only if"]
    assert list(needed) == [claim.number for claim in CONDITIONAL]
    assert not verdicts["condition"].str.contains("nobody").any()


@pytest.mark.parametrize("claim", CONDITIONAL, ids=lambda claim: claim.number)
def test_a_bent_condition_is_found_out(claim, cases_of):
    """Turned round, always and never: none of them tells the right cases from the others."""
    for bent in (lambda case: not claim.when(case), lambda case: True, lambda case: False):
        assert not foretells(bent, cases_of[claim.number])
    assert judge_claims([replace(claim, when=lambda case: True)], Data())["condition"].item() == "nobody can say when"


@pytest.mark.parametrize("number, bent", [
    (8, lambda case: case.server_closes_after < 15), (12, lambda case: case.answered_after < 10),
    (32, lambda case: case.ports > 100), (40, lambda case: case.same_server),
    (42, lambda case: case.higher), (50, lambda case: not case.reset), (56, lambda case: not case.server_closes)])
def test_a_condition_that_is_nearly_right_is_found_out(number, bent, cases_of):
    assert not foretells(bent, cases_of[number])


@pytest.mark.parametrize("claim", CONDITIONAL, ids=lambda claim: claim.number)
def test_a_condition_reads_facts_and_looks_up_no_names(claim, cases_of):
    """A condition compares numbers and asks yes or no: with a text in it, it could name the cases that are right."""
    assert not [constant for constant in claim.when.__code__.co_consts if isinstance(constant, (str, tuple, frozenset))]
    facts = [value for case in cases_of[claim.number] for value in case.facts.values()]
    assert all(isinstance(value, (bool, int, float)) for value in facts)


def test_at_times_means_that_cases_alike_in_every_fact_differ(verdicts, cases_of):
    for number in verdicts.index[verdicts["verdict"] == "stands at times"]:
        alike = {tuple(sorted(case.facts.items())) for case in cases_of[number] if case.right}
        assert any(tuple(sorted(case.facts.items())) in alike for case in cases_of[number] if not case.right)


def test_a_verdict_rests_on_three_recordings_or_says_on_how_few(verdicts, cases_of):
    recordings = pd.Series({number: len({case.recording or case.name for case in cases})
                            for number, cases in cases_of.items()})
    words = {1: "one recording", 2: "two recordings"}
    assert list(verdicts["rests_on"]) == [words.get(number, "") for number in recordings]


def one_closer(closers):
    """One server that closed first on HTTP/1.0 without a length becomes a client."""
    row = closers.query("server == 'http.server/1.0' and framing == 'until-close' and client == 'curl'").index[0]
    closers.loc[row, ["closer", "time_wait_client", "time_wait_server", "ss_client", "ss_server"]] = [
        "client", True, False, True, False]
    return closers


def one_refusal(ports):
    row = ports.index[ports["setting"] == "server closes first"][5]
    ports.loc[row, "failed"] = 1
    return ports


def more_threads(table):
    table.loc[(table["server"] == "nginx") & (table["connections"] == 200), "threads"] = 201
    return table


def one_report(article):
    row = article.index[article["experiment"] == "long-0-images"][0]
    article.loc[row, "connections"] = 4
    return article


def one_failed_load(load):
    """`load` is a table and has details: one connection of the table fails."""
    if not isinstance(load, dict):
        load.loc[load.index[0], "failed"] = 1
    return load


@pytest.mark.parametrize("number, name, change, before, after, also", [
    (55, "closers", one_closer, "stands", "stands at times", [52]),
    (45, "ports", one_refusal, "stands", "stands at times", [16, 42, 48]),
    (44, "thread-per-connection", more_threads, "stands only if", "stands at times", []),
    (21, "article-2018", one_report, "stood then", "does not stand", []),
    (15, "load", one_failed_load, "does not stand", "stands at times", [45, 48])])
def test_one_datum_changes_a_verdict(verdicts, number, name, change, before, after, also):
    altered = judge(Altered(name, change))
    assert verdicts.loc[number, "verdict"] == before
    assert altered.loc[number, "verdict"] == after
    others = verdicts.index.difference([number, *also])
    assert altered.loc[others, "verdict"].eq(verdicts.loc[others, "verdict"]).all()


@pytest.mark.parametrize("client", CLIENTS)
def test_habits_are_those_of_the_recordings(client):
    """As many probes as fit into 65 s of silence; unused connections that the client closed lived as long as said."""
    data, habits = Data(), HABITS[client]
    used = data.page(f"long-1-images-{client}").query("client_bytes > 0")
    assert (used["keepalive_probes"] == 65 // habits.probes_after).all()
    name = "idle-close-firefox" if client == "firefox" else f"long-1-images-{client}"
    unused = data.page(name).query("client_bytes == 0")
    lived = (unused["closed"] - unused["opened"])[unused["closer"] == "client"]
    assert lived.between(habits.unused, habits.unused + 1).all() and len(lived) == (2 if habits.watches else 0)


def test_the_version_of_an_answer_is_what_the_servers_say():
    """nginx and http.server/1.0 in their recordings' bytes; the testbed's other two in their own code."""
    from helpers.testbed.servers.python_servers import Http10, Http11, raw
    said = {Http11.protocol_version, f"HTTP/{ANSWERS['http.server']}"}, {Http10.protocol_version,
                                                                         f"HTTP/{ANSWERS['http.server/1.0']}"}
    assert all(len(both) == 1 for both in said)
    assert any(f"HTTP/{ANSWERS['raw']} 200" in str(constant) for constant in raw.__code__.co_consts)
    for name, server in (("closers-race", "http.server/1.0"), ("closers-end-of-file", "nginx")):
        packets = (ROOT / "data" / name / "capture.pcapng").read_bytes()
        assert set(re.findall(rb"HTTP/(1\.\d) 200", packets)) == {ANSWERS[server].encode()}


def test_the_cases_of_a_claim_are_a_table(cases_of):
    table = cases(8)
    assert list(table.index) == [case.name for case in cases_of[8]]
    assert (table["right"] == table["foretold"]).all()
    assert list(table.columns[2:]) == ["server_closes_after", "client_closes_after"]
    with pytest.raises(ValueError, match=f"no claim 0; they are numbered 1 to {len(CLAIMS)}"):
        cases(0)


def test_every_claim_has_an_objection_an_answer_and_a_place(verdicts):
    for column in ("paragraph", "says", "objection", "answer", "notebook"):
        assert verdicts[column].str.strip().ne("").all()
    for column in ("objection", "answer", "says", "condition"):
        assert not verdicts[column].str.contains("\n").any()
    told = Counter(verdicts["answer"]) + Counter(verdicts["objection"])
    assert not [text for text, times in told.items() if times > 1], "one objection or answer for several claims"


def test_no_sentence_of_the_article_is_left_without_a_claim():
    """Every sentence has claims; every claim a sentence in its own paragraph; and their numbers follow the article."""
    assert all(sentence.strip() and numbers for _, sentence, numbers in SENTENCES)
    judged = {(number, paragraph) for paragraph, _, numbers in SENTENCES for number in numbers}
    assert {number for number, _ in judged} == {claim.number for claim in CLAIMS}
    first = [claim.paragraph.split(";")[0] for claim in CLAIMS]
    assert [claim.number for claim, paragraph in zip(CLAIMS, first) if (claim.number, paragraph) not in judged] == []
    paragraphs = list(dict.fromkeys(paragraph for paragraph, _, _ in SENTENCES))
    assert first == sorted(first, key=paragraphs.index)


def tables_of_claims():
    """(notebook, row) of every row of a table of claims, without its heading."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown" and cell.source.startswith("## The claims"):
                lines = [line for line in cell.source.splitlines() if line.startswith("|")]
                yield from ((path.stem, line) for line in lines[2:])


def test_the_notebooks_tell_the_same_verdicts(verdicts):
    """A row: `| number(s) | what the article says | **verdict** … | … |`, in the notebook that the claim names."""
    rows = list(tables_of_claims())
    assert rows
    for notebook, row in rows:
        numbers, _, told = [cell.strip() for cell in row.strip("|").split("|")[:3]]
        verdict = re.search(r"\*\*(.+?)\*\*", told)
        assert verdict, f"{notebook}: no verdict in bold: {row}"
        for number in map(int, re.findall(r"\d+", numbers)):
            assert verdict[1] == verdicts.loc[number, "verdict"], f"{notebook}: claim {number} of: {row}"
            assert notebook[:2] in verdicts.loc[number, "notebook"].split(", "), f"{notebook}: claim {number}"


def pages_that_count():
    """Every page and notebook that may say how many claims there are: its path and its text."""
    for path in (*ROOT.glob("*.md"), *ROOT.glob("*.cff"), *(ROOT / "notebooks").glob("*.md")):
        yield path, path.read_text(encoding="utf-8")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        yield path, "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)


COUNT = re.compile(r"\b(\d+) claims\b|\bclaims, (\d+)\b")


def test_the_number_of_claims_is_the_same_wherever_it_is_said():
    said = [(path.name, int("".join(found))) for path, text in pages_that_count() for found in COUNT.findall(text)]
    assert {name for name, _ in said} >= {"README.md", "11-the-article-on-trial.ipynb"}
    assert [(name, number) for name, number in said if number != len(CLAIMS)] == []
