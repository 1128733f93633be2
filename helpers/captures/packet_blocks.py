"""The blocks of a pcapng file that hold frames, many at once: which bytes, when, from which interface."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np

from helpers.captures.pcapng import ENHANCED_PACKET, OBSOLETE_PACKET, PACKETS, SIMPLE_PACKET, Sections, find_blocks
from helpers.captures.records import Progress, chunks, distinct, structures

BLOCK = np.dtype([("kind", "u4"), ("size", "u4"), ("interface", "u4")])
PACKET = np.dtype([("high", "u4"), ("low", "u4"), ("captured", "u4"), ("length", "u4")])
TOO_FAR = np.iinfo(np.int64).min    # a time stamp that 64 bits of ns don't hold


def pcapng_frames(path: str, data: np.ndarray, progress: Progress) -> Iterator[dict]:
    """The frames of a pcapng file, as `files.frames` gives them; all sections together, however small they are."""
    offsets, sections = find_blocks(path, data, progress)
    progress.found = len(offsets)
    first = 0
    for chunk in chunks(offsets):
        part, damage = _packets(data, chunk, first, sections)
        first += len(chunk)
        yield part
        if damage:
            progress.cuts = [damage]
            break


def _in_order(data, at, dtype, big):
    """As `structures`; `big`: whether the byte order is big-endian, of all or of each."""
    if np.all(big) or not np.any(big):
        return structures(data, at, dtype.newbyteorder(">" if np.any(big) else "<"))
    found = structures(data, at, dtype.newbyteorder("<"))
    found[big] = structures(data, at[big], dtype.newbyteorder(">"))
    return found


def _packets(data, offsets, first, sections: Sections):
    """The frames of the blocks at `offsets`, as far as they are sound; and where and why no further, or None.

    `first`: how many blocks with frames there are before these.
    """
    section = sections.of(first, first + len(offsets) - 1)
    base, big = sections.base[section], sections.big[section]
    block = _in_order(data, offsets, BLOCK, big)
    only_enhanced = ((block["kind"] == ENHANCED_PACKET) & (block["size"] >= BLOCK.itemsize + PACKET.itemsize + 4)).all()
    fields = (_enhanced if only_enhanced else _of_any_kind)(data, offsets, big, block, sections.snap[base])
    known, interface = _interfaces(fields.number, base, section, first, sections)
    room = block["size"].astype(np.int64) - fields.header - 4
    faulty = (room < 0) | ~(known | fields.bare) | (fields.captured > room)
    sound = int(np.argmax(faulty)) if faulty.any() else len(offsets)
    part = _frames(fields, offsets, block, sections.link[interface])
    part = {name: column[:sound] for name, column in part.items()}
    part["time_ns"] = _time_ns(fields.packet[:sound], interface[:sound], part["timeless"], sections)
    part["timeless"] = part["timeless"] | (part["time_ns"] == TOO_FAR)
    part["time_ns"][part["timeless"]] = 0
    if sound == len(offsets):
        return part, None
    return part, (int(offsets[sound]), _what_is_wrong(fields, block, room, known, sound))


def _interfaces(number, base, section, first, sections):
    """Of each block: whether the interface `number` that it names is described before it, and its place in the file."""
    known, interface = number < sections.count[section], np.minimum(base + number, len(sections.before) - 1)
    if (interface >= np.searchsorted(sections.before, first, "right")).any():
        known &= sections.before[interface] <= first + np.arange(len(number))
    return known, interface


def _frames(fields, offsets, block, link):
    """The columns of `files.frames` but the time."""
    if fields.bare.any():
        link = np.where(fields.bare, -block["kind"].astype(np.int64), link)
    return {"at": offsets + fields.header, "captured": fields.captured,
            "length": np.maximum(fields.length, fields.captured), "timeless": fields.timeless, "link": link}


def _what_is_wrong(fields, block, room, known, row):
    """Why the block in `row` is not sound."""
    if room[row] < 0:
        return "a packet block is too short for its header"
    if not known[row] and not fields.bare[row]:
        return f"a packet names interface {fields.number[row]}, which the file does not describe"
    claims = f"a packet claims {fields.captured[row]} bytes in a block of {block['size'][row]}"
    return f"{claims}; the file is damaged from here on"


def _enhanced(data, offsets, big, block, snap):
    """The fields of Enhanced Packet Blocks; `bare`: it is no packet; `timeless`: it has no time stamp."""
    packet = _in_order(data, offsets + BLOCK.itemsize, PACKET, big)
    no = np.zeros(len(block), bool)
    return SimpleNamespace(
        header=BLOCK.itemsize + PACKET.itemsize, packet=packet, number=block["interface"].astype(np.int64), bare=no,
        timeless=no, length=packet["length"].astype(np.int64), captured=packet["captured"].astype(np.int64))


def _of_any_kind(data, offsets, big, block, snap):
    """As `_enhanced`, for blocks of all kinds; a Simple Packet Block is cut at the snap length of interface 0."""
    kind, size, simple = block["kind"], block["size"].astype(np.int64), block["kind"] == SIMPLE_PACKET
    bare = ~np.isin(kind, PACKETS)
    header = np.select([simple, bare], [12, 8], BLOCK.itemsize + PACKET.itemsize)
    packet, stamped = np.zeros(len(block), PACKET), (size >= header + 4) & ~simple & ~bare
    big_stamped = np.broadcast_to(big, len(block))[stamped]
    packet[stamped] = _in_order(data, offsets[stamped] + BLOCK.itemsize, PACKET, big_stamped)
    half = block["interface"] >> np.where(big, 16, 0) & 0xFFFF      # an Obsolete Packet Block has 16 bits for it
    number = np.where(kind == OBSOLETE_PACKET, half, block["interface"])
    length = np.select([simple, bare], [block["interface"], size - 12], packet["length"]).astype(np.int64)
    snapped = np.where(snap > 0, np.minimum(snap, length), length)
    captured = np.select([simple, bare], [np.minimum(snapped, size - 16), size - 12], packet["captured"])
    return SimpleNamespace(
        header=header, packet=packet, number=np.where(simple | bare, 0, number).astype(np.int64), bare=bare,
        timeless=simple | bare, length=length, captured=captured.astype(np.int64))


def _time_ns(packet, interface, timeless, sections):
    """The time stamps of packet blocks in ns since 1970; 0 where there is none, `TOO_FAR` where it needs more bits."""
    ticks = packet["high"].astype(np.uint64) << np.uint64(32) | packet["low"]
    time_ns = np.zeros(len(packet), np.int64)
    clock = interface[:1] if (interface == interface[:1]).all() else interface
    resolution, offset = sections.resolution[clock], np.broadcast_to(sections.offset[clock], len(packet))
    found = distinct(resolution).tolist()
    for number in found:
        per_second = 2 ** (number & 0x7F) if number & 0x80 else 10 ** number
        alone = len(found) == 1 and not timeless.any()
        rows = slice(None) if alone else np.flatnonzero((resolution == number) & ~timeless)
        whole = 1_000_000_000 % per_second == 0 and not offset[rows].any()
        if whole and int(ticks[rows].max(initial=0)) < (1 << 63) * per_second // 10 ** 9:
            time_ns[rows] = ticks[rows].astype(np.int64) * (1_000_000_000 // per_second)
            continue
        exact = (tick * 1_000_000_000 // per_second + seconds * 1_000_000_000
                 for tick, seconds in zip(ticks[rows].tolist(), offset[rows].tolist()))
        time_ns[rows] = [time if abs(time) < 1 << 63 else TOO_FAR for time in exact]
    return time_ns
