"""Capture files: their bytes, unzipped where they are zipped, and where each frame lies in them."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from helpers.captures.errors import CaptureError
from helpers.captures.packet_blocks import pcapng_frames
from helpers.captures.pcap import layout_of, pcap_frames
from helpers.captures.records import Progress

PCAPNG = b"\x0a\x0d\x0d\x0a"
GZIP = b"\x1f\x8b"
LARGEST_EXPANSION = 250     # times its size: a file that unzips to more was made to fill a memory
OTHER_COMPRESSIONS = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xfd7zX": "xz",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip"}
OTHER_CAPTURES = (              # capture files that editcap can read
    b"snoo",                    # snoop, of Solaris
    b"GMBU", b"RTSS",           # Network Monitor
    b"TRSN",                    # Sniffer
    b"XCP\0",                   # NetXray
    b"\xaa\xaa\xaa\xaa",        # 5Views
    b"\x05VNF")                 # Visual Networks


def load(path) -> tuple[np.ndarray, str | None]:
    """The file's bytes, unzipped where they are gzipped; and what is wrong with the gzip data, or None."""
    try:
        with Path(path).open("rb") as file:
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


def frames(path, data, progress: Progress) -> Iterator[dict]:
    """The frames of the file at `path` whose bytes are `data`, in chunks of columns; `progress` says how far they go.

    Columns: `at`: where a frame's bytes begin; `captured`: how many of them the file has; `length`: how many it had on
    the wire; `time_ns`: since 1970; `timeless`: whether it has no time; `link`: the link type, or minus the type of a
    block that holds no packet. Raises `CaptureError` where `data` is no capture.
    """
    if data[:4].tobytes() == PCAPNG:
        return pcapng_frames(path, data, progress)
    layout = layout_of(data)
    if layout is None:
        raise CaptureError(path, 0, _why_no_capture(data[:4].tobytes()))
    return pcap_frames(path, data, progress, layout)


def _why_no_capture(magic):
    """Why a file that begins with the bytes `magic` can't be read, and what to do about it."""
    if not magic:
        return "the file is empty"
    for begin, name in OTHER_COMPRESSIONS.items():
        if magic.startswith(begin):
            return f"the file is compressed with {name}; decompress it first"
    reason = f"not a pcap or pcapng file (it begins with {magic.hex(' ')})"
    return f"{reason}; turn it into one: editcap -F pcapng FILE NEW" if magic in OTHER_CAPTURES else reason
