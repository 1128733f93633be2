"""Each rule finds the toy that is ill in its way, and is silent where it is not; the matrix over all recordings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.captures import files, read_capture
from helpers.captures.records import Progress
from helpers.diagnosis import RULES, Limits, diagnose
from helpers.diagnosis.file_rules import FILE_RULES
from helpers.experiments import load, names
from tests.capture_files import pcap
from tests.diagnosis.judged import GET, in_order, named, tables_of
from tests.toys import EXCHANGE, HANDSHAKE, SERVER_CLOSES, segment, toy

ANSWER = EXCHANGE[1][5]
HELLO = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"
CLIENT_CLOSES = [("C", 1.0, "FA", 28, 44), ("S", 1.1, "FA", 44, 29), ("C", 1.2, "A", 29, 45)]


@pytest.mark.parametrize("end", [CLIENT_CLOSES, SERVER_CLOSES])
def test_a_healthy_connection(found, end):
    assert not len(found(*HANDSHAKE, *EXCHANGE, *end))


def test_frames_that_were_dropped(tmp_path):
    """What is not in the file may have been sent: only what was seen is judged."""
    capture = replace(toy(tmp_path / "toy.pcap", ("C", 0, "S", 0), ("C", 1, "S", 0), ("C", 3, "S", 0)), dropped=7)
    table = diagnose(tables_of(capture))
    assert named(table) == ["frames-dropped"] and table["how_many"][0] == 7


def test_refused(found):
    table = found(("C", 0, "S", 0), ("S", 0.1, "RA", 0, 1))
    assert named(table) == ["refused"] and table["who"][0] == "10.0.0.2:80"


def test_syn_unanswered(found):
    assert named(found(("C", 0, "S", 0), ("C", 1, "S", 0), ("C", 3, "S", 0))) == ["syn-unanswered"]
    assert not len(found(("C", 0, "S", 0)))                             # the capture may have ended too soon
    assert named(found(("C", 0, "S", 0), ("C", 0.00001, "S", 0))) == ["frames-twice"]   # captured on a bridge
    assert named(found(("C", 0, "S", 0), ("C", 1, "S", 0), ("C", 1.2, "A", 1, 1))) == ["one-direction-only"]
    assert not len(found(("C", 0, "S", 0), ("C", 1, "S", 0), ("S", 1.1, "SA", 0, 1), ("C", 1.2, "A", 1, 1)))


def test_path_silent(found):
    """After 10 s of silence, the second request is repeated three times, and nothing comes back."""
    again = [("C", 10.5 + wait, "PA", 28, 44, GET) for wait in (0, 0.2, 0.6, 1.4)]
    table = found(*HANDSHAKE, *EXCHANGE, *again)
    assert named(table) == ["path-silent"] and "After 10.0 s of silence the client's data were repeated 3 times" in \
        table["means"][0]
    assert not len(found(*HANDSHAKE, *EXCHANGE, *again[:3]))
    assert not len(found(*HANDSHAKE, *EXCHANGE, *again[:2], ("S", 10.8, "A", 44, 28), *again[2:]))
    assert not len(found(*HANDSHAKE, *EXCHANGE, *again, ("S", 12.0, "A", 44, 55)))      # it went on after all
    copies = [("C", 10.5 + wait, "PA", 28, 44, GET) for wait in (0, 1e-5, 2e-5, 3e-5)]
    assert named(found(*HANDSHAKE, *EXCHANGE, *copies)) == ["frames-twice"]     # one frame, captured four times
    probes = [("C", 10.5 + wait, "A", 27, 44, b"x") for wait in range(9)]
    assert "path-silent" not in named(found(*HANDSHAKE, *EXCHANGE, *probes))


def test_fin_unanswered(found):
    """The server closes an idle connection and repeats its FIN three times; then the file may end, or go on."""
    fins = [("S", 1.0 + wait, "FA", 44, 28) for wait in (0, 0.2, 0.6, 1.4)]
    table = found(*HANDSHAKE, *EXCHANGE, *fins)
    assert named(table) == ["fin-unanswered"] and table["who"][0] == "10.0.0.2:80 (server)"
    assert "repeated its FIN up to 3 times" in table["means"][0]
    client = found(*HANDSHAKE, *EXCHANGE, *[("C", time, "FA", 28, 44) for _, time, *_ in fins])
    assert named(client) == ["fin-unanswered"] and client["who"][0] == "10.0.0.1 (client)"
    assert not len(found(*HANDSHAKE, *EXCHANGE, *fins[:3]))             # the capture ended too soon
    for answer in (("C", 2.5, "A", 28, 45), ("C", 2.5, "R", 28), ("C", 2.5, "PA", 28, 44, GET), ("C", 1.5, "RA", 28, 45)):
        assert "fin-unanswered" not in named(found(*HANDSHAKE, *EXCHANGE, *sorted([*fins, answer], key=lambda it: it[1])))
    copies = [("S", 1.0 + wait, "FA", 44, 28) for wait in (0, 1e-5, 2e-5, 3e-5)]
    assert named(found(*HANDSHAKE, *EXCHANGE, *copies)) == ["frames-twice"]


def test_keep_alive_race(found):
    """The server closes after 0.5 s; the next request crosses its FIN and is reset."""
    race = [*HANDSHAKE, *EXCHANGE, ("S", 1.0, "FA", 44, 28), ("C", 1.01, "PA", 28, 44, GET), ("S", 1.02, "R", 45)]
    table = found(*race)
    assert named(table) == ["keep-alive-race"]
    assert "idle for 0.6 s" in table["means"][0]
    assert "keep-alive-race" not in named(found(*race[:-2], ("S", 1.02, "R", 45)))
    pipelined = [*HANDSHAKE, ("C", 0.3, "PA", 1, 1, GET + GET), ("S", 0.4, "PA", 1, 55, ANSWER),
                 ("S", 0.41, "FA", 44, 55), ("C", 0.5, "A", 55, 45), ("S", 0.51, "R", 45)]
    assert "keep-alive-race" not in named(found(*pipelined))            # both were asked before; no pause, no race


def test_client_gave_up(found):
    table = found(*HANDSHAKE, EXCHANGE[0], ("S", 0.4, "A", 1, 28), ("C", 2.3, "FA", 28, 1), ("S", 2.4, "A", 1, 29))
    assert named(table) == ["client-gave-up"] and "2.0 s after its request" in table["means"][0]
    reset = found(*HANDSHAKE, EXCHANGE[0], ("S", 0.4, "A", 1, 28), ("C", 2.3, "RA", 28, 1))
    assert named(reset) == ["client-gave-up"]
    half = found(*HANDSHAKE, EXCHANGE[0], ("C", 0.35, "FA", 28, 1), ("S", 0.9, "PA", 1, 29, ANSWER),
                 ("C", 1.0, "A", 29, 44), ("S", 1.1, "FA", 44, 29), ("C", 1.2, "A", 29, 45))
    assert not len(half)                                                # it closed one direction, and took the answer
    first = found(*HANDSHAKE, EXCHANGE[0], ("S", 0.4, "FA", 1, 28), ("C", 0.5, "FA", 28, 2), ("S", 0.6, "A", 2, 29))
    assert not len(first)                                               # the server ended it


def test_reset_with_unread_data(found):
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n" + bytes(3000)
    parts = [("S", 0.4, "A", 1, 28, whole[:1000]), ("C", 0.5, "A", 28, 1001), ("S", 0.51, "A", 1001, 28, whole[1000:2000])]
    table = found(*HANDSHAKE, EXCHANGE[0], *parts, ("C", 0.52, "RA", 28, 1001))
    assert named(table) == ["reset-with-unread-data"] and "frames 8" in table["evidence"][0]
    assert "None was used for a second request" in table["means"][0]


def test_reset_instead_of_close(found):
    for by, frame in (("C", ("C", 1.0, "RA", 28, 44)), ("S", ("S", 1.0, "RA", 44, 28))):
        table = found(*HANDSHAKE, *EXCHANGE, frame)
        assert named(table) == ["reset-instead-of-close"]
        assert table["who"][0] == ("10.0.0.1" if by == "C" else "10.0.0.2:80")
    assert not len(found(*HANDSHAKE, ("C", 0.3, "PA", 1, 1, b"not HTTP"), ("S", 0.4, "PA", 1, 9, b"nor this"),
                         ("C", 0.5, "A", 9, 9), ("C", 1.0, "RA", 9, 9)))    # who knows what was still to come


def test_tls_close(found):
    """The server's FIN, the client's alert, the server's RST. Not without TLS, and not where data came instead."""
    alert, sealed = b"\x15\x03\x03\x00\x1a" + bytes(26), b"\x17\x03\x03\x00\x13" + bytes(19)
    request = b"\x17\x03\x03\x00\x40" + bytes(64)
    for first, last, expected in ((HELLO, alert, ["tls-closed-before-close-notify"]), (b"X" * len(HELLO), alert, []),
                                  (HELLO, sealed, ["tls-closed-before-close-notify"]), (HELLO, request, [])):
        end = 1 + len(first)
        assert named(found(*HANDSHAKE, ("C", 0.3, "PA", 1, 1, first), ("S", 0.4, "PA", 1, end, b"Z" * 50),
                           ("S", 0.41, "FA", 51, end), ("C", 0.5, "PA", end, 52, last),
                           ("S", 0.6, "R", 52))) == expected


