"""A page is loaded: which connection is opened when, and which request goes over it."""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from helpers.model.rules import Client, Page, Server, Wire

HEAD = 240      # bytes of an answer's status line and headers


@dataclass
class Request:
    """One request and its answer: times as the client's end of the wire has them."""

    target: str
    size: int
    requested: float = 0.0
    answered: float = 0.0
    finished: float = 0.0


@dataclass
class Connection:
    """One connection: `ready` when the client may send a request; `ended` where the load itself ended it."""

    opened: float
    ready: float
    requests: list[Request] = field(default_factory=list)
    busy: bool = False
    kept_for: Request | None = None
    ended: float | None = None
    dropped: float | None = None

    @property
    def last(self) -> float:
        """When it was last used, or could first be."""
        return max([self.ready, *(request.finished for request in self.requests)])


class Loading:
    """Plays the load of a page from time `at`: what happens next is taken from a heap of events."""

    def __init__(self, page: Page, client: Client, server: Server, wire: Wire, at: float = 0.0):
        self.page, self.client, self.server, self.wire, self.at = page, client, server, wire, at
        self.connections, self._waiting, self._left = [], deque(), 0
        self._events, self._order, self._link_free = [], count(), at

    def run(self) -> list[Connection]:
        """The connections, with all requests answered."""
        for _ in range(self.client.in_advance):
            self._open(self.at)
        self._want(self.at, [Request("/", self.page.html)])
        while self._events:
            time, _, happen = heapq.heappop(self._events)
            happen(time)
        return self.connections

    def _later(self, time: float, happen: Callable[[float], None]):
        heapq.heappush(self._events, (time, next(self._order), happen))

    def _open(self, now, kept_for=None):
        trips = self.client.tcp + self.client.handshake
        made = Connection(now, now + trips * self.wire.round_trip, kept_for=kept_for)
        self.connections.append(made)
        self._later(made.ready, lambda time: self._ready(time, made))

    def _ready(self, now, made):
        if self.client.shares and self._free(now) is not made:
            made.dropped = now          # an earlier one can carry everything: this one is not needed
        elif made.kept_for:
            self._send(now, made, made.kept_for)
        self._assign(now)

    def _want(self, now, requests):
        self._left += len(requests)
        self._waiting.extend(requests)
        self._assign(now)

    def _assign(self, now):
        while self._waiting and (free := self._free(now)):
            self._send(now, free, self._waiting.popleft())
        opening = sum(one.ready > now and one.kept_for is None for one in self.connections)
        alive = sum((one.ended is None or one.ended > now) and one.dropped is None for one in self.connections)
        for _ in range(min(len(self._waiting) - opening, self.client.limit - alive)):
            self._open(now, self._waiting.popleft() if self.client.binds_early else None)

    def _free(self, now):
        """The connection that the next request goes over: the one used last, else the oldest unused one."""
        idle = [one for one in self.connections if one.ready <= now and not (one.busy and not self.client.shares)
                and one.ended is None and one.dropped is None and not (one.kept_for and not one.requests)]
        return max(idle, key=lambda one: (bool(one.requests), one.last if one.requests else -one.opened), default=None)

    def _send(self, now, over, request):
        trip, rate = self.wire.round_trip, self.wire.bandwidth / 8
        begun = max(now + trip / 2, self._link_free)
        self._link_free = begun + (HEAD + request.size) / rate
        request.requested, request.answered = now, begun + HEAD / rate + trip / 2
        request.finished = self._link_free + trip / 2
        over.requests.append(request)
        over.busy = True
        if len(over.requests) == self.server.requests or not self.server.keepalive_timeout or not self.client.idle:
            over.ended = request.finished
        self._later(request.finished, lambda time: self._done(time, over, request))

    def _done(self, now, over, request):
        over.busy = any(one.finished > now for one in over.requests)
        self._left -= 1
        if request.target == "/":
            images = [Request(f"/image-{number}.png", size) for number, size in enumerate(self.page.images, 1)]
            self._want(now, images)
        if not self._left and request.target != "/favicon.ico" and self.client.asks_icon:
            self._want(now, [Request("/favicon.ico", self.page.icon)])
        self._assign(now)
