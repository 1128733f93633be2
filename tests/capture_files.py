"""Capture files built by hand, byte by byte: pcap and pcapng of every kind, whose frames are known."""

import struct

from toys import EXCHANGE, HANDSHAKE, SERVER_CLOSES, segment

from helpers.captures import read_capture

WHOLE = [segment(*row) for row in HANDSHAKE + EXCHANGE + SERVER_CLOSES]
ETHERNET = [bytes(packet) for packet in WHOLE]
EPOCH = 1_700_000_000
TIMES = [EPOCH * 10**9 + round(packet.time * 1e9) for packet in WHOLE]


def pcap(frames, times=None, order="<", unit=1000, link=1, snap=1 << 18, lengths=None):
    """A pcap file; times in ns, `unit` ns in one tick of its clock."""
    magic = {1000: 0xA1B2C3D4, 1: 0xA1B23C4D}[unit]
    records = []
    for number, data in enumerate(frames):
        time, length = (times or TIMES)[number], lengths[number] if lengths else len(data)
        head = struct.pack(order + "IIII", time // 10**9, time % 10**9 // unit, len(data[:snap]), length)
        records.append(head + data[:snap])
    return struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snap, link) + b"".join(records)


VARIANTS = [                    # (magic number, version)
    (0xA1B2CD34, (2, 4)), (0x1C0001AB, (2, 4)), (0x1C0001AC, (2, 4)), (0xA1B2C3D4, (2, 0)), (0xA1B2C3D4, (2, 2)),
    (0xA1B2C3D4, (2, 3)), (0xA1B2C3D4, (543, 0)), (0xA1B2CD34, (2, 2))]


def pcap_variant(frames, magic, version, order="<", times=None):
    """A pcap file of another kind, each frame's last byte not captured."""
    size, data = 16 + 8 * (magic == 0xA1B2CD34), struct.pack(order + "IHHiIII", magic, *version, 0, 0, 1 << 18, 1)
    if magic >> 16 == 0x1C00:
        data += struct.pack(order + "I", sum(size + len(frame) - 1 for frame in frames))
    for number, (frame, time) in enumerate(zip(frames, times or TIMES)):
        swapped = version in ((2, 0), (2, 2), (543, 0)) or (version == (2, 3) and number % 2)
        lengths = (len(frame), len(frame) - 1) if swapped else (len(frame) - 1, len(frame))
        record = struct.pack(order + "IIIIIHBB", time // 10**9, time % 10**9 // 1000, *lengths, 1, 0x0800, 0, 0)
        data += record[:size] + frame[:-1]
    return data


def block(kind, body, order="<"):
    body += bytes(-len(body) % 4)
    size = len(body) + 12
    return struct.pack(order + "II", kind, size) + body + struct.pack(order + "I", size)


def option(code, value, order="<"):
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order="<"):
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(order="<", link=1, snap=0, options=b""):
    return block(1, struct.pack(order + "HHI", link, 0, snap) + options, order)


def packet(data, ticks, order="<", number=0, length=None):
    """An Enhanced Packet Block."""
    head = struct.pack(order + "5I", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), length or len(data))
    return block(6, head + data, order)


def obsolete_packet(data, ticks, order="<"):
    head = struct.pack(order + "HHIIII", 0, 0, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(2, head + data, order)


def simple_packet(data, order="<", length=None):
    return block(3, struct.pack(order + "I", length or len(data)) + data, order)


def statistics(options, order="<", number=0):
    """An Interface Statistics Block."""
    return block(5, struct.pack(order + "III", number, 0, 0) + options, order)


def drops(by_interface=None, by_system=None, order="<", number=0):
    """An Interface Statistics Block that says how many frames were dropped."""
    counts = {4: 99, 5: by_interface, 7: by_system}
    options = b"".join(option(code, struct.pack(order + "Q", count), order)
                       for code, count in counts.items() if count is not None)
    return statistics(options + option(0, b"", order), order, number)


def pcapng(order="<", per_second=10**6, options=b""):
    blocks = [packet(data, time * per_second // 10**9, order) for data, time in zip(ETHERNET, TIMES)]
    return section(order) + interface(order, options=options) + b"".join(blocks)


def small_sections(frames, times, orders="<>"):
    """A pcapng file with a section for each frame, in each byte order in turn, an empty one between; clocks differ."""
    data = b""
    for number, (frame, time) in enumerate(zip(frames, times)):
        order, clock = orders[number % len(orders)], (6, 9, 3)[number % 3]
        options = option(9, bytes([clock]), order) + option(14, struct.pack(order + "q", number), order)
        data += section(order) + section(">") + section(order)
        data += interface(order, link=101) + interface(order, options=options)
        data += packet(frame, (time - number * 10**9) * 10**clock // 10**9, order, number=1)
    return data


def read(tmp_path, data):
    path = tmp_path / "toy"
    path.write_bytes(data)
    return read_capture(path)


def one(tmp_path, data, link=1, **keywords):
    """The capture of a single frame."""
    return read(tmp_path, pcap([bytes(data)], link=link, **keywords))
