"""A worker process: does one task, which it reads as a pickle from standard input, in namespaces of its own.

It reports its progress in lines on standard output. When standard input is closed, it ends at once. It is the
first process of its PID namespace, so every process that it started ends with it, and then every namespace.
"""

import importlib
import os
import pickle
import sys
import threading
import traceback
from pathlib import Path

from helpers.testbed.running.recording import Unclean

UNCLEAN = 3


def main() -> int:
    """Do the task that standard input holds; return the exit status: `UNCLEAN` where it is worth another try."""
    task, folder = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        do(task, Path(folder))
    except Unclean as hole:
        _say(str(hole))
        return UNCLEAN
    except OSError as trouble:
        _say(str(trouble))
        return 1
    except Exception as bug:
        traceback.print_exc()
        _say(f"{type(bug).__name__}: {bug}")
        return 1
    return 0


def do(task: object, folder: Path) -> None:
    """Do `task` into `folder`."""
    importlib.import_module(task.recorder).record(task, folder, _say)


def _end_with_input():
    """End this process as soon as its standard input is closed."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def _say(line):
    print(" ".join(line.split()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
