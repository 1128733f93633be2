"""Capture files as tables: `read_capture(path)` gives one row per TCP segment.

Formats: pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng), plain or gzipped.
"""

import ipaddress
import struct
import zlib
from array import array
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

RECORD = np.dtype([("seconds", "u4"), ("fraction", "u4"), ("captured", "u4"), ("length", "u4")])
BLOCK = np.dtype([("kind", "u4"), ("size", "u4"), ("interface", "u4")])
PACKET = np.dtype([("high", "u4"), ("low", "u4"), ("captured", "u4"), ("length", "u4")])
ETHERNET = np.dtype([("destination", "u1", 6), ("source", "u1", 6), ("type", ">u2")])
VLAN = np.dtype([("control", ">u2"), ("type", ">u2")])
COOKED_1 = np.dtype([("packet_type", ">u2"), ("hardware", ">u2"), ("address_length", ">u2"),
                     ("address", "u1", 8), ("type", ">u2")])
COOKED_2 = np.dtype([("type", ">u2"), ("reserved", ">u2"), ("interface", ">u4"), ("hardware", ">u2"),
                     ("packet_type", "u1"), ("address_length", "u1"), ("address", "u1", 8)])
LOOPBACK = np.dtype([("family", ">u4")])
VERSION = np.dtype([("version_ihl", "u1")])
IPV4 = np.dtype([("version_ihl", "u1"), ("dscp_ecn", "u1"), ("total_length", ">u2"), ("identification", ">u2"),
                 ("flags_offset", ">u2"), ("ttl", "u1"), ("protocol", "u1"), ("checksum", ">u2"),
                 ("src", ">u4"), ("dst", ">u4")])
IPV6 = np.dtype([("version_class_flow", ">u4"), ("payload_length", ">u2"), ("next_header", "u1"),
                 ("hop_limit", "u1"), ("src", "V16"), ("dst", "V16")])
EXTENSION = np.dtype([("next_header", "u1"), ("length", "u1"), ("offset_flags", ">u2")])
TCP = np.dtype([("sport", ">u2"), ("dport", ">u2"), ("seq", ">u4"), ("ack", ">u4"),
                ("offset_flags", ">u2"), ("window", ">u2"), ("checksum", ">u2"), ("urgent", ">u2")])

LINKS = {0: "loopback", 1: "ethernet", 12: "raw", 14: "raw", 101: "raw", 108: "loopback", 113: "cooked 1",
         228: "raw", 229: "raw", 276: "cooked 2"}
ETHERTYPES = {0x0800: "IPv4", 0x86DD: "IPv6"}
TAGS = (0x8100, 0x88A8, 0x9100)
FAMILIES = {2: 0x0800, 10: 0x86DD, 24: 0x86DD, 28: 0x86DD, 30: 0x86DD}
EXTENSIONS = {0: 8, 43: 8, 44: 0, 51: 4, 60: 8, 135: 8}
SECTION, PACKETS = 0x0A0D0D0A, (6, 3, 2)
FLAG_LETTERS = "FSRPAUECN"
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
END_OF_OPTIONS, NO_OPERATION, WINDOW_SCALE, LARGEST_SCALE = 0, 1, 3, 14
LARGEST_FRAME = 1 << 18
GZIP = b"\x1f\x8b"
LARGEST_EXPANSION = 250


class CaptureError(Exception):
    """The file is not a capture that can be read; the message says which file, at which byte, and why."""

    def __init__(self, path, offset, reason):
        super().__init__(f"{path}: byte {offset}: {reason}")
        self.path, self.offset, self.reason = str(path), offset, reason


