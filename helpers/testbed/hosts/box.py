"""A box on the way that forgets what has been idle, as NATs, firewalls and balancers do: a fate for `wire.Wire`."""

import time

from helpers.captures import SYN
from helpers.testbed.hosts import network
from helpers.testbed.hosts.wire import DROP, Segment

TTL = 255       # of the box's own packets: many systems begin there; Linux, at both ends here, begins at 64


class Box:
    """Knows a connection from its SYN on, and forgets it after so many seconds (`patience`) without a segment.

    What belongs to none that it knows is lost in silence, or, where it `resets`, answered with a RST in the name of the
    host that it was sent to (RFC 9293 section 3.5.2), with a TTL of the box's own.
    """

    def __init__(self, patience: float, resets: bool):
        import scapy.layers.inet as layers  # takes a second: not when the first packet waits

        self._patience, self._resets, self._seen, self._layers = patience, resets, {}, layers

    def __call__(self, sender: str, segment: Segment) -> bytes | str | None:
        flow, now = frozenset((segment.sport, segment.dport)), time.monotonic()
        if segment.flags & SYN or now - self._seen.get(flow, -self._patience) < self._patience:
            self._seen[flow] = now
            return None
        return self._reset(sender, segment) if self._resets else DROP

    def _reset(self, sender, segment):
        other, = network.ADDRESSES.keys() - {sender}
        ip = self._layers.IP(src=network.ADDRESSES[other], dst=network.ADDRESSES[sender], ttl=TTL, flags="DF", id=0)
        return bytes(ip / self._layers.TCP(sport=segment.dport, dport=segment.sport, flags="R", seq=segment.ack))
