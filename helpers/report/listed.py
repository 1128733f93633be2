"""The report on a list of sockets: what was read, what is wrong, how many are in which state."""

from pathlib import Path

import pandas as pd

from helpers.report.diagnosed import diagnosis
from helpers.report.facts import visible
from helpers.sockets import SocketLists


def read(lists: SocketLists) -> pd.Series:
    """What was read, as texts: file, format, lists, when, sockets, what was skipped."""
    times = lists.times.dropna()
    skipped = ", ".join(f"{number:,} {reason}" for reason, number in lists.skipped.items())
    zone = "UTC" if lists.times.tz is not None else "in a time zone that the file does not name"
    when = f"{times.min():%Y-%m-%d %H:%M:%S} to {times.max():%H:%M:%S} {zone}" if len(times) else "cannot tell"
    return pd.Series({"file": visible(lists.path, 1000), "made by": lists.system, "lists": f"{len(lists.times):,}",
                      "when": when, "lines": f"{len(lists.listed):,}", "skipped": visible(skipped, 500) or "nothing"})


def by_state(lists: SocketLists) -> pd.DataFrame:
    """How many sockets the last list has in each state; columns `server`, `client`, `unknown`: this machine's end."""
    last = lists.listed[lists.listed["snapshot"] == len(lists.times) - 1]
    counted = pd.crosstab(last["state"], last["host"].fillna("unknown").astype(str))
    return counted.reindex(columns=["server", "client", "unknown"], fill_value=0)


def socket_summary(lists: SocketLists) -> str:
    """The whole report on a list of sockets as text for a terminal."""
    return "\n".join([*diagnosis(lists), "", *(f"{name:<10}{text}" for name, text in read(lists).items()), "",
                      "Sockets in the last list, by state and by this machine's end:",
                      by_state(lists).rename_axis(index=None, columns=None).to_string()])


def is_socket_list(path: str) -> bool:
    """Whether the file begins like a text: a capture never does."""
    try:
        with Path(path).open("rb") as file:
            begin = file.read(400)
    except (OSError, ValueError):
        return False
    utf_16 = begin[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = begin.decode("utf-16" if utf_16 else "utf-8", "ignore")
    return len(text) > 20 and "\0" not in text and sum(c.isprintable() or c.isspace() for c in text) == len(text)
