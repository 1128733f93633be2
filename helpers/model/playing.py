"""From what was played to the tables of a recording: the segments are written as a capture and read as one.

So connections, closers and states follow from the same code as for any file. It is a play and no recording: its packets
were sent by nobody.
"""

import io
import struct
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from helpers.captures import Capture, read_capture
from helpers.connections import connections
from helpers.exchanges import COLUMNS
from helpers.model.closing import segments_of
from helpers.model.loading import HEAD, Connection, Loading
from helpers.model.rules import LOOPBACK, NGINX, Client, Page, Server, Wire
from helpers.states import states

ADDRESSES = {"C": bytes((10, 0, 0, 1)), "S": bytes((10, 0, 0, 2))}
FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16}
PORT, RAW_IP, NANOSECONDS = 80, 101, 0xA1B23C4D
FIRST_PORT = 40_000


@dataclass(frozen=True)
class Played:
    """What a play gives: the tables of a recording, for the figures of this course to draw.

    `capture`, `segments`, `connections`, `exchanges`, `states`: as of an `Experiment`. Over HTTP/3 there is no TCP:
    only `exchanges` has rows. Times are seconds since the visit began.
    """

    client: Client
    server: Server
    made: tuple[Connection, ...]
    capture: Capture

    @property
    def segments(self) -> pd.DataFrame:
        return self.capture.segments

    @cached_property
    def connections(self) -> pd.DataFrame:
        table = connections(self.capture, fin_timeout=self.server.fin_timeout)
        return table.assign(protocol=pd.array([self.client.protocol] * len(table), "string"))

    @cached_property
    def states(self) -> pd.DataFrame:
        return states(self.capture, fin_timeout=self.server.fin_timeout)

    @cached_property
    def exchanges(self) -> pd.DataFrame:
        version, framing = {"h2": ("2", "frames"), "h3": ("3", "frames")}.get(
            self.client.protocol, ("1.1", "content-length"))
        rows = [(stream, nth, "GET", one.target, 200, version, framing, one.requested, one.answered, one.finished,
                 one.size + HEAD)
                for stream, made in enumerate(self.made) for nth, one in enumerate(made.requests, 1)]
        rows.sort(key=lambda row: row[7])
        return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def play(page: Page, client: Client, server: Server = NGINX, wire: Wire = LOOPBACK,
         wakes: tuple[float, ...] = ()) -> Played:
    """Play one load of `page` and what becomes of its connections; return its tables as `Played`.

    `wakes`: when the client's later requests to other servers make it look at its idle connections (seconds).
    """
    made = Loading(page, client, server, wire).run()
    told = sorted(((time, number, who, flags, payload) for number, one in enumerate(made)
                   for time, who, flags, payload in segments_of(one, client, server, wire, wakes)),
                  key=lambda segment: segment[0]) if client.tcp else []
    return Played(client, server, tuple(made), read_capture(_written(told)))


def _written(told):
    """The segments as a capture file in memory."""
    file, numbers = io.BytesIO(), {}
    file.write(struct.pack("<IHHiIII", NANOSECONDS, 2, 4, 0, 0, 1 << 18, RAW_IP))
    for time, number, who, flags, payload in told:
        frame = _frame(number, who, flags, payload, numbers)
        nanoseconds = round(time * 1e9)
        file.write(struct.pack("<IIII", nanoseconds // 10 ** 9, nanoseconds % 10 ** 9, len(frame), len(frame)) + frame)
    file.seek(0)
    return file


def _frame(number, who, flags, payload, numbers):
    """One frame of IPv4 and TCP; `numbers`: the next sequence number of each end, kept from frame to frame."""
    other = "S" if who == "C" else "C"
    sent = numbers.setdefault((number, who), 1000)
    got = numbers.setdefault((number, other), 1000)
    bits = sum(FLAGS[letter] for letter in ("A" if flags == "probe" else flags))
    seq = sent - (flags == "probe")
    numbers[number, who] = sent + len(payload) + bool(bits & (FLAGS["S"] | FLAGS["F"]))
    ports = (FIRST_PORT + number, PORT) if who == "C" else (PORT, FIRST_PORT + number)
    tcp = struct.pack("!HHIIBBHHH", *ports, seq, got if bits & FLAGS["A"] else 0, 5 << 4, bits, 64_000, 0, 0)
    length = 40 + len(payload)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, 0, 0x4000, 64, 6, 0, ADDRESSES[who], ADDRESSES[other])
    return ip + tcp + payload
