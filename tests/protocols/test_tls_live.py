"""What only a live OpenSSL does: keys that change in the middle (KeyUpdate), data before the handshake is over (0-RTT)."""

import socket
import subprocess
import threading
import time

import pytest
import trustme
from conftest import require
from tls_talks import NAME, Talk

from helpers.captures import read_capture
from helpers.connections import handshakes
from helpers.exchanges import exchanges

ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
GET = "GET /{} HTTP/1.1\r\nHost: x\r\n\r\n"


class Relay:
    """Passes what a client and a server say on, and keeps it: `said`."""

    def __init__(self, port):
        self.said, self.lock = [], threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.target = self.listener.getsockname()[1], port
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        client, _ = self.listener.accept()
        server = socket.create_connection(("127.0.0.1", self.target))
        threading.Thread(target=self._pass, args=("S", server, client), daemon=True).start()
        self._pass("C", client, server)

    def _pass(self, who, source, target):
        try:
            while data := source.recv(1 << 16):
                with self.lock:
                    self.said.append((who, data))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return


@pytest.fixture
def server(tmp_path):
    """A port at which `openssl s_server` listens, and its process, whose standard input is what it answers."""
    require("openssl")
    authority = trustme.CA()
    issued = authority.issue_cert(NAME)
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(["openssl", "s_server", "-port", str(port), "-cert", tmp_path / "server.pem", "-early_data",
                                "-tls1_3", "-alpn", "http/1.1"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, text=True)
    wait(lambda: reachable(port))
    yield port, process
    process.kill()
    process.wait()


def wait(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come in time"
        time.sleep(0.05)
    return found


def reachable(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


class Client:
    """`openssl s_client` behind a relay; `say` writes to it."""

    def __init__(self, folder, port, *options):
        self.relay, self.keys = Relay(port), folder / f"client-{time.monotonic_ns()}.log"
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{self.relay.port}", "-servername", NAME, "-alpn", "http/1.1",
                   "-keylogfile", self.keys, *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, text=True)
        wait(lambda: sum(who == "S" for who, _ in self.relay.said) >= 1)
        time.sleep(0.3)

    def say(self, process, text):
        before = len(self.relay.said)
        process.stdin.write(text)
        process.stdin.flush()
        wait(lambda: len(self.relay.said) > before)
        time.sleep(0.3)

    def over(self, folder):
        self.process.stdin.close()
        self.process.wait(10)
        time.sleep(0.3)
        return Talk(list(self.relay.said), self.keys.read_bytes(), None).write(folder)


def test_keys_that_change_in_the_middle(tmp_path, server):
    port, process = server
    client = Client(tmp_path, port, "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256")
    for number in range(3):
        client.say(client.process, GET.format(number))
        client.say(process, ANSWER + "\r\n"[:0] + "\n" * (number < 0))
        client.say(client.process, "K\n")      # both directions change their keys
    path, keys = client.over(tmp_path)
    capture = read_capture(path, keys=keys)
    assert exchanges(capture)[["target", "status"]].to_numpy().tolist() == [["/0", 200], ["/1", 200], ["/2", 200]]
    assert handshakes(capture)["cipher"].tolist() == ["TLS_CHACHA20_POLY1305_SHA256"]
    assert exchanges(read_capture(path)).empty


def test_data_before_the_handshake_is_over(tmp_path, server):
    port, process = server
    session, early = tmp_path / "session.pem", tmp_path / "early.txt"
    first = Client(tmp_path, port, "-sess_out", session)
    first.say(first.process, GET.format("first"))
    first.say(process, ANSWER)
    first.over(tmp_path)
    early.write_text(GET.format("early"), newline="")
    second = Client(tmp_path, port, "-sess_in", session, "-early_data", early)
    second.say(process, ANSWER)
    path, keys = second.over(tmp_path)
    capture = read_capture(path, keys=keys)
    row = handshakes(capture).loc[0]
    assert row["resumed"] and row["early_data"] and row["round_trips"] == 0
    assert exchanges(capture)[["target", "status"]].to_numpy().tolist() == [["/early", 200]]
