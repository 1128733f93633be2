"""What a kernel said of its sockets beside what the packets show: in how many places the two agree."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers.captures import Capture
from helpers.connections import FIN_TIMEOUT, TIMER_SLACK, addresses
from helpers.sockets import SocketLists

CLOCKS, TAKES = 0.01, 0.25      # seconds: how far the clock before a list may be early; how long the list may take
NO_SOCKETS = ("LISTEN", "CLOSED")
PLACES = ("time", "host", "local", "peer", "kernel", "packets", "agree")
NONE = "none"


class Witness(NamedTuple):
    """What lists of sockets tell about a capture.

    `path`: of the lists. `trouble`: why nothing can be compared, as a sentence; empty where it can. `times`: when the
    lists were made that can be compared, in seconds since the first frame. `places`: one row for each socket in each
    of these lists, and for each that should be there: `time`, `host`, `local`, `peer`, its state as the `kernel` and
    as the `packets` have it (`none`: no socket), and whether they `agree`. `addresses`: those of the lists' machine.
    `strangers`: how many sockets of these lists belong to no connection that the capture shows.
    """

    path: str
    trouble: str
    times: np.ndarray
    places: pd.DataFrame
    addresses: frozenset
    strangers: int


def witness(capture: Capture, states: pd.DataFrame, lists: SocketLists,
            named: Callable[[pd.Series], pd.Series] | None = None) -> Witness:
    """Compare `lists` with the `states` of `capture`; `named` gives sockets the names that they have in the tables.

    A list shows a state if the packets have it while the list was made: after its clock, which may show whole seconds
    only. Timers of the kernel may be late (`TIMER_SLACK`). After the last frame only ends in TIME_WAIT are compared.
    """
    listed = lists.listed[~lists.listed["state"].isin(NO_SOCKETS)]
    if named:
        listed = listed.assign(local=named(listed["local"]), peer=named(listed["peer"]))
    own = frozenset(addresses(listed["local"]))
    stays = states[addresses(states["local"]).isin(own)]
    whole = bool((lists.times == lists.times.floor("s")).all())
    chosen, trouble = _while_recorded(lists, capture, stays, whole)
    if trouble:
        return Witness(lists.path, trouble, np.empty(0), pd.DataFrame(columns=PLACES), own, 0)
    ours = pd.MultiIndex.from_frame(listed[["local", "peer"]]).isin(pd.MultiIndex.from_frame(stays[["local", "peer"]]))
    of_list = {number: dict(zip(zip(rows["local"], rows["peer"]), rows["state"]))
               for number, rows in listed[ours].groupby("snapshot")}
    shown = _Shown(stays, capture.end)
    places = [place for number, time in chosen.items()
              for place in shown.beside(of_list.get(number, {}), time, time + whole + TAKES)]
    return Witness(lists.path, "", chosen.to_numpy(), pd.DataFrame(places, columns=PLACES), own,
                   int((~ours & listed["snapshot"].isin(chosen.index)).sum()))


def _while_recorded(lists, capture, stays, whole):
    """Of the lists that were made while the capture shows something, the seconds by number; and why there are none."""
    nothing = pd.Series(dtype=float)
    if lists.times.isna().any():
        return nothing, "its lists have no times; put `date -u` before each one"
    if lists.times.tz is None:
        return nothing, "its times name no time zone; put `date -u` before each list"
    if not len(stays):
        return nothing, "none of its sockets is an end of a connection in the capture; was it made at one of the ends?"
    times = pd.Series((lists.times - capture.start) / pd.Timedelta(seconds=1))
    waits = stays["until"][stays["state"] == "TIME_WAIT"].to_numpy(float).max(initial=0.0)
    times = times[(times >= -CLOCKS - whole) & (times <= max(capture.end, waits))]
    return times, "" if len(times) else \
        "none of its lists was made while the capture was recorded; do the two machines' clocks agree?"


class _Shown:
    """What the packets show of some `stays`, in a capture that ends at `end`."""

    def __init__(self, stays, end):
        self.states, self.end = stays["state"].to_numpy(), end
        self.since = stays["since"].to_numpy(float, na_value=-np.inf)
        self.until = stays["until"].to_numpy(float, na_value=np.inf)
        timed = (self.states == "TIME_WAIT") | (self.states == "FIN_WAIT_2") & (
            self.until - self.since >= FIN_TIMEOUT - CLOCKS)
        self.late = self.until + TIMER_SLACK * timed
        self.ends = list(zip(stays["local"], stays["peer"]))
        self.hosts = dict(zip(self.ends, stays["host"].astype(object)))
        self.waits = {end for end, state in zip(self.ends, self.states) if state == "TIME_WAIT"}

    def beside(self, kernel, time, last):
        """The rows of `Witness.places` for the list `kernel` (state by end), made from `time` to `last` seconds."""
        known = self.hosts.keys() if last <= self.end else self.waits
        possible, there = {}, [set(), set()]
        for row in np.flatnonzero((self.since <= last) & (self.late >= time - CLOCKS)):
            end = self.ends[row]
            possible.setdefault(end, []).append(self.states[row])
            for moment, ends in zip((time - CLOCKS, last), there):
                if self.since[row] <= moment < self.until[row]:
                    ends.add(end)
        must = there[0] & there[1]
        for end in sorted(known & {*kernel, *must}):
            said, shown = kernel.get(end, NONE), possible.get(end, [NONE])
            agree = said in shown or (said == NONE and end not in must)
            yield time, self.hosts[end], *end, said, said if agree else shown[-1], agree
