"""A file of socket lists, one after the other → `SocketLists`."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.sockets.lines import Socket, Unreadable, socket

KINDS = {"snapshot": "int64", "local": "str", "peer": "str", "state": "str", "receive_queue": "Int64",
         "send_queue": "Int64", "timer": "string", "expires": "Float64", "repeats": "Int64", "program": "string",
         "pid": "Int64", "host": "string"}
MOST_BYTES = 1 << 29      # a list of five million sockets; what is larger is no list of sockets
MOST_UNREAD = 0.5         # of all lines: a file of which more can't be read is something else
EPHEMERAL = {"netstat of BSD or macOS": (49152, 65535), "netstat of Windows": (49152, 65535)}
LINUX_EPHEMERAL = (32768, 60999)       # ip_local_port_range, its default
SINCE_1970 = re.compile(r"\d{9,10}(\.\d+)?$")
ISO_8601 = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)? ?(Z|UTC|GMT|[+-]\d\d:?\d\d)?$")
DATE = re.compile(r"\w{3} +(?:(\w{3}) +(\d+)|(\d+) +(\w{3})) +(\d\d:\d\d:\d\d(?: [AP]M)?)(?: (\S+))? (\d{4})$")
WILDCARDS = ("0.0.0.0", "[::]", "*")
HELP = "give the output of `ss -tan`, `netstat -tan`, `netstat -ano` or /proc/net/tcp"


class SocketError(Exception):
    """The file holds no list of sockets that can be read; the message says which file, which line, and why."""


@dataclass(frozen=True, repr=False)
class SocketLists:
    """The lists of a file, as tables.

    `path`; `system`: which program made the lists; `times`: when each list was made (NaT where the file does not say;
    without a time zone where the file names none that is known everywhere, such as UTC or +02:00); `listed`: one row
    per socket and list, columns `snapshot` (number of the list, from 0), `host`, `local`, `peer`, `state`,
    `receive_queue`, `send_queue` (bytes; of a listening socket in `ss`: connections that wait, and their limit),
    `timer`, `expires` (seconds), `repeats`, `program`, `pid`; `skipped`: lines that could not be read, by reason;
    `ephemeral`: the lowest and the highest port that this system gives to clients.

    `host` is this machine's end: `server` where the local port listens in the same list; `client` where the list has
    listening sockets and this port is none of theirs, but the peer's is, or it lies in `ephemeral` and the peer's
    does not; else `<NA>`.
    """

    path: str
    system: str
    times: pd.DatetimeIndex
    listed: pd.DataFrame
    skipped: dict[str, int]
    ephemeral: tuple[int, int]

    def __repr__(self) -> str:
        return (f"<SocketLists {Path(self.path).name}: {len(self.times)} of {self.system}, "
                f"{len(self.listed):,} lines>")

    @cached_property
    def seconds(self) -> pd.Series:
        """When each list was made, in seconds since the first one; `<NA>` where the file does not say."""
        passed = (self.times - self.times[0]).total_seconds()
        return pd.Series(passed, name="time").astype("Float64")

    @cached_property
    def sockets(self) -> pd.DataFrame:
        """One row per observed stay of a socket in a state.

        Columns `host`, `local`, `peer`, `state`, `first_seen`, `last_seen` (seconds since the first list, `<NA>` where
        the file does not say when its lists were made), `receive_queue`, `send_queue`, `timer`, `expires`, `repeats`,
        `program`, `pid`, as the stay's last list has them.
        """
        same, rows = ["local", "peer", "state"], self.listed
        # A stay is over where the next list does not have it: then its lists' numbers no longer follow each other.
        stay = rows.groupby(same)["snapshot"].diff().ne(1).groupby([rows[name] for name in same]).cumsum()
        groups = rows.assign(stay=stay).groupby([*same, "stay"], sort=False)
        last = groups.tail(1).set_index([*same, "stay"])
        seen = groups["snapshot"].agg(first_seen="min", last_seen="max")
        seen = seen.apply(lambda column: column.map(self.seconds)).astype("Float64")
        table = last.drop(columns="snapshot").join(seen).reset_index()
        order = ["host", *same, "first_seen", "last_seen", *list(KINDS)[4:-1]]
        return table.sort_values(["first_seen", *same], kind="stable", ignore_index=True)[order]


def read_sockets(path: str | PathLike, ephemeral: tuple[int, int] | None = None) -> SocketLists:
    """The lists of sockets in the file `path`, as `SocketLists`.

    Reads what `ss -tan` prints (also with -o, -p, -e, -i, -H, -4, -6), `netstat -tan` of Linux, macOS and the BSDs,
    `netstat -ano` of Windows, `/proc/net/tcp` and `tcp6`. A line with a date (of `date`, ISO 8601, or seconds since
    1970), a blank line between sockets, or the heading once more begins the next list. `ephemeral`: the ports that
    clients get, for `host`; without it the system's default. Raises `SocketError`.
    """
    file = _File()
    for number, line in enumerate(_text(path).splitlines(), 1):
        file.read(number, line)
    unread = sum(file.skipped.values())
    if not file.rows or unread > MOST_UNREAD * (len(file.rows) + unread):
        raise SocketError(f"{path}: {file.first_unread or 'no line lists a TCP socket'}; {HELP}")
    system = " and ".join(file.systems)
    ephemeral = ephemeral or EPHEMERAL.get(system, LINUX_EPHEMERAL)
    table = pd.DataFrame(file.rows, columns=["snapshot", *Socket._fields])
    table = _once(table, file.skipped).assign(host=None).astype(KINDS)
    listed = table.assign(host=_hosts(table, ephemeral))[["snapshot", "host", *Socket._fields]]
    return SocketLists(str(path), system, _index(file.times), listed, dict(file.skipped), ephemeral)


def _text(path):
    """The file as text; PowerShell's `>` writes UTF-16."""
    try:
        if Path(path).stat().st_size > MOST_BYTES:
            raise SocketError(f"{path}: larger than {MOST_BYTES >> 20} MiB; {HELP}")
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise SocketError(f"{path}: {getattr(error, 'strerror', None) or error}; {HELP}") from error
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace")
    if "\0" in text:
        raise SocketError(f"{path}: not a text; {HELP}")
    return text


