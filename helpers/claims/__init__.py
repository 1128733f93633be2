"""The article's claims on trial: `judge()` gives one verdict each, computed from the recordings.

A claim is held against cases, each of which it gets right or wrong. Right in all: it *stands*. In some: it *stands only
if*, and a condition tells from the facts of a case whether it is right; or it *stands at times*, where two cases with
the same facts differ. In none, but right by the rules of 2018: it *stood then*. In none at all: it *does not stand*.
"""

import pandas as pd

from helpers.claims import encrypted, judging
from helpers.claims.data import Data
from helpers.claims.explained import EXPLAINED
from helpers.claims.judging import VERDICTS, Case, Claim, foretells, verdict_of
from helpers.claims.observed import OBSERVED
from helpers.claims.sentences import SENTENCES

__all__ = ["CLAIMS", "SENTENCES", "VERDICTS", "Case", "Claim", "Data", "cases", "foretells", "judge", "judging",
           "over_http2_and_3", "sentences", "verdict_of"]

CLAIMS = (*OBSERVED, *EXPLAINED)


def judge(data: Data | None = None) -> pd.DataFrame:
    """One row per claim, index `number`: `paragraph`, `says`, `verdict`, `condition`, `right`, `of`, `rests_on`, …

    `right` of `of` cases are right. `rests_on`: "one recording" or "two recordings" where the cases come from no more,
    else empty. Then `cases` (whether right, by name), `objection`, `answer` and `notebook`.
    """
    return judging.judge(CLAIMS, data or Data())


def cases(number: int, data: Data | None = None) -> pd.DataFrame:
    """The cases of the claim `number`, index `case`: `right`, `foretold` by its condition, and the facts.

    Raises `ValueError` where there is no such claim.
    """
    found = [claim for claim in CLAIMS if claim.number == number]
    if not found:
        raise ValueError(f"no claim {number!r}; they are numbered 1 to {len(CLAIMS)}")
    return judging.table_of_cases(found[0], data or Data())


def sentences() -> pd.DataFrame:
    """The article's sentences in its order, in our words: `paragraph`, `sentence`, `claims` (numbers that judge it)."""
    return pd.DataFrame(SENTENCES, columns=["paragraph", "sentence", "claims"])


def over_http2_and_3(data: Data | None = None) -> pd.DataFrame:
    """The claims on which encryption bears, index `number`: `says`, `verdict`, `over HTTP/2` and `over HTTP/3`.

    `verdict`: over plain HTTP/1.1, as `judge` has it. The other two rest on the pages of both browsers with 0 to 7
    images, and say how many cases are right of how many; "no case" where the recordings have none.
    """
    data = data or Data()
    return encrypted.over(CLAIMS, data).assign(verdict=judge(data)["verdict"])[
        ["says", "verdict", "over HTTP/2", "over HTTP/3"]]
