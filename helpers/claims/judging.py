"""How a verdict is made: cases, the rule that turns them into a verdict, and the table of all verdicts."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

import pandas as pd

from helpers.claims.data import Data

VERDICTS = ("stands", "stands only if", "stands at times", "stood then", "does not stand")
FEW = {1: "one recording", 2: "two recordings"}


@dataclass(frozen=True)
class Case:
    """One recording, connection, load or run that a claim gets right or wrong, and the facts known of it.

    `facts`: what a condition may read; whether the claim was right is not among them. `recording`: what it was taken
    from, where that is not the case's own.
    """

    name: str
    right: bool
    facts: Mapping = field(default_factory=dict)
    recording: str = ""


@dataclass(frozen=True)
class Claim:
    """A claim of the article, in our words.

    `paragraph`: where it stands in the article. `cases`: from the data, the cases that decide it. `condition`: the
    words of `when`, which says from the facts of a case whether the claim is right in it. `then`: whether it is right
    by the rules of 2018. `objection`: the best that can be said against the verdict; `answer`: what we say to that.
    `notebook`: where the evidence is.
    """

    number: int
    paragraph: str
    says: str
    notebook: str
    cases: Callable[[Data], Iterable[Case]]
    objection: str
    answer: str
    condition: str = ""
    when: Callable[[SimpleNamespace], bool] | None = None
    then: Callable[[Data], bool] | None = None


def verdict_of(cases: list[Case], then: bool = False) -> str:
    """The verdict on a claim with these `cases`; `then`: whether it is right by the rules of 2018."""
    right = [case.right for case in cases]
    if all(right):
        return "stands"
    if any(right):
        return "stands at times" if by_chance(cases) else "stands only if"
    return "stood then" if then else "does not stand"


def by_chance(cases: list[Case]) -> bool:
    """Whether one case is right and another wrong although all facts about the two are the same."""
    results = {}
    for case in cases:
        results.setdefault(tuple(sorted(case.facts.items())), set()).add(case.right)
    return any(len(both) == 2 for both in results.values())


def foretells(when: Callable[[SimpleNamespace], bool], cases: list[Case]) -> bool:
    """Whether `when` is true in every case that is right, and false in every other."""
    return all(bool(when(SimpleNamespace(**case.facts))) == case.right for case in cases)


def judge(claims: Iterable[Claim], data: Data) -> pd.DataFrame:
    """One row per claim, index `number`: `paragraph`, `says`, `verdict`, `condition`, `right`, `of`, `rests_on`, …

    `right` of `of` cases are right. `rests_on`: "one recording" or "two recordings" where the cases come from no more,
    else empty. Then `cases` (whether right, by name), `objection`, `answer` and `notebook`.
    """
    return pd.DataFrame([_row(claim, data) for claim in claims]).set_index("number")


def _row(claim, data):
    cases = list(claim.cases(data))
    verdict = verdict_of(cases, claim.then is not None and bool(claim.then(data)))
    condition = _condition(claim, cases) if verdict == "stands only if" else ""
    recordings = {case.recording or case.name for case in cases}
    return {"number": claim.number, "paragraph": claim.paragraph, "says": claim.says, "verdict": verdict,
            "condition": condition, "right": sum(case.right for case in cases), "of": len(cases),
            "rests_on": FEW.get(len(recordings), ""), "cases": {case.name: case.right for case in cases},
            "objection": claim.objection, "answer": claim.answer, "notebook": claim.notebook}


def _condition(claim, cases):
    """The words of the condition, where it tells the right cases from the others."""
    return claim.condition if claim.when and foretells(claim.when, cases) else "nobody can say when"


def table_of_cases(claim: Claim, data: Data) -> pd.DataFrame:
    """The cases of `claim`, index `case`: `right`, what its condition foretells where it has one, and the facts."""
    cases = list(claim.cases(data))
    foretold = {"foretold": [bool(claim.when(SimpleNamespace(**case.facts))) for case in cases]} if claim.when else {}
    index = pd.Index([case.name for case in cases], name="case")
    return pd.DataFrame({"right": [case.right for case in cases], **foretold}, index=index).join(
        pd.DataFrame([dict(case.facts) for case in cases], index=index))
