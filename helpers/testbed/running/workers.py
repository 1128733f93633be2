"""The workers: each records one experiment in a process of its own; some run side by side."""

import asyncio
import os
import pickle
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from helpers.testbed.hosts.programs import search_path, unshare
from helpers.testbed.running.worker import UNCLEAN

ATTEMPTS = 3
BAR = "{percentage:3.0f}% |{bar:20}| {n_fmt} of {total_fmt} recorded, {elapsed}{postfix}"


class Workers:
    """Records `tasks` into `out`, at most `jobs` at a time; each starts when the one before has loaded its page."""

    def __init__(self, tasks, out, jobs):
        self.tasks, self.out, self.failures, self._running = tasks, Path(out), {}, {}
        self._places, self._starting = asyncio.Semaphore(jobs), asyncio.Lock()

    async def work(self) -> None:
        """Record all; `failures` then has the reason, by name, for each task that couldn't be recorded."""
        with tqdm(total=len(self.tasks), bar_format=BAR, disable=None) as self._bar:
            clock = asyncio.create_task(self._refresh())
            try:
                async with asyncio.TaskGroup() as group:
                    for task in self.tasks:
                        group.create_task(self._record(task))
            finally:
                clock.cancel()

    async def _refresh(self):
        while True:
            self._bar.set_postfix_str(", ".join(f"{name} {word}" for name, word in self._running.items()))
            await asyncio.sleep(1)

    async def _record(self, task):
        async with self._places:
            for _ in range(ATTEMPTS):
                status, said = await self._attempt(task)
                if status != UNCLEAN:
                    break
                self._bar.write(f"testbed: {task.name}: {said}; once more", file=sys.stderr)
        self._bar.update()
        if status:
            self.failures[task.name] = said

    async def _attempt(self, task):
        """Run one worker: its exit status and its last line. If it succeeded, its files go to their place."""
        self.out.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{task.name}-", dir=self.out))
        try:
            status, said = await self._run(task, folder)
            if status == 0:
                folder.chmod(0o755)
                _put(folder, self.out, task.name)
            return status, said
        finally:
            self._running.pop(task.name, None)
            shutil.rmtree(folder, ignore_errors=True)

    async def _run(self, task, folder):
        worker, starting = None, await self._starting.acquire()
        try:
            worker = await asyncio.create_subprocess_exec(
                *unshare(), sys.executable, "-m", "helpers.testbed.running.worker", stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE, start_new_session=True, env=_environment())
            worker.stdin.write(pickle.dumps((task, str(folder.resolve()))))
            said = ""
            while line := await worker.stdout.readline():
                said = self._running[task.name] = line.decode().strip()
                starting = starting and self._starting.release()
            return await worker.wait(), said
        finally:
            if starting:
                self._starting.release()
            if worker and worker.returncode is None:
                worker.stdin.close()
                await worker.wait()


def _environment():
    places = [str(Path(__file__).resolve().parents[3]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PATH": search_path(), "PYTHONPATH": os.pathsep.join(filter(None, places))}


def _put(folder, out, name):
    """Move a complete recording to its place: its folder; or its table, after the other files of the table."""
    if (folder / f"{name}.csv").exists():
        for file in sorted(folder.iterdir(), reverse=True):
            file.replace(out / file.name)
        return
    place, old = out / name, folder.with_name(folder.name + ".old")
    if place.exists():
        place.rename(old)
    folder.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def record(tasks: Sequence, out: Path, jobs: int) -> dict[str, str]:
    """Record `tasks` into the folder `out`; return the reasons of those that failed, by name.

    When interrupted, it leaves no incomplete recording, and raises `asyncio.CancelledError`.
    """
    return asyncio.run(_until_interrupted(tasks, out, jobs))


async def _until_interrupted(tasks, out, jobs):
    workers, loop = Workers(tasks, out, jobs), asyncio.get_running_loop()
    work = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, lambda: work.cancelling() or work.cancel())
    await workers.work()
    return workers.failures
