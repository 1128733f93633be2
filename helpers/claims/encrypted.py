"""The claims on which encryption bears, held against the same pages over HTTP/2 and HTTP/3."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from helpers.claims.data import BROWSERS, LONG, Data
from helpers.claims.judging import Case, verdict_of
from helpers.quic import quic_connections, quic_exchanges

WEBS = {"HTTP/2": "h2", "HTTP/3": "h3"}
UNKNOWN = "cannot tell"     # such a connection is no case of a claim about who closed


@dataclass(frozen=True)
class Load:
    """One recording of a page: `connections` to it, with `used` (it carried a request), and its `exchanges`.

    `closer` is `UNKNOWN` where no FIN tells it. Over HTTP/3 it is the end that sent CONNECTION_CLOSE, and
    `time_wait` is `none`: UDP has no such state.
    """

    name: str
    images: int
    connections: pd.DataFrame
    exchanges: pd.DataFrame


def loads(data: Data, protocol: str) -> list[Load]:
    """The page of each browser with each number of images over `protocol`, `h2` or `h3`."""
    return [_load(data, f"{protocol}-{images}-images-{browser}", images) for browser in BROWSERS for images in LONG]


def _load(data, name, images):
    experiment = data.load(name)
    if name.startswith("h3"):
        table, asked = quic_connections(experiment.capture), quic_exchanges(experiment.capture)
        table = table.assign(closer=table["closed_by"], time_wait="none").fillna({"closer": UNKNOWN})
    else:
        table, asked = experiment.connections, experiment.exchanges
        table = table[table["server"].str.endswith(":443")].fillna({"closer": UNKNOWN})
    return Load(name, images, table.assign(used=table.index.isin(asked["stream"])), asked)


def _counted(images: int, number: int) -> Callable[[Load], list[bool]]:
    """Whether a page with `images` took `number` connections."""
    return lambda load: [len(load.connections) == number] if load.images == images else []


def _second_image_apart(load: Load) -> list[bool]:
    """Whether the first image came over the page's connection, and the second over another."""
    if load.images != 2:
        return []
    carried = load.exchanges.drop_duplicates("target").set_index("target")["stream"]
    return [bool(carried["/"] == carried["/image-1.png"] != carried["/image-2.png"])]


def _unused_closed_by_client(load: Load) -> list[bool]:
    """Each connection that carried nothing: whether the client closed it."""
    return [row.closer == "client" for row in _rows(load, used=False) if row.closer != UNKNOWN]


def _used_closed_by_server(load: Load) -> list[bool]:
    """Each connection that carried something: whether the server closed it first."""
    return [row.closer == "server" for row in _rows(load, used=True) if row.closer != UNKNOWN]


def _waits_at_server(load: Load) -> list[bool]:
    """Each connection that carried something: whether the server had its TIME_WAIT."""
    return [row.time_wait == "server" for row in _rows(load, used=True)]


def _opened_while_busy(load: Load) -> list[bool]:
    """Where requests were under way at the same time: whether no two of them were on one connection."""
    asked = load.exchanges.dropna(subset=["requested", "finished"]).sort_values("requested")
    if not _at_once(asked):
        return []
    return [not any(_at_once(of_one) for _, of_one in asked.groupby("stream"))]


def _at_once(asked):
    """Whether any of these exchanges, in order of request, began before one that was asked earlier had finished."""
    return bool((asked["requested"] < asked["finished"].cummax().shift()).any())


def _closer_waits(load: Load) -> list[bool]:
    """Each connection whose first closer is known: whether that end had the TIME_WAIT."""
    return [row.time_wait == row.closer for row in load.connections.itertuples() if row.closer != UNKNOWN]


def _rows(load, used):
    return load.connections[load.connections["used"] == used].itertuples()


BEARS = {
    1: _counted(2, 3), 4: _second_image_apart, 5: _unused_closed_by_client, 8: _used_closed_by_server,
    12: _waits_at_server, 18: _counted(1, 3), 21: _counted(0, 3), 25: _opened_while_busy, 26: _counted(4, 4),
    28: _counted(7, 6), 50: _closer_waits}


def over(claims: Iterable, data: Data) -> pd.DataFrame:
    """The claims on which encryption bears, index `number`: `says`, and for each of `WEBS` its verdict in words.

    The words have the number of right cases of all, such as "does not stand (0 of 10)"; "no case" where none is there.
    """
    found = {web: loads(data, protocol) for web, protocol in WEBS.items()}
    rows = {claim.number: {"says": claim.says, **{
        f"over {web}": _words([Case(load.name, right, {"recording": load.name}) for load in of_web
                               for right in BEARS[claim.number](load)])
        for web, of_web in found.items()}} for claim in claims if claim.number in BEARS}
    return pd.DataFrame(rows).T.rename_axis("number")


def _words(cases):
    if not cases:
        return "no case"
    verdict = verdict_of(cases)
    right = sum(case.right for case in cases)
    return f"{'stands at times' if verdict == 'stands only if' else verdict} ({right} of {len(cases)})"
