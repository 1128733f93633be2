"""Captures made to break the reader, and the contract that they must not break.

`make fuzz` looks for them, guided by coverage (atheris); `test_fuzz.py` tries the same few thousand every time.
"""

import gzip
import random
import re
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from pathlib import Path
from types import FunctionType
from unittest import mock

import numpy as np
import pandas as pd
from capture_files import ETHERNET as ETHERNET_FRAMES
from capture_files import TIMES, VARIANTS, pcap_variant, small_sections
from gallery import capture_of_links

from helpers.captures import CaptureError, read_capture, read_pieces
from helpers.captures.fragments import OVERLAPS, PART
from helpers.connections import connections, handshakes, keepalive_probes
from helpers.exchanges import exchanges, signals
from helpers.experiments import data_folder
from helpers.quic import quic_connections, quic_exchanges, quic_marks
from helpers.report import Incident, summary
from helpers.states import count, netstat

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
RAW_IP, ETHERNET = 101, 1
CLIENT, SERVER = (0x0A000001, 50000), (0x0A000002, 80)
ISN = {"C": 1000, "S": 5000}
SECTION = b"\x0a\x0d\x0d\x0a"
GZIP = b"\x1f\x8b"
LARGEST = 1 << 16
TURN, KEYS_FOLLOW = b"\0TURN\0", b"\0KEYS\0"
INSTRUMENTED = tuple(f"helpers.{name}" for name in ("captures", "connections", "exchanges", "flow", "protocols", "quic", "states", "report"))


# Captures from bytes: thousands of frames in no time

def frame(who, flags, seq, ack=0, payload=b"", client=CLIENT, server=SERVER, isn=None):
    """An IPv4 packet sent by `who` (`C` or `S`), numbers relative as in `toys.segment`; endpoints as integers."""
    (src, sport), (dst, dport) = (client, server) if who == "C" else (server, client)
    own, other = (isn or ISN)[who], (isn or ISN)["S" if who == "C" else "C"]
    acked = (other + ack) % 2**32 if flags & ACK else 0
    return struct.pack(">BBHHHBBHII", 0x45, 0, min(40 + len(payload), 65535), 0, 0, 64, 6, 0, src, dst) + struct.pack(
        ">HHIIHHHH", sport, dport, (own + seq) % 2**32, acked, 0x5000 | flags, 64240, 0, 0) + payload


def pcap(frames, gap=1000, order="<", link=RAW_IP, times=None):
    """A pcap file of frames `gap` µs apart, or at `times` (µs)."""
    times = times or range(0, gap * len(frames) or 1, gap or 1)
    head = struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, link)
    return head + b"".join(struct.pack(order + "IIII", *divmod(time, 10**6), len(data), len(data)) + data
                           for time, data in zip(times, frames))


def block(kind, body, order="<"):
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def pcapng(frames, gap=1000, order="<", link=RAW_IP, times=None):
    """The same as `pcap`, in a pcapng file."""
    times = times or range(0, gap * len(frames) or 1, gap or 1)
    head = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)
    head += block(1, struct.pack(order + "HHI", link, 0, 0), order)
    heads = [struct.pack(order + "5I", 0, time >> 32, time % 2**32, len(data), len(data))
             for time, data in zip(times, frames)]
    return head + b"".join(block(6, packet + data, order) for packet, data in zip(heads, frames))


def opened(client=CLIENT, isn=None):
    """The three segments of a handshake."""
    return [frame(who, flags, seq, ack, client=client, isn=isn)
            for who, flags, seq, ack in (("C", SYN, 0, 0), ("S", SYN | ACK, 0, 1), ("C", ACK, 1, 1))]


HANDSHAKE = opened()
CLOSING = [frame("S", FIN | ACK, 1, 1), frame("C", ACK, 1, 2), frame("C", FIN | ACK, 1, 2), frame("S", ACK, 2, 2)]


