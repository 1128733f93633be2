"""Bytes of a stream put in order as they come: reordered, repeated, overlapping."""

from bisect import bisect_right
from heapq import heappop, heappush


class Received:
    """What has come of a stream: `data`, without a gap from its beginning; `size`: of the whole, once its end is known.

    `reset`: when its sender gave it up, or None. `limit`: bytes kept at most.
    """

    def __init__(self, limit: int = 1 << 62):
        self.data, self.size, self.reset, self._limit = bytearray(), None, None, limit
        self._waiting, self._ends, self._times = [], [], []
        self._fin = None

    def put(self, offset: int, data: bytes, time: float, fin: bool = False) -> bool:
        """Add bytes that came at `time`; whether `data` has grown."""
        if fin and self.size is None:
            self.size, self._fin = offset + len(data), time
        if offset + len(data) <= len(self.data) or offset > self._limit:
            return False
        before = len(self.data)
        heappush(self._waiting, (offset, data))
        while self._waiting and self._waiting[0][0] <= len(self.data):
            at, part = heappop(self._waiting)
            self.data += part[len(self.data) - at:]
        if len(self.data) > before:
            self._ends.append(len(self.data))
            self._times.append(time)
        return len(self.data) > before

    def time(self, offset: int) -> float | None:
        """When the byte at `offset`, and all before it, had come; None where they have not."""
        place = bisect_right(self._ends, offset)
        return self._times[place] if place < len(self._ends) else None

    @property
    def finished(self) -> float | None:
        """When the whole stream had come, with its end."""
        if self.size is None or len(self.data) < self.size:
            return None
        return max(self._fin, self._times[-1]) if self._times else self._fin

    def parts(self):
        """Yield (time, bytes) in the order of coming."""
        for begin, end, time in zip([0, *self._ends], self._ends, self._times):
            yield time, bytes(self.data[begin:end])
