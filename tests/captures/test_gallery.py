"""Captures of every kind, whole and mistreated, against what Wireshark says of the same files."""

import random
import struct
import subprocess

import pandas as pd
import pytest
from capture_files import EPOCH, VARIANTS, block, interface, option, pcap_variant, section, small_sections
from conftest import require
from gallery import capture_of, capture_of_links, conversations, strange_frames
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from test_against_tshark import BETWEEN, NUMBERS, bits, requests_of, tshark
from test_against_tshark import requests as requests_of_tshark

from helpers.captures import read_capture

GALLERY = {
    "conversations": lambda: capture_of(conversations()),
    "strange frames": lambda: capture_of(strange_frames()),
    "links": capture_of_links}
TREATMENTS = {
    "nanosecond pcap": ["-F", "nsecpcap"],
    "pcap": ["-F", "pcap"],
    "modified pcap": ["-F", "modpcap"],
    "54 bytes": ["-s", "54"],
    "68 bytes": ["-s", "68"],
    "96 bytes": ["-s", "96"],
    "chopped": ["-C", "-3"],
    "shifted": ["-t", "-86400.5"],
    "no duplicates": ["-d"],
    "errors": ["-E", "0.02", "--seed", "11"]}


def edited(tmp_path, data, *options):
    """What editcap makes of a capture."""
    whole, path = tmp_path / "whole.pcapng", tmp_path / "edited"
    whole.write_bytes(data)
    subprocess.run(["editcap", *options, whole, path], check=True, capture_output=True)
    return path


@pytest.fixture
def many():
    """Frames of all conversations, and their times in ns."""
    frames = conversations()
    return frames, [EPOCH * 10**9 + 10**6 * number for number in range(len(frames))]


def epoch_of(path):
    """The time of the first frame, in seconds since 1970, as tshark says."""
    command = ["tshark", "-r", path, "-c", "1", "-T", "fields", "-e", "frame.time_epoch"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def assert_as_tshark(path, http=False):
    """Frames, streams, ports, numbers, flags and lengths are the same; with `http` the requests are too."""
    capture, whole = read_capture(path), tshark(path)
    assert capture.frames == len(whole)
    times = whole["frame.time_relative"].astype(float).set_axis(whole.index.astype(int))
    theirs = whole[whole["tcp.stream"] != ""].map(lambda text: text.split(BETWEEN)[0])
    theirs = theirs.set_axis(theirs.index.astype(int))
    ours = capture.segments.assign(bits=[bits(flags) for flags in capture.segments["flags"]])
    assert ours.index.tolist() == theirs.index.tolist()
    assert (ours["time"] - times[ours.index]).abs().max() < 1e-6
    for column, field in NUMBERS.items():
        said = theirs[field][theirs[field] != ""].map(lambda text: int(text, 0))
        said = said & 0x1FF if column == "bits" else said
        sound = said.index if column != "length" else said.index.intersection(theirs.index[theirs["tcp.flags"] != ""])
        own, other = ours[column].astype("int64")[sound], said[sound].astype("int64")
        pd.testing.assert_series_equal(own, other, check_names=False)
    assert not ours["bits"][theirs["tcp.flags"] == ""].any()
    if http:
        assert [row[:3] for row in requests_of(capture)] == [row[:3] for row in requests_of_tshark(whole)]
    return capture


@pytest.mark.parametrize("name", GALLERY)
def test_gallery(tmp_path, name):
    require("tshark")
    path = tmp_path / "whole.pcapng"
    path.write_bytes(GALLERY[name]())
    capture = assert_as_tshark(path, http=name == "conversations")
    assert len(capture.segments) >= 5


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("magic, version", VARIANTS)
def test_variants_of_pcap(tmp_path, many, magic, version, order):
    require("tshark")
    (tmp_path / "variant").write_bytes(pcap_variant(many[0], magic, version, order, many[1]))
    assert_as_tshark(tmp_path / "variant")


@pytest.mark.parametrize("orders", ["<", "<>"])
def test_small_sections(tmp_path, many, orders):
    require("tshark")
    (tmp_path / "sections").write_bytes(small_sections(*many, orders))
    assert_as_tshark(tmp_path / "sections")


def test_clocks_and_lengths_that_contradict_themselves(tmp_path):
    """An interface's clock given twice; a length on the wire below what was captured."""
    require("tshark")
    options = option(9, b"\x09") + option(9, b"\x03") + option(14, struct.pack("<q", 3600)) + option(14, bytes(8))
    data = section() + interface(options=options)
    for number, frame in enumerate(conversations()):
        data += block(6, struct.pack("<5I", 0, number, number, len(frame), number) + frame)
    (tmp_path / "odd").write_bytes(data)
    capture = assert_as_tshark(tmp_path / "odd")
    assert capture.start == pd.Timestamp(float(epoch_of(tmp_path / "odd")), unit="s", tz="UTC")


def test_streams_of_headers_too_short(tmp_path):
    """SYNs, answers and others between fifty pairs of sockets, one header in four below 20 bytes."""
    require("tshark")
    chance, frames = random.Random(5), []
    for _ in range(1500):
        ends = [f"10.0.{chance.randrange(50)}.1", "10.0.0.2"]
        src, dst = ends if chance.random() < 0.5 else ends[::-1]
        ports = (1000, 80) if src != "10.0.0.2" else (80, 1000)
        tcp = TCP(sport=ports[0], dport=ports[1], flags=chance.choice(["S", "S", "SA", "A", "FA", "R", "SF", ""]),
                  seq=chance.choice([0, 1, 100, 101]), ack=chance.choice([0, 1, 2, 101]),
                  dataofs=chance.choice([5] * 9 + [0, 3, 4]))
        frames.append(bytes(Ether(dst="00:00:00:00:00:02") / IP(src=src, dst=dst) / tcp))
    (tmp_path / "short").write_bytes(capture_of(frames))
    assert_as_tshark(tmp_path / "short")


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_mistreated(tmp_path, treatment):
    require("tshark", "editcap")
    frames = [*conversations(), *strange_frames()]
    capture = assert_as_tshark(edited(tmp_path, capture_of(frames), *TREATMENTS[treatment]))
    assert len(capture.segments) > len(frames) / 2


def test_all_links_in_one_file_and_out_of_order(tmp_path):
    require("tshark", "mergecap", "reordercap")
    for name, make in GALLERY.items():
        (tmp_path / name).write_bytes(make())
    subprocess.run(["mergecap", "-a", "-w", tmp_path / "all", *[tmp_path / name for name in GALLERY]], check=True)
    capture = assert_as_tshark(tmp_path / "all")
    assert (capture.segments["time"].diff() < 0).any()
    subprocess.run(["reordercap", tmp_path / "all", tmp_path / "ordered"], check=True, capture_output=True)
    assert_as_tshark(tmp_path / "ordered")


@pytest.mark.parametrize("size", [0.3, 0.7])
def test_cut_anywhere(tmp_path, size):
    """All whole frames are there, and no more."""
    require("tshark")
    whole = capture_of(conversations())
    (tmp_path / "cut").write_bytes(whole[:int(len(whole) * size) // 4 * 4 + 2])
    assert assert_as_tshark(tmp_path / "cut").cut
