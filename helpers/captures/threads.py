"""Work on parts of a capture at the same time, in threads: numpy lets other threads go on while it computes.

Which thread does a part changes nothing in its result, and results come in the order of the parts. So the tables are
the same to the byte, whatever the number of threads.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice

AHEAD = 1       # so many parts more than there are threads wait for one, or for their turn


def number_of_threads(threads: int | None = None) -> int:
    """How many threads to use: `threads`, or as many as this process may use processors where that is None.

    Raises ValueError where `threads` is no number from 1 on.
    """
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads is {threads!r}; give a whole number from 1 on, or None for one per processor")
    return threads


def in_threads(work: Callable, parts: Iterable, threads: int) -> Iterator:
    """Yield `work(part)` for each of `parts`, in their order; up to `threads` of them are worked on at the same time.

    What `work` or `parts` raises is raised here, and what has not begun then never begins.
    """
    if threads == 1:
        yield from map(work, parts)
        return
    parts = iter(parts)
    first = list(islice(parts, 2))
    if len(first) < 2:                      # most captures are a single part, and threads take time to start
        yield from map(work, first)
        return
    waiting: deque = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for part in chain(first, parts):
                waiting.append(pool.submit(work, part))
                if len(waiting) > threads + AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
