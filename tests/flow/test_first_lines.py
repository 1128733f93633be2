"""Request lines that are read for all connections at once say the same as those that are read one by one."""

import pandas as pd
import pytest
from toys import HANDSHAKE, toy

from helpers.captures import read_capture
from helpers.experiments import data_folder
from helpers.flow import first_bytes, protocols

CAPTURES = sorted(data_folder().glob("*/capture.pcapng"))
LINE = b"GET /a HTTP/1.1\r\n"


def one_by_one(monkeypatch, capture):
    monkeypatch.setattr(first_bytes, "_first_lines", lambda capture, flow: [])
    capture.derived.clear()
    return protocols(capture)


def counted(monkeypatch):
    """The numbers of connections that are read at once, as they come."""
    seen, at_once = [], first_bytes._first_lines

    def first_lines(*given):
        for connections, begins in at_once(*given):
            seen.append(len(connections))
            yield connections, begins

    monkeypatch.setattr(first_bytes, "_first_lines", first_lines)
    return seen


def test_every_recording(monkeypatch):
    seen, captures = counted(monkeypatch), [read_capture(path) for path in CAPTURES]
    found = [protocols(capture) for capture in captures]
    assert sum(seen) > 400
    for capture, table in zip(captures, found):
        pd.testing.assert_frame_equal(table, one_by_one(monkeypatch, capture), obj=capture.path)


@pytest.mark.parametrize(("payloads", "at_once", "protocol"), [
    ([LINE + b"Host: a\r\n\r\n"], 1, "http/1.1"), ([b"GET / HTTP/1.0\r\n"], 1, "http/1.0"),
    ([b"GET /%s HTTP/1.1\r\n" % (b"a" * 300)], 0, "http/1.1"), ([LINE[:5], LINE[5:]], 0, "http/1.1"),
    ([b"\r\n" + LINE], 0, "http/1.1"), ([b"HTTP/1.1 200 OK\r\n\r\n"], 0, "http/1.1"),
    ([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], 0, "h2c"), ([b"220 mail.example ready\r\n"], 0, None),
    ([b"GET /a HTTP/1.1"], 0, None), ([LINE[:15] + b" \n and more"], 1, "http/1.1")],
    ids=["a head", "the shortest", "a long target", "in two segments", "an empty line first", "an answer", "HTTP/2",
         "mail", "cut", "a bare LF"])
def test_what_a_client_may_send_first(tmp_path, monkeypatch, payloads, at_once, protocol):
    seq, rows, seen = 1, [], counted(monkeypatch)
    for place, data in enumerate(payloads):
        rows.append(("C", 0.3 + place, "PA", seq, 1, data))
        seq += len(data)
    more = [("S", 9.0 + place, "A", 1, seq) for place in range(3)]     # the file goes on for LINE bytes
    capture = toy(tmp_path / "toy.pcap", *HANDSHAKE, *rows, *more)
    table = protocols(capture)
    assert sum(seen) == at_once
    assert [None if pd.isna(one) else one for one in table["protocol"]] == [protocol]
    pd.testing.assert_frame_equal(table, one_by_one(monkeypatch, capture))


def test_a_segment_sent_again_with_other_bytes(tmp_path, monkeypatch):
    """The first one counts, as it does where the bytes are put in order."""
    rows = [("C", 0.3, "PA", 1, 1, LINE), ("C", 0.9, "PA", 1, 1, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00" + LINE)]
    capture = toy(tmp_path / "toy.pcap", *HANDSHAKE, *rows)
    table = protocols(capture)
    assert table.loc[0, "protocol"] == "http/1.1"
    pd.testing.assert_frame_equal(table, one_by_one(monkeypatch, capture))


def test_a_line_in_the_last_bytes_of_the_file(tmp_path, monkeypatch):
    seen = counted(monkeypatch)
    assert protocols(toy(tmp_path / "toy.pcap", *HANDSHAKE, ("C", 0.3, "PA", 1, 1, LINE)))["protocol"][0] == "http/1.1"
    assert not seen
