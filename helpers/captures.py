"""Capture files as tables: `read_capture(path)` gives one row per TCP segment.

Formats: pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng), plain or gzipped.
"""

import ipaddress
import struct
import zlib
from array import array
from collections import Counter
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

RECORD = np.dtype([("seconds", "u4"), ("fraction", "u4"), ("captured", "u4"), ("length", "u4")])
ETHERNET = np.dtype([("destination", "u1", 6), ("source", "u1", 6), ("type", ">u2")])
VLAN = np.dtype([("control", ">u2"), ("type", ">u2")])
LOGICAL_LINK = np.dtype([("saps", ">u2"), ("control", "u1"), ("organisation", "u1", 3), ("type", ">u2")])
CISCO_HDLC = np.dtype([("address", "u1"), ("control", "u1"), ("type", ">u2")])
PPP = np.dtype([("protocol", ">u2")])
PPPOE = np.dtype([("version", "u1"), ("code", "u1"), ("session", ">u2"), ("length", ">u2")])
MPLS = np.dtype([("label", ">u2"), ("bottom", "u1"), ("ttl", "u1"), ("version_ihl", "u1")])
GRE = np.dtype([("flags_version", ">u2"), ("type", ">u2")])
UDP = np.dtype([("sport", ">u2"), ("dport", ">u2"), ("length", ">u2"), ("checksum", ">u2")])
VXLAN = np.dtype([("flags", "u1"), ("reserved", "V3"), ("network", ">u4")])
GENEVE = np.dtype([("version_options", "u1"), ("flags", "u1"), ("type", ">u2"), ("network", ">u4")])
GTP = np.dtype([("flags", "u1"), ("type", "u1"), ("length", ">u2"), ("endpoint", ">u4"), ("version_ihl", "u1")])
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
TCP = np.dtype([("sport", ">u2"), ("dport", ">u2"), ("seq", ">u4"), ("ack", ">u4"),
                ("offset_flags", ">u2"), ("window", ">u2")])

LINKS = {0: "loopback", 1: "ethernet", 9: "ppp", 12: "raw", 14: "raw", 50: "ppp", 51: "pppoe", 101: "raw",
         104: "cisco hdlc", 108: "loopback", 113: "cooked 1", 228: "raw", 229: "raw", 276: "cooked 2"}
FAMILIES = {2: 0x0800, 10: 0x86DD, 24: 0x86DD, 28: 0x86DD, 30: 0x86DD}
PPP_PROTOCOLS = {0x0021: 0x0800, 0x0057: 0x86DD, 0x0281: 0x8847, 0x0283: 0x8848}
IN_ETHERNET, IN_PPP, IN_PPPOE, IN_LOGICAL_LINK = 0x6558, 0x880B, 0x8864, 4
NO_IP, IEEE_802_3, OTHER_PPP = 0, 1, 1 << 17
IN_CISCO_HDLC, IN_GRE, IN_GTP, IN_VXLAN, IN_GENEVE = (1 << 16 | number for number in range(5))
LARGEST_802_3 = 1500
TUNNELS = {4: 0x0800, 41: 0x86DD, 47: IN_GRE}
UDP_PORTS = {2152: IN_GTP, 4789: IN_VXLAN, 6081: IN_GENEVE}
EXTENSIONS = {0: 8, 43: 8, 44: 0, 51: 4, 60: 8, 135: 8}
NO_PACKETS = {9: "systemd journal entry", 0x204: "system call", 0x216: "system call", 0x221: "system call",
              0xBAD: "custom block", 0x40000BAD: "custom block"}
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
        elif kind in NO_PACKETS:
            rows.extend((at + 8, size - 12, size - 12, rows[-2] if rows else 0, -kind))
        at += size
    if not at:
        raise CaptureError(path, 0, f"no whole block in the file ({cut})")
    columns = np.array(rows, np.int64).reshape(-1, 5).T
    first = np.argmax(columns[4] >= 0) if columns.size else 0
    columns[3, :first] = columns[3, first] if first else 0
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

    def keep(self, mask, reason, values=None):
        """Drop the frames outside `mask`, counting them under `reason`: a text, or a function from `values` to texts."""
        if mask.all():
            return
        lost = Counter({None: int((~mask).sum())} if values is None else values[~mask].tolist())
        for value, count in lost.items():
            name = reason if values is None else reason(value)
            self.skipped[name] = self.skipped.get(name, 0) + count
        for name in self._columns():
            setattr(self, name, getattr(self, name)[mask])

    def take(self, mask):
        """Take the frames of `mask` out of these, and return them."""
        taken = copy(self)
        for name in self._columns():
            setattr(taken, name, getattr(self, name)[mask])
            setattr(self, name, getattr(self, name)[~mask])
        return taken

    def put(self, taken):
        """Put back what `take` took, every frame in its place."""
        order = np.argsort(np.concatenate([self.number, taken.number]), kind="stable")
        for name in self._columns():
            setattr(self, name, np.concatenate([getattr(self, name), getattr(taken, name)])[order])

    def _columns(self):
        return [name for name, value in vars(self).items() if isinstance(value, np.ndarray) and name != "data"]

    def header(self, dtype, rows=slice(None)):
        """The header of type `dtype` that begins at `at` in each of `rows`, as a structured array."""
        return _structures(self.data, self.at[rows], dtype)


