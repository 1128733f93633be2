"""The servers of the clinic, with Python's `http.server` and `socket`: each prints a line when it is ready."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from helpers.testbed.experiments.clinic_account import AUTHORITY, PORT


def polite(patience: str, thinks: str = "0", size: str = "1000") -> None:
    """http.server with HTTP/1.1: closes after `patience` seconds of idleness, thinks so long, answers so many bytes."""
    class Answer(BaseHTTPRequestHandler):
        protocol_version, timeout = "HTTP/1.1", float(patience)

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            time.sleep(float(thinks))
            self.send_response(200)
            self.send_header("Content-Length", size)
            self.end_headers()
            try:
                self.wfile.write(bytes(int(size)))
            except OSError:                     # the client has gone
                self.close_connection = True

        do_POST = do_GET

        def log_message(self, *_) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size, daemon_threads = 128, True

        def handle_error(self, *_) -> None:
            """A client that resets is what is recorded here."""

    server = Server(("", PORT), Answer)
    print("ready", flush=True)
    server.serve_forever()


def deaf(backlog: str) -> None:
    """Listens with this backlog and never accepts."""
    with socket.create_server(("", PORT), backlog=int(backlog)):
        print("ready", flush=True)
        threading.Event().wait()


def elsewhere() -> None:
    """Does not listen at all."""
    print("ready", flush=True)
    threading.Event().wait()


def until_close(ends: str) -> None:
    """Over TLS, answers whose end is the end of the connection: 2,000 bytes, and then `close_notify`.

    Where it `ends` "in-the-middle", it sends half of them, and closes the socket without a word, as a process does that
    dies.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(AUTHORITY.with_name("chain.pem"), AUTHORITY.with_name("key.pem"))
    with socket.create_server(("", 443), backlog=128) as listener:
        print("ready", flush=True)
        while True:
            with context.wrap_socket(listener.accept()[0], server_side=True) as connection, suppress(OSError):
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + bytes(1000))
                if ends != "in-the-middle":
                    connection.sendall(bytes(1000))
                    connection.unwrap()         # the client may close without an answer to it


SERVERS: dict[str, Callable] = {"polite": polite, "deaf": deaf, "elsewhere": elsewhere,
                                "until-close": until_close}
