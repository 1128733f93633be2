"""Debian's Firefox ESR, headless, with a quiet fresh profile, driven over Marionette."""

import json
import os
import socket
import subprocess
import time

from helpers.testbed.hosts import network
from helpers.testbed.servers.certificates import NAME

FLAGS = ("--headless", "--no-remote", "--marionette")
PORT = 2828
PATIENCE = 60
SETTLE = 5
OFF = (
    "app.normandy.enabled", "app.update.enabled", "browser.discovery.enabled",
    "browser.newtabpage.activity-stream.feeds.topsites", "browser.newtabpage.enabled",
    "browser.places.speculativeConnect.enabled", "browser.region.update.enabled",
    "browser.safebrowsing.blockedURIs.enabled", "browser.safebrowsing.downloads.enabled",
    "browser.safebrowsing.malware.enabled", "browser.safebrowsing.phishing.enabled",
    "browser.search.update", "browser.shell.checkDefaultBrowser", "browser.topsites.contile.enabled",
    "datareporting.healthreport.uploadEnabled", "datareporting.policy.dataSubmissionEnabled",
    "dom.push.enabled", "extensions.blocklist.enabled", "extensions.getAddons.cache.enabled",
    "extensions.systemAddon.update.enabled", "extensions.update.enabled", "geo.enabled",
    "messaging-system.rsexperimentloader.enabled", "network.captive-portal-service.enabled",
    "network.connectivity-service.enabled", "nimbus.rollouts.enabled", "remote.prefs.recommended",
    "toolkit.telemetry.enabled", "toolkit.telemetry.unified")
QUIET = {**dict.fromkeys(OFF, False),
         "app.update.disabledForTesting": True, "browser.aboutHomeSnippets.updateUrl": "",
         "browser.region.network.url": "", "browser.startup.homepage": "about:blank",
         "browser.startup.homepage_override.mstone": "ignore", "browser.startup.page": 0,
         "network.trr.mode": 5, "services.settings.server": "data:,",
         "startup.homepage_welcome_url": "", "toolkit.telemetry.server": "data:,"}


ALT_SVC = {"network.http.http3.alt-svc-mapping-for-testing": f"{NAME};h3=:443",
           "network.http.http3.disable_when_third_party_roots_found": False}


class Firefox:
    """A Firefox with a fresh profile in `folder`, whose connection rules are untouched.

    `quic`: it speaks HTTP/3.
    """

    program, flags = "firefox-esr", FLAGS

    def __init__(self, folder, quic=False):
        self.folder, self._number, self._buffer = folder, 0, b""
        (folder / "profile").mkdir(parents=True)
        settings = QUIET | (ALT_SVC if quic else {})
        lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in settings.items())
        (folder / "profile" / "user.js").write_text("".join(lines))

    def start(self, url: str = "about:blank") -> None:
        """Start it on `url`; on a blank page, let it settle."""
        with (self.folder / "stderr").open("w") as errors:
            self._process = subprocess.Popen(
                network.on("client", self.program, *FLAGS, "--profile", self.folder / "profile", url),
                stdout=subprocess.DEVNULL, stderr=errors,
                env={**os.environ, "MOZ_CRASHREPORTER_DISABLE": "1", "MOZ_REMOTE_SETTINGS_DEVTOOLS": "0"})
        self._socket = self._connection()
        self._receive()
        session = self._call("WebDriver:NewSession")
        self._version = session["capabilities"]["browserVersion"]
        self._call("WebDriver:SetTimeouts", pageLoad=PATIENCE * 1000)
        if url == "about:blank":
            time.sleep(SETTLE)

    def _connection(self):
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return socket.create_connection(("127.0.0.1", PORT), timeout=PATIENCE)
            except ConnectionRefusedError:
                if self._process.poll() is not None or time.monotonic() > until:
                    errors = (self.folder / "stderr").read_text()[-300:]
                    raise OSError(f"Firefox doesn't start: {errors}") from None
                time.sleep(0.1)

    def visit(self, url: str) -> None:
        """Go to `url`; return when the page has loaded."""
        self._call("WebDriver:Navigate", url=url)

    def close(self) -> None:
        self._call("Marionette:Quit", flags=["eAttemptQuit"])
        self._process.wait(PATIENCE)
        self._socket.close()

    def version(self) -> str:
        return self._version

    def log(self) -> None:
        return None

    def _call(self, method, **params):
        self._number += 1
        message = json.dumps([0, self._number, method, params]).encode()
        self._socket.sendall(b"%d:%s" % (len(message), message))
        _, _, error, result = self._receive()
        if error:
            raise OSError(f"Firefox refuses {method}: {error['message']}")
        return result

    def _receive(self):
        while b":" not in self._buffer:
            self._buffer += self._data()
        length, self._buffer = self._buffer.split(b":", 1)
        while len(self._buffer) < int(length):
            self._buffer += self._data()
        message, self._buffer = self._buffer[:int(length)], self._buffer[int(length):]
        return json.loads(message)

    def _data(self):
        if not (data := self._socket.recv(65536)):
            raise OSError("Firefox ended")
        return data
