"""Lists of sockets: those of Linux against each other, those of other systems as these print them."""

import shutil
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pytest

from helpers.sockets import SocketError, read_sockets

SS_HEADING = "State     Recv-Q Send-Q Local Address:Port  Peer Address:Port Process"
LINUX = pytest.mark.skipif(not (shutil.which("ss") and Path("/proc/net/tcp").exists()), reason="needs Linux and ss")

MACOS = """\
Active Internet connections (including servers)
Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)
tcp4       0      0  192.168.1.20.52345     192.0.2.34.443         ESTABLISHED
tcp4       0      0  192.168.1.20.52346     192.0.2.34.443         TIME_WAIT
tcp4      31      0  192.168.1.20.52347     192.0.2.34.443         CLOSE_WAIT
tcp6       0      0  fe80::1%lo0.49153      fe80::1%lo0.1024       FIN_WAIT_2
tcp46      0      0  *.8080                 *.*                    LISTEN
tcp4       0      0  127.0.0.1.631          *.*                    LISTEN
udp4       0      0  *.5353                 *.*
Active LOCAL (UNIX) domain sockets
Address          Type   Recv-Q Send-Q            Inode             Conn             Refs          Nextref Addr
c1a2b3c4d5e6f708 stream      0      0                0 c1a2b3c4d5e6f709                0                0
"""
OPENBSD = """\
Active Internet connections (including servers)
Proto   Recv-Q Send-Q  Local Address          Foreign Address        TCP-State
tcp          0      0  10.0.0.5.22            10.0.0.9.51234         ESTABLISHED
tcp          0      0  10.0.0.5.49200         10.0.0.7.25            SYN_SENT
tcp          0      0  *.22                   *.*                    LISTEN
"""
WINDOWS = """\

Active Connections

  Proto  Local Address          Foreign Address        State           PID
  TCP    0.0.0.0:135            0.0.0.0:0              LISTENING       1028
  TCP    192.168.1.10:50012     192.0.2.34:443         CLOSE_WAIT      5120
 [backup.exe]
  TCP    192.168.1.10:50013     192.0.2.34:443         TIME_WAIT       0
  TCP    [::]:135               [::]:0                 LISTENING       1028
  TCP    [fe80::1%12]:50014     [fe80::2%12]:445       ESTABLISHED     4
  UDP    0.0.0.0:500            *:*                                    2648
"""


@pytest.fixture
def read(tmp_path):
    def reader(text, **options):
        file = tmp_path / "sockets.txt"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_sockets(file, **options)
    return reader


def rows(lists, *columns):
    return list(lists.listed[list(columns)].itertuples(index=False, name=None))


def test_macos(read):
    lists = read(MACOS)
    assert lists.system == "netstat of BSD or macOS" and not lists.skipped
    assert rows(lists, "host", "local", "peer", "state") == [
        ("client", "192.168.1.20:52345", "192.0.2.34:443", "ESTABLISHED"),
        ("client", "192.168.1.20:52346", "192.0.2.34:443", "TIME_WAIT"),
        ("client", "192.168.1.20:52347", "192.0.2.34:443", "CLOSE_WAIT"),
        ("client", "[fe80::1]:49153", "[fe80::1]:1024", "FIN_WAIT_2"),
        ("server", "*:8080", "*:*", "LISTEN"), ("server", "127.0.0.1:631", "*:*", "LISTEN")]
    assert lists.listed["receive_queue"].tolist() == [0, 0, 31, 0, 0, 0]


def test_openbsd(read):
    lists = read(OPENBSD)
    assert rows(lists, "host", "local", "state") == [
        ("server", "10.0.0.5:22", "ESTABLISHED"), ("client", "10.0.0.5:49200", "SYN_SENT"), ("server", "*:22", "LISTEN")]


@pytest.mark.parametrize("encoding", ["ascii", "utf-16", "utf-8-sig"])
def test_windows(read, encoding):
    lists = read(WINDOWS.replace("\n", "\r\n").encode(encoding))
    assert lists.system == "netstat of Windows" and not lists.skipped and len(lists.times) == 1
    assert rows(lists, "host", "local", "peer", "state", "pid") == [
        ("server", "0.0.0.0:135", "0.0.0.0:*", "LISTEN", 1028),
        ("client", "192.168.1.10:50012", "192.0.2.34:443", "CLOSE_WAIT", 5120),
        ("client", "192.168.1.10:50013", "192.0.2.34:443", "TIME_WAIT", 0),
        ("server", "[::]:135", "[::]:*", "LISTEN", 1028), ("client", "[fe80::1]:50014", "[fe80::2]:445", "ESTABLISHED", 4)]
    assert lists.listed["receive_queue"].isna().all()


