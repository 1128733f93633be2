"""The programs that the testbed runs, and the Debian packages that bring them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

PACKAGES = {
    "unshare": "util-linux", "mount": "mount", "ip": "iproute2", "ss": "iproute2", "sysctl": "procps",
    "ethtool": "ethtool", "dumpcap": "tshark", "nginx": "nginx-light", "bash": "bash"}
CAP_SYS_ADMIN = 21
OTHERS = {"ab": "apache2-utils", "nstat": "iproute2", "certutil": "libnss3-tools", "node": "nodejs", "go": "golang-go",
          "javac": "default-jdk-headless"}
NAMESPACES = ("--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--mount")


class Unable(Exception):
    """Nothing can be recorded here; the message says in one line why, and what would help."""


def search_path() -> str:
    """The PATH on which the programs are looked for: an ordinary user's often lacks the `sbin` folders."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def unshare() -> list[str]:
    """The command line that runs what follows it in namespaces of its own; in a user namespace too, if needed."""
    return ["unshare", *(() if _may_do_anything() else ("--user", "--map-root-user")), *NAMESPACES]


def _may_do_anything():
    """Whether this process has CAP_SYS_ADMIN, as root has outside a container."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return bool(int(status["CapEff"], 16) >> CAP_SYS_ADMIN & 1)


def check(more: Iterable[str] = (), modules: Iterable[str] = ()) -> None:
    """Raise `Unable` where a program (ours or of `more`) or Python module is missing, or the kernel refuses."""
    if not sys.platform.startswith("linux"):
        raise Unable("recording needs Linux; the recordings that come with the course can be read anywhere")
    missing = [name for name in (*PACKAGES, *sorted(more)) if not shutil.which(name, path=search_path())]
    if missing:
        packages = sorted({{**PACKAGES, **OTHERS}.get(name, name) for name in missing})
        raise Unable(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; "
                     f"install the Debian package{'s' * (len(packages) > 1)} {', '.join(packages)}")
    if lacking := sorted(module for module in modules if not find_spec(module)):
        raise Unable(f"Python lacks {', '.join(lacking)}: pip install -e '.[testbed]'")
    environment = {**os.environ, "PATH": search_path()}
    tried = subprocess.run([*unshare(), "true"], capture_output=True, text=True, env=environment)
    if tried.returncode:
        reason = " ".join(tried.stderr.split())
        raise Unable(f"the kernel refuses namespaces ({reason}); run as root or allow user namespaces")
