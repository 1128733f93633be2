"""The clients of the clinic over TLS, with Python's `ssl` and, for HTTP/2, the packages `hyperframe` and `hpack`.

Each leaves its secrets where `SSLKEYLOGFILE` says, as `ssl.create_default_context` does by itself.
"""

import http.client
import socket
import ssl
import time
from collections.abc import Callable

from helpers.testbed.experiments.clinic_account import AUTHORITY, said
from helpers.testbed.servers.certificates import NAME

SECURE_PORT, HEAD = 443, 9
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def secured(protocol: str, patience: float = 10) -> ssl.SSLSocket:
    """A connection to the server over TLS, for this protocol."""
    context = ssl.create_default_context(cafile=AUTHORITY)
    context.set_alpn_protocols([protocol])
    return context.wrap_socket(socket.create_connection((NAME, SECURE_PORT), patience), server_hostname=NAME)


class Http2:
    """One connection of HTTP/2: `ask` opens a stream, `read` takes in what has come.

    `asked`: its streams; `answered`: those whose answer was whole; `last`: the last stream that the server will see to,
    from its GOAWAY; `over`: whether it has closed.
    """

    def __init__(self):
        from hpack import Encoder
        from hyperframe.frame import SettingsFrame

        self._socket, self._encoder, self._unread = secured("h2"), Encoder(), b""
        self.asked, self.answered, self.last, self.over = [], set(), None, False
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(PREFACE)
        self._send(SettingsFrame())

    def _send(self, *frames):
        self._socket.sendall(b"".join(frame.serialize() for frame in frames))

    def ask(self, method: str) -> None:
        """Send a request without a body, on a stream of its own."""
        from hyperframe.frame import HeadersFrame

        self.asked.append(2 * len(self.asked) + 1)
        fields = [(":method", method), (":scheme", "https"), (":authority", NAME), (":path", "/")]
        self._send(HeadersFrame(self.asked[-1], self._encoder.encode(fields), flags=["END_HEADERS", "END_STREAM"]))

    def ping(self) -> None:
        """Ask for a sign of life (RFC 9113 section 6.7)."""
        from hyperframe.frame import PingFrame

        self._send(PingFrame(opaque_data=b"are you?"))

    def read(self, patience: float) -> bool:
        """Take in what comes within so many seconds; False where nothing came."""
        self._socket.settimeout(patience)
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return False
        self.over, self._unread = not data, self._unread + data
        while len(self._unread) >= HEAD:
            size = HEAD + int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < size:
                break
            self._take(self._unread[:size])
            self._unread = self._unread[size:]
        return True

    def _take(self, data):
        from hyperframe.frame import Frame, GoAwayFrame, SettingsFrame

        frame, _ = Frame.parse_frame_header(memoryview(data[:HEAD]))
        frame.parse_body(memoryview(data[HEAD:]))
        if "END_STREAM" in frame.flags:
            self.answered.add(frame.stream_id)
        elif isinstance(frame, GoAwayFrame):
            self.last = frame.last_stream_id
        elif isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            self._send(SettingsFrame(flags=["ACK"]))

    def close(self) -> None:
        self._socket.close()


def post_in_a_row(number: str, spacing: str, repeats: str = "") -> None:
    """So many POSTs over one connection of HTTP/2, one after so many seconds each, without waiting for the answers.

    Where it `repeats`, what the server's GOAWAY says that it will not see to is asked again on a new connection.
    """
    left = int(number)
    while left:
        connection = Http2()
        while len(connection.asked) < left and connection.last is None:
            connection.ask("POST")
            connection.read(float(spacing))
        while not connection.over and connection.read(2):
            pass
        connection.close()
        said(200, len(connection.answered))
        left -= len(connection.answered)
        if not repeats or connection.last is None:
            said("not processed: behind the last stream of GOAWAY", len(connection.asked) - len(connection.answered))
            break


def ask_together(number: str, pause: str, patience: str, pings: str = "") -> None:
    """One GET over HTTP/2; after a pause twice so many at once on the same connection; at last one on a new connection.

    Each is given up after so many seconds. Where it `pings`, a PING goes out in each second of the pause.
    """
    connection = Http2()
    ask_all(connection, 1, float(patience))
    for _ in range(int(pause)):
        time.sleep(1)
        if pings:
            connection.ping()
            connection.read(1)
    for _ in range(2):
        ask_all(connection, int(number), float(patience))
    ask_all(again := Http2(), 1, float(patience))
    for each in (connection, again):
        each.close()


def ask_all(connection: Http2, number: int, patience: float) -> None:
    """So many GETs at once; what is not answered in time is given up."""
    begun = time.monotonic()
    for _ in range(number):
        connection.ask("GET")
    ours = set(connection.asked[-number:])
    while ours - connection.answered and (left := begun + patience - time.monotonic()) > 0 and connection.read(left):
        pass
    said(200, len(ours & connection.answered))
    said("TimeoutError: timed out", len(ours - connection.answered))


def read_to_end(times: str) -> None:
    """So many GETs over HTTPS, each on a connection of its own and read to its end, as `http.client` tells it."""
    for _ in range(int(times)):
        context = ssl.create_default_context(cafile=AUTHORITY)
        connection = http.client.HTTPSConnection(NAME, SECURE_PORT, timeout=10, context=context)
        connection.request("GET", "/")
        answer = connection.getresponse()
        said(answer.status)
        try:
            said(f"read {len(answer.read())} bytes, no error")
        except (http.client.HTTPException, OSError) as why:
            said(f"{type(why).__name__}: {why}")
        connection.close()
        time.sleep(0.1)


ENCRYPTED: dict[str, Callable] = {"post-in-a-row": post_in_a_row, "ask-together": ask_together,
                                  "read-to-end": read_to_end}
