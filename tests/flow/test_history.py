"""What was known before each segment, worked out by hand; and which RSTs are accepted because of it."""

import numpy as np
import pandas as pd
import pytest
from toys import EXCHANGE, HANDSHAKE, SERVER_CLOSES, segment, toy

from helpers.connections import segment_flow
from helpers.flow import NONE, accepted_resets, flows, known_before

OPEN = [*HANDSHAKE, *EXCHANGE]


def accepted(path, *segments):
    """Whether the last of these segments is a RST that its receiver accepts."""
    flow = next(flows(toy(path / "toy.pcap", *segments)))
    return bool(accepted_resets(flow, known_before(flow))[-1])


def test_every_column(tmp_path):
    found = segment_flow(toy(tmp_path / "toy.pcap", *OPEN, *SERVER_CLOSES))
    assert found["seq"].tolist() == [0, 0, 1, 1, 1, 28, 44, 28, 28, 45]
    assert found["seq_end"].tolist() == [1, 1, 1, 28, 44, 28, 45, 28, 29, 45]
    assert found["ack"].tolist() == [NONE, 1, 1, 1, 28, 44, 28, 45, 45, 29]
    assert found["next"].tolist() == [NONE, NONE, 1, 1, 1, 28, 44, 28, 28, 45]
    assert found["acked"].tolist() == [NONE, NONE, 1, 1, 1, 28, 44, 28, 28, 45]
    assert found["fin_before"].tolist() == [False] * 9 + [True]
    assert "".join(found["end"].str[0]) == "csccscsccs"
    assert found["peer_window"].isna().tolist() == [True] + [False] * 9
    assert found["valid"].all() and found["began"].all()


def test_what_is_not_valid(tmp_path):
    """A RST, and numbers that the window doesn't hold or that are below the SYN's."""
    far, below = ("C", 0.6, "PA", 2**20, 1, b"old"), ("C", 0.6, "A", -20, 1)
    found = segment_flow(toy(tmp_path / "toy.pcap", *OPEN, far, below, ("C", 0.7, "R", 28)))
    assert found["valid"].tolist() == [True] * 6 + [False] * 3


def test_streams_are_apart(tmp_path):
    other = [segment(*row, client=("10.0.0.1", 50001)) for row in OPEN]
    mixed = [one for pair in zip(OPEN, other) for one in pair]
    found = segment_flow(toy(tmp_path / "toy.pcap", *mixed))
    one, two = (rows.drop(columns=["stream", "direction"]) for _, rows in found.groupby("stream"))
    pd.testing.assert_frame_equal(one.reset_index(drop=True), two.reset_index(drop=True))


@pytest.mark.parametrize("reset, counts", [
    (28, True), (27, False), (29, True), (28 + 60000, True), (28 + 70000, False)])
def test_a_reset_where_the_receiver_is_silent(tmp_path, reset, counts):
    """Further on in the window it may stand where data that were not captured ended."""
    assert accepted(tmp_path, *OPEN, ("C", 1.0, "R", reset)) == counts


@pytest.mark.parametrize("reset, counts", [(28, True), (29, False), (500, False)])
def test_a_reset_where_the_receiver_speaks_on(tmp_path, reset, counts):
    """Then it stands at the next number expected, or is challenged: not even one number above it counts."""
    segments = [*OPEN, ("C", 1.0, "R", reset), ("S", 1.1, "PA", 44, 28, b"more")]
    flow = next(flows(toy(tmp_path / "toy.pcap", *segments)))
    assert accepted_resets(flow, known_before(flow)).tolist() == [False] * 6 + [counts, False]


@pytest.mark.parametrize("reset, counts", [(29, True), (30, False)])
def test_a_reset_behind_a_fin(tmp_path, reset, counts):
    """Nothing comes after a FIN, so nothing can have been missed there."""
    assert accepted(tmp_path, *OPEN, ("C", 1.0, "FA", 28, 44), ("C", 1.1, "R", reset)) == counts


def test_no_segments(tmp_path):
    nothing = next(flows(toy(tmp_path / "toy.pcap", *OPEN))).of_connections(np.zeros(1, bool))
    assert [len(column) for column in known_before(nothing)] == [0] * 4
