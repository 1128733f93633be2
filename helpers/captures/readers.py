"""Captures from files: one, several, a large one in pieces; or from packets built by hand."""

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from helpers.captures.capture import Capture, capture_of
from helpers.captures.errors import CaptureError
from helpers.captures.files import check_begin, frames, load
from helpers.captures.records import LARGEST_FRAME, SLAB, Progress, chunks
from helpers.captures.secrets import Secrets, read_key_log
from helpers.captures.segments import filled
from helpers.captures.sources import CaptureFile, Plain, clear_errors, enough_memory, name_of, opened
from helpers.captures.threads import number_of_threads

IN_PIECES = "read it with helpers.pieces.read_captures"
SMALLER_PIECES = "read it in smaller pieces"
LARGEST_KEY_LOG = 1 << 26
FIRST = 1 << 16     # bytes in which the first frame is looked for


def read_capture(path: CaptureFile, keys: str | os.PathLike | None = None, threads: int | None = None) -> Capture:
    """The TCP segments of the pcap or pcapng file at `path`, as a `Capture`; unzipped where it is gzip or zstd.

    `path`: of a file, or a file open for reading bytes. Raises `CaptureError` where it can't be opened, is no capture,
    or does not fit into memory. A file cut short gives all its whole frames, and `Capture.cut` says where it ended.
    `keys`: the path of a key log of TLS, whose secrets are added to those that the file itself may hold.
    `threads`: how many threads read it and later make its tables, which are the same whatever the number; None: one per
    processor.
    """
    threads = number_of_threads(threads)
    with enough_memory(name_of(path), IN_PIECES):
        secrets = _secrets(keys)
        data, damage = load(path, threads)
        return _read(name_of(path), data, damage, secrets, threads)


def _secrets(keys) -> Secrets:
    """The secrets in the key log at the path `keys`; none where that is None."""
    if keys is None:
        return Secrets()
    with clear_errors(name_of(keys)), Path(keys).open("rb") as file:
        text = file.read(LARGEST_KEY_LOG + 1)
    if len(text) > LARGEST_KEY_LOG:
        raise CaptureError(name_of(keys), 0, "a key log of more than 64 MiB; cut it to what is needed")
    secrets = read_key_log(text)
    if not secrets and text.strip():
        raise CaptureError(name_of(keys), 0, "no line of it is one of a TLS key log; give SSLKEYLOGFILE's file")
    return secrets


def toy_capture(packets: Iterable) -> Capture:
    """The capture of hand-built IP packets: anything with `bytes(packet)` and `packet.time` (s), such as scapy's."""
    records = [struct.pack("<IIII", int(packet.time), round(packet.time % 1 * 1e9), len(bytes(packet)),
                           len(bytes(packet))) + bytes(packet) for packet in packets]
    header = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, LARGEST_FRAME, 101)
    return _read("toy", np.frombuffer(header + b"".join(records), np.uint8))


def merge_captures(paths: Iterable, keys: str | os.PathLike | None = None, threads: int | None = None) -> Capture:
    """The `Capture` of one file, or of several (a ring buffer's, in any order), their frames in order of time.

    Raises `CaptureError` where one can't be read, or all together do not fit into memory; TypeError or ValueError where
    `paths` is a single path or empty. Frame numbers are those of the merged frames. `dropped` adds up what those files
    say that say anything. The secrets are those of all files, and of the key log at the path `keys`.
    `threads`: as for `read_capture`.
    """
    threads = number_of_threads(threads)
    if isinstance(paths, (str, bytes, os.PathLike)):
        raise TypeError(f"merge_captures: paths is one path, {paths!r}; give a list of paths: [{paths!r}]")
    if not isinstance(paths, Iterable):
        raise TypeError(f"merge_captures: paths is {paths!r}; give a list of paths")
    paths = list(paths)
    if not paths:
        raise ValueError("merge_captures: no paths given; is the folder empty, or the pattern wrong?")
    if len(paths) == 1:
        return read_capture(paths[0], keys, threads)
    name = f"{len(paths)} files: {', '.join(map(name_of, paths))}"
    with enough_memory(name, IN_PIECES):
        return _merged(name, paths, _secrets(keys), threads)


