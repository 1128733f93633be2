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
FLAG_LETTERS = "FSRPAUECN"
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
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
    size, buffer, end = struct.Struct(order + "8xI4x"), data.data, len(data)
    offsets, at, cut = array("q"), 24, None
    while at < end:
        if at + 16 > end:
            cut = f"byte {at}: a record header is cut short"
            break
        captured = size.unpack_from(buffer, at)[0]
        if captured > LARGEST_FRAME:
            cut = f"byte {at}: a record claims {captured} bytes; the file is damaged from here on"
            break
        if at + 16 + captured > end:
            cut = f"byte {at}: frame {len(offsets) + 1} is cut short"
            break
        offsets.append(at)
        at += 16 + captured
    record = _structures(data, np.array(offsets, np.int64), RECORD.newbyteorder(order))
    time_ns = record["seconds"].astype(np.int64) * 1_000_000_000 + record["fraction"].astype(np.int64) * resolution
    return {"at": np.array(offsets, np.int64) + 16, "captured": record["captured"].astype(np.int64),
            "length": record["length"].astype(np.int64), "time_ns": time_ns, "link": np.full(len(offsets), link)}, cut


def _structures(data, at, dtype):
    """The structures of type `dtype` that begin at each of the positions `at`."""
    if not len(at):
        return np.empty(0, dtype)
    return np.lib.stride_tricks.sliding_window_view(data, dtype.itemsize)[at].view(dtype)[:, 0]


def _pcapng_frames(path, data):
    buffer, end = data.data, len(data)
    rows, at, cut, order, interfaces = array("q"), 0, None, "<", []
    while at < end:
        if at + 12 > end:
            cut = f"byte {at}: a block header is cut short"
            break
        if buffer[at:at + 4] == b"\x0a\x0d\x0d\x0a":
            order = ">" if buffer[at + 8:at + 12] == b"\x1a\x2b\x3c\x4d" else "<"
            interfaces = []
            if buffer[at + 8:at + 12] not in (b"\x1a\x2b\x3c\x4d", b"\x4d\x3c\x2b\x1a"):
                if not at:
                    raise CaptureError(path, 8, "the section header has no byte-order magic")
                cut = f"byte {at}: a section header has no byte-order magic"
                break
        kind, size = struct.unpack_from(order + "II", buffer, at)
        if size < 12 or size % 4:
            cut = f"byte {at}: a block claims {size} bytes; the file is damaged from here on"
            break
        if at + size > end:
            cut = f"byte {at}: a block is cut short"
            break
        if kind == 1:
            interfaces.append(_interface(buffer, at, size, order))
        elif kind in (2, 3, 6):
            row = _packet_block(buffer, at, size, order, kind, interfaces)
            if isinstance(row, str):
                cut = f"byte {at}: {row}"
                break
            rows.extend(row)
        at += size
    if not at:
        raise CaptureError(path, 0, f"no whole block in the file ({cut})")
    columns = np.array(rows, np.int64).reshape(-1, 5).T
    return dict(zip(("at", "captured", "length", "time_ns", "link"), columns)), cut


def _interface(buffer, at, size, order):
    """(link type, snap length, function from raw time stamp to ns) of an Interface Description Block."""
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


def _packet_block(buffer, at, size, order, kind, interfaces):
    """(at, captured, length, time in ns, link) of a packet block, or the reason why it can't be read."""
    header = {2: 28, 3: 12, 6: 28}[kind]
    if size < header + 4:
        return "a packet block is too short for its header"
    high = low = number = 0
    if kind == 3:
        length = struct.unpack_from(order + "I", buffer, at + 8)[0]
    elif kind == 6:
        number, high, low, captured, length = struct.unpack_from(order + "5I", buffer, at + 8)
    else:
        number, _, high, low, captured, length = struct.unpack_from(order + "HHIIII", buffer, at + 8)
    if number >= len(interfaces):
        return f"a packet names interface {number}, which the file does not describe"
    link, snap, per_second, offset = interfaces[number]
    if kind == 3:
        captured = min(length, snap or length, size - 16)
    if captured > size - header - 4:
        return f"a packet claims {captured} bytes in a block of {size}; the file is damaged from here on"
    time_ns = ((high << 32 | low) * 1_000_000_000) // per_second + offset * 1_000_000_000
    return at + header, captured, length, time_ns if abs(time_ns) < 1 << 63 else 0, link


# Headers: all frames at once, one layer after the other

class _Frames:
    """The frames still being decoded: `number` of each, `at` where its next header begins, `end` of its bytes."""

    def __init__(self, data, frames):
        self.data, self.skipped = data, {}
        self.number = np.arange(1, len(frames["at"]) + 1)
        self.at, self.end = frames["at"].copy(), frames["at"] + frames["captured"]
        self.wire_end = frames["at"] + frames["length"]
        self.link = frames["link"]

    def keep(self, mask, reason):
        """Drop the frames outside `mask`, counting them under `reason` (one text, or one for each frame)."""
        if mask.all():
            return
        reasons = np.broadcast_to(np.asarray(reason, object), mask.shape)[~mask]
        for name, count in zip(*np.unique(reasons.astype(str), return_counts=True)):
            self.skipped[str(name)] = self.skipped.get(str(name), 0) + int(count)
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
    headers = {"flags": (tcp["offset_flags"] & 0x1FF).astype(np.int64), "tcp_at": tcp_at, "payload_at": payload_at,
               "payload_captured": captured, "window": tcp["window"].astype(np.int64)}
    return table, headers, left.skipped


