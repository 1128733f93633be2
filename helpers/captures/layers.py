"""Capture files as tables: `read_capture(path)` gives one row per TCP segment.

Formats: pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng), plain or gzipped.
"""

import gzip
import ipaddress
import struct
import zlib
from array import array
from collections import Counter
from copy import copy
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd

RECORD = np.dtype([("seconds", "u4"), ("fraction", "u4"), ("captured", "u4"), ("length", "u4")])
BLOCK = np.dtype([("kind", "u4"), ("size", "u4"), ("interface", "u4")])
PACKET = np.dtype([("high", "u4"), ("low", "u4"), ("captured", "u4"), ("length", "u4")])
ETHERNET = np.dtype([("destination", "u1", 6), ("source", "u1", 6), ("type", ">u2")])
VLAN = np.dtype([("control", ">u2"), ("type", ">u2")])
LOGICAL_LINK = np.dtype([("saps", ">u2"), ("control", "u1"), ("organisation", "u1", 3), ("type", ">u2")])
CISCO_HDLC = np.dtype([("address", "u1"), ("control", "u1"), ("type", ">u2")])
RADIOTAP = np.dtype([("version", "u1"), ("pad", "u1"), ("length", "<u2")])
WIRELESS = np.dtype([("control", "<u2")])
TOKEN_RING = np.dtype([("access", "u1"), ("control", "u1"), ("destination", "u1", 6), ("source", "u1", 6),
                       ("routing", "u1")])
NFLOG = np.dtype([("family", "u1"), ("version", "u1"), ("resource", ">u2")])
NFLOG_PART = np.dtype([("length", "<u2"), ("type", "<u2")])
DIRECTION = np.dtype([("direction", "u1")])
PPP = np.dtype([("protocol", ">u2")])
PPPOE = np.dtype([("version", "u1"), ("code", "u1"), ("session", ">u2"), ("length", ">u2")])
MPLS = np.dtype([("label", ">u2"), ("bottom", "u1"), ("ttl", "u1"), ("version_ihl", "u1")])
GRE = np.dtype([("flags_version", ">u2"), ("type", ">u2")])
UDP = np.dtype([("sport", ">u2"), ("dport", ">u2"), ("length", ">u2"), ("checksum", ">u2")])
ERSPAN = np.dtype([("version_vlan", ">u2"), ("session", ">u2"), ("index", ">u4")])
ETHER_IP = np.dtype([("version", ">u2")])
VXLAN = np.dtype([("flags", "u1"), ("reserved", "V2"), ("next", "u1"), ("network", ">u4")])
GENEVE = np.dtype([("version_options", "u1"), ("flags", "u1"), ("type", ">u2"), ("network", ">u4")])
GTP = np.dtype([("flags", "u1"), ("type", "u1"), ("length", ">u2"), ("endpoint", ">u4"), ("version_ihl", "u1")])
GTP_EXTENSION = np.dtype([("length", "u1")])
L2TP = np.dtype([("flags_version", ">u2"), ("length", ">u2"), ("session", ">u2")])
TEREDO = np.dtype([("kind", ">u2"), ("client", "u1"), ("authentication", "u1")])
INFINIBAND = np.dtype([("resource", "V40"), ("type", ">u2"), ("reserved", ">u2")])
FABRIC_PATH = np.dtype([("forwarding_tag", ">u2")])
PER_PACKET = np.dtype([("version", "u1"), ("flags", "u1"), ("length", "<u2"), ("link", "<u4")])
COOKED_1 = np.dtype([("packet_type", ">u2"), ("hardware", ">u2"), ("address_length", ">u2"),
                     ("address", "u1", 8), ("type", ">u2")])
COOKED_2 = np.dtype([("type", ">u2"), ("reserved", ">u2"), ("interface", ">u4"), ("hardware", ">u2"),
                     ("packet_type", "u1"), ("address_length", "u1"), ("address", "u1", 8)])
LOOPBACK = np.dtype([("family", ">u4")])
VERSION = np.dtype([("version_ihl", "u1")])
PAIR_4, PAIR_6 = np.dtype([("src", ">u4"), ("dst", ">u4")]), np.dtype([("src", "V16"), ("dst", "V16")])
IPV4 = np.dtype([("version_ihl", "u1"), ("dscp_ecn", "u1"), ("total_length", ">u2"), ("identification", ">u2"),
                 ("flags_offset", ">u2"), ("ttl", "u1"), ("protocol", "u1"), ("checksum", ">u2"),
                 ("addresses", PAIR_4)])
IPV6 = np.dtype([("version_class_flow", ">u4"), ("payload_length", ">u2"), ("next_header", "u1"),
                 ("hop_limit", "u1"), ("addresses", PAIR_6)])
EXTENSION = np.dtype([("next_header", "u1"), ("length", "u1"), ("offset_flags", ">u2")])
TCP, TCP_LENGTH = np.dtype([("sport", ">u2"), ("dport", ">u2"), ("seq", ">u4"), ("ack", ">u4"),
                            ("offset_flags", ">u2"), ("window", ">u2")]), 20
BYTES_OF_TCP = np.dtype(f"V{TCP.itemsize}")
PLAIN, PLAIN_LINK = np.dtype([("ethernet", ETHERNET), ("ip", IPV4), ("tcp", TCP)]), 1

FAMILIES = {2: 0x0800, 10: 0x86DD, 24: 0x86DD, 28: 0x86DD, 30: 0x86DD}
PPP_PROTOCOLS = {0x0021: 0x0800, 0x0057: 0x86DD, 0x0281: 0x8847, 0x0283: 0x8848}
IN_ETHERNET, IN_PPP, IN_PPPOE, IN_LOGICAL_LINK = 0x6558, 0x880B, 0x8864, 4
NO_IP, IEEE_802_3, IEEE_802_11, OTHER_PPP = 0, 1, 2, 1 << 17
(IN_CISCO_HDLC, IN_RADIOTAP, IN_WIRELESS, IN_GRE, IN_GTP, IN_GTP_EXTENSION, IN_VXLAN, IN_VXLAN_GPE, IN_GENEVE, IN_RAW,
 IN_LOOPBACK, IN_COOKED_1, IN_COOKED_2, IN_TOKEN_RING, IN_NFLOG, IN_NFLOG_PART, IN_DIRECTED_PPP, IN_L2TP, IN_TEREDO,
 IN_ETHER_IP, IN_INFINIBAND, IN_PER_PACKET) = (1 << 16 | number for number in range(22))
ERSPAN_1_2, ERSPAN_3 = 0x88BE, 0x22EB
LARGEST_802_3 = 1500
LINKS = {0: IN_LOOPBACK, 1: IN_ETHERNET, 6: IN_TOKEN_RING, 9: IN_PPP, 12: IN_RAW, 14: IN_RAW, 50: IN_PPP, 51: IN_PPPOE,
         101: IN_RAW, 104: IN_CISCO_HDLC, 105: IN_WIRELESS, 108: IN_LOOPBACK, 113: IN_COOKED_1, 127: IN_RADIOTAP,
         192: IN_PER_PACKET, 204: IN_DIRECTED_PPP, 228: IN_RAW, 229: IN_RAW, 239: IN_NFLOG, 242: IN_INFINIBAND, 276: IN_COOKED_2}
TUNNELS = {4: 0x0800, 41: 0x86DD, 47: IN_GRE, 97: IN_ETHER_IP, 137: 0x8847}
UDP_PORTS = {1701: IN_L2TP, 2152: IN_GTP, 3544: IN_TEREDO, 4789: IN_VXLAN, 4790: IN_VXLAN_GPE, 6081: IN_GENEVE, 6635: 0x8847}
GPE_PROTOCOLS = {1: 0x0800, 2: 0x86DD, 3: IN_ETHERNET, 5: 0x8847}
NFLOG_PAYLOAD = 9
DEEPEST = 64
TOO_DEEP = f"more than {DEEPEST} headers before TCP"
EXTENSIONS = {0: 8, 43: 8, 44: 0, 51: 4, 60: 8, 135: 8, 140: 8}
PCAPS = {0xA1B2C3D4: (1000, 24, 16), 0xA1B23C4D: (1, 24, 16), 0xA1B2CD34: (1000, 24, 24), 0x1C0001AB: (1000, 28, 16),
         0x1C0001AC: (1000, 28, 16)}
FIRST_LENGTH, SECOND_LENGTH, SMALLER_LENGTH = (8,), (12,), (8, 12)
SECTION, ENHANCED, SIMPLE, OBSOLETE = 0x0A0D0D0A, 6, 3, 2
PACKETS = (ENHANCED, SIMPLE, OBSOLETE)
ORDERS = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
RESOLUTION, OFFSET, TOO_FAR = 9, 14, np.iinfo(np.int64).min
CLOCK_OPTIONS = {RESOLUTION: 1, OFFSET: 8}
FRAME = np.dtype([("at", "i8"), ("captured", "u4"), ("time_ns", "i8"), ("timeless", "?")])
SEGMENT = np.dtype([
    ("frame", "i8"), ("src", "i4"), ("sport", "i8"), ("dst", "i4"), ("dport", "i8"), ("seq", "u4"), ("ack", "u4"), ("flags", "i2"),
    ("length", "i8"), ("payload_at", "i8"), ("payload_captured", "u4"), ("window", "i4"), ("scale", "i1")])
