"""Capture files: their bytes, unzipped where they are zipped, and where each frame lies in them."""

from collections.abc import Iterator

import numpy as np

from helpers.captures.errors import CaptureError
from helpers.captures.packet_blocks import pcapng_frames
from helpers.captures.pcap import MAGICS, layout_of, pcap_frames
from helpers.captures.records import Progress
from helpers.captures.sources import CaptureFile, Plain, Unzipped, clear_errors, name_of, opened

PCAPNG = b"\x0a\x0d\x0d\x0a"
OTHER_COMPRESSIONS = {
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


def load(path: CaptureFile, threads: int = 1) -> tuple[np.ndarray, str | None]:
    """The bytes of a capture file, unzipped where it is zipped; and what is wrong with the zipped data, or None.

    `path`: of the file, or the file itself, open for reading bytes. `threads`: how many read it.
    """
    with clear_errors(name_of(path)), opened(path) as source:
        check_begin(path, source)
        return source.whole(threads), source.damage


def check_begin(path: CaptureFile, source: Plain | Unzipped) -> None:
    """Raise `CaptureError` where the file does not begin as a capture does, before all of it is read or unzipped."""
    if not source.begin and source.damage:
        raise CaptureError(name_of(path), 0, source.damage)
    if source.begin != PCAPNG and source.begin not in MAGICS:
        raise CaptureError(name_of(path), 0, _why_no_capture(source.begin))


def frames(path: str, data: np.ndarray, progress: Progress) -> Iterator[dict]:
    """The frames of the file at `path` whose bytes are `data`, in chunks of columns; `progress` says how far they go.

    Columns: `at`: where a frame's bytes begin; `captured`: how many of them the file has; `length`: how many it had on
    the wire; `time_ns`: since 1970; `timeless`: whether it has no time; `link`: the link type, or minus the type of a
    block that holds no packet. Raises `CaptureError` where the header of the file is cut short or damaged.
    """
    if len(data) < 4:
        raise CaptureError(path, len(data), "the file header is cut short")
    if data[:4].tobytes() == PCAPNG:
        return pcapng_frames(path, data, progress)
    return pcap_frames(path, data, progress, layout_of(data))


def _why_no_capture(magic):
    """Why a file that begins with the bytes `magic` can't be read, and what to do about it."""
    if not magic:
        return "the file is empty"
    for begin, name in OTHER_COMPRESSIONS.items():
        if magic.startswith(begin):
            return f"the file is compressed with {name}; decompress it first"
    reason = f"not a pcap or pcapng file (it begins with {magic.hex(' ')})"
    return f"{reason}; turn it into one: editcap -F pcapng FILE NEW" if magic in OTHER_CAPTURES else reason