@pytest.mark.parametrize(("seconds", "expected"), [(0.4, []), (5.0, ["close-wait"])])
def test_close_wait(found, seconds, expected):
    end = [("S", 1.0, "FA", 44, 28), ("C", 1.1, "A", 28, 45), ("C", 1.1 + seconds, "FA", 28, 45),
           ("S", 1.2 + seconds, "A", 45, 29)]
    table = found(*HANDSHAKE, *EXCHANGE, *end)
    assert named(table) == expected
    if expected:
        assert table["who"][0] == "10.0.0.1 (client)" and "up to 5.1 s" in table["means"][0]


def test_close_wait_is_not_told_of_an_end_whose_data_are_not_acknowledged(found):
    """Its FIN may wait behind them, unsent, while its program has long closed: so in the recording clinic-idle-drop."""
    asked = [("C", 0.6 + wait, "PA", 28, 44, GET) for wait in (0, 0.2)]
    assert not len(found(*HANDSHAKE, *EXCHANGE, *asked, ("S", 1.0, "FA", 44, 28), ("C", 1.1, "A", 55, 45),
                         ("C", 9.0, "A", 55, 45)))


def connection(number, requests, close_by="C", at=None):
    """One connection of many: from port 50000 + number, with so many requests, closed by the client."""
    client, at = ("10.0.0.1", 50000 + number), number if at is None else at
    frames, asked, got = [*HANDSHAKE], 1, 1
    for nth in range(requests):
        frames += [("C", 0.3 + nth, "PA", asked, got, GET), ("S", 0.4 + nth, "PA", got, asked + 27, ANSWER),
                   ("C", 0.45 + nth, "A", asked + 27, got + 43)]
        asked, got = asked + 27, got + 43
    frames += [("C", requests - 0.4, "FA", asked, got), ("S", requests - 0.3, "FA", got, asked + 1),
               ("C", requests - 0.2, "A", asked + 1, got + 1)]
    return [segment(who, at + time, *rest, client=client) for who, time, *rest in frames]


