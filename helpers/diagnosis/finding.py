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


def clients(group: pd.DataFrame) -> str:
    """The addresses of the clients of `group`, rows of `per_connection`."""
    return examples(sorted(set(group["address"])))


def streams(group: pd.DataFrame, frames: bool = False) -> str:
    """Where to look: the `tcp.stream` numbers of `group`, and the `frames` of the resets."""
    told = "streams " + examples(map(str, sorted(set(group.index))))
    return told + ("; frames " + examples(group["reset_frame"].dropna().astype(str)) if frames else "")


def of_groups(rows: pd.DataFrame, by: list, how: str, column: str, least: float) -> pd.DataFrame:
    """The `rows` of those groups in which `how` (as `groupby.transform` takes it) makes at least `least` of `column`.

    Looking at one group after the other is slow where there are thousands, and most are too small to say anything.
    """
    return rows[rows.groupby(by)[column].transform(how) >= least]


def span(times: pd.Series) -> str:
    """When: the first and the last of `times`, in seconds since the first frame."""
    times = times.dropna()
    if not len(times):
        return "cannot tell"
    first, last = float(times.min()), float(times.max())
    return f"at {first:.3f} s" if first == last else f"{first:.3f} to {last:.3f} s"
