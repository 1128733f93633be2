"""Whatever the bytes: every frame is a segment or counted, and nothing but a `CaptureError` leaves the reader."""

import gzip
import random
import warnings

import numpy as np
import pytest
from capture_files import ETHERNET, interface, packet, pcap, pcapng, section
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.utils import rdpcap, wrpcap
from wrapped_frames import IP4, IP6

from helpers.captures import Capture, CaptureError, layers, read_capture, records
from helpers.captures import pcap as pcap_module
from helpers.captures import pcapng as pcapng_module
from helpers.connections import connections
from helpers.exchanges import exchanges
from helpers.states import states


def all_tables(capture):
    return segments_are_accounted_for(capture), connections(capture), exchanges(capture), states(capture)


def segments_are_accounted_for(capture):
    assert len(capture.segments) + sum(capture.skipped.values()) == capture.frames
    assert capture.segments["stream"].isna().sum() == 0 and capture.segments["length"].ge(0).all()
    for frame in capture.segments.index:
        assert len(capture.payload(frame)) <= capture.segments.at[frame, "length"]


def reads_or_refuses(path, data):
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            capture = read_capture(path)
        except CaptureError as error:
            assert str(path) in str(error)
            return
        assert isinstance(capture, Capture)
        all_tables(capture)


bounded = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@bounded
@given(st.binary(max_size=400), st.sampled_from([
    b"", pcap([])[:24], pcap([], order=">"), section() + interface(), section(">")]))
def test_any_bytes(tmp_path, rubbish, start):
    reads_or_refuses(tmp_path / "toy", start + rubbish)


@bounded
@given(st.data(), st.sampled_from([
    pcap(ETHERNET), pcap(ETHERNET, order=">", unit=1), pcapng(), pcapng(">"), gzip.compress(pcap(ETHERNET), mtime=0)]))
def test_damaged_captures(tmp_path, data, whole):
    damaged = bytearray(whole)
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=25)):
        damaged[at] = value
    reads_or_refuses(tmp_path / "toy", bytes(damaged))


def overwritten(drawn):
    """A packet with some of its bytes replaced."""
    whole, other, at = drawn
    return whole[:at] + other + whole[at + len(other):]


SOME_LINKS = st.sampled_from([0, 1, 6, 12, 101, 108, 113, 147, 204, 228, 239, 276])
SOME_FRAMES = st.one_of(st.binary(max_size=60), st.tuples(
    st.sampled_from([IP4, IP6, ETHERNET[3]]), st.binary(max_size=30), st.integers(0, 70)).map(overwritten))


@bounded
@given(st.lists(st.tuples(SOME_LINKS, SOME_FRAMES, st.integers(0, 2**32 - 1)), max_size=8))
def test_any_frames(tmp_path, frames):
    """Whatever a frame holds and whatever length it claims, it is a segment or counted."""
    links = sorted({link for link, _, _ in frames})
    data = section() + b"".join(interface(link=link) for link in links)
    data += b"".join(packet(frame, number, number=links.index(link), length=length)
                     for number, (link, frame, length) in enumerate(frames))
    reads_or_refuses(tmp_path / "toy", data)
    assert read_capture(tmp_path / "toy").frames == len(frames)


@pytest.mark.parametrize("name", ["long-7-images-firefox", "short-7-images-replay"])
@pytest.mark.parametrize("form", ["pcapng", "pcap"])
def test_guesses_and_chunks_change_nothing(tmp_path, data, monkeypatch, name, form):
    """Runs of records are guessed, and frames are decoded in chunks: neither may show, whatever is damaged."""
    path, chance = data / name / "capture.pcapng", random.Random(form + name)
    if form == "pcap":
        frames = rdpcap(str(path))
        path = tmp_path / "whole.pcap"
        wrpcap(str(path), frames)
    whole = path.read_bytes()
    for _ in range(8):
        damaged = bytearray(whole)
        for _ in range(chance.choice((0, 1, 20))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        (tmp_path / "damaged").write_bytes(damaged)
        usual = _outcome(tmp_path / "damaged")
        with monkeypatch.context() as changed:
            changed.setattr(records, "CHUNK", 7)
            for module in (pcap_module, pcapng_module):
                changed.setattr(module, "SLAB", 4096)
            assert _outcome(tmp_path / "damaged") == usual
            changed.setattr(layers, "PLAIN_LINK", None)
            assert _outcome(tmp_path / "damaged") == usual
            for module, guess in ((pcap_module, "_likely_records"), (pcapng_module, "_likely_packets")):
                changed.setattr(module, guess, lambda *_: (np.empty(0, np.int64), np.empty(0, np.int64)))
            assert _outcome(tmp_path / "damaged") == usual


def _outcome(path):
    try:
        capture = read_capture(path)
    except CaptureError as error:
        return str(error)
    return capture.segments.to_csv(), capture.frames, capture.skipped, capture.start, capture.end, capture.cut
