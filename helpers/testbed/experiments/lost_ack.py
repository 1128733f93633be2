"""The wire loses the last ACK of a close, so the server sends its FIN again: what answers it."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

from helpers.captures import ACK, FIN
from helpers.testbed.experiments.lifetimes import LostAck
from helpers.testbed.experiments.timers import ask, read_to_end
from helpers.testbed.hosts.wire import DROP, Wire
from helpers.testbed.running import scenario

FIRST_PORT = 40001
SPACING = 1
NGINX_PATIENCE = 30


class Losses:
    """The fate of segments: `losses` says, by client port, how many last ACKs are lost."""

    def __init__(self, losses):
        self.left, self._last, self.timeline = dict(losses), {}, None

    def __call__(self, sender, segment):
        if sender == "server" and segment.flags & FIN:
            self._last[segment.dport] = segment.seq + len(segment.payload) + 1
            return None
        port = segment.sport
        if segment.flags == ACK and segment.ack == self._last.get(port) and self.left[port]:
            self.left[port] -= 1
            self.timeline.note(f"port {port}: the wire loses the last ACK")
            return DROP
        return None


def record(task: LostAck, folder: Path, say: Callable[[str], None]) -> None:
    """Record `task` (a `LostAck`) into `folder`."""
    fate = Losses(enumerate(task.losses, FIRST_PORT))

    def scene(timeline):
        fate.timeline = timeline
        for port in list(fate.left):
            _visit(port, timeline)
            time.sleep(SPACING)

    say("started")
    scenario.play(task, folder, scene, lambda: scenario.Pages(NGINX_PATIENCE), Wire(task.delay, fate).lay)


def _visit(port, timeline):
    """Ask for the page, close first, and wait for the server's end of file."""
    with ask(port) as connection:
        connection.recv(65536)
        timeline.note(f"port {port}: the client closes")
        connection.shutdown(socket.SHUT_WR)
        read_to_end(connection)