@pytest.mark.parametrize(("text", "seconds"), [
    ("12sec", 12), ("1min59sec", 119), ("5.123ms", 5.123), ("200ms", 0.2), ("119min", 7140)])
def test_timer_of_ss(read, text, seconds):
    """As `print_ms_timer` of iproute2 writes it: `5.123ms` are five seconds and 123 milliseconds."""
    lists = read(f"ESTAB 0 0 10.0.0.1:40000 10.0.0.2:80 timer:(keepalive,{text},3)")
    assert rows(lists, "timer", "expires", "repeats") == [("keepalive", seconds, 3)]


def test_half_open_and_closing_states_of_proc(read):
    text = "".join(f"   {state - 1}: 0100007F:1F9{state:X} 0200007F:0050 {state:02X} 00000001:00000002 01:00000064 "
                   "00000005     0        0 1\n" for state in range(1, 13))
    lists = read(text)
    assert lists.listed["state"].tolist() == [
        "ESTABLISHED", "SYN_SENT", "SYN_RECEIVED", "FIN_WAIT_1", "FIN_WAIT_2", "TIME_WAIT", "CLOSED", "CLOSE_WAIT",
        "LAST_ACK", "LISTEN", "CLOSING", "SYN_RECEIVED"]        # the order of include/net/tcp_states.h
    assert rows(lists, "local", "send_queue", "receive_queue", "timer", "expires", "repeats")[0] == (
        "127.0.0.1:8081", 1, 2, "on", 1.0, 5)


@LINUX
def test_the_kernel_says_the_same_in_three_forms(tmp_path):
    """One moment by `ss`, by /proc/net/tcp and tcp6, and, where it is there, by `netstat`, in five states."""
    with ExitStack() as sockets:
        def opened(*arguments):
            return sockets.enter_context(socket.socket(*arguments))
        server, ipv6 = opened(), opened(socket.AF_INET6)
        server.bind(("127.0.0.1", 0)), server.listen(2)
        ipv6.bind(("::1", 0)), ipv6.listen(7)
        ends = []
        for family, listening in [(socket.AF_INET, server)] * 2 + [(socket.AF_INET6, ipv6)]:
            client = opened(family)
            client.connect(listening.getsockname()[:2])
            ends.append((client, sockets.enter_context(listening.accept()[0])))
        waiting = opened()
        waiting.connect(server.getsockname())                   # in the accept queue
        ends[0][1].sendall(b"five!")                            # unread at the client
        ends[1][0].close()                                      # FIN_WAIT_2 and CLOSE_WAIT
        ports = {listening.getsockname()[1] for listening in (server, ipv6)}
        unacknowledged = ["ss", "-Htn", "state", "fin-wait-1", f"dport = :{server.getsockname()[1]}"]
        until = time.monotonic() + 20
        while subprocess.run(unacknowledged, capture_output=True).stdout and time.monotonic() < until:
            time.sleep(0.01)                                    # the ACK of that FIN may be a delayed one
        forms = {"ss": ["ss", "-tanoep"], "proc": ["cat", "/proc/net/tcp", "/proc/net/tcp6"]}
        if shutil.which("netstat"):
            forms["netstat"] = ["netstat", "-tanop"]
        said = {form: subprocess.run(command, capture_output=True, text=True).stdout for form, command in forms.items()}
    tables = {}
    for form, text in said.items():
        (tmp_path / form).write_text(text)
        lists = read_sockets(tmp_path / form)
        assert not lists.skipped
        ours = lists.listed[[bool({int(port) for port in (row.local.split(":")[-1], row.peer.split(":")[-1]) if
                                   port.isdigit()} & ports) for row in lists.listed.itertuples()]]
        tables[form] = ours.set_index(ours["local"] + ours["peer"]).sort_index()
    first = tables["ss"]
    assert sorted(first["state"]) == ["CLOSE_WAIT"] + ["ESTABLISHED"] * 6 + ["FIN_WAIT_2"] + ["LISTEN"] * 2
    assert (first["host"] == "server").sum() == 6                # four accepted or waiting to be, two that listen
    for other in tables.values():
        for column in ("local", "peer", "state", "host", "receive_queue"):
            pd.testing.assert_series_equal(first[column], other[column])
        connected = first["state"] != "LISTEN"                  # of a listening socket only `ss` shows the limit
        pd.testing.assert_series_equal(first["send_queue"][connected], other["send_queue"][connected])
    assert first["receive_queue"].max() == 5
    assert set(first["send_queue"][~connected]) == {2, 7} and set(first["receive_queue"][~connected]) == {0, 1}


