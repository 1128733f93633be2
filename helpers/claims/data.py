"""What the claims are held against: recordings and tables, and how the recorded programs use their connections."""

import json
from dataclasses import dataclass
from math import inf

import pandas as pd

from helpers import experiments
from helpers.model import CHROMIUM, FIREFOX, RULES_2018

LONG = (0, 1, 2, 4, 7)
BROWSERS = ("firefox", "chromium")
CLIENTS = ("replay", *BROWSERS)
LONG_PAGES = {f"long-{images}-images-{client}": client for images in LONG for client in BROWSERS}
IDLE_PAGES = {"idle-close-quiet": "chromium", "idle-close-visit": "chromium", "idle-close-patient": "chromium",
              "idle-close-firefox": "firefox"}


@dataclass(frozen=True)
class Habits:
    """How a client treats its connections, times in seconds.

    `unused`, `idle`: it closes one that has carried nothing, or that has been idle, for so long; at its next request
    only, where it doesn't watch (`watches`) its idle connections, and so doesn't see a FIN there either.
    `probes_after`: so long idle, a connection is probed (TCP keep-alive).
    """

    unused: float
    idle: float
    probes_after: float
    watches: bool


# The clients of the model, with their evidence; curl: its option --keepalive-time.
HABITS = {**{name: Habits(client.unused, client.idle, client.probes_after, client.watches)
             for name, client in (("chromium", CHROMIUM), ("firefox", FIREFOX), ("replay", RULES_2018))},
          "curl": Habits(unused=inf, idle=inf, probes_after=60, watches=False)}


class Data:
    """What the claims are held against: recordings, tables and their details."""

    load = staticmethod(experiments.load)
    table = staticmethod(experiments.table)

    def details(self, name):
        """What was recorded beside the table `name`, as a dict."""
        return json.loads((experiments.data_folder() / f"{name}.json").read_text(encoding="utf-8"))

    def page(self, name):
        """The connections to port 80 of a recording: the page, without later visits to another port."""
        connections = self.load(name).connections
        return connections[connections["server"].str.endswith(":80")]

    def answers(self, name):
        """What TIME_WAIT answered to each packet of a recording that was sent into one."""
        return pd.read_csv(experiments.data_folder() / name / "answers.csv").dropna(subset="sent")

    def answered(self, name):
        """When the last response on each connection was complete, by `stream`."""
        return self.load(name).exchanges.groupby("stream")["finished"].max()

    def fin(self, name, host):
        """When `host` sent its first FIN on each connection, by `stream`; nothing where it sent none."""
        segments = self.load(name).segments
        fins = segments[(segments["host"] == host) & segments["flags"].str.contains("F")]
        return fins.groupby("stream")["time"].first()

    def keepalive_timeout(self, name):
        """nginx's `keepalive_timeout` in seconds."""
        return self.load(name).about["server"]["settings"]["keepalive_timeout"]

    def patience(self, name, habits, limit):
        """When a client closes what it leaves after `limit` s: then, or at its next request if it doesn't watch."""
        if habits.watches:
            return limit
        timeline = self.load(name).timeline
        later = timeline.loc[(timeline["time"] > limit) & timeline["action"].str.match("visit|fetch"), "time"]
        return min(later, default=inf)


def together(*tables: pd.Series) -> pd.DataFrame:
    """Series by `stream` as one table, numbered columns, of the streams that the first one has."""
    return pd.concat(tables, axis=1, keys=range(len(tables))).reindex(tables[0].index)
