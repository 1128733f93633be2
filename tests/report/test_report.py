"""The report: its numbers against counts by hand, its page against hostile text, one line for a bad file."""

import base64
import gzip
import re
import struct
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import rdpcap, wrpcap
from toys import EXCHANGE, HANDSHAKE, SERVER_CLOSES, segment, toy

from helpers import report
from helpers.captures import merge_captures
from helpers.report import (
    Incident,
    by_server,
    facts,
    findings,
    forgotten,
    left_behind,
    outcome,
    page,
    peaks,
    remarkable,
    reuse,
    summary,
    visible,
)

HOSTILE = b"/<script>alert(1)</script>\"'>&$\\frac{1}{0}$\x1b[31m\xc2\x9b\x00" + b"x" * 300
RLO = "\u202e"
VOID = {"meta", "img", "br"}
UNUSED, THIRD, FOURTH = (("10.0.0.1", port) for port in (50001, 50002, 50003))


def of(client, *parts):
    return [segment(who, at, flags, seq, ack, client=client) for who, at, flags, seq, ack in parts]


OPENED = (("C", 0.01, "S", 0, 0), ("S", 0.11, "SA", 0, 1), ("C", 0.21, "A", 1, 1))


def scene(path):
    """Four connections of one server, known by hand, a fifth from its middle on, and a frame without TCP.

    50000: a request, closed by the server. 50001: no data, closed by the client. 50002: reset by the client.
    50003: the server's FIN at 3 s is acknowledged, never answered. 10.0.0.9: an ACK without a SYN,
    between ports that tell nothing.
    """
    parts = [segment(*part) for part in HANDSHAKE + EXCHANGE + SERVER_CLOSES]
    parts += of(UNUSED, *OPENED, ("C", 5.0, "A", 0, 1), ("S", 5.1, "A", 1, 1),
                ("C", 10.0, "FA", 1, 1), ("S", 10.1, "FA", 1, 2), ("C", 10.2, "A", 2, 2))
    parts += of(THIRD, *OPENED, ("C", 2.0, "RA", 1, 1))
    parts += of(FOURTH, *OPENED, ("S", 3.0, "FA", 1, 1), ("C", 3.1, "A", 1, 2))
    parts += [segment("C", 4.0, "A", 9, 9, client=("10.0.0.9", 40000), server=("10.0.0.2", 41000))]
    other = Ether() / IP(src="10.0.0.1", dst="10.0.0.2") / UDP()
    other.time = 20.0
    return toy(path, *sorted(parts, key=lambda part: part.time), other)


@pytest.fixture(scope="module")
def incident(tmp_path_factory):
    return Incident(scene(tmp_path_factory.mktemp("scene") / "scene.pcap"))


@pytest.fixture(scope="module")
def written(incident):
    return page(incident)


