"""Debian's Chromium, headless, driven over its DevTools pipe."""

import json
import os
import select
import subprocess
import time

from helpers.testbed.hosts import network
from helpers.testbed.servers.certificates import NAME
from helpers.testbed.witnesses.netlog import trimmed

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync")
QUIC = ("--enable-quic", f"--origin-to-force-quic-on={NAME}:443")
PATIENCE = 30
SETTLE = 3


class Chromium:
    """A Chromium with a fresh profile in `folder`. `logged`: keep its NetLog. `quic`: it speaks HTTP/3."""

    program = "chromium"

    def __init__(self, folder, incognito=False, logged=True, quic=False):
        folder.mkdir()
        flags = tuple(flag for flag in FLAGS if flag != "--disable-quic") + QUIC if quic else FLAGS
        self.flags = flags + ("--incognito",) * incognito
        self.folder, self._logged, self._number, self._buffer, self._session = folder, logged, 0, b"", None

    def start(self, url: str = "about:blank") -> None:
        """Start it on `url`; on a blank page, let it settle and take hold of the page."""
        commands, self._to = os.pipe()
        self._from, answers = os.pipe()
        netlog = [f"--log-net-log={self.folder}/netlog.json"] if self._logged else []
        with (self.folder / "stderr").open("w") as errors:
            self._process = subprocess.Popen(
                network.on("client", "bash", "-c", f'exec "$@" 3<&{commands} 4>&{answers}', "-",
                           self.program, *self.flags, f"--user-data-dir={self.folder}/profile",
                           "--remote-debugging-pipe", *netlog, url),
                pass_fds=(commands, answers), stdout=subprocess.DEVNULL, stderr=errors)
        os.close(commands), os.close(answers)
        self._version = self._call("Browser.getVersion")["product"].split("/")[1]
        if url == "about:blank":
            self._attach()
            time.sleep(SETTLE)

    def _attach(self):
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            targets = self._call("Target.getTargets")["targetInfos"]
            if pages := [target["targetId"] for target in targets if target["type"] == "page"]:
                answer = self._call("Target.attachToTarget", targetId=pages[0], flatten=True)
                self._session = answer["sessionId"]
                self._call("Page.enable")
                return
            time.sleep(0.1)
        raise TimeoutError("Chromium shows no page")

    def visit(self, url: str) -> None:
        """Go to `url`; return when the page has loaded."""
        answer = self._call("Page.navigate", url=url)
        if "errorText" in answer:
            raise OSError(f"Chromium can't load {url}: {answer['errorText']}")
        self._until(lambda message: message.get("method") == "Page.loadEventFired")

    def fetch(self, url: str) -> None:
        """Let a script of the open page fetch `url`."""
        script = f"fetch({json.dumps(url)}, {{mode: 'no-cors'}}).then(() => 'fetched')"
        answer = self._call("Runtime.evaluate", expression=script, awaitPromise=True)
        if answer["result"].get("value") != "fetched":
            raise OSError(f"Chromium can't fetch {url}: {answer['result'].get('description')}")

    def close(self) -> None:
        """End it in an orderly way, so that its NetLog is complete."""
        self._session = None
        self._call("Browser.close")
        self._process.wait(PATIENCE)
        os.close(self._to), os.close(self._from)

    def version(self) -> str:
        return self._version

    def log(self) -> dict[str, list[dict]]:
        """Its NetLog, trimmed, once it has been closed."""
        whole = json.loads((self.folder / "netlog.json").read_text(encoding="utf-8"))
        return trimmed(whole, network.ADDRESSES["server"], NAME)

    def _call(self, method, **params):
        self._number += 1
        number, message = self._number, {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda answer: answer.get("id") == number)
        if "error" in answer:
            raise OSError(f"Chromium refuses {method}: {answer['error']['message']}")
        return answer["result"]

    def _until(self, wanted):
        until = time.monotonic() + PATIENCE
        while True:
            while b"\0" not in self._buffer:
                if not select.select([self._from], [], [], max(0, until - time.monotonic()))[0]:
                    raise TimeoutError(f"Chromium doesn't answer within {PATIENCE} s")
                if not (data := os.read(self._from, 65536)):
                    raise OSError(f"Chromium ended: {(self.folder / 'stderr').read_text()[-300:]}")
                self._buffer += data
            message, self._buffer = self._buffer.split(b"\0", 1)
            if wanted(message := json.loads(message)):
                return message
