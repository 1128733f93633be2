"""The hosts and the wire: network namespaces joined by a veth pair, inside those of the calling process."""

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

ADDRESSES = {"client": "10.77.0.1", "server": "10.77.0.2"}
NETWORK = "10.77.0.0/24"
INTERFACE = "eth0"
OFFLOADS = ("sg", "tso", "gso", "gro", "tx", "rx")
SOCKETS = ("ss", "-Htn", "state", "connected", "src", NETWORK)
UDP_SOCKETS = ("ss", "-Huna")
KERNEL_SETTINGS = (
    "tcp_fin_timeout", "tcp_tw_reuse", "tcp_tw_reuse_delay", "tcp_max_tw_buckets", "ip_local_port_range",
    "tcp_timestamps", "tcp_keepalive_time", "tcp_keepalive_intvl", "tcp_keepalive_probes", "tcp_rfc1337",
    "tcp_syncookies", "tcp_congestion_control")


def build(connect: Callable[[], None] | None = None) -> None:
    """Make the hosts of `ADDRESSES` and the wire between them: a cable, or what `connect` puts there.

    The calling process must own its mount, PID and network namespaces (`unshare`); its network namespace
    becomes the client. Frames look as on a real wire: no offload, so none is longer than 1,514 bytes and
    every checksum is right.
    """
    for folder in ("/run", "/dev/shm"):
        _run("mount", "-t", "tmpfs", "tmpfs", folder)
    _run("ip", "netns", "attach", "client", "self")
    _run("ip", "netns", "add", "server")
    for host in ADDRESSES:
        run(host, "sysctl", "-qe", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
    (connect or _cable)()
    for host, address in ADDRESSES.items():
        run(host, "ip", "address", "add", f"{address}/24", "dev", INTERFACE)
        for link in ("lo", INTERFACE):
            run(host, "ip", "link", "set", link, "up")
    _keep_order()


def _keep_order():
    """Let one processor receive all frames: with two, frames could overtake each other, which no cable does.

    In a user namespace the kernel doesn't permit that; there, all that we run keeps to one processor.
    """
    processor = random.choice(sorted(os.sched_getaffinity(0)))
    mask = f"{1 << processor % 32:x}" + ",00000000" * (processor // 32)
    try:
        for host in ADDRESSES:
            run(host, "sh", "-c", f"echo {mask} >/sys/class/net/{INTERFACE}/queues/rx-0/rps_cpus")
    except OSError:
        os.sched_setaffinity(0, {processor})


def _cable():
    _run("ip", "link", "add", INTERFACE, "address", "02:00:00:00:00:01", "type", "veth",
         "peer", "name", INTERFACE, "address", "02:00:00:00:00:02", "netns", "server")
    for host in ADDRESSES:
        run(host, "ethtool", "-K", INTERFACE, *(word for name in OFFLOADS for word in (name, "off")))


def on(host: str, *command: object) -> list[str]:
    """The command line that runs `command` on `host`."""
    return ["ip", "netns", "exec", host, *map(str, command)]


def run(host: str, *command: object) -> str:
    """Run `command` on `host` and return what it prints."""
    return _run(*on(host, *command))


def _run(*command):
    command = [str(Path("/proc/self").resolve().name) if word == "self" else word for word in command]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def udp_sockets(host: str) -> list[tuple[str, str, str]]:
    """The UDP sockets of `host` that aren't a server's: a list of (local, peer, state). A client's may have no peer."""
    return [row for row in parse_sockets(run(host, *UDP_SOCKETS)) if not row[0].endswith(":443")]


def sockets(host: str) -> list[tuple[str, str, str]]:
    """The TCP sockets of `host` that aren't listening: a list of (local, peer, state)."""
    return parse_sockets(run(host, *SOCKETS))


RFC_NAMES = {"ESTAB": "ESTABLISHED", "SYN-RECV": "SYN_RECEIVED"}


def parse_sockets(listing: str) -> list[tuple[str, str, str]]:
    """(local, peer, state) of each line that `ss` printed; the states as RFC 9293 names them."""
    rows = (line.split() for line in listing.splitlines())
    return [(row[3], row[4], RFC_NAMES.get(row[0], row[0].replace("-", "_"))) for row in rows]


def kernel_settings(host: str = "client") -> dict[str, str | None]:
    """The values of `KERNEL_SETTINGS` on `host`, by name; None for one that this kernel doesn't have."""
    said = run(host, "sysctl", "-e", *(f"net.ipv4.{name}" for name in KERNEL_SETTINGS))
    found = dict(line.removeprefix("net.ipv4.").split(" = ") for line in said.splitlines())
    return {name: " ".join(found[name].split()) if name in found else None for name in KERNEL_SETTINGS}


def set_kernel(host: str, settings: dict) -> None:
    """Change `settings` (values by name, as in `KERNEL_SETTINGS`) on `host`."""
    run(host, "sysctl", "-qw", *(f"net.ipv4.{name}={value}" for name, value in settings.items()))
