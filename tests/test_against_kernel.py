"""The states read from packets against what the kernel said: every stay that `ss` saw, and the other way round."""

import numpy as np
import pandas as pd
import pytest

from helpers.connections import HOSTS
from helpers.states import TIME_WAIT

KEY = ["host", "local", "peer", "state"]
CLOCKS = 0.005
TIMER_SLACK = 2.0


def compare(experiment):
    """(stays of the packets that could be sampled, with `seen`; stays too short; stays that only `ss` saw).

    Of hosts that are witnesses: whose packets are all the kernel's own, captured where and as it saw them.
    """
    sampling = experiment.about["sampling"]
    gap = max(sampling[host]["longest_gap"] for host in HOSTS) + CLOCKS
    witnesses = experiment.about.get("witnesses", HOSTS)
    stays, sockets = (table[table["host"].isin(witnesses)].copy() for table in (experiment.states, experiment.sockets))
    stays[["since", "until"]] = stays[["since", "until"]].astype(float)
    stays["short"] = stays["until"] - stays["since"] < gap
    pairs = stays.reset_index().merge(sockets.reset_index(names="sample"), on=KEY)
    timers = {"TIME_WAIT": TIME_WAIT, "FIN_WAIT_2": experiment.fin_timeout}
    pairs = pairs[[agrees(pair, gap, timers) for pair in pairs.itertuples()]]
    stays["seen"] = stays.index.isin(pairs["index"])
    alone = sockets[~sockets.index.isin(pairs["sample"])]
    merged = in_one(stays[~stays["seen"]].reset_index(), alone.reset_index(names="sample"), gap, timers)
    stays["seen"] |= stays.index.isin(merged["index"]) | stays.index.isin(merged["index_next"])
    alone = alone[~alone.index.isin(merged["sample"])]
    return stays[~stays["short"] | stays["seen"]], stays[stays["short"] & ~stays["seen"]], alone


def in_one(stays, samples, gap, timers):
    """Two TIME_WAITs of the same ends in a row, which `ss` saw as one: the port was taken again between two looks."""
    two = stays[stays["state"] == "TIME_WAIT"].merge(stays, on=KEY, suffixes=("", "_next"))
    pause = two["since_next"] - two["until"]
    two = two[(pause > 0) & (pause <= TIMER_SLACK + gap)].assign(until=two["until_next"])
    two = two.merge(samples, on=KEY)
    return two[np.array([agrees(pair, gap, timers) for pair in two.itertuples()], bool)]


def agrees(pair, gap, timers):
    """Whether a stay of the packets and one of the kernel have the same ends, as far as sampling can tell."""
    timed = pair.until - pair.since > timers.get(pair.state, np.inf) - CLOCKS
    latest = pair.until + (TIMER_SLACK if timed else 0)
    begins = -CLOCKS <= pair.first_seen - pair.since <= gap
    ends = pair.last_seen <= latest + CLOCKS and pair.until - pair.last_seen <= gap
    return begins and (ends or np.isnan(pair.until))


@pytest.fixture
def sampled_one(experiment):
    """The experiment, where the packets show what the ends did, and a socket lived long enough to be sampled."""
    if not experiment.about.get("witnesses", HOSTS):
        pytest.skip("the packets do not show what the ends did")
    if experiment.sockets.empty:
        stays = experiment.states
        gap = max(experiment.about["sampling"][host]["longest_gap"] for host in HOSTS)
        assert ((stays["until"] - stays["since"]).fillna(np.inf) < gap).all()
        pytest.skip("no socket lived long enough to be sampled")
    return experiment


def test_every_stay_is_the_kernels(sampled_one, measured):
    experiment = sampled_one
    sampled, short, alone = compare(experiment)
    missed = sampled[~sampled["seen"]]
    total, equal = len(sampled) + len(alone), int(sampled["seen"].sum())
    measured(f"kernel   {experiment.name:24} {equal} of {total} stays equal ({equal / total:.0%}), "
             f"{len(short)} too short to be sampled")
    assert total > 0
    assert missed.empty, f"the kernel did not see\n{missed.to_string()}"
    assert alone.empty, f"only the kernel saw\n{alone.to_string()}"


def test_the_comparison_bites(sampled_one):
    """A stay moved by one second, or taken away, is noticed."""
    experiment = sampled_one
    stays = compare(experiment)[0].query("not short")
    if stays.empty:
        pytest.skip("no stay lasted long enough to be moved")
    timed = stays[stays["state"].isin(["TIME_WAIT", "FIN_WAIT_2"])]
    row = (timed if len(timed) else stays).eval("until - since").idxmax()
    moved = experiment.states.copy()
    moved.loc[row, ["since", "until"]] = moved.loc[row, ["since", "until"]] - 1
    for altered in (moved, experiment.states.drop(index=row)):
        sampled, _, alone = compare(_With(experiment, altered))
        assert len(alone) == 1 and (sampled["seen"].all() == (altered is not moved))


class _With:
    """An experiment whose states are `states`."""

    def __init__(self, experiment, states):
        self.about, self.sockets, self.fin_timeout = experiment.about, experiment.sockets, experiment.fin_timeout
        self.states = states


def test_time_wait_lasts_sixty_seconds(sampled_one, measured):
    experiment = sampled_one
    waits = experiment.states[experiment.states["state"] == "TIME_WAIT"]
    undisturbed = waits[np.isclose((waits["until"] - waits["since"]).astype(float), TIME_WAIT)
                        & ~waits.duplicated(KEY, keep=False)]      # of two in a row, `ss` may see one
    stays = experiment.sockets.merge(undisturbed[KEY], on=KEY)
    lasted = (stays["last_seen"] - stays["first_seen"]).to_numpy()
    if len(lasted):
        measured(f"timer    {experiment.name:24} TIME_WAIT in ss: {lasted.min():.1f} to {lasted.max():.1f} s")
        assert ((lasted >= 59.5) & (lasted <= 62.2)).all()
    assert pd.api.types.is_float_dtype(stays["first_seen"])
