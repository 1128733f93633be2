"""Frames that the capture missed, as a pcapng file's Interface Statistics Blocks count them: read, said, and heeded."""

import struct

import pytest
from fuzz import HANDSHAKE, block, pcap, pcapng

from helpers.captures import merge_captures, read_capture
from helpers.report import Incident, facts, summary


def statistics(interface, order="<", **drops):
    """A block that says of an `interface` what it dropped: `ifdrop`, `osdrop`."""
    codes = {"ifrecv": 4, "ifdrop": 5, "osdrop": 7}
    options = b"".join(struct.pack(order + "HHQ", codes[name], 8, number) for name, number in drops.items())
    return block(5, struct.pack(order + "III", interface, 0, 0) + options + bytes(4), order)


@pytest.mark.parametrize("order", "<>")
def test_dropped_frames(tmp_path, order):
    """The last statistics of each interface count, both kinds of drops; an interface that the file does not describe counts for nothing."""
    whole = pcapng(HANDSHAKE, order=order)
    for blocks, dropped in (([], None), ([statistics(0, order, ifrecv=9)], None), ([statistics(0, order, ifdrop=0)], 0),
                            ([statistics(0, order, ifdrop=2, osdrop=3)], 5),
                            ([statistics(0, order, ifdrop=2), statistics(0, order, ifdrop=7), statistics(1, order, osdrop=1)], 7)):
        (tmp_path / "file").write_bytes(whole + b"".join(blocks))
        assert read_capture(tmp_path / "file").dropped == dropped
    (tmp_path / "other").write_bytes(pcap(HANDSHAKE))
    assert read_capture(tmp_path / "other").dropped is None
    assert merge_captures([tmp_path / "file", tmp_path / "other"]).dropped == 7


def test_the_recordings_dropped_none(data):
    """The testbed keeps no recording of which dumpcap lost a frame; dumpcap writes its count into the file."""
    found = {path.parent.name: read_capture(path).dropped for path in sorted(data.glob("*/capture*.pcapng"))}
    assert set(found.values()) <= {0, None} and 0 in found.values()


def test_the_report_says_so(tmp_path):
    for drops, said in (({}, "the file does not say"), ({"ifdrop": 0}, "none"), ({"osdrop": 1200}, "1,200 frames: what is missing may")):
        (tmp_path / "file").write_bytes(pcapng(HANDSHAKE) + statistics(0, **drops))
        incident = Incident(read_capture(tmp_path / "file"))
        assert facts(incident)["dropped"].startswith(said)
        assert said in summary(incident).partition("\nServer")[0]


def test_an_end_that_may_have_been_dropped_is_counted_as_unknown(tmp_path):
    """A handshake and no end: open where every frame was kept, and no more than unknown where some were dropped."""
    for drops, said in ((0, "ended by          open 1"), (3, "ended by          cannot tell 1")):
        (tmp_path / "file").write_bytes(pcapng(HANDSHAKE) + statistics(0, ifdrop=drops))
        assert said in summary(Incident(read_capture(tmp_path / "file")))
