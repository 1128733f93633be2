"""pcap files (draft-ietf-opsawg-pcap): a header, then records of one frame each."""

import struct
from array import array
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from helpers.captures.errors import CaptureError
from helpers.captures.records import LARGEST_FRAME, SLAB, Progress, Runs, chunks, structures
from helpers.captures.threads import in_threads

FILE_HEADER, RECORD_HEADER = 24, 16     # bytes
KINDS = {                               # by magic number: ns in a tick, bytes of the file's header and of a record's
    0xA1B2C3D4: (1000, FILE_HEADER, RECORD_HEADER),
    0xA1B23C4D: (1, FILE_HEADER, RECORD_HEADER),            # nanoseconds
    0xA1B2CD34: (1000, FILE_HEADER, RECORD_HEADER + 8),     # Alexey Kuznetsov's libpcap
    0x1C0001AB: (1000, FILE_HEADER + 4, RECORD_HEADER),     # IXIA
    0x1C0001AC: (1000, FILE_HEADER + 4, RECORD_HEADER)}     # IXIA
MAGICS = {struct.pack(order + "I", number): (order, sizes) for order in "<>" for number, sizes in KINDS.items()}
RECORD = np.dtype([("seconds", "u4"), ("fraction", "u4"), ("captured", "u4"), ("length", "u4")])
FIRST_LENGTH, SECOND_LENGTH, SMALLER_LENGTH = (8,), (12,), (8, 12)


class Layout(NamedTuple):
    """How a pcap file is laid out: byte order, ns in a tick, bytes of the file's header (`head`) and of a record's.

    `captured`: where in a record its captured length stands, or both places where it may.
    """

    order: str
    unit: int
    head: int
    header: int
    captured: tuple


def layout_of(data: np.ndarray) -> Layout:
    """The `Layout` of a pcap file, from its first bytes."""
    order, sizes = MAGICS[data[:4].tobytes()]
    return Layout(order, *sizes, _places_of_captured_length(data, order))


def _places_of_captured_length(data, order):
    """Before version 2.3 (and in DG/UX's 543.0) the length on the wire comes first, in version 2.3 either may."""
    version = struct.unpack_from(order + "HH", data[:8].tobytes().ljust(8, b"\xff"), 4)
    swapped = (version[0] == 2 and version[1] < 3) or version == (543, 0)
    return SECOND_LENGTH if swapped else SMALLER_LENGTH if version == (2, 3) else FIRST_LENGTH


def pcap_frames(path: str, data: np.ndarray, progress: Progress, layout: Layout) -> Iterator[dict]:
    """The frames of a pcap file, as `files.frames` gives them."""
    if len(data) < layout.head:
        raise CaptureError(path, len(data), "the pcap file header is cut short")
    link = struct.unpack_from(layout.order + "I", data, 20)[0] & 0x03FFFFFF
    offsets = _records(data, layout, progress)
    progress.found = len(offsets)
    for chunk in chunks(offsets):
        record = structures(data, chunk, RECORD.newbyteorder(layout.order))
        time_ns = record["seconds"].astype(np.int64) * 1_000_000_000 + record["fraction"].astype(np.int64) * layout.unit
        yield {"at": chunk + layout.header, "captured": _captured(data, chunk, layout).astype(np.int64),
               "length": np.maximum(record["captured"], record["length"]).astype(np.int64),
               "time_ns": time_ns, "timeless": np.zeros(len(chunk), bool), "link": np.full(len(chunk), link)}


def _captured(data, offsets, layout):
    """How many bytes the records at `offsets` say they hold."""
    number = np.dtype(layout.order + "u4")
    return np.minimum.reduce([structures(data, offsets + place, number) for place in layout.captured])


def _records(data, layout, progress):
    """Where the records of a pcap file begin."""
    first, *second = layout.captured
    lengths_at = struct.Struct(f"{layout.order}{first}x{1 + len(second)}I").unpack_from
    buffer, end, header = data.data, len(data), layout.header
    offsets, runs, at, before = array("q"), Runs(*_likely_records(data, layout, progress.threads)), layout.head, None
    while at + header <= end:
        at = runs.take(at, offsets)
        if at + header > end:
            break
        captured = min(lengths_at(buffer, at))
        if captured > LARGEST_FRAME or at + header + captured > end:
            break
        many = _alike(data, at, header + captured, layout) if captured == before else 1
        offsets.frombytes(np.arange(at, at + many * (header + captured), header + captured).tobytes())
        at, before = at + many * (header + captured), captured
    if at + header > end > at:
        progress.cut(at, "a record header is cut short")
    elif at < end and captured > LARGEST_FRAME:
        progress.cut(at, f"a record claims {captured} bytes; the file is damaged from here on")
    elif at < end:
        progress.cut(at, f"frame {progress.before + len(offsets) + 1} is cut short")
    progress.end, progress.head = at, data[:layout.head].tobytes()
    return np.frombuffer(offsets, np.int64)


def _alike(data, at, size, layout):
    """How many records of the same `size` follow one another from `at` on; at least that one."""
    places, many, most = layout.captured, 1, (len(data) - at) // size
    while many < most:
        many = min(16 * many, most)
        lengths = [np.ndarray(many, layout.order + "u4", data, at + place, (size,)) for place in places]
        other = np.flatnonzero(np.minimum.reduce(lengths) != size - layout.header)
        if len(other):
            return int(other[0])
    return many


def _likely_records(data, layout, threads):
    """Where records of a pcap file may begin, and end: the first byte of the time is that of the first record's."""
    high, zeros = (3, (10, 11, 14, 15)) if layout.order == "<" else (0, (8, 9, 12, 13))
    last = len(data) - layout.header + 1
    first = int(data[layout.head + high]) if last > layout.head else 0

    def of_slab(begin):
        begins = np.flatnonzero(data[begin + high:min(begin + SLAB, last) + high] == first) + begin
        for place in zeros:
            begins = begins[data[begins + place] == 0]
        return begins

    found = in_threads(of_slab, range(layout.head, last if first else layout.head, SLAB), threads)
    begins = np.concatenate([np.empty(0, np.int64), *found])
    ends = begins + layout.header + _captured(data, begins, layout)
    return begins[ends <= len(data)], ends[ends <= len(data)]
