"""Ports that run out: toys that have it and toys that don't."""

from tests.diagnosis.judged import in_order, named
from tests.toys import EXCHANGE, HANDSHAKE, SERVER_CLOSES, segment

CLIENT_CLOSES = [("C", 1.0, "FA", 28, 44), ("S", 1.1, "FA", 44, 29), ("C", 1.2, "A", 29, 45)]


def used(number, at, end=CLIENT_CLOSES):
    """One connection of many: from port 50000 + number, begun at this time."""
    return [segment(who, at + time, *rest, client=("10.0.0.1", 50000 + number), isn={"C": 1000 + int(at), "S": 5000})
            for who, time, *rest in (*HANDSHAKE, *EXCHANGE, *end)]


def twice(pause, again=10, ports=25, **how):
    """So many ports, each used for a second; and so many of them once more, `pause` seconds after their end."""
    return in_order(*(used(number, number * 0.1, **how) for number in range(ports)),
                    *(used(number, number * 0.1 + 1.2 + pause, **how) for number in range(again)))


def test_ports_running_out(found):
    table = found(*twice(61.5))
    assert "ports-running-out" in named(table)
    row = table[table["finding"] == "ports-running-out"].iloc[0]
    assert row["how_many"] == 10 and "61.5 s later at the soonest" in row["means"] and "10 of 10" in row["means"]
    assert "used 25 ports" in row["means"]
    assert "ports-running-out" in named(found(*twice(1.0)))             # tcp_tw_reuse: taken inside TIME_WAIT


def test_ports_that_come_again_by_chance_or_by_choice(found):
    for frames in (twice(75.0),                                         # no hurry
                   twice(61.5, again=4),                                # few
                   twice(61.5, end=SERVER_CLOSES),                      # the server's TIME_WAIT blocks no port here
                   twice(61.5, again=15, ports=15),                     # a program that binds the ports it likes
                   in_order(twice(61.5, again=5), *(used(100 + number, 65.0 + number) for number in range(9)))):
        assert "ports-running-out" not in named(found(*frames))
