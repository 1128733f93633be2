"""A line of `ss`, `netstat` or `/proc/net/tcp` → the socket that it lists."""

import ipaddress
import re
from typing import NamedTuple

RFC_9293 = ("LISTEN", "SYN_SENT", "SYN_RECEIVED", "ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2", "CLOSE_WAIT", "CLOSING",
            "LAST_ACK", "TIME_WAIT", "CLOSED")
OTHER_NAMES = {"ESTAB": "ESTABLISHED", "SYN_RECV": "SYN_RECEIVED", "SYN_RCVD": "SYN_RECEIVED", "LISTENING": "LISTEN",
               "FIN_WAIT1": "FIN_WAIT_1", "FIN_WAIT2": "FIN_WAIT_2", "UNCONN": "CLOSED", "CLOSE": "CLOSED"}
# include/net/tcp_states.h of Linux, in its order from 1; 12 is a half-open connection
LINUX_NUMBERS = ("ESTABLISHED", "SYN_SENT", "SYN_RECEIVED", "FIN_WAIT_1", "FIN_WAIT_2", "TIME_WAIT", "CLOSED",
                 "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "SYN_RECEIVED")
LINUX_TIMERS = ("off", "on", "keepalive", "timewait", "persist")    # net/ipv4/tcp_ipv4.c, get_tcp4_sock()
JIFFIES = 100                                                       # USER_HZ: so many in a second, for programs
NOT_TCP = re.compile(r"(udp|raw|icm|icmp|sctp|divert)\w*$|UDP$|unix$|(p_|u_|v_|ti_)\w+$|nl$|mptcp$|dccp$|xdp$")
SS_TIMER = re.compile(r"timer:\((\w+),(?:(\d+)min)?(?:(\d+)(?:sec|\.))?(?:(\d+)ms)?,(\d+)\)")
SS_PROGRAM = re.compile(r'users:\(\("((?:[^"\\]|\\.)*)",pid=(\d+)')
NETSTAT_TIMER = re.compile(r"(\w+) \((\d+(?:\.\d+)?)/(\d+)/\d+\)")
NETSTAT_PROGRAM = re.compile(r"\s(\d+)/(\S.*?)(?=\s{2,}\S|\s+\w+ \(|\s*$)")
BSD_ADDRESS = re.compile(r"(\S+)\.(\d+|\*)$")
COLON_ADDRESS = re.compile(r"(\S*):(\d+|\*)$")
PROGRAM_OF_WINDOWS = re.compile(r" ?\[[^\]]+\]$")        # `netstat -b`
HEADINGS = ("State", "Netid", "Proto", "sl", "Recv-Q", "Active", "(Not", "(No")
PROC_LINE = re.compile(r"\s*\d+: [0-9A-F]{8,32}:[0-9A-F]{4} [0-9A-F]{8,32}:[0-9A-F]{4} [0-9A-F]{2} ")


class Socket(NamedTuple):
    """One line of a list. Numbers that the list doesn't give are None; `pid` and `program` too."""

    local: str
    peer: str
    state: str
    receive_queue: int | None = None
    send_queue: int | None = None
    timer: str | None = None            # as `ss -o` names it: on, keepalive, timewait, persist, off
    expires: float | None = None        # seconds until it does
    repeats: int | None = None          # how often it has expired in vain
    program: str | None = None
    pid: int | None = None


class Unreadable(Exception):
    """The line is not understood; the message says why in a few words."""


def socket(line: str) -> tuple[str, Socket | None]:
    """(which program's list, the socket that `line` lists); None where it lists none over TCP.

    The list is `ss`, `netstat of Linux`, `netstat of BSD or macOS`, `netstat of Windows`, `/proc/net/tcp` or "", a
    line that says nothing of sockets (a heading, options of a socket). Raises `Unreadable`.
    """
    words = line.split()
    if PROC_LINE.match(line):
        return "/proc/net/tcp", _of_proc(words)
    if words[0] == "tcp" and len(words) > 1 and _state(words[1]):
        words = words[1:]
    if _state(words[0]) and len(words) >= 5 and words[1].isdigit():
        return "ss", _of_ss(line, words)
    if NOT_TCP.match(words[0]) and len(words) > 1:
        return "", None
    if re.match(r"tcp(4|6|46)?$", words[0]) and len(words) >= 5 and words[1].isdigit():
        return _of_netstat(line, words)
    if words[0] == "TCP" and len(words) >= 3:
        return "netstat of Windows", _of_windows(words)
    return "", _nothing(line, words)


def _nothing(line, words):
    """None for a heading, or a line that says more of the socket above. Raises `Unreadable` for anything else."""
    heading = words[0] in HEADINGS or words[:2] == ["tcp", "State"]
    if not heading and not line[0].isspace() and not PROGRAM_OF_WINDOWS.match(line):
        raise Unreadable("not a line of ss, netstat or /proc/net/tcp")


def _state(word):
    """RFC 9293's name of a state, None where it is none."""
    name = OTHER_NAMES.get(word.replace("-", "_"), word.replace("-", "_"))
    return name if name in RFC_9293 else None


def _of_ss(line, words):
    timer, program = SS_TIMER.search(line), SS_PROGRAM.search(line)
    own = Socket(_colon(words[3]), _colon(words[4]), _state(words[0]), int(words[1]), int(words[2]))
    if timer:
        name, *times, repeats = timer.groups(default="0")
        minutes, seconds, milliseconds = map(int, times)
        own = own._replace(timer=name, expires=60 * minutes + seconds + milliseconds / 1000, repeats=int(repeats))
    return own._replace(program=program[1], pid=int(program[2])) if program else own


def _of_netstat(line, words):
    """The list, and the socket: BSD writes `address.port`, Linux `address:port`."""
    if len(words) < 6 or not _state(words[5]):
        raise Unreadable("a state that RFC 9293 does not name" if len(words) > 5 else "no state")
    bsd = all(BSD_ADDRESS.match(word) for word in words[3:5])
    local, peer = map(_bsd if bsd else _colon, words[3:5])
    own = Socket(local, peer, _state(words[5]), int(words[1]), int(words[2]))
    if bsd:
        return "netstat of BSD or macOS", own
    rest = line.split(words[5], 1)[1]
    timer, program = NETSTAT_TIMER.search(rest), NETSTAT_PROGRAM.search(rest)
    if timer:
        own = own._replace(timer=timer[1], expires=float(timer[2]), repeats=int(timer[3]))
    return "netstat of Linux", own._replace(pid=int(program[1]), program=program[2]) if program else own


def _of_windows(words):
    """`netstat -ano`; its other names for states, in other languages, are not guessed."""
    state = _state(words[3]) if len(words) > 3 else None
    if state is None:
        raise Unreadable("a state that RFC 9293 does not name" if len(words) > 3 else "no state")
    pid = int(words[4]) if len(words) > 4 and words[4].isdigit() else None
    return Socket(_colon(words[1]), _colon(words[2]), state, pid=pid)


def _of_proc(words):
    state, queues = int(words[3], 16), [int(size, 16) for size in words[4].split(":")]
    if not 1 <= state <= len(LINUX_NUMBERS):
        raise Unreadable("a number of a state that Linux does not have")
    kind, jiffies = (int(number, 16) for number in words[5].split(":"))
    timer = LINUX_TIMERS[kind] if kind < len(LINUX_TIMERS) else None
    return Socket(_hexadecimal(words[1]), _hexadecimal(words[2]), LINUX_NUMBERS[state - 1], queues[1], queues[0],
                  timer, jiffies / JIFFIES, int(words[6], 16))


def _hexadecimal(text):
    """Each word of four bytes stands in the order of the machine, which is taken to be little-endian (x86, ARM)."""
    address, port = text.split(":")
    if len(address) not in (8, 32):
        raise Unreadable("an address that is none")
    packed = b"".join(bytes.fromhex(address[at:at + 8])[::-1] for at in range(0, len(address), 8))
    return _endpoint(ipaddress.ip_address(packed), int(port, 16) or "*")


def _bsd(text):
    address, port = BSD_ADDRESS.match(text).groups()
    return _named(address, port)


def _colon(text):
    found = COLON_ADDRESS.match(text)
    if not found:
        raise Unreadable("names instead of numbers; list with -n")
    return _named(found[1].strip("[]"), found[2])


def _named(address, port):
    """`address:port` as the course writes it: no zone, IPv6 in brackets, IPv4 within IPv6 as IPv4."""
    address = re.sub(r"%[^\]]*", "", address).strip("[]")
    if address in ("*", ""):
        return f"*:{port}"
    try:
        return _endpoint(ipaddress.ip_address(address), port)
    except ValueError:
        raise Unreadable("names instead of numbers, or an address that was cut short; list with -n") from None


def _endpoint(address, port):
    inside = getattr(address, "ipv4_mapped", None)
    address = inside or address
    port = "*" if str(port) == "0" else port
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
