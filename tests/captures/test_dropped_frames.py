"""Frames that the capturing system dropped: what the interface statistics of pcapng say, as in Wireshark."""

import re
import struct
import subprocess

import pytest
from capture_files import ETHERNET, TIMES, block, drops, interface, option, packet, pcap, read, section, statistics
from conftest import require

from helpers.captures import merge_captures, read_capture, read_pieces
from helpers.experiments import data_folder, names

FRAME = packet(ETHERNET[0], TIMES[0] // 1000)
TWO = section() + interface() + interface()
NOT_KNOWN = (1 << 64) - 1
CASES = {                       # file, dropped
    "nothing said": (TWO + FRAME, None),
    "statistics without drops": (TWO + statistics(option(4, struct.pack("<Q", 7))), None),
    "none": (TWO + drops(0) + FRAME, 0),
    "by the interface": (TWO + FRAME + drops(7), 7),
    "by the system": (TWO + FRAME + drops(None, 8), 8),
    "by both": (TWO + FRAME + drops(7, 8), 15),
    "by two interfaces": (TWO + drops(7) + FRAME + drops(1, number=1), 8),
    "the last counts": (TWO + drops(3) + drops(5, number=1) + FRAME + drops(10) + drops(20), 25),
    "more than 32 bits": (TWO + drops(5 << 40), 5 << 40),
    "not known": (TWO + drops(NOT_KNOWN), None),
    "one of them not known": (TWO + drops(NOT_KNOWN, 4) + drops(2, number=1), 6),
    "no such interface": (TWO + drops(7, number=2), None),
    "too short a block": (TWO + block(5, bytes(8)) + drops(1), 1),
    "too short a count": (TWO + statistics(option(5, bytes(4)) + option(7, struct.pack("<Q", 2))), 2),
    "the first of two counts": (TWO + statistics(option(5, struct.pack("<Q", 3)) + option(5, struct.pack("<Q", 4))), 3),
    "two sections": (TWO + drops(7) + section(">") + interface(">") + drops(4, order=">") + drops(6, order=">"), 13)}


@pytest.mark.parametrize("case", CASES)
def test_what_the_statistics_say(tmp_path, case):
    data, dropped = CASES[case]
    assert read(tmp_path, data).dropped == dropped


@pytest.mark.parametrize("order", "<>")
def test_byte_orders(tmp_path, order):
    data = section(order) + interface(order) + packet(ETHERNET[0], 0, order) + drops(7, 8, order)
    assert read(tmp_path, data).dropped == 15


@pytest.mark.parametrize("case", CASES)
def test_pieces_add_up(tmp_path, case):
    """Each piece says what it adds, wherever the file is cut into pieces."""
    data, dropped = CASES[case]
    (tmp_path / "capture").write_bytes(data + FRAME)
    for size in (1, 50, 100, 1000):
        said = [piece.dropped for piece in read_pieces(tmp_path / "capture", size) if piece.dropped is not None]
        assert (sum(said) if said else None) == dropped


def test_where_reading_stops_no_more_is_said(tmp_path):
    broken = packet(ETHERNET[0], 0, number=9)
    assert read(tmp_path, TWO + drops(1) + FRAME + broken + drops(5)).dropped == 1
    assert read(tmp_path, TWO + FRAME + broken + drops(5)).dropped is None
    assert read(tmp_path, (TWO + drops(1) + drops(5))[:-1]).dropped == 1


def test_merged(tmp_path):
    frame = TWO + FRAME
    files = {"one": frame + drops(3), "two": frame + drops(4), "silent": frame, "pcap": pcap(ETHERNET)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert merge_captures([tmp_path / "one", tmp_path / "two"]).dropped == 7
    assert merge_captures([tmp_path / "one", tmp_path / "silent", tmp_path / "pcap"]).dropped == 3
    assert merge_captures([tmp_path / "silent", tmp_path / "pcap"]).dropped is None
    assert read_capture(tmp_path / "pcap").dropped is None


def dropped_as_wireshark_says(path):
    """The sum of the last counts of each interface, from what tshark shows of the blocks themselves; one section."""
    command = ["tshark", "-r", path, "-X", "read_format:MIME Files Format", "-V"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    counts = {}
    for part in text.split("Block: Interface Statistics Block")[1:]:
        part = re.split(r"\n    Block: ", part)[0]
        found = re.findall(r"Option: Number of (?:Dropped Packets|Packets Dropped by OS) = (\d+)", part)
        if found:
            counts[re.search(r"Interface: (\d+)", part)[1]] = sum(map(int, found))
    return sum(counts.values()) if counts else None


@pytest.mark.parametrize("case", ["nothing said", "none", "by the interface", "by the system", "by both",
                                  "by two interfaces", "the last counts", "more than 32 bits"])
@pytest.mark.parametrize("order", "<>")
def test_as_wireshark(tmp_path, case, order):
    require("tshark")
    data, dropped = CASES[case]
    if order == ">":
        frame = packet(ETHERNET[0], 0, order)
        data = section(order) + interface(order) + interface(order) + frame + drops(dropped, None, order)
    path = tmp_path / "capture"
    path.write_bytes(data)
    assert read_capture(path).dropped == dropped_as_wireshark_says(path) == dropped


@pytest.mark.parametrize("name", names()[::6])
def test_recordings_as_wireshark(name):
    require("tshark")
    path = data_folder() / name / "capture.pcapng"
    assert read_capture(path).dropped == dropped_as_wireshark_says(path) is not None
