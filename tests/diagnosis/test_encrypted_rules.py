"""HTTP/2 and TLS: toys in clear HTTP/2 (h2c), and a conversation over TLS that OpenSSL held in memory."""

import struct

import pytest
from fuzz import ACK, FIN, frame
from protocols.test_http2 import WHOLE, ask
from protocols.test_http2 import frame as http2_frame
from tls_talks import CLOSE_NOTIFY, talk

from helpers.captures import merge_captures, read_capture
from helpers.diagnosis import diagnose
from helpers.experiments import data_folder
from helpers.protocols.http2 import END_HEADERS, GOAWAY, HEADERS, PREFACE, SETTINGS
from tests.diagnosis.judged import GET, named, tables_of
from tests.toys import HANDSHAKE, segment

OK = b"\x88"
BEGIN = PREFACE + http2_frame(SETTINGS, 0, 0)


class Conversation:
    """Frames of one connection of HTTP/2, each with the numbers that TCP gives it."""

    def __init__(self, client=("10.0.0.1", 50000), at=0.0):
        self._client, self._at, self.next, self.frames = client, at, {"C": 1, "S": 1}, []
        for who, time, *rest in HANDSHAKE:
            self.frames.append(segment(who, at + time, *rest, client=client))

    def say(self, who, time, data, again=0.0):
        """`again`: not new, but the last data of this end once more, so many seconds later."""
        other, seq = "CS"[who == "C"], self.next[who]
        for late in (0.0, *again) if again else (0.0,):
            self.frames.append(segment(who, self._at + time + late, "PA", seq, self.next[other], data, client=self._client))
        self.next[who] += len(data)
        return self


def answer(number):
    return http2_frame(HEADERS, END_HEADERS | WHOLE, number, OK)


def goaway(last):
    return http2_frame(GOAWAY, 0, 0, struct.pack(">II", last, 0))


def crossed():
    """Four requests; the server answers two and says GOAWAY with the second's number, when the others are on the way."""
    said = Conversation().say("C", 0.3, BEGIN + ask(1) + ask(3)).say("C", 0.5, ask(5) + ask(7))
    return said.say("S", 0.51, http2_frame(SETTINGS, 0, 0) + answer(1) + answer(3) + goaway(3))


def test_goaway_race(found):
    table = found(*crossed().frames)
    assert named(table) == ["goaway-race"] and table["how_many"][0] == 2
    again = Conversation(("10.0.0.1", 50001), 1.0).say("C", 0.3, BEGIN + ask(1) + ask(3))
    again.say("S", 0.4, http2_frame(SETTINGS, 0, 0) + answer(1) + answer(3))
    assert not len(found(*crossed().frames, *again.frames))             # the client asked them again
    all_seen = Conversation().say("C", 0.3, BEGIN + ask(1)).say("S", 0.4, http2_frame(SETTINGS, 0, 0) + answer(1)
                                                                + goaway(1))
    assert not len(found(*all_seen.frames))


REPEATS = (0.2, 0.6, 1.4)


def dead(requests):
    said = Conversation().say("C", 0.3, BEGIN + ask(1)).say("S", 0.4, http2_frame(SETTINGS, 0, 0) + answer(1))
    return said.say("C", 9.0, b"".join(ask(3 + 2 * number) for number in range(requests)), again=REPEATS)


def test_one_dead_connection(found):
    table = found(*dead(3).frames)
    assert named(table) == ["one-dead-connection", "path-silent"] and table["how_many"][0] == 3
    assert named(found(*dead(1).frames)) == ["path-silent"]             # one request, as HTTP/1.1 would have it
    went_on = dead(3).say("S", 11.0, answer(3) + answer(5) + answer(7))
    assert not len(found(*went_on.frames, wait=5.0))                    # late, but they were answered


@pytest.mark.parametrize(("head", "ends", "expected"), [
    (b"HTTP/1.1 200 OK\r\n\r\n", False, ["tls-answer-cut"]),
    (b"HTTP/1.1 200 OK\r\n\r\n", True, []),                             # close_notify
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", False, [])])      # the answer tells its own end
def test_tls_answer_cut(tmp_path, head, ends, expected):
    turns = [("C", GET), ("S", head + b"hello"), *[("S", CLOSE_NOTIFY)] * ends]
    said = talk(tmp_path, turns)
    sizes = {who: 1 + sum(len(data) for sender, data in said.said if sender == who) for who in "CS"}
    mine, theirs = sizes["C"], sizes["S"]
    frames = [*said.frames()[:-1], frame("S", FIN | ACK, theirs, mine), frame("C", FIN | ACK, mine, theirs + 1),
              frame("S", ACK, theirs + 1, mine + 1)]
    path, keys = said.write(tmp_path, frames)
    assert named(diagnose(tables_of(merge_captures([path], keys=keys)))) == expected
    assert named(diagnose(tables_of(merge_captures([path])))) == []     # without the secrets


@pytest.mark.parametrize(("name", "found"), [("clinic-tls-close-cured", 0), ("clinic-tls-close", 4)])
def test_whether_an_answer_is_cut_is_not_told_where_the_server_was_not_captured_whole(tmp_path, name, found):
    """Of five connections one lacks the server's last segment of data, which may have held its close_notify."""
    path, other = data_folder() / name / "capture.pcapng", tmp_path / "other.pcapng"
    segments = read_capture(path).segments
    missing = segments.query("stream == 0 and host == 'server' and length > 0").index[-1]
    other.write_bytes(without_frame(path.read_bytes(), missing))
    assert len(read_capture(other).segments) == len(segments) - 1
    table = diagnose(tables_of(read_capture(other)))
    assert table.query("finding == 'tls-answer-cut'")["how_many"].sum() == found


def without_frame(data, number):
    """A little-endian pcapng without its packet of this number: the first is 1."""
    kept, at, count = b"", 0, 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        count += kind == 6
        kept += b"" if kind == 6 and count == number else data[at:at + size]
        at += size
    return kept
