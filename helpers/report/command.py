"""The command: `python -m helpers.report CAPTURE… [--keys keys.log] [--out report.html]`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from helpers.captures import CaptureError, merge_captures
from helpers.report.facts import Incident, visible
from helpers.report.page import page
from helpers.report.terminal import summary


class ReportError(Exception):
    """The report can't be written; the message says where, and what to do."""


def _writable(out, captures):
    """The place `out` names. Raises `ReportError` where something stands that must not be lost."""
    try:
        place = Path(out).resolve()
        if any(place == Path(path).resolve() for path in captures):
            raise ReportError(f"{out}: this is the capture itself; give --out another name")
        if place.exists() and not place.is_file():
            raise ReportError(f"{out}: not a regular file; give --out the name of an .html file")
        if place.exists() and not _begin(place).startswith((b"<!doctype html", b"<html")):
            raise ReportError(f"{out}: exists and is no HTML page, so it stays; give --out another name")
        if not (place.parent.is_dir() and os.access(place.parent, os.W_OK)):
            raise ReportError(f"{out}: can't write into {place.parent}; give --out another place")
    except (OSError, ValueError) as error:
        raise ReportError(f"{out}: {error}; give --out another name") from error
    return place


def _begin(place):
    with place.open("rb") as file:
        return file.read(200).lstrip().lower()


def _write(place, text):
    """Write `text` to a temporary file beside `place`, then rename it."""
    temporary = place.with_name(f".{place.name[:80]}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(place)
    except OSError as error:
        raise ReportError(f"{place}: {error.strerror}; give --out another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status (0, or 2 after an error) of printing the summary and writing the page."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.report",
        description="What became of the TCP connections of a pcap or pcapng file (gzipped or not).")
    parser.add_argument("captures", metavar="CAPTURE", nargs="+", help="several are merged by time")
    parser.add_argument("--out", metavar="FILE.html", help="also write one self-contained HTML page")
    parser.add_argument("--keys", metavar="KEYS.log", help="the key log of TLS (SSLKEYLOGFILE): also reads what it opens")
    options = parser.parse_args(arguments)
    try:
        place = _writable(options.out, options.captures) if options.out else None
        incident = Incident(merge_captures(options.captures, options.keys))
        _say(summary(incident))
        if place:
            os.environ.setdefault("MPLBACKEND", "Agg")
            _write(place, page(incident))
            _say(f"\nThe page with tables and figures: {visible(place, 1000)}")
    except CaptureError as error:
        where = f"{error.path}: byte {error.offset}" if error.offset else error.path
        return _failed(f"{where}: {error.reason}; give a pcap or pcapng file (gzipped or not)")
    except ReportError as error:
        return _failed(error)
    return 0


def _say(text):
    """Print `text`, also to a reader such as `head` who has left."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failed(message):
    print(f"helpers.report: {visible(message, 2000)}", file=sys.stderr)
    return 2
