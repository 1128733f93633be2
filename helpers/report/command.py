"""The command: `python -m helpers.report CAPTURE… [--out report.html] [--json] [--sockets LIST]`, or with a list."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from helpers.captures import CaptureError, merge_captures
from helpers.diagnosis import LIMITS, RULES, SOCKET_RULES
from helpers.report.diagnosed import findings_of
from helpers.report.document import document
from helpers.report.facts import Incident, visible
from helpers.report.listed import is_socket_list, socket_summary
from helpers.report.page import page
from helpers.report.terminal import summary
from helpers.sockets import SocketError, read_sockets


class ReportError(Exception):
    """The report can't be written; the message says where, and what to do."""


def _writable(out, captures):
    """The place that `out` names. Raises `ReportError` where a file must not be replaced."""
    if not out:
        raise ReportError("--out: no name given; give it the name of an .html file")
    try:
        place = Path(out).resolve()
        if place.is_symlink():      # from Python 3.13 on; before, resolve() says so
            raise ReportError(f"{out}: its links go in a circle; give --out another name")
        if any(place == Path(path).resolve() for path in captures):
            raise ReportError(f"{out}: this is the capture itself; give --out another name")
        if place.exists() and not place.is_file():
            raise ReportError(f"{out}: not a regular file; give --out the name of an .html file")
        if place.exists() and not _begin(place).startswith((b"<!doctype html", b"<html")):
            raise ReportError(f"{out}: exists and is no HTML page, so it stays; give --out another name")
        if not (place.parent.is_dir() and os.access(place.parent, os.W_OK)):
            raise ReportError(f"{out}: can't write into {place.parent}; give --out another place")
    except (OSError, ValueError, RuntimeError) as error:     # RuntimeError: links in a circle
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
    """Print the summary and write the page; the exit status.

    0; 2 after an error; 3 for a finding of --fail-on; 130 after Ctrl-C.
    """
    options = _options(arguments)
    try:
        return _report(options)
    except CaptureError as error:
        where = f"{error.path}: byte {error.offset}" if error.offset else error.path
        advice = "" if error.path == str(options.keys) else "; give a pcap or pcapng file (gzipped or not)"
        return _failed(f"{where}: {error.reason}{advice}")
    except MemoryError:
        return _failed("the tables of this capture do not fit into memory; read it with helpers.pieces.read_captures")
    except (ReportError, SocketError) as error:
        return _failed(error)
    except KeyboardInterrupt:
        _failed("interrupted")
        return 130


def _socket_lists(options):
    """The report on a list of sockets, which has no page."""
    if options.out or options.json or options.private or options.sockets or len(options.captures) > 1:
        raise ReportError(f"{options.captures[0]}: a list of sockets; give one, and no --out, --json or --private; or "
                          "name the capture first, and this after --sockets")
    lists = read_sockets(options.captures[0], options.port_range)
    _say(socket_summary(lists))
    return _status(lists, options)


def _status(what, options):
    """3 where something was found that the caller asked about."""
    found = set(findings_of(what)["finding"]) if options.fail_on else set()
    return 3 if found & set(options.fail_on) or (found and "any" in options.fail_on) else 0


def _options(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m helpers.report",
        description="What became of the TCP connections of a pcap or pcapng file (zipped or not); or what a "
                    "list of sockets by ss or netstat tells.")
    parser.add_argument("captures", metavar="CAPTURE", nargs="+",
                        help="several are merged by time, - reads standard input; or one list")
    parser.add_argument("--fail-on", metavar="FINDING", action="append", default=[],
                        help="exit status 3 if this is found; may be given several times, `any` for all")
    parser.add_argument("--sockets", metavar="LIST", action="append", default=[],
                        help="with a capture: what ss or netstat said meanwhile at one of its ends, each list after "
                             "a line of `date -u`; may be given once for each machine")
    parser.add_argument("--port-range", metavar="LOW-HIGH", type=_ports,
                        help="the ports that clients get (Linux: net.ipv4.ip_local_port_range); without it the "
                             "system's default")
    parser.add_argument("--keys", metavar="KEYS.log", help="the key log of TLS (SSLKEYLOGFILE)")
    parser.add_argument("--out", metavar="FILE.html", help="also write one self-contained HTML page")
    parser.add_argument("--json", action="store_true", help="print the same facts for machines, as JSON")
    parser.add_argument("--private", action="store_true",
                        help="number the addresses (host-1, host-2, ...) and leave the targets of requests out")
    return parser.parse_args(arguments)


def _ports(text):
    """The range that `text` tells: 32768-60999, or as the kernel writes it."""
    found = re.fullmatch(r"\s*(\d+)(?:\s*-\s*|\s+)(\d+)\s*", text)
    low, high = (int(port) for port in found.groups()) if found else (0, 0)
    if not 1 <= low <= high <= 65535:
        raise argparse.ArgumentTypeError(f"{visible(text)}: no range of ports; write it like 32768-60999")
    return low, high


def _incident(options):
    """What was recorded, and what the kernels said meanwhile."""
    paths = [sys.stdin.buffer if path == "-" else path for path in options.captures]
    lists = [read_sockets(path, options.port_range) for path in options.sockets]
    limits = LIMITS._replace(port_range=options.port_range) if options.port_range else LIMITS
    return Incident(merge_captures(paths, options.keys), options.private, lists, limits)


def _report(options):
    if options.captures.count("-") > 1:
        raise ReportError("-: standard input can be read once only; name it once")
    place = None if options.out is None else _writable(options.out, options.captures)
    listed = options.captures[0] != "-" and is_socket_list(options.captures[0])
    names = ["any", *(SOCKET_RULES if listed else RULES)]
    if unknown := [name for name in options.fail_on if name not in names]:
        raise ReportError(f"--fail-on {unknown[0]}: no such finding; there are: {', '.join(names)}")
    if listed:
        return _socket_lists(options)
    with _Steps(6 if place else 5) as step:
        step("reading")
        incident = _incident(options)
        for name in ("connections", "states", "exchanges"):
            step(name)
            getattr(incident, name)
        step("summary")
        told = document(incident) if options.json else summary(incident)
        if place:
            step("page")
            os.environ.setdefault("MPLBACKEND", "Agg")
            text = page(incident)
    _say(told)
    if place:
        _write(place, text)
        if not options.json:
            _say(f"\nThe page with tables and figures: {visible(place, 1000)}")
    return _status(incident, options)


class _Steps:
    """How far the report has come, shown on a terminal while it works, and nowhere else."""

    def __init__(self, total):
        self._bar = None
        if sys.stderr is not None and sys.stderr.isatty():
            from tqdm import tqdm
            self._bar = tqdm(total=total, leave=False, bar_format="{desc:<12}{bar:20} {elapsed}")

    def __enter__(self):
        return self._step

    def _step(self, name):
        if self._bar is not None:
            self._bar.update(self._bar.desc != "")
            self._bar.set_description_str(name)

    def __exit__(self, *trouble):
        if self._bar is not None:
            self._bar.close()


def _say(text):
    """Print `text`; no error where the reader (such as `head`) has ended."""
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise ReportError(f"can't print the report: {error.strerror}") from error


def _failed(message):
    print(f"helpers.report: {visible(message, 2000)}", file=sys.stderr)
    return 2