CHUNK, SLAB = 1 << 16, 1 << 22
NO_PACKETS = {9: "systemd journal entry", 0x204: "system call", 0x216: "system call", 0x221: "system call",
              0xBAD: "custom block", 0x40000BAD: "custom block"}
FLAG_LETTERS = "FSRPAUECN"
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
ALL_FLAGS, BEHIND = 0x1FF, 9
END_OF_OPTIONS, NO_OPERATION, WINDOW_SCALE, LARGEST_SCALE = 0, 1, 3, 14
LARGEST_FRAME = 1 << 18
GZIP = b"\x1f\x8b"
LARGEST_EXPANSION = 250
COMPRESSED = {b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4", b"\xfd7zX": "xz", b"BZh": "bzip2", b"PK\x03\x04": "zip"}
OTHER_CAPTURES = (b"snoo", b"GMBU", b"RTSS", b"TRSN", b"XCP\0",
                  b"\xaa\xaa\xaa\xaa", b"\x05VNF")


class CaptureError(Exception):
    """The file is not a capture that can be read; the message says which file, at which byte, and why."""

    def __init__(self, path, offset, reason):
        super().__init__(f"{path}: byte {offset}: {reason}")
        self.path, self.offset, self.reason = str(path), offset, reason


@dataclass(frozen=True, eq=False)
class Capture:
    """A capture file in memory.

    `segments`: one row per TCP segment, index `frame` (1-based, as in Wireshark): `time` (seconds since
    the first frame), `stream` (as `tcp.stream`, which also counts TCP that ICMP quotes), `host` (`client` sent the SYN, `server` answered it, missing
    where no SYN was captured), `src`, `sport`, `dst`, `dport`, `seq`, `ack` (raw), `flags` (letters of
    `FSRPAUECN`), `length` (payload bytes on the wire). Where IP carries IP, the innermost addresses count. A TCP header that
    claims less than 20 bytes belongs to its stream, as in Wireshark, but has no flags and no payload.
    `frames`: all frames of the file. `skipped`: how many of them are not in `segments`, by reason.
    `start`: UTC time of the first frame. `end`: time of the last frame, in seconds since the first.
    `cut`: where and why reading stopped before the end of the file, or None.
    """

    path: str
    segments: pd.DataFrame
    frames: int
    skipped: dict
    start: pd.Timestamp
    end: float
    cut: str | None
    _data: np.ndarray = field(repr=False)
    _headers: dict = field(repr=False)
    _derived: dict = field(repr=False, default_factory=dict)

    def payload(self, frame):
        """The TCP payload bytes of one frame that are in the file (fewer than `length` if the frame was cut)."""
        row = self.segments.index.get_loc(frame)
        at, size = self._headers["payload_at"][row], self._headers["payload_captured"][row]
        return self._data[at:at + size].tobytes()

    def frame_bytes(self, frame):
        """The bytes of one frame (1-based) as they stand in the file, link header included."""
        if not 1 <= frame <= self.frames:
            raise IndexError(f"frame {frame}: {self.path} has frames 1 to {self.frames}")
        at, size = self._headers["frame_at"][frame - 1], self._headers["frame_captured"][frame - 1]
        return self._data[at:at + size].tobytes()


def read_capture(path) -> Capture:
    """The TCP segments of the pcap or pcapng file at `path`, as a `Capture`.

    Raises `CaptureError` where the file can't be opened or is no capture. A file cut short gives all its whole
    frames, and `Capture.cut` says where it ended.
    """
    data, damage = _load(path)
    return _read(path, data, damage)


def toy_capture(packets) -> Capture:
    """The capture of hand-built IP packets: anything with `bytes(packet)` and `packet.time` (seconds), such as scapy's."""
    records = [struct.pack("<IIII", int(packet.time), round(packet.time % 1 * 1e9), len(bytes(packet)),
                           len(bytes(packet))) + bytes(packet) for packet in packets]
    header = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, LARGEST_FRAME, 101)
    return _read("toy", np.frombuffer(header + b"".join(records), np.uint8))


def merge_captures(paths) -> Capture:
    """The `Capture` of one file, or of several (a ring buffer's, in any order), their frames in order of time.

    Raises `CaptureError` where one can't be read. Frame numbers are those of the merged frames.
    """
    if len(paths) == 1:
        return read_capture(paths[0])
    datas, parts, cuts, at = [], [], [], 0
    for path in paths:
        (data, damage), reading = _load(path), _Reading()
        parts += [part | {"at": part["at"] + at} for part in _frames(path, data, reading)]
        cuts += [f"{path}: byte {place}: {reason}" for place, reason in reading.cuts]
        cuts += [f"{path}: {damage}"] if damage else []
        datas.append(data)
        at += len(data)
    frames = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(_filled(frames["time_ns"], frames["timeless"]), kind="stable")
    chunks = ({name: column[chunk] for name, column in frames.items()} for chunk in _chunks(order))
    return _capture(f"{len(paths)} files: {', '.join(map(str, paths))}", np.concatenate(datas), chunks,
                    _Reading(len(order)), "; ".join(cuts))


def _read(path, data, damage=None):
    reading = _Reading()
    return _capture(path, data, _frames(path, data, reading), reading, damage)


@dataclass
class _Reading:
    """How far the frames of some bytes have been read: `end`; `cuts`: where and why no further.

    `found`: how many frames there are, at most, as far as has been seen; `before`: how many in the pieces before. `head`: the bytes that must stand before the rest
    for it to be read: the file's header, or the section's and its interfaces'.
    """

    found: int = 0
    before: int = 0
    end: int = 0
    cuts: list = field(default_factory=list)
    head: bytes = b""

    def cut(self, at, reason):
        self.cuts.append((at, reason))


def read_pieces(path, size):
    """Yield the capture file at `path` as `Capture`s of whole frames, one for each `size` bytes or so.

    Raises `CaptureError` where the file can't be opened or is no capture. `cut` of the last says where it was cut.
    """
    try:
        with open(path, "rb") as file:
            zipped = file.read(2) == GZIP
        with (gzip.open if zipped else open)(path, "rb") as file:
            yield from _pieces(path, file, size)
    except (OSError, ValueError) as error:
        raise CaptureError(path, 0, getattr(error, "strerror", None) or str(error)) from error


def _pieces(path, file, size):
    head, rest, base, damage, over, frames = b"", b"", 0, None, False, 0
    while not over:
        try:
            new = file.read(size)
        except (EOFError, OSError, zlib.error) as error:
            new, damage = b"", f"the gzip data are damaged ({error})"
        over = not new
        data, reading = np.frombuffer(head + rest + new, np.uint8), _Reading(before=frames)
        if over and not rest and base:
            break
        chunks = list(_frames(path, data, reading))
        frames += reading.found
        unread = data[reading.end:]
        over |= any(not reason.endswith("cut short") for _, reason in reading.cuts) or len(unread) > max(size, SLAB)
        if not over:
            reading.cuts.clear()
        yield _capture(path, data, iter(chunks), reading, damage, base - len(head))
        base += reading.end - len(head)
        head, rest = reading.head, unread.tobytes()


def _capture(path, data, chunks, reading, damage=None, base=0):
    """The `Capture` of the frames in `chunks` of `data`, which begins at byte `base` of the file.

    `reading` says how far they go, once they have been read.
    """
    frames, columns, addresses, skipped = _Columns(FRAME), _Columns(SEGMENT), [], Counter()
    for part in chunks:
        decoded, numbers, out = _decode(data, part, len(frames) + 1)
        frames.put(part, reading.found)
        columns.put(decoded, reading.found)
        addresses.append((len(columns), *numbers))
        skipped.update(out)
    frames, columns = frames.whole(), columns.whole()
    start, seconds = _clock(_filled(frames["time_ns"], frames["timeless"]))
    segments = as_segments(columns, _number_addresses(columns, addresses), seconds[columns["frame"] - 1])
    headers = {name: columns[name] for name in ("flags", "payload_at", "payload_captured", "window", "scale")}
    headers |= {"frame_at": frames["at"], "frame_captured": frames["captured"], "side": segments.pop("side").to_numpy()}
    cuts = [f"byte {base + at}: {reason}" for at, reason in reading.cuts]
    return Capture(str(path), segments, len(seconds), dict(skipped), pd.Timestamp(start, unit="ns", tz="UTC"),
                   float(seconds.max(initial=0)), "; ".join(filter(None, (*cuts, damage))) or None, data, headers)