def _flags(offset_flags):
    codes, where = np.unique(offset_flags & 0x1FF, return_inverse=True)
    names = ["".join(letter for bit, letter in enumerate(FLAG_LETTERS) if code >> bit & 1) for code in codes]
    return pd.Categorical.from_codes(where, names)


def _pass_link(left):
    """Move every frame past its link header, and leave those that carry IP, with `ethertype` set."""
    known = np.isin(left.link, list(LINKS))
    left.keep(known, [f"link type {link}" for link in left.link] if not known.all() else "")
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
    rows, cut = np.flatnonzero(np.isin(left.ethertype, TAGS)), np.zeros(len(left.at), bool)
    while len(rows):
        cut[rows] = left.at[rows] + VLAN.itemsize > left.end[rows]
        rows = rows[~cut[rows]]
        left.ethertype[rows] = left.header(VLAN, rows)["type"]
        left.at[rows] += VLAN.itemsize
        rows = rows[np.isin(left.ethertype[rows], TAGS)]
    left.keep(~cut, "cut inside the VLAN tag")
    ip = np.isin(left.ethertype, list(ETHERTYPES))
    left.keep(ip, [_ethertype_name(kind) for kind in left.ethertype] if not ip.all() else "")


def _is(left, kind):
    return np.isin(left.link, [number for number, name in LINKS.items() if name == kind])


def _family(family):
    """Ether types for the address families of BSD loopback headers, whose byte order is the writer's own."""
    family = np.where(family > 0xFFFF, family.astype(np.uint32).byteswap(), family)
    return np.select([family == number for number in FAMILIES], list(FAMILIES.values()), 0)


def _ethertype_name(kind):
    names = {0x0806: "ARP", 0x88CC: "LLDP", 0: "not IP"}
    return names.get(int(kind), f"not IP (type 0x{int(kind):04x})" if kind >= 0x600 else "not IP (IEEE 802.3)")


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
    left.keep(left.sound, np.where(snapped, "cut inside the IP header", "malformed IP header"))
    left.keep(~left.fragment, "IP fragment after the first")
    left.keep(left.protocol == 6, [_protocol_name(number) for number in left.protocol])


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
    return names.get(int(number), f"IP protocol {int(number)}")


# Streams and hosts

def _streams(table, flags):
    """The stream number of each segment, by Wireshark's `tcp.stream` rule, and its side (0 or 1) in the stream.

    Segments between the same two endpoints are one stream, until a SYN without ACK comes whose sequence number
    differs from the initial one known for its direction.
    """
    src = table.src.cat.codes.to_numpy().astype(np.int64) << 16 | table.sport.to_numpy()
    dst = table.dst.cat.codes.to_numpy().astype(np.int64) << 16 | table.dport.to_numpy()
    endpoints, codes = np.unique(np.concatenate([src, dst]), return_inverse=True)
    src, dst = np.split(codes, 2)
    pair = pd.factorize(np.minimum(src, dst) * (len(endpoints) + 1) + np.maximum(src, dst))[0]
    side = (src > dst).astype(np.int64)
    order = np.argsort(pair, kind="stable")
    begins = np.r_[True, np.diff(pair[order]) > 0][:len(order)]
    seq, ack = (table[name].to_numpy().astype(np.int64)[order] for name in ("seq", "ack"))
    _reopen(begins, side[order], flags[order], seq, ack)
    stream = np.empty(len(table), np.int64)
    stream[order] = np.cumsum(begins) - 1
    return pd.factorize(stream)[0].astype(np.int64), side


def _reopen(begins, side, flags, seq, ack):
    """Mark in `begins` the SYNs that open a further stream between two endpoints; all arrays in order of endpoints.

    The initial sequence number of a direction is that of its last SYN-ACK; or else it follows from the first segment
    that tells it: one of its own, or an ACK of the other direction.
    """
    rows = np.flatnonzero((flags & SYN > 0) & ~begins)
    pairs = np.flatnonzero(begins)[np.cumsum(begins)[rows] - 1]
    pair, begin, initial = None, None, {}
    for row, first in zip(rows.tolist(), pairs.tolist()):
        if first != pair:
            pair, begin, initial = first, first, {}
        own = side[row]
        if own not in initial:
            initial[own] = _initial(begin, row, side, flags, seq, ack)
        if not flags[row] & ACK and initial[own] != seq[row]:
            begins[row], begin, initial = True, row, {}
        initial[own] = seq[row]


def _initial(begin, syn, side, flags, seq, ack):
    """The initial sequence number that the first telling segment since `begin` gives for the direction of `syn`."""
    for row in range(begin, syn + 1):
        if side[row] == side[syn]:
            return (seq[row] - (not flags[row] & SYN)) % (1 << 32)
        if flags[row] & ACK:
            return (ack[row] - 1) % (1 << 32)


def _hosts(stream, side, flags):
    """`client` or `server` for each segment: the first SYN without ACK tells, or else the first SYN-ACK."""
    client_side = np.full(int(stream.max(initial=-1)) + 1, -1)
    for kind, other in ((SYN | ACK, 1), (SYN, 0)):
        rows = np.flatnonzero(flags & (SYN | ACK) == kind)
        first, where = np.unique(stream[rows], return_index=True)
        client_side[first] = side[rows[where]] ^ other
    known = client_side[stream]
    codes = np.where(known < 0, -1, (side != known).astype(int))
    return pd.Categorical.from_codes(codes, ["client", "server"])
