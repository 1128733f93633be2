"""pcapng files (draft-ietf-opsawg-pcapng): where their blocks are; `packet_blocks` reads those with frames."""

import struct
from array import array

import numpy as np

from helpers.captures.errors import CaptureError
from helpers.captures.records import LARGEST_FRAME, SLAB, Progress, Runs
from helpers.captures.secrets import read_key_log
from helpers.captures.threads import in_threads

# Block types
SECTION_HEADER, INTERFACE, OBSOLETE_PACKET, SIMPLE_PACKET, STATISTICS, ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 5, 6
SECRETS = 0x0000000A
TLS_KEY_LOG = 0x544C534B         # what the secrets of such a block may be: "TLSK"
PACKETS = (ENHANCED_PACKET, SIMPLE_PACKET, OBSOLETE_PACKET)
NO_PACKETS = {                  # blocks that hold something else, but to which Wireshark gives frame numbers too
    9: "systemd journal entry",
    0x204: "system call",       # Sysdig
    0x216: "system call",
    0x221: "system call",
    0xBAD: "custom block",
    0x40000BAD: "custom block"}
BYTE_ORDERS = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
SMALLEST_BLOCK = 12             # bytes: type, length, and length again
SMALLEST_PACKET = 32
SMALLEST_STATISTICS = 24
MICROSECONDS = 6                # the resolution of a clock that gives none
CLOCK_RESOLUTION, CLOCK_OFFSET = 9, 14              # options of an interface: if_tsresol, if_tsoffset
CLOCK_OPTIONS = {CLOCK_RESOLUTION: 1, CLOCK_OFFSET: 8}      # ... and how many bytes they have at least
DROP_OPTIONS = {5: 8, 7: 8}     # options of an interface's statistics: isb_ifdrop, isb_osdrop
UNKNOWN_COUNT = (1 << 64) - 1   # what dumpcap writes where the system could not say


class Sections:
    """The sections of a pcapng file, each with its own byte order and interfaces.

    By section: `begin`, `base`: how many blocks with frames, and interfaces, stand before it; `big`: whether its byte
    order is big-endian; `count`: how many interfaces it has.
    By interface of the file: `before`: how many blocks with frames stand before it, and so can't name it; `link`;
    `snap`; `resolution` and `offset` (s) of its clock. The last one stands for all that the file does not describe.
    """

    def __init__(self, sections, interfaces):
        self.begin, self.base, big = np.frombuffer(sections, np.int64).reshape(-1, 3).T
        described = np.frombuffer(interfaces, np.int64).reshape(-1, 5).T
        self.before, self.link, self.snap, self.resolution, self.offset = described
        self.big, self.count = big > 0, np.diff(self.base, append=len(self.before) - 1)

    def of(self, first: int, last: int):
        """The sections of the blocks from `first` to `last`: one number where it is the same for all."""
        one, other = np.searchsorted(self.begin, (first, last), "right") - 1
        return one if one == other else np.searchsorted(self.begin, np.arange(first, last + 1), "right") - 1