def test_no_reuse(found):
    table = found(*in_order(*(connection(number, 1) for number in range(25))))
    assert named(table) == ["no-reuse"] and table["how_many"][0] == 25
    assert "TIME_WAIT at: client 25." in table["means"][0] and ": 1 would do" in table["cure"][0]
    assert not len(found(*in_order(*(connection(number, 1) for number in range(19)))))
    assert "no-reuse" not in named(found(*in_order(*(connection(number, 2) for number in range(25)))))


def test_pool_too_small(found):
    """Two requests are answered at once at most, and yet twelve connections are opened and closed at once when free."""
    small = in_order(*(connection(number, 4, at=2 * number + 0.05 * (number % 2)) for number in range(12)))
    table = found(*small)
    assert named(table) == ["pool-too-small"] and table["how_many"][0] == 12
    assert not len(found(*small, at_once=0.01))                         # closed out of patience, not for want of room
    kept = in_order(*(connection(number, 24, at=0.01 * number) for number in range(12)))
    assert not len(found(*kept))                                        # they all stay open to the end of the work


def test_port_range_nearly_taken(found):
    """Eight ports of ten are taken at once: closed by the client in the last minute, or open."""
    rows = in_order(*(connection(number, 2, at=5.0 * number) for number in range(9)))
    ten = {"port_range": (50000, 50009)}
    table = found(*rows, **ten)
    assert named(table) == ["port-range-nearly-taken"] and table["how_many"][0] == 9
    assert "90% of 50000 to 50009" in table["means"][0] and table["who"][0] == "10.0.0.1 → 10.0.0.2:80"
    assert not len(found(*rows)) and not len(found(*rows, port_range=(50000, 50011)))
    assert not len(found(*rows, port_range=(40000, 40009)))             # they are none of these
    slowly = in_order(*(connection(number, 2, at=20.0 * number) for number in range(9)))
    assert not len(found(*slowly, **ten))                               # a minute later a port is free again


