"""A capture file in memory, and how it is made of its frames."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from helpers.captures.datagrams import PLACE, datagrams_of
from helpers.captures.fragments import put_together
from helpers.captures.layers import decode
from helpers.captures.numbers import RAW_IP_LINK
from helpers.captures.records import Progress
from helpers.captures.secrets import Secrets
from helpers.captures.segments import (
    FRAME,
    SEGMENT,
    Columns,
    as_segments,
    filled,
    number_addresses,
    seconds_since_first,
)
from helpers.captures.threads import in_threads

GONE = 0    # the frame number of a row that is removed


@dataclass(frozen=True, eq=False)
class Capture:
    """A capture file in memory.

    `segments`: one row per TCP segment, index `frame` (1-based, as in Wireshark): `time` (seconds since the first
    frame), `stream` (as Wireshark's `tcp.stream`, which also counts TCP that ICMP quotes), `host` (`client` sent the
    SYN, `server` answered it, missing where no SYN was captured), `src`, `sport`, `dst`, `dport`, `seq`, `ack` (raw),
    `flags` (letters of `FSRPAUECN`), `length` (payload bytes on the wire). Where IP carries IP, the innermost addresses
    count. A segment in IP fragments is that of the frame that completes them, as in Wireshark; the first of fragments
    that are not all there is a segment of its own length. A TCP header that claims less than 20 bytes belongs to its
    stream, as in Wireshark, but has no flags and no payload.
    `frames`: all frames of the file. `skipped`: how many of them are not in `segments`, by reason.
    `start`: UTC time of the first frame. `end`: time of the last frame, in seconds since the first.
    `cut`: where and why reading stopped before the end of the file, or None.
    `dropped`: how many frames more the capturing system saw and lost, as the statistics of all interfaces in a pcapng
    file say (`isb_ifdrop` and `isb_osdrop`); None where the file does not say, as pcap never does.
    `secrets`: of its TLS connections, those that the file or a key log holds; never shown.
    `threads`: how many threads its tables are made in.

    `datagrams`: one row per UDP datagram, made when first asked for, index `frame`: `time`, `src`, `sport`,
    `dst`, `dport`, `length` (payload bytes on the wire). They count in `skipped` too, which is about segments.

    For modules that compute on: `data`, the bytes of the file, unzipped, and behind them the packets that were put
    together from fragments (this takes as much memory again as the file). `headers`: arrays beside the rows of
    `segments`: `flags` (numbers), `window` and `scale` (the shift of a SYN's window scale option) as sent, `side` (0 or
    1, which end of the stream sent it), `payload_at` and `payload_captured` (where its payload lies in `data`, and how
    much of it); and beside all frames: `frame_at` and `frame_captured`. `derived`: what modules computed once and keep.
    """

    path: str
    segments: pd.DataFrame
    frames: int
    skipped: dict
    start: pd.Timestamp
    end: float
    cut: str | None
    data: np.ndarray = field(repr=False)
    headers: dict = field(repr=False)
    derived: dict = field(repr=False, default_factory=dict)
    dropped: int | None = field(default=None, kw_only=True)
    secrets: Secrets = field(default_factory=Secrets, repr=False, kw_only=True)
    threads: int = field(default=1, repr=False, kw_only=True)

    def without_secrets(self) -> "Capture":
        """The same capture without its secrets: what a reader without keys sees."""
        return replace(self, secrets=Secrets(), derived={})

    def payload(self, frame: int) -> bytes:
        """The TCP or UDP payload of one frame that is in the file (fewer bytes than `length` if the frame was cut)."""
        table, places = self.segments, self.headers
        if frame not in table.index:
            table, places = self.datagrams, self.datagram_payloads
        row = table.index.get_loc(frame)
        at, size = places["payload_at"][row], places["payload_captured"][row]
        return self.data[at:at + size].tobytes()

    @property
    def datagrams(self) -> pd.DataFrame:
        """One row per UDP datagram."""
        return self._udp[0]

    @property
    def datagram_payloads(self) -> dict[str, np.ndarray]:
        """Beside the rows of `datagrams`: `payload_at` and `payload_captured`, as `headers` has them for `segments`."""
        return self._udp[1]

    @property
    def _udp(self):
        if "datagrams" not in self.derived:
            self.derived["datagrams"] = datagrams_of(self.data, self.headers["udp"])
        return self.derived["datagrams"]

    def frame_bytes(self, frame: int) -> bytes:
        """The bytes of one frame (1-based) as they stand in the file, link header included."""
        if not 1 <= frame <= self.frames:
            raise IndexError(f"frame {frame}: {self.path} has frames 1 to {self.frames}")
        at, size = self.headers["frame_at"][frame - 1], self.headers["frame_captured"][frame - 1]
        return self.data[at:at + size].tobytes()


def capture_of(path: str, data: np.ndarray, chunks: Iterable[dict], progress: Progress, damage: str | None = None,
               base: int = 0, threads: int = 1) -> Capture:
    """The `Capture` of the frames in `chunks` (as `files.frames` gives them) of `data`.

    `progress` says how far they go, once they have been read. `damage`: what is wrong with the zipped file. `base`: at
    which byte of the file `data` begins. `threads`: how many decode the chunks.
    """
    frames, columns, udp = Columns(FRAME), Columns(SEGMENT), Columns(PLACE)
    addresses, skipped, fragments = [], Counter(), []
    decoded_parts = in_threads(lambda numbered: (numbered[0], decode(data, *numbered)), _numbered(chunks), threads)
    for part, (decoded, numbers, out, places, noted) in decoded_parts:
        fragments += [(rows, _some(part, rows["number"] - len(frames) - 1)) for rows in noted]
        frames.put(part, progress.found)
        columns.put(decoded, progress.found)
        addresses.append((len(columns), *numbers))
        skipped.update(out)
        udp.put(places, len(udp) + len(places["at"]))
    frames = frames.whole()
    time_ns = _times(frames, progress)
    data = _defragment(data, fragments, time_ns, columns, udp, addresses, skipped) if fragments else data
    start, seconds = seconds_since_first(time_ns)
    texts = number_addresses(columns.whole(), addresses)
    columns, udp = (_in_order(table.whole(), name) if fragments else table.whole()
                    for table, name in ((columns, "frame"), (udp, "number")))
    segments = as_segments(columns, texts, seconds[columns["frame"] - 1])
    headers = _headers(columns, frames, segments, udp | {"time": seconds[udp["number"] - 1]})
    cuts = [f"byte {base + at}: {reason}" for at, reason in progress.cuts]
    return Capture(str(path), segments, len(seconds), dict(+skipped), pd.Timestamp(start, unit="ns", tz="UTC"),
                   float(seconds.max(initial=0)), "; ".join(filter(None, (*cuts, damage))) or None, data, headers,
                   dropped=progress.dropped, secrets=progress.secrets, threads=threads)


def _numbered(chunks: Iterable[dict]) -> Iterator[tuple[dict, int]]:
    """Each of `chunks` with the number of its first frame."""
    first = 1
    for part in chunks:
        yield part, first
        first += len(part["at"])


def _defragment(data: np.ndarray, fragments: list, time_ns: np.ndarray, columns: Columns, udp: Columns, addresses: list,
                skipped: Counter) -> np.ndarray:
    """`data`, and behind it the packets reassembled from `fragments`; their segments and datagrams go into the tables.

    `fragments`: arrays of `fragments.FRAGMENT`, each with the columns of its frames. Rows and counts that stood for
    single fragments are removed.
    """
    noted = np.concatenate([rows for rows, _ in fragments])
    together = put_together(data, noted, time_ns[noted["number"] - 1])
    if together is None:
        return data
    alone = {name: np.concatenate([part[name] for _, part in fragments]) for name in fragments[0][1]}
    _, rows = np.unique(noted["number"], return_index=True)
    rows = rows[np.isin(noted["number"][rows], together.members)]
    skipped.subtract(decode(data, _some(alone, rows), 1)[2])
    skipped.update(together.skipped)
    for table, name in ((columns, "frame"), (udp, "number")):
        table.whole()[name][np.isin(table.whole()[name], together.members)] = GONE
    at, data = together.at + len(data), np.concatenate([data, together.data])
    packets = {"at": at, "captured": together.size, "length": together.size, "link": np.full(len(at), RAW_IP_LINK)}
    decoded, numbers, out, places, _ = decode(data, packets, 1)
    for table, part, name in ((columns, decoded, "frame"), (udp, places, "number")):
        table.put(part | {name: together.number[part[name] - 1]}, len(table) + len(part[name]))
    addresses.append((len(columns), *numbers))
    skipped.update(out)
    return data


def _times(frames: dict, progress: Progress) -> np.ndarray:
    """Take the times of all frames, in ns, out of `frames`; `progress` gets the last one."""
    time_ns = filled(frames.pop("time_ns"), frames["timeless"], progress.time_ns)
    if len(time_ns) and (progress.time_ns is not None or not frames["timeless"].all()):
        progress.time_ns = int(time_ns[-1])
    return time_ns


def _headers(columns: dict, frames: dict, segments: pd.DataFrame, udp: dict) -> dict:
    """`Capture.headers`; takes the column `side` out of `segments`."""
    headers = {name: columns[name] for name in ("flags", "payload_at", "payload_captured", "window", "scale")}
    return headers | {"frame_at": frames["at"], "frame_captured": frames["captured"],
                      "side": segments.pop("side").to_numpy(), "udp": udp}


def _some(part: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: column[rows] for name, column in part.items()}


def _in_order(columns: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The rows that count, in order of the frame numbers in column `name`."""
    number = columns[name]
    order = np.argsort(number, kind="stable")
    return _some(columns, order[np.count_nonzero(number == GONE):])