class _Columns:
    """Columns that are filled part by part, of the types `kinds` (a structured dtype); `len`: how many rows there are."""

    def __init__(self, kinds):
        self._rows, self._arrays = 0, {name: np.empty(0, kinds[name]) for name in kinds.names}

    def __len__(self):
        return self._rows

    def put(self, part, expected):
        """Add the rows of `part`, and make room for all that are `expected` where there is none."""
        begin, self._rows = self._rows, self._rows + len(next(iter(part.values())))
        for name, array in self._arrays.items():
            if self._rows > len(array):
                self._arrays[name] = np.empty(max(expected, self._rows, 2 * begin), array.dtype)
                self._arrays[name][:begin] = array[:begin]
            self._arrays[name][begin:self._rows] = part[name]

    def whole(self):
        return {name: array[:self._rows] for name, array in self._arrays.items()}


def _clock(time_ns):
    """The first of the times, and the seconds since then of each."""
    start = int(time_ns[0]) if len(time_ns) else 0
    return start, (time_ns - start) / 1e9


def _filled(time_ns, timeless):
    """The times, with that of the frame before in place of a missing one."""
    if timeless.any():
        last = np.maximum.accumulate(np.where(timeless, -1, np.arange(len(time_ns))))
        time_ns = time_ns[np.where(last < 0, np.argmin(timeless), last)]
    return time_ns


def as_segments(columns, addresses, time):
    """The table of `Capture.segments` from arrays (`src`, `dst`: places in `addresses`; `flags`: numbers), and `side`.

    `side`: 0 or 1 for the two ends of a stream. A header too short to be believed has its SYN and ACK behind the other
    flags: its stream alone follows from them.
    """
    frame, flags = pd.Index(columns["frame"], name="frame"), columns["flags"] & ALL_FLAGS
    told = columns["flags"] | columns["flags"] >> BEHIND
    stream, side = _streams(*_endpoints(columns, len(addresses)), told, columns["seq"], columns["ack"])
    return pd.DataFrame({
        "time": time, "stream": stream, "host": _hosts(stream, side, flags),
        "src": pd.Categorical.from_codes(columns["src"], addresses), "sport": columns["sport"],
        "dst": pd.Categorical.from_codes(columns["dst"], addresses), "dport": columns["dport"],
        "seq": columns["seq"], "ack": columns["ack"], "flags": _flags(flags), "length": columns["length"],
        "side": side}, frame, copy=False)


def _load(path):
    """The file's bytes as a uint8 array, unzipped where they are gzipped; and what damaged the gzip data, or None."""
    try:
        with open(path, "rb") as file:
            data = np.fromfile(file, np.uint8) if file.seekable() else np.frombuffer(file.read(), np.uint8)
    except (OSError, ValueError) as error:
        raise CaptureError(path, 0, getattr(error, "strerror", None) or str(error)) from error
    if data[:2].tobytes() != GZIP:
        return data, None
    data, damage = _gunzip(data.tobytes())
    if not data and damage:
        raise CaptureError(path, 0, damage)
    return np.frombuffer(data, np.uint8), damage


