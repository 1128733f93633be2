"""Ports that run out, and what boxes on the way do: toys that have it, and toys that only look so."""

from itertools import cycle

from tests.diagnosis.judged import GET, in_order, named
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


def seen_with(ttl, frame):
    frame["IP"].ttl = ttl
    return frame


def reset(ttl, others=(64, 64), flags="R"):
    """The server's RST answers a second request; the TTLs of it and of the server's other segments, in turn."""
    frames, turn = [], cycle(others)
    for who, *rest in (*HANDSHAKE, *EXCHANGE, ("C", 9.0, "PA", 28, 44, GET)):
        frames.append(seen_with(next(turn) if who == "S" else 128, segment(who, *rest)))
    return [*frames, seen_with(ttl, segment("S", 9.1, flags, 44, 55))]


def test_reset_by_a_box(found):
    table = found(*reset(63))
    assert named(table) == ["reset-by-a-box"]
    assert "with TTL 63" in table["means"][0] and "server with 64" in table["means"][0]
    assert "frames 8" in table["evidence"][0]
    assert not len(found(*reset(64)))                                   # the server's own, as far as a TTL tells
    assert not len(found(*reset(63, others=(64, 60))))                  # they come by several ways, or seen at two places


PROBE = ("A", 27, 44)


def test_probes_unanswered(found):
    probes = [("C", 9.0 + number, *PROBE) for number in range(3)]
    reset = ("C", 12.0, "RA", 28, 44)
    assert named(found(*HANDSHAKE, *EXCHANGE, *probes, reset)) == ["probes-unanswered"]
    table = found(*HANDSHAKE, *EXCHANGE, *probes)
    assert named(table) == ["probes-unanswered"] and "3 keep-alive probes" in table["means"][0]
    assert "can't tell which" in table["means"][0]
    assert not len(found(*HANDSHAKE, *EXCHANGE, *probes[:2]))
    assert not len(found(*HANDSHAKE, *EXCHANGE, *probes, ("S", 11.1, "A", 44, 28)))


def test_a_server_that_speaks_elsewhere_is_alive(found):
    """Then the way has forgotten the one connection, and not the server died."""
    probes = [("C", 9.0 + number, *PROBE) for number in range(3)]
    table = found(*HANDSHAKE, *EXCHANGE, *probes, *used(1, 12.0))
    assert "rather the way" in table.set_index("finding")["means"]["probes-unanswered"]
