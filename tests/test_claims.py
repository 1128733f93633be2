"""The verdicts on the article are computed: change one datum, and a verdict changes."""

import re
from pathlib import Path

import nbformat
import pytest

from helpers.claims import CLAIMS, VERDICTS, Data, judge


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


def test_every_claim_has_one_verdict(verdicts):
    assert list(verdicts.index) == list(range(1, 33))
    assert set(verdicts["verdict"]) <= set(VERDICTS)
    assert (verdicts["of"] > 0).all() and (verdicts["right"] <= verdicts["of"]).all()
    conditional = verdicts["verdict"] == "stands only if"
    assert (verdicts["condition"] != "").eq(conditional).all()


def test_verdicts_follow_the_cases(verdicts):
    for row in verdicts.itertuples():
        assert (row.verdict == "stands") == (row.right == row.of)
        assert (row.verdict == "stands only if") == (0 < row.right < row.of)


def one_closer(closers):
    """One server that closed first on HTTP/1.0 without a length becomes a client."""
    row = closers.query("version == '1.0' and framing == 'until-close' and client == 'curl' and server == 'nginx'").index[0]
    closers.loc[row, ["closer", "time_wait_client", "time_wait_server"]] = ["client", True, False]
    return closers


def one_refusal(ports):
    row = ports.index[ports["setting"] == "server closes first"][5]
    ports.loc[row, "failed"] = 1
    return ports


def one_thread(details):
    memory = next(memory for memory in details["memory"] if memory["state"] == "ESTABLISHED")
    memory["with"]["threads"] += 1
    return details


def one_report(article):
    row = article.index[article["experiment"] == "long-1-images"][0]
    article.loc[row, "connections"] = 4
    return article


@pytest.mark.parametrize("number, name, change, before, after", [
    (28, "closers", one_closer, "stands", "stands only if"),
    (20, "ports", one_refusal, "stands", "does not stand"),
    (22, "load", one_thread, "does not stand", "stands"),
    (11, "article-2018", one_report, "stood then", "does not stand")])
def test_one_datum_changes_a_verdict(verdicts, number, name, change, before, after):
    altered = judge(Altered(name, change))
    assert verdicts.loc[number, "verdict"] == before
    assert altered.loc[number, "verdict"] == after
    others = verdicts.index.difference([number, 10, 25])
    assert altered.loc[others, "verdict"].eq(verdicts.loc[others, "verdict"]).all()


def test_every_claim_names_its_notebook():
    assert all(claim.notebook for claim in CLAIMS)


def claims_told():
    """(notebook, number, verdict) of every row of a table of claims that holds one claim of the article, or several alike."""
    for path in sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown" and cell.source.startswith("## The claims"):
                for numbers, verdict in re.findall(r"^\| (\d+(?:, \d+)*) \|[^|\n]*\|[^|*\n]*\*\*([^*\n]*)\*\*", cell.source, re.MULTILINE):
                    yield from ((path.stem, int(number), verdict) for number in numbers.split(", "))


def test_the_notebooks_tell_the_same_verdicts(verdicts):
    told = list(claims_told())
    assert len(told) == 26 and len({number for _, number, _ in told}) == 22
    assert [(number, verdict) for _, number, verdict in told] == [(number, verdicts.loc[number, "verdict"]) for _, number, _ in told]