def _merged(name, paths, secrets, threads):
    datas, parts, cuts, drops, at = [], [], [], [], 0
    for path in paths:
        (data, damage), progress = load(path, threads), Progress(threads=threads)
        parts += [part | {"at": part["at"] + at} for part in frames(name_of(path), data, progress)]
        cuts += [f"{name_of(path)}: byte {place}: {reason}" for place, reason in progress.cuts]
        cuts += [f"{name_of(path)}: {damage}"] if damage else []
        datas.append(data)
        drops.append(progress.dropped)
        secrets = progress.secrets | secrets
        at += len(data)
    merged = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(filled(merged["time_ns"], merged["timeless"]), kind="stable")
    in_order = ({name: column[chunk] for name, column in merged.items()} for chunk in chunks(order))
    whole = Progress(len(order), end=at, statistics=[(0, count) for count in drops if count is not None],
                     secrets=secrets)
    return capture_of(name, np.concatenate(datas), in_order, whole, "; ".join(cuts), threads=threads)


def _read(path, data, damage=None, secrets=None, threads=1):
    progress = Progress(threads=threads)
    chunks_of_frames = frames(path, data, progress)
    if secrets:
        progress.secrets |= secrets
    return capture_of(path, data, chunks_of_frames, progress, damage, threads=threads)


def read_pieces(path: CaptureFile, size: int) -> Iterator[Capture]:
    """Yield the capture file at `path` as `Capture`s of whole frames, one for each `size` bytes or so.

    Raises `CaptureError` where the file can't be opened or is no capture. `cut` of the last says where it was cut.
    `dropped` of a piece is what its statistics add to those of the pieces before; None where it has none. Its `secrets`
    are those of the pieces before, too. IP fragments are put together where all of a packet are in one piece.
    """
    if size < 1:
        raise ValueError(f"read_pieces: size is {size}; it must be at least 1 byte")
    name = name_of(path)
    with ExitStack() as stack:
        stack.enter_context(enough_memory(name, SMALLER_PIECES))
        with clear_errors(name):
            source = stack.enter_context(opened(path))
            check_begin(path, source)
        yield from _pieces(name, source, size)


def begins(path: CaptureFile) -> tuple[int | None, int | None]:
    """When the first frame of a capture file was captured, in ns since 1970; and how many bytes the file has.

    Each is None where it isn't known: there is no frame, or none with a time; the file is zipped, or no regular one.
    Raises `CaptureError` where the file can't be opened or is no capture.
    """
    name = name_of(path)
    with enough_memory(name, SMALLER_PIECES), clear_errors(name), opened(path) as source:
        check_begin(path, source)
        size = source.size if isinstance(source, Plain) else None
        _, parts, *_ = next(_parts(name, source, FIRST))
        times = (part["time_ns"][~part["timeless"]] for part in parts)
        return next((int(time[0]) for time in times if len(time)), None), size or None


def _pieces(path, source, size):
    for data, parts, progress, damage, base in _parts(path, source, size):
        yield capture_of(path, data, iter(parts), progress, damage, base)


def _parts(path, source, size):
    """Yield (bytes, their frames in chunks, how far these go, damage, where they begin in the file) of each piece."""
    rest, base, progress, over = b"", 0, Progress(), False
    while not over:
        with clear_errors(path):
            new = source.read(size)
        over = not new
        if over and not rest and base and not source.damage:
            break
        head = progress.head
        data, ahead = np.frombuffer(head + rest + new, np.uint8), progress.goes_on()
        parts = _whole_frames(path, data, ahead, over)
        if parts is None:
            rest += new
            continue
        unread = data[ahead.end:]
        damaged = any(not reason.endswith("cut short") for _, reason in ahead.cuts)
        over |= damaged or len(unread) > max(size, SLAB)
        if not over:
            ahead.cuts.clear()
        progress = ahead
        yield data, parts, progress, source.damage if over else None, base - len(head)
        base += progress.end - len(head)
        rest = unread.tobytes()


def _whole_frames(path, data, progress, over):
    """The frames of `data` in chunks; None where more bytes are needed before there is one, or one with a time."""
    try:
        parts = list(frames(path, data, progress))
    except CaptureError:
        if over or len(data) > SLAB:
            raise
        return None
    enough = [len(part["at"]) > 0 and (progress.time_ns is not None or not part["timeless"].all()) for part in parts]
    return parts if over or any(enough) or len(data) > SLAB else None
