"""Many visits: the TIME_WAITs of a site over a day, from the play of one visit and the moments of all."""

import heapq
from math import inf

import numpy as np
import pandas as pd

from helpers.model.playing import Played


def arrivals(rate: float, seconds: float, seed: int = 1) -> np.ndarray:
    """The moments (s) of visits that come at random, `rate` of them a second on average, within so many `seconds`.

    The gaps between them are exponential, as with many visitors who know nothing of each other (a Poisson process).
    """
    random = np.random.default_rng(seed)
    number = random.poisson(rate * seconds)
    return np.sort(random.uniform(0, seconds, number))


def time_waits_of_crowd(one: Played, visits: np.ndarray, host: str = "server", buckets: float = inf) -> pd.Series:
    """How many TIME_WAITs `host` has, if each visit at one of the moments `visits` goes as `one` did.

    A step function, index `time` (s). `buckets`: the kernel keeps no more than so many (`tcp_max_tw_buckets`); one that
    would come while there are as many ends at once. At the client: of all clients together.
    """
    stays = one.states[(one.states["state"] == "TIME_WAIT") & (one.states["host"] == host)]
    since, until = (stays[name].to_numpy(float) for name in ("since", "until"))
    begins = (visits[:, None] + since).ravel()
    ends = (visits[:, None] + until).ravel()
    order = np.argsort(begins, kind="stable")
    begins, ends = begins[order], ends[order]
    kept = np.ones(len(begins), bool) if buckets == inf else _kept(begins, ends, buckets)
    return _steps(begins[kept], ends[kept])


def _kept(begins, ends, buckets):
    """Which TIME_WAITs find room, in order of their beginning."""
    held, kept = [], np.zeros(len(begins), bool)
    for place, (begin, end) in enumerate(zip(begins, ends)):
        while held and held[0] <= begin:
            heapq.heappop(held)
        if len(held) < buckets:
            heapq.heappush(held, end)
            kept[place] = True
    return kept


def _steps(begins, ends):
    times = np.concatenate([begins, ends])
    steps = np.repeat([1, -1], [len(begins), len(ends)])
    order = np.argsort(times, kind="stable")
    return pd.Series(np.cumsum(steps[order]), pd.Index(times[order], name="time"), name="TIME_WAIT")
