"""Sequence numbers without wrap-around: worked out by hand on the circle of 2**32."""

import numpy as np
import pytest

from helpers.captures import ACK, RST, SYN
from helpers.flow.groups import NONE
from helpers.flow.numbers import count_from_initial

TOP = 2**32


def counted(*segments):
    """(began, seq, ack) of one connection's segments: (direction, flags, raw sequence number, raw acknowledgment)."""
    direction, flags, seq, ack = (np.array(column, np.int64) for column in zip(*segments))
    return [column.tolist() for column in count_from_initial(direction, flags, seq % TOP, ack % TOP, 2)]


@pytest.mark.parametrize("isn", [0, 1000, TOP - 1, TOP - 5, 2**31])
def test_numbers_count_from_the_syn(isn):
    opening = [(0, SYN, isn, 0), (1, SYN | ACK, 77, isn + 1), (0, ACK, isn + 1, 78)]
    began, seq, ack = counted(*opening, (0, ACK, isn + 11, 78))
    assert began == [True] * 4 and seq == [0, 0, 1, 11] and ack == [NONE, 1, 1, 1]


def test_the_answer_tells_the_number_of_a_syn_that_was_not_captured():
    began, seq, _ = counted((1, SYN | ACK, 77, 501), (0, ACK, 501, 78))
    assert began == [True, True] and seq == [0, 1]


def test_without_a_syn_numbers_count_from_the_first_one_seen():
    began, seq, ack = counted((0, ACK, 500, 80), (1, ACK, 90, 510), (0, ACK, 510, 90))
    assert began == [False] * 3 and seq == [0, 0, 10] and ack == [-10, 10, 0]


def test_a_reset_does_not_tell_where_numbers_begin():
    """A RST that answers a segment without an ACK has number 0."""
    _, seq, _ = counted((0, RST, 0, 0), (0, ACK, 500, 80), (0, ACK, 510, 80))
    assert seq[1:] == [0, 10]
    _, seq, _ = counted((0, RST, 9, 0), (0, RST, 12, 0))
    assert seq == [0, 3]


def test_numbers_go_round_as_often_as_they_like():
    step = 2**30 - 1
    rows = [(0, ACK, number * step, 1) for number in range(14)]
    assert counted(*rows)[1] == [number * step for number in range(14)]


def test_one_number_far_away_does_not_lead_the_others_astray():
    """An old duplicate is measured from the number before it, and the next one from that number too."""
    step = 2**30 - 1
    rows = [(0, ACK, number * step, 1) for number in range(6)]
    rows.insert(4, (0, ACK, 3 * step + 2**31 - 1, 1))
    seq = counted(*rows)[1]
    assert seq[:4] + seq[5:] == [number * step for number in range(6)] and seq[4] == 3 * step + 2**31 - 1