@dataclass(frozen=True, eq=False)
class Capture:
    """A capture file in memory.

    `segments`: one row per TCP segment, index `frame` (1-based, as in Wireshark): `time` (seconds since
    the first frame), `stream` (as `tcp.stream`), `host` (`client` sent the SYN, `server` answered it, missing
    where no SYN was captured), `src`, `sport`, `dst`, `dport`, `seq`, `ack` (raw), `flags` (letters of
    `FSRPAUECN`), `length` (payload bytes on the wire).
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


def _read(path, data, damage=None):
    frames, cut = _frames(path, data)
    start = int(frames["time_ns"][0]) if len(frames["time_ns"]) else 0
    seconds = (frames["time_ns"] - start) / 1e9
    table, headers, skipped = _decode(data, frames)
    table.insert(0, "time", seconds[table.index.to_numpy() - 1])
    stream, side = _streams(table, headers["flags"])
    table.insert(1, "stream", stream)
    table.insert(2, "host", _hosts(stream, side, headers["flags"]))
    headers |= {"frame_at": frames["at"], "frame_captured": frames["captured"], "side": side}
    return Capture(str(path), table, len(seconds), skipped, pd.Timestamp(start, unit="ns", tz="UTC"),
                   float(seconds.max()) if len(seconds) else 0.0,
                   "; ".join(filter(None, (cut, damage))) or None, data, headers)


def _load(path):
    """The file's bytes as a uint8 array, unzipped where they are gzipped; and what damaged the gzip data, or None."""
    try:
        data, damage = Path(path).read_bytes(), None
    except (OSError, ValueError) as error:
        raise CaptureError(path, 0, getattr(error, "strerror", None) or str(error)) from error
    if data[:2] == GZIP:
        data, damage = _gunzip(data)
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

def _frames(path, data):
    """Arrays `at`, `captured`, `length`, `time_ns`, `link` (one entry a frame), and where the file was cut."""
    magic = data[:4].tobytes()
    if magic == b"\x0a\x0d\x0d\x0a":
        return _pcapng_frames(path, data)
    for order in "<>":
        for value, resolution in ((0xA1B2C3D4, 1000), (0xA1B23C4D, 1)):
            if magic == struct.pack(order + "I", value):
                return _pcap_frames(path, data, order, resolution)
    reason = "the file is empty" if not len(data) else f"not a pcap or pcapng file (it begins with {magic.hex(' ')})"
    raise CaptureError(path, 0, reason)


def _pcap_frames(path, data, order, resolution):
    if len(data) < 24:
        raise CaptureError(path, len(data), "the pcap file header is cut short")
    link = struct.unpack_from(order + "I", data, 20)[0] & 0x03FFFFFF
    offsets, cut = _records(data, struct.Struct(order + "I"))
    record = _structures(data, offsets, RECORD.newbyteorder(order))
    time_ns = record["seconds"].astype(np.int64) * 1_000_000_000 + record["fraction"].astype(np.int64) * resolution
    return {"at": offsets + 16, "captured": record["captured"].astype(np.int64),
            "length": record["length"].astype(np.int64), "time_ns": time_ns, "link": np.full(len(offsets), link)}, cut


def _records(data, size):
    """Where the records of a pcap file begin; and where and why that ends before the file does, or None."""
    buffer, end, captured_at = data.data, len(data), size.unpack_from
    offsets, at = array("q"), 24
    add = offsets.append
    while at + 16 <= end:
        captured = captured_at(buffer, at + 8)[0]
        if captured > LARGEST_FRAME or at + 16 + captured > end:
            break
        add(at)
        at += 16 + captured
    cut = None
    if at + 16 > end > at:
        cut = f"byte {at}: a record header is cut short"
    elif at < end and captured > LARGEST_FRAME:
        cut = f"byte {at}: a record claims {captured} bytes; the file is damaged from here on"
    elif at < end:
        cut = f"byte {at}: frame {len(offsets) + 1} is cut short"
    return np.frombuffer(offsets, np.int64), cut


def _structures(data, at, dtype):
    """The structures of type `dtype` that begin at each of the positions `at`."""
    if not len(at):
        return np.empty(0, dtype)
    return np.lib.stride_tricks.sliding_window_view(data, dtype.itemsize)[at].view(dtype)[:, 0]


def _pcapng_frames(path, data):
    """As `_frames`: one section after the other, each with its own byte order and interfaces."""
    parts, at, cut = [], 0, None
    while at < len(data) and cut is None:
        order = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}.get(data[at + 8:at + 12].tobytes())
        if order is None and not at and len(data) >= 12:
            raise CaptureError(path, 8, "the section header has no byte-order magic")
        if order is None:
            whole = at + 12 <= len(data)
            cut = f"byte {at}: a {'section header has no byte-order magic' if whole else 'block header is cut short'}"
            break
        offsets, interfaces, at, cut = _blocks(data, at, order)
        part, damage = _packets(data, offsets, order, interfaces)
        parts.append(part)
        cut = damage or cut
    if not at:
        raise CaptureError(path, 0, f"no whole block in the file ({cut})")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, cut