class _File:
    """What was read of a file so far, line by line."""

    def __init__(self):
        self.rows, self.times, self.systems, self.skipped, self.first_unread = [], [], {}, Counter(), ""
        self.headings, self.filled, self.after_blank, self.other_family = set(), False, False, False

    def read(self, number, line):
        """Take in the line with this number."""
        if line.startswith("Active "):
            self.other_family = not re.search("Internet|Connections", line)     # UNIX domain sockets and others
        if self.other_family:
            return
        if not line.strip():
            self.after_blank |= not line       # `ss -i` prints white space below a socket that has no more to say
        elif (moment := _moment(line.strip())) is not None:
            self._next_list(moment)
        else:
            self._read(number, line)

    def _read(self, number, line):
        try:
            system, found = socket(line)
        except Unreadable as error:
            self.skipped[str(error)] += 1
            shown = "".join(letter if letter.isprintable() else "?" for letter in line.strip()[:60])
            self.first_unread = self.first_unread or f"line {number}, “{shown}”: {error}"
            return
        if (self.filled and (self.after_blank or line in self.headings)) or not self.times:
            self._next_list(pd.NaT)
        if found is None and "ocal" in line:
            self.headings.add(line)
        if found is not None:
            self.rows.append((len(self.times) - 1, *found))
            self.systems[system] = self.filled = True
        self.after_blank = False

    def _next_list(self, moment):
        self.times.append(moment)
        self.headings, self.filled, self.after_blank = set(), False, False


def _moment(line):
    """The time that a line tells and nothing else, with its time zone where it is known; None: it tells none."""
    try:
        if SINCE_1970.match(line):
            return pd.Timestamp(float(line), unit="s", tz="UTC")
        if found := ISO_8601.match(line):
            moment = pd.Timestamp(line.replace(",", "."))
            return moment.tz_convert("UTC") if found[3] else moment
        if found := DATE.match(line):
            *day, clock, zone, year = found.groups()
            moment = pd.Timestamp(" ".join([*filter(None, day), year, clock]))
            return moment.tz_localize("UTC") if zone in ("UTC", "GMT") else moment
    except ValueError:
        return None
    return None


def _index(times):
    """The times of the lists: in UTC if all are, else without a time zone."""
    known = [moment for moment in times if moment is not pd.NaT]
    if not all(moment.tzinfo for moment in known):
        times = [moment if moment is pd.NaT else moment.tz_localize(None) for moment in times]
        return pd.DatetimeIndex(times)
    return pd.DatetimeIndex(times, tz="UTC")


def _once(table, skipped):
    """Without a connection's second line in one list: two lists were joined with nothing between them."""
    twice = table.duplicated(["snapshot", "local", "peer"]) & ~table["state"].isin(["LISTEN", "CLOSED"])
    if twice.any():
        skipped["a connection's second line in one list: put a date between two lists"] += int(twice.sum())
    return table[~twice].reset_index(drop=True)


def _hosts(table, ephemeral):
    """Which end this machine is, by row: what listens in the same list tells, and the ports that clients get."""
    listens, known = table["state"] == "LISTEN", set()
    for snapshot, local in table.loc[listens, ["snapshot", "local"]].itertuples(index=False):
        address, _, port = local.rpartition(":")
        known.add((snapshot, f"*:{port}" if address in WILDCARDS else local))
    own, peer = (_in(known, table["snapshot"], table[end]) for end in ("local", "peer"))
    own_port, peer_port = (pd.to_numeric(table[end].str.rpartition(":")[2], errors="coerce")
                           for end in ("local", "peer"))
    asked = own_port.between(*ephemeral) & peer_port.notna() & ~peer_port.between(*ephemeral)
    client = ~own & (peer | asked) & table["snapshot"].isin(table["snapshot"][listens])
    hosts = np.select([own | listens, client], ["server", "client"], "")
    return pd.array(np.where(hosts == "", None, hosts), "string")


def _in(known, snapshots, sockets):
    """Which of `sockets` belong to one that listens, at this address or at all."""
    return pd.Series([(snapshot, own) in known or (snapshot, f"*:{own.rpartition(':')[2]}") in known
                      for snapshot, own in zip(snapshots, sockets)], dtype=bool)