def _decode(data, frames):
    """The segments table without time, stream and host; header arrays beside it; skipped frames by reason."""
    left = _Frames(data, frames)
    _pass_link(left)
    _pass_ip(left)
    _pass_tunnels(left)
    left.keep(left.protocol == 6, _protocol_name, left.protocol)
    left.keep(left.at + TCP.itemsize <= left.wire_end, "malformed TCP header")
    left.keep(left.at + TCP.itemsize <= left.end, "cut inside the TCP header")
    _addresses(left)
    tcp = left.header(TCP)
    header_length = (tcp["offset_flags"] >> 12).astype(np.int64) * 4
    sound = header_length >= 20
    flags = np.where(sound, tcp["offset_flags"] & 0x1FF, np.uint16(0)).astype(np.uint16)
    payload_at = np.where(sound, np.minimum(left.at + header_length, left.wire_end), left.wire_end)
    length = left.wire_end - payload_at
    table = pd.DataFrame({
        "src": pd.Categorical.from_codes(left.src, left.addresses), "sport": tcp["sport"].astype(np.int64),
        "dst": pd.Categorical.from_codes(left.dst, left.addresses), "dport": tcp["dport"].astype(np.int64),
        "seq": tcp["seq"].astype(np.uint32), "ack": tcp["ack"].astype(np.uint32),
        "flags": _flags(flags), "length": length}, index=pd.Index(left.number, name="frame"))
    headers = {"flags": flags.astype(np.int64), "tcp_at": left.at, "payload_at": payload_at,
               "payload_captured": np.clip(left.end - payload_at, 0, length), "window": tcp["window"].astype(np.int64)}
    return table, headers, left.skipped


def _flags(flags):
    codes, where = np.unique(flags, return_inverse=True)
    names = ["".join(letter for bit, letter in enumerate(FLAG_LETTERS) if code >> bit & 1) for code in codes]
    return pd.Categorical.from_codes(where, names)


def _pass_link(left):
    """Move every frame past its link header, and leave those that carry IP, with `ethertype` set."""
    left.keep(np.isin(left.link, list(LINKS)), _link_name, left.link)
    left.ethertype = np.full(len(left.at), NO_IP)
    for kind, wrapper in {"ethernet": IN_ETHERNET, "ppp": IN_PPP, "pppoe": IN_PPPOE, "cisco hdlc": IN_CISCO_HDLC}.items():
        left.ethertype[_is(left, kind)] = wrapper
    for kind, dtype in {"cooked 1": COOKED_1, "cooked 2": COOKED_2, "loopback": LOOPBACK, "raw": VERSION}.items():
        left.keep(~_is(left, kind) | (left.at + dtype.itemsize <= left.end), "cut inside the link header")
        rows = np.flatnonzero(_is(left, kind))
        header = left.header(dtype, rows)
        if kind == "raw":
            left.ethertype[rows] = _of_version(header["version_ihl"])
            continue
        left.ethertype[rows] = _family(header["family"]) if kind == "loopback" else header["type"]
        left.at[rows] += dtype.itemsize
    _pass_wrappers(left)


def _is(left, kind):
    return np.isin(left.link, [number for number, name in LINKS.items() if name == kind])


def _family(family):
    """Ether types for the address families of BSD loopback headers, whose byte order is the writer's own."""
    family = np.where(family > 0xFFFF, family.astype(np.uint32).byteswap(), family)
    return np.select([family == number for number in FAMILIES], list(FAMILIES.values()), 0)


def _link_name(link):
    return NO_PACKETS.get(-link, f"link type {link}")


def _of_version(version_ihl):
    """Ether types for the IP versions that the first bytes of packets tell."""
    return np.select([version_ihl >> 4 == 4, version_ihl >> 4 == 6], [0x0800, 0x86DD], NO_IP)


