"""The frames that are decoded together, and how far each of them has been decoded."""

from collections import Counter
from copy import copy

import numpy as np

from helpers.captures.numbers import Type
from helpers.captures.records import structures


class Batch:
    """The frames that are decoded together, as columns, one layer after the other.

    `number` of each frame; `at`: where its next header begins; `end`: where its captured bytes end; `wire_end`: where
    its bytes on the wire would end; `link`: its link type. Headers that give a length move both ends.
    `skipped`: how many frames were left out, by reason. `fragments`: arrays of `fragments.FRAGMENT`, as they were seen.
    The layers add: `next_type`, the `numbers.Type` of the next header; `ip_at`, where the innermost IP header begins;
    `protocol`, what that carries.
    """

    def __init__(self, data, frames, first):
        self.data, self.skipped, self.fragments = data, Counter(), []
        self.number = np.arange(first, first + len(frames["at"]))
        self.at, self.end = frames["at"].copy(), frames["at"] + frames["captured"]
        self.wire_end = frames["at"] + frames["length"]
        self.link = frames["link"]

    def keep(self, mask, reason, values=None) -> None:
        """Leave out the frames outside `mask`, counted under `reason`: a text, or a function from `values` to texts."""
        if mask.all():
            return
        lost = Counter({None: int((~mask).sum())} if values is None else values[~mask].tolist())
        for value, count in lost.items():
            self.skipped[reason if values is None else reason(value)] += count
        for name in self._columns():
            setattr(self, name, getattr(self, name)[mask])

    def take(self, mask) -> "Batch":
        """Take the frames of `mask` out of these, and return them."""
        taken, others = copy(self), slice(0) if mask.all() else ~mask
        for name in self._columns():
            setattr(taken, name, getattr(self, name)[slice(None) if mask.all() else mask])
            setattr(self, name, getattr(self, name)[others])
        return taken

    def put_back(self, *taken) -> None:
        """Put back what `take` took, every frame in its place."""
        parts = [part for part in (self, *taken) if len(part.number)] or [self]
        order = np.argsort(np.concatenate([part.number for part in parts]), kind="stable") if parts[1:] else slice(None)
        for name in self._columns():
            setattr(self, name, np.concatenate([getattr(part, name) for part in parts])[order])

    def _columns(self):
        return [name for name, value in vars(self).items() if isinstance(value, np.ndarray) and name != "data"]

    def header(self, dtype, rows=slice(None)) -> np.ndarray:
        """The header of type `dtype` that begins at `at` in each of `rows`, as a structured array."""
        return structures(self.data, self.at[rows], dtype)

    def byte(self, rows) -> np.ndarray:
        """The byte at `at` of each of `rows`; 0 where the frame has ended."""
        at = self.at[rows]
        return self.data[np.where(at < self.end[rows], at, 0)] * (at < self.end[rows])

    def end_at(self, rows, end) -> None:
        """Let the frames in `rows` end at `end`, if not before: what follows there is padding or a check sum."""
        self.wire_end[rows] = np.minimum(self.wire_end[rows], end)
        self.end[rows] = np.minimum(self.end[rows], self.wire_end[rows])


def type_of_version(version_ihl: np.ndarray) -> np.ndarray:
    """The `Type` of each IP header whose first byte this is; `NOT_IP` where it is of no version that there is."""
    return np.select([version_ihl >> 4 == 4, version_ihl >> 4 == 6], [Type.IPV4, Type.IPV6], Type.NOT_IP)
