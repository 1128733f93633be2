"""Captures from files: one, several, a large one in pieces; or from packets built by hand."""

import gzip
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from helpers.captures.capture import Capture, capture_of
from helpers.captures.errors import CaptureError
from helpers.captures.files import GZIP, frames, load
from helpers.captures.records import LARGEST_FRAME, SLAB, Progress, chunks
from helpers.captures.segments import filled


def read_capture(path) -> Capture:
    """The TCP segments of the pcap or pcapng file at `path`, as a `Capture`.

    Raises `CaptureError` where the file can't be opened or is no capture. A file cut short gives all its whole
    frames, and `Capture.cut` says where it ended.
    """
    data, damage = load(path)
    return _read(path, data, damage)


def toy_capture(packets) -> Capture:
    """The capture of hand-built IP packets: anything with `bytes(packet)` and `packet.time` (s), such as scapy's."""
    records = [struct.pack("<IIII", int(packet.time), round(packet.time % 1 * 1e9), len(bytes(packet)),
                           len(bytes(packet))) + bytes(packet) for packet in packets]
    header = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, LARGEST_FRAME, 101)
    return _read("toy", np.frombuffer(header + b"".join(records), np.uint8))


def merge_captures(paths) -> Capture:
    """The `Capture` of one file, or of several (a ring buffer's, in any order), their frames in order of time.

    Raises `CaptureError` where one can't be read. Frame numbers are those of the merged frames. `dropped` adds up what
    those files say that say anything.
    """
    if len(paths) == 1:
        return read_capture(paths[0])
    datas, parts, cuts, drops, at = [], [], [], [], 0
    for path in paths:
        (data, damage), progress = load(path), Progress()
        parts += [part | {"at": part["at"] + at} for part in frames(path, data, progress)]
        cuts += [f"{path}: byte {place}: {reason}" for place, reason in progress.cuts]
        cuts += [f"{path}: {damage}"] if damage else []
        datas.append(data)
        drops.append(progress.dropped)
        at += len(data)
    merged = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(filled(merged["time_ns"], merged["timeless"]), kind="stable")
    in_order = ({name: column[chunk] for name, column in merged.items()} for chunk in chunks(order))
    whole = Progress(len(order), end=at, statistics=[(0, count) for count in drops if count is not None])
    return capture_of(f"{len(paths)} files: {', '.join(map(str, paths))}", np.concatenate(datas), in_order, whole,
                      "; ".join(cuts))


def _read(path, data, damage=None):
    progress = Progress()
    return capture_of(path, data, frames(path, data, progress), progress, damage)


def read_pieces(path, size: int) -> Iterator[Capture]:
    """Yield the capture file at `path` as `Capture`s of whole frames, one for each `size` bytes or so.

    Raises `CaptureError` where the file can't be opened or is no capture. `cut` of the last says where it was cut.
    `dropped` of a piece is what its statistics add to those of the pieces before; None where it has none.
    """
    if size < 1:
        raise ValueError(f"read_pieces: size is {size}; it must be at least 1 byte")
    try:
        with Path(path).open("rb") as file:
            zipped = file.read(2) == GZIP
        with (gzip.open if zipped else open)(path, "rb") as file:
            yield from _pieces(path, file, size)
    except (OSError, ValueError) as error:
        raise CaptureError(path, 0, getattr(error, "strerror", None) or str(error)) from error


def _pieces(path, file, size):
    head, rest, base, damage, over, before, drops = b"", b"", 0, None, False, 0, {}
    while not over:
        try:
            new = file.read(size)
        except (EOFError, OSError, zlib.error) as error:
            new, damage = b"", f"the gzip data are damaged ({error})"
        over = not new
        data, progress = np.frombuffer(head + rest + new, np.uint8), Progress(before=before, drops=drops)
        if over and not rest and base:
            break
        try:
            parts = list(frames(path, data, progress))
        except CaptureError:
            if over or len(data) > SLAB:
                raise
            rest += new
            continue
        before += progress.found
        unread = data[progress.end:]
        damaged = any(not reason.endswith("cut short") for _, reason in progress.cuts)
        over |= damaged or len(unread) > max(size, SLAB)
        if not over:
            progress.cuts.clear()
        yield capture_of(path, data, iter(parts), progress, damage, base - len(head))
        base += progress.end - len(head)
        head, rest, drops = progress.head, unread.tobytes(), progress.drops