class Page(HTMLParser):
    """A page taken apart; complains where a tag is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


# The tables

def test_by_server_counts_as_by_hand(incident):
    table = by_server(incident)
    assert list(table.index) == ["10.0.0.2:80", "cannot tell"]
    assert table.loc["10.0.0.2:80"].to_dict() == {
        "connections": 4, "fin": 2, "reset": 1, "refused": 0, "unanswered": 0, "open": 1, "cannot_tell": 0,
        "first_client": 1, "first_server": 2, "first_both": 0, "first_cannot_tell": 1,
        "time_wait_client": 1, "time_wait_server": 1, "time_wait_both": 0, "time_wait_none": 1,
        "time_wait_cannot_tell": 1, "keepalive_probes": 1, "requests": 1, "asked": 1,
        "no_data": 3, "unread": 0}
    middle = table.loc["cannot tell"]
    assert outcome(middle)["no request"] == "cannot tell 1"
    assert middle[["no_data", "unread"]].sum() == 0
    assert (middle["connections"], middle["first_cannot_tell"], middle["time_wait_cannot_tell"]) == (1, 1, 1)


def test_what_was_read_is_told(incident):
    told = facts(incident)
    assert told["frames"] == str(incident.capture.frames)
    assert told["TCP segments"] == str(incident.capture.frames - 1)
    assert (told["skipped"], told["cut"]) == ("1 UDP", "no")
    assert told["begins"] == "1970-01-01 00:00:00.000000 UTC" and told["lasts"] == "20.000 s (0:00:20)"


@pytest.mark.parametrize("name", ["long-7-images-firefox", "https-7-images-firefox", "h3-7-images-firefox", "clinic-refused"])
def test_the_summary_fits_into_80_columns(data, name):
    text = summary(Incident(merge_captures([data / name / "capture.pcapng"])))
    wide = [line for line in text.splitlines() if len(line) > 80]
    assert all(len(line.split()) <= 2 and str(data) in line for line in wide)       # a path stays whole


def test_half_closed_ends_at_the_end_of_the_capture(incident):
    rows = left_behind(incident).set_index("state")
    assert rows["host"].to_dict() == {"CLOSE_WAIT": "client", "FIN_WAIT_2": "server"}
    assert rows["address"].to_dict() == {"CLOSE_WAIT": "10.0.0.1", "FIN_WAIT_2": "10.0.0.2"}
    assert list(rows["sockets"]) == [1, 1]
    assert rows["longest"].astype(float).tolist() == pytest.approx([17.0, 16.9], abs=0.11)
    assert not len(forgotten(incident))


def test_peaks_of_time_wait_by_address(incident):
    rows = peaks(incident).set_index("address")
    assert rows["host"].to_dict() == {"10.0.0.1": "client", "10.0.0.2": "server"}
    assert list(rows["peak"]) == [1, 1]
    assert rows["time"]["10.0.0.2"] == pytest.approx(1.5) and rows["time"]["10.0.0.1"] == pytest.approx(10.1)


def test_each_connection_has_the_kind_most_worth_a_look(incident):
    ports = incident.connections["client"].str.rpartition(":")[2]
    kinds = remarkable(incident)
    kinds = {ports[stream]: kinds[stream] for stream in ports.dropna().index}
    assert kinds == {"50000": "closed", "50001": "no data", "50002": "reset", "50003": "waiting"}
    assert sorted(remarkable(incident).index) == list(incident.connections.index)


def test_endpoints_used_again(tmp_path):
    again = [segment(who, at + 3.6, flags, seq, ack, isn={"C": 90000, "S": 70000})
             for who, at, flags, seq, ack in (("C", 0.0, "S", 0, 0), ("S", 0.1, "SA", 0, 1))]
    table = reuse(Incident(toy(tmp_path / "x.pcap", *HANDSHAKE, *EXCHANGE, *SERVER_CLOSES, *again)))
    assert table.drop(columns="soonest").to_dict("records") == [
        {"one": "10.0.0.1:50000", "other": "10.0.0.2:80", "connections": 2}]
    assert float(table["soonest"][0]) == pytest.approx(2.0)


def test_a_forgotten_end_is_found_in_the_recording(data):
    incident = Incident(merge_captures([data / "idle-close-quiet" / "capture.pcapng"]))
    assert list(forgotten(incident)) == list(incident.connections.index)
    assert set(remarkable(incident)) == {"forgotten"}


def test_the_recording_of_seven_images(data):
    text = summary(Incident(merge_captures([data / "long-7-images-replay" / "capture.pcapng"])))
    for line in ("frames        377", "Server 10.77.0.2:80", "connections       6", "ended by          fin 6",
                 "closed first by   server 6", "TIME_WAIT at      server 6",
                 "requests          8 on 6 connections, 1.3 each",
                 "Most in TIME_WAIT at 10.77.0.2 (server): 6"):
        assert line in text


@pytest.mark.parametrize("zipped", [False, True])
def test_a_ring_buffer_reads_as_the_one_file_it_was(tmp_path, data, zipped):
    whole = scene(tmp_path / "whole.pcap")
    frames, ring = rdpcap(str(tmp_path / "whole.pcap")), [tmp_path / f"{part}.pcap" for part in "bca"]
    for number, file in enumerate(ring):
        wrpcap(str(file), frames[number * 9:(number + 1) * 9 if number < 2 else None])
        if zipped:
            file.write_bytes(gzip.compress(file.read_bytes()))
    merged = merge_captures(sorted(ring))
    assert merged.segments.astype(str).equals(whole.segments.astype(str))
    for name in ("frames", "skipped", "start", "end", "cut"):
        assert getattr(merged, name) == getattr(whole, name)
    assert all(merged.payload(frame) == whole.payload(frame) for frame in whole.segments.index)


def test_a_cut_file_of_a_ring_says_which(tmp_path):
    scene(tmp_path / "a.pcap")
    (tmp_path / "b.pcap").write_bytes((tmp_path / "a.pcap").read_bytes()[:-3])
    capture = merge_captures([tmp_path / "a.pcap", tmp_path / "b.pcap"])
    assert "b.pcap: byte" in capture.cut and "cut short" in facts(Incident(capture))["cut"]


# The page

@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    request = b"GET " + HOSTILE + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    asked = ("C", 0.3, "PA", 1, 1, request)
    incident = Incident(toy(folder / f"<b>{RLO}$x$.pcap", *HANDSHAKE, asked, *EXCHANGE[1:]))
    assert len(incident.exchanges) == 1
    return incident, page(incident)


def test_the_page_is_sound_and_needs_nothing_but_itself(written):
    parsed = Page(written)
    for _, attrs in parsed.tags:
        assert not {"href", "srcset", "style", "onload", "onerror"} & set(attrs)
    images = parsed.all("img")
    assert len(images) == len(parsed.all("figcaption")) == 4
    for image in images:
        assert image["src"].startswith("data:image/png;base64,") and len(image["alt"]) > 30
        assert base64.b64decode(image["src"].partition(",")[2]).startswith(b"\x89PNG")
    assert not re.search(r"https?:|url\(|@import|<script|<link|<iframe", written)
    assert len(parsed.all("caption")) == len(parsed.all("table")) >= 4
    assert all(attrs.get("scope") in ("col", "row") for attrs in parsed.all("th"))
    assert [name for name, _ in parsed.tags if re.fullmatch("h[1-6]", name)] == ["h1"] + ["h2"] * 6
    assert parsed.all("html") == [{"lang": "en"}]


def test_the_page_says_what_the_summary_says(incident, written):
    words = " ".join(Page(written).words)
    for text in (*facts(incident), *findings(incident)):
        assert text in words
    assert "10.0.0.9:40000 ?" in words


def test_hostile_text_stays_text(hostile):
    incident, text = hostile
    parsed = Page(text)
    assert not parsed.all("script") and not parsed.all("b")
    shown = [word for word in parsed.words if "alert(1)" in word]
    assert shown and all(r"$\frac{1}{0}$\x1b[31m" in word and "\"'>&" in word for word in shown)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text + summary(incident))
    assert r"<b>\u202e$x$.pcap" in " ".join(parsed.words)
    assert r"<b>\u202e$x$.pcap" in summary(incident)


def test_long_tables_are_cut_and_say_so(tmp_path):
    parts = [segment("C", number / 100, "S", 0, client=("10.0.0.1", 10000 + number)) for number in range(250)]
    incident = Incident(toy(tmp_path / "many.pcap", *parts))
    text = str(report.connections_table(incident))
    assert "The first 200 of 250 rows" in text
    assert text.count("10.0.0.2:80") == 200


def test_visible():
    assert visible(f"a\x1b[0m\x00{RLO}\u00a0é") == r"a\x1b[0m\x00\u202e\xa0é"
    assert visible("x" * 9, 5) == "xxxxx…"


# The command

def command(*arguments):
    return subprocess.run([sys.executable, "-W", "error", "-m", "helpers.report", *map(str, arguments)],
                          capture_output=True, cwd=Path(report.__file__).parents[2], encoding="utf-8")


def refused(capsys, *arguments):
    """The one line that says why the command refused."""
    assert report.main([*map(str, arguments)]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1 and "Traceback" not in shown.err
    assert ";" in shown.err, "what to do"
    return shown.err


def test_the_command_prints_and_writes(tmp_path):
    scene(tmp_path / "scene.pcap")
    begun = time.perf_counter()
    done = command(tmp_path / "scene.pcap", "--out", tmp_path / "report.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Server 10.0.0.2:80" in done.stdout and "cannot tell" in done.stdout
    Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "scene.pcap"]
    assert time.perf_counter() - begun < 60


def test_a_bad_file_gets_one_line_and_status_2(tmp_path, capsys):
    files = {"empty.pcap": b"", "text.txt": b"not packets\n", "cut.pcap": b"\xd4\xc3\xb2\xa1",
             "bad.pcap.gz": b"\x1f\x8b\x08zz", f"esc\x1b[31m{RLO}.pcap": b"?"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for name in (*files, "missing.pcap", "."):
        line = refused(capsys, tmp_path / name)
        assert visible(name) in line or name == "."
        assert "\x1b" not in line and RLO not in line
    scene(tmp_path / "good.pcap")
    assert "empty.pcap" in refused(capsys, tmp_path / "good.pcap", tmp_path / "empty.pcap")
    done = command(tmp_path / "empty.pcap")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def without_tcp(path):
    packet = Ether() / IP() / UDP()
    packet.time = 0
    wrpcap(str(path), [packet])


def test_nothing_that_is_no_report_is_overwritten(tmp_path, capsys):
    capture, notes, old = tmp_path / "scene.pcap", tmp_path / "notes.html", tmp_path / "old.html"
    scene(capture)
    before = capture.read_bytes()
    notes.write_text("my notes")
    old.write_text("<!doctype html><p>yesterday")
    (tmp_path / "link.html").symlink_to(capture)
    others = tmp_path / "none" / "x.html", f"{tmp_path}/a\0.html", "/dev/null"
    for out in (capture, tmp_path / "link.html", notes, tmp_path, *others):
        refused(capsys, capture, "--out", out)
    assert (capture.read_bytes(), notes.read_text()) == (before, "my notes")
    without_tcp(capture)
    assert report.main([str(capture), "--out", str(old)]) == 0
    assert "What became of" in old.read_text(encoding="utf-8")
    assert not list(tmp_path.glob(".*"))


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path, capsys, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")
    without_tcp(tmp_path / "scene.pcap")
    monkeypatch.setattr(Path, "write_text", full)
    assert "No space left" in refused(capsys, tmp_path / "scene.pcap", "--out", tmp_path / "x.html")
    assert [path.name for path in tmp_path.iterdir()] == ["scene.pcap"]


def test_a_capture_of_a_single_instant_warns_of_nothing(tmp_path):
    toy(tmp_path / "instant.pcap", HANDSHAKE[0])
    done = command(tmp_path / "instant.pcap", "--out", tmp_path / "instant.html")
    assert (done.returncode, done.stderr) == (0, "") and (tmp_path / "instant.html").exists()


def test_a_capture_without_tcp_says_so(tmp_path, capsys):
    without_tcp(tmp_path / "udp.pcap")
    assert report.main([str(tmp_path / "udp.pcap"), "--out", str(tmp_path / "udp.html")]) == 0
    assert "No TCP segments" in capsys.readouterr().out
    assert "No TCP segments" in " ".join(Page((tmp_path / "udp.html").read_text(encoding="utf-8")).words)


def test_importing_and_the_summary_are_light(tmp_path):
    scene(tmp_path / "scene.pcap")
    code = "import sys; from helpers import report; report.main(sys.argv[1:]); " \
        "sys.exit(bool({'matplotlib', 'IPython', 'scapy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code, tmp_path / "scene.pcap"], capture_output=True, check=True)


def test_five_thousand_connections(tmp_path, measured):
    parts = []
    for number in range(5000):
        client, start = (f"10.1.{number // 250}.{number % 250 + 1}", 40000), number / 100
        parts += [(who, start + at, flags, client) for who, at, flags, *_ in HANDSHAKE]
    frames, one = [], {flags: bytes(segment(*part)) for part in HANDSHAKE for flags in [part[2]]}
    for who, at, flags, client in parts:
        frame = bytearray(one[flags])
        where = 26 if who == "C" else 30
        frame[where:where + 4] = bytes(map(int, client[0].split(".")))
        header = struct.pack("<IIII", int(at), round(at % 1 * 1e6), len(frame), len(frame))
        frames.append(header + bytes(frame))
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    (tmp_path / "many.pcap").write_bytes(header + b"".join(sorted(frames)))
    begun = time.perf_counter()
    incident = Incident(merge_captures([tmp_path / "many.pcap"]))
    assert by_server(incident)["connections"].sum() == 5000 and "5,000" in summary(incident)
    assert "15 of 5,000 connections" in page(incident)
    seconds = time.perf_counter() - begun
    measured(f"report: summary and page of 5,000 connections in {seconds:.1f} s")
