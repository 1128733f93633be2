"""The first, the last, the highest of each group: by hand, and against pandas."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.flow.groups import (
    NO_LIMIT,
    NONE,
    first_row,
    first_value,
    highest,
    last_row,
    lowest,
    of_peer,
    running_highest,
    values_at,
)

GROUP = np.array([0, 2, 0, 2, 3])
VALUES = np.array([7, 1, 5, 9, 4])
ODD = np.array([True, True, True, False, False])


def test_first_and_last_row():
    assert first_row(GROUP, np.ones(5, bool), 4).tolist() == [0, -1, 1, 4]
    assert last_row(GROUP, np.ones(5, bool), 4).tolist() == [2, -1, 3, 4]
    assert last_row(GROUP, ODD, 4).tolist() == last_row(GROUP, np.array([0, 1, 2]), 4).tolist() == [2, -1, 1, -1]


def test_values_of_groups():
    everything = np.ones(5, bool)
    assert first_value(VALUES, GROUP, everything, 4).tolist() == [7, NONE, 1, 4]
    assert lowest(VALUES, GROUP, everything, 4).tolist() == [5, NO_LIMIT, 1, 4]
    assert highest(VALUES, GROUP, ODD, 4).tolist() == [7, NONE, 1, NONE]
    assert values_at(VALUES, np.array([4, -1]), 0).tolist() == [4, 0]
    assert np.isnan(values_at(VALUES[:0], np.array([-1]))).all()


def test_of_peer():
    assert of_peer(np.array([1, 2, 3, 4])).tolist() == [2, 1, 4, 3]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([NONE, 0, 5, -7, 2**33, -2**61, 2**61])), max_size=12))
def test_running_highest(drawn):
    """However far the numbers are apart, each group begins anew; NONE counts for nothing."""
    drawn = sorted(drawn, key=lambda one: one[0])
    group, values = (np.array([one[place] for one in drawn], np.int64) for place in range(2))
    expected = pd.Series(values).groupby(group).cummax().tolist() if drawn else []
    assert running_highest(values, group).tolist() == expected