def fragments(whole, number, size=24):
    """The fragments of an IPv4 packet, each of `size` bytes but the last, which is what is left."""
    head, rest = whole[:20], whole[20:]
    places = range(0, len(rest), size)
    return [head[:2] + struct.pack(">HHH", 20 + len(rest[at:at + size]), number, at // 8 | 0x2000 * (at < places[-1]))
            + head[8:] + rest[at:at + size] for at in places]


def spoken(who, data, piece=1400, seq=1, ack=1, client=CLIENT):
    """Segments that carry `data` in pieces of `piece` bytes."""
    return [frame(who, PSH | ACK, seq + at, ack, data[at:at + piece], client) for at in range(0, len(data), piece)]


def conversation(data, client=CLIENT):
    """The frames that `data` describes: two bytes of how, then what client and server say in turn, split at NULs.

    First byte: bytes a segment, less one. Second byte, its bits: no handshake, a FIN, segments in disorder, one lost.
    """
    piece, how, turns = *data[:2].ljust(2, b"\0"), data[2:].split(b"\0")
    frames, said = [], {"C": 1, "S": 1}
    for who, text in zip("CS" * len(turns), turns):
        frames += spoken(who, text, piece + 1, said[who], said["S" if who == "C" else "C"], client)
        said[who] += len(text)
    chance = random.Random(how)
    if how & 4:
        chance.shuffle(frames)
    if how & 8 and frames:
        del frames[chance.randrange(len(frames))]
    if how & 2:
        frames.append(frame("S", FIN | ACK, said["S"], said["C"], client=client))
    return ([] if how & 1 else opened(client)) + frames


# The contract

def examine(path, data):
    """The `Capture` of `data`, or None; an AssertionError, or whatever else comes, where the reader breaks its word."""
    path.write_bytes(data)
    try:
        capture = read_capture(path)
    except CaptureError as error:
        assert error.path == str(path) and error.offset >= 0 and error.reason and str(path) in str(error)
        return None
    accounted(capture)
    return capture


def accounted(capture):
    """Every frame is a segment or skipped for a reason; every segment is in one stream, between two endpoints."""
    table, streams = capture.segments, capture.segments["stream"]
    assert len(table) + sum(capture.skipped.values()) == capture.frames
    assert table.index.is_unique and table.index.is_monotonic_increasing
    assert not len(table) or (table.index[0] >= 1 and table.index[-1] <= capture.frames)
    assert streams.drop_duplicates().tolist() == list(range(streams.nunique()))
    ends = [table[side].astype(str) + " " + table[port].astype(str)
            for side, port in (("src", "sport"), ("dst", "dport"))]
    one, other = (ends[0].where(ends[0] < ends[1], ends[1]), ends[1].where(ends[0] < ends[1], ends[0]))
    assert ((one + " " + other).groupby(streams).nunique() <= 1).all()
    assert table["length"].ge(0).all() and table["time"].le(capture.end).all()
    for number in table.index[:50]:
        held = len(capture.data) if PART in capture.skipped else len(capture.frame_bytes(number))
        assert len(capture.payload(number)) <= min(table.at[number, "length"], held)


def rows_of(capture):
    """What a capture says of each segment, but its frame number and stream; times since 1970."""
    table, headers = capture.segments, capture.headers
    payloads = [capture.data[at:at + size].tobytes() for at, size in zip(
        headers["payload_at"].tolist(), headers["payload_captured"].tolist())]
    columns = [table[name].astype(str) for name in ("src", "sport", "dst", "dport", "seq", "ack", "flags", "length")]
    return list(zip(*columns, headers["window"].tolist(), headers["scale"].tolist(), payloads))


def times_of(capture):
    """The times of all segments in ns since 1970, and how exact they can be: 53 bits of seconds."""
    seconds = capture.segments["time"].to_numpy()
    return capture.start.value + np.rint(seconds * 1e9).astype(np.int64), 1 + 1e9 * np.spacing(np.abs(seconds))


def assert_pieces_say_the_same(path, capture, size):
    """All that the pieces of a file say, together, is what the whole says."""
    pieces = list(read_pieces(path, size))
    assert [row for piece in pieces for row in rows_of(piece)] == rows_of(capture)
    assert sum(piece.frames for piece in pieces) == capture.frames and all(piece.frames for piece in pieces[:-1])
    assert sum((Counter(piece.skipped) for piece in pieces), Counter()) == Counter(capture.skipped)
    dropped = [piece.dropped for piece in pieces if piece.dropped is not None]
    assert (sum(dropped) if dropped else None) == capture.dropped
    assert pieces[0].start == capture.start
    assert (capture.cut or "").startswith("; ".join(piece.cut for piece in pieces if piece.cut))
    assert bool(capture.cut) == bool(pieces[-1].cut) and not any(piece.cut for piece in pieces[:-1])
    times, exact = times_of(capture)
    other, other_exact = (np.concatenate(parts) for parts in zip(*map(times_of, pieces)))
    assert (np.abs(other - times) <= exact + other_exact).all()


def examine_tables(capture):
    """Build every table over `capture`, and hold each to what it promises."""
    incident = Incident(capture)
    streams, stays = set(capture.segments["stream"]), incident.states
    assert set(incident.connections.index) == streams
    assert keepalive_probes(capture).sum() == incident.connections["keepalive_probes"].sum()
    assert set(stays["stream"]) <= streams and not (stays["since"] > stays["until"]).any()
    for moment in (0, capture.end / 2, capture.end):
        assert len(netstat(stays, moment)) == sum(count(stays, state, at=moment) for state in stays["state"].unique())
    assert (count(stays, "TIME_WAIT") >= 0).all()
    examine_exchanges(capture, incident.exchanges)
    assert summary(incident)


def examine_exchanges(capture, table):
    """Hold the exchanges of `capture` to what they promise."""
    assert set(table["stream"]) <= set(capture.segments["stream"])
    assert not (table["finished"] < table["answered"]).any() and not (table["response_bytes"] < 0).any()
    assert table["status"].dropna().between(101, 999).all() and (table["requested"] <= capture.end).all()
    assert not table.dropna(subset="nth").duplicated(["stream", "nth"]).any() or table["stream"].duplicated().any()


# Mutation

NUMBERS = (0, 1, 2, 3, 4, 5, 7, 8, 13, 15, 16, 19, 20, 28, 40, 60, 127, 128, 255, 256, 1500, 0x7FFF, 0x8000, 0xFFFF,
           1 << 18, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = (b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 101 S\r\n", b"HTTP/1.1 100 C\r\n\r\n",
         b"CONNECT a:1 HTTP/1.1\r\n", b"HEAD /", b"Content-Length: 3\r\n", b"Content-Length: ", b"99999999999999999999",
         b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: ", b"3\r\nabc\r\n", b"0\r\n\r\n", b"\r\n\r\n", b"\r\n",
         b"\n", b"\n\n", b"\0", b" ", b":", b";", b"-1", b"\xff", b"fffffffffffffffff\r\n",
         b"\x81\x00", b"\x88\xa8", b"\x08\x00", b"\x86\xdd", b"\x45\x00", b"\x60\x00", b"\x03\x03\xff", SECTION, GZIP)
PACKET = re.compile(rb"(\x45[\s\S]{8}\x06[\s\S]{10})|\x60[\s\S]{5}\x06[\s\S]{33}")
FIELDS = {"sport": (0, 2), "dport": (2, 2), "seq": (4, 4), "ack": (8, 4), "offset": (12, 1), "flags": (13, 1),
          "window": (14, 2)}
FLAGS = (SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK, PSH | ACK, SYN | FIN, 0, 255)


def mutate(data, chance):
    """`data` with a few changes, drawn from `chance` (a `random.Random`): to any bytes, records, IP and TCP headers."""
    zipped = data[:2] == GZIP
    data = bytearray(_unzipped(data) if zipped and chance.random() < 0.7 else data)
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        if data:
            chance.choice(MUTATIONS)(data, chance)
    return gzip.compress(data, 1, mtime=0) if zipped != (chance.random() < 0.03) and data[:2] != GZIP else bytes(data)


def _unzipped(data):
    try:
        return zlib.decompressobj(31).decompress(data, LARGEST)
    except zlib.error:
        return data


def _records(data):
    """(begin, where its frame begins, end) of each record of a pcap file, or block of a pcapng file."""
    at, found = (0, []) if data[:4] == SECTION else (24, [])
    order = "<" if data[:4] in (SECTION, b"\xd4\xc3\xb2\xa1") else ">"
    while at + 16 <= len(data) and len(found) < 1000:
        if data[:4] == SECTION:
            size, head = struct.unpack_from(order + "I", data, at + 4)[0], 28
        else:
            size, head = struct.unpack_from(order + "I", data, at + 8)[0] + 16, 16
        if size < 12 or at + size > len(data):
            break
        found.append((at, at + head, at + size))
        at += size
    return found


def _write(data, at, number, size, chance):
    number %= 256 ** size
    data[at:at + size] = number.to_bytes(size, chance.choice(("little", "big")))


def _byte(data, chance):
    at = chance.randrange(min(len(data), chance.choice((64, LARGEST))))
    data[at] = chance.choice((data[at] ^ 1 << chance.randrange(8), chance.randrange(256), chance.choice(NUMBERS) % 256))


def _number(data, chance):
    at, number = chance.randrange(len(data)), chance.choice(NUMBERS) + chance.choice((-1, 0, 0, 1))
    _write(data, at, number, chance.choice((1, 2, 4, 8)), chance)


def _word(data, chance):
    at, word = chance.randrange(len(data)), chance.choice(WORDS)
    data[at:at + chance.choice((0, len(word)))] = word


def _cut(data, chance):
    at = chance.randrange(len(data))
    del data[at:chance.choice((len(data), at + 1, at + chance.randrange(64)))]


def _copy(data, chance):
    at, size = chance.randrange(len(data)), chance.randrange(1, 200)
    if len(data) < LARGEST:
        data[at:at + chance.choice((0, size))] = data[(begin := chance.randrange(len(data))):begin + size]


def _record(data, chance):
    """Drop a record, or let it come again elsewhere."""
    if records := _records(data):
        begin, _, end = chance.choice(records)
        again, at = bytes(data[begin:end]), chance.choice(records)[0]
        if chance.random() < 0.5:
            del data[begin:end]
        elif len(data) < LARGEST:
            data[at:at] = again


def _claim(data, chance):
    """Let a record, or an IP header, claim another length."""
    if records := _records(data):
        begin, packet, end = chance.choice(records)
        at = chance.choice((begin + 4, packet - 8, packet - 4))
        _write(data, at, chance.choice((end - packet, *NUMBERS)) + chance.choice((-1, 0, 1)), 4, chance)


def _packet(data, chance):
    """Where the IP and the TCP header of some frame begin, or None."""
    if records := _records(data):
        _, begin, end = chance.choice(records)
        if found := PACKET.search(data, begin, end):
            return found.start(), found.end()
    return None


def _ip(data, chance):
    if found := _packet(data, chance):
        data[found[0] + chance.choice((0, 2, 3, 4, 5, 6, 6, 7, 9))] = chance.choice(NUMBERS) % 256


def _tcp(data, chance):
    """Write a field of a TCP header: near what it was, near a limit, or as in another segment."""
    found, other = _packet(data, chance), _packet(data, chance)
    if found and other:
        at, size = FIELDS[chance.choice(list(FIELDS))]
        was = int.from_bytes(data[found[1] + at:found[1] + at + size], "big")
        copied = int.from_bytes(data[other[1] + at:other[1] + at + size], "big")
        number = chance.choice((was, was + (1 << 31), copied, chance.choice(NUMBERS))) + chance.choice((-1, 0, 0, 1))
        data[found[1] + at:found[1] + at + size] = (number % 256 ** size).to_bytes(size, "big")


def _flags(data, chance):
    found = _packet(data, chance)
    if found and found[1] + 13 < len(data):
        data[found[1] + 13] = chance.choice(FLAGS)


def _payload(data, chance):
    if found := _packet(data, chance):
        at, word = found[1] + 20 + chance.choice((0, chance.randrange(200))), chance.choice(WORDS)
        data[at:at + len(word)] = word


MUTATIONS = (_byte, _number, _word, _cut, _copy, _record, _record, _claim, _ip, _tcp, _tcp, _flags, _payload)


# Seeds

def seeds():
    """Captures to begin with: the first frames of shipped ones, and toys, in each container."""
    found = []
    for path in sorted(data_folder().glob("*/capture*.pcapng"))[::3]:
        capture = read_capture(path)
        frames = [capture.frame_bytes(number) for number in range(1, min(capture.frames, 14) + 1)]
        found.append(pcap(frames, 10**5, link=ETHERNET))
        found.append(path.read_bytes()[:6000])
    say = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"]
    toy = HANDSHAKE + spoken("C", say[0]) + spoken("S", say[1], ack=1 + len(say[0]))
    for frames in (toy, HANDSHAKE + CLOSING, HANDSHAKE + CLOSING + [frame("C", SYN, 99999), frame("C", RST, 2)]):
        found += [pcap(frames), pcap(frames, 0, ">"), pcapng(frames), pcapng(frames, 10**7, ">"),
                  gzip.compress(pcap(frames), mtime=0)]
    variants = [pcap_variant(ETHERNET_FRAMES, *kind) for kind in VARIANTS[:6]]
    cut = [part for number, whole in enumerate(toy) for part in fragments(whole, number)]
    found += [pcap(cut), pcapng(cut[::-1]), *zstd(pcap(toy))]
    return found + variants + [small_sections(ETHERNET_FRAMES, TIMES), capture_of_links()]


def zstd(data):
    """`data` as zstd, in a list; an empty one where nothing is installed that makes it."""
    try:
        from compression.zstd import compress
    except ImportError:
        try:
            from zstandard import compress
        except ImportError:
            return []
    return [compress(data, 3)]


def conversations():
    """Conversations to begin with."""
    get, head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\n"
    answers = [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
               b"\r\nuntil close",
               b"Content-Length: 0\r\n\r\n" + head + b"Content-Length: 1\r\n\r\nx"]
    turns = [b"\0".join([get, head + answer, get, head + b"Content-Length: 0\r\n\r\n"]) for answer in answers]
    return [bytes([piece, how]) + turn for turn in turns for piece in (0, 20, 255) for how in (0, 3, 12)]


# The long run

def readers(path, data):
    """The whole file, and in pieces, which put no fragments together across their ends."""
    capture = examine(path, data)
    if capture is not None and capture.frames < 200 and not {PART, OVERLAPS} & set(capture.skipped):
        assert_pieces_say_the_same(path, capture, 20 + len(data) // 3)


def tables(path, data):
    capture = examine(path, data)
    if capture is not None and capture.frames < 200:
        examine_tables(capture)


def talks(path, data):
    """The conversation, and the same words cut otherwise, on four connections."""
    hows = [data[:2], b"\0" + data[1:2], b"\x0c\0", b"\xff\x0e"]
    talked = [conversation(how + data[2:], (CLIENT[0], CLIENT[1] + number)) for number, how in enumerate(hows)]
    capture = examine(path, pcap([one for frames in talked for one in frames]))
    table = exchanges(capture)
    examine_exchanges(capture, table)
    pd.testing.assert_frame_equal(table, one_by_one(capture), check_exact=True)


def one_by_one(capture):
    """The exchanges of all connections read message after message, also of those that `in_turns` would read."""
    with mock.patch("helpers.exchanges.in_turns", lambda _, flow: (np.zeros(flow.directions // 2, bool), {})):
        return exchanges(capture)


def sealed(path, data):
    """TLS and what is inside: any records, under any keys."""
    said, keys = data[2:].split(KEYS_FOLLOW, 1) if KEYS_FOLLOW in data else (data[2:], b"")
    path.write_bytes(pcap(conversation_of_records(data[:2], said)))
    log = path.with_suffix(".log")
    log.write_bytes(keys)
    try:
        capture = read_capture(path, keys=log)
    except CaptureError:
        return
    examine_encrypted(capture, exchanges(capture))


def framed(path, data):
    """HTTP/2 in the clear: any frames."""
    capture = examine(path, pcap(conversation_of_records(data[:2], data[2:])))
    examine_encrypted(capture, exchanges(capture))


def conversation_of_records(how, said):
    """The frames of a client and a server that say what `said` holds in turn, split at `TURN`; see `conversation`."""
    piece, bits = how.ljust(2, b"\0")
    chance, frames, sent = random.Random(bits), [], {"C": 1, "S": 1}
    for who, text in zip("CS" * len(said), said.split(TURN)):
        frames += spoken(who, text, 4 * piece + 1, sent[who], sent["S" if who == "C" else "C"])
        sent[who] += len(text)
    if bits & 4:
        chance.shuffle(frames)
    if bits & 8 and frames:
        del frames[chance.randrange(len(frames))]
    return ([] if bits & 1 else HANDSHAKE) + frames


def examine_encrypted(capture, table):
    """Hold what was read of TLS and HTTP/2 to what it promises: no secret shows, and no row is older than its cause."""
    examine_exchanges(capture, table)
    told, said, connected = handshakes(capture), signals(capture), connections(capture)
    assert set(told.index) <= set(connected.index) and set(said["stream"]) <= set(connected.index)
    assert told["round_trips"].dropna().ge(0).all() and said["time"].le(capture.end).all()
    shown = "".join(frame.to_string() for frame in (table, told, said, connected)) + repr(capture)
    assert not any(secret.hex() in shown for labels in capture.secrets.values() for secret in labels.values())


def sealed_seeds():
    """The records and keys of the recorded connections over TLS."""
    path = Path(__file__).parent / "recorded" / "curl-over-tls" / "capture.pcapng"
    capture, found = read_capture(path), []
    keys = b"".join(f"{label} {random_bytes.hex()} {secret.hex()}\n".encode() for random_bytes, labels in
                    capture.secrets.items() for label, secret in labels.items())
    for _, rows in capture.segments[capture.segments["length"] > 0].groupby("stream"):
        said, before = b"", "client"
        for number, host in rows["host"].astype(str).items():
            said += (TURN if host != before else b"") + capture.payload(number)
            before = host
        found += [bytes((255, how)) + said[:20_000] + KEYS_FOLLOW + keys for how in (0, 12)]
    return found


def framed_seeds():
    """HTTP/2 in the clear, of each kind of frame one."""
    def one(kind, flags, number, payload=b""):
        return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", number) + payload
    ask = bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff")
    client = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + one(4, 0, 0) + one(1, 5, 1, ask) + one(1, 1, 3, ask[:5]) + one(
        9, 4, 3, ask[5:]) + one(8, 0, 0, b"\0\1\0\0") + one(3, 0, 3, b"\0\0\0\x08")
    server = one(4, 0, 0) + one(1, 4, 1, b"\x88") + one(5, 4, 1, b"\0\0\0\2" + ask) + one(0, 1, 1, b"hello") + one(
        1, 5, 2, b"\x88") + one(6, 0, 0, bytes(8)) + one(7, 0, 0, bytes(8)) + one(2, 0, 1, bytes(5))
    return [bytes((piece, how)) + client + TURN + server for piece in (0, 7, 255) for how in (0, 1, 12)]


def quic(path, data):
    """QUIC and HTTP/3: any datagrams, and plaintexts sealed under true keys."""
    capture = examine(path, data)
    if capture is not None:
        examine_quic(capture)


def examine_quic(capture):
    """Hold the tables of QUIC to what they promise, and show no secret."""
    table, asked, marks = quic_connections(capture), quic_exchanges(capture), quic_marks(capture)
    assert set(asked["stream"]) | set(marks["stream"]) <= set(table.index)
    assert table["datagrams"].sum() <= len(capture.datagrams) and not (table["closed"] < table["opened"]).any()
    assert not (asked["finished"] < asked["answered"]).any() and not asked.duplicated(["stream", "nth"]).any()
    shown = table.to_string() + asked.to_string() + marks.to_string()
    assert not any(secret.hex() in shown for labels in capture.secrets.values() for secret in labels.values())


def quic_seeds():
    """A recorded HTTP/3 connection, with its keys."""
    return [(Path(__file__).parent / "recorded" / "h3-chromium" / "capture.pcapng").read_bytes()]


TARGETS = {"readers": (readers, seeds), "tables": (tables, seeds), "talks": (talks, conversations),
           "sealed": (sealed, sealed_seeds), "framed": (framed, framed_seeds), "quic": (quic, quic_seeds)}


def look(target, seconds, folder):
    """Let atheris look for inputs that break `target`; doesn't return."""
    import atheris
    function, begin_with = TARGETS[target]
    corpus = folder / target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(begin_with()):
        (corpus / f"seed-{number}").write_bytes(data)
    path = Path(tempfile.mkdtemp()) / "capture"

    def one(data):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            function(path, data)

    def changed(data, largest, seed):
        chance = random.Random(seed)
        return (atheris.Mutate(data, largest) if chance.random() < 0.2 else mutate(data, chance))[:largest]

    for name in [name for name in sys.modules if name.startswith(INSTRUMENTED)]:
        own = [item for item in vars(sys.modules[name]).values() if getattr(item, "__module__", "") == name]
        methods = [item for kind in own if isinstance(kind, type) for item in vars(kind).values()]
        for item in own + methods:
            if isinstance(item, FunctionType):
                atheris.instrument_func(item)
    options = [f"-max_total_time={seconds}", f"-max_len={LARGEST}", "-timeout=60", "-rss_limit_mb=3000",
               "-print_final_stats=1", f"-artifact_prefix={folder}/{target}-"]
    atheris.Setup([sys.argv[0], str(corpus), *options], one, custom_mutator=changed)
    atheris.Fuzz()


def main(seconds, folder=Path("build/fuzz")):
    """The exit status (0: nothing broke) of looking `seconds` long, each target a share of it."""
    try:
        import atheris  # noqa: F401
    except ImportError:
        sys.exit("fuzz: atheris is not here; it has to be installed, and needs Linux or macOS, and Python 3.11 to 3.14")
    share = str(max(int(seconds) // len(TARGETS), 1))
    return max(subprocess.run([sys.executable, __file__, target, share, str(folder)], check=False).returncode
               for target in TARGETS)


if __name__ == "__main__":
    if sys.argv[1] in TARGETS:
        look(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    sys.exit(main(sys.argv[1]))
