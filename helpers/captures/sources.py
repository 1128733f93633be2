"""The bytes of a file, unzipped where they are zipped: gzip (RFC 1952) and zstd (RFC 8878)."""

import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from helpers.captures.errors import CaptureError
from helpers.captures.records import SLAB
from helpers.captures.threads import in_threads

GZIP = b"\x1f\x8b"
PART = 1 << 24              # bytes that one thread reads at a time
CaptureFile = str | os.PathLike | BinaryIO     # its path, or the file itself, open for reading bytes
ZSTD = (b"\x28\xb5\x2f\xfd", *(bytes([number]) + b"\x2a\x4d\x18" for number in range(0x50, 0x60)))
LARGEST_EXPANSION = 250     # times its size: a file that unzips to more was made to fill a memory
SMALLEST_LIMIT = 1 << 20    # ... but no file that unzips to less


@contextmanager
def clear_errors(path: str) -> Iterator[None]:
    """Turn what goes wrong with opening and reading a file into a `CaptureError`."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise CaptureError(path, 0, getattr(error, "strerror", None) or str(error)) from error


@contextmanager
def enough_memory(path: str, advice: str) -> Iterator[None]:
    """Turn a lack of memory into a `CaptureError`; `advice`: what to do instead."""
    try:
        yield
    except MemoryError as error:
        raise CaptureError(path, 0, f"it does not fit into memory; {advice}") from error


def name_of(path: CaptureFile) -> str:
    """What a file is called in messages: its path; of an open file its name."""
    return str(getattr(path, "name", "an open file") if hasattr(path, "read") else path)


@contextmanager
def opened(path: CaptureFile) -> Iterator["Plain | Unzipped"]:
    """The file at `path`, or the open binary file that `path` is, to be read; unzipped where it is zipped."""
    if hasattr(path, "read"):
        yield _source(path, path)
    else:
        with Path(path).open("rb") as file:
            yield _source(path, file)


def _source(path, file):
    begin, size = file.read(4), 0
    if hasattr(file, "seekable") and file.seekable():
        start = file.tell() - len(begin)
        size = max(file.seek(0, os.SEEK_END) - start, 0)
        file.seek(start if size else start + len(begin))
    if begin.startswith(GZIP):
        return Unzipped(file, begin, size, _gzip())
    if begin.startswith(ZSTD):
        return Unzipped(file, begin, size, _zstd(path))
    if size and hasattr(file, "raw"):   # without the buffer, which would copy all of it once more
        file = file.raw
        file.seek(start)
    return Plain(file, begin, size)


class Compression(NamedTuple):
    """How a file is zipped: `name`; `magic`, how it may begin; `new` makes a decompressor, which raises `error`.

    `step`: how many zipped bytes are unzipped at a time.
    """

    name: str
    magic: bytes | tuple
    new: Callable[[], Any]
    error: type
    step: int


def _gzip():
    return Compression("gzip", GZIP, lambda: zlib.decompressobj(16 + zlib.MAX_WBITS), zlib.error, 1 << 12)


def _zstd(path):
    """zstd, by the standard library since Python 3.14, by the package zstandard before."""
    try:
        from compression import zstd
        return Compression("zstd", ZSTD, zstd.ZstdDecompressor, zstd.ZstdError, 1 << 8)
    except ImportError:
        pass
    try:
        import zstandard
    except ImportError as error:
        reason = "the file is compressed with zstd; decompress it first, or install the package zstandard"
        raise CaptureError(name_of(path), 0, reason) from error
    return Compression("zstd", ZSTD, lambda: zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError, 1 << 8)


class Plain:
    """A file that is not zipped: `begin`, its first four bytes; `read(size)` gives the next bytes, `read()` all.

    `size`: how many there are, 0 where that isn't known.

    Of a file that can't be read again from its start (`size` 0) these four were read before.
    """

    damage = None

    def __init__(self, file: BinaryIO, begin: bytes, size: int):
        self.begin, self._file, self._before, self.size = begin, file, b"" if size else begin, size

    def whole(self, threads: int = 1) -> np.ndarray:
        """All bytes, as an array; read by so many threads, for most of the time goes into getting the memory."""
        if not self.size or not hasattr(self._file, "readinto"):
            return np.frombuffer(self.read(), np.uint8)
        data = np.empty(self.size, np.uint8)    # faster than read(): one allocation, of large pages
        if not isinstance(self._file, FileIO) or not hasattr(os, "preadv"):
            return data[:_read_into(data, lambda rest, at: self._file.readinto(rest))]
        number, begin, parts = self._file.fileno(), self._file.tell(), range(0, self.size, PART)
        found = in_threads(lambda part: _read_into(data[part:part + PART], lambda rest, at: os.preadv(
            number, [rest], begin + part + at)), parts, threads)
        end = next((part + size for part, size in zip(parts, found) if part + size < min(part + PART, self.size)), None)
        return data[:end]

    def read(self, size: int = -1) -> bytes | bytearray:
        """The next `size` bytes, or those that are left."""
        before, self._before = self._before, b""
        if not before:
            return self._file.read(size)
        data = bytearray(before)
        while (size < 0 or len(data) < size) and (part := self._file.read(SLAB if size < 0 else size - len(data))):
            data += part
        return data


def _read_into(data: np.ndarray, read: Callable[[np.ndarray, int], int]) -> int:
    """Fill `data` as far as `read(what is left of it, how many there are)` gives bytes; how many these are."""
    at = 0
    while at < len(data) and (more := read(data[at:], at)):
        at += more
    return at


class Unzipped:
    """A zipped file, read as if it were not zipped; `begin`: the first four bytes of what it unzips to.

    All that can be had is given, however the file is cut or damaged; then `damage` says what is wrong, and where.
    `size`: the file's, 0 where it isn't known; `begin`: its first bytes, where these were read before.
    """

    def __init__(self, file: BinaryIO, begin: bytes, size: int, kind: Compression):
        self._file, self._size, self._kind, self._step = file, size, kind, kind.step
        self._zipped, self._at = b"" if size else begin, 0      # read but not unzipped yet; where in the file it begins
        self._unzipped, self._given, self._over = bytearray(), 0, False
        self._unzip, self.damage = kind.new(), None

    def whole(self, threads: int = 1) -> np.ndarray:
        """All bytes, as an array; `threads` do not help here."""
        return np.frombuffer(self.read(), np.uint8)

    @property
    def begin(self) -> bytes:
        """The first four bytes that are still to be read."""
        self._fill(4)
        return bytes(self._unzipped[:4])

    def read(self, size: int = -1) -> bytearray:
        """The next `size` bytes, or those that are left."""
        self._fill(size)
        if size < 0 or size >= len(self._unzipped):
            taken, self._unzipped = self._unzipped, bytearray()
        else:
            taken = self._unzipped[:size]
            del self._unzipped[:size]
        return taken

    def _fill(self, size):
        while not self._over and (size < 0 or len(self._unzipped) < size):
            self._unzipped += self._some()

    def _some(self):
        """Unzip a little more: nothing where the file is over, or where a smaller step has to be tried."""
        if len(self._zipped) < max(self._step, 4):
            self._zipped += self._file.read(self._kind.step)
        if self._unzip.eof:
            if not self._zipped.startswith(self._kind.magic):
                return self._stop(None)
            self._unzip = self._kind.new()
        if not self._zipped:
            return self._stop(f"the {self._kind.name} data are cut short at byte {self._at} of the zipped file")
        zipped = self._zipped[:self._step]
        before = self._unzip.copy() if hasattr(self._unzip, "copy") else None
        try:
            part = self._unzip.decompress(zipped)
        except self._kind.error as error:
            return self._damaged(error, before)
        used = len(zipped) - len(self._unzip.unused_data)
        self._zipped, self._at, self._given = self._zipped[used:], self._at + used, self._given + len(part)
        if self._given > max(LARGEST_EXPANSION * max(self._size, self._at), SMALLEST_LIMIT):
            self._stop(f"the file unzips to more than {LARGEST_EXPANSION} times its size")
        return part

    def _damaged(self, error, before):
        """Try again with a smaller step, where the decompressor is at hand as it was `before`; or stop."""
        if before is not None and self._step > 1:
            self._unzip, self._step = before, max(self._step // 16, 1)
            return b""
        return self._stop(f"the {self._kind.name} data are damaged at byte {self._at} of the zipped file ({error})")

    def _stop(self, damage):
        self._over, self.damage = True, damage
        return b""
