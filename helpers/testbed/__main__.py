"""`python -m helpers.testbed list | record NAME… | record --all | datasheet`."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from helpers.testbed.experiments.client_rows import COUNTED, IDLES
from helpers.testbed.experiments.closer_cells import CLOSERS, CLOSERS_RTT, REGIMES
from helpers.testbed.experiments.costs import COSTS
from helpers.testbed.experiments.encrypted import ENCRYPTED
from helpers.testbed.experiments.https_close import HTTPS_CLOSE
from helpers.testbed.experiments.lifetimes import LIFETIMES
from helpers.testbed.experiments.pages import COUNTS, EXPERIMENTS
from helpers.testbed.experiments.patients import PATIENTS
from helpers.testbed.experiments.upstreams import FEW_BUCKETS, PROXY
from helpers.testbed.hosts.programs import Unable, check
from helpers.testbed.witnesses.datasheet import write_datasheet

DATA = Path(__file__).resolve().parents[2] / "data"
TASKS = {task.name: task for task in (
    *EXPERIMENTS.values(), *ENCRYPTED, HTTPS_CLOSE, COUNTS, CLOSERS, CLOSERS_RTT, *REGIMES, *LIFETIMES, *COSTS, PROXY,
    FEW_BUCKETS, *PATIENTS, COUNTED, *IDLES)}
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the `arguments` say (None: those of the command line); return the exit status."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.command != "list" and chosen.out.exists() and not chosen.out.is_dir():
        parser.error(f"--out {chosen.out}: this is a file; give the name of a folder")
    if chosen.command == "list":
        for task in TASKS.values():
            print(f"{task.name:24} {task.title}")
        return 0
    if chosen.command == "record":
        if bool(chosen.names) == chosen.all:
            parser.error("record needs names (see `list`) or --all")
        unknown = [name for name in chosen.names if name not in TASKS]
        if unknown:
            parser.error(f"no experiment {', '.join(unknown)}; see `list`")
        return _record(chosen)
    write_datasheet(chosen.out)
    return 0


def _jobs(text):
    """How many workers: a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: give a whole number from 1 on")
    return int(text)


def _parser():
    parser = argparse.ArgumentParser(prog="python -m helpers.testbed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="name the experiments")
    record = commands.add_parser("record", help="record experiments; an existing recording is replaced")
    record.add_argument("names", nargs="*", metavar="NAME")
    record.add_argument("--all", action="store_true", help="record every experiment")
    record.add_argument("--jobs", type=_jobs, default=4, metavar="N", help="how many side by side (default 4)")
    datasheet = commands.add_parser("datasheet", help="write the datasheet anew")
    for command in (record, datasheet):
        command.add_argument("--out", type=Path, default=DATA, metavar="DIR", help="default: data")
    return parser


def _record(chosen):
    from helpers.testbed.running.workers import record

    tasks = [TASKS[name] for name in (TASKS if chosen.all else dict.fromkeys(chosen.names))]
    try:
        check({program for task in tasks for program in task.programs},
              {module for task in tasks for module in getattr(task, "modules", ())})
        failures = record(tasks, chosen.out, chosen.jobs)
    except Unable as why:
        print(f"testbed: {why}", file=sys.stderr)
        return 2
    except asyncio.CancelledError:
        print("testbed: interrupted; nothing half written is left", file=sys.stderr)
        return INTERRUPTED
    if len(failures) < len(tasks):
        write_datasheet(chosen.out)
    for name, why in failures.items():
        print(f"testbed: {name}: {why}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
