"""dumpcap: every frame on a host's interface, as Wireshark would have saved it."""

import re
import signal
import subprocess

from helpers.testbed.hosts import network


class Dumpcap:
    """A capture on `host` into `file`, begun once constructed. `snaplen`: bytes kept of a frame (0: all).

    `buffer`: MiB in which the kernel holds frames until they are written.
    """

    def __init__(self, file, snaplen=0, host="client", buffer=2):
        self._process = subprocess.Popen(
            network.on(host, "dumpcap", "-q", "-i", network.INTERFACE, "-s", snaplen, "-B", buffer,
                       "-w", file),
            stderr=subprocess.PIPE, text=True)
        for line in self._process.stderr:
            if line.startswith("File:"):
                return
        raise OSError("dumpcap doesn't start")

    def close(self) -> tuple[int, int]:
        """End the capture; return how many frames it has and how many it lost."""
        self._process.send_signal(signal.SIGINT)
        report = self._process.communicate(timeout=30)[1]
        kept, lost = re.search(r"received/dropped on interface .*: (\d+)/(\d+)", report).groups()
        return int(kept), int(lost)


def version() -> str:
    """dumpcap's version, such as `4.0.17`."""
    said = subprocess.run(["dumpcap", "-v"], capture_output=True, text=True).stdout
    return re.search(r"\d+\.\d+\.\d+", said)[0]
