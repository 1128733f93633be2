"""A wire with a length: TUN devices and a forwarder that delays packets, and drops or holds chosen ones."""

import fcntl
import multiprocessing
import os
import select
import struct
import threading
import time
from collections import deque, namedtuple
from contextlib import suppress

from helpers.testbed.hosts import network

DROP, HOLD = "drop", "hold"
LONGEST_PACKET = 65535
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
Segment = namedtuple("Segment", "sport dport seq ack flags payload")


class Wire:
    """Carries IP packets between the hosts, `delay` seconds each way, once `lay` has been called.

    `fate`: called with the sending host and each TCP segment before it travels. Where it returns `DROP`, the
    segment is lost; where `HOLD`, it waits in `held`, as (sender, packet), until `release`; where a packet (bytes),
    that one goes back to the sender, and the segment is lost. `carrier`: what
    carries the packets: a thread, or a `PromptProcess`, which no other program delays, but whose
    `held` we can't see.
    """

    def __init__(self, delay, fate=lambda sender, segment: None, carrier=threading.Thread):
        self.delay, self.fate, self.held, self._ends, self._carrier = delay, fate, [], {}, carrier

    def lay(self) -> None:
        """Put a device on each host, as `network.build` wants it, and carry packets from now on."""
        self._ends = {host: _device(host) for host in network.ADDRESSES}
        self._carrier(target=self._carry, daemon=True).start()

    def release(self) -> None:
        """Deliver all that is held, at once."""
        while self.held:
            self._deliver(*self.held.pop(0))

    def _deliver(self, sender, packet):
        os.write(self._ends[self._other(sender)], packet)

    def _other(self, host):
        other, = self._ends.keys() - {host}
        return other

    def _carry(self):
        travelling, senders = deque(), {end: host for host, end in self._ends.items()}
        while True:
            patience = max(0, travelling[0][0] - time.monotonic()) if travelling else None
            for end in select.select(list(senders), [], [], patience)[0]:
                arrives, packet = time.monotonic() + self.delay, os.read(end, LONGEST_PACKET)
                fate = self.fate(senders[end], segment(packet))
                if fate == HOLD:
                    self.held.append((senders[end], packet))
                elif isinstance(fate, bytes):
                    travelling.append((arrives, self._other(senders[end]), fate))
                elif fate != DROP:
                    travelling.append((arrives, senders[end], packet))
            while travelling and travelling[0][0] <= time.monotonic():
                self._deliver(*travelling.popleft()[1:])


class PromptProcess(multiprocessing.get_context("fork").Process):
    """A process that runs before all others, where the kernel permits it, so that packets keep their distances."""

    def run(self) -> None:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        super().run()


def segment(packet: bytes) -> Segment:
    """The TCP segment in an IPv4 packet."""
    start = (packet[0] & 0x0F) * 4
    *ends, seq, ack, offset, flags = struct.unpack_from("!HHIIBB", packet, start)
    return Segment(*ends, seq, ack, flags, packet[start + (offset >> 4) * 4:])


def _device(host):
    """The file of a new TUN device on `host`; reading it gives the packets that the host sends."""
    end, name = os.open("/dev/net/tun", os.O_RDWR), f"wire-{host}"
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    network.run("client", "ip", "link", "set", name, "netns", host, "name", network.INTERFACE)
    return end
