"""Capture files as tables: `read_capture(path)` gives one row per TCP segment.

Formats: pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng), plain or gzipped.
"""

from helpers.captures.capture import Capture
from helpers.captures.duplicates import copies, more_than_once, without
from helpers.captures.errors import CaptureError
from helpers.captures.ip_headers import ttls
from helpers.captures.numbers import ACK, FIN, LARGEST_SCALE, RST, SYN
from helpers.captures.readers import begins, merge_captures, read_capture, read_pieces, toy_capture
from helpers.captures.records import CHUNK, structures
from helpers.captures.secrets import Secrets, read_key_log
from helpers.captures.segments import as_segments
from helpers.captures.streams import in_groups
from helpers.captures.threads import in_threads

__all__ = ["ACK", "CHUNK", "FIN", "LARGEST_SCALE", "RST", "SYN", "Capture", "CaptureError", "Secrets", "as_segments",
           "begins", "copies", "in_groups", "in_threads", "merge_captures", "more_than_once", "read_capture",
           "read_key_log", "read_pieces", "structures", "toy_capture", "ttls", "without"]