def _pass_wrappers(left):
    """Move every frame past all that stands between its link header and IP, and leave those that carry IP."""
    while not (ip := np.isin(left.ethertype, (0x0800, 0x86DD))).all():
        left.keep(ip | np.isin(left.ethertype, list(WRAPPERS)), _ethertype_name, left.ethertype)
        for kind, (dtype, name, unwrap) in WRAPPERS.items():
            if not (left.ethertype == kind).any():
                continue
            left.keep((left.ethertype != kind) | (left.at + dtype.itemsize <= left.end), f"cut inside the {name}")
            rows = np.flatnonzero(left.ethertype == kind)
            unwrap(left, rows, left.header(dtype, rows))


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


def _pass_cisco_hdlc(left, rows, header):
    left.at[rows] += header.dtype.itemsize
    left.ethertype[rows] = np.where(header["type"] > LARGEST_802_3, header["type"], NO_IP)


def _pass_pppoe(left, rows, header):
    left.at[rows] += header.dtype.itemsize
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
    """GRE: check sum, key and numbers are there where the flags say so (RFC 2784, 2890, 2637)."""
    flags = header["flags_version"]
    optional = (flags & 0xC000 > 0).astype(np.int64) + (flags & 0x2000 > 0) + (flags & 0x1000 > 0) + (flags & 0x0080 > 0)
    left.at[rows] += header.dtype.itemsize + 4 * optional
    left.ethertype[rows] = np.where(header["type"] > LARGEST_802_3, header["type"], NO_IP)


def _pass_vxlan(left, rows, header):
    left.at[rows] += header.dtype.itemsize
    left.ethertype[rows] = IN_ETHERNET


def _pass_geneve(left, rows, header):
    """Geneve: its options' length counts words (RFC 8926)."""
    left.at[rows] += header.dtype.itemsize + 4 * (header["version_options"] & 0x3F).astype(np.int64)
    left.ethertype[rows] = header["type"]


def _pass_gtp(left, rows, header):
    """GTP-U: a packet of a user, with no extension headers (3GPP TS 29.281)."""
    numbered = header["flags"] & 0x07 > 0
    left.at[rows] += np.where(numbered, 12, header.dtype.itemsize - 1)
    packet = (header["flags"] & 0xF4 == 0x30) & (header["type"] == 255) & (left.at[rows] < left.end[rows])
    left.ethertype[rows] = np.where(packet, _of_version(left.data[np.where(packet, left.at[rows], 0)]), NO_IP)


WRAPPERS = {
    IN_ETHERNET: (ETHERNET, "link header", _pass_typed), 0x8100: (VLAN, "VLAN tag", _pass_typed),
    0x88A8: (VLAN, "VLAN tag", _pass_typed), 0x9100: (VLAN, "VLAN tag", _pass_typed),
    IN_LOGICAL_LINK: (LOGICAL_LINK, "IEEE 802.2 header", _pass_logical_link),
    IN_CISCO_HDLC: (CISCO_HDLC, "link header", _pass_cisco_hdlc), IN_PPP: (PPP, "PPP header", _pass_ppp),
    IN_PPPOE: (PPPOE, "PPPoE header", _pass_pppoe), 0x8847: (MPLS, "MPLS label", _pass_label),
    0x8848: (MPLS, "MPLS label", _pass_label), IN_GRE: (GRE, "GRE header", _pass_gre),
    IN_VXLAN: (VXLAN, "VXLAN header", _pass_vxlan), IN_GENEVE: (GENEVE, "Geneve header", _pass_geneve),
    IN_GTP: (GTP, "GTP header", _pass_gtp)}


def _ethertype_name(kind):
    names = {0x0806: "ARP", 0x88CC: "LLDP", NO_IP: "not IP"}
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
    header = left.header(UDP, rows)
    for port, kind in UDP_PORTS.items():
        found = rows[(header["dport"] == port) | (header["sport"] == port)]
        left.at[found] += UDP.itemsize
        carried[found] = kind
    return carried


def _pass_tunnels(left):
    """Move every frame whose IP packet carries another one on to the innermost."""
    while (carried := _tunnelled(left)).any():
        inner = left.take(carried != NO_IP)
        inner.ethertype = carried[carried != NO_IP]
        _pass_wrappers(inner)
        _pass_ip(inner)
        left.put(inner)


def _addresses(left):
    """Number the addresses: `src` and `dst` are positions in the texts of `addresses`."""
    rows4, rows6 = np.flatnonzero(left.ethertype == 0x0800), np.flatnonzero(left.ethertype == 0x86DD)
    pair4 = _structures(left.data, left.ip_at[rows4] + IPV4.fields["addresses"][1], PAIR_4)
    pair6 = _structures(left.data, left.ip_at[rows6] + IPV6.fields["addresses"][1], PAIR_6)
    both4 = np.concatenate([pair4["src"], pair4["dst"]]).astype(np.uint32)
    both6 = np.concatenate([pair6["src"], pair6["dst"]])
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
