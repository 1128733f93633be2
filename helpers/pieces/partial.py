"""What is known of the connections in one piece of a capture, and in neighbouring pieces together."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import or_
from os import PathLike

import numpy as np
import pandas as pd

from helpers.captures import Capture, Secrets, as_segments, begins, merge_captures, read_pieces
from helpers.flow import flows
from helpers.pieces.deciding import decide

PIECE, MOST_TOGETHER = 64 << 20, 1000     # bytes; files
NUMBERS = ("time_ns", "sport", "dport", "seq", "ack", "flags", "length", "window", "scale", "weight", "probes",
           "number")


@dataclass(frozen=True, eq=False)
class Partial:
    """What is known of a part of a capture: `rows`, the segments that decide (in order), and what was counted.

    `rows` has the columns `NUMBERS`, `src`, `dst`, and `payload` where that was asked for. A row may stand for others
    that were left out: `weight` says how many, itself included, may turn out to be keep-alive probes; `probes`, how
    many are known to be. `number`: of its stream, where that has one already. `start`, `end`: time of the first
    frame and of the latest one, in ns since 1970; None where there is none. `cuts`: where and why reading stopped
    before the end of a file. `secrets`: those of TLS that the files hold.
    """

    rows: pd.DataFrame
    frames: int
    skipped: Counter
    start: int | None
    end: int | None
    cuts: tuple = ()
    secrets: Secrets = field(default_factory=Secrets, repr=False)


def partials(paths: Sequence | str | PathLike, piece: int, payload: bool) -> Iterator[Partial]:
    """Yield the `Partial` of each piece of `piece` bytes of the captures, in order of time.

    A piece is a part of a large file, or several small ones together.
    """
    for group in _together(_with_sizes(paths), piece):
        if len(group) > 1:
            yield summarise(merge_captures(group), payload)
        else:
            for capture in read_pieces(group[0], piece):
                yield summarise(capture, payload, f"{capture.path}: ")


def _together(sizes: list[tuple], piece: int) -> Iterator[list]:
    """Yield the captures in groups that have no more than `piece` bytes together, and leave large ones alone."""
    group, size = [], 0
    for path, own in sizes:
        if group and (own is None or size + own > piece or len(group) == MOST_TOGETHER):
            yield group
            group, size = [], 0
        group.append(path)
        size += piece + 1 if own is None else own
    if group:
        yield group


def in_time(paths: Sequence | str | PathLike) -> list:
    """The captures in the order of their first frames; one without a frame that has a time stands at the end."""
    return [path for path, _ in _with_sizes(paths)]


def _with_sizes(paths: Sequence | str | PathLike) -> list[tuple]:
    """The captures as `in_time` has them, each with its size in bytes; None: not known, or not asked."""
    if not isinstance(paths, (str, PathLike, Iterable)):
        raise TypeError(f"paths is {paths!r}; give the path of a capture, or a list of paths")
    paths = [paths] if isinstance(paths, (str, PathLike)) or hasattr(paths, "read") else list(paths)
    if len(paths) < 2:
        return [(path, None) for path in paths]
    first = [(path, *begins(path)) for path in paths]
    return [(path, size) for path, _, size in sorted(first, key=lambda one: (one[1] is None, one[1]))]


def summarise_file(path: str | PathLike, payload: bool = False) -> Partial:
    """The `Partial` of one capture file, read piece by piece."""
    return reduce(merge, partials([path], PIECE, payload))


def summarise(capture: Capture, payload: bool = False, file: str = "") -> Partial:
    """The `Partial` of a `Capture`; with `payload` every segment that has any is kept.

    `file`: what stands before its `cut`.
    """
    segments, headers = capture.segments, capture.headers
    start = capture.start.value
    rows = segments[["src", "sport", "dst", "dport", "seq", "ack", "length"]].reset_index(drop=True)
    rows = rows.assign(**{name: headers[name] for name in ("flags", "window", "scale")}, weight=1, probes=0, number=-1,
                       time_ns=start + np.rint(segments["time"].to_numpy() * 1e9).astype(np.int64))
    if payload:
        data = capture.data
        rows["payload"] = [data[at:at + size].tobytes() for at, size in zip(
            headers["payload_at"].tolist(), headers["payload_captured"].tolist())]
    partial = Partial(rows, capture.frames, Counter(capture.skipped), start if capture.frames else None,
                      start + round(capture.end * 1e9) if capture.frames else None,
                      (file + capture.cut,) if capture.cut else (), capture.secrets)
    return _thinned(partial, capture)


def merge(*parts: Partial) -> Partial:
    """What is known of neighbouring parts together. It is associative: any grouping of neighbours gives the same."""
    partial = joined(parts)
    return _thinned(partial, capture_of(partial))


def joined(parts: Sequence[Partial]) -> Partial:
    """The same as `merge`, with every row of every part."""
    columns = [part.rows[name] for part in parts for name in ("src", "dst")]
    addresses = pd.api.types.union_categoricals(columns, ignore_order=True, sort_categories=True).categories
    rows = pd.concat([part.rows.assign(**{
        name: part.rows[name].cat.set_categories(addresses) for name in ("src", "dst")}) for part in parts],
        ignore_index=True)
    starts, ends = ([getattr(part, name) for part in parts if getattr(part, name) is not None]
                    for name in ("start", "end"))
    return Partial(
        rows, sum(part.frames for part in parts), sum((part.skipped for part in parts), Counter()),
        starts[0] if starts else None, max(ends) if ends else None, sum((part.cuts for part in parts), ()),
        reduce(or_, (part.secrets for part in parts)))


def capture_of(partial: Partial) -> Capture:
    """A `Capture` of the rows, with the clock of the whole; its headers have `weight` and `probes` of each row."""
    rows, start = partial.rows, partial.start or 0
    columns = {name: rows[name].to_numpy() for name in NUMBERS}
    columns |= {name: rows[name].cat.codes.to_numpy().astype(np.int64) for name in ("src", "dst")}
    columns["frame"] = np.arange(1, len(rows) + 1)
    segments = as_segments(columns, rows["src"].cat.categories, (columns["time_ns"] - start) / 1e9)
    texts = rows["payload"].tolist() if "payload" in rows else []
    sizes = np.array([len(text) for text in texts], np.int64) if texts else np.zeros(len(rows), np.int64)
    headers = {name: columns[name] for name in ("flags", "window", "scale", "weight", "probes")}
    headers |= {"side": segments.pop("side").to_numpy(), "payload_captured": sizes,
                "payload_at": np.cumsum(sizes) - sizes}
    end = ((partial.end or 0) - start) / 1e9
    return Capture("pieces", segments, len(rows), dict(partial.skipped), pd.Timestamp(start, unit="ns", tz="UTC"), end,
                   "; ".join(partial.cuts) or None, np.frombuffer(b"".join(texts), np.uint8), headers,
                   secrets=partial.secrets)


def _thinned(partial: Partial, capture: Capture) -> Partial:
    """The same in fewer rows: without those that no table needs, whatever comes before or after.

    `capture`: the `Capture` of the rows.
    """
    if not len(partial.rows):
        return partial
    weight, probes = (partial.rows[name].to_numpy().copy() for name in ("weight", "probes"))
    kept = np.zeros(len(weight), bool)
    for flow in flows(capture):
        kept[flow.row], weight[flow.row], probes[flow.row] = decide(flow, weight[flow.row], probes[flow.row])
    if "payload" in partial.rows:
        kept |= partial.rows["length"].to_numpy() > 0
    return replace(partial, rows=partial.rows.assign(weight=weight, probes=probes)[kept].reset_index(drop=True))