def test_port_range_nearly_taken_as_the_kernel_says():
    """A client with 100 ports: `ss` saw as many of its sockets at once as the rule says."""
    experiment = load("clinic-ports")
    low, high = map(int, experiment.about["kernel"]["ip_local_port_range"].split())
    table = diagnose(experiment, Limits(port_range=(low, high))).set_index("finding").loc["port-range-nearly-taken"]
    own = experiment.sockets[experiment.sockets["host"] == "client"]
    seen = max(((own["first_seen"] <= time) & (time <= own["last_seen"])).sum() for time in own["first_seen"])
    assert table["how_many"] == seen == high - low + 1


def test_slow_server(found):
    late = [[*HANDSHAKE, EXCHANGE[0], ("S", 3.4, "PA", 1, 28, ANSWER), ("C", 3.5, "A", 28, 44)]]
    frames = [segment(who, time + 10 * number, *rest, client=("10.0.0.1", 50000 + number))
              for number in range(3) for who, time, *rest in late[0]]
    table = found(*frames)
    assert named(table) == ["slow-server"] and "3.1 s in the median" in table["means"][0]
    assert not len(found(*frames, slow=4)) and not len(found(*frames, wait=4.0))


def test_slow_reader(found):
    def window(who, time, flags, seq, ack, size):
        return segment(who, time, flags, seq, ack, window=size)
    frames = [*HANDSHAKE, EXCHANGE[0], ("S", 0.4, "A", 1, 28, bytes(1000)), window("C", 0.5, "A", 28, 1001, 0),
              window("C", 2.5, "A", 28, 1001, 64240)]
    table = found(*frames)
    assert named(table) == ["slow-reader"] and "up to 2.0 s" in table["means"][0] and table["who"][0] == "10.0.0.1"
    assert not len(found(*frames, zero_window=2.5))
    held = [("C", 0.0, "S", 0), window("S", 0.1, "SA", 0, 1, 0), ("C", 0.2, "A", 1, 1), window("S", 2.1, "A", 1, 1, 999)]
    assert not len(found(*held))                                        # a proxy that answers before its server does


def test_one_direction_only(found):
    """All that the client sent, and all that the server sent: each tells that there was another end, which is right."""
    whole = [*HANDSHAKE, *EXCHANGE, *CLIENT_CLOSES]
    for end, kept in (("C", whole), ("S", whole), ("C", [*EXCHANGE, *CLIENT_CLOSES])):
        table = found(*(row for row in kept if row[0] == end))
        assert named(table) == ["one-direction-only"] and table["how_many"][0] == 1
    assert named(found(EXCHANGE[0], ("C", 0.6, "PA", 1, 1, GET))) == ["began-before-the-capture"]  # nothing came between
    half = [segment(*row, client=("10.0.0.1", 50001)) for row in whole if row[0] == "C"]
    assert not len(found(*whole, *half))                                # of one of two: not the capture's way


