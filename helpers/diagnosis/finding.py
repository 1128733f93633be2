"""What a diagnosis is made of: one `Finding` each, and the table of them."""

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd


class Finding(NamedTuple):
    """Something that is wrong, or that only looks so.

    `finding`: its name; `who`: address, program or end that it is about; `how_many` connections or sockets; `when`;
    `evidence`: where to look; `means` and `cure`: a sentence each.
    """

    finding: str
    who: str
    how_many: int
    when: str
    evidence: str
    means: str
    cure: str


def table(findings: Iterable[Finding]) -> pd.DataFrame:
    """The findings as a table, in their order: a column for each field of `Finding`."""
    return pd.DataFrame(list(findings), columns=list(Finding._fields))


def examples(texts: Iterable[str], most: int = 3) -> str:
    """The first of `texts`, and how many more there are."""
    texts = list(texts)
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