@pytest.mark.parametrize("between", ["", "Fri Nov 27 09:33:10 UTC 2026", "2026-11-27T09:33:10Z", "1795771990"])
def test_lists_one_after_the_other(read, between):
    """A blank line or a date begins the next list, and so does the heading once more."""
    one, two = "ESTAB 0 0 10.0.0.1:40000 10.0.0.2:80", "TIME-WAIT 0 0 10.0.0.1:40000 10.0.0.2:80"
    lists = read(f"Fri Nov 27 09:33:00 UTC 2026\n{SS_HEADING}\n{one}\n{between}\n{SS_HEADING}\n{one}\n{SS_HEADING}\n{two}\n")
    assert len(lists.times) == 3 and lists.listed["snapshot"].tolist() == [0, 1, 2]
    seen = lists.sockets
    assert seen["state"].tolist() == ["ESTABLISHED", "TIME_WAIT"]
    assert lists.seconds[0] == 0 and lists.times.tz is not None
    assert seen["last_seen"].isna().tolist() == [not between, True]
    if between:
        assert seen["last_seen"][0] == 10


@pytest.mark.parametrize(("date", "known"), [
    ("Fri Nov 27 10:33:00 CET 2026", False), ("2026-11-27 09:33:00", False), ("2026-11-27T10:33:00+01:00", True),
    ("Fri Nov 27 09:33:00 AM UTC 2026", True), ("1795771980.5", True)])
def test_a_time_zone_is_not_guessed(read, date, known):
    lists = read(f"{date}\nESTAB 0 0 10.0.0.1:40000 10.0.0.2:80")
    assert (lists.times.tz is not None) == known
    assert not known or lists.times[0].floor("s") == pd.Timestamp("2026-11-27 09:33", tz="UTC")


def test_a_stay_ends_where_a_list_lacks_it(read):
    line = "TIME-WAIT 0 0 10.0.0.1:40000 10.0.0.2:80\n"
    other = "ESTAB 0 0 10.0.0.1:5 10.0.0.2:80\n"
    lists = read("".join(f"{1795771980 + 10 * n}\n{text}" for n, text in enumerate([line, line, other, line])))
    stays = lists.sockets[lists.sockets["state"] == "TIME_WAIT"]
    assert list(zip(stays["first_seen"], stays["last_seen"])) == [(0, 10), (30, 30)]


def test_two_lists_with_nothing_between_are_told(read):
    line = "ESTAB 0 0 10.0.0.1:40000 10.0.0.2:80\n"
    lists = read(line * 2)
    assert len(lists.listed) == 1
    assert lists.skipped == {"a connection's second line in one list: put a date between two lists": 1}


def test_which_end_needs_evidence(read):
    """Without a listening socket, or between two ports that clients get, nobody can tell."""
    lines = ["ESTAB 0 0 10.0.0.1:40000 10.0.0.2:80", "ESTAB 0 0 10.0.0.1:40000 10.0.0.2:50000",
             "ESTAB 0 0 10.0.0.1:8080 10.0.0.2:50000"]
    assert read("\n".join(lines)).listed["host"].isna().all()
    listed = read("\n".join([*lines, "LISTEN 0 5 *:8080 *:*"])).listed
    assert listed["host"].fillna("").tolist() == ["client", "", "server", "server"]
    assert read("\n".join([*lines, "LISTEN 0 5 *:1 *:*"]), ephemeral=(1024, 45000)).listed["host"].fillna("").tolist() \
        == ["client", "client", "client", "server"]


@pytest.mark.parametrize(("text", "why"), [
    ("", "no line lists a TCP socket"), ("hello\n", "line 1, “hello”: not a line of ss"),
    (b"\xd4\xc3\xb2\xa1" + bytes(40), "not a text"),
    ("ESTAB 0 0 web:http db:5432\n", "names instead of numbers; list with -n"),
    ("  TCP    10.0.0.1:5     10.0.0.2:80    HERGESTELLT   7\n", "a state that RFC 9293 does not name"),
    ("tcp 0 0 10.0.0.1:5 10.0.0.2:80\n", "no state")])
def test_one_clear_error(read, text, why):
    with pytest.raises(SocketError, match=r"sockets\.txt: .*give the output of") as caught:
        read(text)
    assert why in str(caught.value) and "\n" not in str(caught.value)


def test_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "none", "a\0b"):
        with pytest.raises(SocketError, match="give the output of"):
            read_sockets(path)


def test_a_line_that_cannot_be_read_is_counted(read):
    lists = read("ESTAB 0 0 10.0.0.1:5 10.0.0.2:80\nESTAB 0 0 10.0.0.1:6 10.0.0.2:80\n$ uptime\n")
    assert lists.skipped == {"not a line of ss, netstat or /proc/net/tcp": 1} and len(lists.listed) == 2
