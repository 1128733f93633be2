"""The recorded experiments as tables on one clock: `load("long-7-images-chromium")`."""

import json
from functools import cache, cached_property
from os import PathLike
from pathlib import Path

import pandas as pd

from helpers.captures import Capture, read_capture
from helpers.connections import connections
from helpers.exchanges import exchanges
from helpers.states import states

SOCKETS = ["local", "remote", "opened_for", "opened", "closed", "close_reason"]
NOT_FOUND = "no folder `data` with experiments above {}; open the notebooks from a checkout of the course"


class Experiment:
    """One recorded experiment: its packets as tables, and the witnesses of the same minutes.

    `about`: experiment.json as a dict. All times are seconds since the first frame of the capture; each table is
    computed once, when it is first asked for.
    """

    def __init__(self, folder: str | PathLike):
        self.folder, self.name = Path(folder), Path(folder).name
        self.about = json.loads((self.folder / "experiment.json").read_text(encoding="utf-8"))

    def __repr__(self) -> str:
        return f"<Experiment {self.name}: {self.about['title']}>"

    @cached_property
    def capture(self) -> Capture:
        """The packets, as `helpers.captures` reads them."""
        return read_capture(self.folder / "capture.pcapng")

    @cached_property
    def segments(self) -> pd.DataFrame:
        """One row per TCP segment."""
        return self.capture.segments

    @cached_property
    def connections(self) -> pd.DataFrame:
        """One row per connection, told with the `fin_timeout` of the experiment."""
        return connections(self.capture, fin_timeout=self.fin_timeout)

    @cached_property
    def exchanges(self) -> pd.DataFrame:
        """One row per HTTP exchange."""
        return exchanges(self.capture)

    @cached_property
    def states(self) -> pd.DataFrame:
        """One row per stay of one end in one state."""
        return states(self.capture, fin_timeout=self.fin_timeout)

    @property
    def fin_timeout(self) -> float:
        """The server's `tcp_fin_timeout` in seconds: `kernel_server` holds what differs from the client's `kernel`."""
        return float((self.about["kernel"] | self.about.get("kernel_server", {}))["tcp_fin_timeout"])

    @cached_property
    def sockets(self) -> pd.DataFrame:
        """What the kernel said, one row per stay that `ss` saw.

        Columns: `host`, `local`, `peer`, `state`, `first_seen`, `last_seen`.
        """
        table = pd.read_csv(self.folder / "sockets.csv")
        # a server that listens on IPv6 has its IPv4 connections listed as mapped addresses (RFC 4291, 2.5.5.2)
        ends = table[["local", "peer"]].replace(r"\[::ffff:([\d.]+)\]", r"\1", regex=True)
        return self._on_our_clock(table.assign(**ends), "first_seen", "last_seen")

    @cached_property
    def requests(self) -> pd.DataFrame | None:
        """The server's access log, None where it keeps none.

        Columns: `time`, `client_port`, `connection`, `nth`, `request`, `status`, `bytes_sent`, `body_bytes_sent`.
        """
        file = self.folder / "requests.csv"
        return self._on_our_clock(pd.read_csv(file), "time") if file.exists() else None

    @cached_property
    def timeline(self) -> pd.DataFrame:
        """What the testbed did: `time` and `action`."""
        return self._on_our_clock(pd.DataFrame(self.about["timeline"]), "time")

    @cached_property
    def browser(self) -> dict[str, pd.DataFrame] | None:
        """Tables `requests` and `sockets` from the browser's own log; None where it was not Chromium.

        `sockets` has a column `pool_group` where the log names more than one group of requests.
        """
        file = self.folder / "browser.json"
        if not file.exists():
            return None
        log = json.loads(file.read_text(encoding="utf-8"))
        columns = [*SOCKETS, *["pool_group"] * any("pool_group" in socket for socket in log["sockets"])]
        return {"requests": self._on_our_clock(pd.DataFrame(log["requests"]), "time"),
                "sockets": self._on_our_clock(pd.DataFrame(log["sockets"], columns=columns), "opened", "closed")}

    def _on_our_clock(self, table: pd.DataFrame, *columns: str) -> pd.DataFrame:
        """The table with its `columns`, seconds since 1970, in seconds since the first frame."""
        start = self.capture.start.value / 1e9
        return table.assign(**{name: table[name] - start for name in columns})


def data_folder() -> Path:
    """The course's `data` folder: the first one found upward from the working directory, else from this file.

    Raises `FileNotFoundError` where there is none.
    """
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for folder in (start, *start.parents):
            if any((folder / "data").glob("*/experiment.json")):
                return folder / "data"
    raise FileNotFoundError(NOT_FOUND.format(Path.cwd()))


def names() -> list[str]:
    """The names of all recorded experiments, sorted."""
    return sorted(file.parent.name for file in data_folder().glob("*/experiment.json"))


def load(name: str) -> Experiment:
    """The experiment called `name`, the same object each time.

    Raises `ValueError`, naming those there are, where there is none.
    """
    folder = data_folder()
    if not isinstance(name, str) or name != Path(name).name or not (folder / name / "experiment.json").exists():
        raise ValueError(f"no experiment {name!r}; there are: {', '.join(names())}")
    return _open(folder / name)


_open = cache(Experiment)


def table(name: str) -> pd.DataFrame:
    """A table of `data` that belongs to no single experiment, such as `article-2018` or `browser-counts`.

    Raises `ValueError`, naming those there are, where there is none.
    """
    there = {path.stem: path for path in sorted(data_folder().glob("*.csv"))}
    if not isinstance(name, str) or name not in there:      # nothing beside the list, such as ../data/article-2018
        raise ValueError(f"no table {name!r} in data; there are: {', '.join(there)}")
    return pd.read_csv(there[name]).convert_dtypes()