class Blocks:
    """The blocks of a pcapng file, one after the other: `offsets` of those with frames, `sections`, `interfaces`.

    `at`: where the next block begins, when reading has stopped; `size`: what it claims; `order`: the byte order of the
    last section, None where its header names none; `heads`: the blocks that describe the section and its interfaces.
    What they say of dropped frames goes to `progress`.
    """

    def __init__(self, data, progress: Progress):
        self.data, self.buffer, self.progress = data, data.data, progress
        self.offsets, self.sections, self.interfaces = array("q"), array("q"), array("q")
        self.at, self.size, self.order, self.heads, self._runs = 0, 0, "<", [], {}
        self._head = struct.Struct("<II").unpack_from
        while self.at + SMALLEST_BLOCK <= len(data) and self._next():
            pass

    def _next(self):
        """Take the next block, or the next run of packets; False where none is whole."""
        kind, self.size = self._head(self.buffer, self.at)
        if kind == SECTION_HEADER:
            self.order = BYTE_ORDERS.get(bytes(self.buffer[self.at + 8:self.at + 12]))
            if self.order is None:
                return False
            self._head = struct.Struct(self.order + "II").unpack_from
            kind, self.size = self._head(self.buffer, self.at)
        if self.size < SMALLEST_BLOCK or self.size & 3 or self.at + self.size > len(self.data):
            return False
        if kind == SECTION_HEADER:
            self._open_section()
        if kind == ENHANCED_PACKET and self._take_run():
            return True
        self._take(kind)
        return True

    def _open_section(self):
        if self.at:     # not the header that a piece of a file repeats
            self.progress.drops = {}
        self.sections.extend((len(self.offsets), len(self.interfaces) // 5, self.order == ">"))
        self.heads.clear()

    def _take_run(self):
        """Take the run of Enhanced Packet Blocks that begins here; False where there is none."""
        if self.order not in self._runs:
            self._runs[self.order] = Runs(*_likely_packets(self.data, self.order, self.progress.threads))
        begin, self.at = self.at, self._runs[self.order].take(self.at, self.offsets)
        return self.at > begin

    def _take(self, kind):
        at, size = self.at, self.size
        if kind in PACKETS or kind in NO_PACKETS:
            self.offsets.append(at)
        elif kind == INTERFACE:
            self.interfaces.extend((len(self.offsets), *_interface(self.buffer, at, size, self.order)))
        elif kind == STATISTICS:
            self._take_statistics()
        elif kind == SECRETS:
            self._take_secrets()
        if kind in (SECTION_HEADER, INTERFACE):
            self.heads.append(self.data[at:at + size].tobytes())
        self.at += size

    def _take_secrets(self):
        """Note the secrets of a Decryption Secrets Block (draft-ietf-opsawg-pcapng section 4.7)."""
        if self.size < SMALLEST_BLOCK + 8:
            return
        kind, length = struct.unpack_from(self.order + "II", self.buffer, self.at + 8)
        if kind == TLS_KEY_LOG:
            end = min(self.at + 16 + length, self.at + self.size - 4)
            self.progress.secrets |= read_key_log(bytes(self.buffer[self.at + 16:end]))

    def _take_statistics(self):
        """Note how many frames an interface has dropped; its latest statistics count all since the capture began."""
        at, size, progress = self.at, self.size, self.progress
        interface, = struct.unpack_from(self.order + "I", self.buffer, at + 8) if size >= SMALLEST_STATISTICS else (-1,)
        places = _options(self.buffer, at + 20, at + size - 4, self.order, DROP_OPTIONS)
        counts = [struct.unpack_from(self.order + "Q", self.buffer, place)[0] for place in places.values()]
        known = [count for count in counts if count != UNKNOWN_COUNT]
        if known and 0 <= interface < len(self.interfaces) // 5 - self.sections[-2]:
            progress.statistics.append((at, sum(known) - progress.drops.get(interface, 0)))
            progress.drops[interface] = sum(known)


def find_blocks(path: str, data: np.ndarray, progress: Progress) -> tuple[np.ndarray, Sections]:
    """Where the blocks with frames are, and the `Sections` they stand in."""
    blocks = Blocks(data, progress)
    if blocks.order is None and not blocks.at:
        raise CaptureError(path, 8, "the section header has no byte-order magic")
    if blocks.at < len(data):
        progress.cut(blocks.at, _why_no_block(len(data) - blocks.at, blocks.order, blocks.size))
    if not blocks.at:
        raise CaptureError(path, 0, f"no whole block in the file (byte 0: {progress.cuts[0][1]})")
    progress.end, progress.head = blocks.at, b"".join(blocks.heads)
    blocks.interfaces.extend((len(blocks.offsets), -1, 0, 0, 0))
    return np.frombuffer(blocks.offsets, np.int64), Sections(blocks.sections, blocks.interfaces)


def _why_no_block(left, order, size):
    """Why the last `left` bytes hold no whole block, where one claims `size`."""
    if left < SMALLEST_BLOCK:
        return "a block header is cut short"
    if order is None:
        return "a section header has no byte-order magic"
    damaged = size < SMALLEST_BLOCK or size & 3
    return f"a block claims {size} bytes; the file is damaged from here on" if damaged else "a block is cut short"


def _likely_packets(data, order, threads):
    """Where the Enhanced Packet Blocks of a pcapng file may begin, and end: all blocks begin at a multiple of 4."""
    words = data[:len(data) // 4 * 4].view(order + "u4")

    def of_slab(first):
        begin = np.flatnonzero(words[first:min(first + SLAB, len(words) - 7)] == ENHANCED_PACKET)
        begin += first
        size = words[1:][begin]
        begin *= 4
        end = begin + size
        possible = (size >= SMALLEST_PACKET) & (size & 3 == 0) & (end <= len(data))
        return begin[possible], end[possible]

    found = in_threads(of_slab, range(0, len(words) - 7, SLAB), threads)
    begins, ends = zip((np.empty(0, np.int64), np.empty(0, np.int64)), *found)
    return np.concatenate(begins), np.concatenate(ends)


def _interface(buffer, at, size, order):
    """(link type, snap length, resolution of the clock, its offset in s) of an Interface Description Block."""
    link, snap = struct.unpack_from(order + "HxxI", buffer, at + 8) if size >= 20 else (-1, 0)
    places = _options(buffer, at + 16, at + size - 4, order, CLOCK_OPTIONS)
    resolution = buffer[places[CLOCK_RESOLUTION]] if CLOCK_RESOLUTION in places else MICROSECONDS
    offset = struct.unpack_from(order + "q", buffer, places[CLOCK_OFFSET])[0] if CLOCK_OFFSET in places else 0
    return link, snap, resolution, offset


def _options(buffer, at, end, order, lengths):
    """Where the value of the first option of each code begins; `lengths`: how many bytes it has at least, by code."""
    found = {}
    while at + 4 <= end:
        code, length = struct.unpack_from(order + "HH", buffer, at)
        if code == 0 or at + 4 + length > end:
            break
        if length >= lengths.get(code, LARGEST_FRAME):
            found.setdefault(code, at + 4)
        at += 4 + (length + 3) // 4 * 4
    return found
