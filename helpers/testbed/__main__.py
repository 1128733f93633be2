"""`python -m helpers.testbed list | record NAME… | record --all | datasheet`."""

import argparse
import asyncio
import sys
from pathlib import Path

from helpers.testbed.cells import CLOSERS, CLOSERS_RTT, REGIMES
from helpers.testbed.costs import COSTS
from helpers.testbed.datasheet import write_datasheet
from helpers.testbed.experiments import COUNTS, EXPERIMENTS
from helpers.testbed.lifetimes import LIFETIMES
from helpers.testbed.programs import Unable, check
from helpers.testbed.upstreams import FEW_BUCKETS, PROXY

DATA = Path(__file__).resolve().parents[2] / "data"
TASKS = {task.name: task for task in (
    *EXPERIMENTS.values(), COUNTS, CLOSERS, CLOSERS_RTT, *REGIMES, *LIFETIMES, *COSTS, PROXY, FEW_BUCKETS)}
INTERRUPTED = 130


def main(arguments=None):
    parser = _parser()
    chosen = parser.parse_args(arguments)
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


def _parser():
    parser = argparse.ArgumentParser(prog="python -m helpers.testbed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="name the experiments")
    record = commands.add_parser("record", help="record experiments; an existing recording is replaced")
    record.add_argument("names", nargs="*", metavar="NAME")
    record.add_argument("--all", action="store_true", help="record every experiment")
    record.add_argument("--jobs", type=int, default=4, metavar="N", help="how many side by side (default 4)")
    datasheet = commands.add_parser("datasheet", help="write the datasheet anew")
    for command in (record, datasheet):
        command.add_argument("--out", type=Path, default=DATA, metavar="DIR", help="default: data")
    return parser


def _record(chosen):
    from helpers.testbed.crew import record

    tasks = [TASKS[name] for name in (TASKS if chosen.all else dict.fromkeys(chosen.names))]
    try:
        check({program for task in tasks for program in task.programs})
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
