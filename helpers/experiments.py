"""The recorded experiments as tables on one clock: `load("long-7-images-chromium")`."""

import json
from functools import cache, cached_property
from pathlib import Path

import pandas as pd

from helpers.captures import read_capture
from helpers.connections import connections
from helpers.exchanges import exchanges
from helpers.states import states

NOT_FOUND = "no folder `data` with experiments above {}; open the notebooks from a checkout of the course"


class Experiment:
    """One recorded experiment: its packets as tables, and the witnesses of the same minutes.

    `about`: experiment.json as a dict. `capture`, `segments`, `connections`, `exchanges`, `states`: from the packets.
    `sockets`: what the kernel said, one row per stay that `ss` saw: `host`, `local`, `peer`, `state`, `first_seen`,
    `last_seen`. `requests`: the server's access log (None where it keeps none): `time`, `client_port`, `connection`, `nth`,
    `request`, `status`, `bytes_sent`, `body_bytes_sent`. `timeline`: what the testbed did, `time` and `action`. `browser`: tables `requests`
    and `sockets` from the browser's own log (Chromium only, else None). All times are seconds since the first frame of the capture.
    """

    def __init__(self, folder):
        self.folder, self.name = Path(folder), Path(folder).name
        self.about = json.loads((self.folder / "experiment.json").read_text(encoding="utf-8"))

    def __repr__(self):
        return f"<Experiment {self.name}: {self.about['title']}>"

    @cached_property
    def capture(self):
        return read_capture(self.folder / "capture.pcapng")

    @cached_property
    def segments(self):
        return self.capture.segments

    @cached_property
    def connections(self):
        return connections(self.capture, fin_timeout=self.fin_timeout)

    @cached_property
    def exchanges(self):
        return exchanges(self.capture)

    @cached_property
    def states(self):
        return states(self.capture, fin_timeout=self.fin_timeout)

    @property
    def fin_timeout(self):
        """The server's `tcp_fin_timeout` in seconds: `kernel_server` holds what differs from the client's `kernel`."""
        return float((self.about["kernel"] | self.about.get("kernel_server", {}))["tcp_fin_timeout"])

    @cached_property
    def sockets(self):
        table = pd.read_csv(self.folder / "sockets.csv")
        return self._on_our_clock(table, "first_seen", "last_seen")

    @cached_property
    def requests(self):
        file = self.folder / "requests.csv"
        return self._on_our_clock(pd.read_csv(file), "time") if file.exists() else None

    @cached_property
    def timeline(self):
        return self._on_our_clock(pd.DataFrame(self.about["timeline"]), "time")

    @cached_property
    def browser(self):
        file = self.folder / "browser.json"
        if not file.exists():
            return None
        log = json.loads(file.read_text(encoding="utf-8"))
        return {"requests": self._on_our_clock(pd.DataFrame(log["requests"]), "time"),
                "sockets": self._on_our_clock(pd.DataFrame(log["sockets"]), "opened", "closed")}

    def _on_our_clock(self, table, *columns):
        start = self.capture.start.value / 1e9
        return table.assign(**{name: table[name] - start for name in columns})


def data_folder():
    """The course's `data` folder: the first one found upward from the working directory, else from this file."""
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for folder in (start, *start.parents):
            if any((folder / "data").glob("*/experiment.json")):
                return folder / "data"
    raise FileNotFoundError(NOT_FOUND.format(Path.cwd()))


def names():
    """The names of all recorded experiments, sorted."""
    return sorted(file.parent.name for file in data_folder().glob("*/experiment.json"))


def load(name):
    """The experiment called `name`, the same object each time.

    Raises `ValueError`, naming those there are, where there is none.
    """
    if name not in names():
        raise ValueError(f"no experiment {name!r}; there are: {', '.join(names())}")
    return _open(data_folder() / name)


_open = cache(Experiment)


def table(name):
    """A table of `data` that belongs to no single experiment, such as `article-2018` or `browser-counts`."""
    file = data_folder() / f"{name}.csv"
    if not file.is_file():
        there = ", ".join(sorted(path.stem for path in data_folder().glob("*.csv")))
        raise ValueError(f"no table {name!r} in data; there are: {there}")
    return pd.read_csv(file).convert_dtypes()