def doubled(experiment, path, later):
    """The frames of a recording, each once more `later` seconds after, and without secrets."""
    capture = experiment.capture
    parts = files.frames(capture.path, files.load(capture.path)[0], Progress())
    stamps = np.concatenate([part["time_ns"] for part in parts])
    twice = [(time + wait, number, capture.frame_bytes(number + 1))
             for number, time in enumerate((stamps - stamps[0]) / 1e9) for wait in (0, later)]
    twice.sort(key=lambda frame: frame[:2])
    link = 1 if capture.frame_bytes(1)[12:14] in (b"\x08\x00", b"\x08\x06", b"\x86\xdd") else 101   # else a TUN device
    path.write_bytes(pcap([data for *_, data in twice], [round(1e9 * time) for time, *_ in twice], unit=1, link=link))
    return tables_of(read_capture(path))


@pytest.mark.parametrize("later", [20e-6, 3e-3])
@pytest.mark.parametrize("name", [name for name in ("clinic-backlog", "clinic-close-wait", "clinic-dead-peer",
                                                    "clinic-idle-drop", "clinic-keepalive-race", "clinic-slow-reader",
                                                    "clinic-unread", "idle-close-visit", "lost-last-ack") if name in names()])
def test_frames_twice(tmp_path, name, later):
    """A capture at two interfaces of a bridge: what is found is what is found in the recording itself."""
    experiment, told = load(name), ["finding", "who", "how_many", "when", "means", "cure"]
    *others, twice = diagnose(doubled(experiment, tmp_path / "twice.pcap", later))[told].to_dict("records")
    resets = experiment.segments["flags"].str.contains("R").sum()       # of some a copy can't be told
    assert twice["finding"] == "frames-twice"
    assert 0 <= len(experiment.segments) - twice["how_many"] <= resets
    assert others == diagnose(experiment)[told].to_dict("records")


def test_segments_sent_again_are_no_copies(tmp_path):
    """Linux gives what it repeats another number in the IPv4 header; dropped by it, few copies are not worth a word."""
    for number, expected in ((7, ["frames-twice"]), (None, [])):
        frames = [segment(*row) for row in (*HANDSHAKE, *EXCHANGE, *CLIENT_CLOSES)]
        again = [frame.copy() for frame in frames]
        for place, (one, other) in enumerate(zip(frames, again)):
            one.id, other.id = 100 + place, 100 + place if number else 200 + place
            other.time = one.time + 0.001
        ordered = sorted([*frames, *again], key=lambda frame: frame.time)
        assert named(diagnose(tables_of(toy(tmp_path / "toy.pcap", *ordered)))) == expected


def test_a_capture_that_began_late(found):
    table = found(*EXCHANGE, *SERVER_CLOSES)
    assert named(table) == ["began-before-the-capture"] and table["how_many"][0] == 1


def test_each_rule_is_found_by_a_test_here():
    """Every name that a rule can give stands in a test of this folder."""
    text = "".join(file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("test_*.py"))
    for name in RULES:
        assert f'"{name}"' in text


FOUND = {"closers-patience": {"close-wait"}, "closers-race": {"no-reuse"}, "https-close": {"no-reuse"},
         "idle-close-quiet": {"close-wait"},
         "idle-close-visit": {"close-wait"},
         **{f"timers-{seconds}": {"close-wait"} for seconds in (5, 10, 60)}}


def may_be_found(name):
    """What depends on the moment: Chromium does not answer a FIN while it is idle, in recordings of pages too (notebook
    06); and over TLS the client's close_notify may come before or after the server has closed.
    """
    found = {"close-wait"} if name.endswith("-chromium") else set()
    return found | ({"tls-closed-before-close-notify"} if name.startswith(("https-", "h2-", "resumption")) else set())


@pytest.mark.parametrize("name", names())
def test_matrix(name):
    """In which recordings of the course something is found, and where every rule is silent."""
    experiment = load(name)
    findings = set(named(diagnose(experiment)))
    expected = set(experiment.about.get("findings", FOUND.get(name, ())))
    assert findings - may_be_found(name) == expected


@pytest.mark.parametrize("rule", RULES)
def test_each_finding_was_recorded(rule):
    """A recording of a real program has it; but no recording of the course began late or missed a frame."""
    if rule == "tls-closed-before-close-notify":
        assert rule in named(diagnose(load("https-7-images-firefox")))
    elif rule not in FILE_RULES and rule not in ("fin-unanswered", "port-range-nearly-taken"):
        assert any(rule in load(name).about.get("findings", ()) for name in names())
