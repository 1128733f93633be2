"""Diagnosis of socket lists: real sockets that are ill, and lists where nothing is wrong."""

import shutil
import socket
import subprocess
import time
from contextlib import ExitStack

import pytest

from helpers.diagnosis import SocketLimits, diagnose_sockets
from helpers.sockets import read_sockets

LINUX = pytest.mark.skipif(not shutil.which("ss"), reason="needs Linux and ss")
LISTENS = "LISTEN 0 511 0.0.0.0:80 0.0.0.0:*\n"


@pytest.fixture
def diagnose(tmp_path):
    def of(text, **limits):
        (tmp_path / "list.txt").write_text(text)
        return diagnose_sockets(read_sockets(tmp_path / "list.txt"), SocketLimits(**limits))
    return of


def ss(server):
    """What `ss` says of the connections of a listening socket, and of itself."""
    port = server.getsockname()[1]
    command = ["ss", "-tanop", f"( sport = :{port} or dport = :{port} )"]
    return f"{time.time()}\n" + subprocess.run(command, capture_output=True, text=True, check=True).stdout


def connected(stack, server, number, accept=True):
    """`number` clients of `server`, and what it accepted."""
    pairs = []
    for _ in range(number):
        client = stack.enter_context(socket.create_connection(server.getsockname()))
        pairs.append((client, stack.enter_context(server.accept()[0]) if accept else None))
    return pairs


@pytest.fixture
def listening():
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=16))
        yield stack, server


@LINUX
def test_a_program_that_does_not_close(diagnose, listening):
    stack, server = listening
    pairs = connected(stack, server, 7)
    healthy = ss(server)
    assert not len(diagnose(healthy))
    for client, _ in pairs[:6]:
        client.close()                          # the server's six ends now stand in CLOSE_WAIT
    time.sleep(0.2)
    found = diagnose(ss(server) + "\n" + ss(server))
    assert found["finding"].tolist() == ["close-wait-leak"] and found["how_many"][0] == 6
    assert "pid" in found["who"][0] and "in the last of 2 lists; the longest seen so for" in found["when"][0]
    assert not len(diagnose(ss(server), close_wait=7))


@LINUX
def test_a_program_that_does_not_accept(diagnose):
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1))
        connected(stack, server, 1, accept=False)
        assert not len(diagnose(ss(server)))
        connected(stack, server, 1, accept=False)       # Linux lets one more in than the backlog says
        found = diagnose(ss(server))
        assert found["finding"].tolist() == ["accept-queue-full"] and found["how_many"][0] == 2


@LINUX
def test_a_program_that_does_not_read(diagnose, listening):
    stack, server = listening
    (client, accepted), = connected(stack, server, 1)
    client.setblocking(False)
    filled = 0
    while filled < 50_000_000:
        try:
            filled += client.send(bytes(1 << 16))
        except BlockingIOError:
            time.sleep(0.3)
            if "timer:(persist" in ss(server):
                break
    first = ss(server)
    assert diagnose(first + "\n" + ss(server))["finding"].tolist() == ["slow-reader"]      # too soon to say more
    time.sleep(1)
    assert diagnose(first + "\n" + ss(server))["finding"].tolist() == ["slow-reader", "unread-data"]
    accepted.setblocking(False)
    until = time.monotonic() + 5
    while time.monotonic() < until and accepted.recv(1 << 20, socket.MSG_PEEK):
        try:
            while accepted.recv(1 << 20):
                pass
        except BlockingIOError:
            break
    time.sleep(0.5)
    assert "slow-reader" not in diagnose(ss(server))["finding"].tolist()


def test_syns_without_an_answer(diagnose):
    again = "".join(f"SYN-SENT 0 1 10.0.0.1:{port} 10.0.0.9:443 timer:(on,2.9ms,2)\n" for port in range(40000, 40003))
    found = diagnose(again)
    assert found[["finding", "who", "how_many"]].to_numpy().tolist() == [["syn-unanswered", "10.0.0.9:443", 3]]
    first = again.replace(",2)", ",0)")
    assert not len(diagnose(first)) and not len(diagnose(f"{first}\n{first}"))         # lists without a time
    assert not len(diagnose(f"1795771980.0\n{first}1795771980.2\n{first}"))
    assert len(diagnose(f"1795771980\n{first}1795771982\n{first}")) == 1


def test_a_peer_that_does_not_acknowledge(diagnose):
    line = "ESTAB 0 512 10.0.0.1:40000 10.0.0.2:80 timer:(on,13sec,{})\n"
    assert diagnose(line.format(7))["finding"].tolist() == ["peer-silent"]
    assert not len(diagnose(line.format(1))) and not len(diagnose(line.format(7).replace("(on", "(keepalive")))


def waits(number, local, peer):
    return "".join(f"TIME-WAIT 0 0 {local.format(32768 + n)} {peer.format(32768 + n)}\n" for n in range(number))


def test_time_wait_at_a_server_is_harmless(diagnose):
    found = diagnose(LISTENS + waits(12_000, "10.0.0.1:80", "10.0.0.2:{}"))
    assert found["finding"].tolist() == ["time-wait-harmless"] and found["who"][0] == "this server"
    assert "3,072 kB" in found["means"][0] and "no port" in found["means"][0]


def test_what_was_measured_on_linux_is_said_of_linux(diagnose):
    """The same on macOS costs no port either; what it weighs there nobody here has measured."""
    lines = "".join(f"tcp4 0 0 10.0.0.1.80 10.0.0.2.{49152 + number} TIME_WAIT\n" for number in range(200))
    found = diagnose(f"tcp4 0 0 *.80 *.* LISTEN\n{lines}")
    assert found["finding"].tolist() == ["time-wait-harmless"]
    assert "no port" in found["means"][0] and "kB" not in found["means"][0]


@pytest.mark.parametrize(("number", "name"), [(99, None), (12_000, "time-wait-harmless"), (24_000, "ports-running-out")])
def test_time_wait_at_a_client_takes_ports(diagnose, number, name):
    found = diagnose(LISTENS + waits(number, "10.0.0.1:{}", "10.0.0.2:443"))
    assert found["finding"].tolist() == ([name] if name else [])
    if name:
        assert f"{number / (60999 - 32768 + 1):.0%}" in found["evidence" if number > 20_000 else "means"][0]


def test_many_peers_do_not_share_a_range(diagnose):
    """24,000 TIME_WAITs at a client, spread over 240 peers: none of them near its range, nothing to say."""
    text = LISTENS + "".join(f"TIME-WAIT 0 0 10.0.0.1:{33000 + n} 10.1.0.{n % 240}:443\n" for n in range(23_760))
    assert not len(diagnose(text))


def test_an_unknown_end_is_not_judged(diagnose):
    found = diagnose(waits(200, "10.0.0.1:80", "10.0.0.2:{}"))
    assert found["finding"].tolist() == ["time-wait-unknown-end"] and "-a" in found["cure"][0]


def test_peers_that_do_not_close(diagnose):
    text = LISTENS + waits(20, "10.0.0.1:80", "10.0.0.2:{}").replace("TIME-WAIT", "FIN-WAIT-2")
    assert diagnose(text)["finding"].tolist() == ["peers-do-not-close"]
    assert not len(diagnose(text, fin_wait_2=21))