def _blocks(data, begin, order):
    """The blocks of the section at `begin`: where its packet blocks are, its interfaces, its end, and why it is cut.

    An interface comes with the number of packet blocks before it, which can't name it.
    """
    words = data[:len(data) // 4 * 4].view(order + "u4").astype("=u4", copy=False).data
    offsets, interfaces, at, end, kind, size = array("q"), [], begin, len(data), 0, 0
    add = offsets.append
    while at + 12 <= end:
        kind, size = words[at >> 2], words[(at >> 2) + 1]
        if size < 12 or size & 3 or at + size > end or kind == SECTION and at > begin:
            break
        if kind in PACKETS:
            add(at)
        elif kind == 1:
            interfaces.append((len(offsets), *_interface(data.data, at, size, order)))
        at += size
    if at == end or kind == SECTION and begin < at <= end - 12:
        cut = None
    elif at + 12 > end:
        cut = f"byte {at}: a block header is cut short"
    elif size < 12 or size & 3:
        cut = f"byte {at}: a block claims {size} bytes; the file is damaged from here on"
    else:
        cut = f"byte {at}: a block is cut short"
    return np.frombuffer(offsets, np.int64), interfaces, at, cut


def _interface(buffer, at, size, order):
    """(link type, snap length, time stamps per second, offset in s) of an Interface Description Block."""
    link, snap = struct.unpack_from(order + "HxxI", buffer, at + 8) if size >= 20 else (-1, 0)
    resolution, offset, option = 6, 0, at + 16
    while option + 4 <= at + size - 4:
        code, length = struct.unpack_from(order + "HH", buffer, option)
        if code == 0 or option + 4 + length > at + size - 4:
            break
        if code == 9 and length >= 1:
            resolution = buffer[option + 4]
        if code == 14 and length >= 8:
            offset = struct.unpack_from(order + "q", buffer, option + 4)[0]
        option += 4 + (length + 3) // 4 * 4
    per_second = 2 ** (resolution & 0x7F) if resolution & 0x80 else 10 ** resolution
    return link, snap, per_second, offset


def _packets(data, offsets, order, interfaces):
    """The frames of the packet blocks at `offsets`, as in `_frames`, as far as they are sound; and why no further."""
    block = _structures(data, offsets, BLOCK.newbyteorder(order))
    kind, simple, size = block["kind"], block["kind"] == 3, block["size"].astype(np.int64)
    header = np.where(simple, 12, 28)
    whole = size >= header + 4
    packet = np.zeros(len(block), PACKET)
    packet[whole & ~simple] = _structures(data, offsets[whole & ~simple] + BLOCK.itemsize, PACKET.newbyteorder(order))
    number = np.where(kind == 2, block["interface"] >> (16 * (order == ">")) & 0xFFFF, block["interface"])
    number = np.where(simple, 0, number).astype(np.int64)
    described = np.array([before for before, *_ in interfaces] or [0])
    known = (number < len(interfaces)) & (described[np.minimum(number, len(described) - 1)] <= np.arange(len(block)))
    link, snap = (np.array(values)[np.where(known, number, 0)] for values in zip(
        *((link, snap) for _, link, snap, *_ in interfaces or [(0, -1, 0)])))
    length = np.where(simple, block["interface"], packet["length"]).astype(np.int64)
    snapped = np.where(snap > 0, np.minimum(snap, length), length)
    captured = np.where(simple, np.minimum(snapped, size - 16), packet["captured"])
    faults = np.select([~whole, ~known, captured > size - header - 4], [1, 2, 3])
    sound = int(np.argmax(faults > 0)) if faults.any() else len(offsets)
    rows = slice(sound)
    part = {"at": (offsets + header)[rows], "captured": captured[rows], "length": length[rows],
            "time_ns": _time_ns(packet[rows], number[rows], simple[rows], interfaces), "link": link[rows]}
    if sound == len(offsets):
        return part, None
    return part, f"byte {offsets[sound]}: " + (
        "a packet block is too short for its header",
        f"a packet names interface {number[sound]}, which the file does not describe",
        f"a packet claims {captured[sound]} bytes in a block of {size[sound]}; the file is damaged from here on",
    )[faults[sound] - 1]


def _time_ns(packet, number, simple, interfaces):
    """The time stamps of packet blocks in ns since 1970; 0 where there is none, or none that 64 bits hold."""
    ticks = packet["high"].astype(np.uint64) << np.uint64(32) | packet["low"]
    time_ns = np.zeros(len(packet), np.int64)
    for index in np.unique(number[~simple]):
        _, _, _, per_second, offset = interfaces[index]
        rows = np.flatnonzero((number == index) & ~simple)
        if 1_000_000_000 % per_second == 0 and not offset and int(ticks[rows].max()) < (1 << 63) * per_second // 10 ** 9:
            time_ns[rows] = ticks[rows].astype(np.int64) * (1_000_000_000 // per_second)
            continue
        exact = (int(tick) * 1_000_000_000 // per_second + offset * 1_000_000_000 for tick in ticks[rows].tolist())
        time_ns[rows] = [time if abs(time) < 1 << 63 else 0 for time in exact]
    return time_ns


# Headers: all frames at once, one layer after the other

class _Frames:
    """The frames still being decoded: `number` of each, `at` where its next header begins, `end` of its bytes."""

    def __init__(self, data, frames):
        self.data, self.skipped = data, {}
        self.number = np.arange(1, len(frames["at"]) + 1)
        self.at, self.end = frames["at"].copy(), frames["at"] + frames["captured"]
        self.wire_end = frames["at"] + frames["length"]
        self.link = frames["link"]

    def keep(self, mask, reason, codes=None):
        """Drop the frames outside `mask`, counting them under `reason`: one text, or a function of each one's code."""
        if mask.all():
            return
        out = np.zeros((~mask).sum(), int) if codes is None else codes[~mask]
        for code, count in zip(*np.unique(out, return_counts=True)):
            name = reason if codes is None else reason(int(code))
            self.skipped[name] = self.skipped.get(name, 0) + int(count)
        for name in [key for key, value in vars(self).items() if isinstance(value, np.ndarray) and key != "data"]:
            setattr(self, name, getattr(self, name)[mask])

    def header(self, dtype, rows=slice(None)):
        """The header of type `dtype` that begins at `at` in each of `rows`, as a structured array."""
        return _structures(self.data, self.at[rows], dtype)


def _decode(data, frames):
    """The segments table without time, stream and host; header arrays beside it; skipped frames by reason."""
    left = _Frames(data, frames)
    _pass_link(left)
    _pass_ip(left)
    left.keep(left.at + TCP.itemsize <= left.wire_end, "malformed TCP header")
    left.keep(left.at + TCP.itemsize <= left.end, "cut inside the TCP header")
    tcp = left.header(TCP)
    header_length = (tcp["offset_flags"] >> 12).astype(np.int64) * 4
    sound = (header_length >= 20) & (left.at + header_length <= left.wire_end)
    left.keep(sound, "malformed TCP header")
    tcp, header_length = tcp[sound], header_length[sound]
    tcp_at, payload_at = left.at, left.at + header_length
    length = np.maximum(left.wire_end - payload_at, 0)
    captured = np.clip(left.end - payload_at, 0, length)
    table = pd.DataFrame({
        "src": pd.Categorical.from_codes(left.src, left.addresses), "sport": tcp["sport"].astype(np.int64),
        "dst": pd.Categorical.from_codes(left.dst, left.addresses), "dport": tcp["dport"].astype(np.int64),
        "seq": tcp["seq"].astype(np.uint32), "ack": tcp["ack"].astype(np.uint32),
        "flags": _flags(tcp["offset_flags"]), "length": length}, index=pd.Index(left.number, name="frame"))
    headers = {"flags": (tcp["offset_flags"] & 0x1FF).astype(np.int16), "tcp_at": tcp_at, "payload_at": payload_at,
               "payload_captured": captured, "window": tcp["window"].astype(np.int32)}
    headers["scale"] = _window_scales(data, headers["flags"], tcp_at + TCP.itemsize, np.minimum(payload_at, left.end))
    return table, headers, left.skipped


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


def _flags(offset_flags):
    codes, where = np.unique(offset_flags & 0x1FF, return_inverse=True)
    names = ["".join(letter for bit, letter in enumerate(FLAG_LETTERS) if code >> bit & 1) for code in codes]
    return pd.Categorical.from_codes(where, names)


def _pass_link(left):
    """Move every frame past its link header, and leave those that carry IP, with `ethertype` set."""
    known = np.isin(left.link, list(LINKS))
    left.keep(known, "link type {}".format, left.link)
    left.ethertype = np.zeros(len(left.at), np.int64)
    for kind, dtype in {"ethernet": ETHERNET, "cooked 1": COOKED_1, "cooked 2": COOKED_2,
                        "loopback": LOOPBACK, "raw": VERSION}.items():
        left.keep(~_is(left, kind) | (left.at + dtype.itemsize <= left.end), "cut inside the link header")
        rows = np.flatnonzero(_is(left, kind))
        header = left.header(dtype, rows)
        if kind == "raw":
            left.ethertype[rows] = np.select([header["version_ihl"] >> 4 == 4, header["version_ihl"] >> 4 == 6],
                                             [0x0800, 0x86DD], 0)
            continue
        left.ethertype[rows] = _family(header["family"]) if kind == "loopback" else header["type"]
        left.at[rows] += dtype.itemsize
    while (tagged := np.isin(left.ethertype, TAGS)).any():
        left.keep(~tagged | (left.at + VLAN.itemsize <= left.end), "cut inside the VLAN tag")
        rows = np.flatnonzero(np.isin(left.ethertype, TAGS))
        left.ethertype[rows] = left.header(VLAN, rows)["type"]
        left.at[rows] += VLAN.itemsize
    ip = np.isin(left.ethertype, list(ETHERTYPES))
    left.keep(ip, _ethertype_name, left.ethertype)


def _is(left, kind):
    return np.isin(left.link, [number for number, name in LINKS.items() if name == kind])


def _family(family):
    """Ether types for the address families of BSD loopback headers, whose byte order is the writer's own."""
    family = np.where(family > 0xFFFF, family.astype(np.uint32).byteswap(), family)
    return np.select([family == number for number in FAMILIES], list(FAMILIES.values()), 0)


def _ethertype_name(kind):
    names = {0x0806: "ARP", 0x88CC: "LLDP", 0: "not IP"}
    return names.get(kind, f"not IP (type 0x{kind:04x})" if kind >= 0x600 else "not IP (IEEE 802.3)")


def _pass_ip(left):
    """Move every frame past its IP header, and leave those that carry TCP, with `src`, `dst` and `addresses`."""
    four = left.ethertype == 0x0800
    left.keep(left.at + np.where(four, IPV4.itemsize, IPV6.itemsize) <= left.end, "cut inside the IP header")
    four = left.ethertype == 0x0800
    version = left.header(VERSION)["version_ihl"] >> 4
    left.keep(version == np.where(four, 4, 6), "malformed IP header")
    rows4, rows6 = np.flatnonzero(left.ethertype == 0x0800), np.flatnonzero(left.ethertype == 0x86DD)
    header4, header6 = left.header(IPV4, rows4), left.header(IPV6, rows6)
    _addresses(left, rows4, header4, rows6, header6)
    size = len(left.at)
    left.protocol, left.fragment, left.sound = np.zeros(size, int), np.zeros(size, bool), np.ones(size, bool)
    _pass_ipv4(left, rows4, header4)
    _pass_ipv6(left, rows6, header6)
    snapped = (left.ethertype == 0x86DD) & (left.end < left.wire_end)
    left.keep(left.sound, ("malformed IP header", "cut inside the IP header").__getitem__, snapped.astype(int))
    left.keep(~left.fragment, "IP fragment after the first")
    left.keep(left.protocol == 6, _protocol_name, left.protocol)


def _pass_ipv4(left, rows, header):
    header_length = (header["version_ihl"] & 0xF).astype(np.int64) * 4
    total = header["total_length"].astype(np.int64)
    offloaded = total == 0
    left.sound[rows] = (header_length >= 20) & (offloaded | (total >= header_length))
    left.protocol[rows] = header["protocol"]
    left.fragment[rows] = header["flags_offset"] & 0x1FFF != 0
    _end_at(left, rows, np.where(offloaded, left.wire_end[rows], left.at[rows] + total))
    left.at[rows] += header_length


def _end_at(left, rows, ip_end):
    """Leave out what follows the IP packet (padding, check sums) and what its length claims beyond the frame."""
    left.wire_end[rows] = np.minimum(left.wire_end[rows], ip_end)
    left.end[rows] = np.minimum(left.end[rows], left.wire_end[rows])


def _pass_ipv6(left, rows, header):
    payload = header["payload_length"].astype(np.int64)
    left.protocol[rows] = header["next_header"]
    left.at[rows] += IPV6.itemsize
    _end_at(left, rows, np.where(payload == 0, left.wire_end[rows], left.at[rows] + payload))
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


def _addresses(left, rows4, header4, rows6, header6):
    """Number the addresses: `src` and `dst` are positions in the texts of `addresses`."""
    both4 = np.concatenate([header4["src"], header4["dst"]]).astype(np.uint32)
    both6 = np.concatenate([header6["src"], header6["dst"]])
    unique4, code4 = np.unique(both4, return_inverse=True)
    unique6, code6 = np.unique(both6.view("S16") if len(both6) else np.empty(0, "S16"), return_inverse=True)
    texts = [str(ipaddress.IPv4Address(int(value))) for value in unique4]
    texts += [str(ipaddress.IPv6Address(value.ljust(16, b"\0"))) for value in unique6.tolist()]
    left.src, left.dst = np.zeros(len(left.at), np.int64), np.zeros(len(left.at), np.int64)
    left.src[rows4], left.dst[rows4] = np.split(code4, 2)
    left.src[rows6], left.dst[rows6] = (part + len(unique4) for part in np.split(code6, 2))
    left.addresses = pd.Index(texts, dtype="str")


def _protocol_name(number):
    names = {1: "ICMP", 2: "IGMP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}
    return names.get(number, f"IP protocol {number}")


# Streams and hosts

def _streams(table, flags):
    """The stream number of each segment, by Wireshark's `tcp.stream` rule, and its side (0 or 1) in the stream.

    Segments between the same two endpoints are one stream, until a SYN without ACK comes whose sequence number
    differs from the initial one known for its direction.
    """
    src = table["src"].cat.codes.to_numpy().astype(np.int64) << 16 | table["sport"].to_numpy()
    dst = table["dst"].cat.codes.to_numpy().astype(np.int64) << 16 | table["dport"].to_numpy()
    src, dst = np.split(pd.factorize(np.concatenate([src, dst]))[0], 2)
    pair = pd.factorize(np.minimum(src, dst) << 32 | np.maximum(src, dst))[0]
    side = (src > dst).astype(np.int8)
    order = in_groups(pair)
    begins = np.r_[True, np.diff(pair[order]) > 0][:len(order)]
    _reopen(begins, side[order], flags[order], *(table[name].to_numpy()[order] for name in ("seq", "ack")))
    stream = np.empty(len(table), np.int64)
    stream[order] = np.cumsum(begins) - 1
    return pd.factorize(stream)[0].astype(np.int64), side


def in_groups(group):
    """The order that brings the members of each group together and leaves them in order; `group`: 0, 1, ... each."""
    group = group.astype(np.int64) * len(group)
    group += np.arange(len(group))
    group.sort()
    return np.remainder(group, len(group), out=group)


def _reopen(begins, side, flags, seq, ack):
    """Mark in `begins` the SYNs that open a further stream between two endpoints; all arrays in order of endpoints.

    The initial sequence number of a direction is that of its last SYN-ACK; or else it follows from the first segment
    that tells it: one of its own, or an ACK of the other direction.
    """
    rows = np.flatnonzero((flags & SYN > 0) & ~begins)
    pairs = np.flatnonzero(begins)[np.cumsum(begins)[rows] - 1]
    opens = flags[rows] & ACK == 0
    pair, begin, initial = None, None, {}
    for row, first, own, number, opening in zip(*map(np.ndarray.tolist, (rows, pairs, side[rows], seq[rows], opens))):
        if first != pair:
            pair, begin, initial = first, first, {}
        if opening and (initial[own] if own in initial else _initial(begin, row, side, flags, seq, ack)) != number:
            begins[row], begin, initial = True, row, {}
        initial[own] = number


def _initial(begin, syn, side, flags, seq, ack):
    """The initial sequence number that the first telling segment since `begin` gives for the direction of `syn`."""
    for row in range(begin, syn + 1):
        if side[row] == side[syn]:
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
