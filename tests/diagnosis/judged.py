"""What the tests of rules share: a toy's tables, and the names of its findings."""

from types import SimpleNamespace

from helpers.connections import connections
from helpers.exchanges import exchanges
from helpers.states import states
from tests.toys import EXCHANGE

GET = EXCHANGE[0][5]


def tables_of(capture):
    return SimpleNamespace(capture=capture, connections=connections(capture), states=states(capture),
                           exchanges=exchanges(capture))


def named(table):
    return table["finding"].tolist()


def in_order(*groups):
    return sorted((frame for group in groups for frame in group), key=lambda frame: frame.time)
