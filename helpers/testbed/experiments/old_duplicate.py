"""A segment that the wire holds back and delivers when its connection has ended: an old duplicate on the same 4-tuple.

Each case is a visit A and a visit B to the reading server, from the same port. The wire holds back the third
line of A; TCP sends it again, and A ends with nothing missing. Then the wire delivers what it held.
"""

import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from helpers.captures import SYN
from helpers.testbed.experiments.lifetimes import Case, OldDuplicate
from helpers.testbed.hosts import network
from helpers.testbed.hosts.wire import HOLD, Wire
from helpers.testbed.running import recording, scenario
from helpers.testbed.servers.line_reader import ANSWER, COLUMNS, LENGTH, PORT, QUIT, Reader, padded

LINES = 3
PAUSE = 0.15
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 19, 20, 21
SEND_QUEUE, REPAIR_OFF = 2, -1


class OldSegment:
    """The fate of segments: the first one of each port with the last line of visit A is held.

    `initial`: the last initial sequence number by sender and client port.
    """

    def __init__(self):
        self.initial, self._known = {}, set()

    def __call__(self, sender, segment):
        if segment.flags & SYN:
            self.initial[sender, segment.sport if sender == "client" else segment.dport] = segment.seq
        if segment.payload == padded(f"visit A, line {LINES}") and segment.sport not in self._known:
            self._known.add(segment.sport)
            return HOLD
        return None


class Play:
    """The visits over `wire`, each line answered before the next; `sent` is what the client sends."""

    def __init__(self, wire, timeline):
        self._wire, self._timeline, self.sent = wire, timeline, []

    def case(self, case: Case) -> None:
        """Visits A and B from the port of `case`, and the delivery of what the wire holds."""
        self._visit_a(case)
        time.sleep(PAUSE)
        if case.into != "visit B":
            self._deliver(case)
        if case.visit_b:
            self._visit_b(case)

    def _visit_a(self, case):
        with _connect(case.port) as connection:
            for number in range(1, LINES + 1):
                self._say(connection, case, 1, f"visit A, line {number}")
            self._note(case, f"visit A ends, closed by the {case.closer}")
            self._end_a(connection, case)

    def _end_a(self, connection, case):
        if case.closer == "client, with a reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            return
        if case.closer == "server":
            self._say(connection, case, 1, QUIT)
        else:
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)

    def _visit_b(self, case):
        before = dict(self._wire.fate.initial)
        try:
            connection = _connect(case.port, before["client", case.port] + LENGTH if case.overlap else None)
        except OSError as why:
            self._note(case, f"visit B can't begin: {why.strerror}")
            return
        if case.overlap and self._shift(case, before) != LENGTH:
            raise recording.Unclean("the server's first sequence number does not follow the client's")
        with connection:
            for number in range(1, LINES + 1):
                self._say(connection, case, 2, f"visit B, line {number}")
                if number == 1 and case.into == "visit B":
                    self._deliver(case)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)

    def _shift(self, case, before):
        """How far the server's first sequence number is above that of A; cookies change each minute."""
        end = "server", case.port
        return (self._wire.fate.initial[end] - before[end]) % (1 << 32)

    def _say(self, connection, case, nth, text):
        self.sent.append((f"{time.time():.6f}", case.port, nth, text))
        connection.sendall(padded(text))
        connection.recv(len(ANSWER), socket.MSG_WAITALL)
        time.sleep(PAUSE)

    def _deliver(self, case):
        self._note(case, "the wire delivers what it held")
        self._wire.release()
        time.sleep(PAUSE)

    def _note(self, case, action):
        self._timeline.note(f"port {case.port}: {action}")


def _connect(port, initial=None):
    """A connection to the reading server from `port`; `initial`: its first sequence number, if chosen."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    connection.bind((network.ADDRESSES["client"], port))
    if initial is not None:
        for option, value in ((TCP_REPAIR, 1), (TCP_REPAIR_QUEUE, SEND_QUEUE),
                              (TCP_QUEUE_SEQ, initial), (TCP_REPAIR, REPAIR_OFF)):
            connection.setsockopt(socket.IPPROTO_TCP, option, struct.pack("I", value % (1 << 32)))
    try:
        connection.connect((network.ADDRESSES["server"], PORT))
    except OSError:
        connection.close()
        raise
    return connection


def record(task: OldDuplicate, folder: Path, say: Callable[[str], None]) -> None:
    """Record `task` (an `OldDuplicate`) into `folder`."""
    wire, sent = Wire(task.delay, OldSegment()), []

    def scene(timeline):
        play = Play(wire, timeline)
        for case in task.cases:
            play.case(case)
        sent.extend(play.sent)

    say("started")
    scenario.play(task, folder, scene, Reader, wire.lay)
    recording.write_table(folder / "sent.csv", COLUMNS, sent)