def _gunzip(data, step=1 << 12):
    """What `data` unzips to, as much as can be had; and why that is not all, or None."""
    parts, at, room = [], 0, max(LARGEST_EXPANSION * len(data), 1 << 20)
    while data[at:at + 2] == GZIP:
        unzip = zlib.decompressobj(31)
        while at < len(data) and not unzip.eof:
            before = unzip.copy()
            try:
                parts.append(unzip.decompress(data[at:at + step]))
            except zlib.error as error:
                if step > 1:
                    unzip, step = before, max(step // 16, 1)
                    continue
                return b"".join(parts), f"the gzip data are damaged at byte {at} of the zipped file ({error})"
            at = min(at + step, len(data)) - len(unzip.unused_data)
            room -= len(parts[-1])
            if room < 0:
                return b"".join(parts), f"the file unzips to more than {LARGEST_EXPANSION} times its size"
        if not unzip.eof:
            return b"".join(parts), f"the gzip data are cut short at byte {at} of the zipped file"
    return b"".join(parts), None


# Containers: where each frame lies in the file

def _frames(path, data, reading):
    """The frames of the file, in chunks: arrays `at`, `captured`, `length`, `time_ns`, `timeless`, `link`.

    `reading` is told how far they go.
    """
    magic = data[:4].tobytes()
    if magic == b"\x0a\x0d\x0d\x0a":
        return _pcapng_frames(path, data, reading)
    for order in "<>":
        for value, (unit, head, header) in PCAPS.items():
            if magic == struct.pack(order + "I", value):
                return _pcap_frames(path, data, reading, _Layout(order, unit, head, header, _captured_places(data, order)))
    raise CaptureError(path, 0, _no_capture(magic))


def _no_capture(magic):
    """Why a file that begins with the bytes `magic` can't be read, and what to do about it."""
    if not magic:
        return "the file is empty"
    for begin, name in COMPRESSED.items():
        if magic.startswith(begin):
            return f"the file is compressed with {name}; decompress it first"
    told = f"not a pcap or pcapng file (it begins with {magic.hex(' ')})"
    return f"{told}; turn it into one: editcap -F pcapng FILE NEW" if magic in OTHER_CAPTURES else told


class _Layout(NamedTuple):
    """How a pcap file is laid out: its byte order, ns in a tick, the bytes of the file's `head` and of a record's `header`.

    `captured`: where in a record its captured length stands, or both places where it may.
    """

    order: str
    unit: int
    head: int
    header: int
    captured: tuple


def _captured_places(data, order):
    """Before version 2.3 (and in DG/UX's 543.0) the length on the wire comes first, in version 2.3 either may."""
    version = struct.unpack_from(order + "HH", data[:8].tobytes().ljust(8, b"\xff"), 4)
    swapped = version[0] == 2 and version[1] < 3 or version == (543, 0)
    return SECOND_LENGTH if swapped else SMALLER_LENGTH if version == (2, 3) else FIRST_LENGTH


def _pcap_frames(path, data, reading, layout):
    if len(data) < layout.head:
        raise CaptureError(path, len(data), "the pcap file header is cut short")
    link = struct.unpack_from(layout.order + "I", data, 20)[0] & 0x03FFFFFF
    offsets = _records(data, layout, reading)
    reading.found = len(offsets)
    for chunk in _chunks(offsets):
        record = _structures(data, chunk, RECORD.newbyteorder(layout.order))
        time_ns = record["seconds"].astype(np.int64) * 1_000_000_000 + record["fraction"].astype(np.int64) * layout.unit
        yield {"at": chunk + layout.header, "captured": _captured(data, chunk, layout).astype(np.int64),
               "length": np.maximum(record["captured"], record["length"]).astype(np.int64),
               "time_ns": time_ns, "timeless": np.zeros(len(chunk), bool), "link": np.full(len(chunk), link)}


def _captured(data, offsets, layout):
    """How many bytes the records at `offsets` say they hold."""
    number = np.dtype(layout.order + "u4")
    return np.minimum.reduce([_structures(data, offsets + place, number) for place in layout.captured])


def _chunks(offsets):
    """`offsets` in pieces whose columns fit a processor's cache; at least one, maybe empty."""
    return (offsets[begin:begin + CHUNK] for begin in range(0, max(len(offsets), 1), CHUNK))


def _records(data, layout, reading):
    """Where the records of a pcap file begin."""
    first, *second = layout.captured
    lengths_at, buffer, end = struct.Struct(f"{layout.order}{first}x{1 + len(second)}I").unpack_from, data.data, len(data)
    offsets, runs, at, header = array("q"), _Runs(*_likely_records(data, layout)), layout.head, layout.header
    while at + header <= end:
        at = runs.take(at, offsets)
        if at + header > end:
            break
        captured = min(lengths_at(buffer, at))
        if captured > LARGEST_FRAME or at + header + captured > end:
            break
        offsets.append(at)
        at += header + captured
    if at + header > end > at:
        reading.cut(at, "a record header is cut short")
    elif at < end and captured > LARGEST_FRAME:
        reading.cut(at, f"a record claims {captured} bytes; the file is damaged from here on")
    elif at < end:
        reading.cut(at, f"frame {reading.before + len(offsets) + 1} is cut short")
    reading.end, reading.head = at, data[:layout.head].tobytes()
    return np.frombuffer(offsets, np.int64)


def _likely_records(data, layout):
    """Where records of a pcap file may begin, and end: the first byte of the time is that of the first record's."""
    high, zeros = (3, (10, 11, 14, 15)) if layout.order == "<" else (0, (8, 9, 12, 13))
    last = len(data) - layout.header + 1
    first = int(data[layout.head + high]) if last > layout.head else 0
    found = [np.empty(0, np.int64)]
    for begin in range(layout.head, last if first else layout.head, SLAB):
        begins = np.flatnonzero(data[begin + high:min(begin + SLAB, last) + high] == first) + begin
        for place in zeros:
            begins = begins[data[begins + place] == 0]
        found.append(begins)
    begins = np.concatenate(found)
    ends = begins + layout.header + _captured(data, begins, layout)
    return begins[ends <= len(data)], ends[ends <= len(data)]


class _Runs:
    """Runs of records, each of which begins where the one before ends, found in the whole file at once.

    `begins`, `ends`: where a record may begin, in order, and where it would end. It is a guess: where it is wrong, runs
    are short. A run is taken only from where a record is known to begin.
    """

    def __init__(self, begins, ends):
        followed = np.ones(len(begins), bool)
        loose = np.flatnonzero(ends[:-1] != begins[1:])
        followed[loose] = begins[np.minimum(np.searchsorted(begins, ends[loose]), len(begins) - 1)] == ends[loose]
        self.begins, self.ends = (begins, ends) if followed.all() else (begins[followed], ends[followed])
        self.breaks = np.flatnonzero(self.ends[:-1] != self.begins[1:])

    def take(self, at, offsets):
        """Add to `offsets` the run that begins at `at`, and return where it ends: `at` where there is none."""
        row = int(np.searchsorted(self.begins, at))
        if row == len(self.begins) or self.begins[row] != at:
            return at
        place = np.searchsorted(self.breaks, row)
        last = int(self.breaks[place]) if place < len(self.breaks) else len(self.begins) - 1
        offsets.frombytes(self.begins[row:last + 1].view(np.uint8))
        return int(self.ends[last])


def _structures(data, at, dtype):
    """The structures of type `dtype` that begin at each of the positions `at`."""
    if not len(at):
        return np.empty(0, dtype)
    everywhere = np.ndarray(len(data) - dtype.itemsize + 1, f"V{dtype.itemsize}", data, strides=(1,))
    return everywhere[at].view(dtype)


def _pcapng_frames(path, data, reading):
    """As `_frames`: all sections together, however small they are."""
    offsets, sections = _blocks(path, data, reading)
    reading.found = len(offsets)
    for number, chunk in enumerate(_chunks(offsets)):
        part, damage = _packets(data, chunk, number * CHUNK, sections)
        yield part
        if damage:
            reading.cuts = [damage]
            break


class _Sections:
    """The sections of a pcapng file, each with its own byte order and interfaces, from rows of both.

    Of each section: `begin`, `base`: how many blocks with frames, and interfaces, stand before it; `big`: its byte order;
    `count`: its interfaces. Of each interface of the file: `before`: how many blocks with frames, which can't name it;
    `link`; `snap`; `resolution` and `offset` of its clock. The last one stands for those that are not described.
    """

    def __init__(self, sections, interfaces):
        self.begin, self.base, big = np.frombuffer(sections, np.int64).reshape(-1, 3).T
        described = np.frombuffer(interfaces, np.int64).reshape(-1, 5).T
        self.before, self.link, self.snap, self.resolution, self.offset = described
        self.big, self.count = big > 0, np.diff(self.base, append=len(self.before) - 1)

    def of(self, first, last):
        """The sections of the blocks from `first` to `last`: one number where it is the same for all."""
        one, other = np.searchsorted(self.begin, (first, last), "right") - 1
        return one if one == other else np.searchsorted(self.begin, np.arange(first, last + 1), "right") - 1


def _blocks(path, data, reading):
    """Where the blocks with frames are, and the `_Sections` they stand in."""
    head, buffer, end, at, size = struct.Struct("<II").unpack_from, data.data, len(data), 0, 0
    offsets, sections, interfaces, heads, runs, order = array("q"), array("q"), array("q"), [], {}, "<"
    while at + 12 <= end:
        kind, size = head(buffer, at)
        if kind == SECTION:
            order = ORDERS.get(bytes(buffer[at + 8:at + 12]))
            if order is None:
                break
            head = struct.Struct(order + "II").unpack_from
            kind, size = head(buffer, at)
            sections.extend((len(offsets), len(interfaces) // 5, order == ">"))
            heads.clear()
        if size < 12 or size & 3 or at + size > end:
            break
        if kind == ENHANCED:
            if order not in runs:
                runs[order] = _Runs(*_likely_packets(data, order))
            begin, at = at, runs[order].take(at, offsets)
            if at > begin:
                continue
        if kind in PACKETS or kind in NO_PACKETS:
            offsets.append(at)
        elif kind == 1:
            interfaces.extend((len(offsets), *_interface(buffer, at, size, order)))
        if kind in (SECTION, 1):
            heads.append(data[at:at + size].tobytes())
        at += size
    if order is None and not at:
        raise CaptureError(path, 8, "the section header has no byte-order magic")
    if at < end:
        reading.cut(at, _why_no_block(end - at, order, size))
    if not at:
        raise CaptureError(path, 0, f"no whole block in the file (byte 0: {reading.cuts[0][1]})")
    reading.end, reading.head = at, b"".join(heads)
    interfaces.extend((len(offsets), -1, 0, 0, 0))
    return np.frombuffer(offsets, np.int64), _Sections(sections, interfaces)


def _why_no_block(left, order, size):
    """Why the last `left` bytes hold no whole block, where one claims `size`."""
    if left < 12:
        return "a block header is cut short"
    if order is None:
        return "a section header has no byte-order magic"
    damaged = size < 12 or size & 3
    return f"a block claims {size} bytes; the file is damaged from here on" if damaged else "a block is cut short"


def _likely_packets(data, order):
    """Where the Enhanced Packet Blocks of a pcapng file may begin, and end: all blocks begin at a multiple of 4."""
    words, begins, ends = data[:len(data) // 4 * 4].view(order + "u4"), [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for first in range(0, len(words) - 7, SLAB):
        begin = np.flatnonzero(words[first:min(first + SLAB, len(words) - 7)] == ENHANCED)
        begin += first
        size = words[1:][begin]
        begin *= 4
        end = begin + size
        possible = (size >= 32) & (size & 3 == 0) & (end <= len(data))
        begins.append(begin[possible])
        ends.append(end[possible])
    return np.concatenate(begins), np.concatenate(ends)


def _interface(buffer, at, size, order):
    """(link type, snap length, resolution of the clock, its offset in s) of an Interface Description Block."""
    link, snap = struct.unpack_from(order + "HxxI", buffer, at + 8) if size >= 20 else (-1, 0)
    found, option = {}, at + 16
    while option + 4 <= at + size - 4:
        code, length = struct.unpack_from(order + "HH", buffer, option)
        if code == 0 or option + 4 + length > at + size - 4:
            break
        if length >= CLOCK_OPTIONS.get(code, LARGEST_FRAME):
            found.setdefault(code, option + 4)
        option += 4 + (length + 3) // 4 * 4
    resolution = buffer[found[RESOLUTION]] if RESOLUTION in found else 6
    return link, snap, resolution, struct.unpack_from(order + "q", buffer, found[OFFSET])[0] if OFFSET in found else 0


def _in_order(data, at, dtype, big):
    """As `_structures`; `big`: whether the byte order is big-endian, of all or of each."""
    if np.all(big) or not np.any(big):
        return _structures(data, at, dtype.newbyteorder(">" if np.any(big) else "<"))
    found = _structures(data, at, dtype.newbyteorder("<"))
    found[big] = _structures(data, at[big], dtype.newbyteorder(">"))
    return found


def _packets(data, offsets, first, sections):
    """The frames of the blocks at `offsets`, as in `_frames`, as far as they are sound; and why no further.

    `first`: how many blocks with frames there are before these.
    """
    section = sections.of(first, first + len(offsets) - 1)
    base, big = sections.base[section], sections.big[section]
    block = _in_order(data, offsets, BLOCK, big)
    only_enhanced = ((block["kind"] == ENHANCED) & (block["size"] >= BLOCK.itemsize + PACKET.itemsize + 4)).all()
    fields = (_enhanced if only_enhanced else _of_any_kind)(data, offsets, big, block, sections.snap[base])
    number, bare, captured = fields.number, fields.bare, fields.captured
    known, interface = number < sections.count[section], np.minimum(base + number, len(sections.before) - 1)
    if (interface >= np.searchsorted(sections.before, first, "right")).any():
        known &= sections.before[interface] <= first + np.arange(len(block))
    link = sections.link[interface]
    room = block["size"].astype(np.int64) - fields.header - 4
    faulty = (room < 0) | ~(known | bare) | (captured > room)
    sound = int(np.argmax(faulty)) if faulty.any() else len(offsets)
    timeless = bare | fields.stampless
    part = {"at": offsets + fields.header, "captured": captured, "length": np.maximum(fields.length, captured),
            "timeless": bare, "link": np.where(bare, -block["kind"].astype(np.int64), link) if bare.any() else link}
    part = {name: column[:sound] for name, column in part.items()}
    part["time_ns"] = _time_ns(fields.packet[:sound], interface[:sound], timeless[:sound], sections)
    part["timeless"] = part["timeless"] | (part["time_ns"] == TOO_FAR)
    part["time_ns"][part["timeless"]] = 0
    if sound == len(offsets):
        return part, None
    if room[sound] < 0:
        return part, (int(offsets[sound]), "a packet block is too short for its header")
    if not known[sound] and not bare[sound]:
        return part, (int(offsets[sound]), f"a packet names interface {number[sound]}, which the file does not describe")
    return part, (int(offsets[sound]), f"a packet claims {captured[sound]} bytes in a block of {block['size'][sound]}; "
                                       "the file is damaged from here on")


def _enhanced(data, offsets, big, block, snap):
    """What Enhanced Packet Blocks say; `bare`: no packet but a record of another kind; `stampless`: has no time stamp."""
    packet = _in_order(data, offsets + BLOCK.itemsize, PACKET, big)
    no = np.zeros(len(block), bool)
    return SimpleNamespace(
        header=BLOCK.itemsize + PACKET.itemsize, packet=packet, number=block["interface"].astype(np.int64), bare=no,
        stampless=no, length=packet["length"].astype(np.int64), captured=packet["captured"].astype(np.int64))


def _of_any_kind(data, offsets, big, block, snap):
    """As `_enhanced`, for packet blocks of all kinds; a Simple Packet Block is cut at the snap length of interface 0."""
    kind, size, simple = block["kind"], block["size"].astype(np.int64), block["kind"] == SIMPLE
    bare = ~np.isin(kind, PACKETS)
    header = np.select([simple, bare], [12, 8], BLOCK.itemsize + PACKET.itemsize)
    packet, stamped = np.zeros(len(block), PACKET), (size >= header + 4) & ~simple & ~bare
    packet[stamped] = _in_order(data, offsets[stamped] + BLOCK.itemsize, PACKET, np.broadcast_to(big, len(block))[stamped])
    number = np.where(kind == OBSOLETE, block["interface"] >> np.where(big, 16, 0) & 0xFFFF, block["interface"])
    length = np.select([simple, bare], [block["interface"], size - 12], packet["length"]).astype(np.int64)
    snapped = np.where(snap > 0, np.minimum(snap, length), length)
    captured = np.select([simple, bare], [np.minimum(snapped, size - 16), size - 12], packet["captured"])
    return SimpleNamespace(
        header=header, packet=packet, number=np.where(simple | bare, 0, number).astype(np.int64), bare=bare,
        stampless=simple, length=length, captured=captured.astype(np.int64))


def _time_ns(packet, interface, stampless, sections):
    """The time stamps of packet blocks in ns since 1970; 0 where there is none, `TOO_FAR` where 64 bits don't hold it."""
    ticks, time_ns = packet["high"].astype(np.uint64) << np.uint64(32) | packet["low"], np.zeros(len(packet), np.int64)
    clock = interface[:1] if (interface == interface[:1]).all() else interface
    resolution, offset = sections.resolution[clock], np.broadcast_to(sections.offset[clock], len(packet))
    found = _distinct(resolution).tolist()
    for number in found:
        per_second = 2 ** (number & 0x7F) if number & 0x80 else 10 ** number
        alone = len(found) == 1 and not stampless.any()
        rows = slice(None) if alone else np.flatnonzero((resolution == number) & ~stampless)
        whole = 1_000_000_000 % per_second == 0 and not offset[rows].any()
        if whole and int(ticks[rows].max(initial=0)) < (1 << 63) * per_second // 10 ** 9:
            time_ns[rows] = ticks[rows].astype(np.int64) * (1_000_000_000 // per_second)
            continue
        exact = (tick * 1_000_000_000 // per_second + seconds * 1_000_000_000
                 for tick, seconds in zip(ticks[rows].tolist(), offset[rows].tolist()))
        time_ns[rows] = [time if abs(time) < 1 << 63 else TOO_FAR for time in exact]
    return time_ns


def _distinct(values):
    """The values that occur, each once."""
    return values[:1] if (values == values[:1]).all() else np.unique(values)


# Headers: all frames at once, one layer after the other

class _Frames:
    """The frames still being decoded: `number` of each, `at` where its next header begins, `end` of its bytes."""

    def __init__(self, data, frames, first):
        self.data, self.skipped = data, Counter()
        self.number = np.arange(first, first + len(frames["at"]))
        self.at, self.end = frames["at"].copy(), frames["at"] + frames["captured"]
        self.wire_end = frames["at"] + frames["length"]
        self.link = frames["link"]

    def keep(self, mask, reason, values=None):
        """Drop the frames outside `mask`, counting them under `reason`: a text, or a function from `values` to texts."""
        if mask.all():
            return
        lost = Counter({None: int((~mask).sum())} if values is None else values[~mask].tolist())
        for value, count in lost.items():
            self.skipped[reason if values is None else reason(value)] += count
        for name in self._columns():
            setattr(self, name, getattr(self, name)[mask])

    def take(self, mask):
        """Take the frames of `mask` out of these, and return them."""
        taken, others = copy(self), slice(0) if mask.all() else ~mask
        for name in self._columns():
            setattr(taken, name, getattr(self, name)[slice(None) if mask.all() else mask])
            setattr(self, name, getattr(self, name)[others])
        return taken

    def put(self, *taken):
        """Put back what `take` took, every frame in its place."""
        parts = [part for part in (self, *taken) if len(part.number)] or [self]
        order = np.argsort(np.concatenate([part.number for part in parts]), kind="stable") if parts[1:] else slice(None)
        for name in self._columns():
            setattr(self, name, np.concatenate([getattr(part, name) for part in parts])[order])

    def _columns(self):
        return [name for name, value in vars(self).items() if isinstance(value, np.ndarray) and name != "data"]

    def header(self, dtype, rows=slice(None)):
        """The header of type `dtype` that begins at `at` in each of `rows`, as a structured array."""
        return _structures(self.data, self.at[rows], dtype)


def _decode(data, frames, first):
    """The columns of the segments in `frames`, of which the first is number `first`; their addresses; what is skipped."""
    others = _Frames(data, frames, first)
    left = _take_plain(others)
    if len(others.at):
        _pass_layers(others)
        left.put(others)
    _addresses(left)
    tcp = left.tcp.view(TCP)
    offset_flags = tcp["offset_flags"].astype(np.int64)
    header_length = (offset_flags >> 12) * 4
    sound = header_length >= TCP_LENGTH
    flags = np.where(sound, offset_flags & ALL_FLAGS, (offset_flags & (SYN | ACK)) << BEHIND)
    payload_at = np.where(sound, np.minimum(left.at + header_length, left.wire_end), left.wire_end)
    length = left.wire_end - payload_at
    options = left.at + TCP_LENGTH, np.minimum(payload_at, left.end)
    return {"frame": left.number, "src": left.src, "dst": left.dst, "flags": flags, "length": length, "payload_at": payload_at,
            **{name: tcp[name] for name in ("sport", "dport", "seq", "ack", "window")},
            "payload_captured": np.minimum(np.maximum(left.end - payload_at, 0), length), "scale": _window_scales(data, flags, *options)}, \
        (left.unique4, left.unique6), left.skipped


def _pass_layers(left):
    """Move every frame to its TCP header, and leave those that have one."""
    _pass_link(left)
    _pass_ip(left)
    _pass_tunnels(left)
    left.keep(left.protocol == 6, _protocol_name, left.protocol)
    left.keep(left.at + TCP.itemsize <= left.wire_end, "malformed TCP header")
    left.keep(left.at + TCP.itemsize <= left.end, "cut inside the TCP header")
    left.tcp = left.header(TCP).view(BYTES_OF_TCP)


def _take_plain(left):
    """Take the frames with nothing but Ethernet and IPv4 without options before a whole TCP header, moved past both.

    They are most frames of most captures, and one look at both headers is enough for them.
    """
    size = PLAIN.itemsize
    mask = (left.link == PLAIN_LINK) & (left.at + size <= left.end) & (left.at + size <= left.wire_end)
    header = left.header(PLAIN, mask)
    ip, total = header["ip"], header["ip"]["total_length"].astype(np.int64)
    simple = ((header["ethernet"]["type"] == 0x0800) & (ip["version_ihl"] == 0x45) & (ip["protocol"] == 6)
              & (ip["flags_offset"] & 0x1FFF == 0) & ((total == 0) | (total >= IPV4.itemsize + TCP.itemsize)))
    mask[mask] = simple
    plain, total = left.take(mask), total[simple]
    plain.ip_at, plain.at = plain.at + ETHERNET.itemsize, plain.at + PLAIN.itemsize - TCP.itemsize
    _end_at(plain, slice(None), np.where(total == 0, plain.wire_end, plain.ip_at + total))
    plain.ethertype, plain.protocol, plain.tcp = np.full(len(plain.at), 0x0800), np.full(len(plain.at), 6), header["tcp"].view(BYTES_OF_TCP)[simple]
    return plain


def _number_addresses(columns, addresses):
    """The texts of all addresses; changes `src` and `dst` to places in them.

    `addresses`: of each part of the columns where it ends, and its addresses, `unique4` and `unique6`.
    """
    fours, sixes = (np.unique(np.concatenate(unique)) for unique in list(zip(*addresses))[1:])
    begin = 0
    for end, four, six in addresses:
        place = np.concatenate([np.searchsorted(fours, four), len(fours) + np.searchsorted(sixes, six)])
        for name in ("src", "dst"):
            columns[name][begin:end] = place[columns[name][begin:end]]
        begin = end
    texts = [str(ipaddress.IPv4Address(number)) for number in fours.tolist()]
    texts += [str(ipaddress.IPv6Address(number.ljust(16, b"\0"))) for number in sixes.tolist()]
    return pd.Index(texts, dtype="str")


def _window_scales(data, flags, at, end):
    """The shift of the window scale option (RFC 7323) in each SYN; 0 where there is none."""
    scales, rows = np.zeros(len(flags), np.int8), np.flatnonzero(flags & (SYN | RST) == SYN)
    at, end = at[rows], end[rows]
    while len(rows := rows[goes_on := at + 1 < end]):
        at, end = at[goes_on], end[goes_on]
        kind, size = data[at], data[at + 1]
        found = (kind == WINDOW_SCALE) & (at + 2 < end)
        scales[rows[found]] = np.minimum(data[at[found] + 2], LARGEST_SCALE)
        goes_on = (kind != END_OF_OPTIONS) & ~found
        rows, at, end = rows[goes_on], (at + np.where(kind == NO_OPERATION, 1, np.maximum(size, 2)))[goes_on], end[goes_on]
    return scales


def _flags(flags):
    counted = np.bincount(flags, minlength=1 << len(FLAG_LETTERS)) > 0
    codes, place = np.flatnonzero(counted), (np.cumsum(counted) - 1).astype(np.int16)
    names = ["".join(letter for bit, letter in enumerate(FLAG_LETTERS) if code >> bit & 1) for code in codes]
    return pd.Categorical.from_codes(place[flags], names)


def _pass_link(left):
    """Move every frame past its link header, and leave those that carry IP, with `ethertype` set."""
    left.keep(np.isin(left.link, list(LINKS)), _link_name, left.link)
    left.ethertype = np.full(len(left.at), NO_IP)
    for link in _distinct(left.link).tolist():
        left.ethertype[left.link == link] = LINKS[link]
    _pass_wrappers(left)


def _link_name(link):
    return NO_PACKETS.get(-link, f"link type {link}")


def _of_version(version_ihl):
    """Ether types for the IP versions that the first bytes of packets tell."""
    return np.select([version_ihl >> 4 == 4, version_ihl >> 4 == 6], [0x0800, 0x86DD], NO_IP)


def _pass_wrappers(left):
    """Move every frame past all that stands between its link header and IP, and leave those that carry IP."""
    unwrapped, depth = [], 0
    while not (ip := np.isin(left.ethertype, (0x0800, 0x86DD))).all():
        if ip.any():
            unwrapped.append(left.take(ip))
        left.keep(np.isin(left.ethertype, list(WRAPPERS)), _ethertype_name, left.ethertype)
        left.keep(np.full(len(left.at), depth < DEEPEST), TOO_DEEP)
        depth += 1
        for kind, (dtype, name, unwrap) in WRAPPERS.items():
            if not (left.ethertype == kind).any():
                continue
            left.keep((left.ethertype != kind) | (left.at + dtype.itemsize <= left.end), f"cut inside the {name}")
            rows = np.flatnonzero(left.ethertype == kind)
            unwrap(left, rows, left.header(dtype, rows))
    left.put(*unwrapped)


def _byte(left, rows):
    """The byte at `at` of each of `rows`; 0 where the frame has ended."""
    at = left.at[rows]
    return left.data[np.where(at < left.end[rows], at, 0)] * (at < left.end[rows])


def _into(kind):
    """What moves frames past a header of which nothing but its size counts, to `kind`."""
    def unwrap(left, rows, header):
        left.at[rows] += header.dtype.itemsize
        left.ethertype[rows] = kind
    return unwrap


def _pass_raw(left, rows, header):
    left.ethertype[rows] = _of_version(header["version_ihl"])


def _pass_loopback(left, rows, header):
    """BSD loopback: an address family, in the writer's byte order, or an ether type; or PPP."""
    family = header["family"].astype(np.int64)
    framed = family >> 16 == 0xFF03
    family = np.where(family > 0xFFFF, header["family"].astype(np.uint32).byteswap(), family)
    typed = (family > LARGEST_802_3) & (family <= 0xFFFF)
    left.at[rows] += np.where(framed, 0, header.dtype.itemsize)
    left.ethertype[rows] = np.select([framed, typed, *[family == number for number in FAMILIES]],
                                     [IN_PPP, family, *FAMILIES.values()], NO_IP)


def _pass_cooked(left, rows, header):
    left.at[rows] += header.dtype.itemsize
    left.ethertype[rows] = header["type"]


def _pass_per_packet(left, rows, header):
    """Per-Packet Information says its length, and the link type of what follows."""
    left.at[rows] += header["length"]
    left.ethertype[rows] = np.select([header["link"] == link for link in LINKS], list(LINKS.values()), NO_IP)


def _pass_token_ring(left, rows, header):
    """Token Ring: the source's first bit tells of routing information, which says how long it is."""
    routed = header["source"][:, 0] & 0x80 > 0
    left.at[rows] += header.dtype.itemsize - 1 + np.where(routed, header["routing"] & 0x1F, 0)
    left.ethertype[rows] = np.where(header["control"] & 0xC0 == 0x40, IN_LOGICAL_LINK, NO_IP)


def _pass_nflog_part(left, rows, header):
    """Linux's netfilter log: parts of a type and a length, padded to words; one is the packet."""
    length, payload = header["length"].astype(np.int64), header["type"] == NFLOG_PAYLOAD
    _end_at(left, rows[payload], (left.at[rows] + length)[payload])
    left.at[rows] += np.where(payload, header.dtype.itemsize, np.maximum(length + 3 & ~3, header.dtype.itemsize))
    left.ethertype[rows] = np.where(payload, _of_version(_byte(left, rows)), IN_NFLOG_PART)


def _pass_typed(left, rows, header):
    """Ethernet and VLAN tags: a type of 1500 or less is the length of an IEEE 802.3 frame."""
    left.at[rows] += header.dtype.itemsize
    kind = header["type"].astype(np.int64)
    short = kind <= LARGEST_802_3
    _end_at(left, rows[short], left.at[rows[short]] + kind[short])
    left.ethertype[rows] = np.where(short, IN_LOGICAL_LINK, kind)


def _pass_logical_link(left, rows, header):
    """IEEE 802.2: IP's own access point, or the ether type that SNAP gives (RFC 1042)."""
    organisation = header["organisation"]
    snap = (header["saps"] == 0xAAAA) & (header["control"] == 3) & (organisation[:, :2] == 0).all(axis=1) \
        & np.isin(organisation[:, 2], (0, 0xF8))
    own = (header["saps"] == 0x0606) & (header["control"] == 3)
    left.at[rows] += np.where(own, 3, header.dtype.itemsize)
    snap &= header["type"] > LARGEST_802_3
    left.ethertype[rows] = np.where(own, 0x0800, np.where(snap, header["type"], IEEE_802_3))


def _pass_radiotap(left, rows, header):
    left.at[rows] += header["length"]
    left.ethertype[rows] = IN_WIRELESS


def _pass_wireless(left, rows, header):
    """IEEE 802.11: data frames that are not encrypted; quality of service and a fourth address lengthen their header."""
    control = header["control"].astype(np.int64)
    data = control & 0x404C == 0x0008
    quality, relayed, ordered = control & 0x0080 > 0, control & 0x0300 == 0x0300, control & 0x8080 == 0x8080
    left.at[rows] += 24 + 6 * relayed + 2 * quality + 4 * ordered
    left.ethertype[rows] = np.where(data, IN_LOGICAL_LINK, IEEE_802_11)


def _pass_cisco_hdlc(left, rows, header):
    left.at[rows] += header.dtype.itemsize
    left.ethertype[rows] = np.where(header["type"] > LARGEST_802_3, header["type"], NO_IP)


def _pass_pppoe(left, rows, header):
    left.at[rows] += header.dtype.itemsize
    _end_at(left, rows, left.at[rows] + header["length"])
    left.ethertype[rows] = IN_PPP


def _pass_ppp(left, rows, header):
    """PPP's protocol, of one byte or two, may follow the HDLC address; Cisco's HDLC has other addresses (RFC 1661, 1662)."""
    word = header["protocol"].astype(np.int64)
    framed, cisco = word == 0xFF03, np.isin(word, (0x0F00, 0x8F00))
    compressed = (word >> 8 & 1 == 1) & ~framed
    protocol = np.where(compressed, word >> 8, word)
    left.at[rows] += np.select([cisco, compressed], [0, 1], 2)
    left.ethertype[rows] = np.select(
        [framed, cisco, *[protocol == number for number in PPP_PROTOCOLS]],
        [IN_PPP, IN_CISCO_HDLC, *PPP_PROTOCOLS.values()], OTHER_PPP + protocol)


def _pass_label(left, rows, header):
    """MPLS: what follows the bottom of the label stack tells its IP version itself (RFC 3032)."""
    left.at[rows] += header.dtype.itemsize - 1
    bottom = header["bottom"] & 1 == 1
    left.ethertype[rows] = np.where(bottom, _of_version(header["version_ihl"]), left.ethertype[rows])


def _pass_gre(left, rows, header):
    """GRE: check sum, key and numbers are there where the flags say so (RFC 2784, 2890, 2637); ERSPAN I has no header."""
    flags = header["flags_version"]
    optional = (flags & 0xC000 > 0).astype(np.int64) + (flags & 0x2000 > 0) + (flags & 0x1000 > 0) + (flags & 0x0080 > 0)
    left.at[rows] += header.dtype.itemsize + 4 * optional
    kind = np.where((header["type"] == ERSPAN_1_2) & (flags & 0x1000 == 0), IN_ETHERNET, header["type"])
    left.ethertype[rows] = np.where(kind > LARGEST_802_3, kind, NO_IP)


def _pass_erspan(left, rows, header):
    """ERSPAN II and III, of which the latter's last bit tells of eight bytes more (draft-foschiano-erspan)."""
    third = header["version_vlan"] >> 12 == 2
    left.at[rows] += np.where(third, 11, header.dtype.itemsize)
    left.at[rows] += np.where(third, 1 + 8 * (_byte(left, rows) & 1), 0)
    left.ethertype[rows] = IN_ETHERNET


def _pass_vxlan_gpe(left, rows, header):
    left.at[rows] += header.dtype.itemsize
    left.ethertype[rows] = np.select([header["next"] == number for number in GPE_PROTOCOLS],
                                     list(GPE_PROTOCOLS.values()), NO_IP)


def _pass_geneve(left, rows, header):
    """Geneve: its options' length counts words (RFC 8926)."""
    left.at[rows] += header.dtype.itemsize + 4 * (header["version_options"] & 0x3F).astype(np.int64)
    left.ethertype[rows] = header["type"]


def _pass_gtp(left, rows, header):
    """GTP-U: a packet of a user, maybe behind extension headers (3GPP TS 29.281)."""
    numbered, extended = header["flags"] & 0x07 > 0, header["flags"] & 0x04 > 0
    _end_at(left, rows, left.at[rows] + header.dtype.itemsize - 1 + header["length"])
    left.at[rows] += np.where(numbered, 11, header.dtype.itemsize - 1)
    extended &= _byte(left, rows) > 0
    left.at[rows] += numbered
    packet = (header["flags"] & 0xF0 == 0x30) & (header["type"] == 255)
    left.ethertype[rows] = np.select([~packet, extended], [NO_IP, IN_GTP_EXTENSION], _of_version(_byte(left, rows)))


def _pass_gtp_extension(left, rows, header):
    """A length in words, and in its last byte what follows."""
    size = 4 * header["length"].astype(np.int64)
    left.at[rows] += size - 1
    extended = _byte(left, rows) > 0
    left.at[rows] += 1
    left.ethertype[rows] = np.select([size == 0, extended], [NO_IP, IN_GTP_EXTENSION], _of_version(_byte(left, rows)))


def _pass_l2tp(left, rows, header):
    """L2TP: length, numbers and an offset are there where the flags say so (RFC 2661)."""
    flags = header["flags_version"].astype(np.int64)
    sized, numbered, offset = flags & 0x4000 > 0, flags & 0x0800 > 0, flags & 0x0200 > 0
    _end_at(left, rows[sized], (left.at[rows] + header["length"])[sized])
    left.at[rows] += header.dtype.itemsize + 2 * sized + 4 * numbered + offset
    left.at[rows] += np.where(offset, _byte(left, rows).astype(np.int64) + 1, 0)
    left.ethertype[rows] = np.where(flags & 0x800F == 2, IN_PPP, NO_IP)


def _pass_teredo(left, rows, header):
    """Teredo: IPv6, maybe behind an authentication or the origin's address (RFC 4380)."""
    kind, size = header["kind"], 13 + header["client"].astype(np.int64) + header["authentication"]
    left.at[rows] += np.select([kind == 0, kind == 1], [8, size], 0)
    left.ethertype[rows] = np.select([kind <= 1, kind >> 12 == 6], [IN_TEREDO, 0x86DD], NO_IP)


WRAPPERS = {
    IN_ETHERNET: (ETHERNET, "link header", _pass_typed), 0x8100: (VLAN, "VLAN tag", _pass_typed),
    0x88A8: (VLAN, "VLAN tag", _pass_typed), 0x9100: (VLAN, "VLAN tag", _pass_typed),
    IN_LOGICAL_LINK: (LOGICAL_LINK, "IEEE 802.2 header", _pass_logical_link),
    IN_RADIOTAP: (RADIOTAP, "link header", _pass_radiotap), IN_WIRELESS: (WIRELESS, "link header", _pass_wireless),
    IN_CISCO_HDLC: (CISCO_HDLC, "link header", _pass_cisco_hdlc), IN_PPP: (PPP, "PPP header", _pass_ppp),
    IN_PPPOE: (PPPOE, "PPPoE header", _pass_pppoe), 0x8847: (MPLS, "MPLS label", _pass_label),
    0x8848: (MPLS, "MPLS label", _pass_label), IN_GRE: (GRE, "GRE header", _pass_gre),
    IN_VXLAN: (VXLAN, "VXLAN header", _into(IN_ETHERNET)), IN_GENEVE: (GENEVE, "Geneve header", _pass_geneve),
    IN_GTP: (GTP, "GTP header", _pass_gtp), IN_GTP_EXTENSION: (GTP_EXTENSION, "GTP header", _pass_gtp_extension),
    IN_RAW: (VERSION, "link header", _pass_raw), IN_LOOPBACK: (LOOPBACK, "link header", _pass_loopback),
    IN_COOKED_1: (COOKED_1, "link header", _pass_cooked), IN_COOKED_2: (COOKED_2, "link header", _pass_cooked),
    IN_TOKEN_RING: (TOKEN_RING, "link header", _pass_token_ring), IN_NFLOG: (NFLOG, "link header", _into(IN_NFLOG_PART)),
    IN_NFLOG_PART: (NFLOG_PART, "link header", _pass_nflog_part),
    IN_DIRECTED_PPP: (DIRECTION, "link header", _into(IN_PPP)), ERSPAN_1_2: (ERSPAN, "ERSPAN header", _pass_erspan),
    ERSPAN_3: (ERSPAN, "ERSPAN header", _pass_erspan), IN_ETHER_IP: (ETHER_IP, "EtherIP header", _into(IN_ETHERNET)),
    IN_VXLAN_GPE: (VXLAN, "VXLAN header", _pass_vxlan_gpe), IN_L2TP: (L2TP, "L2TP header", _pass_l2tp),
    IN_TEREDO: (TEREDO, "Teredo header", _pass_teredo), IN_INFINIBAND: (INFINIBAND, "link header", _pass_cooked),
    0x8903: (FABRIC_PATH, "FabricPath tag", _into(IN_ETHERNET)), IN_PER_PACKET: (PER_PACKET, "link header", _pass_per_packet)}


def _ethertype_name(kind):
    names = {0x0806: "ARP", 0x88CC: "LLDP", NO_IP: "not IP", IEEE_802_11: "not IP (IEEE 802.11)"}
    if kind >= OTHER_PPP:
        return f"not IP (PPP protocol 0x{kind - OTHER_PPP:04x})"
    return names.get(kind, f"not IP (type 0x{kind:04x})" if kind >= 0x600 else "not IP (IEEE 802.3)")


def _pass_ip(left):
    """Move every frame past its IP header, at `ip_at`, with the `protocol` that follows; leave no later fragments."""
    left.keep(left.at < left.end, "cut inside the IP header")
    version = _of_version(left.data[left.at])
    left.keep((version == 0x86DD) | (version == 0x0800) & (left.ethertype == 0x0800), "malformed IP header")
    left.ethertype = _of_version(left.data[left.at])
    header_length = np.where(left.ethertype == 0x0800, IPV4.itemsize, IPV6.itemsize)
    left.keep(left.at + header_length <= left.end, "cut inside the IP header")
    rows4, rows6 = np.flatnonzero(left.ethertype == 0x0800), np.flatnonzero(left.ethertype == 0x86DD)
    size, left.ip_at = len(left.at), left.at.copy()
    left.protocol, left.fragment, left.sound = np.zeros(size, int), np.zeros(size, bool), np.ones(size, bool)
    _pass_ipv4(left, rows4)
    _pass_ipv6(left, rows6)
    left.keep(left.sound, lambda cut: "cut inside the IP header" if cut else "malformed IP header",
              (left.ethertype == 0x86DD) & (left.end < left.wire_end))
    left.keep(~left.fragment, "IP fragment after the first")
    del left.fragment, left.sound


def _pass_ipv4(left, rows):
    header = left.header(IPV4, rows)
    header_length = (header["version_ihl"] & 0xF).astype(np.int64) * 4
    total = header["total_length"].astype(np.int64)
    offloaded = total == 0
    left.sound[rows] = (header_length >= 20) & (offloaded | (total >= header_length))
    left.protocol[rows] = header["protocol"]
    left.fragment[rows] = header["flags_offset"] & 0x1FFF != 0
    _end_at(left, rows, np.where(offloaded, left.wire_end[rows], left.at[rows] + total))
    left.at[rows] += header_length
    _pass_extensions(left, rows)


def _end_at(left, rows, ip_end):
    """Leave out what follows the IP packet (padding, check sums) and what its length claims beyond the frame."""
    left.wire_end[rows] = np.minimum(left.wire_end[rows], ip_end)
    left.end[rows] = np.minimum(left.end[rows], left.wire_end[rows])


def _pass_ipv6(left, rows):
    header = left.header(IPV6, rows)
    payload = header["payload_length"].astype(np.int64)
    left.protocol[rows] = header["next_header"]
    left.at[rows] += IPV6.itemsize
    _end_at(left, rows, np.where(payload == 0, left.wire_end[rows], left.at[rows] + payload))
    _pass_extensions(left, rows)


def _pass_extensions(left, rows):
    """Move the frames `rows` past the extension headers of IPv6, which follow IPv4 too (RFC 4302: authentication)."""
    rows = rows[left.protocol[rows] != 6]
    while len(rows := rows[np.isin(left.protocol[rows], list(EXTENSIONS)) & ~left.fragment[rows]]):
        left.sound[rows] = left.at[rows] + 8 <= left.end[rows]
        rows = rows[left.sound[rows]]
        extension = left.header(EXTENSION, rows)
        kind = left.protocol[rows]
        length = extension["length"].astype(np.int64)
        step = np.select([kind == 44, kind == 51], [np.full(len(rows), 8), length * 4 + 8], length * 8 + 8)
        left.fragment[rows] = (kind == 44) & (extension["offset_flags"] & 0xFFF8 != 0)
        left.protocol[rows] = extension["next_header"]
        left.at[rows] += step


def _tunnelled(left):
    """What stands between each frame's IP header and the next one it carries: an ether type, or NO_IP."""
    numbers, kinds = list(TUNNELS), list(TUNNELS.values())
    carried = np.select([left.protocol == number for number in numbers], kinds, NO_IP)
    rows = np.flatnonzero((left.protocol == 17) & (left.at + UDP.itemsize < left.end))
    header, of_port = left.header(UDP, rows), np.full(1 << 16, NO_IP)
    of_port[list(UDP_PORTS)] = list(UDP_PORTS.values())
    lower, higher = (of_port[one(header["sport"], header["dport"])] for one in (np.minimum, np.maximum))
    found = np.where(lower != NO_IP, lower, higher)
    left.at[rows] += np.where(found != NO_IP, UDP.itemsize, 0)
    carried[rows] = found
    return carried


def _pass_tunnels(left):
    """Move every frame whose IP packet carries another one on to the innermost."""
    for _ in range(DEEPEST):
        if not (carried := _tunnelled(left)).any():
            return
        inner = left.take(carried != NO_IP)
        inner.ethertype = carried[carried != NO_IP]
        _pass_wrappers(inner)
        _pass_ip(inner)
        left.put(inner)
    left.keep(_tunnelled(left) == NO_IP, TOO_DEEP)


def _addresses(left):
    """Number the addresses: `src` and `dst` are positions in `unique4` (numbers), and behind them in `unique6` (bytes)."""
    four = left.ethertype == 0x0800
    rows4, rows6 = slice(None) if four.all() else np.flatnonzero(four), np.flatnonzero(~four)
    left.src, left.dst = np.zeros((2, len(left.at)), np.int32)
    (left.src[rows4], left.dst[rows4]), left.unique4 = _numbered(_structures(left.data, left.ip_at[rows4] + IPV4.fields["addresses"][1], PAIR_4))
    pair6 = _structures(left.data, left.ip_at[rows6] + IPV6.fields["addresses"][1], PAIR_6)
    left.unique6, code6 = np.unique(np.concatenate([pair6["src"], pair6["dst"]]).view("S16"), return_inverse=True)
    left.src[rows6], left.dst[rows6] = (part + len(left.unique4) for part in np.split(code6, 2))


def _numbered(pairs):
    """The places of the sources and destinations of `pairs` among all their IPv4 addresses, and these."""
    code, distinct = pd.factorize(pairs.view("u8"))
    pairs = distinct.view(PAIR_4)
    places, unique = pd.factorize(np.concatenate([pairs["src"], pairs["dst"]]).astype(np.uint32))
    return (places[code] for places in np.split(places, 2)), unique


def _protocol_name(number):
    names = {1: "ICMP", 2: "IGMP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}
    return names.get(number, f"IP protocol {number}")


# Streams and hosts

def _endpoints(columns, addresses):
    """Numbers below 2**32 for source and destination, address and port, of each segment."""
    src, dst = (columns[address].astype(np.int64) << 16 | columns[port] for address, port in (
        ("src", "sport"), ("dst", "dport")))
    return (src, dst) if addresses <= 1 << 16 else np.split(pd.factorize(np.concatenate([src, dst]))[0], 2)


def _streams(src, dst, flags, seq, ack):
    """The stream number of each segment, by Wireshark's `tcp.stream` rule, and its side in the stream: 0 or 1.

    Segments between the same two endpoints (numbers `src`, `dst`) are one stream, until a SYN without ACK comes whose
    sequence number differs from the initial one known for its direction. Side 0 sent the first segment between the two.
    """
    pair = pd.factorize(np.minimum(src, dst) << 32 | np.maximum(src, dst))[0]
    order, size = in_groups(pair), np.bincount(pair)
    begins = np.zeros(len(pair), bool)
    begins[np.cumsum(size) - size] = True
    side = (src != src[order[begins]][pair]).astype(np.int8)
    _reopen(begins, order, pair, side, flags, seq, ack)
    number = np.empty(np.count_nonzero(begins), np.int64)
    number[np.argsort(order[begins])] = np.arange(len(number))
    stream = np.empty(len(pair), np.int64)
    stream[order] = np.repeat(number, np.diff(np.flatnonzero(np.r_[begins, True])))
    return stream, side


def in_groups(group):
    """The order that brings the members of each group together and leaves them in order; `group`: 0, 1, ... each."""
    order = np.argsort(group.astype(np.uint16), kind="stable")
    high = group >> 16
    return order[np.argsort(high.astype(np.uint16)[order], kind="stable")] if high.any() else order


def _reopen(begins, order, pair, side, flags, seq, ack):
    """Mark in `begins` (in `order` of `pair`) the SYNs that open a further stream between two endpoints.

    The initial sequence number of a direction is that of its last SYN-ACK; or else it follows from the first segment
    that tells it: one of its own, or an ACK of the other direction. Where side 0 alone opens, and from the first segment
    on, that is always the SYN before.
    """
    firsts, places = np.flatnonzero(begins), np.flatnonzero((flags & SYN > 0)[order])
    syns = order[places]
    opens = flags[syns] & ACK == 0
    usual = flags[order[firsts]] & (SYN | ACK) == SYN
    usual[pair[syns[opens != (side[syns] == 0)]]] = False
    usually = usual[pair[syns]]
    further, number = places[opens & usually], seq[syns[opens & usually]]
    begins[further[1:][number[1:] != number[:-1]]] = True
    places, syns, opens = places[~usually], syns[~usually], opens[~usually]
    firsts, current = firsts[pair[syns]], None
    for place, first, own, number, opening in zip(*map(np.ndarray.tolist, (places, firsts, side[syns], seq[syns], opens))):
        if first != current:
            current, begin, initial = first, first, {}
        if place == first:
            continue
        if opening and (initial[own] if own in initial else _initial(order[begin:place + 1], side, flags, seq, ack)) != number:
            begins[place], begin, initial = True, place, {}
        initial[own] = number


def _initial(rows, side, flags, seq, ack):
    """The initial sequence number that the first telling segment of `rows` gives for the direction of the last, a SYN."""
    for row in rows:
        if side[row] == side[rows[-1]]:
            return (int(seq[row]) - (not flags[row] & SYN)) % (1 << 32)
        if flags[row] & ACK:
            return (int(ack[row]) - 1) % (1 << 32)


def _hosts(stream, side, flags):
    """`client` or `server` for each segment: the first SYN without ACK tells, or else the first SYN-ACK."""
    client_side = np.full(int(stream.max(initial=-1)) + 1, -1, np.int8)
    for kind, other in ((SYN | ACK, 1), (SYN, 0)):
        rows = np.flatnonzero(flags & (SYN | ACK) == kind)[::-1]
        client_side[stream[rows]] = side[rows] ^ other
    known = client_side[stream]
    codes = np.where(known < 0, np.int8(-1), side != known)
    return pd.Categorical.from_codes(codes, ["client", "server"])
