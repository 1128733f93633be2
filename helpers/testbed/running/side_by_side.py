"""A table whose parts are recorded side by side, each between hosts of its own."""

import json
import pickle
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from helpers.testbed.experiments.costs import Cost
from helpers.testbed.hosts import network
from helpers.testbed.hosts.programs import unshare
from helpers.testbed.running.recording import Unclean, write_json, write_table
from helpers.testbed.running.worker import UNCLEAN
from helpers.testbed.servers import nginx

ACCOUNT = "account.json"


def record(task: Cost, folder: Path, say: Callable[[str], None]) -> None:
    """Record the waves of `task` one after the other; write its table and `<name>.json` into `folder`."""
    begun, total = datetime.now(UTC), sum(map(len, task.waves))
    rows, accounts = [], {}
    for wave in task.waves:
        say(f"{sum(map(len, accounts.values()))}/{total} parts")
        for part, done in zip(wave, _record_wave(wave, folder)):
            rows += done["rows"]
            accounts.setdefault(part.kind, []).append(done["about"])
    write_json(folder / f"{task.name}.json", {
        "name": task.name, "title": task.title, "recorded": begun.isoformat(timespec="seconds"), **accounts,
        "versions": versions(task)})
    write_table(folder / f"{task.name}.csv", task.columns, rows)


def _record_wave(wave, folder):
    """Record the parts of `wave` at the same time, each in a worker of its own; return their accounts."""
    places = [folder / str(number) for number in range(len(wave))]
    workers = [_start(part, place) for part, place in zip(wave, places)]
    outcomes = [(worker.stdout.read().decode().strip(), worker.wait()) for worker in workers]
    for part, (said, status) in zip(wave, outcomes):
        if status:
            raise (Unclean if status == UNCLEAN else OSError)(f"{part}: {said}")
    done = [json.loads((place / ACCOUNT).read_text(encoding="utf-8")) for place in places]
    for place in places:
        shutil.rmtree(place)
    return done


def _start(part, place):
    place.mkdir()
    worker = subprocess.Popen([*unshare(), sys.executable, "-m", "helpers.testbed.running.worker"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    pickle.dump((part, str(place)), worker.stdin)
    worker.stdin.flush()
    return worker


def write_account(folder: Path, about: dict, rows: Iterable = ()) -> None:
    """Write the account of a part: its `rows` of the table, and its entry in the JSON file."""
    write_json(folder / ACCOUNT, {"about": about, "rows": [list(row) for row in rows]})


def kernels() -> dict:
    """The client's kernel settings, the server's where they differ, and the names of those that this kernel lacks."""
    client, server = (network.kernel_settings(host) for host in network.ADDRESSES)
    return {"kernel": client, "kernel_server": {
        name: value for name, value in server.items() if value != client[name]},
        "kernel_lacks": [name for name, value in client.items() if value is None]}


def versions(task: Cost) -> dict[str, str]:
    """The versions of the programs that run in `task`."""
    said = subprocess.run(["ss", "-V"], capture_output=True, text=True).stdout
    found = {"kernel": platform.release(), "python": platform.python_version(),
             "ss": said.split()[-1].removeprefix("iproute2-")}
    if {"ab", "nginx"} & task.programs:
        found["nginx"] = nginx.version()
    if "ab" in task.programs:
        said = subprocess.run(["ab", "-V"], capture_output=True, text=True).stdout
        found["ab"] = said.split("Version ")[1].split()[0]
    return found


def time_waits(host: str) -> int:
    """How many TIME_WAITs `ss` lists on `host`."""
    return network.run(host, "ss", "-Htn", "state", "time-wait").count("\n")
