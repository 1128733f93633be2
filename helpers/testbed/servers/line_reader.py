"""A server that writes down what it reads: `python -m helpers.testbed.servers.line_reader FILE`, until ended.

It answers each line with `ANSWER`. It closes when the client has, or when it reads `QUIT`, unanswered.
"""

import csv
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

from helpers.testbed.hosts import network
from helpers.testbed.running import recording

PORT = 9000
LENGTH = 16
QUIT = "quit"
COLUMNS = ("time", "client_port", "nth", "text")


def padded(text: str) -> bytes:
    """`text` as a line: all lines have the same length."""
    return text.ljust(LENGTH - 1).encode() + b"\n"


ANSWER = b"noted      \n"


class Lines(StreamRequestHandler):
    """Every line of the connection, the `nth` from its client port, goes into the file of the server."""

    def handle(self) -> None:
        port = self.client_address[1]
        self.server.visits[port] += 1
        nth = self.server.visits[port]
        try:
            for line in self.rfile:
                self.server.account.writerow((f"{time.time():.6f}", port, nth, line.decode().rstrip()))
                if line == padded(QUIT):
                    return
                self.wfile.write(ANSWER)
        except ConnectionResetError:
            self.server.account.writerow((f"{time.time():.6f}", port, nth, "(connection reset)"))


class Listener(ThreadingTCPServer):
    """The server, with room for an account."""

    allow_reuse_address = True

    def __init__(self, file):
        super().__init__(("", PORT), Lines)
        self.account, self.visits = csv.writer(file, lineterminator="\n"), Counter()


class Reader:
    """The server on the host `server`, started at once."""

    program, settings, page = "helpers.testbed.servers.line_reader", {}, {"index.html": 0, "favicon.ico": 0}

    def __init__(self):
        self._file = recording.WORKSHOP / "received.csv"
        self._process = subprocess.Popen(network.on("server", sys.executable, "-m", self.program, self._file))
        until = time.monotonic() + 10
        while not network.run("server", "ss", "-Htln"):
            if self._process.poll() is not None or time.monotonic() > until:
                raise OSError("the reading server doesn't start")
            time.sleep(0.05)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def write_account(self, folder: Path) -> None:
        """Write what the server has read into `folder`."""
        with self._file.open(newline="") as file:
            recording.write_table(folder / "received.csv", COLUMNS, csv.reader(file))


if __name__ == "__main__":
    with Path(sys.argv[1]).open("w", newline="", buffering=1) as written:
        Listener(written).serve_forever()
